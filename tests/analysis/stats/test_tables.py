"""Long tables in various forms: other types, other libraries' numbers, both scales in one table."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from assay.analysis.excluded_scores import list_excluded_scores
from assay.analysis.gate import decide
from assay.analysis.stats.results_table import ResultsTable
from assay.analysis.stats.tables import SCORE_KEY
from assay.config.policy import Criterion, Policy, Target
from assay.config.reason import Code
from assay.core.errors import AssayError
from tests.helpers.reasons import first

RULE = Policy(
    name="p",
    primary=(Criterion(task="t", metric="acc", better="higher"),),
    alpha=0.05,
    min_seeds=3,
    proxy_scale="150M",
    target=Target(scale="1B", task="t", metric="acc", better="higher"),
)


def world() -> pd.DataFrame:
    """Draw fourteen recipes, of which 0 and 13 are far apart, with three seeds at both scales."""
    rng = np.random.default_rng(3)
    rows = [
        (str(mix), seed, scale, tokens, "t", "acc", gain * 0.01 * mix + 0.4 + 0.002 * rng.standard_normal())
        for mix in range(14)
        for seed in range(3)
        for scale, tokens, gain in (("150M", 3e9, 1.0), ("1B", 2e10, 1.4))
    ]
    return pd.DataFrame(rows, columns=["mix", "seed", "scale", "tokens", "task", "metric", "value"])


def outcome(
    table: pd.DataFrame, policy: Policy = RULE, baseline: object = "0", candidate: object = "13"
) -> tuple[str, float]:
    """Return the decision and the predicted difference."""
    compared = table["mix"].astype(str).isin(["0", "13"])
    verdict = decide(
        table[compared],
        policy,
        baseline=baseline,  # type: ignore[arg-type]  # a mix may be named 7 and read as a number
        candidate=candidate,  # type: ignore[arg-type]
        history=table[~compared],
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
def test_a_verdict_does_not_depend_on_the_types_of_a_table(change: Callable[[pd.DataFrame], pd.DataFrame]) -> None:
    decision, effect = outcome(world())
    assert decision == "ACCEPT"
    assert outcome(change(world())) == (decision, pytest.approx(effect, rel=1e-9))


def test_mixes_may_be_named_as_numbers() -> None:
    table = world()
    assert outcome(table.assign(mix=table["mix"].astype(int)), baseline=0, candidate=13) == outcome(table)
    with pytest.raises(AssayError, match="the baseline '99' has no results"):
        outcome(table, baseline=99)


def test_of_two_scales_the_one_other_than_the_targets_is_the_proxy() -> None:
    policy = Policy(name="p", alpha=0.05, min_seeds=3, target=RULE.target)
    assert outcome(world(), policy) == outcome(world())


@pytest.mark.parametrize(
    ("results", "message"),
    [
        ([1, 2], "results is a list"),
        (world().assign(tokens="many"), "results: tokens is not a number"),
        (pd.concat([world(), world()[["value"]]], axis=1), "results has two columns 'value'"),
    ],
    ids=["a list", "tokens as text", "a duplicated column"],
)
def test_an_invalid_results_table_is_refused(results: pd.DataFrame, message: str) -> None:
    with pytest.raises(AssayError, match=message):
        decide(results, RULE, baseline="0", candidate="13")


def test_seeds_with_unequal_token_counts_are_reported_and_unequal_arms_are_refused() -> None:
    table = world()
    short = table["seed"].eq(2) & table["scale"].eq("150M")
    both_arms = table.assign(tokens=table["tokens"].mask(short, 1e9))
    verdict = decide(both_arms, RULE, baseline="0", candidate="13")
    uneven = {r.subject: r.figures["seeds"] for r in verdict.reasons if r.code is Code.UNEVEN_SEED_TOKENS}
    assert uneven["13"] == {"2": 1e9}
    one_arm = table.assign(tokens=table["tokens"].mask(short & table["mix"].eq("13"), 1e9))
    with pytest.raises(AssayError, match="0 was trained on 3,000,000,000 tokens with seed 2 and 13 on 1,000,000,000"):
        decide(one_arm, RULE, baseline="0", candidate="13")
    early = table.assign(tokens=table["tokens"].mask(table["mix"].eq("13"), table["tokens"] * 0.97))
    verdict = decide(early, RULE, baseline="0", candidate="13")
    assert first(verdict.reasons, Code.UNEVEN_MIX_TOKENS).figures["baseline"] == "0"


@pytest.mark.parametrize(
    ("seeds", "message"),
    [
        ([0, "0"], "denote one seed"),
        (["0", "00"], "denote one seed"),
        ([0.0, 1.5], "seed 1.5 is invalid"),
        ([0.0, 1e30], "is invalid; expected a whole number"),
        (["0", "1e30"], "seed 1e30 is invalid"),
    ],
)
def test_seeds_are_whole_numbers_or_names_in_one_spelling(seeds: list[object], message: str) -> None:
    rows = [("m", seed, "t", "acc", 0.5) for seed in seeds]
    frame = pd.DataFrame(rows, columns=["mix", "seed", "task", "metric", "value"])
    with pytest.raises(AssayError, match=message):
        ResultsTable.of(frame)
    ResultsTable.of(frame.assign(seed=["first", "second"]))


def test_a_score_that_the_last_checkpoint_lacks_is_missing() -> None:
    """The earlier score of a run does not replace a score that its last checkpoint lacks."""
    rows = [
        (mix, seed, tokens, "t", metric, 0.5 + 0.01 * seed + (mix == "new") / 10)
        for mix in ("old", "new")
        for seed in range(3)
        for tokens, metrics in ((1e9, ["acc", "exact"]), (2e9, ["acc"] if mix == "new" else ["acc", "exact"]))
        for metric in metrics
    ]
    frame = pd.DataFrame(rows, columns=["mix", "seed", "tokens", "task", "metric", "value"])
    for table in (frame, frame.drop_duplicates(SCORE_KEY, keep="last")):
        scores = ResultsTable.of(table).scores_at(None)
        assert scores.scores("new", "t", "exact").by_seed == {}
        assert set(scores.scores("old", "t", "exact").by_seed) == {0, 1, 2}
        (reason,) = list_excluded_scores(scores, "old", "new", known={})
        assert (reason.code, reason.subject, reason.figures["seeds"]) == (Code.SCORES_MISSING, "new", (0, 1, 2))
