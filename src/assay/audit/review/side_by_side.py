"""Compare a document with its original: texts, differences, and matches of defects.

All content is untrusted. This module treats the content as plain text only: never as a path outside the folder of
originals, as a URL, or as markup.
"""

from __future__ import annotations

import contextlib
import difflib
import re
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Literal, NamedTuple, cast

from assay.audit.detectors.registry import BUILT_IN, Detector, Text
from assay.audit.detectors.registry import masked as mask_built_in
from assay.audit.findings import Example
from assay.audit.review.html_text import as_text, decoded, is_markup
from assay.audit.review.safe_text import Span, masked
from assay.config.sources import Source
from assay.core.errors import AssayError, NotFound
from assay.corpus.source_reader import ReadOptions, SourceDocument, documents, expand

MOST_ORIGINAL = 1_000_000
"""Maximum bytes of an original."""
MOST_SEARCHED = 2_000_000_000
"""Maximum stored bytes of a source in which a document is searched: 20 s on one core."""
MOST_SCANNED = 1_000_000
"""Characters of a document, from its beginning, that `detect_defects` scans."""
LINES, WIDTH = 1_500, 400
"""Maximum number of compared lines of a text, and of compared characters of a line."""

Masking = Callable[[str], str]
"""Function that masks the secrets of a text without changing its length."""


class DiffLine(NamedTuple):
    """A line of a comparison.

    Attributes:
        kind: `same`; `spaces` if only blanks differ; `gone` for lines of the original only; `new` for lines of the document
            only.
        text: line of the document, or of the original for `gone`.
    """

    kind: Literal["same", "spaces", "gone", "new"]
    text: str


@dataclass(frozen=True, kw_only=True)
class Original:
    """An original document, or the reason why it is unavailable."""

    name: str = ""
    """Path below the source's `originals`."""
    source: str = ""
    """The original's bytes, decoded."""
    text: str = ""
    """The text of the original; for HTML, without markup."""
    encoding: str = ""
    markup: bool = False
    """Whether the original is HTML."""
    bytes: int = 0
    """Decompressed bytes that were read."""
    whole: bool = True
    """Whether the whole original was read."""
    problem: str = ""
    """Reason why the original is unavailable; empty otherwise."""


@dataclass(frozen=True, kw_only=True)
class SideBySide:
    """A document aligned with its original."""

    document: SourceDocument
    original: Original
    matches: tuple[Span, ...] = ()
    """Matches of a finding, in characters of the document's text."""
    lines: tuple[DiffLine, ...] = ()
    """Line differences from the original to the document; empty without an original."""
    compared: bool = True
    """Whether both texts were compared completely."""
    counts: dict[str, int] = field(default_factory=dict)
    """Number of lines by kind."""


def align(source: Source, document: SourceDocument, marks: Sequence[Span] = (), *, mask: Masking) -> SideBySide:
    """Align a document with its original, with secrets masked in both.

    Args:
        source: source with `originals`, a local folder or a URL.
        document: document of the source.
        marks: matches of a defect in the document's text; see `detect_defects` and `matches`.
        mask: masks secrets; see `masking`.
    """
    original = read_original(source, document.original)
    original = replace(original, source=mask(original.source), text=mask(original.text))
    document = replace(document, text=mask(document.text))
    if original.problem:
        return SideBySide(document=document, original=original, matches=tuple(marks))
    lines, whole = differences(original.text, document.text)
    counts = {kind: sum(line.kind == kind for line in lines) for kind in ("same", "spaces", "gone", "new")}
    return SideBySide(
        document=document,
        original=original,
        matches=tuple(marks),
        lines=lines,
        compared=whole and original.whole,
        counts=counts,
    )


_KEY = re.compile(r"-----BEGIN [A-Z0-9 ]{0,30}PRIVATE KEY(?: BLOCK)?-----(?:(?!-----END).){0,8000}", re.DOTALL)
_CHUNK = 4_000
"""Number of characters that a detector scans at once. Detectors report only the first matches."""


def masking(source: Source, detectors: Sequence[Detector]) -> Masking:
    """Return the function that masks secrets in the texts of a source.

    Args:
        source: source of the texts.
        detectors: detectors of the audit; the project's secret detectors apply in addition to the built-in ones.
    """
    declared = [detector for detector in detectors if detector.secret and detector not in BUILT_IN]

    def spans(text: str) -> list[Span]:
        scanned = Text(text, source)
        hits = [hit for detector in declared if (hit := detector.detect(scanned)) is not None]
        return [_in_characters(scanned.data, span) for hit in hits for span in hit.spans or ((0, len(scanned.data)),)]

    def mask(text: str) -> str:
        text = mask_built_in(_KEY.sub(lambda match: match[0][:11] + "*" * (len(match[0]) - 11), text))
        return "".join(masked(chunk, spans) for chunk in _chunks(text)) if declared else text

    return mask


def _chunks(text: str) -> Iterator[str]:
    """Split a text into parts at blanks, where possible."""
    at = 0
    while at < len(text):
        blank = _BLANK.search(text, at + _CHUNK)
        stop = blank.end() if blank else len(text)
        yield text[at:stop]
        at = stop


_BLANK = re.compile(r"\s")


def _in_characters(data: bytes, span: Span) -> Span:
    start = len(data[: span[0]].decode(errors="ignore"))
    return start, start + len(data[span[0] : span[1]].decode(errors="ignore"))


def find(source: Source, identity: str, where: str | None = None, *, most: int = MOST_SEARCHED) -> SourceDocument:
    """Find a document by its id.

    Args:
        source: source of the document.
        identity: id of the document.
        where: file and line of the document, if known, to avoid a search. A wrong value is ignored.
        most: maximum stored bytes to search.

    Raises:
        AssayError: the document is not in the searched part, or the source cannot be read.
    """
    place = where if where is not None else identity
    file, _, line = place.rpartition(":")
    if not line.isdecimal() or len(line) > 12:
        file, line = place, "1"
    if file in expand(source):  # never read a path that only the request names
        look = ReadOptions.around(int(line), unread=_ignore_unread)
        with contextlib.suppress(NotFound):
            for document in documents(replace(source, files=(file,)), look=look):
                if document.id == identity and where in (None, document.where):
                    return document
    read = 0

    def count(size: int) -> None:
        nonlocal read
        read += size

    for document in documents(source, progress=count, look=ReadOptions(unread=_ignore_unread)):
        if document.id == identity:
            return document
        if read > most:
            raise NotFound(
                f"source {source.name!r}: no document {identity!r:.100} in the first {read:,} bytes.",
                fix="Give the file and line of the document, as findings and samples list them.",
            )
    raise NotFound(
        f"source {source.name!r} has no document {identity!r:.100}.", fix="Copy the id from a finding or sample."
    )


def _ignore_unread(error: AssayError) -> None:
    """Ignore unreadable records, which the audit reports."""


def detect_defects(source: Source, text: str) -> dict[str, tuple[tuple[Span, ...], str]]:
    """Run the built-in detectors on a text.

    The project's detectors do not run here, because only an audit can limit their time in worker processes.

    Args:
        source: source of the text.
        text: text to scan; only its first `MOST_SCANNED` characters.

    Returns:
        For each detector with a hit, its spans in characters and its note.
    """
    scanned = Text(text[:MOST_SCANNED], source)
    defects = {}
    for detector in BUILT_IN:
        hit = detector.detect(scanned)
        if hit is not None:
            defects[detector.name] = (tuple(_in_characters(scanned.data, span) for span in hit.spans), hit.note)
    return defects


def matches(text: str, example: Example) -> tuple[Span, ...]:
    """Locate an example's matches in its document; return an empty tuple if the text differs."""
    if not example.text or not example.matches:
        return ()
    offset = example.offset
    if text[offset : offset + len(example.text)] != example.text:
        offset = text.find(example.text)
    if offset < 0:
        return ()
    return tuple((offset + start, offset + stop) for start, stop in example.matches)


def differences(before: str, after: str) -> tuple[tuple[DiffLine, ...], bool]:
    """Compare two texts line by line, without empty lines.

    Args:
        before: text of the original.
        after: text of the document.

    Returns:
        The lines, and whether they cover both texts completely.
    """
    old, whole_old = _lines(before)
    new, whole_new = _lines(after)
    lines: list[DiffLine] = []
    matcher = difflib.SequenceMatcher(None, _keys(old), _keys(new))
    for kind, old_start, old_stop, new_start, new_stop in matcher.get_opcodes():
        if kind == "equal":
            pairs = zip(old[old_start:old_stop], new[new_start:new_stop], strict=True)
            lines += [DiffLine("same" if left == right else "spaces", right) for left, right in pairs]
        else:
            lines += [DiffLine("gone", line) for line in old[old_start:old_stop]]
            lines += [DiffLine("new", line) for line in new[new_start:new_stop]]
    return tuple(lines), whole_old and whole_new


def _keys(lines: Sequence[str]) -> list[str]:
    """Normalize blanks of lines for comparison."""
    return [" ".join(line.split()) for line in lines]


def _lines(text: str) -> tuple[list[str], bool]:
    """Return the first lines of a text, shortened, and whether they are complete."""
    stripped = [line.rstrip() for line in text[: LINES * WIDTH].split("\n")]
    filled = [line for line in stripped if line]
    kept = [line[:WIDTH] for line in filled[:LINES]]
    return kept, kept == filled and len(text) <= LINES * WIDTH


# --- originals


def read_original(source: Source, name: str | None, *, most: int = MOST_ORIGINAL) -> Original:
    """Read a document's original, or determine why it is unavailable.

    Args:
        source: source with `originals`, a local folder or a URL.
        name: path below `originals` from the document's record; untrusted.
        most: maximum decompressed bytes to read.
    """
    if not source.originals:
        return Original(problem=f"source {source.name!r} has no `originals`")
    if not name:
        return Original(problem="the document has no field `original`")
    if not _inside(name):
        return Original(name=name, problem="the path leaves the folder of originals and is not opened")
    try:
        with _opened(source.originals, name) as handle:
            data = _unpacked(handle, most + 1)
    except FileNotFoundError:
        return Original(name=name, problem="the original is missing from the folder of originals")
    except PermissionError as error:
        return Original(name=name, problem=str(error))
    except Exception as error:  # noqa: BLE001  # file systems and decompressors raise many kinds of errors
        return Original(name=name, problem=f"the original cannot be read: {type(error).__name__}: {error}")
    text, encoding = decoded(data[:most])
    markup = is_markup(text)
    return Original(
        name=name,
        source=text,
        text=as_text(text) if markup else text,
        encoding=encoding,
        markup=markup,
        bytes=min(len(data), most),
        whole=len(data) <= most,
    )


def _inside(name: str) -> bool:
    """Return whether a name is a plain path below a folder on any file system."""
    path = PurePosixPath(name)
    return not (path.is_absolute() or ".." in path.parts or "\0" in name or "\\" in name or "::" in name)


@contextlib.contextmanager
def _opened(root: str, name: str) -> Iterator[BinaryIO]:
    if "://" not in root:
        folder = Path(root).resolve()
        path = (folder / name).resolve()
        if not path.is_relative_to(folder):  # through a link
            raise PermissionError("the original is outside the folder of originals and is not opened")
        if not path.is_file():  # reading a pipe would block
            raise FileNotFoundError(path)
        with path.open("rb") as handle:
            yield handle
        return
    import fsspec

    system, remote_folder = fsspec.core.url_to_fs(
        root
    )  # only the declared root is parsed, because an untrusted name could chain protocols
    with system.open(f"{str(remote_folder).rstrip('/')}/{name}", "rb") as handle:
        yield cast("BinaryIO", handle)


def _unpacked(handle: BinaryIO, most: int) -> bytes:
    """Read and decompress the first bytes of a file, as many as possible if it is truncated."""
    data = handle.read(most)
    if not data.startswith(b"\x1f\x8b"):
        return data
    parts: list[bytes] = []
    size = 0
    while data.startswith(b"\x1f\x8b") and size < most:  # a gzip file may have several members
        member = zlib.decompressobj(wbits=31)
        try:
            part = member.decompress(data, most - size)
        except zlib.error:
            if not parts:
                raise
            break
        parts.append(part)
        size += len(part)
        data = member.unused_data
    return b"".join(parts)
