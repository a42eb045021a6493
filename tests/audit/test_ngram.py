"""An n-gram is looked up as words, with whatever space between them, in every document of a source."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from assay.audit.ngram import Count, count
from assay.sources import Source


@pytest.fixture
def source(tmp_path: Path) -> Source:
    texts = [
        "0 1 2 3 4 5 6",
        "  1\n  2\n  3\n\n\n  4\n  5\n",
        "1\t2\u00a03 4\r\n5",
        "11 2 3 4 55",
        "1, 2, 3, 4, 5",
        "x = 1 2 3 4 5; 1 2 3 4 5",
    ]
    path = tmp_path / "texts.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return Source(name="texts", files=(str(path),), domain="web", language="en", licence=None)


def looked_up(source: Source, text: str, *, exact: bool = False) -> Count:
    return count(source, text, exact=exact, progress=lambda _: None)


def test_words_are_found_with_any_space_between_and_whole(source: Source) -> None:
    found = looked_up(source, "1 2 3 4 5")
    assert (found.documents, found.of, found.occurrences) == (4, 6, 5)
    example = found.examples[1]
    (first, last), *_ = example.matches
    assert example.text[first:last].split() == ["1", "2", "3", "4", "5"]


def test_exact_looks_for_the_characters(source: Source) -> None:
    assert looked_up(source, "1 2 3 4 5", exact=True).documents == 3
    assert looked_up(source, "1, 2", exact=True).documents == 1


@pytest.mark.parametrize("text", [".*", "(", "1, 2,", "\\d", "é\ud7ff"])
def test_a_text_is_no_pattern(source: Source, text: str) -> None:
    assert looked_up(source, text).documents == (1 if text == "1, 2," else 0)
