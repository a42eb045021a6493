"""Estimate the noise of paired comparisons from all arms of a sweep and from the history.

The model of one metric is y[arm, seed] = mean[arm] + common[seed] + error[arm, seed]. Arms with equal seeds share the
random effect `common`. Three seeds of two arms leave two degrees of freedom for the variance of the errors. All arms of
a sweep leave (arms - 1)(seeds - 1), as the residual of a two-way layout with missing cells. All estimates have closed
forms, and their cost is linear in the number of arms.

The variance of a comparison comes from three sources. Each source is used only if the previous ones do not contradict it:

1. The pair: the variance of the seeds' paired differences (Student 1908), or of each arm (Welch 1947).
2. The sweep: the residual of all arms, without the pair's own part. The two parts are independent, so their weighted
   mean has the sum of their degrees of freedom.
3. The history: past mixes count for at most as many degrees of freedom as the pair and the sweep (Smyth 2004).

A pooled variance is too small for arms that are noisier than the others. Two tests limit this error:

- An arm whose residuals exceed those of the other arms (Cochran 1941, Bonferroni at 2%) is set aside. The sweep's
  variance excludes the arm, and comparisons of the arm use the variance of the pair only.
- A pair whose variance exceeds that of the other arms (F test at 10%) also uses its own variance only.

The tests of the noise are stricter if a comparison is tested at a smaller level (`USUAL_LEVEL`).

These tests detect large ratios. If only the compared pair or only the candidate is noisier, by a factor of 1.5 to 5 in
its SD, the false-positive rate at a nominal 5% is 7 to 12% (`benchmarks/gate.py`). At smaller levels, its ratio to the
level is larger. Of the simulated
rules, none has both a power near that of full pooling and an error below 6% in this case, because two degrees of
freedom rarely show such a ratio.

A history is another study, possibly with other hardware or hyperparameters. It is therefore used only if the variance
of the sweep agrees with it closely. With three seeds, the false-positive rate is then at most 6% for every ratio of the
history's noise to the sweep's noise.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from assay.analysis.stats.moderated import ALONE, MOST_DF, NOTHING, Prior, inverse_trigamma, learn, shrink
from assay.analysis.stats.paired import NEGLIGIBLE
from assay.analysis.stats.tables import Seed, seed_order

if TYPE_CHECKING:
    from numpy.typing import NDArray

Pairing = Literal["paired", "partial", "unpaired"]

NOISY_ARM = 0.02
"""Level of the test that sets an arm aside, by Bonferroni over the arms."""

NOISY_PAIR = 0.1
"""Level of the test that separates a pair from the sweep.

With five arms and three seeds, levels of 0.05, 0.1 and 0.2 give a power of 55, 53 and 49%. If only the pair is noisier by
a factor of 2, the false-positive rates are 11.4, 10.2 and 8.4%."""

NOISY_UNPAIRED = 0.05
"""As `NOISY_PAIR`, if seeds are not paired. An arm with ten seeds leaves more degrees of freedom, so that the test needs
fewer false alarms for the same protection."""

NOISY_SMALL_ARM = 0.3
"""Level of the test that the arm with fewer seeds is noisier than the other arm, if seeds are not paired.

The pooled variance is too small if this arm is noisier, and its few seeds rarely show that. With 10 and 3 seeds, levels of
0.05, 0.3 and 0.5 give a power of 76, 61 and 55% for equal noise, and false-positive rates of 12.6, 7.1 and 5.7% if the
arm with 3 seeds is noisier by a factor of 2."""

NOISY_TWO_SEEDS = 0.5
"""As `NOISY_SMALL_ARM`, for two seeds. With 8 and 2 seeds, levels of 0.05, 0.3 and 0.5 give a power of 57, 42 and 31%,
and false-positive rates of 16.0, 9.6 and 6.7%."""

SEEDS_MATTER = 0.01
"""Level of the test that seeds explain a part of the variance. It decides between paired and unpaired seeds if the
arms have different seeds."""

USUAL_LEVEL = 0.05
"""Two-sided level of a comparison for which the tests of the noise have the levels of this module.

A pooled variance that is too small multiplies the error rate more at smaller levels. If the comparison is tested at a
smaller level, the tests of the noise are stricter: a pair is separated more readily, and a history must agree more closely."""

MOST_READILY = 0.5
"""Upper bound of the level of a test that separates a pair."""

QUIETER = 0.95
"""Upper bound of the p-value that the sweep is noisier than the history. Above it, the history is noisier than the sweep,
and is not used."""

QUIETER_UNPAIRED = 0.8
"""As `QUIETER`, if seeds are paired but the history has no shared seeds. Then its noise contains the seeds' common part,
and is only an upper bound of the noise of paired differences."""

OUTLIER = 0.05
"""Level of the test for outliers, by Bonferroni over the scores of a metric."""

FEWEST_LEFT = 3
"""Minimum degrees of freedom of the other scores that can show whether the history's noise agrees with them."""

MOST_OUTLIERS = 3
"""Maximum number of outliers per metric. More outliers are a second population rather than failures."""


class SeedPrior(NamedTuple):
    """Noise of one run in the history.

    Attributes:
        paired: variance that remains if the seeds' common part is removed.
        unpaired: variance within mixes, which contains the seeds' common part.
    """

    paired: Prior = NOTHING
    unpaired: Prior = NOTHING

    @property
    def best(self) -> Prior:
        """The noise of paired differences; without shared seeds, the noise within mixes."""
        return self.paired if self.paired.df > 0 else self.unpaired


@dataclass(frozen=True, kw_only=True)
class PairNoise:
    """The effect of a candidate on one metric, with its variance.

    Attributes:
        effect: candidate minus baseline, in the metric's unit.
        variance: variance of the effect; NaN if unknown.
        df: degrees of freedom of `variance`; 0 if unknown.
        pairing: `paired` if both arms have equal seeds, `partial` if only the shared seeds are used, and `unpaired` if
            the means over all seeds of each arm are compared.
        shared: seeds of both arms.
        n_baseline: number of used seeds of the baseline.
        n_candidate: number of used seeds of the candidate.
        own_sd: SD of the difference of two runs, from the pair only; NaN if unknown.
        own_df: degrees of freedom of `own_sd`; 0 if the variance is unknown.
        sweep_df: degrees of freedom from the other arms of the sweep.
        history_df: degrees of freedom from the history.
        apart: whether the pair's noise differs from the other arms', so that only its own variance is used.
        apart_arms: the arms whose noise differs: those that were set aside, the noisier one if the two differ from each
            other, or both if the pair is noisier than the other arms.
        between: whether the noise differs between the two arms, and not from that of other arms.
        ratio: SD of the pair divided by the SD of the other arms; NaN without other arms. If `between`, SD of the noisier arm
            divided by the SD of the other one.
        history_ratio: SD of the pair and the sweep divided by the SD of the history; NaN without a history.
    """

    effect: float
    variance: float
    df: float
    pairing: Pairing
    shared: tuple[Seed, ...]
    n_baseline: int
    n_candidate: int
    own_sd: float
    own_df: float
    sweep_df: float = 0.0
    history_df: float = 0.0
    apart: bool = False
    apart_arms: tuple[str, ...] = ()
    between: bool = False
    ratio: float = math.nan
    history_ratio: float = math.nan


class Outlier(NamedTuple):
    """A score that differs from the other scores of its metric by more than noise.

    Attributes:
        arm: the mix.
        seed: the seed.
        value: the score.
        expected: the score that the other runs predict.
        p: p-value, adjusted by Bonferroni over all scores of the metric.
    """

    arm: str
    seed: Seed
    value: float
    expected: float
    p: float


class _Layout(NamedTuple):
    """Least-squares fit of arms and seeds as additive effects; arrays have one entry per arm."""

    residuals: NDArray[np.float64]
    """(arms, seeds), 0 for missing cells."""
    leverages: NDArray[np.float64]
    """(arms, seeds): fraction of a score's variance that the fit absorbs."""
    squares: float
    df: float
    within: NDArray[np.float64]
    """Sum of squares within each arm, which contains the seeds' effects."""
    counts: NDArray[np.float64]
    rank: int
    """Number of estimable seed contrasts."""

    @property
    def by_arm(self) -> NDArray[np.float64]:
        return np.asarray((self.residuals**2).sum(axis=1))

    @property
    def df_by_arm(self) -> NDArray[np.float64]:
        return np.asarray(self.counts - np.where(self.counts > 0, self.leverages.sum(axis=1), 0.0))


def _fit(values: NDArray[np.float64]) -> _Layout:
    """Fit a two-way layout with missing cells; each arm has at least one value.

    The arms are eliminated first, so that the normal equations have one row per seed (Searle 1987, chapter 4).
    """
    known = np.isfinite(values)
    cells = known.astype(float)
    counts = cells.sum(axis=1)
    means = np.where(known, values, 0.0).sum(axis=1) / counts
    centered = np.where(known, values - means[:, None], 0.0)
    normal = np.diag(cells.sum(axis=0)) - cells.T @ (cells / counts[:, None])
    sizes, vectors = np.linalg.eigh(normal)
    estimable = sizes > 1e-9 * max(float(sizes[-1]), 1.0)
    inverse = (vectors[:, estimable] / sizes[estimable]) @ vectors[:, estimable].T
    seeds = inverse @ centered.sum(axis=0)
    residuals = centered - cells * (seeds - (cells @ seeds / counts)[:, None])
    mixed = cells @ inverse
    within_arm = (mixed * cells).sum(axis=1) / counts**2
    leverages = cells * (1 / counts[:, None] + np.diag(inverse) - 2 * mixed / counts[:, None] + within_arm[:, None])
    rank = int(estimable.sum())
    return _Layout(
        residuals=residuals,
        leverages=leverages,
        squares=float((residuals**2).sum()),
        df=float(counts.sum() - len(values) - rank),
        within=(centered**2).sum(axis=1),
        counts=counts,
        rank=rank,
    )


def _fit_arms(values: NDArray[np.float64]) -> _Layout:
    """Fit arms without an effect of seeds; each arm has at least one value."""
    known = np.isfinite(values)
    counts = known.sum(axis=1).astype(float)
    means = np.where(known, values, 0.0).sum(axis=1) / counts
    residuals = np.where(known, values - means[:, None], 0.0)
    within = (residuals**2).sum(axis=1)
    return _Layout(
        residuals=residuals,
        leverages=known / counts[:, None],
        squares=float(within.sum()),
        df=float(counts.sum() - len(values)),
        within=within,
        counts=counts,
        rank=0,
    )


@dataclass(frozen=True)
class SweepModel:
    """The arms and seeds of one metric.

    Build the model with `SweepModel.of`.

    Attributes:
        arms: names of the mixes.
        seeds: names of the seeds.
        values: (arms, seeds), NaN for missing scores.
    """

    arms: tuple[str, ...]
    seeds: tuple[Seed, ...]
    values: NDArray[np.float64]

    @classmethod
    def of(cls, scores: Mapping[str, Mapping[Seed, float]]) -> SweepModel:
        """Arrange finite scores by arm and seed; seeds `0` and `"0"` are different seeds.

        Args:
            scores: finite scores by mix and seed.
        """
        seeds = sorted({seed: None for by_seed in scores.values() for seed in by_seed}, key=seed_order)
        column = {seed: number for number, seed in enumerate(seeds)}
        values = np.full((len(scores), len(seeds)), math.nan)
        for row, by_seed in enumerate(scores.values()):
            values[row, [column[seed] for seed in by_seed]] = list(by_seed.values())
        return cls(tuple(scores), tuple(seeds), values)

    def including(self, arm: str, scores: Mapping[Seed, float]) -> SweepModel:
        """Return a model with an additional arm; the model itself if it has the arm."""
        if arm in self._rows:
            return self
        by_arm: dict[str, Mapping[Seed, float]] = {
            name: {seed: float(y) for seed, y in zip(self.seeds, row, strict=True) if math.isfinite(y)}
            for name, row in zip(self.arms, self.values, strict=True)
        }
        return SweepModel.of({**by_arm, arm: scores})

    def scores(self, arm: str, seeds: Sequence[Seed]) -> NDArray[np.float64]:
        """Return the scores of an arm's seeds."""
        return self.values[self._rows[arm], [self.seeds.index(seed) for seed in seeds]]

    @cached_property
    def _rows(self) -> dict[str, int]:
        return {arm: row for row, arm in enumerate(self.arms)}

    @cached_property
    def _known(self) -> NDArray[np.bool_]:
        return np.isfinite(self.values)

    @cached_property
    def _replicated(self) -> NDArray[np.bool_]:
        """Arms that inform the noise: at least two different scores, and no copy of another arm up to a constant."""
        counts = self._known.sum(axis=1)
        shown = np.where(self._known, self.values, 0.0)
        size = np.abs(shown).max(axis=1, initial=0.0)
        centered = np.where(self._known, shown - (shown.sum(axis=1) / np.maximum(counts, 1))[:, None], 0.0)
        informative = np.asarray((counts > 1) & (np.abs(centered).max(axis=1, initial=0.0) > NEGLIGIBLE * size))
        digits = np.where(
            self._known, np.round(centered / max(float(size.max(initial=0.0)), 1e-300), 11) + 0.0, math.nan
        )
        first: dict[bytes, int] = {}
        for row in np.flatnonzero(informative).tolist():
            if first.setdefault(digits[row].tobytes(), row) != row:
                informative[row] = False
        return informative

    @cached_property
    def _pool(self) -> tuple[NDArray[np.intp], _Layout | None, frozenset[int]]:
        """The arms of the sweep's variance, their fit, and the arms that were set aside."""
        rows, aside = np.flatnonzero(self._replicated), frozenset[int]()
        most = max(1, len(rows) // 2)
        layout = _fit(self.values[rows]) if len(rows) else None
        while layout is not None and len(rows) > 2 and len(aside) < most:
            noisy = _noisy_arms(layout)
            if not len(noisy):
                break
            noisy = noisy[: min(most - len(aside), len(rows) - 2)]
            aside |= frozenset(rows[noisy].tolist())
            rows = np.delete(rows, noisy)
            layout = _fit(self.values[rows])
        return rows, layout, aside

    @property
    def pooled_arms(self) -> tuple[str, ...]:
        """Arms whose residuals form the sweep's variance."""
        return tuple(self.arms[row] for row in self._pool[0].tolist())

    @property
    def noisy_arms(self) -> tuple[str, ...]:
        """Arms that are set aside because they are noisier than the other arms."""
        return tuple(self.arms[row] for row in sorted(self._pool[2]))

    @cached_property
    def _in_pool(self) -> dict[int, int]:
        return {row: place for place, row in enumerate(self._pool[0].tolist())}

    @cached_property
    def scatter_df(self) -> float:
        """Degrees of freedom of the arms' scatter around a common variance (Smyth 2004); infinite if not significant."""
        _, layout, _ = self._pool
        return math.inf if layout is None else _scatter_df(layout)

    @cached_property
    def seed_fraction(self) -> float:
        """Fraction of the variance within arms that the seeds explain; 0 if not significant."""
        from scipy.special import fdtrc

        _, layout, _ = self._pool
        if layout is None or layout.rank == 0 or layout.df <= 0 or layout.squares <= 0:
            return 0.0
        error = layout.squares / layout.df
        between = (float(layout.within.sum()) - layout.squares) / layout.rank
        if float(fdtrc(layout.rank, layout.df, max(between, 0.0) / error)) > SEEDS_MATTER:
            return 0.0
        common = max(between - error, 0.0) / max(self._arms_per_seed, 1.0)
        return common / (common + error)

    @cached_property
    def _arms_per_seed(self) -> float:
        rows, _, _ = self._pool
        per_seed = self._known[rows].sum(axis=0)
        return float(per_seed[per_seed > 0].mean()) if per_seed.any() else 0.0

    @cached_property
    def _balanced(self) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
        """Centered scores of the pool and their sums by seed, if all arms have equal seeds."""
        rows, _, _ = self._pool
        known = self._known[rows]
        if not len(rows) or not (known == known[0]).all():
            return None
        values = self.values[rows][:, known[0]]
        centered = values - values.mean(axis=1, keepdims=True)
        return centered, centered.sum(axis=0)

    def compare(
        self,
        baseline: str,
        candidate: str,
        prior: SeedPrior | None = None,
        *,
        least_shared: int = 2,
        level: float = USUAL_LEVEL,
    ) -> PairNoise:
        """Estimate the effect of a candidate, with a variance from the pair, the sweep and the history.

        Args:
            baseline: an arm.
            candidate: another arm.
            prior: noise of the history.
            least_shared: minimum number of shared seeds for a paired analysis of arms with different seeds.
            level: smallest two-sided level at which the effect may be tested.
        """
        rows = self._rows[baseline], self._rows[candidate]
        known = self._known[rows[0]], self._known[rows[1]]
        both = known[0] & known[1]
        counts, n_shared = (int(known[0].sum()), int(known[1].sum())), int(both.sum())
        if counts[0] == counts[1] == n_shared:
            pairing: Pairing = "paired"
        else:
            alone = 1 / max(counts[0], 1) + 1 / max(counts[1], 1)
            gain = n_shared >= max(least_shared, 2) and 2 * (1 - self.seed_fraction) / n_shared < alone
            pairing = "partial" if gain else "unpaired"
        shared = tuple(self.seeds[column] for column in np.flatnonzero(both).tolist())
        if min(counts) == 0:
            return PairNoise(
                effect=math.nan, variance=math.nan, df=0.0, pairing=pairing, shared=shared, n_baseline=counts[0],
                n_candidate=counts[1], own_sd=math.nan, own_df=0.0,
            )  # fmt: skip
        part = self._paired(rows, both, level) if pairing != "unpaired" else self._unpaired(rows, level)
        past, quieter = NOTHING, QUIETER
        if prior is not None and pairing != "unpaired" and prior.paired.df <= 0:
            past, quieter = prior.unpaired, QUIETER_UNPAIRED
        elif prior is not None:
            past = prior.unpaired if pairing == "unpaired" else prior.paired
        moderated = part.moderate(past, quieter, level)
        return PairNoise(
            effect=part.effect,
            variance=moderated.variance * part.factor if moderated.df > 0 else math.nan,
            df=moderated.df,
            pairing=pairing,
            shared=shared,
            n_baseline=n_shared if pairing == "partial" else counts[0],
            n_candidate=n_shared if pairing == "partial" else counts[1],
            own_sd=math.sqrt(2 * part.variance) if part.df > 0 else math.nan,
            own_df=part.df if moderated.df > 0 else 0.0,
            sweep_df=moderated.sweep_df,
            history_df=moderated.history_df,
            apart=part.apart,
            apart_arms=tuple(self.arms[row] for row in (part.apart_rows or rows)) if part.apart else (),
            between=part.between,
            ratio=part.ratio,
            history_ratio=moderated.ratio,
        )

    def _paired(self, rows: tuple[int, int], both: NDArray[np.bool_], level: float) -> _Part:
        """Describe the seeds' paired differences, and the other residuals of the sweep."""
        differences = self.values[rows[1], both] - self.values[rows[0], both]
        n = len(differences)
        own_df = float(n - 1)
        own = float(differences.var(ddof=1)) / 2 if n > 1 else math.nan
        part = _Part(effect=float(differences.mean()), factor=2 / n, variance=own, df=own_df)
        _, layout, aside = self._pool
        if not aside.isdisjoint(rows):
            return part._replace(apart=True, apart_rows=_among(rows, aside), ratio=self._ratio(own))
        if layout is None:
            return part
        inside = all(row in self._in_pool for row in rows)
        # The pair's residuals are contrasts of the pooled scores with expectation 0, so the rest is independent of them.
        squares = layout.squares - (own_df * own if inside and n > 1 else 0.0)
        df = layout.df - (own_df if inside else 0.0)
        if df <= 0 or squares <= 0:
            return part
        part = part._replace(sweep=squares / df, sweep_df=min(df, self.scatter_df))
        if n < 2:
            return part
        apart = self._pair_p(rows, own, own_df, squares, df) < more_readily(NOISY_PAIR, level)
        return part._replace(apart=apart, ratio=math.sqrt(own / (squares / df)))

    def _pair_p(self, rows: tuple[int, int], own: float, own_df: float, squares: float, df: float) -> float:
        """Return the p-value that the pair is noisier than the other arms.

        If all arms have equal seeds, the pair's noise also shows in its mean, compared with the mean of the other arms. Then
        the pair has 2(n - 1) degrees of freedom instead of n - 1.
        """
        from scipy.special import fdtrc

        balanced = self._balanced
        pool = self._pool[0]
        others = len(pool) - 2
        if balanced is None or others < 2 or not all(row in self._in_pool for row in rows):
            return float(fdtrc(own_df, df, own / (squares / df)))
        centered, sums = balanced
        first, second = (centered[self._in_pool[row]] for row in rows)
        every = float((centered**2).sum()) - float((first**2).sum()) - float((second**2).sum())
        rest = every - float(((sums - first - second) ** 2).sum()) / others
        rest_df = (others - 1) * own_df
        pair = own * own_df + squares - rest
        return float(fdtrc(2 * own_df, rest_df, pair / (2 * own_df) / (rest / rest_df))) if rest > 0 else 0.0

    def _unpaired(self, rows: tuple[int, int], level: float) -> _Part:
        """Describe the variances within both arms and within the other arms."""
        from scipy.special import fdtrc

        arms = [self.values[row, self._known[row]] for row in rows]
        counts = [len(arm) for arm in arms]
        dfs = [n - 1 for n in counts]
        squares = [float(((arm - arm.mean()) ** 2).sum()) for arm in arms]
        factor = 1 / counts[0] + 1 / counts[1]
        effect = float(arms[1].mean() - arms[0].mean())
        total = float(sum(dfs))
        pooled = sum(squares) / total if total > 0 else math.nan
        part = _Part(effect=effect, factor=factor, variance=pooled, df=total, one_arm=min(dfs) == 0)
        _, layout, aside = self._pool
        if min(dfs) > 0 and min(squares) > 0:
            f = (squares[0] / dfs[0]) / (squares[1] / dfs[1])
            # If the arm with fewer seeds is the quieter one, the pooled variance is too large rather than too small.
            first, second = float(fdtrc(dfs[0], dfs[1], f)), float(fdtrc(dfs[1], dfs[0], 1 / f))
            if dfs[0] == dfs[1]:
                unequal = 2 * min(first, second) < more_readily(NOISY_UNPAIRED, level)
            else:
                p = first if dfs[0] < dfs[1] else second
                unequal = p < more_readily(NOISY_SMALL_ARM if min(counts) > 2 else NOISY_TWO_SEEDS, level)
            if unequal or not aside.isdisjoint(rows):
                terms = [s / df / n for s, df, n in zip(squares, dfs, counts, strict=True)]
                df = sum(terms) ** 2 / sum(term**2 / own for term, own in zip(terms, dfs, strict=True))
                welch = sum(terms) / factor
                own = welch if dfs[0] == dfs[1] else max(welch, pooled)
                part = part._replace(variance=own, df=df, apart=True)
                if aside.isdisjoint(rows):
                    noisier = rows[0] if f > 1 else rows[1]
                    return part._replace(apart_rows=(noisier,), between=True, ratio=math.sqrt(max(f, 1 / f)))
                return part._replace(apart_rows=_among(rows, aside), ratio=self._ratio(own, within=True))
        if layout is None or not aside.isdisjoint(rows):
            return part._replace(apart=not aside.isdisjoint(rows), apart_rows=_among(rows, aside))
        inside = [row for row in rows if row in self._in_pool]
        places = [self._in_pool[row] for row in inside]
        rest = float(layout.within.sum() - layout.within[places].sum())
        # Arms that share seeds have correlated variances: with correlation r of two arms, r**2 (Satterthwaite 1946).
        overlap = 1 + max(self._arms_per_seed - 1, 0.0) * self.seed_fraction**2
        df = float((layout.counts - 1).sum() - (layout.counts[places] - 1).sum()) / overlap
        if df <= 0 or rest <= 0:
            return part
        sweep = rest / (df * overlap)
        part = part._replace(sweep=sweep, sweep_df=min(df, self.scatter_df))
        if total <= 0:
            return part
        apart = float(fdtrc(total, df, pooled / sweep)) < more_readily(NOISY_UNPAIRED, level)
        return part._replace(apart=apart, ratio=math.sqrt(pooled / sweep))

    def _ratio(self, variance: float, *, within: bool = False) -> float:
        """Return the SD of a pair that was set aside, divided by the SD of the sweep."""
        _, layout, _ = self._pool
        if layout is None:
            return math.nan
        squares = float(layout.within.sum()) if within else layout.squares
        df = float((layout.counts - 1).sum()) if within else layout.df
        return math.sqrt(variance / (squares / df)) if df > 0 and squares > 0 else math.nan

    def outliers(self, prior: SeedPrior | None = None) -> tuple[Outlier, ...]:
        """List scores that differ from the scores of the other arms and seeds by more than noise.

        The test is the externally studentized residual of the two-way layout (Cook and Weisberg 1982), with Bonferroni's
        adjustment over all scores of the metric, at 5%. The largest outlier is removed before the next test, so that it
        does not hide others. With two arms, both runs of a seed have equal residuals. The outlier is then the run that
        differs more from the other seeds of its arm. Less than half of the seeds of an arm can be outliers.

        If arms have different seeds that explain no part of the variance, the residuals are those within the arms. The history
        counts only if its variance agrees with that of the other scores, which needs `FEWEST_LEFT` degrees of freedom.

        Args:
            prior: noise of the history.
        """
        from scipy.special import stdtr

        prior = SeedPrior() if prior is None else prior
        within = self._balanced is None and self.seed_fraction == 0
        past = prior.unpaired if within else prior.best
        values, found = self.values.copy(), list[Outlier]()
        rows = np.flatnonzero(self._replicated)
        floor = (NEGLIGIBLE * float(np.abs(values[self._known]).max(initial=0.0))) ** 2
        while len(rows) > 1 and len(found) < MOST_OUTLIERS:
            layout = _fit_arms(values[rows]) if within else _fit(values[rows])
            known = np.isfinite(values[rows])
            free = np.where(known, 1 - layout.leverages, 0.0)
            per_arm = Counter(outlier.arm for outlier in found)
            limit = np.array([2 * (per_arm[self.arms[row]] + 1) < self._known[row].sum() for row in rows])
            usable = (free > 1e-6) & limit[:, None]
            left_df = layout.df - 1
            if left_df < 1 or not usable.any():
                break
            own = np.where(usable, layout.residuals**2 / np.where(usable, free, 1.0), 0.0)
            left = np.maximum(layout.squares - own, floor) / left_df
            least = float(left[usable].min())
            if past.df > 0 and left_df >= FEWEST_LEFT and least > 0 and agrees(least, left_df, past):
                left, left_df = (left_df * left + past.df * past.variance) / (left_df + past.df), left_df + past.df
            size = np.sqrt(np.divide(own, left, out=np.zeros_like(own), where=left > 0))
            size = np.where(np.isclose(size, size.max(), rtol=1e-6), size, 0.0)
            spread = np.abs(np.where(known, values[rows] - np.nanmedian(values[rows], axis=1)[:, None], 0.0))
            tied = np.where(size > 0, 1 + spread, 0.0)
            row, column = np.unravel_index(int(tied.argmax()), tied.shape)
            p = float(2 * stdtr(left_df, -size[row, column])) * int(known.sum())
            if not p < OUTLIER:
                break
            value = float(values[rows[row], column])
            expected = value - float(layout.residuals[row, column] / free[row, column])
            found.append(Outlier(self.arms[rows[row]], self.seeds[column], value, expected, p))
            values[rows[row], column] = math.nan
            rows = rows[np.isfinite(values[rows]).sum(axis=1) > 1]
        return tuple(found)

    def as_prior(self, unpaired: Prior | None = None) -> SeedPrior:
        """Return the noise of these arms as a prior for other arms (see `assay.analysis.stats.moderated.learn`).

        The paired variance needs `ALONE` degrees of freedom. With fewer, only the variance within arms is known.

        Args:
            unpaired: the noise within arms, if the model contains only scores of shared seeds (default: of the model's
                scores).
        """
        rows = np.flatnonzero(self._known.sum(axis=1) > 1)
        if not len(rows):
            return SeedPrior(unpaired=unpaired or NOTHING)
        layout = _fit(self.values[rows])
        if unpaired is None:
            unpaired = learn(layout.within / (layout.counts - 1), layout.counts - 1)
        if layout.rank == 0 or layout.df < ALONE or unpaired.df <= 0:
            return SeedPrior(unpaired=unpaired)
        if unpaired.df == MOST_DF:  # the mixes' variances do not scatter beyond chance
            return SeedPrior(Prior(layout.squares / layout.df, MOST_DF, layout.df), unpaired)
        dfs = layout.df_by_arm
        enough = dfs > 1e-6
        scatter = learn(layout.by_arm[enough] / dfs[enough], dfs[enough])
        paired = scatter._replace(seen=layout.df) if scatter.df > 0 else NOTHING
        return SeedPrior(paired, unpaired)


class _Moderated(NamedTuple):
    variance: float
    df: float
    sweep_df: float
    history_df: float
    ratio: float


class _Part(NamedTuple):
    """A pair's own variance of one run, and the variance of the other arms."""

    effect: float
    factor: float
    """Variance of the effect per variance of one run."""
    variance: float
    df: float
    sweep: float = math.nan
    sweep_df: float = 0.0
    apart: bool = False
    apart_rows: tuple[int, ...] = ()
    """Rows of the arms whose noise differs; empty for both."""
    between: bool = False
    ratio: float = math.nan
    one_arm: bool = False
    """Whether one arm has a single seed, so that its noise is not measured."""

    def moderate(self, prior: Prior, quieter: float, level: float) -> _Moderated:
        """Combine the pair's variance with that of the sweep and of the history."""
        sweep_df = self.sweep_df if math.isfinite(self.sweep) and not self.apart else 0.0
        if self.df <= 0 or self.one_arm:
            return self._unmeasured(prior, sweep_df, level)
        if self.apart:
            return _Moderated(self.variance, self.df, 0.0, 0.0, math.nan)
        variance, df = shrink(self.variance, self.df, Prior(self.sweep, sweep_df))
        history_df, ratio = 0.0, math.nan
        if prior.df > 0 and prior.variance > 0 and variance > 0:
            ratio = math.sqrt(variance / prior.variance)
            if agrees(variance, df, prior, quieter, level):
                history_df = min(prior.df, df)
                variance, df = shrink(variance, df, prior._replace(df=history_df))
        return _Moderated(variance, df, sweep_df, history_df, ratio)

    def _unmeasured(self, prior: Prior, sweep_df: float, level: float) -> _Moderated:
        """Use the noise of other arms or mixes for an arm with one seed, if there are enough.

        The seeds of the other arm measure the noise too, so a history that contradicts them is not used. The level of this
        test is 2**-df, and at least 1%. The false-positive rate at a nominal 5% is then at most 7% for two to eight seeds of
        the other arm, for all ratios of the noises. If the noises are equal, 42% of the comparisons are decided with two
        seeds, 58% with three, and 84% with eight.
        """
        from scipy.special import fdtrc

        variance, df = shrink(self.variance, self.df, Prior(self.sweep, sweep_df))
        if df >= ALONE:
            return _Moderated(variance, df, sweep_df, 0.0, math.nan)
        if not prior.stands_alone:
            return _Moderated(math.nan, 0.0, 0.0, 0.0, math.nan)
        if df <= 0:
            return _Moderated(prior.variance, prior.df, 0.0, prior.df, math.nan)
        ratio = math.sqrt(variance / prior.variance)
        if float(fdtrc(df, max(prior.seen, 1.0), variance / prior.variance)) <= _more_closely(
            max(2**-df, 0.01), df, level
        ):
            return _Moderated(math.nan, 0.0, 0.0, 0.0, ratio)
        variance, df = shrink(variance, df, prior)
        return _Moderated(variance, df, sweep_df, prior.df, ratio)


def agrees(variance: float, df: float, prior: Prior, quieter: float = QUIETER, level: float = USUAL_LEVEL) -> bool:
    """Report whether a measured variance agrees with the history's closely enough to use the history.

    The p-value of the F test that the measured variance is larger must be between `least` and `quieter`. `least` falls
    with the degrees of freedom: 0.67 for 1, 0.41 for 2, and 0.25 for 3 or more. The bounds have the highest power under the
    condition that the false-positive rate at a nominal 5% is at most 7% for two seeds and at most 6% for three or more seeds,
    for all ratios of the history's noise to the measured noise. With three seeds, two arms and a difference of two SDs of a
    run, the power is 35%. A paired t test has 29%. Use of the history without a condition has 52%, with false-positive rates of
    up to 25%. A linear program shows that no rule with the condition exceeds 39%.

    At smaller levels, `least` is larger (`_more_closely`).
    """
    from scipy.special import fdtrc

    least = _more_closely(max(0.25, 0.93 - 0.26 * df), df, level)
    p = float(fdtrc(df, max(prior.seen, 1.0), variance / prior.variance))
    return least < p < quieter


def _more_closely(least: float, df: float, level: float) -> float:
    """Raise the least p-value of an agreement for comparisons at a smaller level.

    The chance of using the history falls with the level to the power of 1 / df. The false-positive rate then is at most 1.2
    times the level for 2 degrees of freedom, and 1.3 times for 4 and more, for levels of 0.25 to 5% and all ratios of the noises.
    """
    return 1 - (1 - least) * math.pow(min(level / USUAL_LEVEL, 1.0), 1 / max(df, 0.1))


def more_readily(test: float, level: float) -> float:
    """Raise the level of a test that separates a pair for comparisons at a smaller level."""
    return max(test, min(MOST_READILY, test * math.sqrt(USUAL_LEVEL / level)))


def _among(rows: tuple[int, int], aside: frozenset[int]) -> tuple[int, ...]:
    return tuple(row for row in rows if row in aside)


def _noisy_arms(layout: _Layout) -> NDArray[np.intp]:
    """Return the arms whose residuals exceed those of the other arms, the noisiest first."""
    from scipy.special import fdtrc

    squares, dfs = layout.by_arm, layout.df_by_arm
    others, other_df = layout.squares - squares, layout.df - dfs
    testable = (dfs > 0.1) & (other_df > 0.1) & (others > 0)
    if not testable.any():
        return np.empty(0, dtype=np.intp)
    p = np.ones(len(squares))
    f = (squares[testable] / dfs[testable]) / (others[testable] / other_df[testable])
    p[testable] = fdtrc(dfs[testable], other_df[testable], f) * len(squares)
    order = np.argsort(p, kind="stable")
    noisy: NDArray[np.intp] = order[p[order] < NOISY_ARM]
    return noisy if len(squares) > 20 else noisy[:1]  # many arms are set aside together, to stay linear


def _scatter_df(layout: _Layout) -> float:
    """Return the degrees of freedom of the arms' scatter around a common variance; infinite if not significant.

    The variance of the log variances exceeds that of log chi-squared by the trigamma function of half of the scatter's
    degrees of freedom (Smyth 2004). The excess counts if it is significant at 1%, one-sided.
    """
    from scipy.special import digamma, polygamma

    dfs = layout.df_by_arm
    usable = (dfs > 0.5) & (layout.by_arm > 0)
    count = int(usable.sum())
    if count < 5:
        return math.inf
    half = dfs[usable] / 2
    logs = np.log(layout.by_arm[usable] / dfs[usable]) - digamma(half) + np.log(half)
    expected = float(polygamma(1, half).mean())
    observed = float(logs.var(ddof=1))
    error = math.sqrt(float(polygamma(3, half).mean()) / count + 2 * expected**2 / (count - 1))
    if observed - expected <= 2.326 * error:
        return math.inf
    return 2 * inverse_trigamma(observed - expected)
