"""A fixer restores the text without the defect, or leaves the document unchanged."""

from __future__ import annotations

import json.decoder
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from assay.audit.fixers import FixedText, strip_line_numbers

CODE = Path(json.decoder.__file__).read_text(encoding="utf-8").rstrip("\n")
LINES = CODE.split("\n")
NUMBERED = list(enumerate(LINES, 1))
WIDTH = len(str(len(LINES)))


@pytest.mark.parametrize(
    "extracted",
    [
        lambda: "\n".join(f"{n} {line}" for n, line in NUMBERED),
        lambda: "\n".join(f"{n}{line}" for n, line in NUMBERED),
        lambda: "\n".join(f"{n:>{WIDTH}} {line}" for n, line in NUMBERED),
        lambda: "\n".join(f"{n:>{WIDTH}}{line}" for n, line in NUMBERED),
        lambda: "\n".join(f"{n:0{WIDTH}}\t{line}" for n, line in NUMBERED),
        lambda: "\n".join(f"{n}: {line}" for n, line in NUMBERED),
        lambda: "\n".join(f"{n:>{WIDTH}}| {line}" for n, line in NUMBERED),
        lambda: "\n".join(f"{n} | {line}" for n, line in NUMBERED),
        lambda: "\n".join(f"{n:>{WIDTH}} \u2502 {line}" for n, line in NUMBERED),
        lambda: "\n".join(f"{n}\u00a0{line}" for n, line in NUMBERED),
        lambda: "".join(f"{n}\n" for n, _ in NUMBERED) + CODE,
        lambda: "".join(f"{n:>{WIDTH}}\n" for n, _ in NUMBERED) + CODE,
        lambda: " ".join(str(n) for n, _ in NUMBERED) + "\n" + CODE,
    ],
    ids=[
        "blank",
        "stuck",
        "aligned",
        "aligned and stuck",
        "zeros and tab",
        "colon",
        "bar",
        "bar apart",
        "drawn bar",
        "no-break space",
        "column",
        "aligned column",
        "row",
    ],
)
def test_removing_line_numbers_restores_the_code(extracted: Callable[[], str]) -> None:
    before = "A page about JSON.\n"
    fixed = strip_line_numbers(before + extracted())
    assert not fixed.unsure
    assert fixed.removed >= len(LINES) - 1
    assert [line.rstrip() for line in fixed.text.split("\n") if line.strip()] == [
        line.rstrip() for line in (before + CODE).split("\n") if line.strip()
    ]


@pytest.mark.parametrize("before", ["", "They met early. ", "They met early.\n"])
@pytest.mark.parametrize("after", ["They met late.", "They met late.\n" * 40])
def test_a_row_of_numbers_within_text_is_removed_with_its_blanks(before: str, after: str) -> None:
    row = " ".join(str(n) for n in range(1, 40))
    assert strip_line_numbers(f"{before}{row} {after}") == FixedText(before + after, 39, unsure=False)


@pytest.mark.parametrize(
    "form", ["| {n} | {line} |", "L{n}: {line}", "[{n}](#L{n}) {line}", "({n}) {line}", "{n} {line}\n\n\n"]
)
def test_a_document_with_marks_before_its_line_numbers_stays_unchanged_and_counts_as_unsure(form: str) -> None:
    text = "\n".join(form.format(n=n, line=line) for n, line in NUMBERED)
    assert strip_line_numbers(text) == FixedText(text, 0, unsure=True)


def test_numbers_within_the_code_that_continue_the_count_stay() -> None:
    code = [f"at({n}, {n + 1} );" if n % 9 else "f(x);" for n in range(1, 60)]
    assert strip_line_numbers("\n".join(f"{n} {line}" for n, line in enumerate(code, 1))).text == "\n".join(code)


def test_a_row_of_numbers_that_fills_a_line_is_removed_with_the_line() -> None:
    row = " ".join(str(n) for n in range(1, 40))
    assert strip_line_numbers(f"They met.\n{row} \nThey spoke.").text == "They met.\nThey spoke."


def test_line_numbers_within_a_line_become_line_ends() -> None:
    lines = [line.strip() for line in LINES if line.strip()]
    fixed = strip_line_numbers(" ".join(f"{n} {line}" for n, line in enumerate(lines, 1)))
    assert fixed.text.split("\n")[1:4] == [f"{line} " for line in lines[1:4]] or fixed.unsure


@pytest.mark.parametrize(
    "text",
    [
        "",
        CODE,
        "".join(f"{n}. Take a bowl, and stir it well.\n" for n in range(1, 40)),
        "".join(f"{n} And it came to pass in those days.\n" for n in range(1, 40)),
        "x = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14]\n",
        "\ud800 lone surrogate \x00 and nul",
    ],
    ids=["empty", "code", "list", "verses", "array", "hostile"],
)
def test_text_without_line_numbers_is_unchanged(text: str) -> None:
    assert strip_line_numbers(text) == (text, 0, False)


def test_text_around_a_code_block_is_unchanged() -> None:
    listing = textwrap.dedent("\n".join(f"{n:>{WIDTH}}  {line}" for n, line in NUMBERED))
    page = f"In 2024 there were 3 ways.\n{listing}\nSee chapter 12 and chapter 13.\n"
    fixed = strip_line_numbers(page)
    assert fixed.text.startswith("In 2024 there were 3 ways.\n")
    assert fixed.text.endswith("See chapter 12 and chapter 13.\n")
