"""An n-gram is counted as words with any white space between them, in every document of a source."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from assay.audit.explore.ngram_count import NgramCount, count
from assay.config.sources import Source


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
    return Source(name="texts", files=(str(path),), domain="web", language="en", license=None)


def count_in(source: Source, text: str, *, exact: bool = False) -> NgramCount:
    return count(source, text, exact=exact, progress=lambda _: None)


def test_whole_words_match_with_any_space_between(source: Source) -> None:
    counted = count_in(source, "1 2 3 4 5")
    assert (counted.documents, counted.of, counted.occurrences) == (4, 6, 5)
    example = counted.examples[1]
    (first, last), *_ = example.matches
    assert example.text[first:last].split() == ["1", "2", "3", "4", "5"]


def test_exact_matches_the_characters(source: Source) -> None:
    assert count_in(source, "1 2 3 4 5", exact=True).documents == 3
    assert count_in(source, "1, 2", exact=True).documents == 1


@pytest.mark.parametrize("text", [".*", "(", "1, 2,", "\\d", "é\ud7ff"])
def test_the_text_is_not_a_regular_expression(source: Source, text: str) -> None:
    assert count_in(source, text).documents == (1 if text == "1, 2," else 0)
