"""Measure the cost of interim analyses: ten analyses of candidates in training, and replicates that arrive one by one, with known truth.

Prints Markdown tables: one metric with ten analyses under several rules, and over replicates; the whole gate with ten analyses; and how
often stopped candidates would have ended the same way, with curves that drift and cross. `python benchmarks/interim_analysis.py [--studies N]`
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Callable

import numpy as np
import pandas as pd
from scipy import stats

from assay.analysis.early_stopping import Advice, analyze_interim
from assay.analysis.stats.moderated import Prior, learn, shrink
from assay.analysis.stats.sequential import over_replicates, schedule
from assay.config.policy import Criterion, EarlyStopping, Policy

ALPHA = 0.05
ANALYSES = 10
PAST = 20
"""Past mixes with replicates, from which the history's noise is learned."""
KEPT = 0.7
"""Fraction of a run's noise that persists between analyses; the rest is new at each."""
TENTHS = tuple(i / ANALYSES for i in range(1, ANALYSES))

Draw = Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]
Rule = Callable[[np.ndarray, list[Prior]], np.ndarray]
"""Map differences (studies, seeds, analyses) and each study's prior to whether each analysis claims an effect (studies, analyses)."""

NOISE: dict[str, tuple[Draw, float]] = {
    "normal": (lambda rng, shape: rng.standard_normal(shape), 0.0),
    "heavy tails (t, 3 df)": (lambda rng, shape: rng.standard_t(3, shape) / np.sqrt(3), 0.0),
    "unequal variances": (lambda rng, shape: rng.standard_normal(shape), 0.4),
    "both": (lambda rng, shape: rng.standard_t(3, shape) / np.sqrt(3), 0.4),
}
"""For each noise: how to draw it, and the SD between mixes of log noise."""


def p_values(d: np.ndarray, priors: list[Prior] | None = None) -> np.ndarray:
    """Return the two-sided p-value of each analysis's t test over seeds, with the variance moderated if priors are given."""
    seeds = d.shape[1]
    variance, df = d.var(axis=1, ddof=1), np.full(len(d), seeds - 1.0)
    for i, prior in enumerate(priors or ()):
        moderated = [shrink(v, seeds - 1, prior._replace(variance=2 * prior.variance)) for v in variance[i]]
        variance[i], df[i] = [own.variance for own in moderated], moderated[0].df
    return 2 * stats.t.sf(np.abs(d.mean(axis=1)) / np.sqrt(variance / seeds), df[:, None])


def at_the_end(d: np.ndarray, _: list[Prior]) -> np.ndarray:
    """Analyze once, at the end, as the reference for the other rules."""
    claims = p_values(d) <= ALPHA
    claims[:, :-1] = False
    return claims


def ten_times(d: np.ndarray, _: list[Prior]) -> np.ndarray:
    return p_values(d) <= ALPHA


def ten_times_moderated(d: np.ndarray, priors: list[Prior]) -> np.ndarray:
    return p_values(d, priors) <= ALPHA


def normal_mixture(d: np.ndarray, _: list[Prior]) -> np.ndarray:
    """Apply Robbins' (1970) normal mixture with the sample SD, each seed at each analysis as one observation."""
    long = d.transpose(0, 2, 1).reshape(len(d), -1)
    return normal_mixture_of(long)[:, d.shape[1] - 1 :: d.shape[1]]


def normal_mixture_of(x: np.ndarray, precision: float = 1.0, known: np.ndarray | None = None) -> np.ndarray:
    """Return whether the sequence excludes 0 after each observation (studies, observations); with the sample SD never after the first."""
    n = np.arange(1, x.shape[1] + 1)
    mean = np.cumsum(x, axis=1) / n
    with np.errstate(divide="ignore", invalid="ignore"):
        sample = np.sqrt((np.cumsum(x**2, axis=1) - n * mean**2).clip(0) / (n - 1))
        sd = sample if known is None else known
        half = sd * np.sqrt((n + precision) / n**2 * np.log((n + precision) / (precision * ALPHA**2)))
        return np.abs(mean) > half


def e_values(d: np.ndarray, _: list[Prior]) -> np.ndarray:
    """Average each analysis's p as an e-value (Vovk and Wang 2021) over the ten: Markov's bound instead of the union's."""
    p = np.clip(p_values(d), 1e-12, 1 - 1e-9)
    e = (1 - p + p * np.log(p)) / (p * np.log(p) ** 2)
    return np.cumsum(e, axis=1) / ANALYSES >= 1 / ALPHA


def equal_union(d: np.ndarray, _: list[Prior]) -> np.ndarray:
    return p_values(d) <= ALPHA / ANALYSES


def gate_alone(d: np.ndarray, _: list[Prior]) -> np.ndarray:
    return p_values(d) <= ALPHA * np.array(schedule(TENTHS, 0.2).weights)


def gate_half(d: np.ndarray, _: list[Prior]) -> np.ndarray:
    return p_values(d) <= ALPHA * np.array(schedule(TENTHS, 0.5).weights)


def gate_with_history(d: np.ndarray, priors: list[Prior]) -> np.ndarray:
    return p_values(d, priors) <= ALPHA * np.array(schedule(TENTHS, 0.2).weights)


RULES: dict[str, Rule] = {
    "paired t, only at the end": at_the_end,
    "paired t, ten times": ten_times,
    "moderated t, ten times": ten_times_moderated,
    "normal mixture": normal_mixture,
    "e-values": e_values,
    "union, equal fractions": equal_union,
    "union, 50% before the end": gate_half,
    "union, 20% before the end (gate, no history)": gate_alone,
    "union, 20%, moderated (gate, history)": gate_with_history,
}


def one_metric(studies: int) -> None:
    """Analyze one metric ten times: claims without an effect, and with one of 2 and 4 SDs, before the end and overall."""
    print("| noise | seeds | rule | false positives | 2 SD: early, overall | 4 SD: early, overall |\n|" + " --- |" * 6)
    rng = np.random.default_rng(1)
    for (name, (draw, unequal)), seeds in itertools.product(NOISE.items(), (3, 5)):
        sd = np.exp(unequal * rng.standard_normal((studies, PAST + 2, 1)))
        own = np.sqrt(KEPT) * draw(rng, (studies, 2, seeds, 1)) + np.sqrt(1 - KEPT) * draw(
            rng, (studies, 2, seeds, ANALYSES)
        )
        d = own[:, 1] * sd[:, 1, :, None] - own[:, 0] * sd[:, 0, :, None]
        past = (sd[:, 2:] * draw(rng, (studies, PAST, seeds))).var(axis=2, ddof=1)
        priors = [learn(variances, [seeds - 1] * PAST) for variances in past]
        typical = np.sqrt((sd[:, 0] ** 2 + sd[:, 1] ** 2) / 2)[:, :, None]
        for rule, test in RULES.items():
            wrong = test(d, priors).any(axis=1).mean()
            claims = [test(d + gap * typical, priors) for gap in (2, 4)]
            power = [f"{c[:, :-1].any(axis=1).mean():.0%}, {c.any(axis=1).mean():.0%}" for c in claims]
            print(f"| {name} | {seeds} | {rule} | {wrong:.1%} | {power[0]} | {power[1]} |")


def t_mixture(x: np.ndarray, precision: float) -> np.ndarray:
    """Apply Lai's (1976) mixture of t likelihood ratios over effects in SDs, normal with this precision."""
    n = np.arange(1, x.shape[1] + 1)
    squares, total = np.cumsum(x**2, axis=1), np.cumsum(x, axis=1)
    ratio = squares / (squares - total**2 / (n + precision))
    return 0.5 * np.log(precision / (n + precision)) + n / 2 * np.log(ratio) >= np.log(1 / ALPHA)


def replicates(studies: int, most: int = 10) -> None:
    """Analyze replicates as they arrive: claims without an effect, and with one of 2 SDs of a run by five and by ten."""
    print(f"\n| noise | rule | false positives in {most} | 2 SD: by 5 | by {most} |\n|" + " --- |" * 5)
    rng = np.random.default_rng(2)
    for name, (draw, unequal) in NOISE.items():
        sd = np.exp(unequal * rng.standard_normal((2, studies, 1)))
        runs = sd * draw(rng, (2, studies, most))
        of_pair = np.sqrt((sd**2).sum(axis=0))
        d, gap = runs[1] - runs[0], np.sqrt(2) * of_pair
        rules: dict[str, Callable[[np.ndarray], np.ndarray]] = {
            "paired t, each time": lambda x: _each_time(x) <= ALPHA,
            "normal mixture, sample SD": normal_mixture_of,
            "normal mixture, known SD": lambda x, sd=of_pair: normal_mixture_of(x, known=sd),  # type: ignore[misc]  # mypy cannot infer a default argument here
            "t mixture, precision 0.01": lambda x: t_mixture(x, 0.01),
            "t mixture, precision 0.1": lambda x: t_mixture(x, 0.1),
            "t mixture, precision 1": lambda x: t_mixture(x, 1.0),
            f"union of t, 3 to {most} (assay)": lambda x: _union(x, most),
            "union of t, 3 to 5 (assay)": lambda x: _union(x[:, :5], 5),
        }
        for rule, test in rules.items():
            wrong, claims = test(d), test(d + gap)
            rates = [claims[:, :n].any(axis=1).mean() for n in (5, most)]
            print(f"| {name} | {rule} | {wrong.any(axis=1).mean():.1%} | {rates[0]:.0%} | {rates[1]:.0%} |")


def _each_time(x: np.ndarray) -> np.ndarray:
    """Return the p-value of a t test after each replicate; 1 after the first."""
    return np.stack(
        [np.ones(len(x)), *(stats.ttest_1samp(x[:, :n], 0, axis=1).pvalue for n in range(2, x.shape[1] + 1))], axis=1
    )


def _union(x: np.ndarray, most: int) -> np.ndarray:
    p = np.array([over_replicates(row, level=1 - ALPHA, first=3, most=most).p for row in x])
    return np.hstack([np.zeros((len(p), 2), bool), p <= ALPHA])


def _policy(early: EarlyStopping, tasks: int) -> Policy:
    named = [
        Criterion(task=f"t{i}", metric="loss", better="lower", margin=0.01 if i > 2 else 0.0) for i in range(tasks)
    ]
    return Policy(
        name="b", primary=tuple(named[:3]), guardrails=tuple(named[3:]), alpha=ALPHA, min_seeds=3, early_stopping=early
    )


def _table(values: np.ndarray, tokens: np.ndarray, mixes: list[str]) -> pd.DataFrame:
    """Convert losses (mixes, seeds, tasks, analyses) to a long table."""
    mix, seed, task, at = (i.ravel() for i in np.indices(values.shape))
    return pd.DataFrame(
        {
            "mix": np.array(mixes)[mix],
            "seed": seed,
            "tokens": tokens[at],
            "task": [f"t{i}" for i in task],
            "metric": "loss",
            "value": values.ravel(),
        }
    )


def whole_gate(studies: int, tasks: int = 10) -> None:
    """Analyze three primaries and seven guardrails ten times: decisions before the end, and overall."""
    print(
        "\n| noise | seeds | truth | stopped as winner | as loser | ACCEPT overall | REJECT overall |\n|" + " --- |" * 7
    )
    rng = np.random.default_rng(3)
    policy, tokens = (
        _policy(EarlyStopping(stop="both", interim_analyses=TENTHS), tasks),
        np.arange(1, ANALYSES + 1) * 1e8,
    )
    cases = (("no effect", 0.0, 0.0), ("a guardrail at its margin", 20.0, 0.01), ("better by 20 SD", 20.0, 0.0))
    cases = (*cases, ("worse by 20 SD", -20.0, 0.0))
    noise = [item for item in NOISE.items() if "unequal" not in item[0] and item[0] != "both"]
    for (name, (draw, _)), seeds, (truth, gain, harm) in itertools.product(noise, (3, 5), cases):
        counts = np.zeros(4)
        for _ in range(studies):
            sd = 0.002 * np.exp(rng.uniform(-1.15, 1.15, (tasks, 1)))
            shape = (2, seeds, tasks)
            values = 2 + sd * (
                np.sqrt(KEPT) * draw(rng, (*shape, 1)) + np.sqrt(1 - KEPT) * draw(rng, (*shape, ANALYSES))
            )
            values[1, :, :3] -= gain * sd[:3]
            values[1, :, 3] += harm
            frame = _table(values, tokens, ["base", "new"])
            outcome = analyze_interim(frame, policy, baseline="base", candidate="new", budget_tokens=1e9)
            last = outcome.analyses[-1].verdict
            assert last is not None
            won, lost = outcome.advice == Advice.WINNER, outcome.advice == Advice.LOSER
            undecided = not (won or lost)
            counts += [
                won,
                lost,
                won or (undecided and last.decision == "ACCEPT"),
                lost or (undecided and last.decision == "REJECT"),
            ]
        rates = " | ".join(f"{rate:.1%}" for rate in counts / studies)
        print(f"| {name} | {seeds} | {truth} | {rates} |")


CURVES = {"straight": 1.0, "drift": 0.95, "some cross": 0.8, "many cross": 0.5, "uninformative start": 0.0}
"""Correlation between a mix's effect at a quarter of the budget and at its end."""


def to_the_end(studies: int, past: int = 20) -> None:
    """Stop candidates at quarters of the budget: correct about the analyzed checkpoint, and about the end."""
    print(
        "\n| curves | min_persistence | stopped | correct at the analysis | correct at the end | estimated from history |\n|"
        + " --- |" * 6
    )
    fractions = np.array([0.25, 0.5, 0.75, 1.0])
    for name, kept in CURVES.items():
        for least in (0.0, 0.9):
            rng = np.random.default_rng(4)
            early = EarlyStopping(stop="both", interim_analyses=(0.25, 0.5, 0.75), min_persistence=least)
            policy = Policy(
                name="b",
                primary=(Criterion(task="t0", metric="loss", better="lower"),),
                alpha=ALPHA,
                min_seeds=3,
                early_stopping=early,
            )
            rows = [_one_study(rng, policy, fractions, kept, past) for _ in range(studies)]
            stopped = np.array([row for row in rows if row is not None])
            if not len(stopped):
                print(f"| {name} | {least:.0%} | 0% | - | - | - |")
                continue
            right, same, expected = stopped.mean(axis=0)
            print(
                f"| {name} | {least:.0%} | {len(stopped) / studies:.0%} | {right:.1%} | {same:.1%} | {expected:.1%} |"
            )


def _one_study(
    rng: np.random.Generator, policy: Policy, fractions: np.ndarray, kept: float, past: int
) -> tuple[bool, bool, float] | None:
    """Draw mixes 10 SDs of noise apart, whose effects move linearly from start to end; stop the candidate if the gate does."""
    first = rng.standard_normal(past + 2)
    last = kept * first + np.sqrt(1 - kept**2) * rng.standard_normal(past + 2)
    way = (fractions - fractions[0]) / (1 - fractions[0])
    truth = 0.01 * ((1 - way) * first[:, None] + way * last[:, None])
    noise = 0.001 * (
        np.sqrt(KEPT) * rng.standard_normal((past + 2, 3, 1))
        + np.sqrt(1 - KEPT) * rng.standard_normal((past + 2, 3, 4))
    )
    values = (2 + truth[:, None, :] + noise)[:, :, None, :]
    names = ["base", "new", *(f"past{i}" for i in range(past))]
    table = _table(values, fractions * 1e9, names)
    compared = table["mix"].isin(names[:2])
    outcome = analyze_interim(
        table[compared], policy, baseline="base", candidate="new", budget_tokens=1e9, history=table[~compared]
    )
    if outcome.stopped is None:
        return None
    at = int(np.argmin(np.abs(fractions - outcome.stopped.fraction)))
    gap, won = truth[0] - truth[1], outcome.stopped.outcome == "winner"
    return bool((gap[at] > 0) == won), bool((gap[-1] > 0) == won), outcome.stopped.persistence[0].persisted


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=4000)
    arguments = parser.parse_args()
    one_metric(arguments.studies)
    replicates(arguments.studies)
    whole_gate(arguments.studies // 40)
    to_the_end(arguments.studies // 25)
