"""Ranks, subjects and sources in addition to a verdict; none of them votes."""

from __future__ import annotations

import json
import math

import numpy as np
import pandas as pd
import pytest

from assay.analysis.breakdowns import Parts, average_ranks, by_part, by_source, standard_error
from assay.analysis.compare import compare
from assay.config.policy import Criterion, Policy
from assay.core.errors import AssayError
from assay.core.serde import to_json
from tests.helpers.studies import policy, results

RULE = policy(primary=(Criterion(task="mmlu", metric="acc", better="higher"),), guardrails=(), min_seeds=2)
CATEGORIES = {"mmlu_stem": ["mmlu_physics", "mmlu_algebra"], "mmlu_other": ["mmlu_law"]}


def test_an_average_rank_is_the_mean_over_tasks_in_the_direction_of_improvement() -> None:
    rows = [
        (mix, seed, task, metric, value)
        for seed in range(3)
        for task, metric, values in (
            ("a", "bits_per_byte", (1.0, 2.0, 3.0)),
            ("b", "acc", (0.5, 0.7, 0.6)),
            ("b", "acc_norm", (0.5, 0.7, 0.5)),
        )
        for mix, value in zip(("base", "x", "y"), values, strict=True)
    ]
    table = pd.DataFrame(rows, columns=["mix", "seed", "task", "metric", "value"])
    rule = policy(primary=(Criterion(task="a", metric="bits_per_byte", better="lower"),), guardrails=())
    result = average_ranks(table, compare(table, rule, baseline="base"), mixes=["base", "x", "y"])
    # base: 1 on a; on b the mean of 3 and of 2.5, as it ties with y. x: 2 and 1. y: 3, and the mean of 2 and 2.5.
    expected = {"base": (1 + 2.75) / 2, "x": (2 + 1) / 2, "y": (3 + 2.25) / 2}
    assert {average.mix: average.rank for average in result.ranks} == pytest.approx(expected)
    assert [average.mix for average in result.ranks] == ["x", "base", "y"]
    assert all(math.isnan(average.ci_low) for average in result.ranks), (
        "seeds that agree show no noise, which is no certainty"
    )
    json.dumps(to_json(result), allow_nan=False)


def test_two_seeds_have_no_interval_and_an_incomplete_seed_is_excluded() -> None:
    table = results({"new": {"code": -0.05}}, seeds=[0, 1, 2])
    table = table[~((table["mix"] == "new") & (table["seed"] == 2))]
    result = average_ranks(table, compare(table, policy(), baseline="base"), mixes=["base", "new"])
    assert set(result.ranks[0].by_seed) == {0, 1}
    assert "requires 3 seeds" in result.note
    with pytest.raises(AssayError, match="no seed has all metrics of all mixes"):
        average_ranks(table[table["seed"] == 2], compare(table, policy(), baseline="base"), mixes=["base", "new"])


def test_the_interval_of_an_average_rank_covers_the_expected_rank() -> None:
    rng = np.random.default_rng(1)
    level = np.array([[0.0, 0.3, 0.1, 0.4]] * 8).T + 0.2 * rng.standard_normal((4, 8))

    def ranked(values: np.ndarray) -> np.ndarray:
        return (np.argsort(np.argsort(values, axis=0), axis=0) + 1.0).mean(axis=1)

    truth = np.mean([ranked(level + 0.3 * rng.standard_normal(level.shape)) for _ in range(4000)], axis=0)
    mixes, covered = ["base", "x", "y", "z"], []
    known = compare(_losses(level, rng, mixes), _loss_policy(), baseline="base")
    for _ in range(60):
        result = average_ranks(_losses(level, rng, mixes), known, mixes=mixes)
        covered += [rank.ci_low <= truth[mixes.index(rank.mix)] <= rank.ci_high for rank in result.ranks]
    assert 0.91 <= np.mean(covered) <= 0.99  # 240 intervals: three standard errors are 0.04


def _losses(level: np.ndarray, rng: np.random.Generator, mixes: list[str]) -> pd.DataFrame:
    values = level[:, None] + 0.3 * rng.standard_normal((4, 3, 8))
    rows = [
        (mix, seed, f"t{task}", "loss", values[i, seed, task])
        for i, mix in enumerate(mixes)
        for seed in range(3)
        for task in range(8)
    ]
    return pd.DataFrame(rows, columns=["mix", "seed", "task", "metric", "value"])


def _loss_policy() -> Policy:
    return policy(primary=(Criterion(task="t0", metric="loss", better="lower"),), guardrails=())


def subjects(*, gain: float = 0.0) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Draw three subjects of 60 items in two categories, with scores that are the items' means; law gains."""
    rng = np.random.default_rng(3)
    rows, items = [], []
    for mix in ("base", "new"):
        for seed in range(3):
            right = {}
            for part in ("mmlu_physics", "mmlu_algebra", "mmlu_law"):
                accuracy = 0.6 + (gain if (mix, part) == ("new", "mmlu_law") else 0.0)
                right[part] = (rng.random(60) < accuracy).astype(float)
                items += [(mix, seed, part, "acc", f"{part} {i}", v, None, 1.0) for i, v in enumerate(right[part])]
                rows.append((mix, seed, part, "acc", right[part].mean(), 60, 0.25))
            for name, parts in {**CATEGORIES, "mmlu": list(right)}.items():
                value = np.concatenate([right[part] for part in parts])
                rows.append((mix, seed, name, "acc", value.mean(), len(value), 0.25))
    columns = ["mix", "seed", "task", "metric", "item", "value", "group", "weight"]
    return (
        pd.DataFrame(rows, columns=["mix", "seed", "task", "metric", "value", "n", "chance"]),
        pd.DataFrame(items, columns=columns),
    )


def parts(gain: float = 0.0, metric: str = "acc") -> Parts:
    table, items = subjects(gain=gain)
    return by_part(table, items, RULE, baseline="base", candidate="new", task="mmlu", metric=metric, members=CATEGORIES)


def test_subjects_and_categories_have_paired_differences_without_votes() -> None:
    result = parts(gain=0.3)
    table, _ = subjects(gain=0.3)
    means = table.groupby(["task", "mix"])["value"].mean()
    assert {c.task for c in result.subjects} == {"mmlu_physics", "mmlu_algebra", "mmlu_law"}
    assert {c.task for c in result.categories} == {"mmlu_stem", "mmlu_other"}
    for c in (*result.subjects, *result.categories):
        assert c.effect == pytest.approx(means[c.task, "new"] - means[c.task, "base"])
        assert (c.role, c.votes) == ("monitor", False)
        assert standard_error(c) > 0
    assert result.subjects[-1].task == "mmlu_law", "the worst comes first"
    json.dumps(to_json(result), allow_nan=False)


def test_q_of_a_subject_is_adjusted_over_the_subjects() -> None:
    from statsmodels.stats.multitest import multipletests

    result = parts(gain=0.3)
    expected = multipletests([c.p for c in result.subjects], method="fdr_bh")[1]
    assert [c.q for c in result.subjects] == pytest.approx(list(expected), abs=1e-10)


def test_items_of_a_category_are_clustered_by_subject() -> None:
    [stem] = [c for c in parts().categories if c.task == "mmlu_stem"]
    [other] = [c for c in parts().categories if c.task == "mmlu_other"]
    assert (stem.n_items, other.n_items) == (120, 60)
    table, items = subjects()
    loose = items.assign(task=items["task"].map({"mmlu_physics": "mmlu_stem", "mmlu_algebra": "mmlu_stem"})).dropna(
        subset="task"
    )
    rows = table[table["task"] == "mmlu_stem"]
    rule = policy(primary=(Criterion(task="mmlu_stem", metric="acc", better="higher"),), guardrails=())
    [alone] = compare(rows, rule, baseline="base", items=loose)
    assert stem.item_variance != pytest.approx(alone.item_variance)


def test_a_task_without_parts_is_refused() -> None:
    with pytest.raises(AssayError, match="no parts with a score of bits_per_byte"):
        parts(metric="bits_per_byte")


def test_sources_are_the_held_out_splits_worst_first() -> None:
    table = results({"new": {"code": -0.05, "web": 0.04}})
    result = by_source(compare(table, policy(), baseline="base"))
    assert [c.task for c in result] == ["validation/web", "validation/books", "validation/code"]
