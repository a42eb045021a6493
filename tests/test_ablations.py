"""Typed ablations: every kind makes arms that differ in what it says and nothing else, and a control for each."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.ablations import Expansion, Setting, expand, parse_ablation
from assay.cli.compose import compose
from assay.cli.runs import plan_mapping
from assay.conclude import judge, make_report
from assay.errors import AssayError
from assay.launch.submission import submit
from assay.mixes import MixDeclaration, resolve
from assay.publish.markdown import render as render_markdown
from assay.publish.page import render as render_page
from assay.recipe import Stage
from assay.sources import Source
from assay.study import Study
from assay.workspace import Workspace
from tests.finished import finish
from tests.test_recipe import OPTIMISER
from tests.tiny import tiny_study

MakeStudy = Callable[..., Study]
SOURCES = {
    name: Source(name=name, files=("x",), domain=domain, language="en", licence="MIT")
    for name, domain in [
        ("web", "web"), ("web_high", "web"), ("web_mid", "web"), ("github", "code"), ("cc_code", "code"), ("books", "books"),
    ]
}  # fmt: skip
WEIGHTS = {"web": 0.5, "github": 0.3, "books": 0.2}
STAGES = (Stage(name="pretrain", share=1.0),)


def setting(**changes: Any) -> Setting:
    fields: dict[str, Any] = {
        "baseline": "base",
        "mixes": {
            "base": MixDeclaration(name="base", weights=changes.pop("weights", WEIGHTS)),
            "other": MixDeclaration(name="other", weights={"web": 1}),
        },
        "sources": SOURCES,
        "stages": STAGES,
        "optimiser": OPTIMISER,
    }
    return Setting(**{**fields, **changes})


def made(raw: dict[str, Any], **changes: Any) -> Expansion:
    return expand(parse_ablation(raw), setting(**changes))


def weights_of(found: Expansion, name: str, **changes: Any) -> dict[str, float]:
    declared = {**setting(**changes).mixes, **{n: MixDeclaration.parse(n, raw) for n, raw in found.mixes.items()}}
    return resolve(name, declared, SOURCES).weights


def weights(raw: dict[str, Any]) -> dict[str, dict[str, float]]:
    found = made(raw)
    return {name: weights_of(found, name) for name in found.candidates}


def test_substitute_gives_a_sources_weight_to_another() -> None:
    assert weights({"kind": "substitute", "source": "github", "by": ["cc_code", "web"]}) == {
        "base-github+cc_code": {"web": 0.5, "cc_code": 0.3, "books": 0.2},
        "base-github+web": pytest.approx({"web": 0.8, "books": 0.2}),
    }


def test_leave_one_out_drops_each_source_and_the_rest_keeps_its_proportions() -> None:
    found = weights({"kind": "leave_one_out"})
    assert list(found) == ["base-books", "base-github", "base-web"]
    assert found["base-books"] == pytest.approx({"web": 0.625, "github": 0.375})
    assert list(weights({"kind": "leave_one_out", "sources": ["web"]})) == ["base-web"]


def test_a_tier_takes_the_weight_of_the_source_that_it_is_of() -> None:
    assert weights({"kind": "tier", "source": "web", "tiers": ["web_high", "web_mid"]}) == {
        "base.web@web_high": {"web_high": 0.5, "github": 0.3, "books": 0.2},
        "base.web@web_mid": {"web_mid": 0.5, "github": 0.3, "books": 0.2},
    }


def test_scale_multiplies_a_weight_exactly_and_the_others_share_the_rest() -> None:
    found = weights({"kind": "scale", "source": "github", "factors": [2, 0.5, 0]})
    assert found["base.github@x2"] == pytest.approx({"github": 0.6, "web": 0.4 * 5 / 7, "books": 0.4 * 2 / 7})
    assert found["base.github@x0.5"]["github"] == pytest.approx(0.15)
    assert "github" not in found["base.github@x0"]


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
def test_weights_of_every_arm_sum_to_one_whatever_the_baseline(shares: list[float], ablation: dict[str, Any]) -> None:
    base = dict(zip(WEIGHTS, shares, strict=True))
    if ablation["kind"] == "scale" and ablation["factors"][0] * base["web"] / sum(shares) > 1:
        with pytest.raises(AssayError, match=r"multiply: web .* would weigh"):
            made(ablation, weights=base)
        return
    found = made(ablation, weights=base)
    for name in (found.baseline, *found.candidates):
        mixed = weights_of(found, name, weights=base)
        assert math.fsum(mixed.values()) == pytest.approx(1, abs=1e-12)
        assert min(mixed.values()) >= 0


def test_epochs_has_the_fewest_as_control_and_one_for_each_weight_decay() -> None:
    found = made({"kind": "epochs", "source": "web", "epochs": [4, 1], "weight_decay": [0.1, 0.3]})
    assert found.baseline == "base.web@1epoch,wd0.1"
    assert {arm.name: (arm.control, arm.weight_decay, arm.epochs) for arm in found.arms} == {
        "base.web@1epoch,wd0.1": (None, 0.1, {"web": 1}),
        "base.web@4epochs,wd0.1": ("base.web@1epoch,wd0.1", 0.1, {"web": 4}),
        "base.web@1epoch,wd0.3": ("base.web@1epoch,wd0.1", 0.3, {"web": 1}),
        "base.web@4epochs,wd0.3": ("base.web@1epoch,wd0.3", 0.3, {"web": 4}),
    }
    assert {weights_of(found, name)["web"] for name in (found.baseline, *found.candidates)} == {0.5}


def test_epochs_is_crossed_with_dropout_and_with_both() -> None:
    found = made(
        {"kind": "epochs", "source": "web", "epochs": [1, 4], "weight_decay": [0.1, 0.3], "dropout": [0.0, 0.1]}
    )
    arms = {arm.name: arm for arm in found.arms}
    assert len(arms) == 8
    assert found.baseline == "base.web@1epoch,wd0.1,do0"
    regular = arms["base.web@4epochs,wd0.3,do0.1"]
    assert (regular.weight_decay, regular.dropout, regular.control) == (0.3, 0.1, "base.web@1epoch,wd0.3,do0.1")
    assert "weight decay 0.3, dropout 0.1" in regular.about
    top = arms["base.web@1epoch,wd0.3,do0.1"]
    assert top.control == found.baseline
    assert top.about.startswith("the control of its weight decay and dropout: ")


def test_epochs_alone_leaves_the_optimiser_as_it_is() -> None:
    found = made({"kind": "epochs", "source": "web", "epochs": [1, 2, 8]})
    assert [arm.name for arm in found.arms] == ["base.web@1epoch", "base.web@2epochs", "base.web@8epochs"]
    assert {arm.weight_decay for arm in found.arms} == {None}


CONSTANT = {"schedule": "constant", "decay": 0.0}


def test_anneal_makes_the_stages_and_a_control_that_anneals_on_the_base() -> None:
    from dataclasses import replace

    raw = {"kind": "anneal", "sources": ["cc_code"], "weight": 0.3, "share": 0.2}
    found = made(raw, optimiser=replace(OPTIMISER, **CONSTANT))
    assert (found.baseline, found.candidates) == ("base@anneal", ("base@anneal+cc_code",))
    assert found.arms[1].control == "base@anneal"
    assert found.stages == (
        Stage(name="pretrain", share=0.8, mix="base"),
        Stage(name="anneal", share=0.2, mix=None, anneal=True),
    )
    assert weights_of(found, "base@anneal") == WEIGHTS
    assert weights_of(found, "base@anneal+cc_code") == pytest.approx(
        {"cc_code": 0.3, "web": 0.35, "github": 0.21, "books": 0.14}
    )
    own = (Stage(name="main", share=0.9, mix=None), Stage(name="end", share=0.1, mix="other", anneal=True))
    again = made({**raw, "share": None}, optimiser=replace(OPTIMISER, **CONSTANT), stages=own)
    assert [(s.name, s.mix, s.anneal) for s in again.stages] == [("main", "base", False), ("end", None, True)]


def test_matched_repetition_shrinks_the_candidates_and_the_baseline_alike() -> None:
    found = made({"kind": "matched_repetition", "target_tokens": 1.5e9}, candidates=("other",))
    assert (found.baseline, found.candidates) == ("base@1.5Btokens", ("other@1.5Btokens",))
    assert {arm.target_tokens for arm in found.arms} == {1_500_000_000}
    alone = made({"kind": "matched_repetition", "target_tokens": 2_000_000})
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
def test_every_arm_says_in_a_line_what_it_and_its_control_are(raw: dict[str, Any]) -> None:
    found = made(raw)
    for arm in found.arms:
        assert arm.about
        assert "\n" not in arm.about
        if arm.name == found.baseline:
            assert arm.about.startswith("the control")
        else:
            assert (arm.control or found.baseline) in arm.about
    assert all(mix["description"] for mix in found.mixes.values())


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ({"source": "web"}, "has no kind"),
        ({"kind": "substitue"}, "Did you mean 'substitute'"),
        ({"kind": "substitute", "source": "web"}, "'by' is missing"),
        ({"kind": "substitute", "source": "wbe", "by": ["books"]}, "no source is called 'wbe'. Did you mean 'web'"),
        ({"kind": "substitute", "source": "web", "by": ["bokos"]}, "no source is called 'bokos'"),
        ({"kind": "substitute", "source": "cc_code", "by": ["web"]}, "has no 'cc_code'; it has books, github, web"),
        ({"kind": "substitute", "source": "web", "by": ["web"]}, "would take its own place"),
        ({"kind": "substitute", "source": "web", "by": []}, "by is empty"),
        ({"kind": "substitute", "source": "web", "by": ["books", "books"]}, "name one twice"),
        ({"kind": "leave_one_out", "sources": ["cc_code"]}, "has no 'cc_code'"),
        ({"kind": "tier", "source": "web", "tiers": ["cc_code"]}, "of the domain 'code'"),
        ({"kind": "tier", "source": "web", "tiers": ["web"]}, "is in the baseline base itself"),
        ({"kind": "scale", "source": "web", "factors": [3]}, "web at 3 times its 0.5 would weigh 1.5"),
        ({"kind": "scale", "source": "web", "factors": [-1]}, "a factor is -1"),
        ({"kind": "scale", "source": "web", "factors": [1]}, "1 is the control already"),
        ({"kind": "epochs", "source": "web", "epochs": [2]}, "nothing to compare"),
        ({"kind": "epochs", "source": "web", "epochs": [1, 0]}, "web is to be seen 0.0 times"),
        ({"kind": "epochs", "source": "web", "epochs": [1, 2], "weight_decay": [-1]}, "weight_decay is -1"),
        ({"kind": "epochs", "source": "web", "epochs": [1, 2], "dropout": [0.0, 1.0]}, "dropout is 1.0"),
        ({"kind": "epochs", "source": "web", "epochs": [1, 2], "dropout": [0.1, 0.1]}, "name one twice"),
        ({"kind": "anneal", "sources": ["web"], "weight": 0.5}, "no stage anneals"),
        ({"kind": "anneal", "sources": ["web"], "weight": 1.5, "share": 0.1}, "weight is 1.5"),
        ({"kind": "anneal", "sources": ["web"], "weight": 0.5, "share": 1}, "share is 1"),
        ({"kind": "anneal", "sources": ["web"], "weight": 0.5, "share": 0.1}, "nothing is left to anneal from"),
        ({"kind": "matched_repetition", "target_tokens": 0}, "target_tokens is 0"),
    ],
)
def test_an_ablation_that_cannot_be_is_refused_in_words(raw: dict[str, Any], message: str) -> None:
    with pytest.raises(AssayError) as error:
        made(raw)
    assert message in str(error.value)


def test_candidates_are_listed_or_made_and_never_both() -> None:
    with pytest.raises(AssayError, match="are listed, and it makes its own"):
        made({"kind": "leave_one_out"}, candidates=("other",))
    with pytest.raises(AssayError, match="no mix is called 'bsae', its baseline. Did you mean 'base'"):
        made({"kind": "leave_one_out"}, baseline="bsae")


# --- in a study


def workspace(make: MakeStudy, ablation: dict[str, Any], **changes: Any) -> Workspace:
    sweep = {"name": "tiny", "baseline": "base", "seeds": [0, 1], "ablation": ablation, **changes.pop("sweep", {})}
    return Workspace(make(sweep=sweep, **changes))


EPOCHS = {"kind": "epochs", "source": "web", "epochs": [1, 2, 4], "weight_decay": [0.1, 0.3]}


def test_jobs_read_the_arms_and_never_the_ablation(tiny_study: MakeStudy) -> None:
    """What a submission writes down gives the same study, and the same runs, again."""
    space = workspace(tiny_study, EPOCHS)
    assert "ablation" not in space.study.raw["sweep"]
    again = Study.parse(space.study.raw)
    assert again.sweep == space.study.sweep
    assert again.mixes == space.study.mixes
    space.prepare()
    names = space.study.require_sweep().mixes
    assert [Workspace(again).spec(name, 1) for name in names] == [space.spec(name, 1) for name in names]


def test_arms_of_epochs_take_the_same_tokens_from_pools_that_shrink(tiny_study: MakeStudy) -> None:
    space = workspace(tiny_study, EPOCHS)
    assert "weights and pools are known once web" in space.plan().runs[0].reasons[0]
    space.prepare()
    specs = {arm.name: space.spec(arm.name, 0) for arm in space.study.require_sweep().arms}
    taken = 0.4 * space.budget
    assert {name: spec.pools for name, spec in specs.items() if name.endswith("wd0.3")} == {
        "base.web@1epoch,wd0.3": {"web": math.ceil(taken)},
        "base.web@2epochs,wd0.3": {"web": math.ceil(taken / 2)},
        "base.web@4epochs,wd0.3": {"web": math.ceil(taken / 4)},
    }
    assert {spec.optimiser.weight_decay for name, spec in specs.items() if name.endswith("wd0.3")} == {0.3}
    assert len({spec.fingerprint for spec in specs.values()}) == 6
    assert len({tuple(spec.stages[0].weights.items()) for spec in specs.values()}) == 1
    for name, spec in specs.items():
        delivered = space.reader(spec).delivered(spec.steps * spec.batch_sequences)["web"]
        asked = space.study.require_sweep().arm(name).epochs["web"]
        assert delivered["epochs"] == pytest.approx(asked, rel=32 / (taken / asked))


def test_an_arm_without_overrides_is_the_run_of_its_mix(tiny_study: MakeStudy) -> None:
    """Whoever wrote the candidate by hand has its runs already."""
    space = workspace(tiny_study, {"kind": "leave_one_out", "sources": ["books"]})
    assert space.spec("base-books", 0) == Workspace(space.study).spec("no_books", 0)
    assert space.spec("base", 0).fingerprint == Workspace(tiny_study()).spec("base", 0).fingerprint


def test_a_source_too_small_to_be_seen_so_rarely_is_refused_before_training(tiny_study: MakeStudy) -> None:
    space = workspace(tiny_study, {"kind": "epochs", "source": "web", "epochs": [1, 64]}, steps=300)
    space.prepare()
    plan = space.plan()
    assert {run.mix: run.status for run in plan.runs} == {"base.web@1epoch": "refused", "base.web@64epochs": "todo"}
    assert "epochs already, and no pool of it makes fewer" in plan.runs[0].reasons[0]


def test_a_pool_of_less_than_a_sequence_is_refused(tiny_study: MakeStudy) -> None:
    space = workspace(tiny_study, {"kind": "epochs", "source": "web", "epochs": [1, 500]})
    space.prepare()
    assert "less than one sequence of 32" in space.plan().of("refused")[0].reasons[0]


def test_matched_pools_repeat_as_the_target_would(tiny_study: MakeStudy) -> None:
    space = workspace(
        tiny_study, {"kind": "matched_repetition", "target_tokens": 60_000}, sweep={"candidates": ["more_web"]}
    )
    space.prepare()
    spec = space.spec("more_web@60ktokens", 0)
    given = space.reader(spec).delivered(spec.steps * spec.batch_sequences)
    for source, weight in spec.stages[0].weights.items():
        target = weight * 60_000 / space.tokens[source]
        assert given[source]["epochs"] == pytest.approx(target, rel=32 / (weight * spec.tokens) + 1e-3)


def test_a_cap_on_epochs_is_the_targets_where_repetition_is_matched(tmp_path: Any) -> None:
    """The proxy stands for a run in which the cap had to turn weight away."""
    raw_mix = {"weights": {"code": 0.4, "web": 0.4, "books": 0.2}, "max_epochs": 1.1}
    ablation = {"kind": "matched_repetition", "target_tokens": 80_000}
    sweep = {"name": "tiny", "baseline": "base", "seeds": [0], "ablation": ablation}
    space = Workspace(tiny_study(tmp_path, steps=60, overrides={"mix.base": raw_mix, "sweep": sweep}))
    space.prepare()
    assert space.spec("base", 0).stages[0].weights == pytest.approx(raw_mix["weights"])
    spec = space.spec("base@80ktokens", 0)
    weights = spec.stages[0].weights
    assert weights["web"] < 0.4
    assert weights["web"] * 80_000 / space.tokens["web"] == pytest.approx(1.1, abs=1e-3)
    given = space.reader(spec).delivered(spec.steps * spec.batch_sequences)
    assert given["web"]["epochs"] == pytest.approx(1.1, abs=0.01)


def test_a_target_below_the_run_itself_is_refused(tiny_study: MakeStudy) -> None:
    space = workspace(tiny_study, {"kind": "matched_repetition", "target_tokens": 100})
    space.prepare()
    assert "less than the 3,072 of the run itself" in space.plan().of("refused")[0].reasons[0]


def test_scale_of_a_natural_baseline_waits_for_its_counts(tiny_study: MakeStudy) -> None:
    base = {"natural": {"sources": ["code", "web"]}}
    space = workspace(tiny_study, {"kind": "scale", "source": "web", "factors": [1.5, 9]}, mix__base=base)
    assert space.names("base.web@x9") == ("code", "web")
    space.prepare()
    plan = space.plan()
    assert {run.mix for run in plan.of("refused")} == {"base.web@x9"}
    natural = space.tokens["web"] / (space.tokens["web"] + space.tokens["code"])
    assert space.spec("base.web@x1.5", 0).stages[0].weights["web"] == pytest.approx(1.5 * natural)


def test_each_candidate_is_judged_against_its_own_control(tiny_study: MakeStudy) -> None:
    """At a weight decay of 0.3 the run that repeats has to be better than what is fresh at 0.3, not at 0.1."""
    space = workspace(tiny_study, {**EPOCHS, "epochs": [1, 4]})
    space.prepare()
    levels = {"base.web@1epoch,wd0.1": 0.0, "base.web@4epochs,wd0.1": 0.0, "base.web@1epoch,wd0.3": -0.2}
    for name in space.study.require_sweep().mixes:
        for seed in (0, 1):
            finish(space, name, seed, bits={"code": levels.get(name, -0.1)})
    plan = space.plan()
    assert plan.complete
    verdict = judge(space, plan)
    against = {name: one.baseline for name, one in verdict.candidates.items()}
    assert against == {
        "base.web@4epochs,wd0.1": "base.web@1epoch,wd0.1",
        "base.web@1epoch,wd0.3": "base.web@1epoch,wd0.1",
        "base.web@4epochs,wd0.3": "base.web@1epoch,wd0.3",
    }
    effects = {
        name: next(c.effect for c in one.comparisons if c.task == "validation/code")
        for name, one in verdict.candidates.items()
    }
    assert effects == pytest.approx(
        {"base.web@4epochs,wd0.1": 0, "base.web@1epoch,wd0.3": -0.2, "base.web@4epochs,wd0.3": 0.1}, abs=0.02
    )
    assert "each against its own of 2 controls" in verdict.note
    shown = make_report(space, plan, verdict)
    page, markdown = render_page(shown), render_markdown(shown)
    for arm in plan.sweep.arms:
        assert arm.about in page
    assert "the control is base.web@\u200b1epoch,wd0.3" in markdown


def test_a_blocked_control_blocks_those_that_are_compared_with_it(tiny_study: MakeStudy) -> None:
    ablation = {"kind": "substitute", "source": "web", "by": ["code"]}
    space = workspace(tiny_study, ablation, source__books__clearance={"state": "blocked"})
    assert judge(space, space.plan()).decision == "BLOCKED"


def test_a_plan_says_of_every_arm_what_it_is_and_what_its_control_is(tiny_study: MakeStudy) -> None:
    plan = workspace(tiny_study, {"kind": "leave_one_out", "sources": ["web"]}).plan()
    assert plan_mapping(plan)["arms"] == [
        {"name": "base", "control": None, "about": "the control, with all of its sources"},
        {
            "name": "base-web",
            "control": "base",
            "about": "without web, the others in their proportions; the control is base",
        },
    ]


def test_a_run_is_trained_on_its_pool_as_often_as_was_asked(tiny_study: MakeStudy) -> None:
    """The whole way: a submission's jobs, which read the resolved configuration, and the record that they leave."""
    space = workspace(
        tiny_study,
        {"kind": "epochs", "source": "web", "epochs": [1, 4]},
        sweep={"seeds": [0]},
        cluster__executor="debug",
    )
    space.prepare()
    submit(space, space.plan())
    plan = space.plan()
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
def test_the_packaged_examples_are_sweeps_that_can_be_planned(sweep: str, arms: int) -> None:
    study = compose([f"sweep={sweep}"])
    assert len(study.require_sweep().mixes) == arms
    assert Study.parse(study.raw).sweep == study.sweep
