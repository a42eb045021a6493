"""Read wide tables: one row per run, with one column per score, per source weight, or both.

The shape is taken from the names and the values of the columns, and reported. A column that fits no kind or two kinds is
an error, whose fix is an explicit `COLUMN=KIND`.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from assay.analysis.external.table import LABELS, NO_FILTER, REQUIRED, checked
from assay.config.metrics import METRICS
from assay.core.errors import ConfigError, Damaged, NotFound, did_you_mean

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

LONG = ("task", "metric", "value")
"""Columns of long tables. A table with none of them is wide."""
MIX_ALIASES = ("mix", "mixture", "recipe", "index", "id", "run", "name", "")
"""Names of columns that may identify the mix. The last one is the index that pandas writes."""
SCORE_PREFIX = re.compile(r"(?:metrics?|eval|scores?)/")
WEIGHT_PREFIXES = ("weights/", "weight/", "mixture/", "weight_", "train_")
"""Prefixes that are removed from the names of sources, if all weights of a file have the prefix."""
STDERR = re.compile(r"[_./ ,-]stderr(?P<filter>,[\w-]+)?$")
_SCORE = re.compile(
    r"(?P<task>.+?)[_/.:, ](?P<metric>(?:"
    + "|".join(map(re.escape, sorted(METRICS, key=len, reverse=True)))
    + r")(?:,[\w-]+)?)"
)
TOTAL_OFF = 0.02
"""Largest difference between 1 and the sum of a row's weights. Published weights are rounded, often to three digits."""
EXAMPLES = 4
"""Maximum number of columns that a message names for one kind."""
KINDS = ("mix", "seed", "scale", "tokens", "weight", "skip")
UNKNOWN = ("", "na", "n/a", "none", "null")
"""Contents of an empty cell."""


class Score(NamedTuple):
    """A column of scores.

    Attributes:
        column: name of the column in the file.
        task: the task.
        metric: the metric.
        stderr: name of the column with the standard errors; None without one.
    """

    column: str
    task: str
    metric: str
    stderr: str | None = None


@dataclass(frozen=True, kw_only=True)
class WideShape:
    """The kind of each column of a wide table."""

    labels: Mapping[str, str]
    """Column by label; `mix` is always present."""
    scores: tuple[Score, ...]
    weights: Mapping[str, str]
    """Source by column of weights."""
    skipped: tuple[str, ...]
    by_total: bool
    """Whether the columns of weights were recognized by their row sums."""
    percent: bool
    """Whether the weights of a row sum to 100 rather than 1."""

    def describe(self, file: str) -> str:
        """Describe the shape in one note."""
        rest = [f"{_quoted(column)} is the {label}" for label, column in self.labels.items()]
        if self.scores:
            parts = [f"{_quoted(score.column)} as {score.task} {score.metric}" for score in self.scores]
            rest.append(f"{_count(len(self.scores))} of scores ({_some(parts)})")
        if self.weights:
            parts = [f"{_quoted(column)} as {source}" for column, source in self.weights.items()]
            why = f", because each row sums to {100 if self.percent else 1}" if self.by_total else ""
            unit = "; percent are converted to fractions" if self.percent else ""
            rest.append(f"{_count(len(self.weights))} of source weights{why} ({_some(parts)}){unit}")
        if self.skipped:
            rest.append(f"excluded: {_some([*map(_quoted, self.skipped)])}")
        return f"{file} was read as a wide table: {'; '.join(rest)}."


def is_wide(header: Sequence[str]) -> bool:
    """Report whether a header belongs to a wide table: it has no column of a long table, such as `task`."""
    return not {column.strip().lower() for column in header} & set(LONG)


def parse_columns(texts: Sequence[str]) -> dict[str, str]:
    """Parse the command line's `COLUMN=KIND`.

    Raises:
        ConfigError: a text has another form.
    """
    kinds: dict[str, str] = {}
    for text in texts:
        column, mark, kind = text.rpartition("=")
        if not mark or not column or not (kind in KINDS or re.fullmatch(r".+/[^/]+", kind)):
            raise ConfigError(
                f"--column {text!r} is invalid; expected COLUMN=KIND.",
                fix=f"Write one of {', '.join(KINDS)} or TASK/METRIC as the kind, such as 'val_arc=arc/loss' or 'train_*=weight'.",
            )
        kinds[column] = kind
    return kinds


def require_matches(kinds: Mapping[str, str], columns: Sequence[str]) -> None:
    """Refuse explicit kinds of columns that no wide table has.

    Args:
        kinds: explicit kinds by column or pattern.
        columns: the columns of all wide tables.

    Raises:
        ConfigError: names the first pattern without a column.
    """
    for pattern, kind in kinds.items():
        if not any(fnmatch.fnmatchcase(column, pattern) or column == pattern for column in columns):
            raise ConfigError(
                f"--column {pattern}={kind} matches no column of a wide table. {did_you_mean(pattern, columns)}",
                fix="Correct the name of the column, or omit the option.",
            )


def shape_of(frame: pd.DataFrame, *, file: str, kinds: Mapping[str, str]) -> WideShape:
    """Find the kind of each column.

    Args:
        frame: the table; its cells are text or numbers.
        file: the file's name, for errors.
        kinds: explicit kinds by column or pattern, which take precedence.

    Raises:
        AssayError: a column is ambiguous, or no column identifies the mix.
    """
    columns = [str(column) for column in frame.columns]
    explicit = _explicit(columns, kinds, file)
    labels = {kind: column for column, kind in explicit.items() if kind in LABELS}
    scores = {c: _split(kind) for c, kind in explicit.items() if "/" in kind}
    explicit = dict.fromkeys((c for c in columns if c.startswith(WEIGHT_PREFIXES[:2])), "weight") | explicit
    weights = [column for column, kind in explicit.items() if kind == "weight"]
    skipped = [column for column, kind in explicit.items() if kind == "skip"]
    rest = [column for column in columns if column not in explicit]
    for label in LABELS[1:]:
        same = [column for column in rest if column.strip().lower() == label]
        if label not in labels and len(same) == 1:
            labels[label] = same[0]
    if "mix" not in labels:
        labels["mix"] = _mix_column(rest, file)
    labels = {name: labels[name] for name in LABELS if name in labels}
    rest = [column for column in rest if column not in labels.values()]
    errors = {
        column: STDERR.sub(lambda match: match["filter"] or "", column) for column in rest if STDERR.search(column)
    }
    scores |= {c: score for c in rest if c not in errors and (score := _score(c)) is not None}
    _require_distinct(scores, file)
    by_score = {_score(base): column for column, base in errors.items()}
    errors_of = {column: by_score[score] for column, score in scores.items() if score in by_score}
    rest = [column for column in rest if column not in scores and column not in errors_of.values()]
    texts = [column for column in rest if not _is_numeric(frame[column])]
    rest = [column for column in rest if column not in texts]
    total = _total(frame[[*weights, *rest]]) if len(weights) + len(rest) > 1 else None
    if rest and total is None:
        raise ConfigError(
            f"{file}: {_columns(len(rest))} ambiguous: {_some([*map(_quoted, rest)])}. They name no known metric, and their"
            " rows do not sum to 1, as weights do.",
            fix=f"Add one --column per column or pattern, such as --column '{rest[0]}=TASK/METRIC', --column '{rest[0]}=weight'"
            f" or --column '{rest[0]}=skip'.",
        )
    weights += rest
    if weights and not rest and total is None:
        total = _total(frame[weights], strict=file)
    return WideShape(
        labels=labels,
        scores=tuple(Score(c, *scores[c], errors_of.get(c)) for c in columns if c in scores),
        weights=_sources([column for column in columns if column in weights]),
        skipped=(*skipped, *texts),
        by_total=bool(rest),
        percent=total == 100,
    )


def long_rows(
    frame: pd.DataFrame, shape: WideShape, *, file: str, given: Mapping[str, str]
) -> tuple[pd.DataFrame | None, pd.DataFrame | None, list[str]]:
    """Convert a wide table.

    Args:
        frame: the table; its cells are text or numbers.
        shape: the kind of each column.
        file: the file's name, for errors.
        given: labels from an option or the path, for labels that the file lacks.

    Returns:
        The scores as rows of the long table, None without columns of scores; one row of weights per row of the file, with
        `mix` as index and a column per source, None without weights; notes on empty cells.

    Raises:
        AssayError: a label is missing, or a cell is invalid.
    """
    known = frame[list(shape.labels.values())].set_axis(list(shape.labels), axis=1)
    weights = None
    if shape.weights:
        mix_only = {name: "1" for name in LABELS if name != "mix"}
        named = checked(known[["mix"]].assign(task="-", metric="-", value=0.0), file=file, given=mix_only, first=0)
        values = frame[list(shape.weights)].apply(_numbers).to_numpy(dtype=float) / (100 if shape.percent else 1)
        weights = frame[[]].assign(**{source: values[:, i] for i, source in enumerate(shape.weights.values())})
        weights = weights.set_axis(named["mix"].astype("str").to_numpy(), axis=0).rename_axis("mix")
    if not shape.scores:
        return None, weights, []
    lacking = [name for name in LABELS if name not in known and name not in given]
    if lacking:
        options = " ".join(f"--{name} {'0' if name == 'seed' else name.upper()}" for name in lacking)
        raise NotFound(
            f"{file}: this wide table has no column for {' and '.join(lacking)}.",
            fix=f"Import it with `assay import add {file} {options}`, or name a column with --column COLUMN={lacking[0]}.",
        )
    labels = checked(known.assign(task="-", metric="-", value=0.0), file=file, given=given, first=0)
    return _score_rows(frame, shape, labels, file=file, given=given), weights, _empty_notes(frame, shape, file)


def _score_rows(
    frame: pd.DataFrame, shape: WideShape, labels: pd.DataFrame, *, file: str, given: Mapping[str, str]
) -> pd.DataFrame:
    """Return one row per score that is present, with the number of its row in the file."""
    import pandas as pd

    parts = []
    for score in shape.scores:
        present = ~_is_empty(frame[score.column])
        numbers = _numbers(frame[score.column])
        broken = present & ~np.isfinite(numbers)
        if broken.any():
            at = int(np.flatnonzero(broken)[0])
            raise Damaged(
                f"{file}: row {labels['_row'].iloc[at]}, column {score.column!r}: {str(frame[score.column].iloc[at])[:60]!r} is"
                " invalid; expected a finite number.",
                fix="Write a number with a decimal point, and without % sign or thousands separator. If the run has no such"
                " score, leave the cell empty: the score then counts as missing.",
            )
        part = labels.loc[present, [*LABELS, "_row"]].assign(
            task=score.task, metric=score.metric, value=numbers[present]
        )
        if score.stderr is not None:
            part = part.assign(stderr=_numbers(frame[score.stderr])[present])
        parts.append(part)
    rows = pd.concat(parts, ignore_index=True)
    typed = checked(rows.drop(columns="_row"), file=file, given=given, first=None)
    return typed.assign(_row=rows["_row"].to_numpy())


def combine_weights(
    parts: Sequence[tuple[str, pd.DataFrame]], mixes: Sequence[str]
) -> tuple[pd.DataFrame | None, list[str]]:
    """Combine the weights of all files into one row per mix.

    Args:
        parts: name and weights of each file, with `mix` as index.
        mixes: the mixes with scores.

    Returns:
        The weights, with `mix` as the first column; None without weights. Notes on mixes that only have scores or weights.

    Raises:
        Damaged: a mix has two different sets of weights; the message names the files.
    """
    import pandas as pd

    if not parts:
        return None, []
    rows = pd.concat([weights for _, weights in parts]).fillna(0.0).reset_index().drop_duplicates()
    twice = rows[rows["mix"].duplicated(keep=False)]
    if not twice.empty:
        mix = twice["mix"].iloc[0]
        files = dict.fromkeys(file for file, weights in parts if mix in weights.index)
        raise Damaged(
            f"{', '.join(files)}: mix {mix!r} has two different sets of weights.",
            fix="Import the files separately, each with its own --name, or give the mixes different names.",
        )
    named, scored = set(rows["mix"]), set(mixes)
    notes = []
    for one, other, what, lacks in ((named, scored, "weights", "scores"), (scored, named, "scores", "weights")):
        only = sorted(one - other)
        if only:
            notes.append(f"{len(only)} of {len(one)} mixes with {what} have no {lacks}, such as {only[0]!r}.")
    return rows.sort_values("mix", ignore_index=True), notes


def _explicit(columns: Sequence[str], kinds: Mapping[str, str], file: str) -> dict[str, str]:
    explicit: dict[str, str] = {}
    for pattern, kind in kinds.items():
        matches = [c for c in columns if c == pattern] or [c for c in columns if fnmatch.fnmatchcase(c, pattern)]
        if kind in LABELS and len(matches) > 1:
            raise ConfigError(
                f"{file}: --column {pattern}={kind} matches {_count(len(matches))}; expected one.",
                fix="Name one column.",
            )
        if "/" in kind and len(matches) > 1:
            raise ConfigError(
                f"{file}: --column {pattern}={kind} gives {len(matches)} columns the same name.",
                fix="Add one --column per column.",
            )
        explicit |= {column: kind for column in matches if column not in explicit}
    return explicit


def _mix_column(columns: Sequence[str], file: str) -> str:
    """Return the column that identifies the mix.

    Raises:
        AssayError: no column or several columns may identify the mix.
    """
    named = [column for column in columns if column.strip().lower() == "mix"]
    matches = named or [column for column in columns if column.strip().lower() in MIX_ALIASES]
    if len(matches) == 1:
        return matches[0]
    found = (
        f"the columns {_some([*map(_quoted, matches)])} may each name the mix" if matches else "no column names the mix"
    )
    raise NotFound(f"{file}: {found}.", fix="Name the column with --column COLUMN=mix.")


def _score(column: str) -> tuple[str, str] | None:
    """Split the name of a column into task and metric; None without a known metric."""
    name = SCORE_PREFIX.sub("", column.strip(), count=1) if SCORE_PREFIX.match(column.strip()) else column.strip()
    match = _SCORE.fullmatch(name)
    return None if match is None else (match["task"].strip(), match["metric"].removesuffix(NO_FILTER))


def _require_distinct(scores: Mapping[str, tuple[str, str]], file: str) -> None:
    """Refuse two columns of one score."""
    columns: dict[tuple[str, str], str] = {}
    for column, score in scores.items():
        if score in columns:
            raise ConfigError(
                f"{file}: the columns {columns[score]!r} and {column!r} are both {' '.join(score)}.",
                fix=f"Exclude one with --column '{column}=skip', or rename its score with --column '{column}=TASK/METRIC'.",
            )
        columns[score] = column


def _split(kind: str) -> tuple[str, str]:
    task, _, metric = kind.rpartition("/")
    return task, metric


def _numbers(column: pd.Series) -> NDArray[np.float64]:
    import pandas as pd

    return pd.to_numeric(column, errors="coerce").to_numpy(dtype=float)


def _is_empty(column: pd.Series) -> NDArray[np.bool_]:
    text = column.astype("object").where(column.notna(), "").astype("str").str.strip().str.lower()
    return np.asarray(text.isin(UNKNOWN), dtype=bool)


def _is_numeric(column: pd.Series) -> bool:
    """Report whether any cell of a column is a number."""
    return bool(np.isfinite(_numbers(column)).any())


def _total(frame: pd.DataFrame, *, strict: str = "") -> int | None:
    """Return 1 or 100, to which the columns sum in every row; None if they do not.

    Args:
        frame: columns that may be weights.
        strict: name of the file to raise an error for, if the columns are declared as weights.

    Raises:
        Damaged: declared weights are not numbers of at least 0, or do not sum to 1 or 100.
    """
    values = frame.apply(_numbers).to_numpy(dtype=float)
    with np.errstate(invalid="ignore"):
        for total in (1, 100):
            off = ~(np.abs(values.sum(axis=1) - total) <= TOTAL_OFF * total) | ~(values >= 0).all(axis=1)
            if not off.any() and len(values):
                return total
    if strict:
        at = int(np.flatnonzero(~(np.abs(values.sum(axis=1) - 1) <= TOTAL_OFF) | ~(values >= 0).all(axis=1))[0])
        raise Damaged(
            f"{strict}: row {at + 2}: the weights sum to {values[at].sum():g}; expected numbers of at least 0 that sum to 1 in"
            " each row.",
            fix="Correct the row, or declare only the weights as --column COLUMN=weight.",
        )
    return None


def _sources(columns: Sequence[str]) -> dict[str, str]:
    """Name the source of each column of weights, without a prefix that all columns have."""
    prefix = next((p for p in WEIGHT_PREFIXES if columns and all(c.startswith(p) and c != p for c in columns)), "")
    return {column: column.removeprefix(prefix) for column in columns}


def _empty_notes(frame: pd.DataFrame, shape: WideShape, file: str) -> list[str]:
    empty = sum(int(_is_empty(frame[score.column]).sum()) for score in shape.scores)
    if not empty:
        return []
    return [
        f"{file}: {empty:,} empty {'cell counts as a missing score' if empty == 1 else 'cells count as missing scores'}."
    ]


def _quoted(name: str) -> str:
    return repr(name)


def _count(number: int) -> str:
    return "1 column" if number == 1 else f"{number} columns"


def _columns(number: int) -> str:
    return f"{_count(number)} {'is' if number == 1 else 'are'}"


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - EXAMPLES} more" if len(names) > EXAMPLES else ""
    return ", ".join(names[:EXAMPLES]) + more


def refuse_long(header: Sequence[str], file: str) -> None:
    """Refuse a long table that is declared as wide.

    Raises:
        ConfigError: the header has columns of a long table.
    """
    columns = [column for column in header if column.strip().lower() in REQUIRED[len(LABELS) :]]
    if columns:
        raise ConfigError(
            f"{file}: the table has the long columns {', '.join(map(repr, columns))}, but --wide was given.",
            fix="Remove --wide, or exclude these columns with --column COLUMN=skip.",
        )
