"""Each metric of a table has one unit: percent and fractions, bits and nats never meet in a comparison."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pandas as pd
import pytest

from assay.analysis.compare import compare
from assay.analysis.gate import decide
from assay.analysis.results import with_units
from assay.analysis.stats.units import find_gap, require_possible, to_one_unit
from assay.config.policy import Criterion
from assay.config.reason import Code
from assay.core.errors import AssayError
from tests.helpers.reasons import first
from tests.helpers.studies import policy

MATH = policy(primary=(Criterion(task="sums", metric="acc", better="higher"),), guardrails=())
OFFSETS = (0.0, 0.004, 0.001)


def rows(
    old: float, new: float, *, metric: str = "acc", scale: float = 1.0, spread: float = 1.0, **more: Any
) -> pd.DataFrame:
    """Three seeds of two mixes; `spread` multiplies the differences of seeds, and `scale` the values."""
    values = [
        (mix, seed, "sums", metric, scale * (level + spread * OFFSETS[(seed + at) % 3]))
        for at, (mix, level) in enumerate((("old", old), ("new", new)))
        for seed in range(3)
    ]
    return pd.DataFrame(values, columns=["mix", "seed", "task", "metric", "value"]).assign(**more)


def refusal(frame: pd.DataFrame, **more: Any) -> str:
    with pytest.raises(AssayError) as error:
        compare(frame, MATH, baseline="old", **more)
    return str(error.value)


@pytest.mark.parametrize("more", [{}, {"n": 1000, "chance": 0.25}, {"n": 1000, "chance": 25.0, "stderr": 1.4}])
def test_percent_in_both_arms_gives_the_effect_of_fractions(more: dict[str, float]) -> None:
    fractions = {**more, "chance": 0.25} if "chance" in more else more
    [expected] = compare(
        rows(0.40, 0.46, **{k: v for k, v in fractions.items() if k != "stderr"}), MATH, baseline="old"
    )
    verdict = decide(rows(0.40, 0.46, scale=100, **more), MATH, baseline="old", candidate="new")
    [measured] = verdict.comparisons
    for name in ("effect", "ci_low", "ci_high", "p", "noise", "mde", "baseline_mean"):
        assert getattr(measured, name) == pytest.approx(getattr(expected, name), rel=1e-9)
    assert measured.signal == expected.signal
    reason = first(verdict.reasons, Code.UNIT_CONVERTED)
    assert (reason.figures["unit"], reason.figures["to"], reason.figures["values"]) == ("percent", "fraction", 6)
    assert reason.figures["mixes"] == ("new", "old")


def test_a_table_of_fractions_is_unchanged() -> None:
    frame = rows(0.40, 0.46, n=1000, chance=0.25, stderr=0.015)
    assert to_one_unit(frame, "results").frame is frame


def _with_new(factor: float, *, seeds: Sequence[int] = (0, 1, 2), old: float = 0.4, new: float = 0.46) -> pd.DataFrame:
    frame = rows(old, new, spread=min(1.0, 10 * old))
    marked = (frame["mix"] == "new") & frame["seed"].isin(seeds)
    return frame.assign(value=frame["value"].where(~marked, factor * frame["value"]))


@pytest.mark.parametrize(
    ("frame", "parts"),
    [
        (_with_new(100), ("sums acc is 46", "new seed 0", "old seed 0", "percent and fractions are mixed")),
        (_with_new(100, seeds=[2]), ("new seed 2", "1 value is above 1")),
        (_with_new(2.6, seeds=[1]), ("new seed 1",)),
        (_with_new(100, old=0.009, new=0.0088), ("old seed 1", "new seed 2", "percent and fractions appear to be mixed")),
        (_with_new(100, old=0.009, new=0.0088, seeds=[1]), ("new seed 1,", "appear to be mixed")),
        (_with_new(0.01), ("old seed", "new seed", "appear to be mixed")),
        (_with_new(1000), ("new seed 0", "is invalid; expected a fraction of 1, or a percentage from 0 to 100")),
        (_with_new(-1), ("new seed 0", "-0.46", "is invalid")),
        (rows(0.4, 0.46, chance=250), ("chance level 250",)),
    ],
    ids=["arm", "seed", "above one", "below one percent", "one seed below one percent", "divided twice", "above 100",
         "negative", "chance"],
)  # fmt: skip
def test_values_in_two_units_or_in_none_are_refused_with_their_run(frame: pd.DataFrame, parts: Sequence[str]) -> None:
    message = refusal(frame)
    for part in parts:
        assert part in message


@pytest.mark.parametrize("metric", ["exact_match", "f1", "acc_norm", "exact_match,strict-match"])
def test_every_metric_between_0_and_1_has_one_unit(metric: str) -> None:
    rule = policy(primary=(Criterion(task="sums", metric=metric, better="higher"),), guardrails=())
    frame = rows(0.40, 0.46, metric=metric, scale=100)
    [measured] = compare(frame, rule, baseline="old")
    assert measured.effect == pytest.approx(0.06)
    with pytest.raises(AssayError, match="are mixed"):
        compare(frame.assign(value=frame["value"].where(frame["mix"] == "old", 0.5)), rule, baseline="old")


def test_an_unknown_metric_that_decides_is_refused_if_its_arms_are_a_hundred_times_apart() -> None:
    rule = policy(primary=(Criterion(task="sums", metric="pass@1", better="higher"),), guardrails=())
    frame = _with_new(100).assign(metric="pass@1")
    with pytest.raises(AssayError, match="appear to be mixed"):
        compare(frame, rule, baseline="old")
    declared = frame.assign(unit=["fraction"] * 3 + ["percent"] * 3)
    [measured] = compare(declared, rule, baseline="old")
    assert measured.effect == pytest.approx(0.06)


def test_a_declared_unit_is_converted_and_stated() -> None:
    frame = _with_new(100, old=0.004, new=0.0042).assign(unit=[None] * 3 + ["%"] * 3)
    verdict = decide(frame, MATH, baseline="old", candidate="new")
    assert verdict.comparisons[0].effect == pytest.approx(0.0002, abs=1e-9)
    reason = first(verdict.reasons, Code.UNIT_CONVERTED)
    assert reason.figures["declared"] is True
    assert reason.figures["mixes"] == ("new",)


def test_a_declared_fraction_may_differ_by_any_factor() -> None:
    frame = rows(0.002, 0.4)
    assert "appear to be mixed" in refusal(frame)
    [measured] = compare(frame.assign(unit="fraction"), MATH, baseline="old")
    assert measured.effect == pytest.approx(0.398)


@pytest.mark.parametrize(
    ("unit", "expected"),
    [
        (["fraction"] * 6, "expected a value from 0 to 1, because the declared unit is fraction"),
        (["bits"] * 6, "unit 'bits' is invalid; expected percent or fraction"),
    ],
)
def test_a_declaration_that_contradicts_the_values_is_refused(unit: list[str], expected: str) -> None:
    assert expected in refusal(rows(0.4, 0.46, scale=100).assign(unit=unit))


def test_small_percentages_are_recognized_by_their_standard_errors() -> None:
    """The standard error of 0.9% of 1000 items is 0.3 points; that of the fraction 0.9 is 0.0095."""
    small = rows(0.009, 0.0088, scale=100, spread=0.1, n=1000)
    errors = [100 * math.sqrt(v / 100 * (1 - v / 100) / 1000) for v in small["value"]]
    assert "fits 0.9 percent, not a fraction of 1" in refusal(small.assign(stderr=errors))
    plausible = [math.sqrt(v * (1 - v) / 1000) for v in small["value"]]
    assert compare(small.assign(stderr=plausible), MATH, baseline="old")


def test_small_percentages_are_recognized_by_their_item_counts() -> None:
    """A percentage of n items is a multiple of 100 / n, so that value times n is a multiple of 100."""
    n, counts = 1319, (7, 9, 8, 11, 12, 10)
    small = rows(0, 0, n=n).assign(value=[100 * k / n for k in counts])
    assert "the number of items, 1319, fits" in refusal(small)
    rounded = small.assign(value=small["value"].round(2))
    assert "fits" in refusal(rounded)
    large = small.assign(value=[(100 * k + 3) / n for k in counts])
    assert compare(large, MATH, baseline="old"), "fractions of other numbers of items stay"
    coarse = small.assign(value=[0.5, 0.6, 0.7, 0.6, 0.7, 0.8], n=1000)
    assert compare(coarse, MATH, baseline="old"), "one digit does not distinguish the units"


def _past(level: float, scale: float = 1.0) -> pd.DataFrame:
    parts = [rows(level, level + 0.01 * at).assign(mix=lambda t, at=at: t["mix"] + str(at)) for at in range(4)]
    frame = pd.concat(parts, ignore_index=True)
    return frame.assign(value=scale * frame["value"])


def test_a_history_in_percent_gives_the_verdict_of_fractions() -> None:
    table = rows(0.40, 0.46)
    expected = decide(table, MATH, baseline="old", candidate="new", history=_past(0.4))
    verdict = decide(table, MATH, baseline="old", candidate="new", history=_past(0.4, 100))
    [a], [b] = expected.comparisons, verdict.comparisons
    assert (b.effect, b.ci_low, b.ci_high) == pytest.approx((a.effect, a.ci_low, a.ci_high))
    assert verdict.decision == expected.decision
    assert first(verdict.reasons, Code.UNIT_CONVERTED).subject == "history"


def test_a_history_of_small_percentages_is_refused() -> None:
    """0.8% in the history and 0.008 in the results are the same score."""
    message = refusal(rows(0.008, 0.009), history=_past(0.008, 100).assign(value=lambda t: t["value"].clip(upper=1.0)))
    assert "in the history" in message
    assert "appear to be mixed" in message


def test_a_history_with_one_mix_in_percent_is_refused() -> None:
    past = _past(0.4)
    past.loc[past["mix"] == "new2", "value"] *= 100
    assert "new2 seed 0" in refusal(rows(0.40, 0.46), history=past)


LOSS = policy(primary=(Criterion(task="sums", metric="nll", better="lower"),), guardrails=())


def test_nats_are_converted_to_bits_if_a_metric_has_both() -> None:
    frame = rows(2.0, 1.9, metric="nll")
    new = frame["mix"] == "new"
    mixed = frame.assign(
        value=frame["value"].where(~new, frame["value"] * math.log(2)), unit=["bits"] * 3 + ["nats"] * 3
    )
    verdict = decide(mixed, LOSS, baseline="old", candidate="new")
    assert verdict.comparisons[0].effect == pytest.approx(-0.1)
    reason = first(verdict.reasons, Code.UNIT_CONVERTED)
    assert (reason.figures["unit"], reason.figures["to"], reason.figures["values"]) == ("nats", "bits", 3)
    alone = decide(frame.assign(unit="nats"), LOSS, baseline="old", candidate="new")
    assert alone.comparisons[0].effect == pytest.approx(-0.1), "one unit needs no conversion"


@pytest.mark.parametrize(
    ("units", "expected"),
    [
        (["bits"] * 3 + [None] * 3, "3 declare none, such as new seed 0"),
        (["bits per token"] * 3 + ["nats per byte"] * 3, "the units bits per token, nats per byte are invalid"),
    ],
)
def test_units_of_a_loss_without_a_known_conversion_are_refused(units: list[str | None], expected: str) -> None:
    with pytest.raises(AssayError) as error:
        compare(rows(2.0, 1.9, metric="nll").assign(unit=units), LOSS, baseline="old")
    assert expected in str(error.value)


def test_bits_per_byte_in_nats_per_byte_are_converted() -> None:
    frame = rows(2.0, 1.9, metric="bits_per_byte", scale=math.log(2)).assign(unit="nats/byte")
    converted = to_one_unit(frame, "results").frame
    assert converted["value"].tolist() == pytest.approx(rows(2.0, 1.9)["value"].tolist())


@pytest.mark.parametrize(
    ("metric", "value"), [("word_perplexity", -3.0), ("perplexity", 0.2), ("bits_per_byte", -0.1), ("nll", -1.0)]
)
def test_a_value_below_the_bound_of_its_metric_is_refused(metric: str, value: float) -> None:
    frame = rows(2.0, 1.9, metric=metric)
    require_possible(frame)
    frame.loc[4, "value"] = value
    with pytest.raises(AssayError, match=f"new seed 1: sums {metric}: {value:g} is invalid"):
        require_possible(frame)
    rule = policy(primary=(Criterion(task="sums", metric=metric, better="lower"),), guardrails=())
    with pytest.raises(AssayError, match="is invalid"):
        decide(frame, rule, baseline="old", candidate="new")


def test_a_gap_is_a_ratio_of_30_between_neighbors() -> None:
    import numpy as np

    assert find_gap(np.array([0.01, 0.011, 0.5, 0.52])) == (0.011, 0.5)
    assert find_gap(np.array([0.005, 0.02, 0.08, 0.3])) is None, "a wide range has no gap"
    assert find_gap(np.array([0.0, 0.5, math.nan])) is None
    assert find_gap(np.array([0.001, 0.04]), n_items=1000) is None, (
        "0.04 percent of 1000 items is less than half an item"
    )


def test_scores_of_one_evaluation_have_one_unit() -> None:
    """Some lm-eval tasks report percentages, which may be on both sides of 1 for small models."""
    small = rows(0.009, 0.0125, metric="f1", scale=100, spread=0.1)
    rule = policy(primary=(Criterion(task="sums", metric="f1", better="higher"),), guardrails=())
    with pytest.raises(AssayError, match="are mixed"):
        compare(small, rule, baseline="old")
    [measured] = compare(with_units(small), rule, baseline="old")
    assert measured.effect == pytest.approx(0.0035, rel=1e-6)
    rare = rows(0.002, 0.4, metric="f1", spread=0.01)
    [measured] = compare(with_units(rare), rule, baseline="old")
    assert measured.effect == pytest.approx(0.398, abs=1e-4)
    broken = with_units(small.assign(value=small["value"].where(small["seed"] > 0, math.inf)))
    assert set(broken["unit"]) == {"percent"}
    losses = rows(2.0, 1.9, metric="nll")
    assert with_units(losses) is losses


def test_declared_units_that_leave_the_arms_apart_are_refused() -> None:
    """Declarations of percent and fraction that contradict the values are wrong declarations."""
    fractions = rows(0.40, 0.45)
    wrong = fractions.assign(unit=fractions["mix"].map({"old": "percent", "new": "fraction"}))
    message = refusal(wrong)
    assert "declared as percent" in message
    assert "differ by a factor of 1" in message
    right = fractions.assign(value=fractions["value"].where(fractions["mix"] == "new", fractions["value"] * 100))
    [measured] = compare(right.assign(unit=wrong["unit"]), MATH, baseline="old")
    assert measured.baseline_mean == pytest.approx(0.4, abs=0.01)


@pytest.mark.parametrize(
    ("high", "expected"), [(1, "1 value is above 1 and 5 are not"), (5, "5 values are above 1 and 1 is not")]
)
def test_the_refusal_of_a_mixture_counts_in_grammatical_english(high: int, expected: str) -> None:
    frame = rows(0.40, 0.45)
    assert expected in refusal(frame.assign(value=[40.0] * high + [0.4] * (6 - high)))
