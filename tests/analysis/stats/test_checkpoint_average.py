"""Averaging over the last checkpoints: over all of them, or an error."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest

from assay.analysis.compare import compare
from assay.analysis.gate import decide
from assay.analysis.stats.checkpoint_average import average_last
from assay.config.policy import Averaging, Criterion, Policy
from assay.config.reason import Code, Reason
from assay.core.errors import AssayError

TOKENS = (50, 90, 95, 100)
ANSWERS = {"a": (1, 0, 1, 1), "b": (0, 0, 1, 0), "c": (1, 1, 1, 1)}
"""For each item, whether each checkpoint answers it correctly."""


def scores(mixes: tuple[str, ...] = ("today", "new"), tokens: tuple[int, ...] = TOKENS) -> pd.DataFrame:
    """Draw scores of three seeds; `new` is 0.1 better, and every checkpoint has independent noise."""
    draw = np.random.default_rng(0)
    return pd.DataFrame(
        [
            {
                "mix": mix,
                "seed": seed,
                "scale": "150M",
                "tokens": at,
                "task": "t",
                "metric": metric,
                "value": 0.5 + 0.1 * (mix == "new") + draw.normal(0, 0.01),
                "n": 200,
                "stderr": 0.02,
                "chance": 0.25,
            }
            for mix in mixes
            for seed in range(3)
            for metric in ("acc", "bits_per_byte")
            for at in tokens
        ]
    )


def items(mix: str = "today") -> pd.DataFrame:
    rows = [
        {"mix": mix, "seed": 0, "tokens": at, "task": "t", "metric": "acc", "item": item, "value": float(right)}
        for item, answers in ANSWERS.items()
        for at, right in zip(TOKENS, answers, strict=True)
    ]
    return pd.DataFrame(rows).assign(group=None, weight=1.0)


def policy(last: int) -> Policy:
    criterion = Criterion(task="t", metric="acc", better="higher")
    return Policy(name="p", primary=(criterion,), alpha=0.05, min_seeds=3, average=Averaging(last=last))


def test_the_mean_over_the_last_checkpoints_equals_a_manual_mean() -> None:
    frame = scores()
    mean = average_last(frame, 3).scores
    assert len(mean) == len(frame) / 4
    assert set(mean["tokens"]) == {100}
    assert set(mean["checkpoints"]) == {3}
    for row in mean.itertuples():
        run = frame[(frame["mix"] == row.mix) & (frame["seed"] == row.seed) & (frame["metric"] == row.metric)]
        values = run.set_index("tokens")["value"]
        assert row.value == pytest.approx((values[90] + values[95] + values[100]) / 3, abs=1e-15)
        assert (row.n, row.stderr, row.chance) == (200, pytest.approx(0.02), 0.25)


def test_averaging_one_checkpoint_or_averaging_twice_changes_nothing() -> None:
    frame = scores()
    assert average_last(frame, 1).scores is frame
    mean = average_last(frame, 2).scores
    assert average_last(mean, 2).scores is mean
    with pytest.raises(AssayError, match="means over 2 checkpoints, but the policy averages the last 3"):
        average_last(mean, 3)


def test_items_are_averaged_individually_and_add_up_to_the_scores() -> None:
    """Copies of an item that a benchmark holds twice stay separate."""
    table = pd.concat([items(), items()[lambda rows: rows["item"] == "a"].assign(value=0.0)], ignore_index=True)
    value = table.groupby("tokens")["value"].mean()
    frame = pd.DataFrame(
        {"mix": "today", "seed": 0, "tokens": TOKENS, "task": "t", "metric": "acc", "value": value[list(TOKENS)]}
    )
    mean = average_last(frame, 3, items=table)
    assert mean.items is not None
    assert sorted(zip(mean.items["item"], mean.items["value"].round(9), strict=True)) == [
        ("a", 0.0),
        ("a", round(2 / 3, 9)),
        ("b", round(1 / 3, 9)),
        ("c", 1.0),
    ]
    assert mean.items["value"].mean() == pytest.approx(mean.scores["value"].item())


def test_compare_and_the_gate_use_the_mean_and_the_verdict_reports_it() -> None:
    frame = scores()
    by_hand = average_last(frame, 3).scores.drop(columns="checkpoints")
    (want,) = (c for c in compare(by_hand, policy(1), baseline="today") if c.metric == "acc")
    (comparison,) = (c for c in compare(frame, policy(3), baseline="today") if c.metric == "acc")
    assert (comparison.effect, comparison.ci_low, comparison.p) == (want.effect, want.ci_low, want.p)
    verdict = decide(frame, policy(3), baseline="today", candidate="new")
    assert verdict.comparisons[0].effect == comparison.effect
    assert verdict.scope[-1] == Reason(code=Code.SCOPE_CHECKPOINT_MEANS, figures={"last": 3})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f[~((f["seed"] == 1) & (f["tokens"] == 95) & (f["mix"] == "new"))], "new seed 1 lack one of the last 3"),
        (lambda f: f[f["tokens"] > 90], "scored at 2 checkpoints \\(tokens 95, 100\\), but the policy averages the last 3"),
        (lambda f: f[(f["mix"] == "new") | (f["tokens"] != 90)], "are at 50%, 95%, 100% of its training, but the last checkpoints of new"),
        (lambda f: pd.concat([f, f.tail(1)]), "several rows for mix new, seed 2, task t, metric bits_per_byte at 100"),
        (lambda f: f.drop(columns="tokens"), "no column 'tokens'"),
        (lambda f: f.assign(n=f["tokens"]), "different numbers of items at its checkpoints"),
    ],
)  # fmt: skip
def test_averaging_over_fewer_or_mismatched_checkpoints_is_refused(change: Any, message: str) -> None:
    with pytest.raises(AssayError, match=message):
        average_last(change(scores()), 3)


@pytest.mark.parametrize("tokens", [(TOKENS[-1],), (TOKENS[0], 2 * TOKENS[0], 9 * TOKENS[0])])
def test_a_mix_without_the_checkpoints_blocks_no_verdict_on_other_mixes(tokens: tuple[int, ...]) -> None:
    rule, compared = policy(3), {"baseline": "today", "candidate": "new"}
    alone = decide(scores(), rule, **compared)
    verdict = decide(pd.concat([scores(), scores(("short",), tokens)]), rule, **compared)
    assert verdict.comparisons == alone.comparisons
    reason = next(reason for reason in verdict.reasons if reason.code is Code.MIXES_NOT_AVERAGED)
    assert reason.figures == {"mixes": ("short",), "last": 3}
    assert Code.MIXES_NOT_AVERAGED not in {reason.code for reason in alone.reasons}
    with pytest.raises(AssayError, match="short"):
        decide(pd.concat([scores(), scores(("short",), tokens)]), rule, baseline="today", candidate="short")


def test_a_non_finite_value_at_one_checkpoint_makes_the_mean_non_finite() -> None:
    frame = scores()
    at = frame.index[(frame["tokens"] == 95) & (frame["metric"] == "acc")][0]
    for broken in (math.nan, math.inf):
        mean = average_last(frame.assign(value=frame["value"].where(frame.index != at, broken)), 3).scores
        assert (~np.isfinite(mean["value"])).sum() == 1


def test_an_empty_table_stays_empty() -> None:
    assert average_last(scores().head(0), 3, items=items().head(0)).scores.empty


@pytest.mark.parametrize("wrong", [{"last": 0}, {"last": 2, "every": 0.0}, {"last": 11, "every": 0.1}])
def test_an_average_that_exceeds_a_run_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(AssayError, match="policy: `average` with `last`"):
        Averaging(**wrong)


def test_the_averaged_checkpoints_are_evenly_spaced_before_the_end() -> None:
    assert Averaging(last=3, every=0.1).shares == pytest.approx((0.8, 0.9))
    assert Averaging().shares == ()
