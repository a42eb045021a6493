"""Compare the old and the new rule of target verdicts: `python benchmarks/target.py [--regmix DIR] [--dclm FILE] [--draws N] [--noise]`.

Each draw has a history of past mixes and eight other mixes, which form 28 pairs (DCLM: ten times as many draws of one
pair). A row prints, for both rules, the
percentage of decided pairs, of correct winners among them, and the coverage of the printed interval minus its level in
points, over all predicted pairs and over decided pairs. *A/A* is the percentage of decided comparisons of a mix with
itself. The simulated tables need no data.

- `--noise`: prints only decisions for unequal seed noise of the history and the sweep.
- `--regmix`: folder with the public tables of RegMix (`test_pile_loss_1m.csv`, `test_pile_loss_60m.csv`,
  `test_mixture_1m.csv`). Mixes with an odd index are for tuning. The printed rows use the mixes with an even index.
- `--dclm`: the table `assets/DCLM_model_database.csv` of DCLM.
"""

from __future__ import annotations

import argparse
import itertools
import math
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).parents[1]))

from scipy.special import stdtr, stdtrit
from tests.analysis.stats.simulated_tables import World

from assay.analysis.gate import decide
from assay.analysis.stats.history import HistoryTable
from assay.analysis.stats.results_table import ResultsTable
from assay.analysis.stats.target import TargetEffect, predict_target
from assay.analysis.stats.transfer import Transfer, fit, fraction_decided
from assay.config.policy import Policy, Target

ALPHA, COMPARED = 0.05, 8
TARGET = Target(scale="1B", task="t0", metric="score", better="higher")
POLICY = Policy(name="benchmark", alpha=ALPHA, min_seeds=1, proxy_scale="150M", target=TARGET)


class Draw(NamedTuple):
    """Scores of past and compared mixes.

    Attributes:
        past: (mixes, seeds, metrics) at the proxy.
        past_target: (mixes,) at the target.
        arms: (compared, seeds, metrics) at the proxy.
        arms_target: (compared,) at the target.
        again: (compared, seeds, metrics), further runs of the compared mixes; None if unknown.
        families: family of each past mix and of each compared mix; None without labels.
    """

    past: np.ndarray
    past_target: np.ndarray
    arms: np.ndarray
    arms_target: np.ndarray
    again: np.ndarray | None = None
    families: tuple[np.ndarray, np.ndarray] | None = None


@dataclass
class Tally:
    """Counts of one rule on one table."""

    pairs: int = 0
    predicted: int = 0
    decided: int = 0
    right: int = 0
    covered: float = 0.0
    covered_decided: float = 0.0
    same: int = 0
    same_decided: int = 0

    def add(self, *, decided: bool, right: bool, covered: float | None) -> None:
        """Count a pair; `covered` is coverage minus level, None without a prediction."""
        self.pairs += 1
        if covered is None:
            return
        self.predicted += 1
        self.covered += covered
        if decided:
            self.decided += 1
            self.right += right
            self.covered_decided += covered

    def cells(self) -> str:
        """Return the row's cells."""

        def percent(part: float, of: int, form: str = ".0f") -> str:
            return f"{100 * part / of:{form}}" if of else "-"

        return " | ".join(
            [
                percent(self.decided, self.pairs),
                percent(self.right, self.decided, ".1f"),
                percent(self.covered, self.predicted, "+.1f"),
                percent(self.covered_decided, self.decided, "+.1f"),
                percent(self.same_decided, self.same, ".1f"),
            ]
        )


# --- the old rule: at most 30% of the pairs, a 95% interval, no checks of the history


def old_chance(learned: Transfer, difference: float, extra: float = 0.0) -> float:
    """Return the old probability of the other winner."""
    size, wider = abs(learned.slope * difference), math.sqrt(1 + learned.slope**2 * extra / learned.scale**2)
    if size == 0:
        return 0.5
    counted = (1 + (learned.errors * wider >= size).sum() / 2) / (len(learned.errors) + 2)
    return max(float(counted), float(stdtr(learned.df, -size / (learned.scale * wider))))


def old_rule(learned: Transfer, difference: float) -> tuple[bool, float, float]:
    """Return whether the old rule's transfer requirement decides, and its interval."""
    allowed = ALPHA
    if learned.reliability.n_mixes >= 12:
        fraction = min(fraction_decided(learned.reliability.accuracy, ALPHA), 0.3)
        least = old_chance(learned, float(np.quantile(learned.distances, 1 - fraction))) if fraction > 0 else ALPHA
        allowed = min(max(ALPHA, least), 3 * ALPHA)
    beyond = max(int(ALPHA * (len(learned.errors) + 2) - 2), 0)
    half = max(float(learned.errors[beyond]), learned.scale * float(stdtrit(learned.df, 1 - ALPHA / 2)))
    center = learned.slope * difference
    return old_chance(learned, difference) <= allowed, center - half, center + half


def _noise_significant(a: np.ndarray, b: np.ndarray) -> bool:
    """Return the old noise requirement without a prior: a t test; a single run of each mix never decided."""
    df = len(a) + len(b) - 2
    if df == 0:
        return False
    variance = (((a - a.mean()) ** 2).sum() + ((b - b.mean()) ** 2).sum()) / df
    t = (b.mean() - a.mean()) / math.sqrt(variance * (1 / len(a) + 1 / len(b)))
    return bool(2 * stdtr(df, -abs(t)) <= ALPHA)


# --- both rules on a draw


def _table(scores: np.ndarray, names: list[str], families: np.ndarray | None) -> pd.DataFrame:
    mix, seed, metric = (at.ravel() for at in np.indices(scores.shape))
    table = pd.DataFrame(
        {
            "mix": np.array(names)[mix],
            "seed": seed,
            "scale": "150M",
            "task": np.char.add("t", metric.astype(str)),
            "metric": "score",
            "value": scores.ravel(),
            "unit": "equal",
        }
    )
    return table if families is None else table.assign(family=np.asarray(families)[mix].astype(str))


def new_rule(history: HistoryTable, rows: pd.DataFrame, pair: tuple[str, str]) -> TargetEffect:
    """Return the prediction of the package."""
    compared = rows[(rows["mix"] == pair[0]) | (rows["mix"] == pair[1])]
    return predict_target(ResultsTable(compared), POLICY, TARGET, history, baseline=pair[0], candidate=pair[1])


def evaluate(draw: Draw, old: Tally, new: Tally) -> None:
    """Apply both rules to every pair of the compared mixes."""
    past, arms = [f"p{i}" for i in range(len(draw.past))], [f"a{i}" for i in range(len(draw.arms))]
    of_past, of_arms = draw.families or (None, None)
    target = pd.DataFrame(
        {
            "mix": past,
            "seed": 0,
            "scale": "1B",
            "task": "t0",
            "metric": "score",
            "value": draw.past_target,
            "unit": "equal",
        }
    )
    history = HistoryTable.of(pd.concat([_table(draw.past, past, of_past), target], ignore_index=True))
    rows = _table(draw.arms, arms, of_arms)
    learned = fit(draw.past[..., 0].mean(axis=1), draw.past_target)
    for i, j in itertools.combinations(range(len(arms)), 2):
        effect = new_rule(history, rows, (arms[i], arms[j]))
        truth = float(draw.arms_target[j] - draw.arms_target[i])
        covered = None if effect.problem else (effect.ci_low <= truth <= effect.ci_high) - effect.level
        new.add(
            decided=effect.winner != "unknown", right=(effect.winner == "candidate") == (truth > 0), covered=covered
        )
        a, b = draw.arms[i, :, 0], draw.arms[j, :, 0]
        if learned is not None:
            difference = float(b.mean() - a.mean())
            sure, low, high = old_rule(learned, difference)
            sure = sure and _noise_significant(a, b)
            right = (learned.slope * difference > 0) == (truth > 0)
            old.add(decided=sure, right=right, covered=(low <= truth <= high) - (1 - ALPHA))
        else:
            old.add(decided=False, right=False, covered=None)
    for i, again in enumerate([] if draw.again is None else draw.again):
        both = _table(np.stack([draw.arms[i], again]), ["base", "same"], None if of_arms is None else of_arms[[i, i]])
        effect = new_rule(history, both, ("base", "same"))
        new.same, new.same_decided = new.same + 1, new.same_decided + (effect.winner != "unknown")
        old.same += 1
        if learned is not None:
            difference = float(again[:, 0].mean() - draw.arms[i, :, 0].mean())
            sure = old_rule(learned, difference)[0] and _noise_significant(draw.arms[i, :, 0], again[:, 0])
            old.same_decided += sure


# --- simulated tables


def world(model: World, *, mixes: int, seeds: int, rng: np.random.Generator) -> Draw:
    """Draw recipes of `tests.analysis.stats.simulated_tables`; the average of the tasks is the target."""
    proxy, target = model.draw(rng, mixes=mixes + COMPARED, seeds=2 * seeds)
    order = np.r_[proxy.shape[2] - 1, 0 : proxy.shape[2] - 1]
    proxy, at_target = proxy[..., order] / 100 + 0.4, target[:, :seeds, -1].mean(axis=1) / 100 + 0.4
    first, second = proxy[:, :seeds], proxy[:, seeds:]
    return Draw(first[:mixes], at_target[:mixes], first[mixes:], at_target[mixes:], second[mixes:])


def normal(correlation: float, *, mixes: int, rng: np.random.Generator) -> Draw:
    """Draw single runs of one metric, with jointly normal scores at both scales; half of the lost variance is noise."""
    total = mixes + COMPARED
    quality = rng.standard_normal(total)
    own = math.sqrt(correlation)
    x, again = (
        own * quality[:, None, None] + math.sqrt(1 - correlation) * rng.standard_normal((total, 1, 1)) for _ in "ab"
    )
    y = own * quality + math.sqrt(1 - correlation) * rng.standard_normal(total)
    return Draw(x[:mixes], y[:mixes], x[mixes:], y[mixes:], again[mixes:])


def hierarchical(
    shift: float, slopes: float, *, known: int, labels: bool, metrics: int, rng: np.random.Generator
) -> Draw:
    """Draw families with own offsets and slopes, and compare mixes of a family without past mixes.

    Args:
        shift: SD of the families' offsets at the target, in SDs of mixes.
        slopes: SD of the families' slopes, relative to the common slope.
        known: number of families in the history, of 24 mixes in total.
        labels: whether the families are labeled.
        metrics: number of metrics; families differ in their profile over the metrics.
        rng: source of random numbers.
    """
    family = np.r_[np.arange(24) % known, np.full(COMPARED, known)]
    loadings = rng.standard_normal((known + 1, metrics))
    quality = 0.7 * rng.standard_normal(known + 1)[family] + rng.standard_normal(len(family))
    x = quality[:, None] + np.c_[np.zeros(len(family)), 1.5 * loadings[family][:, 1:]]
    x = x + 0.3 * rng.standard_normal(x.shape)
    slope = 1 + slopes * rng.standard_normal(known + 1)
    y = (
        slope[family] * quality
        + shift * rng.standard_normal(known + 1)[family]
        + 0.4 * rng.standard_normal(len(family))
    )
    named = (family[:24], family[24:]) if labels else None
    return Draw(x[:24, None], y[:24], x[24:, None], y[24:], families=named)


# --- public tables


def regmix(folder: Path, metric: int, other: int, *, mixes: int, foreign: bool, rng: np.random.Generator) -> Draw:
    """Draw mixes of RegMix at 1M and 60M parameters; foreign mixes have another largest source."""
    near, far, weights = (
        pd.read_csv(folder / f"test_{name}.csv", index_col=0)
        for name in ("pile_loss_1m", "pile_loss_60m", "mixture_1m")
    )
    held_out = near.index % 2 == 0
    x, y, largest = near.to_numpy()[held_out], far.to_numpy()[held_out], weights.to_numpy()[held_out].argmax(axis=1)
    columns = np.r_[metric, np.delete(np.arange(x.shape[1]), metric)]
    x, y = -x[:, columns], -y[:, other]
    x[:, 0] *= np.sign(np.corrcoef(x[:, 0], y)[0, 1])
    if foreign:
        family = rng.choice([f for f in np.unique(largest) if (largest == f).sum() >= 12])
        inside, outside = (rng.permutation(np.flatnonzero((largest == family) == own)) for own in (True, False))
        past, arms = inside[:mixes], outside[:COMPARED]
    else:
        order = rng.permutation(len(x))
        past, arms = order[:mixes], order[mixes : mixes + COMPARED]
    return Draw(x[past, None], y[past], x[arms, None], y[arms])


def dclm(path: Path, metric: str, *, rng: np.random.Generator) -> Draw:
    """Draw a pair of the 17 data sets of DCLM at 1.4B (29B tokens) and 7B (138B tokens)."""
    table = pd.read_csv(path, low_memory=False)
    size, tokens = (pd.to_numeric(table[name], errors="coerce") for name in ("params", "tokens"))
    near = table[(size.round(-8) == 1.4e9) & (tokens.round(-9) == 29e9)].groupby("Dataset")[metric].mean()
    far = table[(size.round(-8) == 6.9e9) & (tokens.round(-9) == 138e9)].groupby("Dataset")[metric].mean()
    both = pd.concat([near, far], axis=1).dropna().to_numpy()
    order = rng.permutation(len(both))
    past, arms = order[2:], order[:2]
    return Draw(both[past, :1, None], both[past, 1], both[arms, :1, None], both[arms, 1])


Source = Callable[..., Draw]


def simulated() -> Iterator[tuple[str, Source]]:
    """Return the simulated tables."""
    for n in (6, 8, 11, 12, 25, 100):
        yield f"150M-like, {n} mixes, 3 seeds", partial(world, World(), mixes=n, seeds=3)
    yield "530M-like, 25 mixes, 3 seeds", partial(world, World(transfer=0.95), mixes=25, seeds=3)
    yield "20M-like, 25 mixes, 3 seeds", partial(world, World(transfer=0.5, noise=2), mixes=25, seeds=3)
    yield "no transfer, 25 mixes, 3 seeds", partial(world, World(transfer=0.0), mixes=25, seeds=3)
    yield "t with 4 df, 25 mixes, 3 seeds", partial(world, World(tail=4), mixes=25, seeds=3)
    yield "one outlier, 25 mixes, 3 seeds", partial(world, World(outliers=1), mixes=25, seeds=3)
    yield "150M-like, 25 mixes, 1 seed", partial(world, World(), mixes=25, seeds=1)
    for r, n in ((0.6, 25), (0.81, 12), (0.81, 25), (0.81, 60), (0.95, 25)):
        accuracy = 0.5 + math.asin(r) / math.pi
        yield f"single runs, {n} mixes, {accuracy:.0%} agreement", partial(normal, r, mixes=n)
    for shift, slopes, known in ((0.0, 0.0, 4), (1.0, 0.0, 4), (0.5, 0.3, 6)):
        name = f"new family, {known} known, shift {shift:g}, slopes {slopes:g}"
        yield f"{name}, labels", partial(hierarchical, shift, slopes, known=known, labels=True, metrics=1)
        yield (
            f"{name}, no labels, 8 metrics",
            partial(hierarchical, shift, slopes, known=known, labels=False, metrics=8),
        )


def public(folder: Path | None, path: Path | None) -> Iterator[tuple[str, Source]]:
    """Return the public tables."""
    if folder is not None:
        for metric, other in ((0, 0), (4, 4), (8, 8), (12, 12), (3, 8), (8, 10), (2, 11), (6, 5)):
            name = f"RegMix 1M domain {metric} to 60M domain {other}"
            yield f"{name}, 12 mixes", partial(regmix, folder, metric, other, mixes=12, foreign=False)
            yield f"{name}, 25 mixes", partial(regmix, folder, metric, other, mixes=25, foreign=False)
            yield f"{name}, foreign", partial(regmix, folder, metric, other, mixes=25, foreign=True)
    if path is not None:
        for metric in ("Core", "Extended", "hellaswag", "arc_easy", "mmlu_fewshot"):
            yield f"DCLM 1.4B to 7B, {metric}", partial(dclm, path, metric)


def print_speed(mixes: int = 3000) -> None:
    """Print the CPU time of one target verdict with a large history, including validation of the tables."""
    for metrics in (1, 13):
        rng = np.random.default_rng(0)
        quality = rng.standard_normal(mixes)
        past = quality[:, None, None] + 0.2 * rng.standard_normal((mixes, 1, metrics))
        names = [f"p{i}" for i in range(mixes)]
        near = _table(past, names, None)
        far = _table((quality + 0.2 * rng.standard_normal(mixes))[:, None, None], names, None).assign(scale="1B")
        arms = _table(
            np.array([-1.0, 1.0])[:, None, None] + 0.1 * rng.standard_normal((2, 3, metrics)), ["a", "b"], None
        )
        start = time.process_time()
        decide(arms, POLICY, baseline="a", candidate="b", history=pd.concat([near, far], ignore_index=True))
        print(f"{mixes} past mixes, {metrics} metrics: {time.process_time() - start:.2f} s of CPU time")


def print_noise(draws: int = 150, seed: int = 0) -> None:
    """Print decided pairs without and with a difference of 0.012, for unequal seed noise of the history and the sweep.

    Each draw has 25 past mixes with three seeds at the proxy, and a sweep of four mixes with three seeds. `correlation` is
    the fraction of the sweep's seed variance that all its mixes share.
    """
    target = Target(scale="1B", task="arc", metric="acc", better="higher")
    policy = Policy(name="noise", alpha=ALPHA, min_seeds=3, proxy_scale="150M", target=target)

    def rows(mix: str, scale: str, values: np.ndarray) -> list[dict[str, object]]:
        named = {"mix": mix, "scale": scale, "task": "arc", "metric": "acc"}
        return [{**named, "seed": run, "value": float(value)} for run, value in enumerate(values)]

    print("| history SD | SD | correlation | A/A decided | decided |\n|---|---|---|---|---|")
    for past_sd, sd, shared in ((1, 1, 0), (1, 2, 0), (1, 3, 0), (1, 4, 0), (3, 3, 0), (3, 6, 0.9)):
        rng, found = np.random.default_rng(seed), []
        for _ in range(draws):
            past, arms = [], []
            for number, level in enumerate(rng.normal(0, 0.008, 25)):
                past += rows(f"h{number}", "150M", 0.5 + level + rng.normal(0, past_sd / 1000, 3))
                past += rows(f"h{number}", "1B", 0.6 + 1.2 * level + rng.normal(0, 0.001, 1))
            common = rng.normal(0, math.sqrt(shared) * sd / 1000, 3)
            for mix, effect in (("a", 0.0), ("same", 0.0), ("better", 0.012), ("other", 0.0)):
                noise = rng.normal(0, math.sqrt(1 - shared) * sd / 1000, 3)
                arms += rows(mix, "150M", 0.5 + effect + common + noise)
            history, results = HistoryTable.of(pd.DataFrame(past)), ResultsTable.of(pd.DataFrame(arms))
            found.append(
                [
                    predict_target(results, policy, target, history, baseline="a", candidate=mix).winner != "unknown"
                    for mix in ("same", "better")
                ]
            )
        same, better = np.mean(found, axis=0)
        print(f"| .00{past_sd} | .00{sd} | {shared} | {same:.1%} | {better:.1%} |", flush=True)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--regmix", type=Path, help="folder with the tables of RegMix")
    parser.add_argument("--dclm", type=Path, help="table of DCLM")
    parser.add_argument("--draws", type=int, default=40, help="draws of each table (default: 40)")
    parser.add_argument("--only", default="", help="evaluate only tables whose name contains this text")
    parser.add_argument("--speed", action="store_true", help="print only the time of a verdict with 3,000 past mixes")
    parser.add_argument("--noise", action="store_true", help="print only the table of unequal seed noise")
    given = parser.parse_args()
    if given.noise:
        print_noise()
        return
    if given.speed:
        print_speed()
        return
    names = ("decided", "correct", "coverage", "coverage, decided", "A/A")
    print("| table | " + " | ".join(f"{rule}: {name}" for rule in ("old", "new") for name in names) + " |")
    print("| --- |" + " --- |" * 10)
    for name, source in (*simulated(), *public(given.regmix, given.dclm)):
        if given.only not in name:
            continue
        rng, old, new = np.random.default_rng(14), Tally(), Tally()
        for _ in range(given.draws * (10 if name.startswith("DCLM") else 1)):
            evaluate(source(rng=rng), old, new)
        print(f"| {name} | {old.cells()} | {new.cells()} |", flush=True)


if __name__ == "__main__":
    main()
