"""Measure error rate and power of an aggregate of tasks, and of the joint rule for guardrails, with known truth.

Prints Markdown tables. The rules are vectorized over studies; `--check` studies compare them with the gate itself.
`python benchmarks/aggregate.py [--studies N] [--check N]`
"""

from __future__ import annotations

import argparse
import itertools

import numpy as np
import pandas as pd
from scipy import stats

from assay.analysis.gate import decide
from assay.analysis.stats.moderated import learn, shrink
from assay.config.aggregate import Aggregate
from assay.config.policy import Criterion, Policy

ALPHA = 0.05
GAIN = 0.7
"""True gain of every task, in SDs of a run."""
MARGIN = 2.0
"""Margin of every guardrail, in SDs of a run."""
GUARDS = 10
LIMIT = 3.0
PAST = 8
"""Past mixes with replicates behind the SDs of the history."""


def draw(rng: np.random.Generator, shape: tuple[int, int, int, int], correlation: float) -> np.ndarray:
    """Draw noise with SD 1, (studies, arms, seeds, tasks), with a correlation between the tasks of a run."""
    common = rng.standard_normal((*shape[:3], 1))
    return np.sqrt(correlation) * common + np.sqrt(1 - correlation) * rng.standard_normal(shape)


def p_values(differences: np.ndarray, factor: np.ndarray | float = 1.0) -> np.ndarray:
    """Return two-sided p-values of paired t tests over axis 1."""
    n = differences.shape[1]
    t = differences.mean(axis=1) / np.sqrt(factor * differences.var(axis=1, ddof=1) / n)
    return np.asarray(2 * stats.t.sf(np.abs(t), n - 1))


def sds_of_arms(runs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return SDs pooled over arms and shrunk as in the gate, (studies, tasks), and the factor of the variance."""
    studies, arms, seeds, tasks = runs.shape
    pooled, df = runs.var(axis=2, ddof=1).mean(axis=1), arms * (seeds - 1)
    sds, factors = np.empty((studies, tasks)), np.empty(studies)
    for i, variances in enumerate(pooled):
        prior = learn(variances, np.full(tasks, df))
        moderated = [shrink(float(v), df, prior) for v in variances]
        sds[i] = [np.sqrt(m.variance) for m in moderated]
        factors[i] = moderated[0].df / (moderated[0].df - 2)
    return sds, factors


def aggregates(studies: int) -> None:
    """Print the error rate and the power of each way to form an aggregate, and of one test per task with Holm's adjustment."""
    rules = ("each task, Holm", "raw mean", "SDs of arms, no factor", "SDs of arms (gate)", "SDs of history (gate)")
    print(f"\nError rate / power at a gain of {GAIN} SDs of every task, nominal {ALPHA:.0%}.\n")
    print(
        f"| tasks | seeds | arms | correlation | SDs of tasks | {' | '.join(rules)} |\n|" + " --- |" * (5 + len(rules))
    )
    rng = np.random.default_rng(1)
    settings = [*itertools.product((10, 30), (3, 5), (2,), (0.0, 0.3, 0.6), ("equal", "log SD 0.8"))]
    settings += [(tasks, 3, 5, 0.0, spread) for tasks in (10, 30) for spread in ("equal", "log SD 0.8")]
    settings += [(2, 3, 2, 0.0, "equal"), (10, 3, 2, 1.0, "equal")]
    for tasks, seeds, arms, correlation, spread in settings:
        sd = np.exp(0.8 * rng.standard_normal((studies, 1, 1, tasks))) if spread != "equal" else 1.0
        runs = draw(rng, (studies, arms, seeds, tasks), correlation) * sd
        past = draw(rng, (studies, PAST, seeds, tasks), correlation) * sd
        differences = runs[:, 1] - runs[:, 0]
        gain = GAIN * np.broadcast_to(sd, (studies, 1, 1, tasks))[:, 0]
        own, factor = sds_of_arms(runs)
        known = np.sqrt(past.var(axis=2, ddof=1).mean(axis=1))
        cells = []
        for rule in rules:
            scale = known if "history" in rule else own if "arms" in rule else np.ones_like(own)
            multiplier = factor if rule == "SDs of arms (gate)" else 1.0
            found = []
            for effect in (0.0, gain):
                if rule == "each task, Holm":
                    found.append((p_values(differences + effect).min(axis=1) * tasks <= ALPHA).mean())
                else:
                    means = ((differences + effect) / scale[:, None]).mean(axis=2)
                    found.append((p_values(means, multiplier) <= ALPHA).mean())
            cells.append(f"{found[0]:.1%} / {found[1]:.0%}")
        print(f"| {tasks} | {seeds} | {arms} | {correlation} | {spread} | {' | '.join(cells)} |", flush=True)


LOSSES = {
    "unchanged": np.zeros(GUARDS),
    "one lost 1 margin": np.eye(GUARDS)[0],
    "one lost 1.5 margins": 1.5 * np.eye(GUARDS)[0],
    "one lost 2 margins": 2 * np.eye(GUARDS)[0],
    "one lost 3 margins": 3 * np.eye(GUARDS)[0],
    "all lost 0.5 margins": np.full(GUARDS, 0.5),
    "all lost 1 margin": np.ones(GUARDS),
}


def pass_each(differences: np.ndarray) -> np.ndarray:
    """Return whether every guardrail is shown to stay within its margin."""
    return (_t(differences, MARGIN) > _critical(differences)).all(axis=1)


def pass_jointly(differences: np.ndarray, limit: float = LIMIT) -> np.ndarray:
    """Return whether the joint rule passes (see `assay.analysis.joint_guardrails`)."""
    mean = differences.mean(axis=2, keepdims=True) / MARGIN
    shown = (_t(mean, 1.0) > _critical(differences))[:, 0]
    estimates = (differences.mean(axis=1) > -MARGIN).all(axis=1)
    return np.asarray(shown & estimates & (_t(differences, limit * MARGIN) > _critical(differences)).all(axis=1))


def _t(differences: np.ndarray, bar: float) -> np.ndarray:
    se = np.sqrt(differences.var(axis=1, ddof=1) / differences.shape[1])
    return np.asarray((differences.mean(axis=1) + bar) / se)


def _critical(differences: np.ndarray) -> float:
    return float(stats.t.isf(ALPHA, differences.shape[1] - 1))


def guardrails(studies: int) -> None:
    """Print how often ten guardrails pass: each within its margin, and jointly with several limits."""
    limits = (2.0, 2.5, 3.0, 4.0)
    print(f"\nTen guardrails, margins of {MARGIN:g} SDs of a run: probability that they do not prevent an ACCEPT.\n")
    print(
        f"| seeds | correlation | truth | each | {' | '.join(f'joint, limit {x:g}' for x in limits)} |\n|"
        + " --- |" * 8
    )
    rng = np.random.default_rng(2)
    for seeds, correlation in itertools.product((3, 5), (0.0, 0.3, 0.6)):
        runs = draw(rng, (studies, 2, seeds, GUARDS), correlation)
        for truth, losses in LOSSES.items():
            differences = runs[:, 1] - runs[:, 0] - MARGIN * losses
            cells = [pass_each(differences).mean(), *(pass_jointly(differences, limit).mean() for limit in limits)]
            print(f"| {seeds} | {correlation} | {truth} | {' | '.join(f'{cell:.1%}' for cell in cells)} |")


def check(studies: int) -> None:
    """Compare the vectorized rules with the gate on the same studies."""
    rng = np.random.default_rng(3)
    names = [f"t{i}" for i in range(GUARDS)]
    own = Aggregate(name="all", metric="loss", tasks=tuple(names))
    guards = tuple(Criterion(task=name, metric="loss", better="lower", margin=MARGIN) for name in names)
    policies = [
        Policy(name="b", alpha=ALPHA, min_seeds=3, aggregate=own),
        *(
            Policy(
                name="b",
                alpha=ALPHA,
                min_seeds=3,
                primary=(Criterion(task="gain", metric="loss", better="lower"),),
                guardrails=guards,
                guardrail_rule=rule,
            )
            for rule in ("each", "joint")
        ),
    ]
    agree = np.zeros(3, dtype=int)
    for _ in range(studies):
        runs = draw(rng, (1, 2, 3, GUARDS), 0.0)
        runs[0, 1] += GAIN
        sds, factor = sds_of_arms(runs)
        differences = runs[:, 1] - runs[:, 0]
        better = p_values((differences / sds[:, None]).mean(axis=2), factor)[0] <= ALPHA
        expected = (better and differences.mean() > 0, pass_each(differences)[0], pass_jointly(differences)[0])
        extra = np.concatenate(
            [runs[0], np.array([0.0, 500.0])[:, None, None] + rng.standard_normal((2, 3, 1))], axis=2
        )
        mix, seed, task = (at.ravel() for at in np.indices(extra.shape))
        table = pd.DataFrame(
            {
                "mix": np.array(["base", "new"])[mix],
                "seed": seed,
                "task": np.array([*names, "gain"])[task],
                "metric": "loss",
                "value": 1000 - extra.ravel(),
            }
        )
        for i, (policy, wanted) in enumerate(zip(policies, expected, strict=True)):
            verdict = decide(table, policy, baseline="base", candidate="new")
            agree[i] += (verdict.decision == "ACCEPT") == wanted
    print(f"\nThe gate agrees on {agree[0]}, {agree[1]} and {agree[2]} of {studies} studies: aggregate, each, joint.")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=4000)
    parser.add_argument("--check", type=int, default=60)
    arguments = parser.parse_args()
    aggregates(arguments.studies)
    guardrails(5 * arguments.studies)
    check(arguments.check)
