"""Tokens to match: how many tokens of one recipe are worth those of another, read off their curves by tokens.

With L_b the baseline's loss after so many tokens, and the candidate ending after D tokens at L_c(D), it is D'/D where
L_b(D') = L_c(D). Above 1 the candidate's tokens are worth more. A loss that the baseline never reaches is not looked
for beyond its curve: then D'/D is more than what was measured, and nothing else is known. Asked the other way round,
with the arms changing places, a candidate that is better has an answer inside its curve.

What it is not: the ratio at another budget, or at another size. And a curve out of the midst of a run is not the
curve of the ends of shorter runs, whose learning rate had come down: where the rate falls at the end, the curve
falls with it, and ratios are drawn towards 1. Curves of the ends of runs of several budgets are free of that.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from assay.errors import AssayError
from assay.stats.frames import Seed

BINS = 20
"""A curve of more points is averaged over so many stretches of its tokens: a record is a few sequences, and noisy."""

Bound = Literal["measured", "more than", "less than", "unknown"]


class Curve(NamedTuple):
    """Losses by tokens.

    Attributes:
        tokens: trained on so far, above 0 and rising; shape (points,).
        loss: what is lower for the better model; shape (points,).
    """

    tokens: NDArray[np.float64]
    loss: NDArray[np.float64]


class Match(NamedTuple):
    """How many tokens of the reference match the other's, as a share of the other's.

    Attributes:
        ratio: D'/D, the geometric mean over seeds; of a bound, what it is more or less than; NaN where it is unknown.
        low: lower end of the interval; NaN for a bound and for one seed.
        high: upper end.
        level: the interval's nominal coverage.
        bound: `measured`; `more than` or `less than` where a seed's loss lies outside of what was measured;
            `unknown` where seeds do on both sides, or there are none.
        seeds: that both have.
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
    """Of the reference, how many tokens reach the loss that the other ends at, over the tokens that the other took.

    The interval is Student's for the mean over seeds of log(D'/D), each seed's curves being paired. A bootstrap over
    three seeds would cover far less than it says.

    Args:
        reference: a curve for each seed; the baseline's, for D'/D as it is usually meant.
        other: the same; seeds that only one has are left out.
        level: coverage of the interval.
        fallen: whether the curves are what `knots` makes of them already.

    Raises:
        AssayError: a curve has no two points, or tokens or losses that are none.
    """
    from scipy.special import stdtrit

    shared = [seed for seed in reference if seed in other]
    if not fallen:
        reference, other = ({seed: knots(part[seed]) for seed in shared} for part in (reference, other))
    found = [_one(reference[seed], other[seed]) for seed in shared]
    bounds = {bound for _, bound in found} - {"measured"}
    if not found or len(bounds) > 1:
        return Match(math.nan, math.nan, math.nan, level, "unknown", len(found))
    logs = np.array([ratio for ratio, _ in found])
    ratio = math.exp(float(logs.mean()))
    if bounds:  # every seed's is at least (at most) what stands there, and so is their mean
        return Match(ratio, math.nan, math.nan, level, bounds.pop(), len(found))
    if len(found) < 2:
        return Match(ratio, math.nan, math.nan, level, "measured", len(found))
    df = len(found) - 1
    half = float(stdtrit(df, 0.5 + level / 2) * logs.std(ddof=1) / math.sqrt(len(found)))
    return Match(ratio, ratio * math.exp(-half), ratio * math.exp(half), level, "measured", len(found))


def knots(curve: Curve) -> Curve:
    """A curve that only falls: averaged over stretches, and where that rises, over all that do, put at their centre.

    Centred isotonic regression (Oron and Flournoy 2017, arXiv 1701.05964): between its points the curve is straight
    over the logarithm of the tokens, and each loss is reached once.

    Returns:
        Log tokens and losses, strictly falling.

    Raises:
        AssayError: see `tokens_to_match`.
    """
    from scipy.optimize import isotonic_regression

    tokens, loss = (np.asarray(part, np.float64) for part in curve)
    if len(tokens) < 2 or len(tokens) != len(loss):
        raise AssayError(
            f"tokens to match: a curve of {len(tokens)} tokens and {len(loss)} losses; it takes two of each."
        )
    if not (np.isfinite(loss).all() and np.isfinite(tokens).all() and tokens[0] > 0 and (np.diff(tokens) > 0).all()):
        raise AssayError("tokens to match: tokens are above 0 and rise from point to point, and losses are finite.")
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
    centres, means = (np.add.reduceat(weights * part, blocks[:-1]) / total for part in (np.log(tokens), loss))
    return Curve(centres, means)


def _one(reference: Curve, other: Curve) -> tuple[float, Bound]:
    """The logarithm of one seed's D'/D, and whether it is what it is or a bound; both curves by log tokens."""
    end, target = other.tokens[-1], other.loss[-1]
    if target < reference.loss[-1]:
        return float(reference.tokens[-1] - end), "more than"
    if target > reference.loss[0]:
        return float(reference.tokens[0] - end), "less than"
    return float(np.interp(-target, -reference.loss, reference.tokens) - end), "measured"
