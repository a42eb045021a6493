from __future__ import annotations

import pytest
from markdown_it import MarkdownIt
from markdown_it.token import Token

from assay.report import markdown
from assay.report.model import Report
from assay.report.reason_text import texts
from tests.report import page_data
from tests.report.plots.test_figures import SHAPES

HTML = {"<details>", "<summary>", "</summary>", "</details>", "<sub>", "</sub>"}
"""The only HTML that the renderer writes."""


@pytest.fixture(scope="module")
def report() -> Report:
    return page_data.make()


def tokens(text: str) -> list[Token]:
    parsed = []
    for token in MarkdownIt("commonmark").enable("table").parse(text):
        parsed += [token, *(token.children or ())]
    return parsed


def cells(text: str) -> list[str]:
    parsed = tokens(text)
    return [parsed[i + 1].content for i, token in enumerate(parsed) if token.type in ("td_open", "th_open")]


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_of_sweep_renders_without_nan(shape: str) -> None:
    report = page_data.make(**SHAPES[shape])
    text = markdown.render(report)
    assert text.startswith(f"## {report.decision}: `code_replace`")
    assert "nan" not in text.lower().replace("nano", "")


def test_the_report_contains_verdicts_reasons_and_voting_comparisons(report: Report) -> None:
    text = markdown.render(report)
    plain = "\n".join(token.content for token in tokens(text) if token.type == "inline").replace("\\", "")
    assert report.verdict is not None
    for name, verdict in report.verdict.candidates.items():
        assert f"{verdict.decision}: `{name}`" in plain
        for sentence in texts((*verdict.reasons, *verdict.needed)):
            assert sentence in plain
    voting = [c for c in report.comparisons if c.role != "monitor"]
    assert sum(cell in ("primary", "guardrail") for cell in cells(text)) == len(voting)
    assert "monitor" not in cells(text)


def test_runs_link_to_their_sections_of_the_page() -> None:
    report = page_data.make()
    text = markdown.render(report, page="https://reports.example/code replace.html")
    links = {token.attrs.get("href") for token in tokens(text) if token.type == "link_open"}
    for run in report.runs:
        assert f"https://reports.example/code%20replace.html#run-{run.mix}-{run.seed}" in links
        assert run.short in text


def test_hostile_text_is_escaped() -> None:
    text = markdown.render(page_data.make(hostile=True))
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
def test_escaped_text_contains_no_markup(hostile: str) -> None:
    parsed = tokens(markdown.escape(hostile))
    assert {token.type for token in parsed} <= {"paragraph_open", "paragraph_close", "inline", "text", "text_special"}
    assert "".join(token.content for token in parsed if token.type.startswith("text")) == hostile


@pytest.mark.parametrize("hostile", ["a|b", "a`b", "``", "<b>", "a\nb"])
def test_a_name_in_a_table_stays_in_its_cell(hostile: str) -> None:
    table = f"| a | b |\n| --- | --- |\n| {markdown.code(hostile)} | c |\n"
    assert len([token for token in tokens(table) if token.type == "td_open"]) == 2
    spans = [token.content for token in tokens(table) if token.type == "code_inline"]
    assert spans == [hostile.replace("\n", " ")]


def test_escaped_text_mentions_no_people_and_no_issues() -> None:
    assert "@all" not in markdown.escape("@all")
    assert "#12" not in markdown.escape("see #12")
