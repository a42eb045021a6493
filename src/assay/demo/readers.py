"""Read documents from archives: code, manuals, HTML pages, plays, a Bible and a fact book."""

from __future__ import annotations

import csv
import gzip
import hashlib
import html
import io
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from assay.demo import archives, pages
from assay.demo.packages import Package

Opened = tuple[Package, Path]
"""A package and the path of its downloaded file."""


@dataclass(frozen=True, kw_only=True)
class DemoDocument:
    """One document of a source."""

    text: str
    path: str
    """Path in the package, such as `Django-5.2/docs/intro/tutorial01.txt`. A part adds `#` and its name."""
    package: Package
    url: str | None = None
    original: str | None = None
    """The HTML page from which the text was extracted; None for other text."""


_EXCLUDED_CODE = re.compile(
    r"/(tests?|testing|test_[^/]*|migrations|benchmarks)/|/test_|/conftest"  # data as code, or many near-duplicates
    r"|/(externals?|extern|_vendor|_antlr)/|/conf/locale/|parsetab|lextab"  # other licenses, tables, generated code
)
_CODE_SIZE = range(1_000, 60_000)


def read_code(opened: Iterable[Opened], half: Literal["repository", "crawl"]) -> Iterator[DemoDocument]:
    """Yield the Python files of one of two disjoint halves.

    The hash of a file's path determines its half.
    """
    for package, archive in opened:
        for path, text in archives.read_texts(archive, "*.py"):
            in_crawl = hash_path(path)[0] % 2 == 1
            selected = in_crawl == (half == "crawl")
            if selected and len(text) in _CODE_SIZE and not _EXCLUDED_CODE.search(path):
                yield DemoDocument(text=text, path=path, package=package)


def render_and_extract(document: DemoDocument) -> DemoDocument:
    """Render code as a numbered HTML page and extract the page's text, like a crawl."""
    site = pages.SITES[hash_path(document.path)[1] % len(pages.SITES)]
    page = pages.render_listing(document.text, path=document.path, site=site)
    path = f"{document.path}.html"
    return replace(document, text=pages.extract_text(page), path=path, url=f"https://{site.host}/{path}", original=page)


_NOT_A_PAGE = re.compile(
    r"/(genindex|py-modindex|search|index)\.html$|/_modules/|/changelog|/changes-|/internals\.html"
)


def read_web(opened: Iterable[Opened], *patterns: str) -> Iterator[DemoDocument]:
    """Yield HTML documentation without indexes, listings and lists of changes."""
    for document in read_manual(opened, *patterns):
        if not _NOT_A_PAGE.search(document.path):
            yield document


def extract_page(document: DemoDocument) -> DemoDocument:
    """Extract the text of an HTML page, like a crawl."""
    return replace(document, text=pages.extract_text(document.text), original=document.text)


_MOSTLY_DIRECTIVES = 0.2


def read_manual(opened: Iterable[Opened], *patterns: str, without: str = r"(?!)") -> Iterator[DemoDocument]:
    """Yield documentation sources (reStructuredText, Markdown) without pages that mostly include other text."""
    excluded = re.compile(without)
    for package, archive in opened:
        for path, text in archives.read_texts(archive, *patterns):
            lines = [line for line in text.split("\n") if line.strip()]
            directives = sum(
                line.lstrip().startswith((".. auto", ":members:", ".. toctree", ".. include")) for line in lines
            )
            if lines and directives / len(lines) < _MOSTLY_DIRECTIVES and not excluded.search(path):
                yield DemoDocument(text=text, path=path, package=package)


_PASSAGE = 8_000


def read_books(opened: Iterable[Opened], *patterns: str) -> Iterator[DemoDocument]:
    """Yield passages of plain-text books: about 8,000 characters, split between paragraphs."""
    for package, archive in opened:
        for path, text in archives.read_texts(archive, *patterns):
            for number, passage in enumerate(_passages(text), 1):
                yield DemoDocument(text=passage, path=f"{path}#{number}", package=package)


def _passages(text: str) -> Iterator[str]:
    passage: list[str] = []
    for paragraph in re.split(r"\n\s*\n", text.strip()):
        passage.append(paragraph.strip("\n"))
        if sum(map(len, passage)) >= _PASSAGE:
            yield "\n\n".join(passage)
            passage = []
    if passage:
        yield "\n\n".join(passage)


def read_bible(opened: Iterable[Opened]) -> Iterator[DemoDocument]:
    """Yield the World English Bible by chapter, without verse numbers and notes.

    The text is in the public domain. The translators' notes are omitted.
    """
    for package, archive in opened:
        for path, content in archives.read_binaries(archive, "*/t_web.csv.gz"):
            rows = csv.reader(io.StringIO(gzip.decompress(content).decode("utf-8")))
            next(rows)  # skip the header
            chapters: dict[tuple[int, int], list[str]] = {}
            for _, book, chapter, _, verse in rows:
                chapters.setdefault((int(book), int(chapter)), []).append(re.sub(r"\s*\{[^{}]*\}", "", verse).strip())
            for (book_number, chapter_number), verses in sorted(chapters.items()):
                yield DemoDocument(
                    text=" ".join(verses),
                    path=f"{path}#{book_number}-{chapter_number}",
                    package=package,
                )


def read_factbook(opened: Iterable[Opened]) -> Iterator[DemoDocument]:
    """Yield the World Factbook by country and section.

    The text is a work of the United States government.
    """
    for package, archive in opened:
        for path, text in archives.read_texts(archive, "*/data/*.json"):
            country = json.loads(text)
            name = _country_name(country) or Path(path).stem.upper()
            for section, entries in country.items():
                lines = list(_entries(entries))
                if lines:
                    body = "\n".join(lines)
                    yield DemoDocument(text=f"{name}: {section}\n\n{body}", path=f"{path}#{section}", package=package)


def _country_name(country: dict[str, Any]) -> str:
    names = country.get("Government", {}).get("Country name", {})
    short = names.get("conventional short form", {}).get("text", "")
    full = names.get("conventional long form", {}).get("text", "")
    return _plain(full if short in {"", "none"} else short)


def _entries(value: dict[str, Any], label: str = "") -> Iterator[str]:
    for key, inner in value.items():
        if isinstance(inner, dict):
            yield from _entries(inner, f"{label}, {key.strip()}" if label else key.strip())
        elif isinstance(inner, str) and inner.strip():
            yield f"{label}: {_plain(inner)}" if label else _plain(inner)


def _plain(marked_up: str) -> str:
    spaced = re.sub(r"<(br|p|/p)\s*/?>", "\n", marked_up)
    return re.sub(r"\s*\n\s*", "\n", html.unescape(re.sub(r"<[^<>]+>", "", spaced))).strip()


def hash_path(path: str) -> bytes:
    """Hash a path for sampling, with the same result on all machines."""
    return hashlib.sha256(path.encode()).digest()
