"""Estimates by scale and budget equal a direct computation over the other mixes' rows."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from assay.analysis.stats.history import HistoryTable
from assay.analysis.stats.past_cells import Cell, CellEstimate, estimate_cells
from assay.analysis.stats.replicates import signal_to_noise

METRICS = {("a", "x"), ("b", "y"), ("absent", "x")}


def _past(draw: int) -> pd.DataFrame:
    """Runs with missing seeds, scales of several spellings, missing budgets, and scores that are not finite."""
    rng = np.random.default_rng(draw)
    rows = 1500
    seeds = np.array([0, 1, 2, "first"], dtype=object)
    frame = pd.DataFrame({
        "mix": [f"m{number}" for number in rng.integers(0, 25, rows)],
        "seed": rng.choice(seeds, rows) if draw % 2 else rng.integers(0, 40, rows),
        "scale": rng.choice(np.array(["20M", 2e7, "big", 1e9, None], dtype=object), rows),
        "tokens": rng.choice([1e8, 2e8, np.nan], rows, p=[0.6, 0.3, 0.1]),
        "task": rng.choice(["a", "b", "c"], rows),
        "metric": rng.choice(["x", "y"], rows),
    })  # fmt: skip
    level = frame["mix"].map({f"m{number}": rng.normal(0, 0.5) for number in range(25)})
    return frame.assign(value=np.where(rng.random(rows) < 0.05, np.nan, 0.4 + level + rng.normal(0, 1, rows)))


def _residual_variance(runs: pd.DataFrame, factors: list[str]) -> tuple[float, int]:
    layout = np.hstack([pd.get_dummies(runs[factor]).to_numpy(float) for factor in factors])
    values = runs["value"].to_numpy()
    fitted, _, rank, _ = np.linalg.lstsq(layout, values, rcond=None)
    df = len(values) - int(rank)
    return float(((values - layout @ fitted) ** 2).sum()) / max(df, 1), df


def _direct(rows: pd.DataFrame) -> CellEstimate | None:
    ratio = signal_to_noise([part.to_numpy() for _, part in rows.groupby("mix")["value"]])
    if ratio is None or ratio.n_mixes < 5:
        return None
    runs = rows.drop_duplicates(["mix", "seed"], keep="last").assign(seed=lambda t: t["seed"].astype(str))
    runs = runs[runs.groupby("mix")["seed"].transform("size") > 1]
    variance, df = _residual_variance(runs, ["mix", "seed"])
    if df < 2:
        variance, _ = _residual_variance(runs, ["mix"])
    within = rows.groupby("mix")["value"].var().mean() ** 0.5
    return CellEstimate(ratio.value * within, (2 * variance) ** 0.5, ratio.n_mixes)


@pytest.mark.parametrize("draw", range(6))
def test_estimates_equal_least_squares_over_the_other_mixes(draw: int) -> None:
    past = _past(draw)
    table, known = HistoryTable(past), past[np.isfinite(past["value"])]
    spelled = {2e7: ["20M", 2e7], "big": ["big"], 1e9: [1e9]}
    for without in ((), ("m0", "m7"), ("m0", "new")):
        estimates = estimate_cells(table, METRICS, without=without)
        for (scale, names), tokens, (task, metric) in (
            (scale, tokens, name) for scale in spelled.items() for tokens in (1e8, 2e8) for name in METRICS
        ):
            own = known[known["scale"].isin(names) & (known["tokens"] == tokens) & ~known["mix"].isin(without)]
            expected = _direct(own[(own["task"] == task) & (own["metric"] == metric)])
            found = estimates.get(Cell(scale, tokens), {}).get((task, metric))
            assert (found is None) == (expected is None)
            if found is not None and expected is not None:
                assert found == pytest.approx(expected, abs=1e-12)


def test_a_table_without_scales_or_budgets_has_no_estimates() -> None:
    past = _past(0)
    assert estimate_cells(HistoryTable(past), METRICS, without=()) != {}
    assert estimate_cells(HistoryTable(past.drop(columns="tokens")), METRICS, without=()) == {}
    assert estimate_cells(HistoryTable(past.iloc[:0]), METRICS, without=()) == {}
