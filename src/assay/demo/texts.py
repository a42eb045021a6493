"""Seven sources of real text, each made whole from pinned packages, or not at all."""

from __future__ import annotations

import gzip
import hashlib
import json
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path, PurePosixPath
from typing import Any

from assay.demo import packages as pinned
from assay.demo import readers
from assay.demo.fetch import Progress, fetch_all
from assay.demo.packages import Package
from assay.demo.readers import Document, Opened
from assay.errors import AssayError
from assay.files import exclusive, read_json, replacing, write_json

FORMAT = 1
"""Raised by whoever changes what a recipe makes of the same packages, so that made sources are made again."""

MANIFEST = "manifest.json"
_LENGTH = range(200, 100_000)
"""Characters of a document: neither a stub, nor so long that a handful of pages makes a source."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a source is made."""

    name: str
    packages: tuple[Package, ...]
    read: Callable[[tuple[Opened, ...]], Iterator[Document]]
    finish: Callable[[Document], Document] = lambda document: document
    """What is done to each document that is chosen; for work too slow to do to all."""
    size: int = 4_000_000
    """Bytes of text at which to stop."""
    tools: tuple[str, ...] = ()
    """Libraries that the text depends on."""

    @property
    def identity(self) -> dict[str, Any]:
        """Everything that decides the source's bytes."""
        return {
            "format": FORMAT,
            "source": self.name,
            "size": self.size,
            "packages": {package.file: package.sha256 for package in self.packages},
            "tools": {tool: version(tool) for tool in self.tools},
        }


_CODE = (pinned.ASTROPY, pinned.DJANGO, pinned.SCIKIT_LEARN, pinned.SYMPY)


def _books(opened: tuple[Opened, ...]) -> Iterator[Document]:
    plays_and_poems = (
        "shksprdata/texts/*_gut.txt",
        "miltondata/texts/areopagitica_gut.txt",
        "miltondata/texts/paradise_*_gut.txt",
    )
    yield from readers.books(opened, *plays_and_poems)
    yield from readers.bible(opened)


RECIPES = (
    Recipe(
        name="code_github",
        packages=_CODE,
        read=lambda opened: readers.code(opened, "repository"),
    ),
    Recipe(
        name="code_cc",
        packages=_CODE,
        read=lambda opened: readers.code(opened, "crawl"),
        finish=readers.listed,
        tools=("pygments", "resiliparse"),
    ),
    Recipe(
        name="web_cc",
        packages=(pinned.LXML, pinned.MAKO, pinned.SQLALCHEMY),
        read=lambda opened: readers.web(opened, "doc/*.html"),
        finish=readers.extracted,
        tools=("resiliparse",),
    ),
    Recipe(
        name="docs",
        packages=(pinned.DJANGO,),
        read=lambda opened: readers.manual(opened, "docs/*.txt", without="/docs/(releases|man)/"),
    ),
    Recipe(
        name="encyclopedia",
        packages=(pinned.FACTBOOK,),
        read=readers.factbook,
    ),
    Recipe(
        name="books",
        packages=(pinned.SHAKESPEARE, pinned.WORLD_BIBLE),
        read=_books,
    ),
    Recipe(
        name="science",
        packages=(pinned.ASTROPY, pinned.SCIKIT_LEARN, pinned.SYMPY),
        read=lambda opened: readers.manual(
            opened,
            "doc/src/*.rst",
            "doc/src/*.md",
            "doc/modules/*.rst",
            "docs/*.rst",
            without="/(changes|whatsnew|_templates)/",
        ),
    ),
)


def make_texts(data: Path, *, progress: Progress | None = None) -> dict[str, Path]:
    """Make the demonstration's sources under a folder: `text/<source>/` and `original/<source>/`.

    What is there already is left alone; a source that was cut off while it was made is made again from its
    beginning. The same bytes come out on every machine and Python.

    Args:
        data: the folder; packages are kept in its `packages/`.
        progress: told what is being done, and the share that is done, from 0 to 1.

    Returns:
        The folder of each source by name; in it, `*.jsonl.gz` with one document a line, and `manifest.json`.

    Raises:
        AssayError: a package cannot be fetched, or the disk is full.
    """
    report = progress or (lambda _what, _share: None)
    todo = [recipe for recipe in RECIPES if not is_made(data, recipe)]
    needed = {package.name: package for recipe in todo for package in recipe.packages}
    files = fetch_all(
        needed.values(), data / "packages", progress=lambda what, share: report(f"fetching {what}", share / 2)
    )
    for number, recipe in enumerate(todo):
        report(f"making {recipe.name}", 0.5 + number / len(todo) / 2)
        with exclusive(data / "text" / f".{recipe.name}.lock", wait=True):
            if not is_made(data, recipe):  # another process may have made it meanwhile
                _make(data, recipe, tuple((package, files[package.name]) for package in recipe.packages))
    report("text is ready", 1.0)
    return {recipe.name: data / "text" / recipe.name for recipe in RECIPES}


def is_made(data: Path, recipe: Recipe) -> bool:
    """Whether the source is there, whole, and made by this recipe from these packages."""
    folder = data / "text" / recipe.name
    if not (folder / MANIFEST).exists():
        return False
    manifest = read_json(folder / MANIFEST)
    if manifest["recipe"] != recipe.identity:
        return False
    originals = data / "original" / recipe.name
    return (manifest["originals"] == 0 or originals.is_dir()) and all(
        (folder / name).exists() and hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest
        for name, digest in manifest["files"].items()
    )


def _make(data: Path, recipe: Recipe, opened: tuple[Opened, ...]) -> None:
    text, original = data / "text" / recipe.name, data / "original" / recipe.name
    _sweep(text)
    _sweep(original)
    # Originals take their place first: a folder of text with its manifest says that both are whole.
    with replacing(text) as text_folder, replacing(original) as original_folder:
        text_folder.mkdir()
        original_folder.mkdir()
        name = "part-00000.jsonl.gz"
        counts = _write(_selection(recipe, opened), text_folder / name, original_folder)
        digest = hashlib.sha256((text_folder / name).read_bytes()).hexdigest()
        write_json(text_folder / MANIFEST, {"recipe": recipe.identity, "files": {name: digest}} | counts)
    if not any(original.iterdir()):
        original.rmdir()


def _sweep(folder: Path) -> None:
    """Take away what a killed process left half made."""
    for leftover in folder.parent.glob(f".{folder.name}.*.tmp"):
        shutil.rmtree(leftover)


def _selection(recipe: Recipe, opened: tuple[Opened, ...]) -> Iterator[Document]:
    """Documents in an order that mixes the packages, each text once, up to the recipe's size."""
    size = 0
    seen = set()
    for raw in sorted(recipe.read(opened), key=lambda each: readers.digest(each.path)):
        document = recipe.finish(raw)
        text = document.text.strip()
        if len(text) not in _LENGTH or text in seen:
            continue
        seen.add(text)
        yield replace(document, text=text)
        size += len(text.encode())
        if size >= recipe.size:
            return


def _write(documents: Iterable[Document], file: Path, originals: Path) -> dict[str, Any]:
    count, size, pages = 0, 0, 0
    content = hashlib.sha256()
    # No time and no name in the header, so that the same text is the same file.
    with file.open("wb") as raw, gzip.GzipFile(filename="", fileobj=raw, mode="wb", mtime=0, compresslevel=6) as packed:
        for document in documents:
            if document.original is not None:
                _put(originals, document.path, document.original)
                pages += 1
            line = json.dumps(_record(document), ensure_ascii=False).encode() + b"\n"
            packed.write(line)
            content.update(line)
            count += 1
            size += len(document.text.encode())
    return {"documents": count, "text_bytes": size, "originals": pages, "content_sha256": content.hexdigest()}


def _record(document: Document) -> dict[str, str]:
    record = {"id": readers.digest(document.path).hex()[:16], "path": document.path}
    if document.url is not None:
        record["url"] = document.url
    if document.original is not None:
        record["original"] = document.path
    return record | {
        "package": f"{document.package.name} {document.package.version}",
        "snapshot": document.package.released.isoformat(),
        "licence": document.package.licence,
        "text": document.text,
    }


def _put(folder: Path, path: str, page: str) -> None:
    inside = PurePosixPath(path)
    if inside.is_absolute() or ".." in inside.parts:
        raise AssayError(
            f"{path!r}: a name in an archive that leads out of its folder.",
            fix="Report it: the pinned package changed.",
        )
    target = folder / inside
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(page, encoding="utf-8")
