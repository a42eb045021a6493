"""Figures as people read them; the same on the page, in Markdown and in the terminal."""
# ruff: noqa: RUF002  # the dash and the minus sign are what is meant

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from assay.compare import Comparison

NOTHING = "\N{EN DASH}"
"""Stands where there is no figure."""

MINUS = "\N{MINUS SIGN}"

ACCURACIES = frozenset({"acc", "acc_norm", "acc_mutual_info", "exact_match", "f1"})
"""Metrics that are shares: differences are spoken of in points, as in the verdict's reasons."""

_UNITS = ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k"))

METRICS = {
    "acc": "accuracy",
    "acc_norm": "accuracy, by length",
    "bits_per_byte": "bits per byte",
}
"""What people call a metric, where its own name says too little."""


def amount(number: float | None) -> str:
    """A count in three digits: `950`, `12.3k`, `1.5B`.

    >>> [amount(n) for n in (950, 12345, 1_500_000_000, None)]
    ['950', '12.3k', '1.5B', '–']
    """
    if number is None:
        return NOTHING
    for size, unit in _UNITS:
        # 999,950 is 1M in three digits, not 1e+03k.
        if abs(number) >= size * 0.9995:
            return f"{number / size:.3g}{unit}"
    return f"{number:.3g}"


def share(part: float | None) -> str:
    """A share in percent, with as many digits as tell small ones from 0.

    >>> [share(s) for s in (0.3, 0.0123, 0.00004, 0.0, None)]
    ['30.0%', '1.23%', '0.0040%', '0%', '–']
    """
    if part is None:
        return NOTHING
    percent = part * 100
    if percent == 0:
        return "0%"
    digits = 1 if abs(percent) >= 10 else 2 if abs(percent) >= 0.1 else 4
    return f"{percent:.{digits}f}%"


def score(metric: str, value: float | None) -> str:
    """A metric's value: accuracies in percent, all else as it is.

    >>> score("acc", 0.3125), score("bits_per_byte", 1.25), score("acc", None)
    ('31.25%', '1.2500', '–')
    """
    return NOTHING if value is None else f"{value:.2%}" if metric in ACCURACIES else f"{value:.4f}"


def size(metric: str, value: float | None) -> str:
    """How much of a metric, without a sign: accuracies in points.

    >>> size("acc", 0.01), size("bits_per_byte", 0.005)
    ('1.00 pt', '0.0050')
    """
    return signed(metric, None if value is None else abs(value)).removeprefix("+")


def signed(metric: str, value: float | None) -> str:
    """A difference, with its sign: accuracies in points.

    >>> signed("acc", -0.0123), signed("bits_per_byte", 0.01), signed("acc", None)
    ('−1.23 pt', '+0.0100', '–')
    """
    if value is None:
        return NOTHING
    text = f"{100 * value:+.2f} pt" if metric in ACCURACIES else f"{value:+.4f}"
    return text.replace("-", MINUS)


def probability(p: float | None) -> str:
    """A p-value; tiny ones are bounded, since a p of 0 does not exist.

    >>> [probability(p) for p in (0.25, 0.00143, 0.00004, None)]
    ['0.25', '0.0014', '< 0.0001', '–']
    """
    if p is None:
        return NOTHING
    return f"{p:.2g}" if p >= 0.0001 else "< 0.0001"


def interval(metric: str, low: float | None, high: float | None) -> str:
    """An interval of differences.

    >>> interval("acc", -0.01, 0.02)
    '−1.00 to +2.00 pt'
    """
    if low is None or high is None:
        return NOTHING
    return f"{signed(metric, low).removesuffix(' pt')} to {signed(metric, high)}"


def duration(seconds: float | None) -> str:
    """Seconds as people say them: `45 s`, `12 min`, `3.5 h`."""
    if not seconds:
        return NOTHING
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def count(number: int, thing: str, things: str | None = None) -> str:
    """A number and what it counts.

    >>> count(1, "seed"), count(3, "seed"), count(2, "mix", "mixes")
    ('1 seed', '3 seeds', '2 mixes')
    """
    return f"{number:,} {thing if number == 1 else things or thing + 's'}"


def moment(when: datetime.datetime) -> str:
    """A time to the minute, with its zone."""
    return when.strftime("%Y-%m-%d %H:%M %Z").strip()


def clock(seconds: float | None) -> str:
    """Seconds since the epoch as a time to the minute.

    >>> clock(1_795_000_000.0), clock(None)
    ('2026-11-18 11:06 UTC', '–')
    """
    if seconds is None:
        return NOTHING
    try:
        return moment(datetime.datetime.fromtimestamp(seconds, datetime.UTC))
    except (OverflowError, ValueError, OSError):  # a record that no clock wrote
        return NOTHING


def metric_name(metric: str) -> str:
    """What people call a metric."""
    return METRICS.get(metric, metric)


def change(comparison: Comparison) -> str:
    """Whether the estimate points to better or to worse; no more than that."""
    if comparison.effect == 0:
        return "equal"
    return "better" if (comparison.effect > 0) == (comparison.better == "higher") else "worse"


def shortened(name: str, length: int) -> str:
    """A long name with its middle left out; beginning and end tell names apart best.

    >>> shortened("a_very_long_name_indeed_v2", 12)
    'a_very…ed_v2'
    """
    if len(name) <= length:
        return name
    head = (length - 1 + 1) // 2
    return f"{name[:head]}…{name[len(name) - (length - 1 - head) :]}"
