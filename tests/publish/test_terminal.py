from __future__ import annotations

import io
import re
from dataclasses import replace

import pytest
import shown
from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from assay.publish import terminal, words
from assay.publish.report import Report


@pytest.fixture(scope="module")
def report() -> Report:
    return shown.make()


def printed(view: object, width: int, *, terminal: bool = False) -> str:
    out = io.StringIO()
    Console(file=out, width=width, force_terminal=terminal, highlight=False).print(view)
    return out.getvalue()


@pytest.mark.parametrize("width", [80, 120, 200])
def test_it_fits_and_says_everything(report: Report, width: int) -> None:
    assert report.verdict is not None
    text = printed(terminal.verdict_view(report.verdict), width)
    assert max(cell_len(line) for line in text.splitlines()) <= width
    joined = re.sub(r"\s+", " ", text)
    for verdict in report.verdict.candidates.values():
        assert f"{verdict.decision} {verdict.candidate}" in joined
        for sentence in (*verdict.reasons, *verdict.needed, verdict.scope):
            assert sentence in joined
    assert "+0.0941" in joined
    assert "mmlu acc (no signal)" in joined


def test_no_escape_codes_when_piped(report: Report) -> None:
    assert report.verdict is not None
    assert "\x1b" not in printed(terminal.verdict_view(report.verdict), 80)
    assert "\x1b[" in printed(terminal.verdict_view(report.verdict), 80, terminal=True)


def test_more_room_shows_more(report: Report) -> None:
    view = terminal.comparisons_view(report.comparisons)
    narrow, wide = printed(view, 80), printed(view, 200)
    assert "1,000" not in narrow
    assert "worse → better" in wide
    assert "1,000" in wide
    for c in report.comparisons:
        assert f"{c.task} {c.metric}" in wide


@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_every_interval_has_a_chart_and_all_have_their_0_below_one_another(report: Report, width: int) -> None:
    lines = printed(terminal.comparisons_view(report.comparisons), width).splitlines()
    assert max(map(cell_len, lines)) <= width
    charts = [line for line in lines if "●" in line]
    assert len(charts) == len(report.comparisons)
    lines_at_0 = {place for line in charts for place, sign in enumerate(line) if sign in "│┼"}
    assert len(lines_at_0) == 1


@pytest.mark.parametrize("width", [60, 80, 120])
def test_every_role_and_figure_is_shown_however_narrow(report: Report, width: int) -> None:
    text = printed(terminal.comparisons_view(report.comparisons), width)
    for c in report.comparisons:
        assert c.role in text
        assert words.interval(c.metric, c.ci_low, c.ci_high) in text
        assert words.probability(c.p_adjusted) in text


def test_what_reaches_beyond_a_chart_ends_in_an_arrow(report: Report) -> None:
    """A few questions have intervals of 100 points; beside them every other would be a dot."""
    c = next(c for c in report.comparisons if c.better == "lower")
    line = terminal.chart(replace(c, effect=-0.01, ci_low=-0.5, ci_high=0.02), 0.1)
    assert line.endswith("▸")
    assert not line.startswith("◂")
    several = [replace(c, effect=0.0, ci_low=-size, ci_high=size) for size in (0.1, 0.1, 0.1, 50.0)]
    assert terminal._scales(several) == {terminal._scale_of(c): pytest.approx(0.4)}


def test_no_comparison_is_said() -> None:
    assert printed(terminal.comparisons_view([]), 80) == "nothing to compare yet\n"


def test_names_are_never_markup(report: Report) -> None:
    assert report.verdict is not None
    view = terminal._item("-", "[bold]x[/bold] [link=file:///etc/passwd]y[/link]")
    assert "[bold]x[/bold] [link=file:///etc/passwd]y[/link]" in printed(view, 200, terminal=True)
    hostile = shown.make(hostile=True)
    assert hostile.verdict is not None
    assert "window.hacked" in Text(printed(terminal.verdict_view(hostile.verdict, monitors=True), 200)).plain


def test_500_characters_wrap_and_none_is_lost() -> None:
    report = shown.make(rename={"cc_code_replace_cc": "c" * 500})
    assert report.verdict is not None
    text = printed(terminal.verdict_view(report.verdict), 80)
    assert max(map(len, text.splitlines())) <= 80
    assert "c" * 500 in re.sub(r"\s+", "", text)


def test_the_small_chart_has_better_to_the_right(report: Report) -> None:
    worse = next(c for c in report.comparisons if c.task == "validation/code_github" and c.effect > 0.05)
    line = terminal.chart(worse, abs(worse.ci_high))
    assert len(line) == terminal.CHART
    assert line.index("●") < terminal.CHART // 2  # more bits per byte is worse
