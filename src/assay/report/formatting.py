"""Format figures, times and names in the same way for the page, Markdown and the terminal."""
# ruff: noqa: RUF002  # the dash and the minus sign are intended

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING

from assay.config.metrics import FRACTIONS, METRICS

if TYPE_CHECKING:
    from assay.analysis.comparison import Comparison

NOTHING = "\N{EN DASH}"
"""Text for a missing figure."""

MINUS = "\N{MINUS SIGN}"

_UNITS = ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k"))


def amount(number: float | None) -> str:
    """Format a count with three digits: `950`, `12.3k`, `1.5B`.

    >>> [amount(n) for n in (950, 12345, 1_500_000_000, None)]
    ['950', '12.3k', '1.5B', '–']
    """
    if number is None:
        return NOTHING
    for size, unit in _UNITS:
        # With three digits, 999,950 is 1M instead of 1e+03k.
        if abs(number) >= size * 0.9995:
            return f"{number / size:.3g}{unit}"
    return f"{number:.3g}"


def byte_count(number: float) -> str:
    """Format bytes in powers of 1000.

    >>> byte_count(0), byte_count(950), byte_count(12_345_678), byte_count(2e9)
    ('0 B', '950B', '12.3MB', '2GB')
    """
    return f"{amount(number)}B".replace("BB", "GB") if number else "0 B"


def decimal(number: float) -> str:
    """Format a quantity with two significant digits, or as a whole number from 100 on.

    >>> decimal(0.123), decimal(12.3), decimal(1234.5)
    ('0.12', '12', '1,234')
    """
    return f"{number:,.0f}" if number >= 100 else f"{number:.2g}"


def percent(part: float) -> str:
    """Format a weight in percent with up to three digits.

    >>> percent(0.3), percent(0.12345)
    ('30%', '12.3%')
    """
    return f"{100 * part:.3g}%"


def level_percent(level: float) -> str:
    """Format the level of a stage in percent, also a level that is divided among candidates.

    >>> level_percent(0.0095), level_percent(0.00095)
    ('0.95%', '0.095%')
    """
    return f"{level:.2%}" if level >= 0.001 else f"{100 * level:.2g}%"


def fraction(part: float | None) -> str:
    """Format a fraction in percent, with enough digits to distinguish small fractions from 0.

    >>> [fraction(s) for s in (0.3, 0.0123, 0.00004, 0.0, None)]
    ['30.0%', '1.23%', '0.0040%', '0%', '–']
    """
    if part is None:
        return NOTHING
    hundredths = part * 100
    if hundredths == 0:
        return "0%"
    digits = 1 if abs(hundredths) >= 10 else 2 if abs(hundredths) >= 0.1 else 4
    return f"{hundredths:.{digits}f}%"


def score(metric: str, value: float | None) -> str:
    """Format the value of a metric: accuracies in percent, other metrics unchanged.

    >>> score("acc", 0.3125), score("bits_per_byte", 1.25), score("acc", None)
    ('31.25%', '1.2500', '–')
    """
    return NOTHING if value is None else f"{value:.2%}" if metric in FRACTIONS else f"{value:.4f}"


def size(metric: str, value: float | None) -> str:
    """Format the size of a difference without its sign: accuracies in points.

    >>> size("acc", 0.01), size("bits_per_byte", 0.005)
    ('1.00 pt', '0.0050')
    """
    return signed(metric, None if value is None else abs(value)).removeprefix("+")


def signed(metric: str, value: float | None) -> str:
    """Format a difference with its sign: accuracies in points.

    >>> signed("acc", -0.0123), signed("bits_per_byte", 0.01), signed("acc", None)
    ('−1.23 pt', '+0.0100', '–')
    """
    if value is None:
        return NOTHING
    text = f"{100 * value:+.2f} pt" if metric in FRACTIONS else f"{value:+.4f}"
    return text.replace("-", MINUS)


def probability(p: float | None) -> str:
    """Format a p-value; show values below 0.0001 as a bound.

    >>> [probability(p) for p in (0.25, 0.00143, 0.00004, None)]
    ['0.25', '0.0014', '< 0.0001', '–']
    """
    if p is None:
        return NOTHING
    return f"{p:.2g}" if p >= 0.0001 else "< 0.0001"


def signed_percent(value: float | None) -> str:
    """Format an effect in percent of the baseline, with its sign.

    >>> signed_percent(-3.217), signed_percent(0.0412), signed_percent(None)
    ('−3.22%', '+0.0412%', '–')
    """
    return NOTHING if value is None else f"{_signed_digits(value, 3)}%"


def signed_sds(value: float | None) -> str:
    """Format an effect in SDs between seeds, with its sign.

    >>> signed_sds(-3.217), signed_sds(342.4), signed_sds(None)
    ('−3.2', '+342', '–')
    """
    return NOTHING if value is None else _signed_digits(value, 2)


def _signed_digits(value: float, digits: int) -> str:
    """Format a number with its sign and some significant digits, or as a whole number from 100 on."""
    return (f"{value:+,.0f}" if abs(value) >= 99.5 else f"{value:+.{digits}g}").replace("-", MINUS)


def claim(comparison: Comparison) -> str:
    """Return the claim that the p-value of a comparison tests."""
    return NOTHING if comparison.claim == "none" else comparison.claim


def interval(metric: str, low: float | None, high: float | None) -> str:
    """Format an interval of differences.

    >>> interval("acc", -0.01, 0.02)
    '−1.00 to +2.00 pt'
    """
    if low is None or high is None:
        return NOTHING
    return f"{signed(metric, low).removesuffix(' pt')} to {signed(metric, high)}"


def duration(seconds: float | None) -> str:
    """Format seconds in a suitable unit: `45 s`, `12 min`, `3.5 h`."""
    if not seconds:
        return NOTHING
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def count(number: int, thing: str, things: str | None = None) -> str:
    """Format a number with the noun that it counts.

    >>> count(1, "seed"), count(3, "seed"), count(2, "mix", "mixes")
    ('1 seed', '3 seeds', '2 mixes')
    """
    return f"{number:,} {thing if number == 1 else things or thing + 's'}"


def moment(when: datetime.datetime) -> str:
    """Format a time to the minute, with its time zone."""
    return when.strftime("%Y-%m-%d %H:%M %Z").strip()


def clock(seconds: float | None) -> str:
    """Format seconds since the Unix epoch as a time to the minute.

    >>> clock(1_795_000_000.0), clock(None)
    ('2026-11-18 11:06 UTC', '–')
    """
    if seconds is None:
        return NOTHING
    try:
        return moment(datetime.datetime.fromtimestamp(seconds, datetime.UTC))
    except (OverflowError, ValueError, OSError):  # the record is damaged: no clock returns this number
        return NOTHING


def metric_name(metric: str) -> str:
    """Return the display name of a metric. A metric with an answer filter keeps its own name.

    >>> metric_name("acc_norm"), metric_name("acc,strict"), metric_name("bleu")
    ('accuracy, by length', 'acc,strict', 'bleu')
    """
    facts = METRICS.get(metric)
    return metric if facts is None or facts.label is None else facts.label


def change(comparison: Comparison) -> str:
    """Return the direction of the estimate, without regard to its significance.

    The direction is `higher` or `lower` if the direction of improvement is unknown.
    """
    if comparison.effect == 0:
        return "equal"
    if comparison.better is None:
        return "higher" if comparison.effect > 0 else "lower"
    return "better" if (comparison.effect > 0) == (comparison.better == "higher") else "worse"


def shortened(name: str, length: int) -> str:
    """Shorten a long name in its middle, because beginning and end distinguish names best.

    >>> shortened("a_very_long_name_indeed_v2", 12)
    'a_very…ed_v2'
    """
    if len(name) <= length:
        return name
    head = (length - 1 + 1) // 2
    return f"{name[:head]}…{name[len(name) - (length - 1 - head) :]}"
