"""Estimate a metric's noise between replicates and spread between mixes from past runs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from assay.analysis.stats.tables import SCORE_KEY, Metric

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
    known = frame[np.isfinite(frame["value"].to_numpy(dtype=float))]
    if known.empty:
        return {}
    noises = {}
    for (task, metric), rows in known.drop_duplicates(SCORE_KEY, keep="last").groupby(["task", "metric"], sort=False):
        noise = _noise(
            rows["mix"].astype(str).tolist(), rows["seed"].astype(str).tolist(), rows["value"].to_numpy(float)
        )
        if noise is not None:
            noises[str(task), str(metric)] = noise
    return noises


def _noise(mixes: Sequence[str], seeds: Sequence[str], values: NDArray[np.float64]) -> Noise | None:
    mix = np.unique(mixes, return_inverse=True)[1]
    replicated = np.bincount(mix)[mix] > 1
    if not replicated.any():
        return None
    mix = np.unique(mix[replicated], return_inverse=True)[1]
    seed = np.unique(np.asarray(seeds)[replicated], return_inverse=True)[1]
    values = values[replicated]
    by_mix = np.eye(mix.max() + 1)[mix]
    for layout in (np.hstack([by_mix, np.eye(seed.max() + 1)[seed]]), by_mix):
        fitted, _, rank, _ = np.linalg.lstsq(layout, values, rcond=None)
        df = len(values) - int(rank)
        if df >= LEAST_DF or layout is by_mix:
            variance = float(((values - layout @ fitted) ** 2).sum()) / df
            # The difference of two runs has twice the variance of a single run.
            return Noise(math.sqrt(2 * variance), df, int(mix.max()) + 1, len(values)) if variance > 0 else None
    return None


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
    from scipy.special import fdtri

    several = [np.asarray(values, dtype=float) for values in scores if len(values) > 1]
    if len(several) < 2:
        return None
    sizes = np.array([len(values) for values in several])
    everything = np.concatenate(several)
    between_df, within_df = len(several) - 1, int(sizes.sum()) - len(several)
    within = sum(float(((v - v.mean()) ** 2).sum()) for v in several) / within_df
    if within <= 0:
        return None
    between = float(sizes @ np.array([(v.mean() - everything.mean()) ** 2 for v in several])) / between_df
    size = (sizes.sum() - (sizes**2).sum() / sizes.sum()) / between_df

    def ratio(f: float) -> float:
        return math.sqrt(max(f - 1, 0.0) / size)

    f, tail = between / within, (1 - level) / 2
    low, high = (f / float(fdtri(between_df, within_df, p)) for p in (1 - tail, tail))
    return Ratio(ratio(f), ratio(low), ratio(high), level, len(several), within_df)


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
    from scipy.stats import rankdata

    rhos, variances, looks = [], [], 0
    for tokens, scores in runs:
        if len(set(tokens)) < MIN_CHECKPOINTS:
            continue
        first, second = rankdata(tokens), rankdata(scores)
        looks = max(looks, len(scores))
        # A constant score has no ranks, so its correlation is 0.
        rho = 0.0 if np.ptp(second) == 0 else float(np.corrcoef(first, second)[0, 1])
        rhos.append(-rho if lower_is_better else rho)
        variances.append(1 / (len(scores) - 1))
    if not rhos:
        return None
    observed = float(np.var(rhos, ddof=1)) if len(rhos) > 1 else 0.0
    half = 1.96 * math.sqrt(max(float(np.mean(variances)), observed) / len(rhos))
    rho = float(np.mean(rhos))
    return Trend(rho, max(rho - half, -1.0), min(rho + half, 1.0), len(rhos), looks)
