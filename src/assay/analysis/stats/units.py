"""Bring the values of each metric to one unit, and refuse values that no unit explains.

Tools report accuracies as fractions of 1 or in percent, and losses in bits or nats. A table with both units would show a
difference that is only the unit's. The column `unit` declares the unit of a row. Without it, the unit is inferred:

- If all values of a metric between 0 and 1 are above 1, they are in percent. They are divided by 100, and a reason records this.
- If some are above 1 and some are not, the unit is ambiguous, and the table is refused.
- Values of at most 1 count as fractions, unless the table contradicts this: values that form two groups a factor of `APART`
  apart, standard errors that fit percent only, or item counts that fit percent only. Then the table is refused.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from assay.analysis.stats.tables import as_floats, group_codes
from assay.config.metrics import BITS_PER_BYTE, FRACTIONS, metric_facts, without_filter
from assay.config.reason import Code, Reason
from assay.core.errors import Damaged, Refused

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

UNIT = "unit"
"""Optional column with the unit of a value."""

EQUAL = "equal"
"""Entry of the column `unit` for values of one evaluation: all rows of the metric have one unit, which is inferred."""

APART = 30.0
"""Smallest ratio of two groups of values that suggests two units.

Percent and fractions differ by a factor of 100. Arms of one comparison differ by a factor of less than 3 in practice, so two
units appear as a ratio between 33 and 300."""

FITS_ITEMS = 1e-5
"""Largest probability that fractions are, by chance, multiples of 100 items, as small percentages are."""

NATS_IN_BITS = 1 / math.log(2)

DECLARE = (
    "Bring all values to one unit, or declare the unit: percent or fraction, in a column `unit` of each row or with"
    " `assay import add --unit` for all rows."
)

_SPELLINGS = {
    "%": "percent",
    "percent": "percent",
    "percentage": "percent",
    "pct": "percent",
    "fraction": "fraction",
    "ratio": "fraction",
    "proportion": "fraction",
    "bit": "bits",
    "nat": "nats",
    "bpb": "bits per byte",
}

Place = Callable[[int], str]
"""Describes a row by its position in the table, for errors."""


class OneUnit(NamedTuple):
    """A table with one unit per metric.

    Attributes:
        frame: the rows; values, standard errors and chance levels are in the unit of their metric.
        conversions: which values were converted; empty if none were.
    """

    frame: pd.DataFrame
    conversions: tuple[Reason, ...]


class _Conversion(NamedTuple):
    """A factor for some rows of a table.

    Attributes:
        rows: positions of the rows.
        factor: multiplies the values.
        unit: unit before the conversion.
        to: unit after the conversion.
        declared: whether the table declares the unit.
    """

    rows: NDArray[np.intp]
    factor: float
    unit: str
    to: str
    declared: bool


def to_one_unit(frame: pd.DataFrame, what: str, *, place: Place | None = None) -> OneUnit:
    """Convert the values of each metric to one unit.

    Args:
        frame: a long table of `mix, seed, task, metric, value`, and optionally `unit, n, stderr, chance`.
        what: name of the table, as the subject of conversions.
        place: describes a row for errors (default: its mix and seed).

    Raises:
        AssayError: a metric has values in several units that cannot be distinguished, or a value that its unit excludes.
    """
    if frame.empty:
        return OneUnit(frame, ())
    rows = _Rows(frame, place)
    rows.require_chance_levels()
    conversions = [*rows.declared(), *rows.inferred()]
    if not conversions and not rows.chance_in_percent.any():
        return OneUnit(frame, ())
    return OneUnit(rows.converted(conversions), tuple(_reasons(rows, conversions, what)))


def require_possible(frame: pd.DataFrame, *, place: Place | None = None) -> None:
    """Refuse values below the lower bound of their metric, such as a negative perplexity.

    Raises:
        AssayError: names the first row.
    """
    if frame.empty:
        return
    rows = _Rows(frame, place)
    least = rows.by_metric(lambda metric: metric_facts(without_filter(metric)).least, missing=-math.inf)
    bad = np.flatnonzero(np.isfinite(rows.numbers) & (rows.numbers < least - 1e-9))
    if len(bad):
        raise Damaged(
            f"{rows.name(bad[0])}: {rows.numbers[bad[0]]:g} is invalid; expected at least {least[bad[0]]:g}{_more(bad)}.",
            fix="Evaluate the run again, or remove its row. The seed then counts as missing.",
        )


def require_equal_units(results: pd.DataFrame, history: pd.DataFrame) -> None:
    """Refuse a history that declares another unit of a metric than the results.

    Both tables have one unit per metric (see `to_one_unit`). Accuracies are fractions in both. For other metrics, bits in one
    table and nats in the other differ, and so do percentages that one table declares and the other does not.

    Raises:
        AssayError: names the metric and both units.
    """
    if UNIT not in results and UNIT not in history:
        return
    own, past = _declared_units(results), _declared_units(history)
    for metric in own.keys() & past.keys():
        pair = (own[metric], past[metric])
        if without_filter(metric[1]) in FRACTIONS or pair[0] == pair[1] or ("" in pair and "fraction" not in pair):
            continue
        units = [unit or "undeclared" for unit in pair]
        raise Refused(
            f"{' '.join(metric)}: the unit is {units[0]} in the results and {units[1]} in the history; expected one unit.",
            fix="Bring both tables to one unit, and declare it in the column `unit` of both.",
        )


def _declared_units(frame: pd.DataFrame) -> dict[tuple[str, str], str]:
    """Return the declared unit of each task and metric, empty for none."""
    named = frame[["task", "metric"]].assign(unit=frame.get(UNIT)).drop_duplicates()
    rows = zip(named["task"], named["metric"], named["unit"], strict=True)
    return {
        (str(task), str(metric)): unit if isinstance(unit, str) and unit != EQUAL else "" for task, metric, unit in rows
    }


def find_gap(values: NDArray[np.float64], n_items: int | None = None) -> tuple[float, float] | None:
    """Return the two neighboring values whose gap suggests a change of unit; None without such a gap.

    Args:
        values: values of one metric at one scale; values that are not positive and finite are ignored.
        n_items: number of items behind each value. A percentage must be at least half an item.
    """
    known = np.unique(values[np.isfinite(values) & (values > 0)])
    if len(known) < 2:
        return None
    ratios = known[1:] / known[:-1]
    at = int(np.argmax(ratios))
    low, high = float(known[at]), float(known[at + 1])
    if ratios[at] < APART or (n_items is not None and high * n_items / 100 < 0.5):
        return None
    return low, high


class _Rows:
    """The columns of a table that determine units."""

    def __init__(self, frame: pd.DataFrame, place: Place | None) -> None:
        self.frame = frame
        self.numbers = frame["value"].to_numpy(dtype=float)
        self._place = place or self._run
        self._metric_codes, first = group_codes(frame, ["metric"])
        self._metric_names = [str(name) for name in frame["metric"].iloc[first]]
        self.fractions = self.by_metric(lambda metric: without_filter(metric) in FRACTIONS).astype(bool)
        self.chance = as_floats(frame, "chance")
        self._units = self._read_units()
        declared = np.isin(self._units, ("percent", "fraction")) if self._units is not None else False
        self._bounded = self.fractions | declared
        self.chance_in_percent = self._bounded & (self.chance > 1)

    def by_metric(self, fact: Callable[[str], Any], *, missing: float = 0.0) -> NDArray[np.float64]:
        """Return a fact about the metric of each row."""
        facts = [fact(name) for name in self._metric_names]
        return np.array([missing if known is None else known for known in facts], dtype=float)[self._metric_codes]

    def _read_units(self) -> NDArray[np.object_] | None:
        """Return the declared unit of each row, empty for none; None if the table declares no unit."""
        import pandas as pd

        if UNIT not in self.frame or self.frame[UNIT].isna().all():
            return None
        codes, known = pd.factorize(self.frame[UNIT])
        names = np.array(
            [*("" if unit == EQUAL else _normalized(unit) for unit in known), ""], dtype=object
        )  # the last one is that of missing entries
        return names[codes]

    def name(self, row: int) -> str:
        """Describe a row: its place, task and metric."""
        return f"{self._place(row)}: {self.metric(row)}"

    def metric(self, row: int) -> str:
        """Return the task and the metric of a row."""
        return f"{self.frame['task'].iloc[row]} {self.frame['metric'].iloc[row]}"

    def _run(self, row: int) -> str:
        return f"{self.frame['mix'].iloc[row]} seed {self.frame['seed'].iloc[row]}"

    def groups(self, rows: NDArray[np.bool_], *, by: Sequence[str] = ("task", "metric")) -> Iterable[NDArray[np.intp]]:
        """Yield the positions of the marked rows of each task and metric, or of other groups."""
        at = np.flatnonzero(rows)
        if not len(at):
            return
        codes, first = group_codes(self.frame.iloc[at], list(by))
        order = np.argsort(codes, kind="stable")
        ends = np.searchsorted(codes[order], np.arange(1, len(first)))
        yield from np.split(at[order], ends)

    def require_chance_levels(self) -> None:
        """Refuse chance levels that are neither fractions nor percentages."""
        bad = np.flatnonzero(self._bounded & (self.chance > 100))
        if len(bad):
            raise Damaged(
                f"{self.name(bad[0])}: chance level {self.chance[bad[0]]:g} is invalid; expected a fraction of 1{_more(bad)}.",
                fix="Correct the column `chance`.",
            )

    # --- declared units

    def declared(self) -> list[_Conversion]:
        """Return the conversions of rows with a declared unit.

        Raises:
            AssayError: a metric has several units without a known conversion, or a value that its unit excludes.
        """
        if self._units is None:
            return []
        conversions = []
        for rows in self.groups(self._units != ""):
            conversions += self._declared_fractions(rows) if self._as_fractions(rows) else self._declared_others(rows)
        return conversions

    def _as_fractions(self, rows: NDArray[np.intp]) -> bool:
        assert self._units is not None
        return bool(self.fractions[rows[0]]) or set(self._units[rows]) <= {"percent", "fraction"}

    def _declared_fractions(self, rows: NDArray[np.intp]) -> list[_Conversion]:
        assert self._units is not None
        if not self.fractions[rows[0]]:  # the unit of other metrics is never inferred
            self._require_declared(rows)
        units = self._units[rows]
        for unit, most in (("percent", 100.0), ("fraction", 1.0)):
            marked = rows[units == unit]
            self._refuse_outside(marked, most, f"a value from 0 to {most:g}, because the declared unit is {unit}")
        other = rows[~np.isin(units, ("percent", "fraction"))]
        if len(other):
            raise Refused(
                f"{self.name(other[0])}: unit {self._units[other[0]]!r} is invalid; expected percent or fraction{_more(other)}.",
                fix="Correct the column `unit`, or leave it empty.",
            )
        percent = rows[units == "percent"]
        self._refuse_apart(percent, rows[units == "fraction"])
        return [_Conversion(percent, 0.01, "percent", "fraction", declared=True)] if len(percent) else []

    def _refuse_apart(self, percent: NDArray[np.intp], fraction: NDArray[np.intp]) -> None:
        """Refuse declarations of two units if the arms' medians still differ by a factor of `APART` after conversion."""
        arms: list[tuple[float, int]] = []
        for rows, factor in ((percent, 0.01), (fraction, 1.0)):
            marked = np.zeros(len(self.numbers), dtype=bool)
            marked[rows] = self.numbers[rows] > 0
            of_mixes = self.groups(marked, by=("mix",))
            arms += [(float(np.median(self.numbers[own])) * factor, int(own[0])) for own in of_mixes]
        if not arms or not len(percent) or not len(fraction):
            return
        (low, a), (high, b) = min(arms), max(arms)
        assert self._units is not None
        if high >= APART * low and self._units[a] != self._units[b]:
            raise Refused(
                f"{self.metric(a)} is {self.numbers[a]:g} for {self._place(a)}, declared as {self._units[a]}, and"
                f" {self.numbers[b]:g} for {self._place(b)}, declared as {self._units[b]}: after conversion to fractions, the"
                f" mixes differ by a factor of {high / low:.0f}.",
                fix="Correct the declared units.",
            )

    def _declared_others(self, rows: NDArray[np.intp]) -> list[_Conversion]:
        """Convert nats to bits if a metric has both units or is defined in bits. Refuse other mixtures of units."""
        assert self._units is not None
        is_bits_per_byte = without_filter(str(self.frame["metric"].iloc[rows[0]])) == BITS_PER_BYTE
        units = set(self._units[rows])
        if not is_bits_per_byte:
            self._require_declared(rows)
        in_bits = {unit.replace("nats", "bits", 1) for unit in units}
        if not in_bits <= {"bits", "bits per byte"} if is_bits_per_byte else len(in_bits) > 1:
            raise Refused(
                f"{self.metric(rows[0])}: the units {', '.join(sorted(units))} are invalid; expected"
                f" {'bits or nats per byte' if is_bits_per_byte else 'one unit'}.",
                fix="Bring all values to one unit.",
            )
        nats = rows[np.array([unit.startswith("nats") for unit in self._units[rows]], dtype=bool)]
        if not len(nats) or (len(nats) == len(rows) and not is_bits_per_byte):
            return []
        return [_Conversion(nats, NATS_IN_BITS, "nats", "bits", declared=True)]

    def _require_declared(self, rows: NDArray[np.intp]) -> None:
        """Refuse a metric of which some rows declare a unit and others do not."""
        assert self._units is not None
        undeclared = self._undeclared(rows)
        if len(undeclared):
            raise Refused(
                f"{self.metric(rows[0])}: some rows declare the unit {self._units[rows[0]]!r} and {len(undeclared):,} declare none,"
                f" such as {self._place(undeclared[0])}.",
                fix="Declare the unit of every row of the metric in the column `unit`.",
            )

    def _undeclared(self, rows: NDArray[np.intp]) -> NDArray[np.intp]:
        """Return the rows of the same task and metric that declare no unit."""
        assert self._units is not None
        frame = self.frame
        same = (frame["task"] == frame["task"].iloc[rows[0]]) & (frame["metric"] == frame["metric"].iloc[rows[0]])
        return np.flatnonzero(same.to_numpy(dtype=bool) & (self._units == ""))

    # --- inferred units

    def inferred(self) -> list[_Conversion]:
        """Return the conversions of fractions that are in percent although no unit is declared.

        Raises:
            AssayError: the unit of a metric is ambiguous, or a value is neither a fraction nor a percentage.
        """
        open_rows = self.fractions if self._units is None else self.fractions & (self._units == "")
        self._refuse_outside(np.flatnonzero(open_rows), 100.0, "a fraction of 1, or a percentage from 0 to 100")
        positive = open_rows & np.isfinite(self.numbers) & (self.numbers > 0)
        conversions = []
        for rows in self.groups(positive) if (positive & (self.numbers > 1)).any() else ():
            high = self.numbers[rows] > 1
            if high.all():
                conversions.append(_Conversion(rows, 0.01, "percent", "fraction", declared=False))
            elif high.any():
                self._refuse_mixture(rows[high], rows[~high])
        self._refuse_percent_below_one(positive)
        return conversions

    def _refuse_outside(self, rows: NDArray[np.intp], most: float, expected: str) -> None:
        bad = rows[(self.numbers[rows] > most * (1 + 1e-9)) | (self.numbers[rows] < 0)]
        bad = bad[np.isfinite(self.numbers[bad])]
        if len(bad):
            raise Damaged(
                f"{self.name(bad[0])}: {self.numbers[bad[0]]:g} is invalid; expected {expected}{_more(bad)}.",
                fix="Correct the value, or remove the row. The seed then counts as missing.",
            )

    def _refuse_mixture(self, high: NDArray[np.intp], low: NDArray[np.intp]) -> None:
        a, b = (high[0], low[0])
        raise Refused(
            f"{self.metric(a)} is {self.numbers[a]:g} for {self._place(a)} and {self.numbers[b]:g} for {self._place(b)}:"
            f" {_values(len(high))} above 1 and {len(low):,} {'is' if len(low) == 1 else 'are'} not, so percent and fractions"
            " are mixed.",
            fix=DECLARE,
        )

    def _refuse_percent_below_one(self, positive: NDArray[np.bool_]) -> None:
        """Refuse values of at most 1 whose standard errors or item counts show that they are percentages."""
        n, stderr = as_floats(self.frame, "n"), as_floats(self.frame, "stderr")
        small = positive & (self.numbers < 1) & (n > 0)
        for rows in self.groups(small, by=("task", "metric", "mix")):  # one arm may be in percent
            if _stderr_fits_percent(self.numbers[rows], n[rows], stderr[rows]):
                self._refuse_percent(rows[0], f"the standard error {stderr[rows[0]]:g} of {n[rows[0]]:g} items")
        for rows in self.groups(small):
            if _items_fit_percent(self.numbers[rows], n[rows]):
                self._refuse_percent(rows[0], f"the number of items, {n[rows[0]]:g},")

    def _refuse_percent(self, row: int, evidence: str) -> None:
        value = self.numbers[row]
        raise Refused(
            f"{self.name(row)} is {value:g}, and {evidence} fits {value:g} percent, not a fraction of 1.", fix=DECLARE
        )

    # --- conversion

    def converted(self, conversions: Sequence[_Conversion]) -> pd.DataFrame:
        """Return the table after the conversions."""
        values, stderr, chance = self.numbers.copy(), np.array(as_floats(self.frame, "stderr")), self.chance.copy()
        units = None if self._units is None else self._units.copy()
        n = as_floats(self.frame, "n")
        chance[self.chance_in_percent] /= 100
        for conversion in conversions:
            rows = conversion.rows
            values[rows] *= conversion.factor
            factors = np.full(len(rows), conversion.factor)
            if conversion.unit == "percent" and not conversion.declared:
                # A standard error may be a fraction although its value is in percent; the item count shows which.
                with np.errstate(divide="ignore"):
                    expected = np.sqrt(values[rows] * (1 - values[rows]) / n[rows])
                factors[stderr[rows] < 3 * expected] = 1.0
            stderr[rows] *= factors
            if units is not None:
                units[rows] = [
                    conversion.to if not conversion.declared else unit.replace(conversion.unit, conversion.to, 1)
                    for unit in units[rows]
                ]
        changed: dict[str, NDArray[Any]] = {"value": values}
        changed |= {name: own for name, own in (("stderr", stderr), ("chance", chance)) if name in self.frame}
        if units is not None:
            before = [EQUAL if unit == EQUAL else None for unit in self.frame[UNIT]]
            changed[UNIT] = np.array([unit or old for unit, old in zip(units, before, strict=True)], dtype=object)
        return self.frame.assign(**changed)


def _stderr_fits_percent(values: NDArray[np.float64], n: NDArray[np.float64], stderr: NDArray[np.float64]) -> bool:
    """Report whether all known standard errors are those of proportions in percent, and not those of fractions.

    The standard error of a proportion p of n items is sqrt(p (1 - p) / n).
    """
    known = np.isfinite(stderr) & (stderr > 0)
    if not known.any():
        return False
    value, items, error = values[known], n[known], stderr[known]
    as_fraction = error / np.sqrt(value * (1 - value) / items)
    as_percent = error / (100 * np.sqrt(value / 100 * (1 - value / 100) / items))
    return bool((np.abs(np.log(as_percent)) < math.log(1.3)).all() and (as_fraction > 3).all())


def _items_fit_percent(values: NDArray[np.float64], n: NDArray[np.float64]) -> bool:
    """Report whether all values are multiples of 100 items, which is improbable for fractions.

    A percentage is 100 k / n for k items, so that value x n is a multiple of 100. The tolerance is half of the last digit.
    """
    chance, seen = 1.0, set[tuple[float, float]]()
    for value, items in zip(values.tolist(), n.tolist(), strict=True):
        if (value, items) in seen:
            continue
        seen.add((value, items))
        digits = len(f"{value!r}".partition(".")[2]) if "e" not in repr(value) else 17
        tolerance = max(0.5 * 10.0**-digits * items, 1e-6 * items)
        count = value * items
        if count < 50 or abs(count - 100 * round(count / 100)) > tolerance:
            return False
        chance *= min(1.0, (2 * tolerance + 1) / 100)
    return chance <= FITS_ITEMS


def _reasons(rows: _Rows, conversions: Sequence[_Conversion], what: str) -> list[Reason]:
    """State the conversions, with one reason for all metrics that were converted in the same way."""
    frame, together = rows.frame, dict[tuple[str, str, bool], list[_Conversion]]()
    for conversion in conversions:
        together.setdefault((conversion.unit, conversion.to, conversion.declared), []).append(conversion)
    reasons = []
    for (unit, to, declared), same in together.items():
        first = [conversion.rows[0] for conversion in same]
        at = np.concatenate([conversion.rows for conversion in same])
        figures = {
            "unit": unit,
            "to": to,
            "declared": declared,
            "values": len(at),
            "metrics": _metrics(frame, first),
            "mixes": sorted({str(mix) for mix in frame["mix"].iloc[at]}),
            "example": float(rows.numbers[at[0]]),
        }
        reasons.append(Reason(code=Code.UNIT_CONVERTED, subject=what, figures=figures))
    chance = np.flatnonzero(rows.chance_in_percent)
    if len(chance):
        metrics = [group[0] for group in rows.groups(rows.chance_in_percent)]
        figures = {
            "unit": "percent",
            "to": "fraction",
            "declared": False,
            "values": len(chance),
            "metrics": _metrics(frame, metrics),
            "mixes": sorted({str(mix) for mix in frame["mix"].iloc[chance]}),
            "example": float(rows.chance[chance[0]]),
            "column": "chance",
        }
        reasons.append(Reason(code=Code.UNIT_CONVERTED, subject=what, figures=figures))
    return reasons


def _metrics(frame: pd.DataFrame, rows: Sequence[int]) -> list[dict[str, str]]:
    return [{"task": str(frame["task"].iloc[row]), "metric": str(frame["metric"].iloc[row])} for row in rows]


def _normalized(unit: object) -> str:
    """Normalize the spelling of a unit. Unknown units keep their spelling.

    >>> _normalized(" % "), _normalized("Nats/byte"), _normalized("fractions")
    ('percent', 'nats per byte', 'fraction')
    """
    text = " ".join(str(unit).strip().lower().replace("/", " per ").split())
    first, _, rest = text.partition(" per ")
    known = _SPELLINGS.get(first) or _SPELLINGS.get(first.removesuffix("s")) or first
    return f"{known} per {rest}" if rest else known


def _values(number: int) -> str:
    """Return a number of values as a subject with its verb.

    >>> _values(1), _values(2)
    ('1 value is', '2 values are')
    """
    return "1 value is" if number == 1 else f"{number:,} values are"


def _more(rows: NDArray[np.intp]) -> str:
    others = len(rows) - 1
    return f" ({others:,} more such row{'s' * (others > 1)})" if others else ""
