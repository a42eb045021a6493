"""A document beside the original that it was made of: both as text, what differs, and where a defect is.

Whatever is read here was brought home by a crawl. It is text from here on: nothing of it is taken for a path outside the
originals' folder, for an address, or for markup.
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

from assay.audit.detectors import BUILT_IN, Detector, Text
from assay.audit.detectors import masked as mask_built_in
from assay.audit.findings import Example
from assay.audit.markup import as_text, decoded, is_markup
from assay.audit.visible import Span, masked
from assay.corpus.read import Document, Look, documents, expand
from assay.errors import AssayError
from assay.sources import Source

MOST_ORIGINAL = 1_000_000
"""Bytes of an original that are read."""
MOST_SEARCHED = 2_000_000_000
"""Stored bytes of a source that are searched for a document: 20 s on a core."""
MOST_SEEN = 1_000_000
"""Characters of a document that are looked at for defects while somebody waits."""
LINES, WIDTH = 1_500, 400
"""Lines of a text that are compared, and characters of each; differences of longer texts are those of their beginnings."""


Masking = Callable[[str], str]
"""Takes a text and gives it back, as long, with its secrets masked."""


class Line(NamedTuple):
    """One line of a comparison.

    Attributes:
        kind: `same`; `spaces` where only blanks differ; `gone` for one that only the original has; `new` for the others.
        text: of the document where both have it.
    """

    kind: Literal["same", "spaces", "gone", "new"]
    text: str


@dataclass(frozen=True, kw_only=True)
class Original:
    """An original document, as far as it can be shown."""

    name: str = ""
    """Below the source's `originals`."""
    source: str = ""
    """Its bytes as text."""
    text: str = ""
    """What it says: of HTML without the markup."""
    encoding: str = ""
    markup: bool = False
    bytes: int = 0
    """That were read, once it was unpacked."""
    whole: bool = True
    """Whether these are all of them."""
    problem: str = ""
    """Why there is none."""


@dataclass(frozen=True, kw_only=True)
class Beside:
    """A document and its original."""

    document: Document
    original: Original
    matches: tuple[Span, ...] = ()
    """Of a finding, in characters of the document's text."""
    lines: tuple[Line, ...] = ()
    """From the original's text to the document's; empty where there is no original."""
    compared: bool = True
    """Whether all of both was compared."""
    counts: dict[str, int] = field(default_factory=dict)
    """Lines by kind."""


def beside(source: Source, document: Document, marks: Sequence[Span] = (), *, mask: Masking) -> Beside:
    """A document beside its original, secrets masked in both.

    Args:
        source: with `originals` as a folder that is found from here, or a URL.
        document: of the source.
        marks: where a defect is in the document's text; see `seen` and `matches`.
        mask: see `masking`; it keeps lengths.
    """
    found = original(source, document.original)
    found = replace(found, source=mask(found.source), text=mask(found.text))
    document = replace(document, text=mask(document.text))
    if found.problem:
        return Beside(document=document, original=found, matches=tuple(marks))
    lines, whole = differences(found.text, document.text)
    counts = {kind: sum(line.kind == kind for line in lines) for kind in ("same", "spaces", "gone", "new")}
    return Beside(
        document=document,
        original=found,
        matches=tuple(marks),
        lines=lines,
        compared=whole and found.whole,
        counts=counts,
    )


_KEY = re.compile(r"-----BEGIN [A-Z0-9 ]{0,30}PRIVATE KEY(?: BLOCK)?-----(?:(?!-----END).){0,8000}", re.DOTALL)
_CHUNK = 4_000
"""Characters that detectors are asked about at once: they tell of the first places only."""


def masking(source: Source, detectors: Sequence[Detector]) -> Masking:
    """What masks secrets in the texts of a source.

    Args:
        source: whose texts they are.
        detectors: what an audit looks with; a team's own of secrets are asked besides the built-in ones.
    """
    looking = [each for each in detectors if each.secret and each not in BUILT_IN]

    def spans(text: str) -> list[Span]:
        asked = Text(text, source)
        hits = [hit for each in looking if (hit := each.look(asked)) is not None]
        return [_in_characters(asked.data, span) for hit in hits for span in hit.spans or ((0, len(asked.data)),)]

    def mask(text: str) -> str:
        text = mask_built_in(_KEY.sub(lambda found: found[0][:11] + "*" * (len(found[0]) - 11), text))
        return "".join(masked(chunk, spans) for chunk in _chunks(text)) if looking else text

    return mask


def _chunks(text: str) -> Iterator[str]:
    """A text in parts that begin and end beside a blank, where it has any."""
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


def find(source: Source, identity: str, where: str | None = None, *, most: int = MOST_SEARCHED) -> Document:
    """The document of an id.

    Args:
        source: in which it is.
        identity: the document's id.
        where: its file and line, if they are known; nothing is read of the others then. It is a hint, and may be wrong.
        most: stored bytes that are searched otherwise.

    Raises:
        AssayError: there is no such document, or not in as much as was searched; or the source cannot be read.
    """
    place = where if where is not None else identity
    file, _, line = place.rpartition(":")
    if not line.isdecimal() or len(line) > 12:
        file, line = place, "1"
    if file in expand(source):  # never a path that only the one who asks knows
        look = Look.around(int(line), unread=_passed_over)
        with contextlib.suppress(AssayError):
            for document in documents(replace(source, files=(file,)), look=look):
                if document.id == identity and where in (None, document.where):
                    return document
    read = 0

    def count(size: int) -> None:
        nonlocal read
        read += size

    for document in documents(source, progress=count, look=Look(unread=_passed_over)):
        if document.id == identity:
            return document
        if read > most:
            raise AssayError(
                f"source {source.name!r}: no document {identity!r:.100} in the first {read:,} bytes.",
                fix="Say where it is: its file and line, as findings and samples name them.",
            )
    raise AssayError(f"source {source.name!r} has no document {identity!r:.100}.")


def _passed_over(error: AssayError) -> None:
    """What cannot be read is the audit's to tell."""


def seen(source: Source, text: str) -> dict[str, tuple[tuple[Span, ...], str]]:
    """What the built-in detectors see in a text now: of each the places, in characters, and a note.

    A team's own are left out: what they do on one text is bounded in an audit, which runs them in processes of its own.

    Args:
        source: whose text it is.
        text: its beginning is looked at, `MOST_SEEN` characters.
    """
    asked = Text(text[:MOST_SEEN], source)
    found = {}
    for detector in BUILT_IN:
        hit = detector.look(asked)
        if hit is not None:
            found[detector.name] = (tuple(_in_characters(asked.data, span) for span in hit.spans), hit.note)
    return found


def matches(text: str, example: Example) -> tuple[Span, ...]:
    """Where an example's matches are in its document; none where the document does not have the example's text."""
    if not example.text or not example.matches:
        return ()
    offset = example.offset
    if text[offset : offset + len(example.text)] != example.text:
        offset = text.find(example.text)
    if offset < 0:
        return ()
    return tuple((offset + start, offset + stop) for start, stop in example.matches)


def differences(before: str, after: str) -> tuple[tuple[Line, ...], bool]:
    """What differs between two texts, line by line; empty lines do not count.

    Args:
        before: the original's.
        after: the document's.

    Returns:
        The lines, and whether they are of all of both texts.
    """
    old, whole_old = _lines(before)
    new, whole_new = _lines(after)
    found: list[Line] = []
    matcher = difflib.SequenceMatcher(None, _keys(old), _keys(new))
    for kind, old_start, old_stop, new_start, new_stop in matcher.get_opcodes():
        if kind == "equal":
            pairs = zip(old[old_start:old_stop], new[new_start:new_stop], strict=True)
            found += [Line("same" if left == right else "spaces", right) for left, right in pairs]
        else:
            found += [Line("gone", line) for line in old[old_start:old_stop]]
            found += [Line("new", line) for line in new[new_start:new_stop]]
    return tuple(found), whole_old and whole_new


def _keys(lines: Sequence[str]) -> list[str]:
    """Lines as they are compared: however they are indented."""
    return [" ".join(line.split()) for line in lines]


def _lines(text: str) -> tuple[list[str], bool]:
    """The lines of a text's beginning, shortened, and whether that is all of it."""
    found = [line.rstrip() for line in text[: LINES * WIDTH].split("\n")]
    filled = [line for line in found if line]
    kept = [line[:WIDTH] for line in filled[:LINES]]
    return kept, kept == filled and len(text) <= LINES * WIDTH


# --- originals


def original(source: Source, name: str | None, *, most: int = MOST_ORIGINAL) -> Original:
    """A document's original, or why there is none to show.

    Args:
        source: with `originals` as a folder that is found from here, or a URL.
        name: what the document's record says, below that; hostile.
        most: bytes that are read, once it is unpacked.
    """
    if not source.originals:
        return Original(problem=f"source {source.name!r} does not say where its originals are (`originals`)")
    if not name:
        return Original(problem="the document's record names no original (field `original`)")
    if not _inside(name):
        return Original(name=name, problem="the name leaves the folder of originals: it is not opened")
    try:
        with _opened(source.originals, name) as handle:
            data = _unpacked(handle, most + 1)
    except FileNotFoundError:
        return Original(name=name, problem="the original is missing from the folder of originals")
    except PermissionError as error:
        return Original(name=name, problem=str(error))
    except Exception as error:  # noqa: BLE001  # each file system, and each way to be cut, has errors of its own
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
    """Whether a name is a plain path below a folder, on any file system."""
    path = PurePosixPath(name)
    return not (path.is_absolute() or ".." in path.parts or "\0" in name or "\\" in name or "::" in name)


@contextlib.contextmanager
def _opened(root: str, name: str) -> Iterator[BinaryIO]:
    if "://" not in root:
        folder = Path(root).resolve()
        path = (folder / name).resolve()
        if not path.is_relative_to(folder):  # through a link
            raise PermissionError("the original lies outside the folder of originals: it is not opened")
        if not path.is_file():  # a pipe would be waited for
            raise FileNotFoundError(path)
        with path.open("rb") as handle:
            yield handle
        return
    import fsspec

    system, folder_there = fsspec.core.url_to_fs(root)  # of the declared root alone: a name could chain protocols
    with system.open(f"{str(folder_there).rstrip('/')}/{name}", "rb") as handle:
        yield cast("BinaryIO", handle)


def _unpacked(handle: BinaryIO, most: int) -> bytes:
    """The first bytes of a file, unpacked if it is gzip; of one that is cut, as many as there are."""
    data = handle.read(most)
    if not data.startswith(b"\x1f\x8b"):
        return data
    parts: list[bytes] = []
    size = 0
    while data.startswith(b"\x1f\x8b") and size < most:  # a file may be several that were put together
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
