"""Typed ablations: the arms of each kind differ from their control only as declared."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.analysis.verdict import decide_sweep
from assay.cli.plan_command import plan_mapping
from assay.config.ablations import AblationSetting, Expansion, expand, parse_ablation
from assay.config.compose import compose
from assay.config.mixes import MixDeclaration, resolve
from assay.config.reason import Code
from assay.config.recipe import Stage
from assay.config.sources import Source
from assay.config.study import Study
from assay.core.errors import AssayError
from assay.corpus.loader import SequenceReader
from assay.launch.submit import submit
from assay.plan.prepare import prepare_corpora
from assay.plan.workspace import Workspace
from assay.report.markdown import render as render_markdown
from assay.report.page import render as render_page
from assay.report.publish import make_report
from tests.config.test_recipe import OPTIMIZER
from tests.helpers.finished import finish
from tests.helpers.tiny import tiny_study

MakeStudy = Callable[..., Study]
SOURCES = {
    name: Source(name=name, files=("x",), domain=domain, language="en", license="MIT")
    for name, domain in [
        ("web", "web"), ("web_high", "web"), ("web_mid", "web"), ("github", "code"), ("cc_code", "code"), ("books", "books"),
    ]
}  # fmt: skip
WEIGHTS = {"web": 0.5, "github": 0.3, "books": 0.2}
STAGES = (Stage(name="pretrain", fraction=1.0),)


def setting(**changes: Any) -> AblationSetting:
    fields: dict[str, Any] = {
        "baseline": "base",
        "mixes": {
            "base": MixDeclaration(name="base", weights=changes.pop("weights", WEIGHTS)),
            "other": MixDeclaration(name="other", weights={"web": 1}),
        },
        "sources": SOURCES,
        "stages": STAGES,
        "optimizer": OPTIMIZER,
    }
    return AblationSetting(**{**fields, **changes})


def expand_ablation(raw: dict[str, Any], **changes: Any) -> Expansion:
    return expand(parse_ablation(raw), setting(**changes))


def weights_of(expansion: Expansion, name: str, **changes: Any) -> dict[str, float]:
    declared = {**setting(**changes).mixes, **{n: MixDeclaration.parse(n, raw) for n, raw in expansion.mixes.items()}}
    return resolve(name, declared, SOURCES).weights


def weights(raw: dict[str, Any]) -> dict[str, dict[str, float]]:
    expansion = expand_ablation(raw)
    return {name: weights_of(expansion, name) for name in expansion.candidates}


def test_substitute_moves_the_weight_of_a_source_to_another() -> None:
    assert weights({"kind": "substitute", "source": "github", "by": ["cc_code", "web"]}) == {
        "base-github+cc_code": {"web": 0.5, "cc_code": 0.3, "books": 0.2},
        "base-github+web": pytest.approx({"web": 0.8, "books": 0.2}),
    }


def test_leave_one_out_drops_each_source_and_keeps_the_proportions_of_the_rest() -> None:
    arms = weights({"kind": "leave_one_out"})
    assert list(arms) == ["base-books", "base-github", "base-web"]
    assert arms["base-books"] == pytest.approx({"web": 0.625, "github": 0.375})
    assert list(weights({"kind": "leave_one_out", "sources": ["web"]})) == ["base-web"]


def test_a_tier_takes_the_weight_of_its_source() -> None:
    assert weights({"kind": "tier", "source": "web", "tiers": ["web_high", "web_mid"]}) == {
        "base.web@web_high": {"web_high": 0.5, "github": 0.3, "books": 0.2},
        "base.web@web_mid": {"web_mid": 0.5, "github": 0.3, "books": 0.2},
    }


def test_scale_multiplies_a_weight_exactly_and_the_others_divide_the_rest() -> None:
    arms = weights({"kind": "scale", "source": "github", "factors": [2, 0.5, 0]})
    assert arms["base.github@x2"] == pytest.approx({"github": 0.6, "web": 0.4 * 5 / 7, "books": 0.4 * 2 / 7})
    assert arms["base.github@x0.5"]["github"] == pytest.approx(0.15)
    assert "github" not in arms["base.github@x0"]


@given(
    shares=st.lists(st.floats(0.01, 1), min_size=3, max_size=3),
    ablation=st.one_of(
        st.builds(
            lambda f: {"kind": "scale", "source": "web", "factors": [f]}, st.floats(0, 3).filter(lambda f: f != 1)
        ),
        st.just({"kind": "leave_one_out"}),
        st.just({"kind": "substitute", "source": "books", "by": ["cc_code", "web"]}),
        st.just({"kind": "tier", "source": "web", "tiers": ["web_mid"]}),
        st.just({"kind": "epochs", "source": "web", "epochs": [1, 2, 4], "weight_decay": [0.1, 0.3]}),
        st.just({"kind": "matched_repetition", "target_tokens": 10**9}),
    ),
)
def test_weights_of_every_arm_sum_to_one_for_any_baseline(shares: list[float], ablation: dict[str, Any]) -> None:
    base = dict(zip(WEIGHTS, shares, strict=True))
    if ablation["kind"] == "scale" and ablation["factors"][0] * base["web"] / sum(shares) > 1:
        with pytest.raises(AssayError, match=r"multiply: factor .* of 'web' is invalid"):
            expand_ablation(ablation, weights=base)
        return
    expansion = expand_ablation(ablation, weights=base)
    for name in (expansion.baseline, *expansion.candidates):
        mixed = weights_of(expansion, name, weights=base)
        assert math.fsum(mixed.values()) == pytest.approx(1, abs=1e-12)
        assert min(mixed.values()) >= 0


def test_the_fewest_epochs_are_the_control_for_each_weight_decay() -> None:
    expansion = expand_ablation({"kind": "epochs", "source": "web", "epochs": [4, 1], "weight_decay": [0.1, 0.3]})
    assert expansion.baseline == "base.web@1epoch,wd0.1"
    assert {arm.name: (arm.control, arm.weight_decay, arm.epochs) for arm in expansion.arms} == {
        "base.web@1epoch,wd0.1": (None, 0.1, {"web": 1}),
        "base.web@4epochs,wd0.1": ("base.web@1epoch,wd0.1", 0.1, {"web": 4}),
        "base.web@1epoch,wd0.3": ("base.web@1epoch,wd0.1", 0.3, {"web": 1}),
        "base.web@4epochs,wd0.3": ("base.web@1epoch,wd0.3", 0.3, {"web": 4}),
    }
    assert {weights_of(expansion, name)["web"] for name in (expansion.baseline, *expansion.candidates)} == {0.5}


def test_epochs_are_crossed_with_weight_decay_and_dropout() -> None:
    expansion = expand_ablation(
        {"kind": "epochs", "source": "web", "epochs": [1, 4], "weight_decay": [0.1, 0.3], "dropout": [0.0, 0.1]}
    )
    arms = {arm.name: arm for arm in expansion.arms}
    assert len(arms) == 8
    assert expansion.baseline == "base.web@1epoch,wd0.1,do0"
    regular = arms["base.web@4epochs,wd0.3,do0.1"]
    assert (regular.weight_decay, regular.dropout, regular.control) == (0.3, 0.1, "base.web@1epoch,wd0.3,do0.1")
    assert "weight decay 0.3, dropout 0.1" in regular.about
    top = arms["base.web@1epoch,wd0.3,do0.1"]
    assert top.control == expansion.baseline
    assert top.about.startswith("the control for this weight decay and dropout: ")


def test_epochs_without_regularization_do_not_change_the_optimizer() -> None:
    expansion = expand_ablation({"kind": "epochs", "source": "web", "epochs": [1, 2, 8]})
    assert [arm.name for arm in expansion.arms] == ["base.web@1epoch", "base.web@2epochs", "base.web@8epochs"]
    assert {arm.weight_decay for arm in expansion.arms} == {None}


CONSTANT = {"schedule": "constant", "decay": 0.0}


def test_anneal_adds_a_stage_and_a_control_that_anneals_on_the_baseline() -> None:
    from dataclasses import replace

    raw = {"kind": "anneal", "sources": ["cc_code"], "weight": 0.3, "fraction": 0.2}
    expansion = expand_ablation(raw, optimizer=replace(OPTIMIZER, **CONSTANT))
    assert (expansion.baseline, expansion.candidates) == ("base@anneal", ("base@anneal+cc_code",))
    assert expansion.arms[1].control == "base@anneal"
    assert expansion.stages == (
        Stage(name="pretrain", fraction=0.8, mix="base"),
        Stage(name="anneal", fraction=0.2, mix=None, anneal=True),
    )
    assert weights_of(expansion, "base@anneal") == WEIGHTS
    assert weights_of(expansion, "base@anneal+cc_code") == pytest.approx(
        {"cc_code": 0.3, "web": 0.35, "github": 0.21, "books": 0.14}
    )
    own = (Stage(name="main", fraction=0.9, mix=None), Stage(name="end", fraction=0.1, mix="other", anneal=True))
    again = expand_ablation({**raw, "fraction": None}, optimizer=replace(OPTIMIZER, **CONSTANT), stages=own)
    assert [(s.name, s.mix, s.anneal) for s in again.stages] == [("main", "base", False), ("end", None, True)]


def test_matched_repetition_shrinks_candidates_and_baseline_equally() -> None:
    expansion = expand_ablation({"kind": "matched_repetition", "target_tokens": 1.5e9}, candidates=("other",))
    assert (expansion.baseline, expansion.candidates) == ("base@1.5Btokens", ("other@1.5Btokens",))
    assert {arm.target_tokens for arm in expansion.arms} == {1_500_000_000}
    alone = expand_ablation({"kind": "matched_repetition", "target_tokens": 2_000_000})
    assert (alone.baseline, alone.candidates) == ("base", ("base@2Mtokens",))
    assert [arm.target_tokens for arm in alone.arms] == [None, 2_000_000]


@pytest.mark.parametrize(
    "raw",
    [
        {"kind": "substitute", "source": "github", "by": ["cc_code"]},
        {"kind": "leave_one_out"},
        {"kind": "tier", "source": "web", "tiers": ["web_high"]},
        {"kind": "scale", "source": "github", "factors": [2]},
        {"kind": "epochs", "source": "web", "epochs": [1, 2], "weight_decay": [0.1, 0.2]},
        {"kind": "matched_repetition", "target_tokens": 10**9},
    ],
)
def test_every_arm_describes_itself_and_its_control_in_one_line(raw: dict[str, Any]) -> None:
    expansion = expand_ablation(raw)
    for arm in expansion.arms:
        assert arm.about
        assert "\n" not in arm.about
        if arm.name == expansion.baseline:
            assert arm.about.startswith("the control")
        else:
            assert (arm.control or expansion.baseline) in arm.about
    assert all(mix["description"] for mix in expansion.mixes.values())


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ({"source": "web"}, "has no kind"),
        ({"kind": "substitue"}, "Did you mean 'substitute'"),
        ({"kind": "substitute", "source": "web"}, "'by' is missing"),
        ({"kind": "substitute", "source": "wbe", "by": ["books"]}, "no source is called 'wbe'. Did you mean 'web'"),
        ({"kind": "substitute", "source": "web", "by": ["bokos"]}, "no source is called 'bokos'"),
        (
            {"kind": "substitute", "source": "cc_code", "by": ["web"]},
            "'cc_code' is not in the baseline base, which has books, github, web",
        ),
        ({"kind": "substitute", "source": "web", "by": ["web"]}, "`by` 'web' is invalid"),
        ({"kind": "substitute", "source": "web", "by": []}, "`by` [] is invalid; expected at least one value"),
        ({"kind": "substitute", "source": "web", "by": ["books", "books"]}, "without duplicates"),
        ({"kind": "leave_one_out", "sources": ["cc_code"]}, "'cc_code' is not in the baseline base"),
        ({"kind": "tier", "source": "web", "tiers": ["cc_code"]}, "has domain 'code'; expected 'web'"),
        ({"kind": "tier", "source": "web", "tiers": ["web"]}, "tier 'web' is invalid"),
        ({"kind": "scale", "source": "web", "factors": [3]}, "its weight of 0.5 would become 1.5"),
        ({"kind": "scale", "source": "web", "factors": [-1]}, "factor -1 is invalid"),
        ({"kind": "scale", "source": "web", "factors": [1]}, "factor 1 is invalid"),
        ({"kind": "epochs", "source": "web", "epochs": [2]}, "expected at least two values"),
        ({"kind": "epochs", "source": "web", "epochs": [1, 0]}, "`epochs` 0.0 of web is invalid"),
        ({"kind": "epochs", "source": "web", "epochs": [1, 2], "weight_decay": [-1]}, "`weight_decay` -1.0 is invalid"),
        ({"kind": "epochs", "source": "web", "epochs": [1, 2], "dropout": [0.0, 1.0]}, "`dropout` 1.0 is invalid"),
        ({"kind": "epochs", "source": "web", "epochs": [1, 2], "dropout": [0.1, 0.1]}, "without duplicates"),
        ({"kind": "anneal", "sources": ["web"], "weight": 0.5}, "no stage anneals"),
        ({"kind": "anneal", "sources": ["web"], "weight": 1.5, "fraction": 0.1}, "`weight` 1.5 is invalid"),
        ({"kind": "anneal", "sources": ["web"], "weight": 0.5, "fraction": 1}, "`fraction` 1 is invalid"),
        ({"kind": "anneal", "sources": ["web"], "weight": 0.5, "fraction": 0.1}, "its learning rate is"),
        ({"kind": "matched_repetition", "target_tokens": 0}, "`target_tokens` 0 is invalid"),
    ],
)
def test_an_invalid_ablation_is_refused(raw: dict[str, Any], message: str) -> None:
    with pytest.raises(AssayError) as error:
        expand_ablation(raw)
    assert message in str(error.value)


def test_candidates_are_listed_or_generated_but_not_both() -> None:
    with pytest.raises(AssayError, match="the ablation defines the candidates"):
        expand_ablation({"kind": "leave_one_out"}, candidates=("other",))
    with pytest.raises(AssayError, match="baseline: no mix is called 'bsae'. Did you mean 'base'"):
        expand_ablation({"kind": "leave_one_out"}, baseline="bsae")


# --- in a study


def workspace(make: MakeStudy, ablation: dict[str, Any], **changes: Any) -> Workspace:
    sweep = {"name": "tiny", "baseline": "base", "seeds": [0, 1], "ablation": ablation, **changes.pop("sweep", {})}
    return Workspace(make(sweep=sweep, **changes))


EPOCHS = {"kind": "epochs", "source": "web", "epochs": [1, 2, 4], "weight_decay": [0.1, 0.3]}


def test_jobs_read_the_expanded_arms(tiny_study: MakeStudy) -> None:
    """The study that a submission records yields the same runs."""
    space = workspace(tiny_study, EPOCHS)
    assert "ablation" not in space.study.raw["sweep"]
    again = Study.parse(space.study.raw)
    assert again.sweep == space.study.sweep
    assert again.mixes == space.study.mixes
    prepare_corpora(space.sources, space.mixes.sweep_sources)
    names = space.study.require_sweep().mixes
    assert [Workspace(again).runs.spec(name, 1) for name in names] == [space.runs.spec(name, 1) for name in names]


def test_arms_of_epochs_take_the_same_tokens_from_smaller_pools(tiny_study: MakeStudy) -> None:
    space = workspace(tiny_study, EPOCHS)
    [waiting] = space.planner.plan().runs[0].reasons
    assert (waiting.code, waiting.figures) == (Code.WAITING_FOR_TOKENS, {"sources": ("web",), "pools": True})
    prepare_corpora(space.sources, space.mixes.sweep_sources)
    specs = {arm.name: space.runs.spec(arm.name, 0) for arm in space.study.require_sweep().arms}
    taken = 0.4 * space.runs.budget
    assert {name: spec.pools for name, spec in specs.items() if name.endswith("wd0.3")} == {
        "base.web@1epoch,wd0.3": {"web": math.ceil(taken)},
        "base.web@2epochs,wd0.3": {"web": math.ceil(taken / 2)},
        "base.web@4epochs,wd0.3": {"web": math.ceil(taken / 4)},
    }
    assert {spec.optimizer.weight_decay for name, spec in specs.items() if name.endswith("wd0.3")} == {0.3}
    assert len({spec.fingerprint for spec in specs.values()}) == 6
    assert len({tuple(spec.stages[0].weights.items()) for spec in specs.values()}) == 1
    for name, spec in specs.items():
        delivered = SequenceReader.open(spec, space.store.corpora).delivered(spec.steps * spec.batch_sequences)["web"]
        asked = space.study.require_sweep().arm(name).epochs["web"]
        assert delivered["epochs"] == pytest.approx(asked, rel=32 / (taken / asked))


def test_an_arm_without_overrides_has_the_fingerprint_of_its_mix(tiny_study: MakeStudy) -> None:
    """An ablation reuses the runs of a candidate that was written by hand."""
    space = workspace(tiny_study, {"kind": "leave_one_out", "sources": ["books"]})
    assert space.runs.spec("base-books", 0) == Workspace(space.study).runs.spec("no_books", 0)
    assert space.runs.spec("base", 0).fingerprint == Workspace(tiny_study()).runs.spec("base", 0).fingerprint


def test_a_pool_larger_than_its_source_is_refused_before_training(tiny_study: MakeStudy) -> None:
    space = workspace(tiny_study, {"kind": "epochs", "source": "web", "epochs": [1, 64]}, steps=300)
    prepare_corpora(space.sources, space.mixes.sweep_sources)
    plan = space.planner.plan()
    assert {run.mix: run.status for run in plan.runs} == {"base.web@1epoch": "refused", "base.web@64epochs": "todo"}
    assert "epochs of the whole source" in plan.runs[0].reasons[0].figures["error"]


def test_a_pool_smaller_than_a_sequence_is_refused(tiny_study: MakeStudy) -> None:
    space = workspace(tiny_study, {"kind": "epochs", "source": "web", "epochs": [1, 500]})
    prepare_corpora(space.sources, space.mixes.sweep_sources)
    assert "expected at least 32, one sequence" in space.planner.plan().of("refused")[0].reasons[0].figures["error"]


def test_matched_pools_have_the_repetition_of_the_target(tiny_study: MakeStudy) -> None:
    space = workspace(
        tiny_study, {"kind": "matched_repetition", "target_tokens": 60_000}, sweep={"candidates": ["more_web"]}
    )
    prepare_corpora(space.sources, space.mixes.sweep_sources)
    spec = space.runs.spec("more_web@60ktokens", 0)
    given = SequenceReader.open(spec, space.store.corpora).delivered(spec.steps * spec.batch_sequences)
    for source, weight in spec.stages[0].weights.items():
        target = weight * 60_000 / space.sources.tokens(space.mixes.sweep_sources)[source]
        assert given[source]["epochs"] == pytest.approx(target, rel=32 / (weight * spec.tokens) + 1e-3)


def test_a_cap_on_epochs_applies_to_the_target_with_matched_repetition(tmp_path: Any) -> None:
    """The proxy represents a target run in which the cap moved weight to other sources."""
    raw_mix = {"weights": {"code": 0.4, "web": 0.4, "books": 0.2}, "max_epochs": 1.1}
    ablation = {"kind": "matched_repetition", "target_tokens": 80_000}
    sweep = {"name": "tiny", "baseline": "base", "seeds": [0], "ablation": ablation}
    space = Workspace(tiny_study(tmp_path, steps=60, overrides={"mix.base": raw_mix, "sweep": sweep}))
    prepare_corpora(space.sources, space.mixes.sweep_sources)
    assert space.runs.spec("base", 0).stages[0].weights == pytest.approx(raw_mix["weights"])
    spec = space.runs.spec("base@80ktokens", 0)
    weights = spec.stages[0].weights
    assert weights["web"] < 0.4
    assert weights["web"] * 80_000 / space.sources.tokens(space.mixes.sweep_sources)["web"] == pytest.approx(
        1.1, abs=1e-3
    )
    given = SequenceReader.open(spec, space.store.corpora).delivered(spec.steps * spec.batch_sequences)
    assert given["web"]["epochs"] == pytest.approx(1.1, abs=0.01)


def test_a_target_smaller_than_the_run_is_refused(tiny_study: MakeStudy) -> None:
    space = workspace(tiny_study, {"kind": "matched_repetition", "target_tokens": 100})
    prepare_corpora(space.sources, space.mixes.sweep_sources)
    assert (
        "expected at least the 3,072 tokens of the run"
        in space.planner.plan().of("refused")[0].reasons[0].figures["error"]
    )


def test_scale_of_a_natural_baseline_waits_for_token_counts(tiny_study: MakeStudy) -> None:
    base = {"natural": {"sources": ["code", "web"]}}
    space = workspace(tiny_study, {"kind": "scale", "source": "web", "factors": [1.5, 9]}, mix__base=base)
    assert space.mixes.source_names("base.web@x9") == ("code", "web")
    prepare_corpora(space.sources, space.mixes.sweep_sources)
    plan = space.planner.plan()
    assert {run.mix for run in plan.of("refused")} == {"base.web@x9"}
    natural = space.sources.tokens(space.mixes.sweep_sources)["web"] / (
        space.sources.tokens(space.mixes.sweep_sources)["web"] + space.sources.tokens(space.mixes.sweep_sources)["code"]
    )
    assert space.runs.spec("base.web@x1.5", 0).stages[0].weights["web"] == pytest.approx(1.5 * natural)


def test_each_candidate_is_compared_with_its_own_control(tiny_study: MakeStudy) -> None:
    """The candidate at a weight decay of 0.3 is compared with one epoch at 0.3, not at 0.1."""
    space = workspace(tiny_study, {**EPOCHS, "epochs": [1, 4]})
    prepare_corpora(space.sources, space.mixes.sweep_sources)
    levels = {"base.web@1epoch,wd0.1": 0.0, "base.web@4epochs,wd0.1": 0.0, "base.web@1epoch,wd0.3": -0.2}
    for name in space.study.require_sweep().mixes:
        for seed in (0, 1):
            finish(space, name, seed, bits={"code": levels.get(name, -0.1)})
    plan = space.planner.plan()
    assert plan.complete
    verdict = decide_sweep(space, plan)
    against = {name: item.baseline for name, item in verdict.candidates.items()}
    assert against == {
        "base.web@4epochs,wd0.1": "base.web@1epoch,wd0.1",
        "base.web@1epoch,wd0.3": "base.web@1epoch,wd0.1",
        "base.web@4epochs,wd0.3": "base.web@1epoch,wd0.3",
    }
    effects = {
        name: next(c.effect for c in item.comparisons if c.task == "validation/code")
        for name, item in verdict.candidates.items()
    }
    assert effects == pytest.approx(
        {"base.web@4epochs,wd0.1": 0, "base.web@1epoch,wd0.3": -0.2, "base.web@4epochs,wd0.3": 0.1}, abs=0.02
    )
    [note] = verdict.note
    assert (note.code, note.figures["controls"]) == (Code.SEVERAL_CONTROLS, 2)
    shown = make_report(space, plan, verdict)
    page, markdown = render_page(shown), render_markdown(shown)
    for arm in plan.sweep.arms:
        assert arm.about in page
    assert "the control is base.web@\u200b1epoch,wd0.3" in markdown


def test_a_blocked_control_blocks_its_candidates(tiny_study: MakeStudy) -> None:
    ablation = {"kind": "substitute", "source": "web", "by": ["code"]}
    space = workspace(tiny_study, ablation, source__books__clearance={"state": "blocked"})
    assert decide_sweep(space, space.planner.plan()).decision == "BLOCKED"


def test_a_plan_describes_every_arm_and_its_control(tiny_study: MakeStudy) -> None:
    plan = workspace(tiny_study, {"kind": "leave_one_out", "sources": ["web"]}).planner.plan()
    assert plan_mapping(plan)["arms"] == [
        {"name": "base", "control": None, "about": "the control, with all sources"},
        {
            "name": "base-web",
            "control": "base",
            "about": "without web, the others in the same proportions; the control is base",
        },
    ]


def test_a_run_repeats_its_pool_as_declared(tiny_study: MakeStudy) -> None:
    """End to end: jobs of a submission read the resolved configuration and write the record."""
    space = workspace(
        tiny_study,
        {"kind": "epochs", "source": "web", "epochs": [1, 4]},
        sweep={"seeds": [0]},
        cluster__executor="debug",
    )
    prepare_corpora(space.sources, space.mixes.sweep_sources)
    submit(space, space.planner.plan())
    plan = space.planner.plan()
    assert plan.complete
    for run in plan.runs:
        assert run.fingerprint is not None
        record = space.store.run(run.fingerprint)
        asked = plan.sweep.arm(run.mix).epochs["web"]
        delivered = (record.delivered() or {})["delivered"]["web"]
        assert delivered["epochs"] == pytest.approx(asked, rel=0.05 * asked)
        begun = [source for entry in record.history() for source in entry["epochs_begun"]]
        assert set(begun) == ({"web"} if asked > 1 else set())
        assert record.labels()["arm"] == plan.sweep.arm(run.mix).about


@pytest.mark.parametrize(("sweep", "arms"), [("code_epochs", 6), ("code_matched", 2)])
def test_the_packaged_sweeps_can_be_planned(sweep: str, arms: int) -> None:
    study = compose([f"sweep={sweep}"])
    assert len(study.require_sweep().mixes) == arms
    assert Study.parse(study.raw).sweep == study.sweep
