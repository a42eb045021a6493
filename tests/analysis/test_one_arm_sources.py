"""A metric that improves by construction carries no ACCEPT, and a dropped source that nothing guards is stated."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from assay.analysis.gate import Verdict, decide
from assay.analysis.verdict import decide_sweep
from assay.config.one_arm_sources import one_arm_reasons, one_arm_tasks
from assay.config.policy import Criterion, Policy
from assay.config.reason import Code, Reason
from assay.core.errors import AssayError
from assay.plan.workspace import Workspace
from assay.report.reason_text import text
from tests.helpers.finished import finish
from tests.helpers.reasons import codes, facts, first
from tests.helpers.studies import policy, results

if TYPE_CHECKING:
    from assay.config.study import Study

ADDED = {"base": ("web", "books"), "new": ("web", "books", "code")}
"""Only `new` trains on code, whose held-out text is the primary metric of the test policy."""
SHARED = {"base": ("web", "books", "code"), "new": ("web", "books", "code")}
DROPPED = {"base": ("web", "books", "code"), "new": ("web", "code")}


def verdict(trained: Mapping[str, tuple[str, ...]], *, code: float = -0.05, **changes: Any) -> Verdict:
    rule = policy(**{"exclude_one_arm_sources": True, **changes})
    return decide(
        results({"new": {"code": code, "web": code}}), rule, baseline="base", candidate="new", trained=trained
    )


def test_a_metric_that_improves_by_construction_carries_no_accept() -> None:
    decided = verdict(ADDED)
    assert decided.decision == "INCONCLUSIVE"
    assert facts(decided.reasons[0]) == (Code.ONE_ARM_PRIMARY, "validation/code bits_per_byte")
    assert decided.reasons[0].figures == {"baseline": "base", "candidate": "new", "excluded": True}
    assert decided.needed == (Reason(code=Code.NEED_INDEPENDENT_PRIMARY),)
    assert decided.options == ()


def test_without_the_option_the_accept_states_the_construction() -> None:
    decided = verdict(ADDED, exclude_one_arm_sources=False)
    assert decided.decision == "ACCEPT"
    reason = first(decided.reasons, Code.ONE_ARM_PRIMARY)
    assert reason.figures["excluded"] is False
    assert (
        text(reason) == "validation/code bits_per_byte improves by construction: new trains on code and base does not."
    )


@pytest.mark.parametrize("trained", [SHARED, {}, {"new": ("web",)}], ids=["shared", "unknown", "unknown baseline"])
def test_a_source_that_both_arms_train_on_carries_an_accept(trained: Mapping[str, tuple[str, ...]]) -> None:
    decided = verdict(trained)
    assert decided.decision == "ACCEPT"
    assert not {Code.ONE_ARM_PRIMARY, Code.DROPPED_SOURCE_UNGUARDED} & set(codes(decided.reasons))


PRIMARIES = tuple(
    Criterion(task=f"validation/{name}", metric="bits_per_byte", better="lower") for name in ("code", "web")
)


@pytest.mark.parametrize("require", ["any", "all"])
def test_another_primary_metric_may_carry_the_accept(require: str) -> None:
    decided = verdict(ADDED, primary=PRIMARIES, guardrails=(), require=require)
    assert decided.decision == "ACCEPT"
    assert Code.ONE_ARM_PRIMARY in codes(decided.reasons)


def test_a_regression_by_a_source_of_one_arm_still_rejects() -> None:
    assert verdict(ADDED, code=0.2).decision == "REJECT"


def test_a_dropped_source_is_stated_unless_a_metric_guards_it() -> None:
    guarded = verdict(DROPPED)
    assert Code.DROPPED_SOURCE_UNGUARDED not in codes(guarded.reasons)
    decided = verdict(DROPPED, guardrails=())
    reason = first(decided.reasons, Code.DROPPED_SOURCE_UNGUARDED)
    assert (reason.subject, reason.figures["sources"]) == ("new", ("books",))
    assert "Add guardrails on validation/books" in text(reason)


def test_a_primary_metric_of_a_dropped_source_declines_by_construction() -> None:
    trained = {"base": ("web", "books", "code"), "new": ("web", "books")}
    decided = verdict(trained, code=0.2)
    assert decided.decision == "REJECT"
    assert facts(first(decided.reasons, Code.BASELINE_ONLY_PRIMARY))[1] == "validation/code bits_per_byte"


def test_a_policy_about_a_target_names_its_metric() -> None:
    from assay.config.policy import Target

    target = Target(scale="1B", task="validation/code", metric="bits_per_byte", better="lower")
    rule = Policy(name="t", alpha=0.05, min_seeds=3, target=target, exclude_one_arm_sources=True)
    [reason] = one_arm_reasons(rule, ADDED, "base", "new")
    assert facts(reason) == (Code.ONE_ARM_PRIMARY, "validation/code bits_per_byte")
    assert one_arm_tasks(ADDED, "base", "new") == {"validation/code"}


# --- sweeps

PRIMARY = [{"task": "validation/extra", "metric": "bits_per_byte", "better": "lower"}]
EXTRA = {"mix.plus": {"weights": {"web": 0.6, "books": 0.2, "extra": 0.2}}}


@pytest.fixture
def study(tiny_study: Callable[..., Study]) -> Callable[..., Study]:
    """A study with another source `extra`, whose files are those of `code`."""

    def make(*, role: str | None = None, **overrides: Any) -> Study:
        base = tiny_study()
        extra = {**base.raw["source"]["code"], **({} if role is None else {"role": role})}
        return tiny_study(**{"source.extra": extra, **overrides})

    return make


def test_plan_and_verdict_state_a_primary_metric_of_one_arm(study: Callable[..., Study]) -> None:
    """The candidate adds a source and is accepted for its held-out text, unless the policy excludes it."""
    options = {
        **EXTRA,
        "sweep.candidates": ["plus"],
        "sweep.seeds": [0, 1, 2],
        "policy.primary": PRIMARY,
        "policy.guardrails": [],
    }
    for excluded, decision in ((False, "ACCEPT"), (True, "INCONCLUSIVE")):
        space = Workspace(
            study(**options, **{"policy.exclude_one_arm_sources": excluded}, folder=f"project-{excluded}")
        )
        plan = space.planner.plan()
        assert facts(first(plan.warnings, Code.ONE_ARM_PRIMARY))[1] == "validation/extra bits_per_byte"
        assert first(plan.warnings, Code.DROPPED_SOURCE_UNGUARDED).figures["sources"] == ("code",)
        for mix in ("base", "plus"):
            for seed in (0, 1, 2):
                finish(space, mix, seed, bits={"extra": -0.2 if mix == "plus" else 0.0})
        decided = decide_sweep(space, space.planner.plan()).candidates["plus"]
        assert decided.decision == decision
        assert {Code.ONE_ARM_PRIMARY, Code.DROPPED_SOURCE_UNGUARDED} <= set(codes(decided.reasons))


def test_a_source_for_validation_is_measured_for_every_arm_and_may_be_primary(study: Callable[..., Study]) -> None:
    options = {"policy.primary": PRIMARY, "policy.guardrails": [], "policy.exclude_one_arm_sources": True}
    space = Workspace(
        study(role="validation", **{**options, "sweep.seeds": [0, 1, 2], "sweep.candidates": ["more_web"]})
    )
    assert "extra" in space.mixes.sweep_sources
    assert "extra" in space.runs.evaluation.validation
    plan = space.planner.plan()
    assert Code.ONE_ARM_PRIMARY not in codes(plan.warnings)
    for mix in ("base", "more_web"):
        assert "extra" not in space.runs.spec(mix, 0).corpora
        for seed in (0, 1, 2):
            finish(space, mix, seed, bits={"extra": -0.2 if mix == "more_web" else 0.0})
    decided = decide_sweep(space, space.planner.plan()).candidates["more_web"]
    assert decided.decision == "ACCEPT"
    assert decided.comparisons[0].task == "validation/extra"


@pytest.mark.parametrize(
    "changes",
    [
        EXTRA,
        {"mix.plus": {"base": "base", "edits": [{"set": {"extra": 0.2}}]}},
        {"mix.plus": {"base": "base", "edits": [{"replace": {"source": "code", "by": "extra"}}]}},
        {"mix.plus": {"natural": {"sources": ["web", "extra"]}}},
    ],
    ids=["weights", "set", "replace", "natural"],
)
def test_a_mix_that_trains_on_a_source_for_validation_is_refused(
    study: Callable[..., Study], changes: dict[str, Any]
) -> None:
    space = Workspace(study(role="validation", **changes, **{"sweep.candidates": ["plus"]}))
    with pytest.raises(AssayError, match="mix 'plus': weight .* of 'extra' is invalid; expected none") as error:
        space.planner.plan()
    assert "Remove extra from the mix" in str(error.value)


def test_natural_proportions_by_domain_leave_out_sources_for_validation(study: Callable[..., Study]) -> None:
    """`extra` has the domain of `code`."""
    natural = {"natural": {"sources": {"domain": ["code", "web"]}}}
    space = Workspace(study(role="validation", **{"mix.plus": natural, "sweep.candidates": ["plus"]}))
    assert space.mixes.source_names("plus") == ("code", "web")


def test_a_tokenizer_is_not_trained_on_a_source_for_validation(study: Callable[..., Study]) -> None:
    with pytest.raises(AssayError, match="tokenizer .*: source 'extra' is invalid"):
        study(role="validation", **{"tokenizer.sources": ["web", "extra"]})


def test_a_source_for_validation_that_cannot_be_used_is_a_warning_or_an_error_if_the_policy_names_it(
    study: Callable[..., Study],
) -> None:
    pending = {"source.extra.clearance": {"state": "pending"}}
    space = Workspace(study(role="validation", **pending))
    warning = first(space.planner.plan().warnings, Code.VALIDATION_SOURCE_UNUSED)
    assert (warning.subject, codes(warning.causes)) == ("extra", [Code.SOURCE_PENDING])
    assert "extra" not in space.runs.evaluation.validation
    named = Workspace(study(role="validation", **pending, **{"policy.primary": PRIMARY}))
    with pytest.raises(AssayError, match="source 'extra' cannot be measured: source_pending"):
        named.planner.plan()


def test_a_role_changes_no_run_and_no_evaluation_of_projects_without_it(tiny_study: Callable[..., Study]) -> None:
    before = Workspace(tiny_study())
    after = Workspace(tiny_study(**{"source.code.role": "training"}))
    assert before.runs.spec("base", 0).fingerprint == after.runs.spec("base", 0).fingerprint
    assert before.runs.evaluation.fingerprint == after.runs.evaluation.fingerprint


def test_the_packaged_default_policy_excludes_metrics_of_one_arm() -> None:
    path = Path(__file__).parents[2] / "conf/policy/default.yaml"
    assert Policy.from_yaml(path).exclude_one_arm_sources is True
