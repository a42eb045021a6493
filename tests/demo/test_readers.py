"""Readers convert the members of archives to documents."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

from assay.demo import readers
from assay.demo.readers import Opened
from tests.demo.tiny_packages import archive, package


def opened(folder: Path, members: dict[str, bytes]) -> list[Opened]:
    content = archive(members)
    (folder / "tiny-1.0.tar.gz").write_bytes(content)
    return [(package(content), folder / "tiny-1.0.tar.gz")]


def test_the_two_halves_of_code_are_disjoint_and_complete(tmp_path: Path) -> None:
    body = b"x = 1\n" * 400
    names = {f"tiny-1.0/pkg/m{number}.py" for number in range(40)}
    tiny = opened(tmp_path, dict.fromkeys(names, body))
    repository = {each.path for each in readers.read_code(tiny, "repository")}
    crawl = {each.path for each in readers.read_code(tiny, "crawl")}
    assert repository | crawl == names
    assert not repository & crawl
    assert min(len(repository), len(crawl)) > 10


def test_tests_and_code_under_other_licenses_are_omitted(tmp_path: Path) -> None:
    body = b"x = 1\n" * 400
    kept = "tiny-1.0/pkg/core.py"
    excluded = [
        "pkg/externals/six.py",
        "pkg/extern/ply.py",
        "pkg/tests/test_core.py",
        "pkg/_antlr/parser.py",
        "pkg/migrations/1.py",
    ]
    tiny = opened(tmp_path, {kept: body} | {f"tiny-1.0/{name}": body for name in excluded})
    documents = [*readers.read_code(tiny, "repository"), *readers.read_code(tiny, "crawl")]
    assert [each.path for each in documents] == [kept]


def test_a_manual_omits_pages_that_mostly_include_other_text(tmp_path: Path) -> None:
    prose = b"Title\n=====\n\n" + b"A sentence that explains something.\n" * 20
    stub = b"API\n===\n\n.. automodule:: tiny.core\n   :members:\n"
    tiny = opened(
        tmp_path, {"tiny-1.0/docs/a.rst": prose, "tiny-1.0/docs/api.rst": stub, "tiny-1.0/docs/releases/1.rst": prose}
    )
    assert [each.path for each in readers.read_manual(tiny, "docs/*.rst", without="/releases/")] == [
        "tiny-1.0/docs/a.rst"
    ]


def test_books_are_split_between_paragraphs_without_loss(tmp_path: Path) -> None:
    paragraphs = [f"Paragraph {number}. " + "Words and more words." * 40 for number in range(50)]
    tiny = opened(tmp_path, {"tiny-1.0/books/b.txt": "\n\n".join(paragraphs).encode()})
    passages = [each.text for each in readers.read_books(tiny, "books/*.txt")]
    assert len(passages) > 3
    assert "\n\n".join(passages).split("\n\n") == paragraphs


def test_the_bible_has_neither_verse_numbers_nor_translators_notes(tmp_path: Path) -> None:
    verses = b'field,field,field,field,field\n"1","1","1","1","In the beginning{A note.} God."\n"2","1","1","2","And then."\n'
    tiny = opened(tmp_path, {"tiny-1.0/data/t_web.csv.gz": gzip.compress(verses)})
    assert [each.text for each in readers.read_bible(tiny)] == ["In the beginning God. And then."]


def test_a_fact_books_markup_becomes_plain_text(tmp_path: Path) -> None:
    country = {
        "Geography": {"Area": {"total": {"text": "<strong>land:</strong> 5 &lt; 6<br><br>water: 1"}}},
        "Government": {"Country name": {"conventional short form": {"text": "Ruritania"}}},
    }
    tiny = opened(tmp_path, {"tiny-1.0/src/data/ru.json": json.dumps(country).encode()})
    first = next(iter(readers.read_factbook(tiny)))
    assert first.text == "Ruritania: Geography\n\nArea, total: land: 5 < 6\nwater: 1"
