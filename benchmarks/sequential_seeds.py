"""Measure sequential seeds: error, power and the mean number of seeds, compared with fixed designs.

One metric, four candidates that share a baseline, two-sided tests at 5%. Each candidate is analyzed with its own paired noise, or with
the noise pooled over all arms of the sweep that are still in training. Prints Markdown tables. `python benchmarks/sequential_seeds.py
[--studies N]`
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from itertools import pairwise

import numpy as np
import pandas as pd
from scipy import stats

from assay.analysis.gate import decide
from assay.config.policy import Criterion, Policy
from assay.config.sequential_seeds import SequentialSeeds

ALPHA = 0.05
CANDIDATES = 4
EFFECTS = (0.0, 1.0, 2.0, 3.0)
"""Effect of the first candidate, in SDs of a run. The other candidates have no effect."""
NOISE = {"normal": None, "heavy tails (t, 3 df)": 3.0}
PATHS = 400_000


def draw(rng: np.random.Generator, name: str, shape: tuple[int, int, int]) -> np.ndarray:
    """Draw scores (studies, arms, seeds) with SD 1 between runs. Noise that the arms of a seed share cancels in every test."""
    df = NOISE[name]
    return rng.standard_normal(shape) if df is None else rng.standard_t(df, shape) / np.sqrt(df / (df - 2))


def union_levels(stages: tuple[int, ...], spending: str) -> tuple[float, ...]:
    """Return the levels of assay: the increments of the spending function."""
    return SequentialSeeds(stages=stages, spending=spending).levels(ALPHA)  # type: ignore[arg-type]  # one of the two names


def exact_levels(stages: tuple[int, ...], spending: str) -> tuple[float, ...]:
    """Return the nominal levels whose joint error is the spent alpha, for normal statistics with independent increments."""
    rng = np.random.default_rng(5)
    steps = np.diff((0, *stages))
    paths = np.cumsum(rng.standard_normal((PATHS, len(stages))) * np.sqrt(steps), axis=1) / np.sqrt(stages)
    levels, left = [], np.ones(PATHS, bool)
    for z, increment in zip(np.abs(paths.T), union_levels(stages, spending), strict=True):
        bound = np.sort(z[left])[-round(increment * PATHS)]
        levels.append(float(2 * stats.norm.sf(bound)))
        left &= z < bound
    return tuple(levels)


def p_values(x: np.ndarray, n: int, *, pooled: bool, kept: np.ndarray) -> np.ndarray:
    """Return the two-sided p-values (studies, candidates) of the first n seeds.

    Args:
        x: scores (studies, arms, seeds); the baseline is the first arm.
        n: number of seeds.
        pooled: whether the residual variance comes from all kept arms.
        kept: arms in training (studies, arms), with the baseline.
    """
    x = x[:, :, :n]
    effect = (x[:, 1:] - x[:, :1]).mean(axis=2)
    if not pooled:
        variance, df = (x[:, 1:] - x[:, :1]).var(axis=2, ddof=1), np.full(effect.shape, n - 1.0)
    else:
        weight, arms = kept[:, :, None], kept.sum(axis=1)
        of_seed = (x * weight).sum(axis=1, keepdims=True) / arms[:, None, None]
        residual = (x - of_seed) * weight
        residual -= residual.mean(axis=2, keepdims=True)
        freedom = np.maximum((arms - 1) * (n - 1.0), 1.0)  # without a kept candidate, no p-value is used
        variance = 2 * ((residual**2 * weight).sum(axis=(1, 2)) / freedom)[:, None]
        df = np.broadcast_to(freedom[:, None], effect.shape)
    return 2 * stats.t.sf(np.abs(effect) / np.sqrt(np.maximum(variance, 1e-300) / n), df)


def sequence(
    x: np.ndarray, stages: tuple[int, ...], levels: tuple[float, ...], *, pooled: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Return whether each candidate is decided, and its number of seeds (studies, candidates)."""
    kept = np.ones(x.shape[:2], bool)
    decided, seeds = np.zeros(kept[:, 1:].shape, bool), np.zeros(kept[:, 1:].shape)
    for n, level in zip(stages, levels, strict=True):
        seeds[kept[:, 1:]] = n
        claims = (p_values(x, n, pooled=pooled, kept=kept) <= level) & kept[:, 1:]
        decided |= claims
        kept[:, 1:] &= ~claims
    return decided, seeds


def designs() -> Mapping[str, tuple[tuple[int, ...], tuple[float, ...]]]:
    """Return the stages and levels of each design."""
    fixed = {f"fixed, {n} seeds": ((n,), (ALPHA,)) for n in (2, 3, 5)}
    union = {
        f"{', '.join(map(str, stages))} seeds, {spending} (assay)": (stages, union_levels(stages, spending))
        for stages in ((2, 3, 5), (3, 5))
        for spending in ("obrien_fleming", "pocock")
    }
    exact = {
        f"{', '.join(map(str, (2, 3, 5)))} seeds, {spending}, joint normal levels": (
            (2, 3, 5),
            exact_levels((2, 3, 5), spending),
        )
        for spending in ("obrien_fleming", "pocock")
    }
    uncorrected = {"2, 3, 5 seeds, 5% each time": ((2, 3, 5), (ALPHA,) * 3)}
    return {**fixed, **union, **exact, **uncorrected}


def one_metric(studies: int) -> None:
    """Print error, power and mean seeds of each design, for the first candidate."""
    print(
        "| noise | variance | design | error (3 SE) |"
        + "".join(f" power {e:g} SD |" for e in EFFECTS[1:])
        + " mean seeds at 0 / 1 / 2 / 3 SD |"
    )
    print("|" + " --- |" * (5 + len(EFFECTS) - 1))
    for name in NOISE:
        x = draw(np.random.default_rng(6), name, (studies, CANDIDATES + 1, 5))
        for pooled in (False, True):
            for design, (stages, levels) in designs().items():
                rates, seeds = [], []
                for effect in EFFECTS:
                    shifted = x.copy()
                    shifted[:, 1] += effect
                    decided, used = sequence(shifted, stages, levels, pooled=pooled)
                    rates.append(decided[:, 0].mean())
                    seeds.append(used[:, 0].mean())
                margin = 3 * np.sqrt(rates[0] * (1 - rates[0]) / studies)
                powers = " | ".join(f"{rate:.0%}" for rate in rates[1:])
                mean = " / ".join(f"{number:.2f}" for number in seeds)
                print(
                    f"| {name} | {'pooled' if pooled else 'own'} | {design} | {rates[0]:.2%} ({margin:.2%}) | {powers} | {mean} |"
                )


def whole_gate(studies: int) -> None:
    """Print decisions of the gate with one primary metric and two guardrails, for one candidate without and with an effect."""
    print("\n| effect | design | ACCEPT | REJECT | mean seeds |\n|" + " --- |" * 5)
    guardrails = tuple(Criterion(task=f"g{i}", metric="loss", better="lower", margin=4.0) for i in range(2))
    for effect in (0.0, 3.0):
        rng = np.random.default_rng(7)
        values = 20 + rng.standard_normal((studies, 2, 5, 3))
        values[:, 1, :, 0] -= effect
        for design, sequential in {
            "fixed, 5 seeds": None,
            "2, 3, 5 seeds, obrien_fleming": SequentialSeeds(stages=(2, 3, 5)),
            "2, 3, 5 seeds, pocock": SequentialSeeds(stages=(2, 3, 5), spending="pocock"),
        }.items():
            policy = Policy(
                name="b",
                primary=(Criterion(task="p", metric="loss", better="lower"),),
                guardrails=guardrails,
                alpha=ALPHA,
                min_seeds=2,
                sequential_seeds=sequential,
            )
            counts = np.zeros(3)
            for study in values:
                decision, used = _decide(study, policy)
                counts += [decision == "ACCEPT", decision == "REJECT", used]
            accept, reject, used = counts / studies
            print(f"| {effect:g} SD | {design} | {accept:.1%} | {reject:.1%} | {used:.2f} |")


def _decide(study: np.ndarray, policy: Policy) -> tuple[str, int]:
    """Return the decision and the number of seeds of one study (arms, seeds, tasks)."""
    sequential = policy.sequential_seeds
    stages = (5,) if sequential is None else sequential.stages
    decision, n = "INCONCLUSIVE", stages[-1]
    for number, n in enumerate(stages, start=1):
        at_stage = policy if sequential is None else policy.at_stage(number)
        decision = str(decide(_table(study[:, :n]), at_stage, baseline="base", candidate="new").decision)
        if decision != "INCONCLUSIVE":
            break
    return decision, n


def _table(study: np.ndarray) -> pd.DataFrame:
    mix, seed, task = (index.ravel() for index in np.indices(study.shape))
    names, tasks = np.array(["base", "new"]), np.array(["p", "g0", "g1"])
    return pd.DataFrame(
        {"mix": names[mix], "seed": seed, "task": tasks[task], "metric": "loss", "value": study.ravel()}
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=20_000)
    arguments = parser.parse_args()
    for spending in ("obrien_fleming", "pocock"):
        for stages in ((2, 3, 5), (3, 5)):
            assert all(low > 0 for low, _ in pairwise((*union_levels(stages, spending), 1)))
    one_metric(arguments.studies)
    whole_gate(arguments.studies // 100)
