"""A sweep is judged by what was fixed before its results; another rule is possible, and every verdict by it says so."""

from __future__ import annotations

import json
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from assay.conclude import before_the_gate, conclude, judge
from assay.errors import AssayError
from assay.registered import as_registered, read, register
from tests.finished import finish

if TYPE_CHECKING:
    from assay.registered import Standing
    from assay.study import Study
    from assay.workspace import Workspace

CODE = "c" * 64
BOOKS = {"task": "validation/books", "metric": "bits_per_byte", "better": "lower"}
NIGHT = 1_795_000_000.0


@pytest.fixture
def configured(tiny_study: Callable[..., Study]) -> Callable[..., Workspace]:
    """The study as it is configured at some moment; the store stays the same."""
    from assay.workspace import Workspace

    return lambda **changes: Workspace(tiny_study(**changes))


def fix(space: Workspace, reason: str | None = None) -> None:
    register(space, space.plan(), code=CODE, at=NIGHT, reason=reason)


def run_all(space: Workspace, *, mixes: tuple[str, ...] = ("base", "more_web", "no_books")) -> None:
    for mix in mixes:
        for seed in space.study.require_sweep().seeds:
            finish(space, mix, seed, bits={"code": -0.1} if mix == "more_web" else None)


def standing(space: Workspace, **how: bool) -> Standing:
    return as_registered(space, **how)[1]


def test_the_rule_is_kept_whole_and_written_once(configured: Callable[..., Workspace]) -> None:
    space = configured()
    fix(space)
    register(space, space.plan(), code="another", at=NIGHT + 1)
    (entry,) = read(space.store, "tiny")
    assert entry.rules.policy == space.study.policy
    assert entry.rules.evaluation == space.evaluation
    assert (entry.candidates, entry.seeds, entry.code, entry.at) == (("more_web", "no_books"), (0, 1), CODE, NIGHT)
    assert entry.results == ()
    assert standing(space).state == "pre-registered"


def test_a_policy_that_is_configured_otherwise_later_does_not_judge(configured: Callable[..., Workspace]) -> None:
    space = configured()
    fix(space)
    run_all(space)
    later = configured(policy__alpha=0.4, policy__min_seeds=5)
    judged, plan, told = before_the_gate(later)
    assert judged.study.policy == space.study.policy
    verdict = judge(judged, plan, standing=told)
    assert verdict.decision == judge(space, space.plan()).decision
    assert told.state == "pre-registered"
    assert told.configured == ("policy.alpha 0.05 -> 0.4", "policy.min_seeds 2 -> 5")
    assert "--policy-now" in told.sentence
    assert verdict.candidates["more_web"].scope.endswith("; pre-registered")


def test_a_verdict_by_another_rule_is_marked_wherever_it_is_shown(configured: Callable[..., Workspace]) -> None:
    from rich.console import Console

    from assay.conclude import make_report
    from assay.publish import markdown, page
    from assay.publish.terminal import verdict_view

    space = configured()
    fix(space)
    run_all(space)
    judged, plan, told = before_the_gate(configured(policy__min_seeds=5), present=True)
    assert (told.state, told.changed) == ("changed after the results", ("policy.min_seeds 2 -> 5",))
    verdict = judge(judged, plan, standing=told)
    assert verdict.candidates["more_web"].decision == "INCONCLUSIVE"
    plain = verdict.to_mapping()
    assert plain["registration"]["state"] == "changed after the results"
    assert plain["candidates"]["more_web"]["registration"]["changed"] == ["policy.min_seeds 2 -> 5"]
    report = make_report(judged, plan, verdict)
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
def test_what_differs_is_named_by_its_key(
    configured: Callable[..., Workspace], change: dict[str, Any], key: str
) -> None:
    fix(configured())
    assert any(one.startswith(key) for one in standing(configured(**change)).configured)


def test_results_by_the_registered_suite_are_found_when_another_is_configured(
    configured: Callable[..., Workspace],
) -> None:
    space = configured()
    fix(space)
    run_all(space)
    done = conclude(configured(suite__batch_size=4), configured(suite__batch_size=4).plan())
    assert done.verdict.candidates["more_web"].comparisons[0].n_seeds == 2
    assert json.loads(done.json.read_text())["registration"]["configured"] == ["suite.batch_size 8 -> 4"]


def test_before_any_result_another_rule_is_registered_in_its_place_and_the_old_one_kept(
    configured: Callable[..., Workspace],
) -> None:
    space = configured()
    fix(space)
    run_all(space, mixes=("base",))  # the baseline alone tells nothing of a candidate
    later = configured(policy__alpha=0.01)
    fix(later)
    assert [one.rules.policy.alpha for one in read(space.store, "tiny")] == [0.05, 0.01]
    assert standing(later).state == "pre-registered"
    assert standing(space).configured == ("policy.alpha 0.01 -> 0.05",)


def test_after_the_first_result_another_rule_takes_a_reason_and_the_verdict_keeps_it(
    configured: Callable[..., Workspace],
) -> None:
    space = configured()
    fix(space)
    finish(space, "no_books", 1)
    later = configured(policy__alpha=0.01)
    with pytest.raises(AssayError, match=r"policy\.alpha 0\.05 -> 0\.01") as refused:
        fix(later)
    assert "assay register --again REASON" in refused.value.fix
    assert len(read(space.store, "tiny")) == 1
    fix(later, "the board wants one percent")
    told = standing(later)
    assert told.state == "changed after the results"
    assert "the board wants one percent" in told.sentence
    fix(space, "five was right")
    assert standing(space).state == "pre-registered"


def test_a_reason_without_a_change_is_refused(configured: Callable[..., Workspace]) -> None:
    space = configured()
    fix(space)
    with pytest.raises(AssayError, match="nothing to change"):
        fix(space, "just so")


def test_a_sweep_whose_runs_were_all_there_is_registered_as_such(configured: Callable[..., Workspace]) -> None:
    space = configured()
    run_all(space)
    fix(space)
    told = standing(space)
    assert told.state == "registered after the results"
    assert "more_web s0, more_web s1, no_books s0, no_books s1" in told.sentence


def test_arms_and_seeds_that_come_later_are_registered_and_named(configured: Callable[..., Workspace]) -> None:
    first = configured(sweep__candidates=["no_books"])
    fix(first)
    finish(first, "no_books", 0)
    later = configured(sweep__seeds=[0, 1, 2])
    fix(later)
    told = standing(later)
    assert told.state == "pre-registered"
    assert told.added == ("more_web", "seed 2")
    assert "Added since: more_web, seed 2." in told.sentence


def test_a_held_out_split_that_comes_with_an_arm_is_no_other_rule(configured: Callable[..., Workspace]) -> None:
    two = {"weights": {"code": 0.5, "web": 0.5}}
    small = {"mix__base": two, "mix__more_web": {"weights": {"code": 0.2, "web": 0.8}}}
    first = configured(**small, sweep__candidates=["more_web"])
    fix(first)
    finish(first, "more_web", 0)
    with_books = {"weights": {"code": 0.4, "web": 0.4, "books": 0.2}}
    later = configured(**small, mix__no_books=with_books)
    assert set(later.evaluation.validation) - set(first.evaluation.validation) == {"books"}
    assert standing(later).configured == ()
    assert as_registered(later)[0].evaluation == first.evaluation  # the new arm has not been submitted
    fix(later)
    assert as_registered(later) == (later, standing(later))
    assert standing(later).added == ("no_books",)


def test_a_sweep_of_an_older_store_is_judged_as_it_is_configured(configured: Callable[..., Workspace]) -> None:
    space = configured()
    run_all(space)
    judged, plan, told = before_the_gate(space)
    assert judged is space
    assert told.state == "not pre-registered"
    assert judge(judged, plan, standing=told).candidates["more_web"].scope.endswith("; not pre-registered")


def test_text_that_was_moved_away_keeps_the_registered_suite(configured: Callable[..., Workspace]) -> None:
    space = configured()
    fix(space)
    run_all(space)
    gone = configured(source__code__files=["gone/*.jsonl"])
    judged, _, told = before_the_gate(gone)
    assert judged.evaluation == space.evaluation
    assert told.state == "pre-registered"


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"registrations": []}', '{"registrations": [{"at": 1}]}', '{"registrations": 3}']
)
def test_a_damaged_registration_is_refused_by_its_path(configured: Callable[..., Workspace], text: str) -> None:
    space = configured()
    fix(space)
    path = space.store.sweep("tiny") / "registered.json"
    path.write_text(text)
    with pytest.raises(AssayError, match="registered.json"):
        before_the_gate(space)


def test_a_name_alone_is_no_other_policy(configured: Callable[..., Workspace]) -> None:
    space = configured()
    fix(space)
    renamed = configured(policy__name="ours")
    judged, told = as_registered(renamed)
    assert judged is renamed
    assert told.configured == ()


def test_imported_results_are_not_pre_registered(tmp_path: Path, tiny_study: Callable[..., Study]) -> None:
    from assay.imports.judge import judge as judge_import
    from assay.store import Store
    from tests.studies import results

    table = tmp_path / "long.csv"
    results({"new": {"code": -0.05}}).to_csv(table, index=False)
    study = tiny_study()
    verdict, _ = judge_import(study, Store(tmp_path / "store"), name=str(table), baseline="base", candidate=None)
    assert verdict.candidates["new"].scope.endswith("; not pre-registered")
