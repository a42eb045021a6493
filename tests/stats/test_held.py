"""How often an early difference held: counted by hand in small pasts."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pandas as pd
import pytest

from assay.errors import AssayError
from assay.stats.held import how_often


def past(ends: dict[str, tuple[float, float]], *, wiggle: float = 0.1, scale: str = "20M") -> pd.DataFrame:
    """Mixes by their scores at 25% and at the end, two seeds each that differ by twice the wiggle."""
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
"""The mix that is best at 25% is worst at the end."""


def asked(history: pd.DataFrame, **changes: Any) -> Any:
    given = {"task": "code", "metric": "loss", "share": 0.25, "effect": 0.5, "noise": math.nan, "scale": 20e6}
    return how_often(history, **{**given, **changes})


def test_the_pairs_that_kept_their_order_are_counted_among_those_that_were_as_far_apart() -> None:
    found = asked(past(TURNED))
    assert (found.n_mixes, found.n_pairs, found.problem) == (6, 15, "")
    assert found.held == pytest.approx(10 / 15), "five pairs have m5 in them"
    assert found.size == pytest.approx(0.5 / math.sqrt(0.02)), "in SDs of two seeds that are 0.2 apart"
    assert "67% of 15 pairs" in found.sentence


def test_only_pairs_that_were_at_least_as_far_apart_count() -> None:
    ends = {f"m{i}": (float(i), float(i)) for i in range(8)}
    found = asked(past(ends), effect=3.0)
    assert found.n_pairs == sum(b - a >= 3 for a, b in itertools.combinations(range(8), 2))


def test_a_signal_beyond_all_past_ones_is_held_against_the_farthest_and_says_so() -> None:
    found = asked(past(STRAIGHT), effect=100.0)
    assert (found.n_pairs, found.held) == (10, 1.0)
    assert found.at_most < found.size
    assert "no past pairs were as far apart" in found.sentence


def test_judged_mixes_and_other_scales_teach_nothing() -> None:
    table = pd.concat([past(STRAIGHT), past({"other": (0.0, 9.0)}, scale="150M")])
    found = asked(table, without={"m5"})
    assert found.n_mixes == 5
    assert math.isnan(found.held)
    assert "5 other mixes" in found.sentence
    assert "at least 6" in found.sentence


def test_mixes_without_a_score_near_the_share_or_at_the_end_are_left_out() -> None:
    table = past(STRAIGHT)
    far = past({"far": (0.0, 0.0)}).assign(tokens=lambda f: f["tokens"].replace(250, 500))
    assert asked(pd.concat([table, far])).n_mixes == 6
    assert asked(table, share=0.27).n_mixes == 6, "within a fifth of the share"
    assert asked(table, share=0.5).n_mixes == 0


def test_where_the_past_has_no_replicates_the_judged_noise_is_the_unit_or_nothing_is_said() -> None:
    table = past(STRAIGHT)
    table = table[table["seed"] == 0]
    assert asked(table, noise=0.25).size == pytest.approx(2.0)
    assert "nobody knows the noise" in asked(table).sentence


def test_pairs_that_end_alike_say_nothing() -> None:
    assert "only 0 past pairs differ" in asked(past({f"m{i}": (float(i), 1.0) for i in range(6)})).sentence


def test_a_table_without_tokens_is_refused() -> None:
    with pytest.raises(AssayError, match="history has no column 'tokens'"):
        asked(past(STRAIGHT).drop(columns="tokens"))


def test_pairs_that_were_much_farther_apart_do_not_speak_for_a_small_signal() -> None:
    """Neighbours end in the other order, everybody else in the same: a signal of a neighbour's size mostly does not hold."""
    ends = {f"m{i:02}": (float(i), float(i - 1.5 if i % 2 else i)) for i in range(40)}
    small, large = (asked(past(ends), effect=size) for size in (0.9, 5.0))
    assert small.n_pairs == large.n_pairs == 30
    assert small.held < 0.7
    assert large.held == 1.0
