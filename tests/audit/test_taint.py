"""A defect that was found follows everything that touched it, until it is repaired or somebody answers for it."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from assay.audit.impact import find_dependents
from assay.config.reason import Code
from assay.config.sources import Waiver
from assay.config.taint import TaintRule
from assay.core.errors import AssayError
from assay.plan.prepare import prepare_corpora
from assay.report.publish import conclude
from assay.report.reason_text import fix
from tests.audit.finding_files import put_finding
from tests.helpers.finished import finish
from tests.helpers.reasons import codes

if TYPE_CHECKING:
    from assay.audit.findings import Severity
    from assay.config.study import Study
    from assay.plan.workspace import Workspace


def space_of(study: Study) -> Workspace:
    from assay.plan.workspace import Workspace

    return Workspace(study)


@pytest.fixture
def tiny(tiny_study: Callable[..., Study]) -> Callable[..., Workspace]:
    """Makes a study whose tokenizer has nothing to do with `books`, which only `base` and `more_web` contain."""
    return lambda **overrides: space_of(tiny_study(tokenizer__sources=["code", "web"], **overrides))


def statuses(space: Workspace) -> dict[str, set[str]]:
    plan = space_of(space.study).planner.plan()
    return {mix: {run.status for run in plan.runs if run.mix == mix} for mix in plan.sweep.mixes}


def waived(space: Workspace, source: str, **fields: Any) -> Workspace:
    """The study with a waiver for a source."""
    waiver = Waiver(
        **{
            "detector": "line_number_gutter",
            "version": space.sources.digest(source)[:12],
            "by": "A. Person",
            "date": datetime.date(2026, 11, 23),
            "reason": "the ablation of the defect itself",
            **fields,
        }
    )
    study = space.study
    return space_of(
        replace(study, sources={**study.sources, source: replace(study.sources[source], waivers=(waiver,))})
    )


def test_nothing_is_trained_on_a_source_with_a_severe_defect_and_the_refusal_says_what_to_do(
    tiny: Callable[..., Workspace],
) -> None:
    space = tiny()
    put_finding(space, "books")
    assert statuses(space) == {"base": {"refused"}, "more_web": {"refused"}, "no_books": {"todo"}}
    [reason, *_] = space_of(space.study).planner.plan().runs[0].reasons
    assert (reason.code, reason.subject) == (Code.DEFECT, "books")
    assert (reason.figures["detector"], reason.figures["fraction"]) == ("line_number_gutter", 0.5)
    assert fix(reason)


@pytest.mark.parametrize(
    ("severity", "documents", "isolated", "rule"),
    [
        ("medium", 5, False, {}),
        ("high", 5, True, {}),
        ("high", 1, False, {"taint__fraction": 0.2}),
        ("high", 5, False, {"taint__severity": "never"}),
    ],
)
def test_what_is_milder_than_the_rule_stops_nothing(
    tiny: Callable[..., Workspace], severity: Severity, documents: int, isolated: bool, rule: dict[str, Any]
) -> None:
    space = tiny(**rule)
    put_finding(space, "books", severity=severity, documents=documents, isolated=isolated)
    assert statuses(space)["base"] == {"todo"}


def test_a_waiver_is_for_one_defect_in_one_version(tiny: Callable[..., Workspace]) -> None:
    space = tiny()
    put_finding(space, "books")
    assert statuses(waived(space, "books"))["base"] == {"todo"}
    assert statuses(waived(space, "books", detector="mojibake"))["base"] == {"refused"}
    assert statuses(waived(space, "books", version="0123456789ab"))["base"] == {"refused"}


@pytest.mark.parametrize("field", [{"version": "1234567"}, {"version": "not hex!"}, {"by": " "}, {"reason": ""}])
def test_a_waiver_without_a_name_a_reason_or_a_version_is_refused(field: dict[str, str]) -> None:
    given = {"detector": "x", "version": "0123456789ab", "by": "A", "reason": "B", **field}
    with pytest.raises(AssayError, match="waiver of x"):
        Waiver(**given, date=datetime.date(2026, 11, 23))


def test_what_has_to_be_stated_of_a_source_is_asked_for(tiny: Callable[..., Workspace]) -> None:
    space = tiny(taint__provenance=["origin", "processing"])
    assert statuses(space)["base"] == {"refused"}
    [reason, *_] = space.planner.plan().runs[0].reasons
    assert (reason.code, reason.figures["unstated"]) == (Code.SOURCE_UNSTATED, ("origin", "processing"))
    stated = {
        name: replace(source, origin="a dump", processing="resiliparse 0.15")
        for name, source in space.study.sources.items()
    }
    assert statuses(space_of(replace(space.study, sources=stated)))["base"] == {"todo"}


def test_a_share_that_is_none_is_refused() -> None:
    with pytest.raises(AssayError, match="`fraction` 5"):
        TaintRule(severity="high", fraction=5)


def test_a_finding_made_later_blocks_the_verdict_and_the_figures_stay(tiny: Callable[..., Workspace]) -> None:
    space = tiny(sweep__seeds=[0, 1, 2, 3])
    for mix in space.study.require_sweep().mixes:
        for seed in (0, 1, 2, 3):
            finish(space, mix, seed, bits={"code": -0.1} if mix == "more_web" else None)
    assert conclude(space, space.planner.plan()).verdict.candidates["more_web"].decision == "ACCEPT"
    put_finding(space, "books")
    space = space_of(space.study)
    plan = space.planner.plan()
    assert all(
        run.status == "reuse" and codes(run.taints) == [Code.DEFECT] for run in plan.runs if run.mix != "no_books"
    )
    verdict = conclude(space, plan).verdict
    judged = verdict.candidates["more_web"]
    assert (verdict.exit_code, judged.decision) == (4, "BLOCKED")
    assert judged.reasons[0].code is Code.DEFECT
    assert (judged.reasons[0].figures["detector"], judged.reasons[0].figures["fraction"]) == ("line_number_gutter", 0.5)
    assert judged.comparisons[0].effect == pytest.approx(-0.1, abs=0.01)
    # Its baseline touched the source, though it did not itself.
    assert verdict.candidates["no_books"].decision == "BLOCKED"
    assert conclude(waived(space, "books"), plan).verdict.candidates["more_web"].decision == "ACCEPT"


def test_everything_that_was_made_of_a_source_is_found(tiny: Callable[..., Workspace]) -> None:
    space = tiny()
    prepare_corpora(space.sources, space.mixes.sweep_sources)
    for seed in (0, 1):
        for mix in space.study.require_sweep().mixes:
            finish(space, mix, seed)
    all_of_it = find_dependents(space.store, "books")
    assert [corpus.digest for corpus in all_of_it.corpora] == [space.sources.digest("books")]
    assert {(run.mix, run.seed, run.state) for run in all_of_it.runs} == {
        (mix, seed, "done") for mix in ("base", "more_web") for seed in (0, 1)
    }
    assert all_of_it.runs[0].fraction == pytest.approx(0.2, abs=0.11)
    assert find_dependents(space.store, "books", {"0" * 64}).runs == ()
    assert find_dependents(space.store, "never_heard_of").corpora == ()


def test_half_written_records_hide_nothing_else(tiny: Callable[..., Workspace]) -> None:
    space = tiny()
    prepare_corpora(space.sources, space.mixes.sweep_sources)
    for seed in (0, 1):
        finish(space, "base", seed)
    (space.store.run(space.runs.spec("base", 0).fingerprint).path / "spec.json").write_text('{"mod')
    broken = space.store.corpora / "half"
    broken.mkdir()
    (broken / "manifest.json").write_text("{")
    sweep = Path(space.store.root / "sweeps/odd/submissions/x")
    sweep.mkdir(parents=True)
    (sweep / "submission.json").write_text("[]")
    assert [run.seed for run in find_dependents(space.store, "books").runs] == [1]
