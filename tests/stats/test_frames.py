"""Long tables as people have them: other types, other libraries' numbers, both scales at once."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from assay.errors import AssayError
from assay.gate import decide
from assay.suite import Criterion, Policy, Target

RULE = Policy(
    name="p",
    primary=(Criterion(task="t", metric="acc", better="higher"),),
    alpha=0.05,
    min_seeds=3,
    proxy_scale="150M",
    target=Target(scale="1B", task="t", metric="acc", better="higher"),
)


def world() -> pd.DataFrame:
    """Fourteen recipes, 0 and 13 far apart, three seeds at both scales."""
    rng = np.random.default_rng(3)
    rows = [
        (str(mix), seed, scale, tokens, "t", "acc", gain * 0.01 * mix + 0.4 + 0.002 * rng.standard_normal())
        for mix in range(14)
        for seed in range(3)
        for scale, tokens, gain in (("150M", 3e9, 1.0), ("1B", 2e10, 1.4))
    ]
    return pd.DataFrame(rows, columns=["mix", "seed", "scale", "tokens", "task", "metric", "value"])


def told(
    table: pd.DataFrame, policy: Policy = RULE, baseline: object = "0", candidate: object = "13"
) -> tuple[str, float]:
    """The decision, and the difference that is foretold."""
    judged = table["mix"].astype(str).isin(["0", "13"])
    verdict = decide(
        table[judged],
        policy,
        baseline=baseline,  # type: ignore[arg-type]  # a mix may be called 7, as a number
        candidate=candidate,  # type: ignore[arg-type]
        history=table[~judged],
    )
    assert verdict.target is not None
    return str(verdict.decision), verdict.target.effect


@pytest.mark.parametrize(
    "change",
    [
        lambda table: table.set_index(["mix", "seed"], drop=False),
        lambda table: table.assign(tokens=table["tokens"].map("{:.0f}".format), value=table["value"].map(repr)),
        lambda table: table.convert_dtypes(dtype_backend="pyarrow"),
        lambda table: table.astype({"mix": "category", "seed": "category", "scale": "category", "task": "category"}),
        lambda table: table.assign(scale=table["scale"].map({"150M": 150e6, "1B": 1e9})),
        lambda table: table.sample(frac=1, random_state=0),
    ],
    ids=["an index of the columns' names", "text", "pyarrow", "categories", "scales as numbers", "shuffled"],
)
def test_a_verdict_is_the_same_whatever_types_a_table_has(change: Callable[[pd.DataFrame], pd.DataFrame]) -> None:
    decision, effect = told(world())
    assert decision == "ACCEPT"
    assert told(change(world())) == (decision, pytest.approx(effect, rel=1e-9))


def test_mixes_that_are_called_by_numbers_may_be_named_as_numbers() -> None:
    table = world()
    assert told(table.assign(mix=table["mix"].astype(int)), baseline=0, candidate=13) == told(table)
    with pytest.raises(AssayError, match="the baseline '99' has no results"):
        told(table, baseline=99)


def test_of_two_scales_the_one_that_is_not_the_targets_is_the_proxy() -> None:
    policy = Policy(name="p", alpha=0.05, min_seeds=3, target=RULE.target)
    assert told(world(), policy) == told(world())


@pytest.mark.parametrize(
    ("results", "message"),
    [
        ([1, 2], "results is a list"),
        (world().assign(tokens="many"), "results: tokens is not a number"),
        (pd.concat([world(), world()[["value"]]], axis=1), "results has two columns 'value'"),
    ],
    ids=["a list", "tokens in words", "a column twice"],
)
def test_what_is_no_table_of_results_is_refused_by_name(results: pd.DataFrame, message: str) -> None:
    with pytest.raises(AssayError, match=message):
        decide(results, RULE, baseline="0", candidate="13")


def test_seeds_that_end_at_other_token_counts_are_named_and_arms_that_do_are_refused() -> None:
    table = world()
    short = table["seed"].eq(2) & table["scale"].eq("150M")
    alike = table.assign(tokens=table["tokens"].mask(short, 1e9))
    verdict = decide(alike, RULE, baseline="0", candidate="13")
    assert any("seeds of 13 end at different token counts: seed 2 at 1,000,000,000" in why for why in verdict.reasons)
    one = table.assign(tokens=table["tokens"].mask(short & table["mix"].eq("13"), 1e9))
    with pytest.raises(AssayError, match="0 was trained on 3,000,000,000 tokens with seed 2 and 13 on 1,000,000,000"):
        decide(one, RULE, baseline="0", candidate="13")
    early = table.assign(tokens=table["tokens"].mask(table["mix"].eq("13"), table["tokens"] * 0.97))
    verdict = decide(early, RULE, baseline="0", candidate="13")
    assert any("some of a difference may be the budget's" in why for why in verdict.reasons)
