"""A listing's line numbers are found in whatever form an extractor leaves them; other numbers that count up are not."""

from __future__ import annotations

import pytest

from assay.audit.gutters import find
from tests.audit import listings

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
    "nothing": "",
    "NULs": "\0" * 1000,
}


@pytest.mark.parametrize("form", FORMS)
def test_a_gutter_is_found(form: str) -> None:
    assert find(FORMS[form].encode())


@pytest.mark.parametrize("text", HARMLESS)
def test_numbers_that_count_up_by_right_are_none(text: str) -> None:
    assert find(HARMLESS[text].encode()) == []


def test_where_it_is_and_what_it_counts() -> None:
    text = "title\n" + FORMS["before each line"] + "\nthe end\n"
    [(start, stop, first, last, numbers)] = find(text.encode())
    assert (start, first, last, numbers) == (6, 1, len(CODE), len(CODE))
    assert text.encode()[start:stop].endswith(str(len(CODE)).encode())


def test_a_hostile_number_or_line_takes_no_time_and_no_memory() -> None:
    for text in (b"9" * 1_000_000, b"1 " * 500_000, b" " * 1_000_000 + b"1", b"1\n" * 300_000):
        assert find(text) == []


@pytest.mark.parametrize("form", listings.FORMS)
def test_a_short_listing_of_any_language_is_found_alone_and_amid_prose(form: str) -> None:
    missed = [
        (language, first, before)
        for language, code in listings.LISTINGS.items()
        for first in listings.FIRST
        for before in ("", 3 * listings.PROSE)
        if not find(f"{before}{listings.FORMS[form](code, first)}\n{before}".encode())
    ]
    assert missed == []


@pytest.mark.parametrize("form", listings.ADDRESSES)
def test_hexadecimal_addresses_are_a_gutter_too(form: str) -> None:
    assert find(listings.ADDRESSES[form].encode())


@pytest.mark.parametrize("text", listings.HARMLESS)
def test_what_only_looks_like_a_gutter_is_none(text: str) -> None:
    assert find(listings.HARMLESS[text].encode()) == []


def test_a_row_of_numbers_alone_in_a_short_page_of_prose_is_found() -> None:
    row = " ".join(map(str, range(1, 35)))
    [(_, _, first, last, count)] = find(f"{listings.PROSE}{row}\n{listings.PROSE}".encode())
    assert (first, last, count) == (1, 34, 34)


def test_numbers_on_each_fifth_line_are_found() -> None:
    lines = listings.LISTINGS["C"].split("\n") * 6
    numbered = [f"{n:>3} {line}" if n % 5 == 0 else f"    {line}" for n, line in enumerate(lines, 1)]
    assert find("\n".join(numbered).encode())
