"""Format phrases and figures for the sentences of reasons. An unknown figure is None."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from assay.config.aggregate import MARGINS, SEED_SDS
from assay.config.metrics import FRACTIONS

if TYPE_CHECKING:
    from collections.abc import Callable

    from assay.config.reason import Reason

    Render = Callable[[Reason], str]
    RenderWithCauses = Callable[[Reason, Sequence[str]], str]
    """The second argument has the rendered causes, without periods at the end."""

_MEANS = {SEED_SDS: "seed SDs", MARGINS: "margins"}
"""Units of means over tasks."""

SHOWN = 6
"""Maximum number of keys, runs or arms that a sentence lists. The sentence counts the others."""


def as_sentence(phrase: str) -> str:
    """Capitalize a phrase and end it with a period."""
    return f"{phrase[0].upper()}{phrase[1:]}."


def plural(number: int, noun: str, *, ending: str = "s") -> str:
    """Format a count with its noun: `1 seed`, `3 seeds`."""
    return f"{number:,} {noun}{ending * (number != 1)}"


def sized(metric: str, value: float | None, *, sign: bool = False) -> str:
    """Format a figure of a metric with its unit: accuracies in percentage points."""
    number = math.nan if value is None else value
    if metric in FRACTIONS:
        return f"{100 * number:{'+' if sign else ''}.2f} points"
    if metric in _MEANS:
        return f"{number:{'+' if sign else ''}.2f} {_MEANS[metric]}"
    unit = " bits per byte" if metric == "bits_per_byte" else ""
    return f"{number:{'+' if sign else ''}.4{'f' if unit else 'g'}}{unit}"


def size(reason: Reason, figure: str, *, sign: bool = False) -> str:
    """Format a figure of a reason in the unit of its metric."""
    return sized(reason.metric, reason.figures[figure], sign=sign)


def ends(metric: str, low: float | None, high: float | None) -> str:
    """Format the ends of an interval without units."""
    return " to ".join(sized(metric, end, sign=True).split(" ")[0] for end in (low, high))


def effect(reason: Reason, *more: str) -> str:
    """State an effect with its interval, its number of seeds and further figures."""
    figures = reason.figures
    interval = f"{percent(figures['level'])} interval {ends(reason.metric, figures['ci_low'], figures['ci_high'])}"
    details = ", ".join([interval, plural(figures["n_seeds"], "seed"), *more])
    return f"The effect is {size(reason, 'effect', sign=True)} ({details})."


def probability(p: float | None) -> str:
    """Format a p-value; values below 0.0001 are shown as a bound."""
    if p is None:
        return "unknown"
    return f"{p:.2g}" if p >= 0.0001 else "below 0.0001"


def chance(value: float) -> str:
    """Format a probability in percent; values below 0.1% are shown as a bound."""
    return f"{value:.1%}" if value >= 0.001 else "below 0.1%"


def percent(fraction: float) -> str:
    """Format a level or an alpha in percent, never as 0% or 100%: 95%, 99.67%.

    The distance from 0 or 1 has two significant digits.
    """
    distance = min(fraction, 1 - fraction)
    digits = max(1, -1 - math.floor(math.log10(distance)))
    return f"{100 * fraction:.{digits}f}".rstrip("0").rstrip(".") + "%"


def duration(seconds: float) -> str:
    """Format worker time in the largest unit that yields at least 1.5."""
    for length, unit, least in ((3600, "h", 5400), (60, "min", 90)):
        if seconds >= least:
            return f"{seconds / length:.{int(length > 60)}f} {unit}"
    return f"{seconds:.0f} s"


def seed_list(seeds: Sequence[Any]) -> str:
    """List seeds: `seed 3`, `seeds 0, 1`."""
    return f"seed{'s' * (len(seeds) != 1)} {', '.join(map(str, seeds))}"


def seed_ranges(seeds: Sequence[int]) -> str:
    """List seeds, with ranges for at least three in a row: `seeds 0 to 4, 7, 8`."""
    rows: list[list[int]] = []
    for seed in sorted(seeds):
        if rows and seed == rows[-1][-1] + 1:
            rows[-1].append(seed)
        else:
            rows.append([seed])
    parts = [f"{row[0]} to {row[-1]}" if len(row) > 2 else ", ".join(map(str, row)) for row in rows]
    return f"seed{'s' * (len(seeds) != 1)} {', '.join(parts)}"


def metric_list(metrics: Sequence[Mapping[str, Any]]) -> str:
    """List metrics by task and name."""
    return ", ".join(f"{metric['task']} {metric['metric']}" for metric in metrics)


def metrics_named(reason: Reason) -> str:
    """List the metrics of a reason by task and name, up to a maximum number."""
    return some([metric_list([metric]) for metric in reason.figures["metrics"]])


def these_seeds(seeds: Sequence[Any]) -> str:
    """Refer to seeds that the sentence has named."""
    return "this seed" if len(seeds) == 1 else "these seeds"


def some(names: Sequence[str]) -> str:
    """List the first names and count the rest."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
