"""Measure the gate's error rates and power in simulated studies with known truth, compared with common practice.

Prints Markdown tables: one metric at three to five seeds, compared with five other rules; the whole gate over thirty tasks; a history
of recipes at two scales; and the noise of sweeps with several arms, coupled or unshared seeds and unequal noise.
`python benchmarks/gate.py [--studies N] [--worlds N] [--mixed N] [--only-noise] [--only-levels]`
"""

from __future__ import annotations

import argparse
import itertools
import math
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import special, stats
from scipy.optimize import linprog
from statsmodels.regression.mixed_linear_model import MixedLM
from statsmodels.tools.sm_exceptions import ConvergenceWarning

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.analysis.stats.simulated_tables import World

from assay.analysis.gate import decide
from assay.analysis.stats.moderated import learn, shrink
from assay.analysis.stats.sweep_model import SweepModel
from assay.analysis.stats.transfer import fit
from assay.config.policy import Criterion, Policy

ALPHA = 0.05
PAST = 20
"""Past mixes with replicates, from which the history's noise is learned."""
GAP = 2.0
"""True effect for the power, in SDs of one run."""

Draw = Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]
Rule = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]
"""Map baseline and candidate (studies, seeds) and past runs (studies, mixes, seeds) to a two-sided p-value per study."""

NOISE: dict[str, tuple[Draw, float]] = {
    "normal": (lambda rng, shape: rng.standard_normal(shape), 0.0),
    "heavy tails (t, 3 df)": (lambda rng, shape: rng.standard_t(3, shape) / np.sqrt(3), 0.0),
    "unequal variances": (lambda rng, shape: rng.standard_normal(shape), 0.4),
    "both": (lambda rng, shape: rng.standard_t(3, shape) / np.sqrt(3), 0.4),
}
"""For each noise: how to draw it, and the SD between mixes of log noise."""


def higher_mean(a: np.ndarray, b: np.ndarray, _: np.ndarray) -> np.ndarray:
    """Call every difference significant: the higher mean wins."""
    return np.where(a.mean(axis=1) == b.mean(axis=1), 1.0, 0.0)


def z_test(a: np.ndarray, b: np.ndarray, _: np.ndarray) -> np.ndarray:
    """Test with normal quantiles and the sample SD."""
    se = np.sqrt((a.var(1, ddof=1) + b.var(1, ddof=1)) / a.shape[1])
    return 2 * stats.norm.sf(np.abs(b.mean(1) - a.mean(1)) / se)


def welch(a: np.ndarray, b: np.ndarray, _: np.ndarray) -> np.ndarray:
    return np.asarray(stats.ttest_ind(a, b, axis=1, equal_var=False).pvalue)


def paired(a: np.ndarray, b: np.ndarray, _: np.ndarray) -> np.ndarray:
    return np.asarray(stats.ttest_rel(a, b, axis=1).pvalue)


def bootstrap(a: np.ndarray, b: np.ndarray, _: np.ndarray) -> np.ndarray:
    """Test with a percentile bootstrap of the paired differences over all resamples of the seeds."""
    d = b - a
    n = d.shape[1]
    drawn = np.array(list(itertools.product(range(n), repeat=n)))
    counts, times = np.unique(np.stack([(drawn == i).sum(1) for i in range(n)], 1), axis=0, return_counts=True)
    below = (d @ counts.T <= 0) @ (times / times.sum())
    return 2 * np.minimum(below, 1 - below)


def with_history(a: np.ndarray, b: np.ndarray, past: np.ndarray) -> np.ndarray:
    """Test as the gate does: paired, with the variance moderated by past runs."""
    n = a.shape[1]
    p = np.empty(len(a))
    for i, differences in enumerate(b - a):
        prior = learn(past[i].var(axis=1, ddof=1), [n - 1] * past.shape[1])
        own = float(differences.var(ddof=1))
        variance, df = shrink(own, n - 1, prior._replace(variance=2 * prior.variance))
        p[i] = 2 * stats.t.sf(abs(differences.mean()) / np.sqrt(variance / n), df)
    return p


RULES: dict[str, Rule] = {
    "higher mean wins": higher_mean,
    "z, sample SD": z_test,
    "bootstrap over seeds": bootstrap,
    "Welch": welch,
    "paired t (gate, no history)": paired,
    "moderated (gate, history)": with_history,
}


def one_metric(studies: int) -> None:
    """Print each rule's error rate without an effect, its power at its own level, and at the level where its error is 5%."""
    print("| noise | seeds | rule | false claims at a nominal 5% | power | power at equal error |\n|" + " --- |" * 6)
    rng = np.random.default_rng(1)
    for (name, (draw, unequal)), seeds in itertools.product(NOISE.items(), (3, 5)):
        sd = np.exp(unequal * rng.standard_normal((studies, PAST + 2, 1)))
        runs = sd * draw(rng, (studies, PAST + 2, seeds))
        typical = np.sqrt((sd[:, 0] ** 2 + sd[:, 1] ** 2) / 2)
        a, b, past = runs[:, 0], runs[:, 1], runs[:, 2:]
        for rule, test in RULES.items():
            null, effect = test(a, b, past), test(a, b + GAP * typical, past)
            wrong, power = (null <= ALPHA).mean(), (effect <= ALPHA).mean()
            bar = np.quantile(null, ALPHA)
            # A bootstrap of three seeds has so few distinct p-values that no level makes its error 5%.
            equal = f"{(effect <= bar).mean():.0%}" if (null <= bar).mean() < ALPHA + 0.01 else "-"
            print(f"| {name} | {seeds} | {rule} | {wrong:.1%} | {power:.0%} | {equal} |")


class Setting(NamedTuple):
    """A sweep of one metric: arms, seeds, the seeds' common SD, SDs by arm, and the history.

    `sds` maps a generator to the arms' SDs; `cells` are the known cells; `history` is the SD of a past run's own noise.
    """

    arms: int
    seeds: int
    common: float = 0.0
    sds: Callable[[np.random.Generator], np.ndarray] | None = None
    cells: np.ndarray | None = None
    history: float | None = None


def _noisy(arms: int, ratio: float, noisy: int) -> Callable[[np.random.Generator], np.ndarray]:
    """The last `noisy` arms of the pair (0, 1) are noisier by `ratio`."""
    sds = np.ones(arms)
    sds[2 - noisy : 2] = ratio
    return lambda _: sds


def _known(arms: int, baseline: range, others: range) -> np.ndarray:
    cells = np.zeros((arms, max(baseline.stop, others.stop)), dtype=bool)
    cells[0, baseline] = True
    cells[1:, others] = True
    return cells


COUPLED = 3.0
"""SD of the seeds' common part per SD of a run's own noise: a correlation of 0.9."""

SETTINGS: dict[str, Setting] = {
    "2 arms, 3 seeds": Setting(2, 3),
    "5 arms, 3 seeds": Setting(5, 3),
    "5 arms, 2 seeds": Setting(5, 2),
    "10 arms, 3 seeds": Setting(10, 3),
    "2 arms, 3 seeds, history": Setting(2, 3, history=1.0),
    **{
        f"history {ratio:g} times quieter than both arms": Setting(2, 3, sds=_noisy(2, ratio, 2), history=1.0)
        for ratio in (1.5, 2, 3)
    },
    **{
        f"history {ratio:g} times quieter than the candidate": Setting(2, 3, sds=_noisy(2, ratio, 1), history=1.0)
        for ratio in (1.5, 2, 3)
    },
    **{
        f"5 arms, history {ratio:g} times quieter": Setting(5, 3, sds=_noisy(5, 1.0, 0), history=1 / ratio)
        for ratio in (1.5, 2, 3)
    },
    "2 arms, coupled, history": Setting(2, 3, common=COUPLED, history=1.0),
    "5 arms, coupled, history": Setting(5, 3, common=COUPLED, history=1.0),
    **{
        f"5 arms, only the pair {ratio:g} times noisier": Setting(5, 3, sds=_noisy(5, ratio, 2))
        for ratio in (1.5, 2, 3, 5)
    },
    **{
        f"5 arms, only the candidate {ratio:g} times noisier": Setting(5, 3, sds=_noisy(5, ratio, 1))
        for ratio in (2, 5)
    },
    "8 arms, variances differ up to 25-fold": Setting(8, 3, sds=lambda rng: np.exp(rng.uniform(0, np.log(5), 8))),
    "30 arms, variances differ up to 25-fold": Setting(30, 3, sds=lambda rng: np.exp(rng.uniform(0, np.log(5), 30))),
    "2 arms, seeds 0-2 and 3-5": Setting(2, 6, cells=_known(2, range(3), range(3, 6))),
    "5 arms, seeds 0-2 and 3-5": Setting(5, 6, cells=_known(5, range(3), range(3, 6))),
    "2 arms, 10 and 3 seeds": Setting(2, 10, cells=_known(2, range(10), range(3))),
    "5 arms, 10 and 3 seeds": Setting(5, 10, cells=_known(5, range(10), range(3))),
    "5 arms, 10 and 3 seeds, coupled": Setting(5, 10, common=COUPLED, cells=_known(5, range(10), range(3))),
}


def old_rule(values: np.ndarray, past: np.ndarray | None) -> float:
    """Pair the shared seeds, and shrink toward twice the history's variance within mixes (the rule before 2026-11-30)."""
    d = values[1] - values[0]
    d = d[np.isfinite(d)]
    if len(d) < 2:
        return np.nan
    variance, df = float(d.var(ddof=1)), float(len(d) - 1)
    if past is not None:
        prior = learn(past.var(axis=1, ddof=1), [past.shape[1] - 1] * len(past))
        variance, df = shrink(variance, df, prior._replace(variance=2 * prior.variance))
    return _two_sided(float(d.mean()), variance / len(d), df)


def _two_sided(effect: float, variance: float, df: float) -> float:
    return float(2 * special.stdtr(df, -abs(effect) / math.sqrt(variance)))


def new_rule(values: np.ndarray, past: np.ndarray | None) -> float:
    prior = None if past is None else _sweep(past).as_prior()
    c = _sweep(values).compare("0", "1", prior)
    return _two_sided(c.effect, c.variance, c.df) if c.df > 0 else np.nan


def welch_rule(values: np.ndarray, _: np.ndarray | None) -> float:
    first, second = (row[np.isfinite(row)] for row in values[:2])
    parts = [float(row.var(ddof=1)) / len(row) for row in (first, second)]
    df = sum(parts) ** 2 / sum(part**2 / (len(row) - 1) for part, row in zip(parts, (first, second), strict=True))
    return _two_sided(float(second.mean() - first.mean()), sum(parts), df)


def paired_rule(values: np.ndarray, _: np.ndarray | None) -> float:
    return old_rule(values, None)


def mixed_model(values: np.ndarray, _: np.ndarray | None) -> float:
    """Fit arms as fixed and seeds as random effects by REML (statsmodels), with its normal approximation."""
    arm, seed = np.nonzero(np.isfinite(values))
    design = np.eye(len(values))[arm]
    design[:, 0] = 1.0
    with warnings.catch_warnings():
        # Three seeds often put the seeds' variance at its bound of 0, which is a result and not a failure here.
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.simplefilter("ignore", UserWarning)
        try:
            return float(MixedLM(values[arm, seed], design, groups=seed).fit(reml=True).pvalues[1])
        except np.linalg.LinAlgError:
            return np.nan


def most_power(limit: float) -> float:
    """Return the largest power of any rule for two arms, three seeds and a history with known noise, by linear programming.

    A rule maps the pair's variance and mean difference, in units of the history's noise, to a decision. The power is for
    a difference of `GAP` SDs and a history that agrees. The error is at most `limit` for all ratios of the two noises.
    """
    variances = np.concatenate([[0], np.geomspace(1e-4, 400, 160), [np.inf]])
    means = np.concatenate([np.linspace(0, 10, 120), np.geomspace(10.3, 300, 40), [np.inf]])

    def cells(ratio: float, shift: float = 0.0) -> np.ndarray:
        by_variance = np.diff(special.chdtr(2, 2 * variances / ratio**2))
        by_mean = np.diff(special.ndtr((means - shift) / ratio) - special.ndtr((-means - shift) / ratio))
        return np.outer(by_variance, by_mean).ravel()

    errors = np.array([cells(ratio) for ratio in np.geomspace(0.05, 40, 60)])
    gain = cells(1.0, GAP * math.sqrt(3 / 2))
    found = linprog(-gain, A_ub=errors, b_ub=np.full(len(errors), limit), bounds=(0, 1), method="highs")
    return float(-found.fun)


def _sweep(values: np.ndarray) -> SweepModel:
    return SweepModel(tuple(map(str, range(len(values)))), tuple(range(values.shape[1])), values)


SWEEP_RULES = {
    "old": old_rule, "new": new_rule, "Welch": welch_rule, "paired t": paired_rule, "mixed model": mixed_model,
}  # fmt: skip


def sweep_noise(studies: int, mixed: int) -> None:
    """Print error and power of each rule for arms 0 and 1. The effect is two SDs of a run's own noise, mean of the pair."""
    print("\nMost power of any rule for two arms, three seeds and a history:", end=" ")
    print(", ".join(f"{most_power(limit):.1%} at an error of {limit:.0%}" for limit in (0.05, 0.06)))
    print(f"\n| setting | {' | '.join(SWEEP_RULES)} |\n|" + " --- |" * (1 + len(SWEEP_RULES)))
    for name, setting in SETTINGS.items():
        rng = np.random.default_rng(4)
        p: dict[str, list[tuple[float, float]]] = {rule: [] for rule in SWEEP_RULES}
        for study in range(studies):
            sds = np.ones(setting.arms) if setting.sds is None else setting.sds(rng)
            values = sds[:, None] * rng.standard_normal((setting.arms, setting.seeds))
            values += setting.common * rng.standard_normal(setting.seeds)
            if setting.cells is not None:
                values[~setting.cells] = np.nan
            past = None
            if setting.history is not None:
                past = setting.history * rng.standard_normal((PAST, 3)) + setting.common * rng.standard_normal(3)
            moved = values.copy()
            moved[1] += GAP * np.sqrt((sds[0] ** 2 + sds[1] ** 2) / 2)
            for rule, test in SWEEP_RULES.items():
                if rule != "mixed model" or study < mixed:
                    p[rule].append((test(values, past), test(moved, past)))
        cells = []
        for rule in SWEEP_RULES:
            null, effect = np.array(p[rule]).T
            known = np.isfinite(null)
            cells.append(
                f"{(null[known] <= ALPHA).mean():.1%}, {(effect[known] <= ALPHA).mean():.0%}"
                if known.any()
                else "refused"
            )
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


LEVELS = (0.05, 0.0095, 0.0025)
"""Two-sided levels of a comparison: one metric, and the smallest steps of Holm's adjustment over about 5 and 20 metrics."""

NOISES: dict[str, Setting] = {
    **{f"2 arms, 3 seeds, history SD x{ratio:g}": Setting(2, 3, history=ratio) for ratio in (1.0, 0.5, 0.33)},
    "2 arms, 5 seeds, history SD x0.5": Setting(2, 5, history=0.5),
    "5 arms, 3 seeds": Setting(5, 3),
    "5 arms, only the pair 2 times noisier": Setting(5, 3, sds=_noisy(5, 2.0, 2)),
    "5 arms, only the candidate 2 times noisier": Setting(5, 3, sds=_noisy(5, 2.0, 1)),
}


def levels(studies: int) -> None:
    """Print error and power at small levels, without and with the stricter tests of the noise; and of unequal seeds."""
    print("\n| setting | level | rules for 5% | rules for the level |\n| --- | --- | --- | --- |")
    for name, setting in NOISES.items():
        rng = np.random.default_rng(6)
        hits = np.zeros((len(LEVELS), 2, 2))
        for _ in range(studies):
            sds = np.ones(setting.arms) if setting.sds is None else setting.sds(rng)
            values = sds[:, None] * rng.standard_normal((setting.arms, setting.seeds))
            past = None if setting.history is None else setting.history * rng.standard_normal((PAST // 2, 3))
            model, prior = _sweep(values), None if past is None else _sweep(past).as_prior()
            gap = GAP * math.sqrt((sds[0] ** 2 + sds[1] ** 2) / 2)
            for (i, level), strict in itertools.product(enumerate(LEVELS), (0, 1)):
                c = model.compare("0", "1", prior, level=level if strict else ALPHA)
                for j, effect in enumerate((c.effect, c.effect + gap)):
                    hits[i, strict, j] += _two_sided(effect, c.variance, c.df) <= level
        for i, level in enumerate(LEVELS):
            cells = [f"{error / level:.2f} x level, {power:.1%}" for error, power in hits[i] / studies]
            print(f"| {name} | {level} | {' | '.join(cells)} |", flush=True)
    print(
        "\n| seeds that are not shared | SD of the candidate | other arms | error | power | decided |\n|" + " --- |" * 6
    )
    for (first, second), others in itertools.product(((8, 2), (10, 3), (10, 5), (3, 3)), (0, 3)):
        for ratio in (1.0, 2.0):
            print(
                f"| {first} and {second} | {ratio:g} | {others} | {_unshared(first, second, others, ratio, studies)} |"
            )
    for ratio in (1.0, 0.5, 0.33):
        print(
            f"| 8 and 1, history SD x{ratio:g} | 1 | 0 | {_unshared(8, 1, 0, 1.0, studies, history=ratio)} |",
            flush=True,
        )


def ten_primaries(studies: int) -> None:
    """Print wrong verdicts of the whole gate with ten primary metrics of which one suffices, three seeds and no effect."""
    print("\n| whole gate, ten primary metrics | ACCEPT | REJECT |\n| --- | --- | --- |")
    tasks = [f"task {number}" for number in range(10)]
    primary = tuple(Criterion(task=task, metric="bits_per_byte", better="lower") for task in tasks)
    policy = Policy(name="ten", alpha=ALPHA, min_seeds=3, primary=primary)
    for name, arms, candidate, history in (
        ("2 arms", 2, 1.0, None), ("2 arms, history SD x1", 2, 1.0, 1.0), ("2 arms, history SD x0.33", 2, 1.0, 0.33),
        ("6 arms", 6, 1.0, None), ("6 arms, only the candidate 2 times noisier", 6, 2.0, None),
    ):  # fmt: skip
        rng, decisions = np.random.default_rng(8), list[str]()
        for _ in range(studies):
            sds = [1.0, candidate, *[1.0] * (arms - 2)]
            results = _scores(rng, {f"arm {arm}": sd for arm, sd in enumerate(sds)}, tasks)
            past = None if history is None else _scores(rng, {f"past {mix}": history for mix in range(10)}, tasks)
            decisions.append(
                decide(results, policy, baseline="arm 0", candidate="arm 1", history=past, name_outliers=False).decision
            )
        rates = [f"{decisions.count(wrong) / studies:.1%}" for wrong in ("ACCEPT", "REJECT")]
        print(f"| {name} | {' | '.join(rates)} |", flush=True)


def _scores(rng: np.random.Generator, sds: dict[str, float], tasks: list[str]) -> pd.DataFrame:
    return pd.DataFrame(
        {"mix": mix, "seed": seed, "task": task, "metric": "bits_per_byte", "value": 1 + 0.004 * sd * rng.normal()}
        for mix, sd in sds.items()
        for task in tasks
        for seed in range(3)
    )


def _unshared(first: int, second: int, others: int, ratio: float, studies: int, *, history: float | None = None) -> str:
    """Return error, power, and the fraction of comparisons with a variance, as cells of a table."""
    rng, hits = np.random.default_rng(7), np.zeros(3)
    ends = np.cumsum([first, second, *[3] * others])
    seeds = np.arange(ends[-1])
    known = (seeds < ends[:, None]) & (seeds >= np.concatenate([[0], ends[:-1]])[:, None])
    for _ in range(studies):
        values = np.where(known, rng.standard_normal(known.shape), np.nan)
        values[1] *= ratio
        prior = None if history is None else _sweep(history * rng.standard_normal((PAST // 2, 3))).as_prior()
        c = _sweep(values).compare("0", "1", prior)
        if c.df > 0:
            effects = c.effect, c.effect + GAP * math.sqrt((1 + ratio**2) / 2)
            hits += [*(_two_sided(effect, c.variance, c.df) <= ALPHA for effect in effects), True]
    return " | ".join(f"{rate:.1%}" for rate in hits / studies)


def _policy(margin: float, tasks: int) -> Policy:
    named = [
        Criterion(task=f"t{i}", metric="loss", better="lower", margin=margin if i > 2 else 0.0) for i in range(tasks)
    ]
    return Policy(name="b", primary=tuple(named[:3]), guardrails=tuple(named[3:10]), alpha=ALPHA, min_seeds=3)


def _study(rng: np.random.Generator, draw: Draw, *, seeds: int, tasks: int, gain: float, harm: float) -> pd.DataFrame:
    """Draw losses of a baseline and a candidate: primaries gain, one guardrail is harmed; noise differs tenfold between tasks."""
    sd = 0.002 * np.exp(rng.uniform(-1.15, 1.15, tasks))
    values = 2 + sd[:, None] * draw(rng, (2, seeds, tasks, 1))[..., 0].transpose(0, 2, 1).reshape(2, tasks, seeds)
    values[1, :3] -= gain * sd[:3, None]
    values[1, 3] += harm
    mix, task, seed = (at.ravel() for at in np.indices(values.shape))
    return pd.DataFrame(
        {
            "mix": np.array(["base", "new"])[mix],
            "seed": seed,
            "task": [f"t{i}" for i in task],
            "metric": "loss",
            "value": values.ravel(),
        }
    )


def whole_gate(studies: int) -> None:
    """Print the fractions of wrong verdicts over thirty tasks, three primaries and seven guardrails, with known truth."""
    print("\n| noise | seeds | truth | ACCEPT | REJECT | a task is reported as regressed |\n|" + " --- |" * 6)
    rng = np.random.default_rng(2)
    cases = (("no effect", 0.0, 0.0), ("a guardrail at its margin", 20.0, 0.01), ("primaries better", 20.0, 0.0))
    for (name, (draw, _)), seeds, (truth, gain, harm) in itertools.product(
        (item for item in NOISE.items() if "unequal" not in item[0] and item[0] != "both"), (3, 5), cases
    ):
        verdicts = [
            decide(
                _study(rng, draw, seeds=seeds, tasks=30, gain=gain, harm=harm),
                _policy(0.01, 30),
                baseline="base",
                candidate="new",
            )
            for _ in range(studies)
        ]
        accepted, rejected = (np.mean([v.decision == d for v in verdicts]) for d in ("ACCEPT", "REJECT"))
        shown = np.mean([bool(v.regressed) for v in verdicts])
        print(f"| {name} | {seeds} | {truth} | {accepted:.1%} | {rejected:.1%} | {shown:.1%} |")


WORLDS = {
    "80% ranked correctly, families": World(),
    "80%, independent recipes": World(clustered=False),
    "80%, heavy tails": World(tail=3),
    "80%, noisy": World(transfer=0.88, noise=1.0),
    "one recipe apart": World(transfer=0.9, outliers=1),
    "90%": World(transfer=0.97),
    "weak transfer": World(transfer=0.6),
    "random": World(transfer=0.0),
}


def _seed_test(a: np.ndarray, b: np.ndarray) -> bool:
    return bool(stats.ttest_ind(a, b, equal_var=False).pvalue <= ALPHA)


def transfer(worlds: int, mixes: tuple[int, ...] = (25, 14)) -> None:
    """Evaluate all pairs of a simulated table, each predicted without both of its mixes: decided, and correct at the target."""
    print(
        "\n`both`: of tables whose higher mean is correct for 77 to 83% of pairs, those that decide 25% with 95% correct.\n"
    )
    head = (
        "recipes",
        "world",
        "higher mean correct",
        "seed test: decided, correct",
        "gate: decided, correct",
        "both",
        "95% interval covers",
    )
    print(f"| {' | '.join(head)} |\n|" + " --- |" * len(head))
    for n, (name, world) in itertools.product(mixes, WORLDS.items()):
        rng = np.random.default_rng(3)
        tables = np.array([_pairs(world, rng, n) for _ in range(worlds)])
        naive, seen, sure, right, covered = tables.reshape(-1, 5).T
        ranked = np.abs(tables[..., 0].mean(axis=1) - 0.8) <= 0.03
        decided = tables[..., 2].mean(axis=1)
        hit = (tables[..., 2] * tables[..., 3]).mean(axis=1)
        met = ((decided >= 0.25) & (hit >= 0.95 * decided))[ranked]
        print(
            f"| {n} | {name} | {naive.mean():.0%} | {seen.mean():.0%}, {naive[seen > 0].mean():.0%} | {sure.mean():.1%},"
            f" {right[sure > 0].mean() if sure.any() else np.nan:.1%} | {met.sum()} of {len(met)} | {covered.mean():.1%} |",
            flush=True,
        )


def _pairs(world: World, rng: np.random.Generator, mixes: int) -> list[tuple[float, ...]]:
    """Return for each pair of a table: higher mean correct, seed test decides, gate decides, gate correct, interval covers."""
    proxy, target = (scores[..., -1] for scores in world.draw(rng, mixes=mixes))
    x, y = proxy.mean(axis=1), target.mean(axis=1)
    rows = []
    for a, b in itertools.combinations(range(mixes), 2):
        rest = np.delete(np.arange(mixes), [a, b])
        learned = fit(x[rest], y[rest])
        assert learned is not None
        far, truth = x[b] - x[a], y[b] - y[a]
        interval = learned.interval(far, 0.95)
        sure = learned.chance_other(far) <= learned.allowed(ALPHA)
        right = (learned.slope * far > 0) == (truth > 0)
        rows.append(
            (far * truth > 0, _seed_test(proxy[a], proxy[b]), sure, right, interval.low <= truth <= interval.high)
        )
    return rows


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=4000)
    parser.add_argument("--worlds", type=int, default=30)
    parser.add_argument("--mixed", type=int, default=200, help="studies of the mixed model (default: 200)")
    parser.add_argument("--only-noise", action="store_true", help="print only the table of sweeps' noise")
    parser.add_argument("--only-levels", action="store_true", help="print only the noise at small levels")
    arguments = parser.parse_args()
    if arguments.only_noise:
        sweep_noise(arguments.studies, arguments.mixed)
        sys.exit()
    if arguments.only_levels:
        levels(arguments.studies)
        ten_primaries(arguments.studies // 10)
        sys.exit()
    one_metric(arguments.studies)
    whole_gate(arguments.studies // 20)
    transfer(arguments.worlds)
    sweep_noise(arguments.studies, arguments.mixed)
