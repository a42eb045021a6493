"""A history that does not fit the compared mixes is refused or excluded, and each exclusion has a reason."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from assay.analysis.gate import Verdict, decide
from assay.config.policy import Policy, Target
from assay.config.reason import Code, Reason
from assay.core.errors import AssayError
from tests.helpers.reasons import codes

TARGET = Target(scale="1B", task="core", metric="score", better="higher")
POLICY = Policy(name="t", alpha=0.05, min_seeds=1, proxy_scale="150M", target=TARGET)


def _past(
    mixes: int = 20, *, name: str = "m", seed: int = 0, slope: float = 1.5, shift: float = 0.0, **columns: object
) -> pd.DataFrame:
    """Single runs of past mixes, from .34 to .46 at the proxy, with errors of a fifteenth of that range."""
    rng = np.random.default_rng(seed)
    near = 0.4 + np.linspace(-0.06, 0.06, mixes)
    far = 0.5 + shift + slope * (near - 0.4) + 0.008 * rng.standard_normal(mixes)
    names = [f"{name}{i}" for i in range(mixes)]
    rows = [_rows(names, near, "150M", 3e9), _rows(names, far, "1B", 2e10)]
    return pd.concat(rows, ignore_index=True).assign(**columns)


def _rows(mixes: list[str], values: object, scale: str, tokens: float) -> pd.DataFrame:
    return pd.DataFrame(
        {"mix": mixes, "seed": 0, "scale": scale, "tokens": tokens, "task": "core", "metric": "score", "value": values}
    )


def _decide(history: pd.DataFrame, base: float = 0.37, new: float = 0.43, **columns: object) -> Verdict:
    results = _rows(["base", "new"], [base, new], "150M", 3e9).assign(**columns)
    return decide(results, POLICY, baseline="base", candidate="new", history=history)


def _reasons(verdict: Verdict, code: Code) -> dict[str, Reason]:
    return {reason.subject: reason for reason in verdict.reasons if reason.code is code}


def test_single_runs_are_decided_by_a_history_of_single_runs() -> None:
    verdict = _decide(_past())
    assert verdict.decision == "ACCEPT"
    assert verdict.target is not None
    assert verdict.target.ci_low > 0
    assert verdict.target.level == pytest.approx(1 - 2 * verdict.target.allowed)
    assert _decide(_past(), 0.399, 0.401).decision == "INCONCLUSIVE"


@pytest.mark.parametrize(("base", "new"), [(0.4, 1.6), (0.9, 0.95), (0.37, 0.62)])
def test_a_mix_far_outside_the_range_of_the_history_is_not_predicted(base: float, new: float) -> None:
    verdict = _decide(_past(), base, new)
    assert verdict.decision == "INCONCLUSIVE"
    assert verdict.target is not None
    assert "outside the range" in verdict.target.problem
    assert Code.NEED_LARGER_HISTORY in codes(verdict.needed)


def test_a_difference_outside_the_range_of_the_history_counts_as_error() -> None:
    inside, both, one = _decide(_past(), 0.35, 0.37), _decide(_past(), 0.475, 0.495), _decide(_past(), 0.36, 0.49)
    assert both.decision == "INCONCLUSIVE"
    assert (inside.decision, one.decision) == ("ACCEPT", "ACCEPT")
    assert _reasons(both, Code.TARGET_WIDENED)["range"].figures["fraction"] == pytest.approx(1)
    assert 0 < _reasons(one, Code.TARGET_WIDENED)["range"].figures["fraction"] < 0.3
    assert not _reasons(inside, Code.TARGET_WIDENED)


def test_a_negative_slope_is_refused() -> None:
    verdict = _decide(_past(slope=-1.5))
    assert verdict.decision == "INCONCLUSIVE"
    assert verdict.target is not None
    assert "better core score at the proxy have worse" in verdict.target.problem


@pytest.mark.parametrize(
    ("subject", "change"),
    [
        ("setting", {"version": "2"}),
        ("setting", {"num_fewshot": 5}),
        ("setting", {"prompt": "b"}),
        ("tokens", {"tokens": 6e9}),
        ("tokens", {"tokens": 1.5e9}),
    ],
)
def test_past_runs_with_other_settings_or_tokens_are_excluded(subject: str, change: dict[str, object]) -> None:
    usual = {"version": "1", "num_fewshot": 0, "prompt": "a"}
    other = _past(name="other", seed=1, shift=0.3, **(usual | change))
    mixed = _decide(pd.concat([_past(**usual), other]), **usual)
    assert mixed.decision == "ACCEPT"
    assert len(_reasons(mixed, Code.HISTORY_EXCLUDED)[subject].figures["mixes"]) == 20
    assert mixed.target is not None
    assert mixed.target.effect == _decide(_past(**usual), **usual).target.effect  # type: ignore[union-attr]
    alone = _decide(other, **usual)
    assert alone.decision == "INCONCLUSIVE"
    assert alone.reasons[0].code is Code.TARGET_UNKNOWN


@pytest.mark.parametrize(("scale", "value"), [("150M", 40.0), ("1B", -1.0)])
def test_an_absurd_row_is_excluded(scale: str, value: float) -> None:
    history = _past()
    history.loc[(history["mix"] == "m3") & (history["scale"] == scale), "value"] = value
    verdict = _decide(history)
    assert verdict.decision == "ACCEPT"
    assert _reasons(verdict, Code.HISTORY_EXCLUDED)["outlier"].figures["mixes"] == ("m3",)


def test_a_past_mix_with_an_unexpected_result_is_named_and_its_error_counts() -> None:
    history = _past()
    history.loc[(history["mix"] == "m3") & (history["scale"] == "1B"), "value"] = 0.7
    verdict, usual = _decide(history), _decide(_past())
    assert _reasons(verdict, Code.TARGET_WIDENED)["unexpected"].figures["mixes"] == ("m3",)
    assert verdict.reliability is not None
    assert usual.reliability is not None
    assert verdict.reliability.n_mixes == 20
    assert verdict.reliability.accuracy < usual.reliability.accuracy


def test_copies_of_a_recipe_count_once() -> None:
    history = _past()
    copies = [history[history["mix"] == "m3"].assign(mix=f"copy{i}") for i in range(30)]
    verdict = _decide(pd.concat([history, *copies]))
    assert verdict.reliability is not None
    assert verdict.reliability.n_mixes == 20
    assert len(_reasons(verdict, Code.HISTORY_EXCLUDED)["copy"].figures["mixes"]) == 30


def test_a_copy_of_a_compared_mix_in_the_history_is_excluded() -> None:
    history = _past()
    value = float(history.loc[(history["mix"] == "m3") & (history["scale"] == "150M"), "value"].iloc[0])
    verdict = _decide(history, base=value)
    assert _reasons(verdict, Code.HISTORY_EXCLUDED)["same_as_arm"].figures["mixes"] == ("m3",)


def test_mixes_without_a_result_at_one_scale_are_reported() -> None:
    history = _past()
    partly = history[~((history["mix"] == "m3") & (history["scale"] == "1B"))]
    assert _reasons(_decide(partly), Code.HISTORY_EXCLUDED)["scale"].figures == {"mixes": ("m3",), "scale": "1B"}
    missing = history.assign(value=history["value"].where(history["mix"] != "m4", math.nan))
    assert _decide(missing).reliability.n_mixes == 19  # type: ignore[union-attr]


def _families(shift: float, names: str = "abcde") -> pd.DataFrame:
    shifts = shift * np.linspace(-1, 1, len(names))
    parts = [_past(7, name=name, seed=i, shift=shifts[i], family=name) for i, name in enumerate(names)]
    return pd.concat(parts, ignore_index=True)


def test_a_family_without_past_mixes_is_undecided_if_the_families_are_too_few() -> None:
    for history in (_past(family="a"), _families(0, "ab")):
        assert _decide(history, family="a").decision == "ACCEPT"
        verdict = _decide(history, family="z")
        assert verdict.decision == "INCONCLUSIVE"
        assert verdict.target is not None
        assert "no mixes of the family z" in verdict.target.problem
        assert not _reasons(verdict, Code.TARGET_WIDENED)


def test_the_error_for_a_new_family_is_that_of_past_families_predicted_from_the_others() -> None:
    known, new = _decide(_families(0), family="a"), _decide(_families(0), family="z")
    assert (known.decision, new.decision) == ("ACCEPT", "ACCEPT")
    assert _reasons(new, Code.TARGET_WIDENED)["family"].figures["families"] == ("z",)
    # The families' offsets cancel within a family, but not between a known and a new family.
    results = _rows(["base", "new"], [0.37, 0.43], "150M", 3e9).assign(family=["a", "z"])
    apart = decide(results, POLICY, baseline="base", candidate="new", history=_families(0.2))
    assert apart.decision == "INCONCLUSIVE"
    assert _decide(_families(0.2), family="z").decision == "ACCEPT"
    assert _decide(_families(0.2)).decision == "INCONCLUSIVE", "mixes without a label are of an unknown family"


def test_a_mix_with_two_families_is_refused() -> None:
    history = _past(family="a")
    history.loc[0, "family"] = "b"
    with pytest.raises(AssayError, match="several families for mix m0: a, b"):
        _decide(history, family="a")


def _profiles(mixes: list[str], scores: np.ndarray, shift: float) -> pd.DataFrame:
    rng = np.random.default_rng(5)
    others = scores[:, None] + shift + 0.01 * rng.standard_normal((len(mixes), 6))
    parts = [_rows(mixes, others[:, i], "150M", 3e9).assign(task=f"task{i}") for i in range(6)]
    return pd.concat(parts, ignore_index=True)


@pytest.mark.parametrize(("shift", "decision"), [(0.0, "ACCEPT"), (0.2, "INCONCLUSIVE")])
def test_a_mix_with_an_unusual_profile_over_all_metrics_is_not_predicted(shift: float, decision: str) -> None:
    past = _past()
    near = past[past["scale"] == "150M"]
    history = pd.concat([past, _profiles(near["mix"].tolist(), near["value"].to_numpy(), 0.0)])
    arms = pd.concat(
        [
            _rows(["base", "new"], [0.37, 0.43], "150M", 3e9),
            _profiles(["base", "new"], np.array([0.37, 0.43]), shift),
        ]
    )
    verdict = decide(arms, POLICY, baseline="base", candidate="new", history=history)
    assert verdict.decision == decision
    assert verdict.target is not None
    assert ("over all metrics" in verdict.target.problem) == (decision != "ACCEPT")


def test_the_best_predictor_is_selected_on_past_mixes_only() -> None:
    past = _past(40)
    near = past[past["scale"] == "150M"].reset_index(drop=True)
    noise = 0.03 * np.random.default_rng(7).standard_normal(len(near))
    noisy = near.assign(value=near["value"] + noise)
    history = pd.concat([past[past["scale"] == "1B"], noisy, near.assign(task="loss_task")])
    arms = pd.concat(
        [
            _rows(["base", "new"], [0.40, 0.402], "150M", 3e9),
            _rows(["base", "new"], [0.37, 0.43], "150M", 3e9).assign(task="loss_task"),
        ]
    )
    best = Policy(
        name="t",
        alpha=0.05,
        min_seeds=1,
        proxy_scale="150M",
        target=Target(scale="1B", task="core", metric="score", better="higher", predictor="best"),
        directions={"loss_task score": "higher"},
    )
    chosen = decide(arms, best, baseline="base", candidate="new", history=history)
    assert chosen.target is not None
    assert chosen.target.predictor == "loss_task score"
    assert chosen.decision == "ACCEPT"
    assert decide(arms, POLICY, baseline="base", candidate="new", history=history).decision == "INCONCLUSIVE"


@pytest.mark.parametrize("mixes", [6, 8, 11, 12, 25, 100, 1000])
def test_any_number_of_past_mixes_from_six_can_decide(mixes: int) -> None:
    rng = np.random.default_rng(3)
    near = np.linspace(0, 1, mixes)
    names = [f"m{i}" for i in range(mixes)]
    far = near + 0.02 * rng.standard_normal(mixes)
    history = pd.concat([_rows(names, near, "150M", 3e9), _rows(names, far, "1B", 2e10)])
    assert _decide(history, 0.1, 0.9).decision == "ACCEPT"
    assert _decide(history, 0.5, 0.5001).decision == "INCONCLUSIVE"


def test_the_next_steps_use_the_scales_of_the_history() -> None:
    """Also if the target is predicted from another metric, so that no power is known."""
    past = _past()
    near = past[past["scale"] == "150M"]
    middle = near.assign(scale="300M", tokens=6e9, value=near["value"] + 0.002 * (np.arange(20) % 3))
    for task, known in (("core", True), ("other", False)):
        history = pd.concat([past[past["scale"] == "1B"], near.assign(task=task), middle])
        arms = _rows(["base", "new"], [0.399, 0.401], "150M", 3e9).assign(task=task)
        verdict = decide(arms, POLICY, baseline="base", candidate="new", history=history)
        [option] = [option for option in verdict.options if option.kind == "proxy"]
        assert option.what.figures["scale"] == "300M"
        assert (option.power is not None) == known


def test_a_history_of_mixes_without_comparable_runs_is_named_in_the_problem() -> None:
    verdict = _decide(_past(tokens=3e10))
    assert verdict.target is not None
    assert "comparable runs of the history's mixes" in verdict.target.problem
    assert Code.NEED_LARGER_HISTORY in codes(verdict.needed)
