"""Compute how many tokens of one recipe reach the loss of another, from loss curves.

Let L_b be the baseline's loss as a function of tokens, and let the candidate end after D tokens at L_c(D). The result
is D'/D with L_b(D') = L_c(D). A result above 1 means that a token of the candidate is worth more than a token of the
baseline. The module does not extrapolate to a loss that the baseline never reaches. The result is then a lower bound of
D'/D. If the arms are exchanged, the ratio of a better candidate is a measurement rather than a bound.

The result does not hold at another budget or model size. The curve within a run also differs from the curve of the
final losses of shorter runs, whose learning rates have decayed. If the learning rate falls at the end of training, the
loss falls too, which draws ratios toward 1. Curves of the final losses of runs with several budgets do not have this
bias.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from assay.analysis.stats.tables import Seed
from assay.core.errors import Damaged

BINS = 20
"""Number of token bins over which longer curves are averaged. A record covers a few sequences and is noisy."""

Bound = Literal["measured", "more than", "less than", "unknown"]


class Curve(NamedTuple):
    """Losses by tokens.

    Attributes:
        tokens: tokens trained so far, above 0 and ascending; shape (points,).
        loss: lower is better; shape (points,).
    """

    tokens: NDArray[np.float64]
    loss: NDArray[np.float64]


class Match(NamedTuple):
    """The tokens of a reference at another arm's final loss, relative to that arm's tokens.

    Attributes:
        ratio: D'/D, the geometric mean over seeds. If only a bound is known, `ratio` is the bound. NaN if unknown.
        low: lower end of the interval; NaN for a bound and for one seed.
        high: upper end of the interval.
        level: the interval's nominal coverage.
        bound: `measured`, or `more than` or `less than` if the loss of a seed lies outside the measured range, or
            `unknown` without seeds or if losses lie outside the range on both sides.
        seeds: number of seeds that both arms have.
    """

    ratio: float
    low: float
    high: float
    level: float
    bound: Bound
    seeds: int


def tokens_to_match(
    reference: Mapping[Seed, Curve], other: Mapping[Seed, Curve], *, level: float = 0.95, fallen: bool = False
) -> Match:
    """Compute the reference's tokens at another arm's final loss, relative to that arm's tokens.

    The interval is Student's t interval for the mean over seeds of log(D'/D), with curves paired by seed. A bootstrap
    over three seeds would have too little coverage.

    Args:
        reference: one curve per seed; the baseline's curves for the usual D'/D.
        other: one curve per seed of the other arm. Seeds that only one arm has are ignored.
        level: coverage of the interval.
        fallen: whether the curves are outputs of `knots`.

    Raises:
        AssayError: a curve has fewer than two points, or invalid tokens or losses.
    """
    from scipy.special import stdtrit

    shared = [seed for seed in reference if seed in other]
    if not fallen:
        reference, other = ({seed: knots(part[seed]) for seed in shared} for part in (reference, other))
    by_seed = [_log_ratio(reference[seed], other[seed]) for seed in shared]
    bounds = {bound for _, bound in by_seed} - {"measured"}
    if not by_seed or len(bounds) > 1:
        return Match(math.nan, math.nan, math.nan, level, "unknown", len(by_seed))
    logs = np.array([ratio for ratio, _ in by_seed])
    ratio = math.exp(float(logs.mean()))
    if bounds:  # each seed's ratio is at least (at most) its bound, and so is the mean of the ratios
        return Match(ratio, math.nan, math.nan, level, bounds.pop(), len(by_seed))
    if len(by_seed) < 2:
        return Match(ratio, math.nan, math.nan, level, "measured", len(by_seed))
    df = len(by_seed) - 1
    half = float(stdtrit(df, 0.5 + level / 2) * logs.std(ddof=1) / math.sqrt(len(by_seed)))
    return Match(ratio, ratio * math.exp(-half), ratio * math.exp(half), level, "measured", len(by_seed))


def knots(curve: Curve) -> Curve:
    """Fit a strictly falling curve by centered isotonic regression (Oron and Flournoy 2017, arXiv 1701.05964).

    The method averages the curve over bins, pools rising stretches, and places each stretch at its center. Between
    points, the fitted curve is linear in the logarithm of the tokens. The fitted curve reaches each loss once.

    Returns:
        Log tokens and losses, strictly falling.

    Raises:
        AssayError: see `tokens_to_match`.
    """
    from scipy.optimize import isotonic_regression

    tokens, loss = (np.asarray(part, np.float64) for part in curve)
    if len(tokens) < 2 or len(tokens) != len(loss):
        raise Damaged(
            f"tokens to match: a curve with {len(tokens)} token counts and {len(loss)} losses is invalid; expected at least two of each.",
            fix="Pass a training curve with at least two records.",
        )
    if not (np.isfinite(loss).all() and np.isfinite(tokens).all() and tokens[0] > 0 and (np.diff(tokens) > 0).all()):
        raise Damaged(
            "tokens to match: a curve is invalid; expected ascending token counts above 0 and finite losses.",
            fix="Pass the records of one run, in order of tokens.",
        )
    if len(tokens) > BINS:
        stretch = np.minimum((tokens / tokens[-1] * BINS).astype(int), BINS - 1)
        counts = np.bincount(stretch)
        kept = counts > 0
        tokens, loss = ((np.bincount(stretch, part)[kept] / counts[kept]) for part in (tokens, loss))
        weights = counts[kept].astype(np.float64)
    else:
        weights = np.ones(len(tokens))
    blocks = isotonic_regression(loss, weights=weights, increasing=False).blocks
    total = np.add.reduceat(weights, blocks[:-1])
    centers, means = (np.add.reduceat(weights * part, blocks[:-1]) / total for part in (np.log(tokens), loss))
    return Curve(centers, means)


def _log_ratio(reference: Curve, other: Curve) -> tuple[float, Bound]:
    """Return the logarithm of one seed's D'/D, and whether the value is measured or a bound.

    Both curves are over log tokens.
    """
    end, target = other.tokens[-1], other.loss[-1]
    if target < reference.loss[-1]:
        return float(reference.tokens[-1] - end), "more than"
    if target > reference.loss[0]:
        return float(reference.tokens[0] - end), "less than"
    return float(np.interp(-target, -reference.loss, reference.tokens) - end), "measured"
