from __future__ import annotations

import io
import re
from dataclasses import replace

import pytest
from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from assay.report import formatting
from assay.report.model import Report
from assay.report.reason_text import scope_text, texts
from assay.report.terminal import verdict as terminal_verdict
from tests.report import page_data


@pytest.fixture(scope="module")
def report() -> Report:
    return page_data.make()


def printed(view: object, width: int, *, terminal: bool = False) -> str:
    out = io.StringIO()
    Console(file=out, width=width, force_terminal=terminal, highlight=False).print(view)
    return out.getvalue()


@pytest.mark.parametrize("width", [80, 120, 200])
def test_the_view_fits_the_width_and_contains_every_sentence(report: Report, width: int) -> None:
    assert report.verdict is not None
    text = printed(terminal_verdict.verdict_view(report.verdict), width)
    assert max(cell_len(line) for line in text.splitlines()) <= width
    joined = re.sub(r"\s+", " ", text)
    for verdict in report.verdict.candidates.values():
        assert f"{verdict.decision} {verdict.candidate}" in joined
        for sentence in (*texts((*verdict.reasons, *verdict.needed)), scope_text(verdict.scope)):
            assert sentence in joined
    assert "+0.0941" in joined
    assert "mmlu acc (no signal)" in joined


def test_piped_output_has_no_escape_codes(report: Report) -> None:
    assert report.verdict is not None
    assert "\x1b" not in printed(terminal_verdict.verdict_view(report.verdict), 80)
    assert "\x1b[" in printed(terminal_verdict.verdict_view(report.verdict), 80, terminal=True)


def test_a_wide_terminal_shows_more_columns(report: Report) -> None:
    view = terminal_verdict.comparisons_view(report.comparisons)
    narrow, wide = printed(view, 80), printed(view, 200)
    assert "1,000" not in narrow
    assert "worse → better" in wide
    assert "1,000" in wide
    for c in report.comparisons:
        assert f"{c.task} {c.metric}" in wide


@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_every_interval_has_a_chart_with_its_0_in_the_same_column(report: Report, width: int) -> None:
    lines = printed(terminal_verdict.comparisons_view(report.comparisons), width).splitlines()
    assert max(map(cell_len, lines)) <= width
    charts = [line for line in lines if "●" in line]
    assert len(charts) == len(report.comparisons)
    lines_at_0 = {place for line in charts for place, sign in enumerate(line) if sign in "│┼"}
    assert len(lines_at_0) == 1


@pytest.mark.parametrize("width", [60, 80, 120])
def test_a_narrow_terminal_shows_every_role_and_figure(report: Report, width: int) -> None:
    text = printed(terminal_verdict.comparisons_view(report.comparisons), width)
    for c in report.comparisons:
        assert c.role in text
        assert formatting.interval(c.metric, c.ci_low, c.ci_high) in text
        assert formatting.probability(c.p_adjusted) in text


def test_an_interval_that_leaves_the_chart_ends_in_an_arrow(report: Report) -> None:
    """Tasks with few items have intervals of 100 points, which would shrink all others to dots."""
    c = next(c for c in report.comparisons if c.better == "lower")
    line = terminal_verdict.chart(replace(c, effect=-0.01, ci_low=-0.5, ci_high=0.02), 0.1)
    assert line.endswith("▸")
    assert not line.startswith("◂")
    comparisons = [replace(c, effect=0.0, ci_low=-size, ci_high=size) for size in (0.1, 0.1, 0.1, 50.0)]
    assert terminal_verdict._scales(comparisons) == {terminal_verdict._scale_of(c): pytest.approx(0.4)}


def test_an_empty_table_is_replaced_by_a_message() -> None:
    assert printed(terminal_verdict.comparisons_view([]), 80) == "nothing to compare yet\n"


def test_names_are_not_interpreted_as_markup(report: Report) -> None:
    assert report.verdict is not None
    view = terminal_verdict._item("-", "[bold]x[/bold] [link=file:///etc/passwd]y[/link]")
    assert "[bold]x[/bold] [link=file:///etc/passwd]y[/link]" in printed(view, 200, terminal=True)
    hostile = page_data.make(hostile=True)
    assert hostile.verdict is not None
    assert "window.hacked" in Text(printed(terminal_verdict.verdict_view(hostile.verdict, monitors=True), 200)).plain


def test_a_name_of_500_characters_wraps_without_loss() -> None:
    report = page_data.make(rename={"cc_code_replace_cc": "c" * 500})
    assert report.verdict is not None
    text = printed(terminal_verdict.verdict_view(report.verdict), 80)
    assert max(map(len, text.splitlines())) <= 80
    assert "c" * 500 in re.sub(r"\s+", "", text)


def test_the_small_chart_shows_better_to_the_right(report: Report) -> None:
    worse = next(c for c in report.comparisons if c.task == "validation/code_github" and c.effect > 0.05)
    line = terminal_verdict.chart(worse, abs(worse.ci_high))
    assert len(line) == terminal_verdict.CHART
    assert line.index("●") < terminal_verdict.CHART // 2  # more bits per byte is worse
