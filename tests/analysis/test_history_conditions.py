"""Past runs that were trained or evaluated in another way than the compared runs inform no verdict."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from assay.analysis.compare import compare
from assay.analysis.gate import decide
from assay.analysis.stats.history import HistoryTable
from assay.analysis.stats.history_check import Conditions
from assay.config.policy import Criterion, Policy
from assay.config.reason import Code

SAME = {"tokens": 1e10, "version": 2, "num_fewshot": 5}
WEB = Criterion(task="web", metric="bits_per_byte", better="lower")
POLICY = Policy(name="p", alpha=0.05, min_seeds=1, primary=(WEB,))


def scores(mix: str, values: list[float], **columns: Any) -> list[dict[str, Any]]:
    named = {"mix": mix, "task": "web", "metric": "bits_per_byte", "scale": "150M", **SAME, **columns}
    return [{**named, "seed": seed, "value": value} for seed, value in enumerate(values)]


def arms() -> pd.DataFrame:
    return pd.DataFrame([*scores("base", [1.0]), *scores("new", [0.98])])


def past(**columns: Any) -> pd.DataFrame:
    rng = np.random.default_rng(1)
    mixes = [scores(f"h{i}", list(1 + rng.normal(0, 0.03) + rng.normal(0, 0.001, 3)), **columns) for i in range(10)]
    return pd.DataFrame([row for rows in mixes for row in rows])


@pytest.mark.parametrize("other", [{"tokens": 1e12}, {"version": 0}, {"num_fewshot": 0}])
def test_noise_of_past_runs_in_other_conditions_is_not_used_and_stated(other: dict[str, Any]) -> None:
    fits = decide(arms(), POLICY, baseline="base", candidate="new", history=past())
    assert fits.decision == "ACCEPT"
    assert Code.HISTORY_EXCLUDED not in {reason.code for reason in fits.reasons}
    verdict = decide(arms(), POLICY, baseline="base", candidate="new", history=past(**other))
    assert verdict.decision == "INCONCLUSIVE"
    assert verdict.comparisons[0].noise_sources["history"] == 0
    [excluded] = [reason for reason in verdict.reasons if reason.code is Code.HISTORY_EXCLUDED]
    assert len(excluded.figures["mixes"]) == 10
    [same] = compare(arms(), POLICY, baseline="base", history=past(**other))
    assert not same.votes


def test_past_runs_without_recorded_conditions_are_used() -> None:
    history = past().drop(columns=list(SAME))
    assert decide(arms(), POLICY, baseline="base", candidate="new", history=history).decision == "ACCEPT"


def test_a_filtered_history_keeps_other_scales_and_the_earlier_checkpoints_of_runs_that_fit() -> None:
    rows = [
        *(row for tokens in (1e9, 1e10) for row in scores("fits", [1.0, 1.1], tokens=tokens)),
        *(row for tokens in (1e9, 4e9) for row in scores("short", [1.0, 1.1], tokens=tokens)),
        *scores("fits", [0.8, 0.9], tokens=1e12, scale="1B"),
    ]
    history = HistoryTable.of(pd.DataFrame(rows))
    fitting = history.fitting(Conditions(tokens=1e10), "150M")
    assert fitting.frame.groupby("mix").size().to_dict() == {"fits": 6}
    assert history.fitting(Conditions(tokens=1e10), "150M") is fitting, "computed once for all candidates"
    assert fitting.fitting(Conditions(tokens=1e10), "150M") is fitting
    assert [reason.figures["mixes"] for reason in fitting.excluded] == [("short",)]
