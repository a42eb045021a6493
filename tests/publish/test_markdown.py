from __future__ import annotations

import pytest
import shown
from markdown_it import MarkdownIt
from markdown_it.token import Token
from test_figures import SHAPES

from assay.publish import markdown
from assay.publish.report import Report

HTML = {"<details>", "<summary>", "</summary>", "</details>", "<sub>", "</sub>"}
"""The only markup that is ours."""


@pytest.fixture(scope="module")
def report() -> Report:
    return shown.make()


def tokens(text: str) -> list[Token]:
    found = []
    for token in MarkdownIt("commonmark").enable("table").parse(text):
        found += [token, *(token.children or ())]
    return found


def cells(text: str) -> list[str]:
    found, parsed = [], tokens(text)
    for place, token in enumerate(parsed):
        if token.type in ("td_open", "th_open"):
            found.append(parsed[place + 1].content)
    return found


@pytest.mark.parametrize("shape", SHAPES)
def test_any_sweep_can_be_pasted_into_a_pull_request(shape: str) -> None:
    report = shown.make(**SHAPES[shape])
    text = markdown.render(report)
    assert text.startswith(f"## {report.decision}: `code_replace`")
    assert "nan" not in text.lower().replace("nano", "")


def test_verdict_reasons_and_every_voting_comparison_are_there(report: Report) -> None:
    text = markdown.render(report)
    plain = "\n".join(token.content for token in tokens(text) if token.type == "inline").replace("\\", "")
    assert report.verdict is not None
    for name, verdict in report.verdict.candidates.items():
        assert f"{verdict.decision}: `{name}`" in plain
        for sentence in (*verdict.reasons, *verdict.needed):
            assert sentence in plain
    voting = [c for c in report.comparisons if c.role != "monitor"]
    assert sum(cell in ("primary", "guardrail") for cell in cells(text)) == len(voting)
    assert "monitor" not in cells(text)


def test_runs_are_linked_by_fingerprint() -> None:
    report = shown.make()
    text = markdown.render(report, page="https://reports.example/code replace.html")
    links = {token.attrs.get("href") for token in tokens(text) if token.type == "link_open"}
    for run in report.runs:
        assert f"https://reports.example/code%20replace.html#run-{run.mix}-{run.seed}" in links
        assert run.short in text


def test_hostile_text_is_text() -> None:
    text = markdown.render(shown.make(hostile=True))
    for token in tokens(text):
        if token.type in ("html_inline", "html_block"):
            assert token.content.strip() in HTML or token.content.startswith("<details><summary>Runs")
    assert "window.hacked" in text


@pytest.mark.parametrize(
    "hostile",
    [
        "a|b",
        "`code`",
        "[x](javascript:alert(1))",
        "<b>x</b>",
        "**x**",
        "_x_",
        "&lt;b&gt;",
        "~~x~~",
        "\\",
        "![x](y)",
        "1. x",
    ],
)
def test_nothing_in_a_sentence_is_markup(hostile: str) -> None:
    parsed = tokens(markdown.escape(hostile))
    assert {token.type for token in parsed} <= {"paragraph_open", "paragraph_close", "inline", "text", "text_special"}
    assert "".join(token.content for token in parsed if token.type.startswith("text")) == hostile


@pytest.mark.parametrize("hostile", ["a|b", "a`b", "``", "<b>", "a\nb"])
def test_a_name_in_a_table_stays_in_its_cell(hostile: str) -> None:
    table = f"| a | b |\n| --- | --- |\n| {markdown.code(hostile)} | c |\n"
    assert len([token for token in tokens(table) if token.type == "td_open"]) == 2
    spans = [token.content for token in tokens(table) if token.type == "code_inline"]
    assert spans == [hostile.replace("\n", " ")]


def test_nobody_is_called_and_no_issue_is_mentioned() -> None:
    assert "@all" not in markdown.escape("@all")
    assert "#12" not in markdown.escape("see #12")
