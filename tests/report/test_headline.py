"""Headlines: which of several candidates were accepted, and whether runs are in progress."""

from __future__ import annotations

from dataclasses import replace
from io import StringIO
from typing import TYPE_CHECKING

import pytest
from rich.console import Console

from assay.analysis.gate import Decision
from assay.report import headline, markdown, page
from assay.report.publish import verdict_mapping
from assay.report.reason_text import text as text_of
from assay.report.terminal.verdict import verdict_view
from tests.report import page_data

if TYPE_CHECKING:
    from assay.analysis.gate import SweepVerdict
    from assay.report.model import Report


@pytest.fixture(scope="module")
def report() -> Report:
    return page_data.make(records=10)


def decided(report: Report, decisions: dict[str, Decision], running: tuple[str, ...] = ()) -> SweepVerdict:
    """Return the report's verdict with these decisions."""
    assert report.verdict is not None
    first = next(iter(report.verdict.candidates.values()))
    candidates = {name: replace(first, candidate=name, decision=decision) for name, decision in decisions.items()}
    return replace(report.verdict, candidates=candidates, running=running)


ACCEPT, REJECT, OPEN, BLOCKED = Decision.ACCEPT, Decision.REJECT, Decision.INCONCLUSIVE, Decision.BLOCKED


@pytest.mark.parametrize(
    ("decisions", "text"),
    [
        ({"docs": ACCEPT, "news": REJECT, "code": REJECT}, "1 of 3 accepted: docs; 2 rejected: news, code"),
        ({"docs": ACCEPT, "news": ACCEPT}, "2 of 2 accepted: docs, news"),
        ({"docs": OPEN, "news": BLOCKED}, "0 of 2 accepted; 1 blocked: news; 1 inconclusive: docs"),
        ({f"mix{i}": ACCEPT for i in range(5)}, "5 of 5 accepted: mix0, mix1, mix2 and 2 more"),
        ({"docs": ACCEPT}, ""),
    ],
)
def test_the_headline_of_several_candidates_names_them(
    report: Report, decisions: dict[str, Decision], text: str
) -> None:
    assert headline.candidates(decided(report, decisions)) == text


def shown(verdict: SweepVerdict) -> str:
    output = StringIO()
    Console(width=200, file=output).print(verdict_view(verdict))
    return output.getvalue()


def test_every_display_has_the_headline(report: Report) -> None:
    names = list(report.sweep.candidates)
    verdict = decided(report, {names[0]: ACCEPT, names[1]: REJECT})
    text = f"1 of 2 accepted: {names[0]}; 1 rejected: {names[1]}"
    assert f"x REJECT  {text}" in shown(verdict)
    assert verdict_mapping(report.plan, verdict)["headline"] == text
    ended = replace(report, verdict=verdict)
    assert f"**1 of 2 accepted: `{names[0]}`; 1 rejected: `{names[1]}`.**" in markdown.render(ended)
    assert f"<p>{text}.</p>" in page.render(ended)


def test_every_display_says_that_a_sweep_runs(report: Report) -> None:
    name = report.sweep.candidates[0]
    verdict = decided(report, {name: ACCEPT}, running=(f"{name} s1",))
    text = f"RUNNING: 1 run has no result yet: {name} s1. The verdict may change."
    assert text in " ".join(shown(verdict).split())
    assert "but 1 run of the sweep is in progress" in " ".join(shown(verdict).split())
    plain = verdict_mapping(report.plan, verdict)
    assert (plain["state"], plain["running"], plain["verdict"]) == ("RUNNING", [f"{name} s1"], "ACCEPT")
    running = replace(report, verdict=verdict)
    assert markdown.render(running).startswith("## RUNNING, ACCEPT so far: `")
    assert text in markdown.render(running)
    html = page.render(running)
    assert text in html
    assert "<title>RUNNING, ACCEPT so far: " in html


def test_an_ended_sweep_does_not_say_so(report: Report) -> None:
    verdict = decided(report, {report.sweep.candidates[0]: ACCEPT})
    assert verdict_mapping(report.plan, verdict)["state"] == "ENDED"
    ended = replace(report, verdict=verdict)
    assert "RUNNING" not in shown(verdict) + markdown.render(ended) + page.render(ended)


def test_the_summary_is_the_first_line_of_every_display(report: Report) -> None:
    names = list(report.sweep.candidates)
    verdict = decided(report, {names[0]: ACCEPT, names[1]: REJECT})
    ended, sentence = replace(report, verdict=verdict), text_of(verdict.summary)
    assert sentence.startswith(f"Of 2 candidates, 1 is accepted and 1 is rejected; {names[0]} against")
    assert " ".join(shown(verdict).split()).startswith(sentence)
    title, first, *_ = markdown.render(ended).split("\n\n")
    assert title.startswith("## REJECT")
    assert first == f"**{markdown.escape(sentence)}**"
    assert f'<strong id="summary">{sentence}</strong>' in page.render(ended)
    plain = verdict_mapping(report.plan, verdict)
    assert plain["summary"]["text"] == sentence
    for name, decision in plain["candidates"].items():
        assert decision["summary"]["text"].startswith(f"{name} against {verdict.baseline}: ")
        assert decision["summary"]["text"] in " ".join(shown(verdict).split())
