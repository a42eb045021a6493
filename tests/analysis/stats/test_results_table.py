"""The indexed tables compared with a slow, plain implementation; and one table shared by all candidates."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import stdtrit

from assay.analysis.compare import compare
from assay.analysis.comparison import Comparison
from assay.analysis.gate import decide, gate
from assay.analysis.stats.history import HistoryTable
from assay.analysis.stats.item_table import ItemTable
from assay.analysis.stats.results_table import ResultsTable
from assay.analysis.stats.tables import group_codes
from assay.config.policy import Criterion, Policy
from assay.core.serde import to_json

MIXES = ("base", "a", "b", "c")
METRICS = (("x", "acc"), ("x", "bits_per_byte"), ("y", "acc_norm"), ("z", "loss"))
POLICY = Policy(
    name="random",
    primary=(Criterion(task="x", metric="bits_per_byte", better="lower"),),
    guardrails=(Criterion(task="x", metric="acc", better="higher", margin=0.05),),
    alpha=0.05,
    min_seeds=3,
)


def random_tables(draw: int, *, n_items: int = 12) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return scores and items in random order; some runs lack a score, some have an earlier checkpoint too."""
    rng = np.random.default_rng(draw)
    weights = rng.integers(1, 5, n_items).astype(float)
    scores, items = [], []
    for task, metric in METRICS:
        difficulty = rng.random(n_items)
        for mix in MIXES:
            shift = 0.0 if mix == "base" else rng.normal(0, 0.05)
            for seed in range(5):
                if seed > 2 and rng.random() < 0.3:
                    continue
                answers = difficulty + shift + rng.normal(0, 0.02) + rng.normal(0, 0.1, n_items)
                if metric.startswith("acc"):
                    answers = (answers > 0.4).astype(float)
                given = weights if metric == "bits_per_byte" else np.ones(n_items)
                value = float(answers @ given / given.sum())
                row = {"mix": mix, "seed": seed, "task": task, "metric": metric, "tokens": 1e9, "value": value}
                chance = 0.25 if metric.startswith("acc") else math.nan
                scores.append({**row, "n": n_items, "chance": chance})
                if rng.random() < 0.3:
                    scores.append(
                        {**row, "tokens": 5e8, "value": max(value - 0.1, 0.0), "n": n_items, "chance": chance}
                    )
                items += [
                    {
                        **{name: row[name] for name in ("mix", "seed", "task", "metric")},
                        "item": f"q{number}",
                        "value": answers[number],
                        "group": f"passage {number % 5}" if task == "x" else None,
                        "weight": given[number],
                    }
                    for number in range(n_items)
                ]
    order = np.random.default_rng(draw + 1)
    return tuple(pd.DataFrame(rows).sample(frac=1, random_state=order) for rows in (scores, items))  # type: ignore[return-value]


class PlainComparison:
    """Effect and interval of one metric, computed by loops over the rows."""

    def __init__(
        self, scores: pd.DataFrame, items: pd.DataFrame | None, candidate: str, task: str, metric: str
    ) -> None:
        last: dict[tuple[str, int], tuple[float, float]] = {}
        for row in scores.to_dict("records"):
            if (row["task"], row["metric"]) == (task, metric):
                key = (row["mix"], row["seed"])
                last[key] = max(last.get(key, (0.0, 0.0)), (row["tokens"], row["value"]))
        self.seeds = sorted({s for m, s in last if m == "base"} & {s for m, s in last if m == candidate})
        self.differences = [last[candidate, s][1] - last["base", s][1] for s in self.seeds]
        n = len(self.seeds)
        self.effect = sum(self.differences) / n
        self.noise = math.sqrt(sum((d - self.effect) ** 2 for d in self.differences) / (n - 1))
        # Differences that agree to the last digit show no noise.
        self.parts = [(self.noise**2 / n, float(n - 1))] if self.noise > 1e-12 else []
        if items is not None:
            self._with_items(items, candidate, task, metric)

    def _with_items(self, items: pd.DataFrame, candidate: str, task: str, metric: str) -> None:
        values, weight, cluster = {}, {}, {}
        for row in items.to_dict("records"):
            if (row["task"], row["metric"]) == (task, metric):
                values[row["mix"], row["seed"], row["item"]] = row["value"]
                weight[row["item"]] = row["weight"]
                cluster[row["item"]] = row["group"] if isinstance(row["group"], str) else row["item"]
        names, n = sorted(weight), len(self.seeds)
        total = sum(weight.values())
        w = {i: weight[i] / total for i in names}
        y = {(s, i): values[candidate, s, i] - values["base", s, i] for s in self.seeds for i in names}
        mean_of_item = {i: sum(y[s, i] for s in self.seeds) / n for i in names}
        mean_of_seed = {s: sum(w[i] * y[s, i] for i in names) for s in self.seeds}

        def squares(influence: dict[str, float]) -> float:
            sums: dict[str, float] = defaultdict(float)
            for i, value in influence.items():
                sums[cluster[i]] += value
            return sum(value**2 for value in sums.values()) * len(sums) / (len(sums) - 1)

        both = sum(
            squares({i: w[i] * (y[s, i] - mean_of_seed[s] - mean_of_item[i] + self.effect) for i in names})
            for s in self.seeds
        ) / (n * (n - 1))
        by_item = squares({i: w[i] * (mean_of_item[i] - self.effect) for i in names}) - both
        if not self.parts and both > 1e-24:
            self.parts = [(both, float(n - 1))]
        if self.parts and by_item > 0:
            sums = defaultdict(float)
            for i in names:
                sums[cluster[i]] += w[i]
            kish = 1 / sum(value**2 for value in sums.values())
            self.parts.append((by_item, max(kish - 1, 1.0)))

    def critical(self, tail: float) -> float:
        total = sum(variance for variance, _ in self.parts)
        pairs = [(variance / total, -stdtrit(df, tail)) for variance, df in self.parts]
        others = min(1.0, min(t for _, t in pairs) ** 2)
        return max(
            sum(fraction * t for fraction, t in pairs), *(math.sqrt(f * t**2 + (1 - f) * others) for f, t in pairs)
        )

    @property
    def se(self) -> float:
        return math.sqrt(sum(variance for variance, _ in self.parts))


def check(comparisons: Sequence[Comparison], scores: pd.DataFrame, items: pd.DataFrame | None) -> None:
    assert {(c.task, c.metric) for c in comparisons} == set(METRICS)
    for c in comparisons:
        plain = PlainComparison(scores, items, c.candidate, c.task, c.metric)
        if c.pairing == "unpaired":  # as precise with all seeds of each arm: see test_sweep_model
            assert set(c.differences) == set(plain.seeds)
            continue
        half = plain.critical(0.025) * plain.se if plain.parts else math.nan
        assert list(c.differences) == plain.seeds
        assert list(c.differences.values()) == pytest.approx(plain.differences, abs=1e-12)
        assert (c.effect, c.noise) == pytest.approx((plain.effect, plain.noise), abs=1e-12)
        assert (c.ci_low, c.ci_high) == pytest.approx(
            (plain.effect - half, plain.effect + half), abs=1e-12, nan_ok=True
        )
        # The p-value's critical value equals the effect in standard errors.
        assert math.isnan(c.p) or plain.critical(c.p / 2) == pytest.approx(
            abs(plain.effect) / plain.se, rel=1e-8, abs=1e-8
        )


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10_000))
def test_comparisons_equal_the_plain_implementation(draw: int) -> None:
    """Two arms, because the noise of further arms would count."""
    scores, items = random_tables(draw)
    for candidate in MIXES[1:]:
        two, answers = (frame[frame["mix"].isin(["base", candidate])] for frame in (scores, items))
        check(compare(two, POLICY, baseline="base"), two, None)
        check(compare(two, POLICY, baseline="base", items=answers), two, answers)


@pytest.mark.parametrize("draw", range(3))
def test_a_shared_table_gives_the_verdicts_of_separate_frames(draw: int) -> None:
    scores, items = random_tables(draw)
    past = pd.concat([random_tables(draw + 10 + i)[0].assign(mix=lambda t, i=i: t["mix"] + f" {i}") for i in range(3)])
    past = pd.concat([past, scores[scores["mix"] == "b"].assign(value=lambda t: t["value"] + 0.01)])
    together = gate(scores, POLICY, baseline="base", candidates=MIXES[1:], items=items, history=past)
    tables = {"items": ItemTable.of(items), "history": HistoryTable.of(past)}
    shared = gate(ResultsTable.of(scores), POLICY, baseline="base", candidates=MIXES[1:], **tables)
    for mix in MIXES[1:]:
        alone = to_json(decide(scores, POLICY, baseline="base", candidate=mix, items=items, history=past))
        assert to_json(together.candidates[mix]) == alone
        assert to_json(shared.candidates[mix]) == alone


def test_a_candidate_in_the_history_informs_the_others_but_not_itself() -> None:
    scores, _ = random_tables(0)
    past = HistoryTable.of(
        pd.concat([random_tables(20 + i)[0].assign(mix=lambda t, i=i: t["mix"] + f" {i}") for i in range(3)] + [scores])
    )
    frames = [compare(scores, POLICY, baseline="base", candidates=[m], history=past.frame) for m in MIXES[1:]]
    tables = [compare(scores, POLICY, baseline="base", candidates=[m], history=past) for m in MIXES[1:]]
    assert to_json(tables) == to_json(frames)
    without_a, without_b = (next(c for c in part if c.metric == "loss").noise_moderated for part in frames[:2])
    assert without_a != without_b


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abc"), st.one_of(st.integers(0, 3), st.none())), max_size=30))
def test_groups_are_numbered_in_order_of_appearance(rows: list[tuple[str, int | None]]) -> None:
    frame = pd.DataFrame(rows, columns=["name", "number"])
    codes, first = group_codes(frame, ["name", "number"])
    distinct = list(dict.fromkeys(rows))
    assert codes.tolist() == [distinct.index(row) for row in rows]
    assert first.tolist() == [rows.index(row) for row in distinct]
