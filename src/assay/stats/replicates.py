"""What past runs say of a metric at one proxy: the noise between replicates, and the spread between mixes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from assay.stats.frames import SCORE_KEY, Metric

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

LEAST_DF = 2
"""Degrees of freedom below which the seeds' own part of the noise is not taken out."""


class Noise(NamedTuple):
    """How much the difference of two mixes varies from seed to seed.

    Attributes:
        sd: SD over seeds of paired differences, in the metric's unit.
        df: degrees of freedom behind it.
        n_mixes: mixes that had replicates.
        n_runs: their runs.
        item_variance: variance of a difference from the choice of questions, which seeds do not reduce; 0 where not known.
        n_items: questions; None where not known.
    """

    sd: float
    df: float
    n_mixes: int
    n_runs: int
    item_variance: float = 0.0
    n_items: int | None = None


def replicate_noise(frame: pd.DataFrame) -> dict[Metric, Noise]:
    """The noise of paired differences, of every metric that has replicates.

    Arms that share a seed share its initial weights and order of documents, and so part of its luck, which a paired difference
    does not have. Where mixes share seeds, a seed's mean is therefore taken out as well as a mix' (the residual of a two-way
    layout, by least squares where cells are missing); elsewhere the variance is that within mixes.

    Args:
        frame: one row for each `mix, seed, task, metric` with its `value`; what is no finite number is left out.
    """
    known = frame[np.isfinite(frame["value"].to_numpy(dtype=float))]
    if known.empty:
        return {}
    found = {}
    for (task, metric), rows in known.drop_duplicates(SCORE_KEY, keep="last").groupby(["task", "metric"], sort=False):
        one = _of(rows["mix"].astype(str).tolist(), rows["seed"].astype(str).tolist(), rows["value"].to_numpy(float))
        if one is not None:
            found[str(task), str(metric)] = one
    return found


def _of(mixes: Sequence[str], seeds: Sequence[str], values: NDArray[np.float64]) -> Noise | None:
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
            # The difference of two runs has twice the variance of what is each one's own.
            return Noise(math.sqrt(2 * variance), df, int(mix.max()) + 1, len(values)) if variance > 0 else None
    return None


class Ratio(NamedTuple):
    """The signal-to-noise ratio of a metric: SD between mixes over SD between a mix' replicates.

    Attributes:
        value: the estimate; 0 where the mixes differ by no more than their replicates make them.
        low: lower end of its interval.
        high: upper end.
        level: the interval's nominal coverage.
        n_mixes: mixes with replicates.
        df: degrees of freedom of the noise.
    """

    value: float
    low: float
    high: float
    level: float
    n_mixes: int
    df: int


def signal_to_noise(scores: Sequence[Sequence[float] | NDArray[np.float64]], *, level: float = 0.9) -> Ratio | None:
    """Signal-to-noise of a metric (arXiv 2508.13144), as components of variance.

    There the signal is the range of the mixes' scores, which grows with their number; here it is their SD, less what
    the replicates' noise adds to it. The interval is exact for normal scores and as many replicates of each mix (Searle, Casella
    and McCulloch 1992, section 3.5); with unequal numbers their harmonic-like mean stands in.

    Args:
        scores: by mix, the scores of its replicates; mixes with one only say nothing and are left out.
        level: coverage of the interval.

    Returns:
        None with fewer than two mixes, or replicates that are all the same.

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
    """Whether scores rise with tokens.

    Attributes:
        rho: rank correlation of score and tokens, mean over runs, counted so that better is positive.
        low: lower end of its interval.
        high: upper end.
        n_runs: runs that were looked at three times or more.
        looks: token counts of a run, at most.
    """

    rho: float
    low: float
    high: float
    n_runs: int
    looks: int


LEAST_LOOKS = 3
"""Two looks always have a rank correlation of 1 or -1."""


def trend(runs: Sequence[tuple[Sequence[float], Sequence[float]]], *, lower_is_better: bool) -> Trend | None:
    """Spearman's rank correlation of score and tokens within runs.

    If order said nothing, the correlation over k looks would have the variance 1 / (k - 1) (Kendall and Gibbons 1990): from that
    is the standard error of the mean over runs, at 95%. Runs of one data order are not quite independent of one another, so the
    variance seen between runs is taken where it is larger.

    Args:
        runs: of each run tokens and scores, at least three of them to count.
        lower_is_better: whether the metric is a loss.

    >>> trend([([1, 2, 3, 4], [0.9, 0.8, 0.7, 0.6])], lower_is_better=True).rho
    1.0
    """
    from scipy.stats import rankdata

    found, variances, looks = [], [], 0
    for tokens, scores in runs:
        if len(set(tokens)) < LEAST_LOOKS:
            continue
        first, second = rankdata(tokens), rankdata(scores)
        looks = max(looks, len(scores))
        # A score that never moves has no rank: it does not rise.
        rho = 0.0 if np.ptp(second) == 0 else float(np.corrcoef(first, second)[0, 1])
        found.append(-rho if lower_is_better else rho)
        variances.append(1 / (len(scores) - 1))
    if not found:
        return None
    seen = float(np.var(found, ddof=1)) if len(found) > 1 else 0.0
    half = 1.96 * math.sqrt(max(float(np.mean(variances)), seen) / len(found))
    rho = float(np.mean(found))
    return Trend(rho, max(rho - half, -1.0), min(rho + half, 1.0), len(found), looks)
