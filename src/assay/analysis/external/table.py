"""Define the long table of external results, and locate errors by file, row and column.

Values keep the unit of their file. Before every decision, `assay.analysis.stats.units` brings each metric to one unit. The import
runs the same check, to refuse a table early and to report conversions.
"""

from __future__ import annotations

import difflib
import hashlib
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from assay.analysis.stats.evaluation_columns import require_chance_levels, require_item_counts
from assay.analysis.stats.tables import FAMILY, WHOLE_SEED, normalized_seed
from assay.analysis.stats.units import UNIT, find_gap, require_possible, to_one_unit
from assay.config.metrics import FRACTIONS, without_filter
from assay.core.errors import ConfigError, Damaged, NotFound, did_you_mean

if TYPE_CHECKING:
    import pandas as pd

LABELS = ("mix", "seed", "scale", "tokens")
"""Labels of a run. An option or the file's path provides the labels that a file lacks."""
NAMES = ("mix", "seed", "task", "metric")
REQUIRED = (*LABELS, "task", "metric", "value")
NUMBERS = ("n", "stderr", "chance", "num_fewshot")
SETTINGS = ("version", "num_fewshot", "prompt")
"""Evaluation settings. The known settings of both arms must be equal."""
COLUMNS = (*REQUIRED, "n", "stderr", "chance", *SETTINGS, UNIT, FAMILY)
KEY = ["mix", "seed", "scale", "tokens", "task", "metric"]
"""Columns that identify a value."""

NO_FILTER = ",none"
"""Suffix of metrics without an answer filter in lm-eval's files: `acc,none` is `acc`."""
NAMED = 5
"""Maximum number of scores that a note lists by name. The note only counts further scores."""

_NOT_FINITE = frozenset({"nan", "inf", "+inf", "-inf", "infinity", "+infinity", "-infinity"})
_UNITS = {"t": 1e12, "b": 1e9, "m": 1e6, "k": 1e3, "": 1.0}
_AMOUNT = re.compile(r"([0-9][0-9_]*(?:\.[0-9]+)?(?:[eE]\+?[0-9]+)?|\.[0-9]+)\s*([kKmMbBtT]?)")
_HEADER = 1
"""Row number of the header, counted as in a spreadsheet."""


class ExternalTable(NamedTuple):
    """Validated external results.

    Attributes:
        frame: the columns of `COLUMNS`, sorted by `KEY`; `scale` is text such as `150M`, and `seed` is a whole number
            or text.
        notes: sentences on excluded or suspicious rows.
        digest: SHA-256 of the rows, independent of their file and order.
    """

    frame: pd.DataFrame
    notes: tuple[str, ...]
    digest: str


def amount(text: str) -> float:
    """Parse a number with an optional suffix.

    >>> amount("150M"), amount("1B"), amount("1e9"), amount("3_000")
    (150000000.0, 1000000000.0, 1000000000.0, 3000.0)

    Raises:
        ValueError: the text is not a number above 0.
    """
    match = _AMOUNT.fullmatch(text.strip())
    value = float(match[1]) * _UNITS[match[2].lower()] if match else math.nan
    if not 0 < value < math.inf:
        raise ValueError(text)
    return value


def scale_label(text: str) -> str:
    """Normalize a scale to the spelling of tables and policies.

    >>> scale_label("150m"), scale_label("1.5e8"), scale_label("1000M"), scale_label("151898880")
    ('150M', '150M', '1B', '151898880')

    Raises:
        ValueError: the text is not a number.
    """
    number = amount(text)
    for unit, size in (("T", 1e12), ("B", 1e9), ("M", 1e6), ("k", 1e3)):
        short = f"{number / size:.4g}"
        if number >= size and "e" not in short and math.isclose(float(short) * size, number, rel_tol=1e-12):
            return f"{short}{unit}"
    return f"{number:.15g}"


def score_of(value: Any) -> float | None:
    """Return a value of a JSON record as a score, which may be NaN or infinite; None for anything else, such as `N/A`.

    >>> score_of(0.5), score_of("-Infinity"), score_of("N/A"), score_of(True)
    (0.5, -inf, None, None)
    """
    if isinstance(value, str):
        return float(value) if value.strip().lower() in _NOT_FINITE else None
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def finite_or_none(value: float | None) -> float | None:
    """Return a finite number; None for anything else."""
    return value if value is not None and math.isfinite(value) else None


def columns_of(header: Sequence[str], *, file: str, given: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    """Map a file's columns to those of the table.

    Args:
        header: the file's columns.
        file: the file's name, for errors.
        given: labels from an option or the path, for columns that the file lacks.

    Returns:
        The table's column name by the file's, and the unknown columns.

    Raises:
        AssayError: a column is missing, duplicated, or apparently misspelled.
    """
    ours: dict[str, str] = {}
    for column in header:
        name = column.strip().lower()
        if name in COLUMNS:
            if name in ours.values():
                raise Damaged(f"{file}: the column {name!r} occurs twice.", fix="Keep one of the two columns.")
            ours[column] = name
    others = [column for column in header if column not in ours]
    for name in REQUIRED:
        if name not in ours.values() and name not in given:
            option = f"Give it with --{name}, or rename the column." if name in LABELS else "Rename or add the column."
            raise NotFound(f"{file}: no column is named {name!r}. {did_you_mean(name, header)}", fix=option)
    for column in others:
        missing = [name for name in COLUMNS if name not in ours.values() and name not in given]
        near = difflib.get_close_matches(column.strip().lower(), missing, n=1, cutoff=0.8)
        if near:
            raise ConfigError(
                f"{file}: the column {column!r} is unknown. Did you mean {near[0]!r}?", fix="Rename the column."
            )
    return ours, others


def checked(
    frame: pd.DataFrame, *, file: str, given: Mapping[str, str], first: int | None, finite: bool = True
) -> pd.DataFrame:
    """Convert the rows of one file to the table's types, and record their row numbers.

    Args:
        frame: the table's columns, as text or as numbers.
        file: the file's name, for errors.
        given: labels for missing columns, and the `unit` of metrics between 0 and 1.
        first: number of preceding records of the file; None if the file has no rows to count.
        finite: whether to refuse scores that are not finite. Otherwise they stay, and the verdict names them.

    Raises:
        AssayError: a cell is empty or not a number; the message names file, row and column.
    """
    import numpy as np
    import pandas as pd

    made: dict[str, Any] = {}
    rows = np.arange(len(frame)) + first + _HEADER + 1 if first is not None else np.zeros(len(frame), dtype=int)
    place = _Place(file, rows)
    for name in REQUIRED:
        column = frame[name] if name in frame else pd.Series([given[name]] * len(frame), index=frame.index)
        if name == "seed":
            made[name] = _seeds(column, place).astype("category")
        elif name == "value":
            made[name] = _values(column, place, finite=finite)
        elif name in NAMES:
            made[name] = _names(column, name, place).astype("category")
        else:
            made[name] = _amounts(column, name, place)
    for name in COLUMNS[len(REQUIRED) :]:
        if name in frame:
            made[name] = _numbers(frame[name], name, place) if name in NUMBERS else _text(frame[name]).replace("", None)
    if UNIT not in frame and given.get(UNIT):
        fractions = (without_filter(str(metric)) in FRACTIONS for metric in made["metric"])
        made[UNIT] = pd.Series([given[UNIT] if marked else None for marked in fractions], index=frame.index)
    made |= {"_file": pd.Categorical([file] * len(frame)), "_row": rows}
    return pd.DataFrame(made)


def assemble(parts: Iterable[pd.DataFrame], notes: Sequence[str] = ()) -> ExternalTable:
    """Combine the rows of all files into one table.

    Raises:
        AssayError: there are no rows, or two rows have different values for the same metric of a run.
    """
    import pandas as pd

    frames = list(parts)
    if not sum(map(len, frames)):
        raise NotFound("the input contains no result.", fix="Pass files with results.")
    frame = pd.concat(frames, ignore_index=True)
    for name in (*NAMES, "scale", "_file"):
        frame[name] = frame[name].astype("str")
    for name in COLUMNS[len(REQUIRED) :]:
        if name not in frame:
            frame[name] = math.nan if name in NUMBERS else None
        frame[name] = frame[name].astype("float64" if name in NUMBERS else "str")
    if frame["seed"].str.fullmatch(r"-?[0-9]+").all():
        frame["seed"] = frame["seed"].astype("int64")
    frame, filter_notes = _without_none_filter(frame)
    frame, duplicate_notes = _deduplicated(frame)
    frame = frame.sort_values(KEY, kind="stable", ignore_index=True)
    odd = tuple(_odd(frame))
    frame = frame[list(COLUMNS)]
    return ExternalTable(frame, (*notes, *filter_notes, *duplicate_notes, *odd), _digest(frame))


class _Place(NamedTuple):
    """The places of cells in a file."""

    file: str
    rows: Any

    def refuse(self, bad: Any, column: str, values: pd.Series, problem: str, fix: str) -> None:
        """Raise an error for the first cell that is marked as bad."""
        import numpy as np

        at = int(np.flatnonzero(np.asarray(bad))[0])
        more = int(np.sum(np.asarray(bad))) - 1
        row = f"row {self.rows[at]}, " if self.rows[at] else ""
        shown = str(values.iloc[at])[:60]
        others = f" ({more:,} more such row{'s' * (more > 1)} in this part of the file)" if more else ""
        raise Damaged(f"{self.file}: {row}column {column!r}: {problem.format(repr(shown))}{others}.", fix=fix)


def _text(column: pd.Series) -> pd.Series:
    """Return a column as stripped text without the `.0` of whole numbers; empty if missing."""
    from pandas.api.types import is_float_dtype

    if is_float_dtype(column.dtype):
        return column.map(_written).astype("str")
    text = column if str(column.dtype) == "str" else column.astype("object").where(column.notna(), "").astype("str")
    return text.fillna("").str.strip()


def _written(value: float) -> str:
    return "" if math.isnan(value) else str(int(value)) if float(value).is_integer() else repr(float(value))


def _names(column: pd.Series, name: str, place: _Place) -> pd.Series:
    text = _text(column)
    if (text == "").any():
        place.refuse(text == "", name, text, "the cell is empty", f"Give every row a {name}.")
    return text


def _seeds(column: pd.Series, place: _Place) -> pd.Series:
    """Parse seeds: names, or whole numbers of 64 bits in one spelling. Parse each distinct text once.

    Raises:
        AssayError: a seed is a number that is not whole, or exceeds 64 bits.
    """
    text = _names(column, "seed", place)
    known: dict[str, str] = {}
    for value in text.unique():
        try:
            known[value] = normalized_seed(value)
        except ValueError:
            fix = "Write each seed as a whole number such as 0, or as a name."
            place.refuse(text == value, "seed", text, f"{{}} is invalid; expected {WHOLE_SEED}, or a name", fix)
    return text.map(known)


def _values(column: pd.Series, place: _Place, *, finite: bool) -> Any:
    import numpy as np
    import pandas as pd

    text = _text(column) if column.dtype == "object" or str(column.dtype) in ("str", "category") else column
    numbers = pd.to_numeric(text, errors="coerce").to_numpy(dtype="float64")
    if finite and not np.isfinite(numbers).all():
        fix = (
            "Write a number with a decimal point, and without % sign or thousands separator. If the run has no such score,"
            " remove the row: that seed then counts as missing."
        )
        place.refuse(~np.isfinite(numbers), "value", _text(column), "{} is invalid; expected a finite number", fix)
    return numbers


def _numbers(column: pd.Series, name: str, place: _Place) -> Any:
    """Parse numbers. A cell may be empty if the number is unknown."""
    import numpy as np
    import pandas as pd

    text = _text(column)
    unknown = text.str.lower().isin(["", "nan", "na", "n/a", "none", "null"])
    numbers = pd.to_numeric(text.mask(unknown), errors="coerce").to_numpy(dtype="float64")
    bad = ~unknown.to_numpy(dtype=bool) & ~(np.isfinite(numbers) & (numbers >= 0))
    if bad.any():
        place.refuse(bad, name, text, "{} is invalid; expected a number of at least 0", "Leave unknown cells empty.")
    return numbers


def _amounts(column: pd.Series, name: str, place: _Place) -> Any:
    """Parse scales as labels, or tokens as whole numbers. Parse each distinct text once."""
    text = _text(column)
    known: dict[str, Any] = {}
    for value in text.unique():
        try:
            known[value] = scale_label(value) if name == "scale" else round(amount(value))
        except ValueError:
            fix = "Write 150M, 1B, 1e9 or 1000000000."
            place.refuse(text == value, name, text, "{} is invalid; expected a number above 0", fix)
    return text.map(known).astype("category" if name == "scale" else "int64")


def _deduplicated(frame: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """Drop identical rows, with a note. Raise an error for rows with equal keys and different values."""
    duplicates = frame[frame.duplicated(KEY, keep=False)]
    if duplicates.empty:
        return frame, []
    kept = frame.drop_duplicates(list(COLUMNS))
    clash = kept[kept.duplicated(KEY, keep=False)].sort_values(KEY, kind="stable")
    if not clash.empty:
        first, second = clash.iloc[0], clash.iloc[1]
        what = ", ".join(f"{name} {first[name]}" for name in KEY)
        differing = [name for name in COLUMNS if name not in KEY and str(first[name]) != str(second[name])]
        values = "; ".join(f"{name} is {first[name]} and {second[name]}" for name in differing)
        raise Damaged(
            f"{_where(first)} and {_where(second)} disagree on {what}: {values}.",
            fix="Keep one of the two results, or give the runs different mixes or seeds.",
        )
    dropped = len(frame) - len(kept)
    at = frame[frame.duplicated(list(COLUMNS))].iloc[0]
    same = "1 identical row was" if dropped == 1 else f"{dropped:,} identical rows were"
    return kept, [f"{same} dropped (such as {_where(at)})."]


def _where(row: Any) -> str:
    return f"{row['_file']} row {row['_row']}" if row["_row"] else str(row["_file"])


def _without_none_filter(frame: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """Rename metrics such as `acc,none`, which lm-eval writes for `acc`."""
    marked = frame["metric"].str.endswith(NO_FILTER)
    if not marked.any():
        return frame, []
    example = frame.loc[marked, "metric"].iloc[0]
    note = (
        f"{int(marked.sum()):,} rows of metrics such as {example!r} were read as {example.removesuffix(NO_FILTER)!r}."
    )
    return frame.assign(metric=frame["metric"].str.removesuffix(NO_FILTER)), [note]


def _odd(frame: pd.DataFrame) -> Iterator[str]:
    """Yield notes on values that are not finite or in percent.

    Raises:
        AssayError: a value is impossible, or a metric has values in several units; the message names file and row.
    """
    import numpy as np

    def place(row: int) -> str:
        at = frame.iloc[row]
        return f"{at['mix']} seed {at['seed']} ({_where(at)})"

    require_possible(frame, place=place)
    require_item_counts(frame, "results")
    table = to_one_unit(frame, "results", place=place)
    require_chance_levels(table.frame, "results")
    for reason in table.conversions:
        figures = reason.figures
        names = [f"{metric['task']} {metric['metric']}" for metric in figures["metrics"]]
        what = "chance level" if figures.get("column") == "chance" else figures["unit"]
        appears = f"is declared to be in {what}" if figures["declared"] else f"appears to be in {what}"
        if figures.get("column") == "chance":
            appears = "has chance levels that appear to be in percent"
        yield (
            f"{_some(names)} {appears}, such as {figures['example']:g}; {figures['values']:,}"
            f" {'value is' if figures['values'] == 1 else 'values are'} converted to"
            f" {figures['to']}s for every comparison."
        )
    yield from _gaps(frame)
    broken = np.flatnonzero(~np.isfinite(frame["value"].to_numpy(dtype=float)))
    if len(broken):
        names = [
            f"{frame['task'].iloc[row]} {frame['metric'].iloc[row]} of {place(row)} is {frame['value'].iloc[row]}"
            for row in broken[:NAMED].tolist()
        ]
        more = f" and {len(broken) - NAMED:,} more" if len(broken) > NAMED else ""
        yield f"scores that are not finite: {'; '.join(names)}{more}. A verdict on such a metric is inconclusive."


def _gaps(frame: pd.DataFrame) -> Iterator[str]:
    """Yield a note on each metric without a declared unit whose values form two groups, which may have two units."""
    fractions = frame["metric"].map(without_filter).isin(FRACTIONS) & frame[UNIT].isna()
    last = frame["tokens"] == frame.groupby(["mix", "seed", "scale"], observed=True)["tokens"].transform("max")
    for (task, metric, scale), rows in frame[fractions & last].groupby(["task", "metric", "scale"], observed=True):
        gap = find_gap(rows["value"].to_numpy(dtype=float))
        if gap is not None:
            yield (
                f"{task} {metric} at {scale} is {gap[0]:g} and {gap[1]:g}, with no value between: percent and fractions may be"
                " mixed. assay compares such values only if the column `unit` declares their unit."
            )


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED} more metrics" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more


def _digest(frame: pd.DataFrame) -> str:
    from pandas.util import hash_pandas_object

    # Tables without declared units and families keep the digests of earlier versions, so that a repeated import is recognized.
    names = [name for name in COLUMNS if name not in {UNIT, FAMILY} or frame[name].notna().any()]
    columns = [hash_pandas_object(frame[name], index=False).to_numpy() for name in names]
    return hashlib.sha256(b"".join(column.tobytes() for column in columns)).hexdigest()
