"""Read result files, folders and globs into one validated table.

Files are read in chunks, so that a file may be larger than the memory.
"""

from __future__ import annotations

import csv
import glob
import gzip
import hashlib
import io
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, NamedTuple, cast

from assay.analysis.external import lm_eval, wide
from assay.analysis.external.table import LABELS, ExternalTable, assemble, checked, columns_of
from assay.core.errors import ConfigError, Damaged, NotFound, did_you_mean

if TYPE_CHECKING:
    import pandas as pd

CSV = (".csv", ".tsv", ".csv.gz", ".tsv.gz")
PARQUET = (".parquet", ".pq")
JSON = (".json",)
CHUNK = 200_000
"""Number of rows per validated chunk: about 100 MB of text."""
LONGEST_HEADER = 1 << 24
"""Maximum bytes of the row with the column names."""
DELIMITERS = (",", "\t", ";")

Progress = Callable[[str, float], None]


@dataclass(frozen=True, kw_only=True)
class RunLabels:
    """Labels of runs that the files themselves lack."""

    labels: Mapping[str, str]
    """Values of labels by name: mix, seed, scale, tokens, and the unit of metrics between 0 and 1."""
    pattern: re.Pattern[str] | None = None
    """Regular expression to search in the path of a file. Its named groups are labels."""
    columns: Mapping[str, str] = field(default_factory=dict)
    """Kinds of columns of wide tables, by column or pattern (see `assay.analysis.external.wide`)."""
    wide: bool = False
    """Whether every CSV and Parquet file is a wide table. Otherwise, the header decides."""

    @classmethod
    def parse(
        cls,
        labels: Mapping[str, str | None],
        pattern: str | None,
        *,
        columns: Sequence[str] = (),
        wide_table: bool = False,
    ) -> RunLabels:
        """Return the labels from the command line's options.

        Raises:
            AssayError: the pattern is not a regular expression, or its groups are not labels.
        """
        given = {name: value for name, value in labels.items() if value is not None}
        kinds = wide.parse_columns(columns)
        if pattern is None:
            return cls(labels=given, columns=kinds, wide=wide_table)
        example = r"Write, for example, '(?P<mix>[^/]+)/seed(?P<seed>\d+)'."
        try:
            compiled = re.compile(pattern)
        except re.error as error:
            raise ConfigError(
                f"--pattern {pattern!r} is invalid; expected a regular expression: {error}.", fix=example
            ) from None
        if not compiled.groupindex:
            raise ConfigError(f"--pattern {pattern!r} is invalid; expected a named group.", fix=example)
        for name in compiled.groupindex:
            if name not in LABELS:
                raise ConfigError(f"--pattern: no label is named {name!r}. {did_you_mean(name, LABELS)}")
        return cls(labels=given, pattern=compiled, columns=kinds, wide=wide_table)

    def of(self, path: Path) -> dict[str, str]:
        """Return the labels of one file. Options take precedence over the file's path.

        Raises:
            AssayError: the path does not match the pattern.
        """
        if self.pattern is None:
            return dict(self.labels)
        match = self.pattern.search(path.as_posix())
        if match is None:
            raise ConfigError(
                f"{path}: the path does not match --pattern {self.pattern.pattern!r}.",
                fix="Correct the pattern, or remove the path from the input.",
            )
        return {**{name: value for name, value in match.groupdict().items() if value}, **self.labels}


class ReadResults(NamedTuple):
    """Results read from files.

    Attributes:
        table: all rows.
        source: SHA-256 over the files' bytes, in order of path.
        weights: one row per mix with `mix` and a column per source, from wide tables; None without weights.
    """

    table: ExternalTable
    source: str
    weights: pd.DataFrame | None = None


def find(arguments: Sequence[str]) -> list[Path]:
    """List the files of arguments: files, globs, and folders with all files below them.

    Raises:
        AssayError: an argument matches no readable file.
    """
    files: dict[Path, None] = {}
    for argument in arguments:
        path = Path(argument).expanduser()
        if path.is_dir():
            below = sorted(file for file in path.rglob("*") if file.is_file() and _readable(file, inside=True))
            if not below:
                raise NotFound(
                    f"{path}: this folder contains no results.",
                    fix="Pass a folder with lm-eval's results_*.json, CSV or Parquet files, at any depth.",
                )
            files |= dict.fromkeys(below)
        elif path.exists():
            files[path] = None
        else:
            matches = sorted(Path(match) for match in glob.glob(str(path), recursive=True))  # noqa: PTH207  # works for relative and absolute paths
            if not matches:
                raise NotFound(f"{argument}: no file or folder has this path.", fix="Correct the path.")
            files |= dict.fromkeys(find([str(match) for match in matches]))
    return list(files)


def read(paths: Sequence[Path], given: RunLabels, *, progress: Progress | None = None) -> ReadResults:
    """Read and validate files.

    A CSV or Parquet file without the columns `task`, `metric` and `value` is a wide table (see
    `assay.analysis.external.wide`), which is read as a whole.

    Args:
        paths: CSV, Parquet, or lm-eval's JSON.
        given: labels that the files lack.
        progress: called with the name of the current file and the fraction that was read.

    Raises:
        AssayError: a cell is invalid; the message names the file, the row and the column.
    """
    parts: list[pd.DataFrame] = []
    weights: list[tuple[str, pd.DataFrame]] = []
    notes: list[str] = []
    bytes_read = hashlib.sha256()
    headers: list[str] = []
    for i, path in enumerate(paths):
        kind = _kind(path)
        with path.open("rb") as handle:
            bytes_read.update(hashlib.file_digest(handle, "sha256").digest())
        if path.stat().st_size == 0:
            raise Damaged(f"{path}: the file is empty.", fix="Export the file again, or remove it.")
        many = len(paths) > 1
        name, base, part = ("results", i / len(paths), 1 / len(paths)) if many else (str(path), 0.0, 1.0)

        def advance(fraction: float, name: str = name, base: float = base, part: float = part) -> None:
            if progress is not None:
                progress(name, min(1.0, base + fraction * part))

        advance(0.0)
        if kind in _HEADERS and _is_wide(path, kind, given):
            headers += _HEADERS[kind](path)
            rows, own = _wide(path, kind, given, notes)
            weights += [(str(path), each) for each in own]
            if rows and not sum(map(len, rows)):
                raise Damaged(
                    f"{path}: every cell in the columns of scores is empty.", fix="Export the file again, or remove it."
                )
            if own and not rows:
                advance(1.0)
                continue
        else:
            rows = list(_READERS[kind](path, given, notes, advance))
        if not sum(map(len, rows)):
            raise Damaged(
                f"{path}: the file has no row below the header, or all its rows are empty.",
                fix="Export the file again, or remove it.",
            )
        parts += rows
        advance(1.0)
    wide.require_matches(given.columns, headers)
    if weights and not parts:
        raise NotFound(
            f"{', '.join(map(str, paths))}: no column was read as a score. {' '.join(notes)}",
            fix="Pass a file with scores too, or name the columns with scores: --column COLUMN=TASK/METRIC.",
        )
    table = assemble(parts, list(dict.fromkeys(notes)))
    combined, more = wide.combine_weights(weights, table.frame["mix"].unique().tolist())
    return ReadResults(table._replace(notes=(*table.notes, *more)), bytes_read.hexdigest(), combined)


def _readable(path: Path, *, inside: bool) -> bool:
    name = path.name.lower()
    if inside and name.endswith(JSON):
        return path.match(lm_eval.PATTERN)
    return name.endswith((*CSV, *PARQUET, *JSON))


def _kind(path: Path) -> str:
    name = path.name.lower()
    for kind, endings in (("csv", CSV), ("parquet", PARQUET), ("json", JSON)):
        if name.endswith(endings):
            return kind
    raise ConfigError(
        f"{path}: the file's type is unknown.",
        fix="Rename a long table to .csv, .tsv or .parquet, and lm-eval's results to .json.",
    )


def _csv(path: Path, given: RunLabels, notes: list[str], advance: Callable[[float], None]) -> Iterator[pd.DataFrame]:
    import pandas as pd

    labels, size, file = given.of(path), path.stat().st_size, str(path)
    with path.open("rb") as raw:
        plain = cast("IO[bytes]", gzip.GzipFile(fileobj=raw) if _is_compressed(path) else raw)
        try:
            header, delimiter = _header(plain, file)
            ours, others = columns_of(header, file=file, given=labels)
            _note_others(others, notes)
            # Blank lines are kept at first, so that the records keep their row numbers.
            chunks = pd.read_csv(
                plain, sep=delimiter, header=None, names=header, dtype=str, na_filter=False, chunksize=CHUNK,
                encoding="utf-8", skip_blank_lines=False,
            )  # fmt: skip
            first = 0
            for chunk in chunks:
                if not isinstance(chunk.index, pd.RangeIndex):
                    raise Damaged(
                        f"{file}: the rows have more cells than the header has columns.",
                        fix="Give every row as many cells as the header.",
                    )
                frame = chunk[list(ours)].rename(columns=ours)
                blank = (frame == "").all(axis=1)
                yield from _counted(frame, blank, file=file, labels=labels, first=first)
                first += len(frame)
                advance(raw.tell() / size)
        except UnicodeDecodeError:
            raise Damaged(_undecodable(path), fix="Save the file as UTF-8.") from None
        except pd.errors.ParserError as error:
            raise Damaged(
                f"{file}: {_row_error(str(error))}.", fix="Give every row as many cells as the header."
            ) from None
        except (OSError, EOFError) as error:
            raise Damaged(
                f"{file}: cannot be decompressed: {error}.", fix="Compress or download the file again."
            ) from None


def _counted(
    frame: pd.DataFrame, blank: pd.Series, *, file: str, labels: Mapping[str, str], first: int
) -> Iterator[pd.DataFrame]:
    """Yield the blocks of rows between blank rows, with their row numbers in the file."""
    if not blank.any():
        yield checked(frame, file=file, given=labels, first=first)
        return
    for _, stretch in frame[~blank].groupby(blank.cumsum()[~blank]):
        yield checked(stretch, file=file, given=labels, first=first + int(stretch.index[0] - frame.index[0]))


def _is_compressed(path: Path) -> bool:
    return path.name.lower().endswith(".gz")


def _header(handle: IO[bytes], file: str) -> tuple[list[str], str]:
    first = handle.readline(LONGEST_HEADER)
    if not first.startswith((b"\xff\xfe", b"\xfe\xff")) and (control := re.search(rb"[\x00-\x08\x0e-\x1f\x7f]", first)):
        raise Damaged(
            f"{file}: row 1 contains the control byte 0x{control[0][0]:02x}, so the file is binary and no CSV table.",
            fix="Pass a CSV file. A Parquet file needs the suffix .parquet, and a compressed file .csv.gz.",
        )
    line = first.removeprefix(b"\xef\xbb\xbf").decode("utf-8").strip("\r\n")
    delimiter = max(DELIMITERS, key=line.count)
    names = next(csv.reader(io.StringIO(line), delimiter=delimiter), [])
    if not any(name.strip() for name in names):
        raise Damaged(
            f"{file}: row 1 is empty; expected the names of the columns.", fix="Write the column names in row 1."
        )
    if len(set(names)) < len(names):
        duplicate = next(name for name in names if names.count(name) > 1)
        raise Damaged(f"{file}: the column {duplicate!r} occurs twice.", fix="Keep one of the two columns.")
    return names, delimiter


def _row_error(message: str) -> str:
    """Rewrite the row numbers in a CSV parser's message, so that the header is row 1."""
    cells = re.search(r"Expected (\d+) fields in line (\d+), saw (\d+)", message)
    if cells:
        return f"row {int(cells[2]) + 1} has {cells[3]} cells where the header has {cells[1]}"
    open_quote = re.search(r"EOF inside string starting at row (\d+)", message)
    if open_quote:
        return f"a quotation mark in row {int(open_quote[1]) + 2} is not closed"
    return f"not a table: {message.strip()}"


def _undecodable(path: Path) -> str:
    """Describe where a file stops being UTF-8."""
    with path.open("rb") as raw:
        for number, line in enumerate(
            cast("IO[bytes]", gzip.GzipFile(fileobj=raw)) if _is_compressed(path) else raw, start=1
        ):
            if number == 1 and line.startswith((b"\xff\xfe", b"\xfe\xff")):
                return f"{path}: the file is UTF-16."
            try:
                line.decode("utf-8")
            except UnicodeDecodeError as error:
                before = line[max(0, error.start - 20) : error.start].decode("utf-8", "replace")
                byte = line[error.start]
                return f"{path}: row {number} is not UTF-8: byte 0x{byte:02x} after {before!r}."
    return f"{path}: the file is not UTF-8."


def _is_wide(path: Path, kind: str, given: RunLabels) -> bool:
    """Report whether a file is a wide table.

    Raises:
        AssayError: the options declare a wide table, and the file is a long one.
    """
    header = _HEADERS[kind](path)
    if not given.wide and not wide.is_wide(header):
        return False
    if given.wide:
        wide.refuse_long([column for column in header if column not in given.columns], str(path))
    return True


def _wide(path: Path, kind: str, given: RunLabels, notes: list[str]) -> tuple[list[pd.DataFrame], list[pd.DataFrame]]:
    """Read the scores and the weights of a wide table, and note its shape."""
    frame, file = _WHOLE[kind](path), str(path)
    if frame.empty:
        return [], []
    shape = wide.shape_of(frame, file=file, kinds=given.columns)
    scores, weights, more = wide.long_rows(frame, shape, file=file, given=given.of(path))
    notes += [shape.describe(file), *more]
    return [] if scores is None else [scores], [] if weights is None else [weights]


def _csv_header(path: Path) -> list[str]:
    with path.open("rb") as raw:
        plain = cast("IO[bytes]", gzip.GzipFile(fileobj=raw) if _is_compressed(path) else raw)
        try:
            return _header(plain, str(path))[0]
        except (UnicodeDecodeError, OSError, EOFError):
            return list(wide.LONG)  # the reader of long tables reports the damage


def _csv_whole(path: Path) -> pd.DataFrame:
    import pandas as pd

    file = str(path)
    with path.open("rb") as raw:
        plain = cast("IO[bytes]", gzip.GzipFile(fileobj=raw) if _is_compressed(path) else raw)
        try:
            header, delimiter = _header(plain, file)
            frame = pd.read_csv(
                plain, sep=delimiter, header=None, names=header, dtype=str, na_filter=False, encoding="utf-8",
                skip_blank_lines=False, index_col=False,
            )  # fmt: skip
        except UnicodeDecodeError:
            raise Damaged(_undecodable(path), fix="Save the file as UTF-8.") from None
        except pd.errors.EmptyDataError:
            return pd.DataFrame()
        except pd.errors.ParserError as error:
            raise Damaged(
                f"{file}: {_row_error(str(error))}.", fix="Give every row as many cells as the header."
            ) from None
        except (OSError, EOFError) as error:
            raise Damaged(
                f"{file}: cannot be decompressed: {error}.", fix="Compress or download the file again."
            ) from None
    return frame


def _parquet_header(path: Path) -> list[str]:
    import pyarrow as pa
    from pyarrow import parquet

    try:
        return list(parquet.read_schema(path).names)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError):
        return list(wide.LONG)  # the reader of long tables reports the damage


def _parquet_whole(path: Path) -> pd.DataFrame:
    from pyarrow import parquet

    frame: pd.DataFrame = parquet.read_table(path).to_pandas(ignore_metadata=True)
    return frame


def _parquet(
    path: Path, given: RunLabels, notes: list[str], advance: Callable[[float], None]
) -> Iterator[pd.DataFrame]:
    import pyarrow as pa
    from pyarrow import parquet

    labels, file, first = given.of(path), str(path), 0
    try:
        with parquet.ParquetFile(path) as opened:
            ours, others = columns_of(opened.schema_arrow.names, file=file, given=labels)
            _note_others(others, notes)
            rows = opened.metadata.num_rows
            for batch in opened.iter_batches(batch_size=CHUNK, columns=list(ours)):
                frame = batch.to_pandas().rename(columns=ours)
                yield checked(frame, file=file, given=labels, first=first)
                first += len(frame)
                advance(first / max(rows, 1))
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError) as error:
        raise Damaged(
            f"{file}: the file is no complete Parquet file: {str(error)[:200]}", fix="Write or download the file again."
        ) from None


def _json(path: Path, given: RunLabels, notes: list[str], advance: Callable[[float], None]) -> Iterator[pd.DataFrame]:
    import pandas as pd

    del notes, advance
    rows = lm_eval.rows_of(path)
    labels = given.of(path)
    if "scale" not in labels and (counted := lm_eval.parameters_of(path)):
        labels["scale"] = counted
    for name in LABELS:
        if name not in labels:
            raise ConfigError(
                f"{path}: lm-eval's results lack the {name} of a run.",
                fix=f"Give the {name} with --{name}, or read the {name} from the path: --pattern with (?P<{name}>...).",
            )
    yield checked(pd.DataFrame(rows), file=str(path), given=labels, first=None, finite=False)


def _note_others(others: Sequence[str], notes: list[str]) -> None:
    if others:
        notes.append(f"unknown columns were excluded: {', '.join(others)}.")


_READERS: Mapping[str, Callable[[Path, RunLabels, list[str], Callable[[float], None]], Iterator[pd.DataFrame]]] = {
    "csv": _csv,
    "parquet": _parquet,
    "json": _json,
}
_HEADERS: Mapping[str, Callable[[Path], list[str]]] = {"csv": _csv_header, "parquet": _parquet_header}
_WHOLE: Mapping[str, Callable[[Path], pd.DataFrame]] = {"csv": _csv_whole, "parquet": _parquet_whole}
