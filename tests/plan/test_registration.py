"""A sweep is judged by what was fixed before its results; another rule is possible, and every verdict by it says so."""

from __future__ import annotations

import json
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from assay.analysis.verdict import apply_registration, decide_sweep
from assay.config.reason import Code, Reason
from assay.core.errors import AssayError
from assay.core.serde import to_json
from assay.plan.registration import as_registered, read, register
from assay.report.publish import conclude
from tests.helpers.finished import finish
from tests.helpers.reasons import codes
from tests.helpers.reasons import first as first_of

if TYPE_CHECKING:
    from assay.config.study import Study
    from assay.plan.registration import RegistrationState
    from assay.plan.workspace import Workspace

CODE = "c" * 64
BOOKS = {"task": "validation/books", "metric": "bits_per_byte", "better": "lower"}
NIGHT = 1_795_000_000.0


@pytest.fixture
def configured(tiny_study: Callable[..., Study]) -> Callable[..., Workspace]:
    """Return a factory of workspaces with changed configurations and the same store."""
    from assay.plan.workspace import Workspace

    return lambda **changes: Workspace(tiny_study(**changes))


def fix(workspace: Workspace, reason: str | None = None) -> None:
    register(workspace, workspace.planner.plan(), code=CODE, at=NIGHT, reason=reason)


def run_all(workspace: Workspace, *, mixes: tuple[str, ...] = ("base", "more_web", "no_books")) -> None:
    for mix in mixes:
        for seed in workspace.study.require_sweep().seeds:
            finish(workspace, mix, seed, bits={"code": -0.1} if mix == "more_web" else None)


def state_of(workspace: Workspace, **how: bool) -> RegistrationState:
    return as_registered(workspace, **how)[1]


def test_the_complete_rules_are_registered_once(configured: Callable[..., Workspace]) -> None:
    workspace = configured()
    fix(workspace)
    register(workspace, workspace.planner.plan(), code="another", at=NIGHT + 1)
    (entry,) = read(workspace.store, "tiny")
    assert entry.rules.policy == workspace.study.policy
    assert entry.rules.evaluation == workspace.runs.evaluation
    assert (entry.candidates, entry.seeds, entry.code, entry.at) == (("more_web", "no_books"), (0, 1), CODE, NIGHT)
    assert entry.results == ()
    assert state_of(workspace).state == "pre-registered"


def test_a_verdict_uses_the_registered_policy_after_a_configuration_change(
    configured: Callable[..., Workspace],
) -> None:
    workspace = configured()
    fix(workspace)
    run_all(workspace)
    later = configured(policy__alpha=0.4, policy__min_seeds=5)
    applied, plan, state = apply_registration(later)
    assert applied.study.policy == workspace.study.policy
    verdict = decide_sweep(applied, plan, registration=state)
    assert verdict.decision == decide_sweep(workspace, workspace.planner.plan()).decision
    assert state.state == "pre-registered"
    assert state.configured == ("policy.alpha 0.05 -> 0.4", "policy.min_seeds 2 -> 5")
    assert codes(state.reasons) == [Code.PREREGISTERED, Code.CONFIGURATION_DIFFERS]
    assert verdict.candidates["more_web"].scope[-1] == Reason(code=Code.SCOPE_REGISTRATION, subject="pre-registered")


def test_a_verdict_by_other_rules_is_marked_in_every_display(configured: Callable[..., Workspace]) -> None:
    from rich.console import Console

    from assay.report import markdown, page
    from assay.report.publish import make_report
    from assay.report.terminal.verdict import verdict_view

    workspace = configured()
    fix(workspace)
    run_all(workspace)
    applied, plan, state = apply_registration(configured(policy__min_seeds=5), present=True)
    assert (state.state, state.changed) == ("changed after the results", ("policy.min_seeds 2 -> 5",))
    verdict = decide_sweep(applied, plan, registration=state)
    assert verdict.candidates["more_web"].decision == "INCONCLUSIVE"
    plain = to_json(verdict)
    assert plain["registration"]["state"] == "changed after the results"
    assert plain["candidates"]["more_web"]["registration"]["changed"] == ["policy.min_seeds 2 -> 5"]
    report = make_report(applied, plan, verdict)
    text = markdown.render(report)
    assert "## INCONCLUSIVE (changed after the results): `tiny`" in text
    assert "### INCONCLUSIVE (changed after the results): `more_web`" in text
    html = page.render(report)
    assert "Changed after the results: policy.min_seeds 2 -&gt; 5" in html
    assert "fixed before the results were in" not in html
    for width in (80, 200):
        shown = StringIO()
        Console(width=width, file=shown).print(verdict_view(verdict))
        assert " ".join(shown.getvalue().split()).count("(changed after the results)") == 3


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"suite__validation_bytes": 5_000}, "suite.validation_bytes 20000 -> 5000"),
        ({"suite__batch_size": 4}, "suite.batch_size 8 -> 4"),
        ({"policy__primary": [BOOKS]}, "policy.primary.0.task validation/code -> validation/books"),
    ],
)
def test_differences_are_listed_by_key(configured: Callable[..., Workspace], change: dict[str, Any], key: str) -> None:
    fix(configured())
    assert any(item.startswith(key) for item in state_of(configured(**change)).configured)


def test_results_of_the_registered_suite_are_used_when_another_is_configured(
    configured: Callable[..., Workspace],
) -> None:
    workspace = configured()
    fix(workspace)
    run_all(workspace)
    done = conclude(configured(suite__batch_size=4), configured(suite__batch_size=4).planner.plan())
    assert done.verdict.candidates["more_web"].comparisons[0].n_seeds == 2
    assert json.loads(done.json.read_text())["registration"]["configured"] == ["suite.batch_size 8 -> 4"]


def test_before_any_result_other_rules_are_registered_and_the_old_ones_kept(
    configured: Callable[..., Workspace],
) -> None:
    workspace = configured()
    fix(workspace)
    run_all(workspace, mixes=("base",))  # scores of the baseline are no results of a candidate
    later = configured(policy__alpha=0.01)
    fix(later)
    assert [item.rules.policy.alpha for item in read(workspace.store, "tiny")] == [0.05, 0.01]
    assert state_of(later).state == "pre-registered"
    assert state_of(workspace).configured == ("policy.alpha 0.01 -> 0.05",)


def test_after_the_first_result_other_rules_need_a_reason_that_the_verdict_reports(
    configured: Callable[..., Workspace],
) -> None:
    workspace = configured()
    fix(workspace)
    finish(workspace, "no_books", 1)
    later = configured(policy__alpha=0.01)
    with pytest.raises(AssayError, match=r"policy\.alpha 0\.05 -> 0\.01") as refused:
        fix(later)
    assert "assay register --again REASON" in refused.value.fix
    assert len(read(workspace.store, "tiny")) == 1
    fix(later, "the board wants one percent")
    state = state_of(later)
    assert state.state == "changed after the results"
    assert first_of(state.reasons, Code.CHANGED_AFTER_RESULTS).figures["why"] == ("the board wants one percent",)
    fix(workspace, "five was right")
    assert state_of(workspace).state == "pre-registered"


def test_a_reason_without_a_change_is_refused(configured: Callable[..., Workspace]) -> None:
    workspace = configured()
    fix(workspace)
    with pytest.raises(AssayError, match="registered already"):
        fix(workspace, "just so")


def test_a_sweep_with_existing_results_is_registered_after_the_results(configured: Callable[..., Workspace]) -> None:
    workspace = configured()
    run_all(workspace)
    fix(workspace)
    state = state_of(workspace)
    assert state.state == "registered after the results"
    registered = first_of(state.reasons, Code.REGISTERED_AFTER_RESULTS)
    assert registered.figures["results"] == ("more_web s0", "more_web s1", "no_books s0", "no_books s1")


def test_added_arms_and_seeds_are_registered_and_listed(configured: Callable[..., Workspace]) -> None:
    first = configured(sweep__candidates=["no_books"])
    fix(first)
    finish(first, "no_books", 0)
    later = configured(sweep__seeds=[0, 1, 2])
    fix(later)
    state = state_of(later)
    assert state.state == "pre-registered"
    assert state.added == ("more_web", "seed 2")
    assert first_of(state.reasons, Code.ARMS_ADDED).figures["added"] == ("more_web", "seed 2")


def test_a_held_out_split_of_an_added_arm_is_no_difference(configured: Callable[..., Workspace]) -> None:
    two = {"weights": {"code": 0.5, "web": 0.5}}
    small = {"mix__base": two, "mix__more_web": {"weights": {"code": 0.2, "web": 0.8}}}
    first = configured(**small, sweep__candidates=["more_web"])
    fix(first)
    finish(first, "more_web", 0)
    with_books = {"weights": {"code": 0.4, "web": 0.4, "books": 0.2}}
    later = configured(**small, mix__no_books=with_books)
    assert set(later.runs.evaluation.validation) - set(first.runs.evaluation.validation) == {"books"}
    assert state_of(later).configured == ()
    assert as_registered(later)[0].runs.evaluation == first.runs.evaluation  # the new arm has not been submitted
    fix(later)
    assert as_registered(later) == (later, state_of(later))
    assert state_of(later).added == ("no_books",)


def test_a_sweep_without_registration_uses_the_configured_rules(configured: Callable[..., Workspace]) -> None:
    workspace = configured()
    run_all(workspace)
    applied, plan, state = apply_registration(workspace)
    assert applied is workspace
    assert state.state == "not pre-registered"
    assert decide_sweep(applied, plan, registration=state).candidates["more_web"].scope[-1] == Reason(
        code=Code.SCOPE_REGISTRATION, subject="not pre-registered"
    )


def test_the_registered_suite_applies_after_text_was_removed(configured: Callable[..., Workspace]) -> None:
    workspace = configured()
    fix(workspace)
    run_all(workspace)
    gone = configured(source__code__files=["gone/*.jsonl"])
    applied, _, state = apply_registration(gone)
    assert applied.runs.evaluation == workspace.runs.evaluation
    assert state.state == "pre-registered"


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"registrations": []}', '{"registrations": [{"at": 1}]}', '{"registrations": 3}']
)
def test_a_damaged_registration_is_refused_with_its_path(configured: Callable[..., Workspace], text: str) -> None:
    workspace = configured()
    fix(workspace)
    path = workspace.store.sweep("tiny") / "registered.json"
    path.write_text(text)
    with pytest.raises(AssayError, match="registered.json"):
        apply_registration(workspace)


def test_a_renamed_policy_is_no_difference(configured: Callable[..., Workspace]) -> None:
    workspace = configured()
    fix(workspace)
    renamed = configured(policy__name="ours")
    applied, state = as_registered(renamed)
    assert applied is renamed
    assert state.configured == ()


def test_external_results_are_not_pre_registered(tmp_path: Path, tiny_study: Callable[..., Study]) -> None:
    from assay.analysis.external.verdict import decide as judge_import
    from assay.store.runs import Store
    from tests.helpers.studies import results

    table = tmp_path / "long.csv"
    results({"new": {"code": -0.05}}).to_csv(table, index=False)
    study = tiny_study()
    verdict, _ = judge_import(study, Store(tmp_path / "store"), name=str(table), baseline="base", candidate=None)
    assert verdict.candidates["new"].scope[-1] == Reason(code=Code.SCOPE_REGISTRATION, subject="not pre-registered")


def test_a_further_task_without_a_vote_is_no_change_of_the_rules(configured: Callable[..., Workspace]) -> None:
    """Monitors change no verdict, so adding one needs no reason, and leaves the verdict unmarked."""
    workspace = configured(suite__tasks=[{"task": "sciq"}])
    fix(workspace)
    run_all(workspace)
    later = configured(suite__tasks=[{"task": "piqa"}, {"task": "sciq"}])
    assert state_of(later).state == "pre-registered"
    assert codes(state_of(later).reasons) == [Code.PREREGISTERED, Code.CONFIGURATION_DIFFERS]
    fix(later)
    assert [len(entry.rules.evaluation.tasks) for entry in read(later.store, "tiny")] == [1, 2]
    assert state_of(later).state == "pre-registered"
    assert codes(state_of(later).reasons) == [Code.PREREGISTERED]


@pytest.mark.parametrize(
    "changes",
    [
        {"suite__tasks": [{"task": "sciq", "limit": 5}, {"task": "piqa"}]},
        {"suite__tasks": [{"task": "piqa"}]},
        {"suite__tasks": [{"task": "sciq"}, {"task": "piqa"}], "suite__batch_size": 4},
        {
            "suite__tasks": [{"task": "sciq"}, {"task": "piqa"}],
            "policy__guardrails": [{"task": "piqa", "metric": "acc", "better": "higher", "margin": 0.05}],
        },
    ],
    ids=["another limit", "a removed task", "another batch size", "a vote"],
)
def test_other_changes_of_the_suite_are_refused_after_results(
    configured: Callable[..., Workspace], changes: dict[str, Any]
) -> None:
    workspace = configured(suite__tasks=[{"task": "sciq"}])
    fix(workspace)
    run_all(workspace)
    with pytest.raises(AssayError, match="differ from those registered"):
        fix(configured(**changes))


def test_own_tasks_that_are_missing_now_leave_the_registered_evaluation(configured: Callable[..., Workspace]) -> None:
    suite = {"suite__tasks": [{"task": "team_a"}], "suite__include_path": "evals"}
    workspace = configured(**suite)
    folder = Path(workspace.study.paths.root) / "evals"
    folder.mkdir()
    (folder / "a.yaml").write_text("task: team_a\ndataset_path: json\n")
    fix(workspace)
    run_all(workspace)
    (folder / "a.yaml").unlink()
    folder.rmdir()
    applied, plan, state = apply_registration(configured(**suite))
    assert plan.complete
    assert applied.runs.evaluation == workspace.runs.evaluation
    assert state.state == "pre-registered"
    (difference,) = state.configured
    assert "evals does not exist" in difference
