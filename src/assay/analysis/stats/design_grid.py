"""Compute the power of a design: a number of arms and seeds, with shared or separate seeds.

Scores follow y[arm, seed] = mean[arm] + common[seed] + residual[arm, seed]. The test is a t test of candidate minus
baseline with the residual variance of all arms. With shared seeds, the residual variance of the two-way layout has
(A - 1)(S - 1) degrees of freedom for A arms and S seeds. With separate seeds, the variance within arms has A(S - 1)
degrees of freedom (Searle, Casella and McCulloch 1992, section 4.2). Under normal scores, the test statistic follows a
noncentral t distribution (Cohen 1988).

If the compared pair seems noisier than the other arms, the verdict uses the pair's own variance only. An F test at
`SEPARATED` decides this. If all arms have equal noise, the fraction of the residual sum of squares that belongs to the
pair has a beta distribution, and is independent of that sum. The power is therefore an integral over this fraction. It
is exact for scores without items. With a variance from the choice of items, the power uses the critical value of
Cochran and Cox (1950) and is an approximation.

The power does not contain degrees of freedom that a history may add, because a verdict uses a history only if its noise
agrees with the noise of the sweep.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from assay.analysis.stats.paired import Estimate, Part
from assay.analysis.stats.power import POWER, power
from assay.analysis.stats.replicates import LEAST_DF
from assay.analysis.stats.sweep_model import more_readily
from assay.analysis.stats.tables import SCORE_KEY, Metric

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray


SEPARATED = 0.1
"""Level of the test with which a verdict separates a pair of arms that is noisier than the other arms. It is larger for effects
that are tested below 5% (`assay.analysis.stats.sweep_model.more_readily`)."""

NODES = 32
"""Number of nodes of the quadrature. 200 nodes change no power by more than 1e-6."""


class RunNoise(NamedTuple):
    """Variation between runs of one mix, as a design needs it.

    Attributes:
        variance: variance of the score between seeds of one mix, in the metric's unit squared.
        residual: part of `variance` that the runs of two mixes with one seed do not have in common.
        df: degrees of freedom of `residual`, or of `variance` if no seeds are shared.
        n_mixes: number of mixes with replicates; 0 if the noise does not come from runs.
        n_runs: number of runs of these mixes.
        shared: whether `residual` was measured on mixes with shared seeds. If not, it equals `variance`.
        item_variance: variance of a difference of two mixes due to the choice of items; more seeds do not reduce it.
        n_items: number of items; None if unknown.
        prior_df: degrees of freedom of the history's noise in a design with one seed; 0 if the history does not suffice.
    """

    variance: float
    residual: float
    df: float
    n_mixes: int = 0
    n_runs: int = 0
    shared: bool = False
    item_variance: float = 0.0
    n_items: int | None = None
    prior_df: float = 0.0

    @property
    def sd(self) -> float:
        """SD between seeds of one mix, in the metric's unit."""
        return math.sqrt(self.variance)

    @property
    def correlation(self) -> float:
        """Correlation of the scores of two mixes over shared seeds. An estimate may be negative."""
        return 1 - self.residual / self.variance

    def with_correlation(self, correlation: float) -> RunNoise:
        """Return the same variance with another correlation over shared seeds."""
        return self._replace(residual=self.variance * (1 - correlation))


UNIT_NOISE = RunNoise(variance=1.0, residual=1.0, df=0.0)
"""Noise in units of its own SD, for designs whose noise is unknown."""


class Layout(NamedTuple):
    """The arms and seeds of a design.

    Attributes:
        arms: number of arms, including the baseline.
        seeds: number of runs per arm.
        shared: whether all arms have the same seeds. Otherwise each arm has its own seeds.
    """

    arms: int
    seeds: int
    shared: bool = True

    @property
    def df(self) -> int:
        """Degrees of freedom of the residual variance over all arms."""
        return ((self.arms - 1) if self.shared else self.arms) * (self.seeds - 1)

    @property
    def pair_df(self) -> int:
        """Degrees of freedom of the variance of one candidate and the baseline."""
        return (1 if self.shared else 2) * (self.seeds - 1)


def estimate_of(noise: RunNoise, layout: Layout) -> Estimate:
    """Return the estimate that a design is expected to give, with effect 0.

    Without degrees of freedom, as for one seed without past runs, the estimate has no parts.
    """
    df = float(layout.df) or noise.prior_df
    if df <= 0:
        return Estimate(effect=0.0, parts=(), noise=math.nan, n_seeds=layout.seeds)
    variance = 2 * (noise.residual if layout.shared else noise.variance)
    parts = [Part(variance / layout.seeds, df)]
    if noise.item_variance > 0:
        parts.append(Part(noise.item_variance, max((noise.n_items or 2) - 1, 1)))
    return Estimate(effect=0.0, parts=tuple(parts), noise=math.sqrt(variance), n_seeds=layout.seeds)


def design_power(effect: float, *, noise: RunNoise, layout: Layout, tail: float, margin: float = 0.0) -> float:
    """Return the probability that a design shows a gain beyond a margin.

    Args:
        effect: true gain, in the unit of the noise.
        noise: noise between runs.
        layout: arms and seeds of the design.
        tail: level of the one-sided test.
        margin: bound that the gain must exceed.

    Returns:
        0 for a design without degrees of freedom, which can show nothing; NaN if the effect is unknown.
    """
    if math.isnan(effect):
        return math.nan
    estimate = estimate_of(noise, layout)
    if not estimate.parts or effect <= margin:
        return 0.0
    return _power((effect - margin) / estimate.se, estimate.df(tail), layout, tail)


def smallest_gain(*, noise: RunNoise, layout: Layout, tail: float, margin: float = 0.0, chance: float = POWER) -> float:
    """Return the smallest true gain that a design shows with the given power; NaN without degrees of freedom."""
    estimate = estimate_of(noise, layout)
    if not estimate.parts:
        return math.nan
    return margin + estimate.se * _smallest_in_errors(round(estimate.df(tail), 6), layout, tail, chance)


@lru_cache(maxsize=4096)
def _smallest_in_errors(df: float, layout: Layout, tail: float, chance: float) -> float:
    """Return the smallest detected gain in standard errors. Metrics with equal layouts share the cached value."""
    from scipy.optimize import brentq

    def excess(errors: float) -> float:
        return _power(errors, df, layout, tail) - chance

    high = 1.0
    while excess(high) < 0:
        high *= 2
    if not excess(high) >= 0:  # the noncentral t distribution has no value at this level
        return math.nan
    return float(brentq(excess, 0.0, high, xtol=1e-9))


def _power(errors: float, df: float, layout: Layout, tail: float) -> float:
    """Return the power for a distance of `errors` standard errors.

    Args:
        errors: distance from the bound in true standard errors.
        df: degrees of freedom of the variance of all arms, including the part of the items.
        layout: arms and seeds.
        tail: level of the one-sided test.
    """
    pooled = power(errors, se=1.0, df=df, tail=tail)
    if layout.arms <= 2 or layout.seeds < 2:
        return pooled
    separated = more_readily(SEPARATED, 2 * tail)
    return (1 - separated) * pooled + _power_if_separated(errors, layout, tail, separated)


def _power_if_separated(errors: float, layout: Layout, tail: float, separated: float) -> float:
    """Return the probability that the pair seems noisier than the other arms, and that its own variance shows the gain."""
    from scipy.special import betainccinv, nctdtr, stdtrit

    total, own = layout.df, layout.pair_df
    nodes, weights = np.polynomial.legendre.leggauss(NODES)
    # The pair's fraction of the sum of squares, in its upper tail of probability `separated`.
    fraction = betainccinv(own / 2, (total - own) / 2, separated * (nodes + 1) / 2)
    critical = -float(stdtrit(own, tail)) * np.sqrt(fraction * total / own)
    return separated * float((weights / 2) @ (1 - nctdtr(total, errors, critical)))


def run_noise(frame: pd.DataFrame) -> dict[Metric, RunNoise]:
    """Estimate the noise between runs of every metric with replicates.

    `variance` is the pooled variance within mixes. `residual` is the residual variance of mixes by seeds, by least
    squares if cells are missing. `residual` needs at least two mixes with shared seeds and `LEAST_DF` degrees of freedom.

    Args:
        frame: one row per `mix, seed, task, metric` with its `value`; non-finite values are ignored.
    """
    known = frame[np.isfinite(frame["value"].to_numpy(dtype=float))]
    if known.empty:
        return {}
    noises = {}
    for (task, metric), rows in known.drop_duplicates(SCORE_KEY, keep="last").groupby(["task", "metric"], sort=False):
        noise = _run_noise(
            rows["mix"].astype(str).tolist(), rows["seed"].astype(str).tolist(), rows["value"].to_numpy(dtype=float)
        )
        if noise is not None:
            noises[str(task), str(metric)] = noise
    return noises


def _run_noise(mixes: Sequence[str], seeds: Sequence[str], values: NDArray[np.float64]) -> RunNoise | None:
    mix = np.unique(mixes, return_inverse=True)[1]
    replicated = np.bincount(mix)[mix] > 1
    if not replicated.any():
        return None
    mix = np.unique(mix[replicated], return_inverse=True)[1]
    seed = np.unique(np.asarray(seeds)[replicated], return_inverse=True)[1]
    values = values[replicated] - values[replicated].mean()
    by_mix = np.eye(mix.max() + 1)[mix]
    variance, df = _residual(by_mix, values)
    if not variance > 0:
        return None
    noise = RunNoise(variance, variance, df, n_mixes=int(mix.max()) + 1, n_runs=len(values))
    residual, paired_df = _residual(np.hstack([by_mix, np.eye(seed.max() + 1)[seed]]), values)
    if paired_df >= LEAST_DF and residual > 0:
        return noise._replace(residual=residual, df=paired_df, shared=True)
    return noise


def _residual(layout: NDArray[np.float64], values: NDArray[np.float64]) -> tuple[float, int]:
    """Return the residual variance of a linear model, and its degrees of freedom."""
    fitted, _, rank, _ = np.linalg.lstsq(layout, values, rcond=None)
    df = len(values) - int(rank)
    return (float(((values - layout @ fitted) ** 2).sum()) / df if df > 0 else math.nan), df


MEAN = ("mean of the primary metrics", "sd")
"""Name of the mean of standardized metrics in tables, and its unit: SDs of single runs."""


def mean_of_metrics(frame: pd.DataFrame, noise: Mapping[Metric, RunNoise], signs: Mapping[Metric, int]) -> pd.DataFrame:
    """Return the scores of the mean of standardized metrics, for runs that have every metric.

    Args:
        frame: one row per `mix, seed, task, metric` with its `value`.
        noise: noise of each metric, whose SD standardizes the metric.
        signs: 1 for each metric where higher is better, and -1 for each other metric. These metrics are averaged.

    Returns:
        `mix, seed, task, metric, value`, with `MEAN` as task and metric.
    """
    import pandas as pd

    rows = frame.drop_duplicates(SCORE_KEY, keep="last")
    wide = rows.pivot_table(index=["mix", "seed"], columns=["task", "metric"], values="value", aggfunc="last")
    columns = [metric for metric in signs if metric in wide.columns]
    if len(columns) < len(signs):
        return pd.DataFrame(columns=["mix", "seed", "task", "metric", "value"])
    parts = [wide[metric] * signs[metric] / noise[metric].sd for metric in columns]
    mean = sum(parts[1:], parts[0]) / len(parts)
    table = mean.dropna().rename("value").reset_index()
    return table.assign(task=MEAN[0], metric=MEAN[1])
