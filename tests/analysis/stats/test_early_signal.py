"""How often an early difference keeps its sign, counted manually in small histories."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pandas as pd
import pytest

from assay.analysis.stats.early_signal import count_persistence
from assay.config.reason import Code
from assay.core.errors import AssayError


def past(ends: dict[str, tuple[float, float]], *, wiggle: float = 0.1, scale: str = "20M") -> pd.DataFrame:
    """Build mixes from their scores at 25% and at the end, two seeds each that differ by twice the wiggle."""
    return pd.DataFrame(
        {
            "mix": mix,
            "seed": seed,
            "scale": scale,
            "tokens": tokens,
            "task": "code",
            "metric": "loss",
            "value": value + d,
        }
        for mix, (early, last) in ends.items()
        for seed, d in ((0, -wiggle), (1, wiggle))
        for tokens, value in ((250, early), (1000, last))
    )


STRAIGHT = {f"m{i}": (float(i), float(i)) for i in range(6)}
TURNED = {**STRAIGHT, "m5": (5.0, -1.0)}
"""The best mix at 25% is the worst at the end."""


def count(history: pd.DataFrame, **changes: Any) -> Any:
    arguments = {"task": "code", "metric": "loss", "fraction": 0.25, "effect": 0.5, "noise": math.nan, "scale": 20e6}
    return count_persistence(history, **{**arguments, **changes})


def test_pairs_that_kept_their_order_are_counted_among_equally_distant_pairs() -> None:
    signal = count(past(TURNED))
    assert (signal.n_mixes, signal.n_pairs, signal.problem) == (6, 15, "")
    assert signal.persisted == pytest.approx(10 / 15), "five pairs contain m5"
    assert signal.size == pytest.approx(0.5 / math.sqrt(0.02)), "in SDs of two seeds that are 0.2 apart"
    assert signal.reason.code is Code.PERSISTENCE


def test_only_pairs_at_least_as_far_apart_count() -> None:
    ends = {f"m{i}": (float(i), float(i)) for i in range(8)}
    signal = count(past(ends), effect=3.0)
    assert signal.n_pairs == sum(b - a >= 3 for a, b in itertools.combinations(range(8), 2))


def test_a_signal_beyond_all_past_pairs_is_compared_with_the_farthest_pairs() -> None:
    signal = count(past(STRAIGHT), effect=100.0)
    assert (signal.n_pairs, signal.persisted) == (10, 1.0)
    assert signal.at_most < signal.size
    assert "no past pairs were as far apart" in signal.problem


def test_compared_mixes_and_other_scales_are_excluded() -> None:
    table = pd.concat([past(STRAIGHT), past({"other": (0.0, 9.0)}, scale="150M")])
    signal = count(table, without={"m5"})
    assert signal.n_mixes == 5
    assert math.isnan(signal.persisted)
    assert signal.reason.code is Code.PERSISTENCE_UNKNOWN
    assert "5 other mixes" in signal.problem
    assert "at least 6" in signal.problem


def test_mixes_without_an_early_or_a_final_score_are_excluded() -> None:
    table = past(STRAIGHT)
    far = past({"far": (0.0, 0.0)}).assign(tokens=lambda f: f["tokens"].replace(250, 500))
    assert count(pd.concat([table, far])).n_mixes == 6
    assert count(table, fraction=0.27).n_mixes == 6, "within a fifth of the fraction"
    assert count(table, fraction=0.5).n_mixes == 0


def test_without_past_replicates_the_compared_noise_is_the_unit() -> None:
    table = past(STRAIGHT)
    table = table[table["seed"] == 0]
    assert count(table, noise=0.25).size == pytest.approx(2.0)
    assert "the noise is unknown" in count(table).problem


def test_pairs_with_equal_final_scores_give_no_estimate() -> None:
    assert "only 0 past pairs differ" in count(past({f"m{i}": (float(i), 1.0) for i in range(6)})).problem


def test_a_table_without_tokens_is_refused() -> None:
    with pytest.raises(AssayError, match="history has no column 'tokens'"):
        count(past(STRAIGHT).drop(columns="tokens"))


def test_distant_pairs_do_not_represent_a_small_signal() -> None:
    """Neighbors swap their order and all other pairs keep it, so a signal of a neighbor's size mostly does not hold."""
    ends = {f"m{i:02}": (float(i), float(i - 1.5 if i % 2 else i)) for i in range(40)}
    small, large = (count(past(ends), effect=size) for size in (0.9, 5.0))
    assert small.n_pairs == large.n_pairs == 30
    assert small.persisted < 0.7
    assert large.persisted == 1.0
