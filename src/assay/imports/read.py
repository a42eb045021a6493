"""Reading results: files, folders and globs to one checked table, a piece at a time, so that a huge file fits."""

from __future__ import annotations

import csv
import glob
import gzip
import hashlib
import io
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, NamedTuple, cast

from assay.errors import AssayError, did_you_mean
from assay.imports import harness
from assay.imports.table import LABELS, Table, assemble, checked, columns_of

if TYPE_CHECKING:
    import pandas as pd

CSV = (".csv", ".tsv", ".csv.gz", ".tsv.gz")
PARQUET = (".parquet", ".pq")
JSON = (".json",)
PIECE = 200_000
"""Rows that are checked at a time: about 100 MB as text."""
DELIMITERS = (",", "\t", ";")

Progress = Callable[[str, float], None]


@dataclass(frozen=True, kw_only=True)
class Given:
    """Labels of runs that the files themselves do not say."""

    labels: Mapping[str, str]
    """By name: mix, seed, scale, tokens."""
    pattern: re.Pattern[str] | None = None
    """Looked for in a file's path; its named groups are labels."""

    @classmethod
    def parse(cls, labels: Mapping[str, str | None], pattern: str | None) -> Given:
        """Check what the options say.

        Raises:
            AssayError: the pattern is no regular expression, or its groups are no labels.
        """
        found = {name: value for name, value in labels.items() if value is not None}
        if pattern is None:
            return cls(labels=found)
        example = r"Write one such as '(?P<mix>[^/]+)/seed(?P<seed>\d+)'."
        try:
            compiled = re.compile(pattern)
        except re.error as error:
            raise AssayError(f"--pattern {pattern!r} is no regular expression: {error}.", fix=example) from None
        if not compiled.groupindex:
            raise AssayError(f"--pattern {pattern!r} has no named group.", fix=example)
        for name in compiled.groupindex:
            if name not in LABELS:
                raise AssayError(f"--pattern: no label is called {name!r}. {did_you_mean(name, LABELS)}")
        return cls(labels=found, pattern=compiled)

    def of(self, path: Path) -> dict[str, str]:
        """The labels of one file: of the options, then of its path.

        Raises:
            AssayError: the pattern is not in the path.
        """
        if self.pattern is None:
            return dict(self.labels)
        found = self.pattern.search(path.as_posix())
        if found is None:
            raise AssayError(f"{path}: the path does not match --pattern {self.pattern.pattern!r}.")
        return {**{name: value for name, value in found.groupdict().items() if value}, **self.labels}


class Found(NamedTuple):
    """What was read.

    Attributes:
        table: all rows.
        source: SHA-256 over the files' bytes, in order of path.
    """

    table: Table
    source: str


def find(arguments: Sequence[str]) -> list[Path]:
    """The files that arguments mean: files, globs, and folders with everything below them.

    Raises:
        AssayError: an argument matches nothing that can be read.
    """
    found: dict[Path, None] = {}
    for argument in arguments:
        path = Path(argument).expanduser()
        if path.is_dir():
            below = sorted(file for file in path.rglob("*") if file.is_file() and _readable(file, inside=True))
            if not below:
                raise AssayError(
                    f"{path}: there are no results in this folder.",
                    fix="It needs results_*.json of lm-eval, CSV or Parquet files, at any depth.",
                )
            found |= dict.fromkeys(below)
        elif path.exists():
            found[path] = None
        else:
            matches = sorted(Path(match) for match in glob.glob(str(path), recursive=True))  # noqa: PTH207  # relative and absolute ones alike
            if not matches:
                raise AssayError(f"{argument}: there is no such file or folder.")
            found |= dict.fromkeys(find([str(match) for match in matches]))
    return list(found)


def read(paths: Sequence[Path], given: Given, *, progress: Progress | None = None) -> Found:
    """Read and check files.

    Args:
        paths: CSV, Parquet, or lm-eval's JSON.
        given: labels that they do not say.
        progress: told which file is read, and the share of it that is.

    Raises:
        AssayError: with file, row and column of what is wrong.
    """
    parts: list[pd.DataFrame] = []
    notes: list[str] = []
    bytes_read = hashlib.sha256()
    for i, path in enumerate(paths):
        kind = _kind(path)
        with path.open("rb") as handle:
            bytes_read.update(hashlib.file_digest(handle, "sha256").digest())
        if path.stat().st_size == 0:
            raise AssayError(f"{path}: the file is empty.", fix="Export it again, or leave it out.")
        many = len(paths) > 1
        name, base, part = ("results", i / len(paths), 1 / len(paths)) if many else (str(path), 0.0, 1.0)

        def tell(share: float, name: str = name, base: float = base, part: float = part) -> None:
            if progress is not None:
                progress(name, min(1.0, base + share * part))

        tell(0.0)
        rows = list(_READERS[kind](path, given, notes, tell))
        if not sum(map(len, rows)):
            raise AssayError(f"{path}: there is no row below the header.", fix="Export it again, or leave it out.")
        parts += rows
        tell(1.0)
    return Found(assemble(parts, list(dict.fromkeys(notes))), bytes_read.hexdigest())


def _readable(path: Path, *, inside: bool) -> bool:
    name = path.name.lower()
    if inside and name.endswith(JSON):
        return path.match(harness.PATTERN)
    return name.endswith((*CSV, *PARQUET, *JSON))


def _kind(path: Path) -> str:
    name = path.name.lower()
    for kind, endings in (("csv", CSV), ("parquet", PARQUET), ("json", JSON)):
        if name.endswith(endings):
            return kind
    raise AssayError(
        f"{path}: what this file is cannot be told from its name.",
        fix="Long tables end in .csv, .tsv or .parquet, lm-eval's results in .json.",
    )


def _csv(path: Path, given: Given, notes: list[str], tell: Callable[[float], None]) -> Iterator[pd.DataFrame]:
    import pandas as pd

    labels, size, file = given.of(path), path.stat().st_size, str(path)
    with path.open("rb") as raw:
        plain = cast("IO[bytes]", gzip.GzipFile(fileobj=raw) if _packed(path) else raw)
        try:
            header, delimiter = _header(plain, file)
            ours, others = columns_of(header, file=file, given=labels)
            _note_others(others, notes)
            # The records keep their numbers: blank lines count, and are left out afterwards.
            pieces = pd.read_csv(
                plain, sep=delimiter, header=None, names=header, dtype=str, na_filter=False, chunksize=PIECE,
                encoding="utf-8", skip_blank_lines=False,
            )  # fmt: skip
            first = 0
            for piece in pieces:
                if not isinstance(piece.index, pd.RangeIndex):
                    raise AssayError(f"{file}: the rows have more cells than the header has columns.")
                frame = piece[list(ours)].rename(columns=ours)
                blank = (frame == "").all(axis=1)
                yield from _counted(frame, blank, file=file, labels=labels, first=first)
                first += len(frame)
                tell(raw.tell() / size)
        except UnicodeDecodeError:
            raise AssayError(_undecodable(path), fix="Save it as UTF-8.") from None
        except pd.errors.ParserError as error:
            raise AssayError(f"{file}: {_untangled(str(error))}.", fix="Every row has the header's columns.") from None
        except (OSError, EOFError) as error:
            raise AssayError(f"{file}: cannot be unpacked: {error}.", fix="Compress or fetch it again.") from None


def _counted(
    frame: pd.DataFrame, blank: pd.Series, *, file: str, labels: Mapping[str, str], first: int
) -> Iterator[pd.DataFrame]:
    """The rows between blank ones, each with its number in the file."""
    if not blank.any():
        yield checked(frame, file=file, given=labels, first=first)
        return
    for _, stretch in frame[~blank].groupby(blank.cumsum()[~blank]):
        yield checked(stretch, file=file, given=labels, first=first + int(stretch.index[0] - frame.index[0]))


def _packed(path: Path) -> bool:
    return path.name.lower().endswith(".gz")


def _header(handle: IO[bytes], file: str) -> tuple[list[str], str]:
    line = handle.readline().removeprefix(b"\xef\xbb\xbf").decode("utf-8").strip("\r\n")
    delimiter = max(DELIMITERS, key=line.count)
    names = next(csv.reader(io.StringIO(line), delimiter=delimiter), [])
    if not any(name.strip() for name in names):
        raise AssayError(f"{file}: row 1 is empty, where the names of the columns have to be.")
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise AssayError(f"{file}: the column {twice!r} is there twice.", fix="Keep one of them.")
    return names, delimiter


def _untangled(message: str) -> str:
    """What the CSV parser means, with rows as people count them: it did not see the header, which is row 1."""
    cells = re.search(r"Expected (\d+) fields in line (\d+), saw (\d+)", message)
    if cells:
        return f"row {int(cells[2]) + 1} has {cells[3]} cells where the header has {cells[1]}"
    open_quote = re.search(r"EOF inside string starting at row (\d+)", message)
    if open_quote:
        return f"a quotation mark in row {int(open_quote[1]) + 2} is never closed"
    return f"not a table: {message.strip()}"


def _undecodable(path: Path) -> str:
    """Where a file stops being UTF-8."""
    with path.open("rb") as raw:
        for number, line in enumerate(cast("IO[bytes]", gzip.GzipFile(fileobj=raw)) if _packed(path) else raw, start=1):
            if number == 1 and line.startswith((b"\xff\xfe", b"\xfe\xff")):
                return f"{path}: the file is UTF-16."
            try:
                line.decode("utf-8")
            except UnicodeDecodeError as error:
                before = line[max(0, error.start - 20) : error.start].decode("utf-8", "replace")
                byte = line[error.start]
                return f"{path}: row {number} is not UTF-8: byte 0x{byte:02x} after {before!r}."
    return f"{path}: the file is not UTF-8."


def _parquet(path: Path, given: Given, notes: list[str], tell: Callable[[float], None]) -> Iterator[pd.DataFrame]:
    import pyarrow as pa
    from pyarrow import parquet

    labels, file, first = given.of(path), str(path), 0
    try:
        with parquet.ParquetFile(path) as opened:
            ours, others = columns_of(opened.schema_arrow.names, file=file, given=labels)
            _note_others(others, notes)
            rows = opened.metadata.num_rows
            for batch in opened.iter_batches(batch_size=PIECE, columns=list(ours)):
                frame = batch.to_pandas().rename(columns=ours)
                yield checked(frame, file=file, given=labels, first=first)
                first += len(frame)
                tell(first / max(rows, 1))
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError) as error:
        raise AssayError(f"{file}: not whole Parquet: {str(error)[:200]}", fix="Write or fetch it again.") from None


def _json(path: Path, given: Given, notes: list[str], tell: Callable[[float], None]) -> Iterator[pd.DataFrame]:
    import pandas as pd

    del notes, tell
    rows = harness.rows_of(path)
    labels = given.of(path)
    if "scale" not in labels and (counted := harness.parameters_of(path)):
        labels["scale"] = counted
    for name in LABELS:
        if name not in labels:
            raise AssayError(
                f"{path}: lm-eval does not say the {name} of a run.",
                fix=f"Give it with --{name}, or let --pattern find (?P<{name}>...) in the path.",
            )
    yield checked(pd.DataFrame(rows), file=str(path), given=labels, first=None)


def _note_others(others: Sequence[str], notes: list[str]) -> None:
    if others:
        notes.append(f"columns without a meaning here were left out: {', '.join(others)}.")


_READERS: Mapping[str, Callable[[Path, Given, list[str], Callable[[float], None]], Iterator[pd.DataFrame]]] = {
    "csv": _csv,
    "parquet": _parquet,
    "json": _json,
}
