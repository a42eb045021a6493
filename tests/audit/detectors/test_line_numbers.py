"""The detector reports line numbers of code in every extracted format, and no other ascending numbers."""

from __future__ import annotations

import re

import pytest

from assay.audit.detectors.gutter_rules import Rule
from assay.audit.detectors.line_numbers import find
from tests.audit.detectors import numbered_pages

CODE = [
    "#include <stdio.h>",
    "",
    "int total(const int *values, size_t n) {",
    "    int sum = 0;",
    "    for (size_t i = 0; i < n; i++) {",
    "        sum += values[i];",
    "    }",
    "",
    "    return sum;",
    "}",
    "",
    "/* the program */",
    "int main(void) {",
    '    printf("%d\\n", total((int[]){1, 2}, 2));',
    "    return 0;",
    "}",
] * 2
NUMBERS = range(1, len(CODE) + 1)
TEXT = "\n".join(CODE)

FORMS = {
    "a column": "\n".join(map(str, NUMBERS)) + "\n" + TEXT,
    "a column, right-aligned": "\n".join(f"{n:>4}" for n in NUMBERS) + "\n\n" + TEXT,
    "one line": " ".join(map(str, NUMBERS)) + "\n" + TEXT,
    "one line with the code": "page ? " + " ".join(map(str, NUMBERS)) + " " + " ".join(CODE),
    "tabs": "\t".join(map(str, NUMBERS)) + "\n" + TEXT,
    "no-break spaces": "\u00a0".join(map(str, NUMBERS)) + "\n" + TEXT,
    "nothing between": "".join(map(str, NUMBERS)) + TEXT,
    "before each line": "\n".join(f"{n} {line}" for n, line in zip(NUMBERS, CODE, strict=True)),
    "stuck to the line": "\n".join(f"{n}{line.strip()}" for n, line in zip(NUMBERS, CODE, strict=True)),
    "zero-padded": "\n".join(f"{n:03} {line}" for n, line in zip(NUMBERS, CODE, strict=True)),
    "with dots": "\n".join(f"{n}. {line}" for n, line in zip(NUMBERS, CODE, strict=True)),
    "with colons": "\n".join(f"{n}: {line}" for n, line in zip(NUMBERS, CODE, strict=True)),
    "with bars": "\n".join(f"{n:>2} | {line}" for n, line in zip(NUMBERS, CODE, strict=True)),
    "all in one line": " ".join(f"{n} {line.strip()}" for n, line in zip(NUMBERS, CODE, strict=True)),
    "blank lines dropped": "\n".join(f"{n}{line}" for n, line in zip(NUMBERS, CODE, strict=True) if line),
    "starting anywhere": "\n".join(f"{n + 4711} {line}" for n, line in zip(NUMBERS, CODE, strict=True)),
    "cells of a table": "\n".join(f"| {n} | {line} |" for n, line in zip(NUMBERS, CODE, strict=True)),
    "cells of a table, numbers bold": "\n".join(f"| **{n}** | {line} |" for n, line in zip(NUMBERS, CODE, strict=True)),
    "anchors": "\n".join(f"L{n}: {line}" for n, line in zip(NUMBERS, CODE, strict=True)),
    "links": "\n".join(f"[{n}](#L{n}) {line}" for n, line in zip(NUMBERS, CODE, strict=True)),
    "bold": "\n".join(f"**{n}** {line}" for n, line in zip(NUMBERS, CODE, strict=True)),
    "number signs": "\n".join(f"#{n} {line}" for n, line in zip(NUMBERS, CODE, strict=True)),
    "parentheses": "\n".join(f"({n}) {line}" for n, line in zip(NUMBERS, CODE, strict=True)),
    "angle brackets": "\n".join(f"<{n}> {line}" for n, line in zip(NUMBERS, CODE, strict=True)),
    "comments": "\n".join(f"/* {n:>3} */ {line}" for n, line in zip(NUMBERS, CODE, strict=True)),
    "the word line": "\n".join(f"line {n}: {line}" for n, line in zip(NUMBERS, CODE, strict=True)),
    "commas": "\n".join(f"{n}, {line}" for n, line in zip(NUMBERS, CODE, strict=True)),
    "hyphens": "\n".join(f"{n}- {line}" for n, line in zip(NUMBERS, CODE, strict=True)),
    **{
        f"digits of {script}": "\n".join(
            f"{str(n).translate(dict(zip(map(ord, '0123456789'), digits, strict=True)))} {line}"
            for n, line in zip(NUMBERS, CODE, strict=True)
        )
        for script, digits in {
            "Arabic": "\u0660\u0661\u0662\u0663\u0664\u0665\u0666\u0667\u0668\u0669",
            "Persian": "\u06f0\u06f1\u06f2\u06f3\u06f4\u06f5\u06f6\u06f7\u06f8\u06f9",
            "Hindi": "\u0966\u0967\u0968\u0969\u096a\u096b\u096c\u096d\u096e\u096f",
            "Tamil": "\u0be6\u0be7\u0be8\u0be9\u0bea\u0beb\u0bec\u0bed\u0bee\u0bef",
            "full width": "\uff10\uff11\uff12\uff13\uff14\uff15\uff16\uff17\uff18\uff19",
        }.items()
    },
    "blank lines between": "\n\n\n\n".join(f"{n} {line}" for n, line in zip(NUMBERS, CODE, strict=True)),
    "numbers and lines apart": "\n \n\n".join(f"{n}\n \n\n{line}" for n, line in zip(NUMBERS, CODE, strict=True)),
    "a stray number before": "5000\n" + "\n".join(map(str, NUMBERS)) + "\n" + TEXT,
}
WORDS = "Then he went up to the city and they spoke to him of many things that were to come"
HARMLESS = {
    "verses": "\n".join(f"{n} {WORDS}." for n in range(1, 40)),
    "verses in one paragraph": " ".join(f"{n} {WORDS}." for n in range(1, 40)),
    "verses, stuck": "\n".join(f"{n}{WORDS}." for n in range(1, 40)),
    "steps": "\n".join(f"{n}. Take the next bowl, and stir it well." for n in range(1, 30)),
    "a loop": "Run this:\nfor i in 1 2 3 4 5 6 7 8 9 10 11 12; do echo $i; done\n" + TEXT,
    "numactl": "available: 2 nodes\nnode 0 cpus: " + " ".join(map(str, range(64))) + "\nnode 0 size: 65442 MB\n" + TEXT,
    "an array": "int table[] = {" + ", ".join(map(str, range(100))) + "};\n" + TEXT,
    "a mapping": "names = {\n" + "".join(f"    {n}: 'name_{n}',\n" for n in range(1, 40)) + "}\n" + TEXT,
    "a table of numbers": "\n".join(f"{n} {n * n} {n**3}" for n in range(1, 60)),
    "a calendar": "     August\nMo Tu We Th Fr Sa Su\n"
    + "".join(f"{n:>3}" + "\n" * (n % 7 == 0) for n in range(1, 32)),
    "years": " ".join(map(str, range(1990, 2021))) + "\n" + TEXT,
    "a pager": " ".join(map(str, range(1, 16))) + " Next",
    "contents": "\n".join(f"{n} Introduction to part {n} ..... {10 * n}" for n in range(1, 20)),
    "footnotes": "\n".join(f"{n} See the author's letter of that year, page {n * 7}." for n in range(1, 20)),
    "psql": "\n".join(f" {n} | (16,{n}) | f | {{a{n},b{n}}}" for n in range(1, 30)),
    "characters": "\n".join(f"{n:03o}\t{n}\t{n:02x}\t{chr(n)}" for n in range(33, 127)),
    "a changelog": "\n".join(
        f"1.{n}.0 (2020-01-{n:02})\n * Fixed the bug #{1000 + n} in foo_bar()." for n in range(28, 0, -1)
    ),
    "keys of a table in Perl": "".join(f"    {n} => ['EO', $x{{{n}}}],\n" for n in range(4453, 4500)),
    "keys of a table in Python": "".join(f'    {n} : f("x", {{{n}}}),\n' for n in range(701, 760)),
    "rows with semicolons": "".join(f"{n};name;0.1;(x)\n" for n in range(1, 60)),
    "rows with commas": "".join(f"{n},name,0.1,f(x)\n" for n in range(1, 60)),
    "years, one a line": "\n".join(map(str, range(1900, 2026))),
    "functions in a table": "\n".join(f"| {n} | `f_{n}(x)` | returns [{n}] |" for n in range(1, 40)),
    "changes with numbers": "\n".join(f"#{3 * n} Fix `f_{n}()` in [core] (@ann)" for n in range(1, 40)),
    "equations": "\n".join(f"({n}) x_{n} = f(x_{n - 1}) + {n};" for n in range(1, 40)),
    "links to notes": "\n".join(f"[{n}](#note{n}) Ito, p. {n * 7} (see {n})." for n in range(1, 40)),
    "paragraphs with numbers": "\n\n\n".join(f"{n} {WORDS}." for n in range(1, 40)),
    "verses in Arabic digits": "".join(
        f"{chr(0x660 + n // 10)}{chr(0x660 + n % 10)} \u0648\u0642\u0627\u0644.\n" for n in range(1, 40)
    ),
    "values, one a line": "x = [\n" + "".join(f"    {n},\n" for n in range(1, 40)) + "]\n" + TEXT,
    "comments, one a line": "".join(f"\t\t/* {n} */\n" for n in range(503, 550)) + TEXT,
    "BASIC": "".join(f'{10 * n} PRINT "NUMBER ";X({n})\n' for n in range(1, 30)),
    "BASIC, part": "".join(f'{900 + n} DATA "A",50{n},37,3{n}\n' for n in range(20)),
    "footnotes with brackets": "".join(
        f"{n} See Ito ({1950 + n}), pp. {n}-{n + 9}; Cole [{n}].\n" for n in range(1, 40)
    ),
    "results of a race": "".join(f"{n} {'Ann Lee' if n % 3 else 'Ute'} (KEN) 9.{n} (+0.{n}) *\n" for n in range(1, 40)),
    "processes": "  PID TTY TIME CMD\n" + "".join(f"{n:>5} ?  00:00:{n} [worker/{n % 8}]\n" for n in range(1, 50)),
    "chapters of books": " ".join(
        f"{book} {' '.join(map(str, range(1, 50)))}" for book in ("Genesis", "Exodus", "Isaiah")
    ),
    "the days of a month in prose": f"{WORDS} {' '.join(map(str, range(1, 32)))} {WORDS}",
    "a loop over many numbers": f"{WORDS}: for i in {' '.join(map(str, range(1, 50)))}; do echo $i; done {WORDS}",
    "processors from 1": f"{WORDS} cpus: {' '.join(map(str, range(1, 128)))} {WORDS}",
    "nothing": "",
    "NULs": "\0" * 1000,
}


@pytest.mark.parametrize("form", FORMS)
def test_line_numbers_are_detected(form: str) -> None:
    assert find(FORMS[form].encode())


@pytest.mark.parametrize("text", HARMLESS)
def test_other_ascending_numbers_are_not_detected(text: str) -> None:
    assert find(HARMLESS[text].encode()) == []


def test_the_span_and_the_numbers_of_a_line_number_gutter_are_reported() -> None:
    text = "title\n" + FORMS["before each line"] + "\nthe end\n"
    [(start, stop, first, last, numbers, _)] = find(text.encode())
    assert (start, first, last, numbers) == (6, 1, len(CODE), len(CODE))
    assert text.encode()[start:stop].endswith(str(len(CODE)).encode())


def test_long_numbers_and_lines_take_bounded_time_and_memory() -> None:
    for text in (b"9" * 1_000_000, b"1 " * 500_000, b" " * 1_000_000 + b"1", b"1\n" * 300_000):
        assert find(text) == []


@pytest.mark.parametrize("form", numbered_pages.FORMS)
def test_short_code_of_any_language_is_detected_alone_and_within_prose(form: str) -> None:
    missed = [
        (language, first, before)
        for language, code in numbered_pages.LISTINGS.items()
        for first in numbered_pages.FIRST
        for before in ("", 3 * numbered_pages.PROSE)
        if not find(f"{before}{numbered_pages.FORMS[form](code, first)}\n{before}".encode())
    ]
    assert missed == []


@pytest.mark.parametrize("form", numbered_pages.ADDRESSES)
def test_hexadecimal_addresses_are_detected(form: str) -> None:
    assert find(numbered_pages.ADDRESSES[form].encode())


@pytest.mark.parametrize("text", numbered_pages.HARMLESS)
def test_text_that_resembles_line_numbers_is_not_detected(text: str) -> None:
    assert find(numbered_pages.HARMLESS[text].encode()) == []


def test_a_row_of_numbers_in_a_short_page_of_prose_is_detected() -> None:
    row = " ".join(map(str, range(1, 35)))
    [(_, _, first, last, count, _)] = find(f"{numbered_pages.PROSE}{row}\n{numbered_pages.PROSE}".encode())
    assert (first, last, count) == (1, 34, 34)


@pytest.mark.parametrize("last", [32, 34, 200, 3000])
@pytest.mark.parametrize(("before", "after"), [(WORDS, WORDS), (WORDS + ".\n" + WORDS, ""), (WORDS, ".\n" + WORDS)])
def test_a_row_of_numbers_within_a_line_of_prose_is_detected(last: int, before: str, after: str) -> None:
    row = " ".join(map(str, range(1, last + 1)))
    [gutter] = find(f"{before} {row} {after}".encode())
    assert (gutter.first, gutter.last, gutter.rule) == (1, last, Rule.ROW_IN_TEXT)


@pytest.mark.parametrize("count", [20, 27, 31])
def test_a_row_of_numbers_behind_code_on_the_same_line_is_detected_except_for_days_of_a_month(count: int) -> None:
    row = " ".join(map(str, range(1, count + 1)))
    rules = [gutter.rule for gutter in find(f"{WORDS} {' '.join(TEXT.split())} {row} {WORDS}".encode())]
    assert rules == ([] if count == 31 else [Rule.ROW_AFTER_CODE])


@pytest.mark.parametrize("form", FORMS)
def test_the_span_of_marked_numbers_is_in_the_text(form: str) -> None:
    data = ("title\n" + FORMS[form] + "\nthe end\n").encode()
    for gutter in find(data):
        assert str(int(re.findall(r"\d+", data[: gutter.stop].decode())[-1])).endswith(str(gutter.last))
        assert data[gutter.start : gutter.stop].count(b"\n") < 8 * gutter.numbers


def test_records_with_one_form_do_not_hide_line_numbers_of_data_in_code() -> None:
    rows = [f"    {{0x{17 * n:02x}, {n}, f({n})}}," for n in range(40)]
    assert find("\n".join(f"{n} {row}" for n, row in enumerate(rows, 1)).encode())


def test_numbers_on_every_fifth_line_are_detected() -> None:
    lines = numbered_pages.LISTINGS["C"].split("\n") * 6
    numbered = [f"{n:>3} {line}" if n % 5 == 0 else f"    {line}" for n, line in enumerate(lines, 1)]
    assert find("\n".join(numbered).encode())


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        (FORMS["before each line"], Rule.CODE_BETWEEN),
        (FORMS["blank lines dropped"], Rule.CODE_BETWEEN),
        ("\n".join(f"{n} {line}" for n, line in enumerate([WORDS + " (x).", ""] * 8, 1)), Rule.BLANK_LINES_BETWEEN),
        ("\n".join(f"{n}: {line}" for n, line in enumerate(filter(None, CODE), 1)), Rule.INDENTED_LINES),
        (FORMS["a column"], Rule.COLUMN_BEFORE_CODE),
        ("\n".join(map(str, range(1, 41))) + "\n" + WORDS, Rule.LONG_COLUMN),
        ("\n".join(f"{n:>2}" for n in range(1, 20)) + "\n" + WORDS, Rule.ALIGNED_COLUMN),
        (FORMS["one line"], Rule.LONG_ROW),
        (" ".join(map(str, range(1, 16))) + "\n" + "\n".join(CODE[:15]), Rule.ROW_BEFORE_LISTING),
        (FORMS["one line with the code"], Rule.ROW_BEFORE_CODE),
        (FORMS["nothing between"], Rule.DIGITS_JOINED),
        (numbered_pages.ADDRESSES["hexdump"], Rule.HEXDUMP),
        (numbered_pages.ADDRESSES["disassembly"], Rule.DISASSEMBLY),
    ],
)
def test_a_hit_names_the_rule_that_fired(text: str, rule: Rule) -> None:
    assert [gutter.rule for gutter in find(text.encode())] == [rule]
