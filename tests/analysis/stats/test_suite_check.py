from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from assay.analysis.stats.suite_check import check_metrics


def past(scores: dict[str, float], *, factor: float = 1.0, **columns: Any) -> pd.DataFrame:
    named = {"scale": "1m", "task": "quiz", "metric": "acc", "n": 2000, "chance": 0.25, **columns}
    return pd.DataFrame(
        [
            {"mix": mix, "seed": seed, "value": factor * (score + noise), **named}
            for mix, score in scores.items()
            for seed, noise in enumerate((-0.002, 0.0005, 0.0015))
        ]
    )


def above(frame: pd.DataFrame) -> str:
    (checked,) = check_metrics(frame, proxy_scale="1m", n_seeds=3)
    return checked.above.state


def test_a_spread_between_mixes_does_not_hide_that_a_metric_is_above_chance_level() -> None:
    """The spread between two mixes counted as noise of their mean."""
    assert above(past({"a": 0.29, "b": 0.60})) == "ok"
    assert above(past({"a": 0.25, "b": 0.252})) == "no signal"


@pytest.mark.parametrize("columns", [{}, {"chance": 25.0}, {"unit": "percent"}, {"n": None}])
def test_percentages_are_checked_as_fractions(columns: dict[str, Any]) -> None:
    expected = "unknown" if "n" in columns else "ok"
    assert above(past({"a": 0.40, "b": 0.42}, factor=100, **columns)) == expected


def test_chance_levels_that_differ_between_runs_leave_the_signal_unknown() -> None:
    frame = pd.concat([past({"a": 0.40}), past({"b": 0.42}, chance=0.3)])
    assert above(frame) == "unknown"
