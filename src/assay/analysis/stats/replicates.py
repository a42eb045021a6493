"""Estimate a metric's noise between replicates and spread between mixes from past runs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from assay.analysis.stats.tables import SCORE_KEY, Metric
from assay.analysis.stats.two_way import TwoWayLayout

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

LEAST_DF = 2
"""Minimum degrees of freedom to remove the seeds' common component from the noise."""


class Noise(NamedTuple):
    """Seed-to-seed variation of the difference of two mixes.

    Attributes:
        sd: SD over seeds of paired differences, in the metric's unit.
        df: degrees of freedom of `sd`.
        n_mixes: number of mixes with replicates.
        n_runs: number of runs of these mixes.
        item_variance: variance of a difference due to the choice of items, which more seeds do not reduce; 0 if unknown.
        n_items: number of items; None if unknown.
    """

    sd: float
    df: float
    n_mixes: int
    n_runs: int
    item_variance: float = 0.0
    n_items: int | None = None


def replicate_noise(frame: pd.DataFrame) -> dict[Metric, Noise]:
    """Estimate the noise of paired differences for every metric that has replicates.

    Arms with the same seed share initial weights and document order, and therefore part of the noise. A paired
    difference cancels the shared part. If mixes share seeds, the estimate therefore removes both the seed means and the
    mix means. This is the residual of a two-way layout, by least squares if cells are missing. Otherwise the estimate
    is the variance within mixes.

    Args:
        frame: one row per `mix, seed, task, metric` with its `value`; non-finite values are ignored.
    """
    import pandas as pd

    known = frame[np.isfinite(frame["value"].to_numpy(dtype=float))]
    if known.empty:
        return {}
    noises = {}
    for (task, metric), rows in known.drop_duplicates(SCORE_KEY, keep="last").groupby(["task", "metric"], sort=False):
        mix, seed = (pd.factorize(rows[name].astype(str))[0] for name in ("mix", "seed"))
        noise = noise_of_runs(mix, seed, rows["value"].to_numpy(float))
        if noise is not None:
            noises[str(task), str(metric)] = noise
    return noises


def noise_of_runs(mix: NDArray[np.intp], seed: NDArray[np.intp], values: NDArray[np.float64]) -> Noise | None:
    """Estimate the noise of paired differences of one metric (see `replicate_noise`).

    The layout's equations are sparse (see `TwoWayLayout`). If the mixes share a limited number of seeds, the time is
    therefore proportional to the number of mixes.

    Args:
        mix: (runs,) number of each run's mix.
        seed: (runs,) number of each run's seed.
        values: (runs,) finite scores.

    Returns:
        None without replicates, or if all replicates are equal.
    """
    replicated = np.bincount(mix, minlength=1)[mix] > 1
    if not replicated.any():
        return None
    mix = np.unique(mix[replicated], return_inverse=True)[1]
    seed = np.unique(seed[replicated], return_inverse=True)[1]
    values = values[replicated]
    layout = TwoWayLayout(mix, seed)
    df = len(values) - layout.rank
    if df >= LEAST_DF:
        residuals = layout.residuals(values)
    else:
        sizes = np.bincount(mix)
        df = len(values) - len(sizes)
        residuals = values - (np.bincount(mix, values) / sizes)[mix]
    variance = float((residuals**2).sum()) / df
    # The difference of two runs has twice the variance of a single run.
    return Noise(math.sqrt(2 * variance), df, int(mix.max()) + 1, len(values)) if variance > 0 else None


class Ratio(NamedTuple):
    """The signal-to-noise ratio of a metric: SD between mixes / SD between replicates.

    Attributes:
        value: the estimate; 0 if the replicates' noise explains all differences between mixes.
        low: lower end of its interval.
        high: upper end of the interval.
        level: the interval's nominal coverage.
        n_mixes: number of mixes with replicates.
        df: degrees of freedom of the noise.
    """

    value: float
    low: float
    high: float
    level: float
    n_mixes: int
    df: int


def signal_to_noise(scores: Sequence[Sequence[float] | NDArray[np.float64]], *, level: float = 0.9) -> Ratio | None:
    """Estimate a metric's signal-to-noise ratio (arXiv 2508.13144) from variance components.

    The paper's signal is the range of the mixes' scores, which grows with the number of mixes. Here the signal is the
    SD between mixes, without the contribution of the replicates' noise. The interval is exact for normal scores and
    equal numbers of replicates (Searle, Casella and McCulloch 1992, section 3.5). For unequal numbers, the interval
    uses an effective number of replicates close to their harmonic mean.

    Args:
        scores: for each mix, the scores of its replicates; mixes with one replicate are ignored.
        level: coverage of the interval.

    Returns:
        None for fewer than two mixes, or if all replicates are equal.

    >>> signal_to_noise([[1.0, 1.2], [2.0, 2.2], [3.0, 3.2]]).value > 5
    True
    """
    several = [np.asarray(values, dtype=float) for values in scores if len(values) > 1]
    if not several:
        return None
    means = np.array([[v.mean() for v in several]])
    squares = np.array([[((v - v.mean()) ** 2).sum() for v in several]])
    return ratios(np.array([[len(v) for v in several]]), means, squares, level=level)[0]


def ratios(
    counts: NDArray[np.int64], means: NDArray[np.float64], squares: NDArray[np.float64], *, level: float = 0.9
) -> list[Ratio | None]:
    """Estimate the signal-to-noise ratio of several metrics (see `signal_to_noise`).

    Args:
        counts: (metrics, mixes) numbers of replicates; mixes with fewer than two replicates are ignored.
        means: (metrics, mixes) mean scores.
        squares: (metrics, mixes) sums of squared deviations of the replicates from their mean.
        level: coverage of the interval.
    """
    from scipy.special import fdtri

    n = np.where(counts > 1, counts, 0).astype(float)
    mixes, runs = (n > 0).sum(axis=1), n.sum(axis=1)
    between_df, within_df = mixes - 1.0, runs - mixes
    with np.errstate(divide="ignore", invalid="ignore"):
        within = np.where(n > 0, squares, 0.0).sum(axis=1) / within_df
        grand = np.where(n > 0, n * means, 0.0).sum(axis=1) / runs
        between = np.where(n > 0, n * (means - grand[:, None]) ** 2, 0.0).sum(axis=1) / between_df
        size = (runs - (n**2).sum(axis=1) / runs) / between_df
        f = between / within
        low, high = (f / fdtri(between_df, within_df, p) for p in (1 - (1 - level) / 2, (1 - level) / 2))
        value, low, high = (np.sqrt(np.maximum(ratio - 1, 0) / size) for ratio in (f, low, high))
    known = (mixes >= 2) & (within > 0)
    return [
        Ratio(float(value[i]), float(low[i]), float(high[i]), level, int(mixes[i]), int(within_df[i]))
        if known[i]
        else None
        for i in range(len(n))
    ]


class Trend(NamedTuple):
    """Rank correlation of scores with tokens.

    Attributes:
        rho: rank correlation of score and tokens, mean over runs. A positive value means that the score improves.
        low: lower end of its interval.
        high: upper end of the interval.
        n_runs: number of runs with at least three scored checkpoints.
        looks: number of scored checkpoints of the run with the most scored checkpoints.
    """

    rho: float
    low: float
    high: float
    n_runs: int
    looks: int


MIN_CHECKPOINTS = 3
"""Minimum number of checkpoints for a rank correlation. With two checkpoints, the correlation is always 1 or -1."""


def trend(runs: Sequence[tuple[Sequence[float], Sequence[float]]], *, lower_is_better: bool) -> Trend | None:
    """Compute Spearman's rank correlation of score and tokens within runs.

    If order is independent of tokens, the correlation over k checkpoints has variance 1 / (k - 1) (Kendall and Gibbons
    1990). This variance gives the standard error of the mean over runs, for an interval at 95%. Runs with one data
    order are not fully independent, so the observed variance between runs is used if it is larger.

    Args:
        runs: tokens and scores of each run. Runs with fewer than three checkpoints are ignored.
        lower_is_better: whether the metric is a loss.

    >>> trend([([1, 2, 3, 4], [0.9, 0.8, 0.7, 0.6])], lower_is_better=True).rho
    1.0
    """
    found = [run for tokens, scores in runs if (run := correlate(tokens, scores)) is not None]
    return combine_runs(found, lower_is_better=lower_is_better)


class RunTrend(NamedTuple):
    """Rank correlation of one run's scores with tokens.

    Attributes:
        rho: Spearman's correlation; 0 for constant scores.
        looks: number of scored checkpoints.
    """

    rho: float
    looks: int


def correlate(tokens: Sequence[float], scores: Sequence[float]) -> RunTrend | None:
    """Return the rank correlation of a run's scores with tokens; None with fewer than three checkpoints."""
    from scipy.stats import rankdata

    if len(set(tokens)) < MIN_CHECKPOINTS:
        return None
    first, second = rankdata(tokens), rankdata(scores)
    # A constant score has no ranks, so its correlation is 0.
    return RunTrend(0.0 if np.ptp(second) == 0 else float(np.corrcoef(first, second)[0, 1]), len(scores))


def combine_runs(runs: Sequence[RunTrend], *, lower_is_better: bool) -> Trend | None:
    """Combine the correlations of runs (see `trend`); return None without runs."""
    if not runs:
        return None
    rhos = [-run.rho if lower_is_better else run.rho for run in runs]
    expected = float(np.mean([1 / (run.looks - 1) for run in runs]))
    observed = float(np.var(rhos, ddof=1)) if len(rhos) > 1 else 0.0
    half, rho = 1.96 * math.sqrt(max(expected, observed) / len(rhos)), float(np.mean(rhos))
    return Trend(rho, max(rho - half, -1.0), min(rho + half, 1.0), len(rhos), max(run.looks for run in runs))
