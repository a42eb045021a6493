"""The noise of a comparison comes from all arms and the history, as far as the pair's own noise permits."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pytest
from scipy import stats

from assay.analysis.stats.moderated import NOTHING, Prior
from assay.analysis.stats.sweep_model import SeedPrior, SweepModel

STUDIES = 2000
ERROR = 0.06 + 3 * math.sqrt(0.06 * 0.94 / STUDIES)
"""The largest acceptable false-positive rate, with three standard errors of the simulation."""


class Study(NamedTuple):
    """A simulated sweep: the effect of arm 1, the seeds' common SD, the arms' SDs, and the missing cells."""

    arms: int
    seeds: int
    effect: float = 0.0
    common: float = 0.0
    sds: Callable[[np.random.Generator], np.ndarray] | None = None
    missing: np.ndarray | None = None
    history_sd: float = 0.0
    history_common: float = 0.0

    def draw(self, rng: np.random.Generator) -> np.ndarray:
        sds = np.ones(self.arms) if self.sds is None else self.sds(rng)
        values = sds[:, None] * rng.standard_normal((self.arms, self.seeds))
        values += self.common * rng.standard_normal(self.seeds)
        values[1] += self.effect
        if self.missing is not None:
            values[self.missing] = math.nan
        return values

    def rate(self, seed: int = 1) -> float:
        """Fraction of studies with a significant difference of arms 0 and 1 at 5%."""
        rng, hits = np.random.default_rng(seed), 0
        for _ in range(STUDIES):
            prior = None
            if self.history_sd:
                past = self.history_sd * rng.standard_normal((20, 3)) + self.history_common * rng.standard_normal(3)
                prior = _model(past).as_prior()
            c = _model(self.draw(rng)).compare("0", "1", prior)
            hits += c.df > 0 and 2 * stats.t.sf(abs(c.effect) / math.sqrt(c.variance), c.df) <= 0.05
        return hits / STUDIES


def _model(values: np.ndarray) -> SweepModel:
    return SweepModel(tuple(map(str, range(len(values)))), tuple(range(values.shape[1])), values)


def _cells(arms: int, baseline: range, others: range) -> np.ndarray:
    missing = np.ones((arms, max(baseline.stop, others.stop)), dtype=bool)
    missing[0, baseline] = False
    missing[1:, others] = False
    return missing


def _scattered(arms: int) -> Callable[[np.random.Generator], np.ndarray]:
    """SDs that differ up to fivefold, so variances differ up to 25-fold."""
    return lambda rng: np.exp(rng.uniform(0, math.log(5), arms))


def _constant(*sds: float) -> Callable[[np.random.Generator], np.ndarray]:
    return lambda _: np.array(sds)


@pytest.mark.parametrize(
    "study",
    [
        Study(2, 3), Study(5, 3), Study(5, 2), Study(10, 3), Study(5, 3, common=3.0),
        Study(8, 3, sds=_scattered(8)), Study(30, 3, sds=_scattered(30)),
        Study(2, 6, missing=_cells(2, range(3), range(3, 6))), Study(5, 6, missing=_cells(5, range(3), range(3, 6))),
        Study(2, 10, missing=_cells(2, range(10), range(3))), Study(5, 10, missing=_cells(5, range(10), range(3))),
        Study(2, 10, common=1.0, missing=_cells(2, range(10), range(3))),
        Study(5, 5, common=3.0, missing=_cells(5, range(4), range(1, 5))),
    ],
    ids=[
        "two arms", "five arms", "two seeds", "ten arms", "coupled seeds", "25-fold variances", "25-fold, 30 arms",
        "unshared", "unshared, five arms", "ten against three", "ten against three, five arms", "ten, coupled",
        "partly shared, coupled",
    ],
)  # fmt: skip
def test_arms_without_a_difference_are_told_apart_in_at_most_six_percent_of_studies(study: Study) -> None:
    assert study.rate() <= ERROR


@pytest.mark.parametrize(("baseline", "candidate"), [(8, 2), (10, 3), (10, 5)])
@pytest.mark.parametrize("arms", [2, 5])
def test_a_noisier_arm_with_fewer_unpaired_seeds_keeps_the_error_rate(arms: int, baseline: int, candidate: int) -> None:
    missing = _cells(arms, range(baseline), range(baseline, baseline + candidate))
    sds = _constant(1.0, 2.0, *[1.0] * (arms - 2))
    assert Study(arms, baseline + candidate, sds=sds, missing=missing).rate() <= 0.085


@pytest.mark.parametrize("ratio", [1.0, 1.5, 2.0, 3.0, 0.5])
@pytest.mark.parametrize("arms", [2, 5])
def test_a_history_with_another_noise_keeps_the_error_rate(arms: int, ratio: float) -> None:
    assert Study(arms, 3, sds=_constant(*[ratio] * arms), history_sd=1.0).rate() <= ERROR
    assert Study(arms, 3, sds=_constant(1.0, ratio, *[1.0] * (arms - 2)), history_sd=1.0).rate() <= ERROR + 0.06 * (
        arms > 2 and ratio > 1  # a single noisy arm among quiet ones: see the module's docstring
    )


@pytest.mark.parametrize(
    ("study", "least"),
    [
        (Study(5, 3, effect=2), 0.51), (Study(5, 2, effect=2), 0.27), (Study(10, 3, effect=2), 0.56),
        (Study(2, 10, effect=2, missing=_cells(2, range(10), range(3))), 0.56),
        (Study(5, 10, effect=2, missing=_cells(5, range(10), range(3))), 0.56),
        (Study(2, 6, effect=2, missing=_cells(2, range(3), range(3, 6))), 0.4),
        (Study(5, 6, effect=2, missing=_cells(5, range(3), range(3, 6))), 0.47),
        (Study(2, 3, effect=2, history_sd=1.0), 0.32), (Study(2, 3), 0.0),
        (Study(2, 3, effect=2, common=3.0, history_sd=1.0, history_common=3.0), 0.32),
        (Study(5, 3, effect=2, common=3.0, history_sd=1.0, history_common=3.0), 0.5),
    ],
)  # fmt: skip
def test_all_arms_and_seeds_raise_the_power_for_a_difference_of_two_sds(study: Study, least: float) -> None:
    assert study.rate() >= least


def test_two_arms_with_equal_seeds_give_the_paired_t_test() -> None:
    values = np.random.default_rng(1).standard_normal((2, 4))
    c = _model(values).compare("0", "1")
    reference = stats.ttest_rel(values[1], values[0])
    assert 2 * stats.t.sf(abs(c.effect) / math.sqrt(c.variance), c.df) == pytest.approx(reference.pvalue, rel=1e-9)
    assert (c.pairing, c.own_df, c.sweep_df) == ("paired", 3, 0)


def test_the_residual_of_all_arms_is_that_of_a_two_way_analysis_of_variance() -> None:
    import pandas as pd
    from statsmodels.formula.api import ols

    values = np.random.default_rng(2).standard_normal((5, 4))
    values[3, 1] = values[2, 0] = math.nan
    arm, seed = np.nonzero(np.isfinite(values))
    fit = ols("y ~ C(arm) + C(seed)", pd.DataFrame({"y": values[arm, seed], "arm": arm, "seed": seed})).fit()
    c = _model(values).compare("0", "1")
    assert (c.own_df, c.sweep_df, c.df) == (3, fit.df_resid - 3, fit.df_resid)
    assert c.variance == pytest.approx(2 * fit.mse_resid / 4, rel=1e-9)


def test_arms_with_different_seeds_give_the_pooled_t_test_and_unequal_noise_gives_welchs() -> None:
    missing = _cells(2, range(8), range(8, 12))
    values = np.random.default_rng(3).standard_normal((2, 12))
    values[missing] = math.nan
    for factor, equal_var in ((1.0, True), (30.0, False)):
        scaled = values * np.array([[1.0], [factor]])
        first, second = (row[np.isfinite(row)] for row in scaled)
        c = _model(scaled).compare("0", "1")
        reference = stats.ttest_ind(second, first, equal_var=equal_var)
        assert 2 * stats.t.sf(abs(c.effect) / math.sqrt(c.variance), c.df) == pytest.approx(reference.pvalue, rel=1e-9)
        assert (c.pairing, c.apart) == ("unpaired", not equal_var)
        assert (c.apart_arms, c.between) == (((), False) if equal_var else (("1",), True))
        if not equal_var:  # the noise of the pair is close to that of the sweep, which consists of the same two arms
            assert c.ratio == pytest.approx(np.std(second, ddof=1) / np.std(first, ddof=1))


def test_a_noisy_arm_is_set_aside_and_compared_with_its_own_noise() -> None:
    values = np.random.default_rng(4).standard_normal((6, 4))
    values[5] *= 100
    model = _model(values)
    assert (model.noisy_arms, model.pooled_arms) == (("5",), ("0", "1", "2", "3", "4"))
    assert model.compare("0", "1").sweep_df == 9
    noisy = model.compare("0", "5")
    assert (noisy.apart, noisy.sweep_df, noisy.df, noisy.ratio > 10) == (True, 0, 3, True)
    assert (noisy.apart_arms, noisy.between) == (("5",), False)


def test_copies_of_an_arm_constant_arms_and_single_seeds_do_not_inform_the_noise() -> None:
    values = np.random.default_rng(5).standard_normal((6, 3))
    values[3], values[4], values[5, 1:] = values[2] + 0.5, 1.0, math.nan
    model = _model(values)
    assert model.pooled_arms == ("0", "1", "2")
    assert model.compare("0", "4").n_candidate == 3


def test_an_arm_with_one_seed_needs_the_noise_of_other_arms_or_of_the_history() -> None:
    values = np.random.default_rng(6).standard_normal((2, 8))
    values[1, 1:] = math.nan
    assert _model(values).compare("0", "1").df == 0, "seven degrees of freedom of the baseline do not suffice"
    assert _model(values).compare("0", "1", SeedPrior(Prior(0.05, 4.0, 40.0), Prior(0.05, 4.0, 40.0))).df == 0
    past = Prior(1.2 * values[0].var(ddof=1), 4.0, 40.0)
    c = _model(values).compare("0", "1", SeedPrior(past, past))
    assert (c.df, c.own_df, c.history_df, c.n_baseline, c.n_candidate) == (11, 7, 4, 8, 1)
    assert c.variance == pytest.approx(values[0].var(ddof=1) * (7 + 4 * 1.2) / 11 * (1 + 1 / 8))
    more = np.vstack([values, np.random.default_rng(7).standard_normal((2, 8)) * 1.3])
    assert _model(more).compare("0", "1").df > 10


@pytest.mark.parametrize("ratio", [1.0, 0.5, 0.33])
def test_a_history_does_not_replace_a_baseline_that_contradicts_it(ratio: float) -> None:
    rng = np.random.default_rng(12)
    wrong = decided = 0
    for _ in range(1000):
        values = rng.standard_normal((2, 8))
        values[1, 1:] = math.nan
        c = _model(values).compare("0", "1", _model(ratio * rng.standard_normal((10, 3))).as_prior())
        assert c.df in (0, c.own_df + c.history_df)
        assert c.df > 0 or c.history_ratio > 1
        decided += c.df > 0
        wrong += c.df > 0 and 2 * stats.t.sf(abs(c.effect) / math.sqrt(c.variance), c.df) <= 0.05
    assert wrong / 1000 <= ERROR
    assert decided >= 600 or ratio < 1


def test_text_and_number_seeds_are_different_seeds() -> None:
    model = SweepModel.of({"a": {0: 1.0, 1: 1.2, 2: 0.9}, "b": {"0": 1.5, "1": 1.4, "2": 1.7}})
    c = model.compare("a", "b")
    assert (c.pairing, c.shared, c.n_baseline, c.n_candidate) == ("unpaired", (), 3, 3)


def test_an_arm_without_scores_has_no_effect() -> None:
    c = SweepModel.of({"a": {0: 1.0, 1: 2.0}, "b": {}}).compare("a", "b")
    assert math.isnan(c.effect)
    assert c.df == 0


def test_a_history_with_shared_seeds_gives_the_noise_of_paired_differences() -> None:
    rng = np.random.default_rng(8)
    past = 0.1 * rng.standard_normal((20, 4)) + rng.standard_normal(4)
    prior = _model(past).as_prior()
    assert prior.paired.variance == pytest.approx(0.01, rel=0.4)
    assert prior.unpaired.variance > 10 * prior.paired.variance
    assert _model(past[:4]).as_prior() == SeedPrior(NOTHING, NOTHING)


def test_a_diverged_run_is_an_outlier_and_noise_is_not() -> None:
    rng, named = np.random.default_rng(9), 0
    for _ in range(400):
        values = rng.standard_normal((5, 3))
        named += bool(_model(values).outliers())
        values[2, 1] += 30
        outlier = _model(values).outliers()[0]
        assert (outlier.arm, outlier.seed) == ("2", 1)
        assert abs(outlier.value - outlier.expected) > 15
    assert named / 400 <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 400)


def test_of_two_arms_the_run_that_differs_from_its_own_arm_is_the_outlier() -> None:
    values = 2 + 0.002 * np.random.default_rng(10).standard_normal((2, 3))
    values[1, 2] = 7.5
    assert [(o.arm, o.seed) for o in _model(values).outliers()] == [("1", 2)]
    values[1, 2] = 2.03
    assert _model(values).outliers() == ()
    past = SeedPrior(*[Prior(4e-6, 4.0, 40.0)] * 2)
    assert _model(values).outliers(past) == (), "one degree of freedom cannot show that the history agrees"
    more = 2 + 0.002 * np.random.default_rng(10).standard_normal((2, 5))
    more[1, 2] += 0.025
    assert [o.arm for o in _model(more).outliers(past)] == ["1"]


@pytest.mark.parametrize("ratio", [1.0, 0.5, 0.33])
@pytest.mark.parametrize("shape", [(2, 3), (5, 3), (2, 5)])
def test_a_history_causes_no_false_outliers(ratio: float, shape: tuple[int, int]) -> None:
    rng, named = np.random.default_rng(15), 0
    priors = [_model(ratio * rng.standard_normal((10, 3))).as_prior() for _ in range(50)]
    for study in range(500):
        named += bool(_model(rng.standard_normal(shape)).outliers(priors[study % 50]))
    assert named / 500 <= 0.06 + 3 * math.sqrt(0.06 * 0.94 / 500)


def test_an_outlier_among_unshared_seeds_is_named() -> None:
    rng, named = np.random.default_rng(16), 0
    for _ in range(200):
        values = rng.standard_normal((4, 20))
        values[~np.kron(np.eye(4), np.ones(5)).astype(bool)] = math.nan
        named += bool(_model(values).outliers())
        values[1, 6] += 30
        outlier = _model(values).outliers()[0]
        assert (outlier.arm, outlier.seed) == ("1", 6)
        assert abs(outlier.value - outlier.expected) > 15
    assert named / 200 <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 200)


@pytest.mark.parametrize("ratio", [0.5, 0.33])
def test_a_quieter_history_keeps_the_error_rate_at_small_levels(ratio: float) -> None:
    rng, level, studies = np.random.default_rng(13), 0.0095, 8000
    priors = [_model(ratio * rng.standard_normal((20, 3))).as_prior() for _ in range(50)]
    wrong = 0
    for study in range(studies):
        c = _model(rng.standard_normal((2, 3))).compare("0", "1", priors[study % 50], level=level)
        wrong += 2 * stats.t.sf(abs(c.effect) / math.sqrt(c.variance), c.df) <= level
    assert wrong / studies <= 1.2 * level + 3 * math.sqrt(level / studies)


def test_a_pair_is_separated_more_readily_at_small_levels() -> None:
    rng = np.random.default_rng(14)
    models = [_model(rng.standard_normal((5, 3))) for _ in range(300)]
    usual, small = (sum(m.compare("0", "1", level=level).apart for m in models) for level in (0.05, 0.0025))
    assert usual < 0.2 * 300 < small < 0.6 * 300
