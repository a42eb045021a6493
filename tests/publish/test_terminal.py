from __future__ import annotations

import io
import re

import pytest
import shown
from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from assay.publish import terminal
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
    assert "better" not in narrow
    assert "worse → better" in wide
    assert "1,000" in wide
    for c in report.comparisons:
        assert f"{c.task} {c.metric}" in wide


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
