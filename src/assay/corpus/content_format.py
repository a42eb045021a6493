"""Recognize the format of a file by its first bytes, and name the conversion to a format that assay reads."""

from __future__ import annotations

import codecs
import contextlib
import csv
import io
import json
import re
from dataclasses import dataclass, replace
from typing import Literal

Readable = Literal["jsonl", "parquet", "arrow", "text"]
"""Formats that assay reads."""
Compression = Literal["", ".gz", ".bz2", ".xz", ".zst"]
"""Suffix of a compression that assay reads, or empty."""

HEAD = 1 << 16
"""Number of bytes at the beginning of a file that determine the format."""
_SHOWN_LINES = 20
_FEWEST_ROWS = 5
"""Minimum number of rows with equally many cells in a table that has no known suffix or column name."""
_CUT = 4096
"""Minimum characters of the beginning of a line that may continue after the head."""


@dataclass(frozen=True, kw_only=True)
class ContentFormat:
    """The recognized format of a file's content."""

    name: str
    """Noun phrase for messages, such as `a CSV table`."""
    readable: Readable | None
    """The format under which assay reads the content; ``None`` if assay does not read it."""
    advice: str = ""
    """Imperative sentence that converts the content."""
    as_text: Literal["never", "declared", "always"] = "never"
    """When a file with this content may be one text document: never, only with `format: text` (such as HTML), or
    always."""


EMPTY = ContentFormat(name="an empty file", readable=None)
TEXT = ContentFormat(name="plain text", readable="text", as_text="always")
JSON_LINES = ContentFormat(name="JSON lines", readable="jsonl", advice="Set the source's `format` to jsonl.")
PARQUET = ContentFormat(name="Parquet", readable="parquet", advice="Set the source's `format` to parquet.")
ARROW = ContentFormat(name="Arrow", readable="arrow", advice="Set the source's `format` to arrow.")
_DAMAGED_LINES = replace(JSON_LINES, name="damaged JSON lines", as_text="always")
_JSON_OBJECTS = ContentFormat(
    name="JSON with objects over several lines",
    readable=None,
    advice="Convert it: jq -c . FILE > FILE.jsonl (or jq -c '.KEY[]' for an object with all records under KEY)",
    as_text="always",
)
FORMAT_NAMES: dict[Readable, str] = {
    "jsonl": "JSON lines",
    "parquet": "Parquet",
    "arrow": "Arrow",
    "text": "plain text",
}

_COMPRESSED: tuple[tuple[re.Pattern[bytes], Compression], ...] = (
    (re.compile(rb"\x1f\x8b"), ".gz"),
    (re.compile(rb"BZh[1-9](?:1AY&SY|\x17rE8P\x90)"), ".bz2"),
    (re.compile(rb"\xfd7zXZ\x00"), ".xz"),
    (re.compile(rb"\x28\xb5\x2f\xfd|[\x50-\x5f]\x2a\x4d\x18"), ".zst"),
)


def _foreign(name: str, advice: str, as_text: Literal["never", "declared", "always"] = "never") -> ContentFormat:
    return ContentFormat(name=name, readable=None, advice=advice, as_text=as_text)


_DECOMPRESS = "Decompress it first."
_EXTRACT = "Convert its records to JSON lines, one object per document with its text in one field."
_UNPACK = "Unpack it, and list the files."
_TEXT_ONLY = "List files of text, JSON lines, Parquet or Arrow."
_MAGIC: tuple[tuple[re.Pattern[bytes], ContentFormat], ...] = tuple((re.compile(magic, re.DOTALL), content) for magic, content in (
    (rb"PAR1[^\x20-\x7e]", PARQUET),
    (rb"ARROW1\x00|\xff{4}", ARROW),
    (rb"PARE[^\x20-\x7e]", _foreign("encrypted Parquet", "Write it without encryption.")),
    (rb"FEA1\x00", _foreign("Feather version 1", "Convert it with pandas: pd.read_feather('FILE').to_parquet('FILE.parquet')")),
    (rb"ORC[^\x20-\x7e]", _foreign("ORC", "Convert it with pandas: pd.read_orc('FILE').to_parquet('FILE.parquet')")),
    (rb"Obj\x01", _foreign("Avro", "Convert it to Parquet or JSON lines.")),
    (rb"WARC/\d", _foreign(
        "a WARC archive (also WET and WAT)",
        "Convert its records to JSON lines, one object per page, for example with fastwarc.",
    )),
    (rb"%PDF-\d", _foreign("PDF", "Extract its text, for example with pdftotext.")),
    (rb"PK(\x03\x04|\x05\x06)", _foreign("a ZIP archive (also DOCX, EPUB and NPZ)", _UNPACK)),
    (rb".{257}ustar", _foreign("a tar archive", _UNPACK)),
    (rb"7z\xbc\xaf\x27\x1c", _foreign("a 7z archive", _UNPACK)),
    (rb"Rar!\x1a\x07", _foreign("a RAR archive", _UNPACK)),
    (rb"!<arch>\n", _foreign("an ar archive (also .deb)", _UNPACK)),
    (rb"\x04\x22\x4d\x18", _foreign("LZ4", _DECOMPRESS)),
    (rb"\xff\x06\x00\x00sNaPpY", _foreign("Snappy", _DECOMPRESS)),
    (rb"\x1f\x9d", _foreign("a compress archive (.Z)", _DECOMPRESS)),
    (rb"LZIP\x01", _foreign("lzip", _DECOMPRESS)),
    (rb"\]\x00\x00", _foreign("LZMA", _DECOMPRESS)),
    (rb"SQLite format 3\x00", _foreign("an SQLite database", "Export a table as JSON lines or Parquet.")),
    (rb"\x89HDF\r\n", _foreign("HDF5", _EXTRACT)),
    (rb"\x93NUMPY", _foreign("a NumPy array", _EXTRACT)),
    (rb"\x80[\x02-\x05][\x95c}\](]", _foreign("a Python pickle", "Write its texts as JSON lines; assay never loads pickles.")),
    (rb"GGUF[\x01-\x09]\x00", _foreign("model weights (GGUF)", _TEXT_ONLY)),
    (rb"\x7fELF", _foreign("a program", _TEXT_ONLY)),
    (rb"\x89PNG|\xff\xd8\xff|GIF8[79]a", _foreign("an image", _TEXT_ONLY)),
    (rb"\xd0\xcf\x11\xe0", _foreign("a document of Microsoft Office", "Extract its text.")),
    (rb"\{\\rtf\d", _foreign("RTF", "Extract its text.")),
    (rb"version https://git-lfs", _foreign("a Git LFS pointer without its content", "Run `git lfs pull`.")),
    (rb"/annex/objects/", _foreign("a git-annex pointer without its content", "Run `git annex get`.")),
))  # fmt: skip
"""First bytes, and the format that they identify; longer than the letters of a magic number, which text can begin with."""

_CONTROL = bytes(set(range(32)) - set(b"\t\n\v\f\r\x1b"))
_MOST_CONTROL = 0.05
"""Maximum fraction of control characters in text."""
_MARKUP = re.compile(
    r"\s*(?:<!--.*?-->\s*)*<(!doctype\s+html|html[\s>]|head[\s>]|body[\s>])", re.IGNORECASE | re.DOTALL
)
_XML = re.compile(r"\s*<\?xml\b")
_DUMP = re.compile(r"<(mediawiki|rss|feed|sitemapindex|urlset|osm|posts|rows)[\s>]", re.IGNORECASE)
_MBOX = re.compile(r"From \S+.* (?:\d{2}:\d{2}).* \d{4}\r?\n[A-Za-z-]+: ")
_OBJECT = re.compile(r"\{\s*(\"|\}|\Z)")
_ARRAY = re.compile(r"\[\s*(\{\s*\"|\[|\"|\]|-?\d|\Z)")
_ARRAY_OF_OBJECTS = re.compile(r"\[\s*\{\s*\"")
_HEADER_CELL = re.compile(r"[^\W\d][\w.:/#()-]*(?: [\w.:/#()-]+){0,2}")
_TABLES = {",": "a CSV table", "\t": "a TSV table", ";": "a CSV table with semicolons", "|": "a table with `|`"}
_TABLE_SUFFIX = re.compile(r"\.(csv|tsv)(\.\w+)?$", re.IGNORECASE)


def detect_compression(head: bytes) -> Compression:
    """Return the compression that a file's first bytes identify."""
    return next((suffix for magic, suffix in _COMPRESSED if magic.match(head)), "")


def detect_format(head: bytes, *, path: str, text_field: str = "text") -> ContentFormat:
    """Return the format of a file's content.

    Args:
        head: the first bytes of the decompressed content, at most `HEAD`.
        path: path of the file. Its suffix decides only between a table and plain text.
        text_field: name of the text column. A header with this name identifies a table.
    """
    if not head:
        return EMPTY
    for magic, content in _MAGIC:
        if magic.match(head):
            return content
    if detect_compression(head):
        return _foreign("compressed twice", "Decompress it once.")
    return _wide_encoding(head) or _from_text(head, path, text_field)


def _wide_encoding(head: bytes) -> ContentFormat | None:
    """Recognize UTF-16 and UTF-32 by their byte order mark, or by the zeros of Latin letters, and binary content."""
    for mark, name in ((codecs.BOM_UTF32_LE, "UTF-32"), (codecs.BOM_UTF32_BE, "UTF-32"), (codecs.BOM_UTF16_LE, "UTF-16"),
                       (codecs.BOM_UTF16_BE, "UTF-16")):  # fmt: skip
        if head.startswith(mark):
            return _reencode(name)
    sample = head[: len(head) // 4 * 4]
    zeros = [sample[place::4].count(0) / max(1, len(sample) // 4) for place in range(4)]
    for name, used in (("UTF-32LE", (0,)), ("UTF-32BE", (3,)), ("UTF-16LE", (0, 2)), ("UTF-16BE", (1, 3))):
        if len(sample) >= 8 and all(zeros[i] < 0.1 if i in used else zeros[i] > 0.4 for i in range(4)):
            return _reencode(name)
    control = len(head) - len(head.translate(None, _CONTROL))
    return _foreign("binary data", _TEXT_ONLY) if control > _MOST_CONTROL * len(head) else None


def _reencode(name: str) -> ContentFormat:
    return _foreign(f"text in {name}", f"Convert it to UTF-8: iconv -f {name} -t UTF-8 FILE > FILE.utf8")


def _from_text(head: bytes, path: str, text_field: str) -> ContentFormat:
    text = codecs.getincrementaldecoder("utf-8")("replace").decode(head).removeprefix("\ufeff")
    stripped = text.lstrip()
    if not stripped:
        return EMPTY if len(head) < HEAD else TEXT
    if _OBJECT.match(stripped):
        return _json_objects(stripped)
    if _ARRAY.match(stripped) and (content := _json_array(stripped)):
        return content
    if _MARKUP.match(text):
        return _foreign(
            "HTML",
            "Extract its text, for example with resiliparse, or set the source's `format` to text to train on the markup.",
            "declared",
        )
    if _XML.match(text) or _DUMP.match(stripped):
        dump = _DUMP.search(stripped[:2000])
        name = f"an XML dump (<{dump[1].lower()}>)" if dump else "XML"
        advice = _EXTRACT if dump else f"{_EXTRACT[:-1]}, or set the source's `format` to text to train on the markup."
        return _foreign(name, advice, "never" if dump else "declared")
    if _MBOX.match(text):
        return _foreign("a mailbox (mbox)", "Convert its messages to JSON lines, one object per message.")
    if table := _table(text, path, text_field):
        return table
    return _DAMAGED_LINES if stripped.startswith("{") or '\n{"' in text else TEXT


def _json_objects(text: str) -> ContentFormat:
    """Distinguish JSON lines from objects over several lines, and from text that begins like an object."""
    lines = text.split("\n", _SHOWN_LINES + 1)
    if any(map(_is_object, lines[:_SHOWN_LINES])):
        return JSON_LINES
    if len(lines) == 1:
        return JSON_LINES if len(text) >= _CUT and _over_lines(text) else _DAMAGED_LINES
    return _JSON_OBJECTS if _over_lines(text) else _DAMAGED_LINES


def _is_object(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def _over_lines(text: str) -> bool:
    """Return whether the text begins with a JSON object that spans several lines, or exceeds the text."""
    try:
        _, end = json.JSONDecoder().raw_decode(text)
    except json.JSONDecodeError as error:
        return len(text) >= _CUT and (error.pos >= len(text) - 1 or "Unterminated" in error.msg)
    except RecursionError:
        return False
    return "\n" in text[:end]


def _json_array(text: str) -> ContentFormat | None:
    objects = bool(_ARRAY_OF_OBJECTS.match(text))
    if not objects:
        try:
            json.loads(text.split("\n", 1)[0])
        except (ValueError, RecursionError):
            return None
    return _foreign(
        "a JSON array" + (" of objects" if objects else ""),
        "Convert it to JSON lines: jq -c '.[]' FILE > FILE.jsonl",
        "never" if objects else "always",
    )


def _table(text: str, path: str, text_field: str) -> ContentFormat | None:
    """Recognize a table by its suffix, by a header with the text's column, or by rows with equal numbers of cells."""
    suffix = bool(_TABLE_SUFFIX.search(path))
    for delimiter, name in _TABLES.items():
        rows = _rows(text, delimiter)
        header = [cell.strip().lstrip("\ufeff") for cell in rows[0]] if rows else []
        if len(header) < 2:
            continue
        names = len(set(header)) == len(header) and all(_HEADER_CELL.fullmatch(cell) for cell in header)
        equal = all(len(row) == len(header) for row in rows)
        if (
            (suffix and (names or equal))
            or (names and text_field in header and (len(rows) > 1 or len(text) >= _CUT))
            or (names and equal and len(rows) >= _FEWEST_ROWS and not _is_punctuated(rows))
        ):
            read = f"pd.read_csv('FILE', sep={delimiter!r}, dtype=str, keep_default_na=False)"
            advice = f"Convert it with pandas: {read}.to_json('FILE.jsonl', orient='records', lines=True)"
            return _foreign(name, advice)
    if suffix:
        return _foreign("a table with one column", _EXTRACT)
    return None


def _is_punctuated(rows: list[list[str]]) -> bool:
    """Return whether a blank follows most delimiters, as in prose and verse."""
    return sum(row[1].startswith(" ") for row in rows) > len(rows) / 2


def _rows(text: str, delimiter: str) -> list[list[str]]:
    """Split text into the rows of a table, without the last row if it may be cut."""
    rows: list[list[str]] = []
    # A cell that is longer than the limit of the csv module ends the rows.
    with contextlib.suppress(csv.Error):
        rows.extend(row for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter) if row)
    return rows if text.endswith("\n") or len(rows) == 1 else rows[:-1]
