"""Create seven sources of real text from pinned packages. A source appears only when complete."""

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

from assay.core.errors import Damaged
from assay.core.files import exclusive, read_json, replacing, write_json
from assay.demo import packages as pinned
from assay.demo import readers
from assay.demo.fetch import Progress, fetch_all
from assay.demo.packages import Package
from assay.demo.readers import DemoDocument, Opened

FORMAT = 1
"""Version of the recipes. Raise it when the same packages would give different sources."""

MANIFEST = "manifest.json"
_LENGTH = range(200, 100_000)
"""Minimum and maximum number of characters of a document. A few longer documents would fill a source."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """The packages of a source, and the functions that read them."""

    name: str
    packages: tuple[Package, ...]
    read: Callable[[tuple[Opened, ...]], Iterator[DemoDocument]]
    finish: Callable[[DemoDocument], DemoDocument] = lambda document: document
    """Function that is applied to each selected document, for work that is too slow for all documents."""
    size: int = 4_000_000
    """Size of the text in bytes after which the source is complete."""
    tools: tuple[str, ...] = ()
    """Libraries that determine the text."""

    @property
    def identity(self) -> dict[str, Any]:
        """All inputs that determine the bytes of the source."""
        return {
            "format": FORMAT,
            "source": self.name,
            "size": self.size,
            "packages": {package.file: package.sha256 for package in self.packages},
            "tools": {tool: version(tool) for tool in self.tools},
        }


_CODE = (pinned.ASTROPY, pinned.DJANGO, pinned.SCIKIT_LEARN, pinned.SYMPY)


def _books(opened: tuple[Opened, ...]) -> Iterator[DemoDocument]:
    plays_and_poems = (
        "shksprdata/texts/*_gut.txt",
        "miltondata/texts/areopagitica_gut.txt",
        "miltondata/texts/paradise_*_gut.txt",
    )
    yield from readers.read_books(opened, *plays_and_poems)
    yield from readers.read_bible(opened)


RECIPES = (
    Recipe(
        name="code_github",
        packages=_CODE,
        read=lambda opened: readers.read_code(opened, "repository"),
    ),
    Recipe(
        name="code_cc",
        packages=_CODE,
        read=lambda opened: readers.read_code(opened, "crawl"),
        finish=readers.render_and_extract,
        tools=("pygments", "resiliparse"),
    ),
    Recipe(
        name="web_cc",
        packages=(pinned.LXML, pinned.MAKO, pinned.SQLALCHEMY),
        read=lambda opened: readers.read_web(opened, "doc/*.html"),
        finish=readers.extract_page,
        tools=("resiliparse",),
    ),
    Recipe(
        name="docs",
        packages=(pinned.DJANGO,),
        read=lambda opened: readers.read_manual(opened, "docs/*.txt", without="/docs/(releases|man)/"),
    ),
    Recipe(
        name="encyclopedia",
        packages=(pinned.FACTBOOK,),
        read=readers.read_factbook,
    ),
    Recipe(
        name="books",
        packages=(pinned.SHAKESPEARE, pinned.WORLD_BIBLE),
        read=_books,
    ),
    Recipe(
        name="science",
        packages=(pinned.ASTROPY, pinned.SCIKIT_LEARN, pinned.SYMPY),
        read=lambda opened: readers.read_manual(
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
    """Create the demonstration's sources as `text/<source>/` and `original/<source>/`.

    Existing sources are kept. An interrupted source starts again from its beginning. The bytes are the same on all
    machines and Python versions.

    Args:
        data: folder of the sources. Its subfolder `packages/` has the downloaded packages.
        progress: called with the current activity and the completed fraction, from 0 to 1.

    Returns:
        The folder of each source by name, with `*.jsonl.gz` (one document per line) and `manifest.json`.

    Raises:
        AssayError: a package cannot be downloaded, or the disk is full.
    """
    report = progress or (lambda _what, _fraction: None)
    todo = [recipe for recipe in RECIPES if not is_made(data, recipe)]
    needed = {package.name: package for recipe in todo for package in recipe.packages}
    files = fetch_all(
        needed.values(), data / "packages", progress=lambda what, done: report(f"fetching {what}", done / 2)
    )
    for number, recipe in enumerate(todo):
        report(f"making {recipe.name}", 0.5 + number / len(todo) / 2)
        with exclusive(data / "text" / f".{recipe.name}.lock", wait=True):
            if not is_made(data, recipe):  # another process may have made the source
                _make(data, recipe, tuple((package, files[package.name]) for package in recipe.packages))
    report("text is ready", 1.0)
    return {recipe.name: data / "text" / recipe.name for recipe in RECIPES}


def is_made(data: Path, recipe: Recipe) -> bool:
    """Return whether a complete source of this recipe and these packages exists."""
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
    _remove_leftovers(text)
    _remove_leftovers(original)
    # Originals appear first, so that the manifest in the text folder implies that text and originals are complete.
    with replacing(text) as text_folder, replacing(original) as original_folder:
        text_folder.mkdir()
        original_folder.mkdir()
        name = "part-00000.jsonl.gz"
        counts = _write(_selection(recipe, opened), text_folder / name, original_folder)
        digest = hashlib.sha256((text_folder / name).read_bytes()).hexdigest()
        write_json(text_folder / MANIFEST, {"recipe": recipe.identity, "files": {name: digest}} | counts)
    if not any(original.iterdir()):
        original.rmdir()


def _remove_leftovers(folder: Path) -> None:
    """Remove the temporary files of killed processes."""
    for leftover in folder.parent.glob(f".{folder.name}.*.tmp"):
        shutil.rmtree(leftover)


def _selection(recipe: Recipe, opened: tuple[Opened, ...]) -> Iterator[DemoDocument]:
    """Yield distinct documents up to the recipe's size, in an order that mixes the packages."""
    size = 0
    seen = set()
    for raw in sorted(recipe.read(opened), key=lambda each: readers.hash_path(each.path)):
        document = recipe.finish(raw)
        text = document.text.strip()
        if len(text) not in _LENGTH or text in seen:
            continue
        seen.add(text)
        yield replace(document, text=text)
        size += len(text.encode())
        if size >= recipe.size:
            return


def _write(documents: Iterable[DemoDocument], file: Path, originals: Path) -> dict[str, Any]:
    count, size, pages = 0, 0, 0
    content = hashlib.sha256()
    # The header has no time and no name, so that equal text gives equal files.
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


def _record(document: DemoDocument) -> dict[str, str]:
    record = {"id": readers.hash_path(document.path).hex()[:16], "path": document.path}
    if document.url is not None:
        record["url"] = document.url
    if document.original is not None:
        record["original"] = document.path
    return record | {
        "package": f"{document.package.name} {document.package.version}",
        "snapshot": document.package.released.isoformat(),
        "license": document.package.license,
        "text": document.text,
    }


def _put(folder: Path, path: str, page: str) -> None:
    inside = PurePosixPath(path)
    if inside.is_absolute() or ".." in inside.parts:
        raise Damaged(
            f"{path!r}: the name leads out of the archive's folder.",
            fix="Report this error: the pinned package changed.",
        )
    target = folder / inside
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(page, encoding="utf-8")
