from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from assay.config.training import SpikeRule
from assay.train.device import DistributedContext
from assay.train.history import MetricsFile, SpikeWatch, Window, totals_from_json, totals_to_json

ALONE = DistributedContext(rank=0, world=1, device=torch.device("cpu"))
RULE = SpikeRule()


def _broken_at(losses: np.ndarray, stages: list[str] | None = None) -> int | None:
    watch = SpikeWatch(RULE, vocabulary=4096)
    stages = ["main"] * len(losses) if stages is None else stages
    return next((i for i, (s, x) in enumerate(zip(stages, losses, strict=True)) if watch.see(s, x)), None)


def _healthy(rng: np.random.Generator, count: int = 200, noise: float = 0.1) -> np.ndarray:
    start, end = math.log(4096) + 0.3, rng.uniform(1.5, 5)
    return end + (start - end) * np.exp(-np.arange(count) / rng.uniform(5, 60)) + noise * rng.standard_normal(count)


@pytest.mark.parametrize("noise", [0.01, 0.1, 0.5, 1.0])
def test_healthy_runs_are_not_stopped(noise: float) -> None:
    """A thousand curves, with the noise of a large batch up to that of one sequence per record."""
    rng = np.random.default_rng(0)
    assert all(_broken_at(_healthy(rng, noise=noise)) is None for _ in range(250))


def test_heavy_tails_and_single_spikes_do_not_stop_a_run() -> None:
    rng = np.random.default_rng(1)
    for _ in range(200):
        losses = _healthy(rng)
        losses[rng.integers(200, size=12)] += rng.uniform(1, 6, size=12)
        assert _broken_at(losses) is None


def test_sources_that_differ_by_many_nats_do_not_stop_a_run() -> None:
    """One sequence per record, alternately from sources at 1 and at 6 nats, or mostly from one of them."""
    rng = np.random.default_rng(2)
    for share in (0.5, 0.2, 0.8, 0.95):
        owners = np.floor(np.arange(1, 401) * share) - np.floor(np.arange(400) * share)
        assert _broken_at(np.where(owners > 0, 1.0, 6.0) + 0.2 * rng.standard_normal(400)) is None


def test_a_lasting_jump_of_the_loss_stops_the_run_after_ten_records() -> None:
    losses = _healthy(np.random.default_rng(3))
    losses[120:] += 2.0
    assert _broken_at(losses) == 129


def test_a_slowly_rising_loss_stops_the_run() -> None:
    """Each step of it is small, but the threshold stays at the best level."""
    losses = np.concatenate([_healthy(np.random.default_rng(4)), np.linspace(4, 9, 400)])
    assert _broken_at(losses) is not None


def test_a_run_that_never_beats_a_uniform_prediction_stops_early() -> None:
    assert _broken_at(np.full(50, math.log(4096) + 1.5)) == 9


def test_each_stage_has_its_own_threshold() -> None:
    """A stage with harder text begins above the level of the previous stage."""
    losses = np.concatenate([np.full(100, 2.0), np.full(100, 4.5)])
    assert _broken_at(losses) == 109
    assert _broken_at(losses, ["main"] * 100 + ["anneal"] * 100) is None


def test_a_window_resumes_from_its_checkpoint() -> None:
    """Sums that passed through JSON give the same bits as sums that stayed in memory."""
    rng = np.random.default_rng(5)
    steps = [
        (torch.from_numpy(rng.random(4).astype(np.float32)), rng.integers(3, size=4), torch.tensor(rng.random()))
        for _ in range(6)
    ]
    whole, first, second = Window(3), Window(3), Window(3)
    for losses, owners, norm in steps[:4]:
        first.add([losses[:3], losses[3:]], owners, norm)
    second.resume(totals_from_json(totals_to_json(first.totals(ALONE))))
    for losses, owners, norm in steps[4:]:
        second.add([losses], owners, norm)
    for losses, owners, norm in steps:
        whole.add([losses], owners, norm)
    one, other = whole.totals(ALONE), second.totals(ALONE)
    assert one.steps == other.steps == 6
    np.testing.assert_array_equal(one.sequences, other.sequences)
    np.testing.assert_allclose(one.losses, other.losses, rtol=1e-15)
    assert one.norms == pytest.approx(other.norms, rel=1e-15)


def test_the_first_step_with_nan_is_reported() -> None:
    window = Window(1)
    for norm in (1.0, 2.0, math.nan, 3.0, math.inf):
        window.add([torch.ones(2)], np.zeros(2, np.int64), torch.tensor(norm))
    totals = window.totals(ALONE)
    assert not totals.finite
    assert totals.first_bad == 2


def test_records_after_the_checkpoint_are_truncated(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    file = MetricsFile(path, keep_bytes=0)
    file.write({"step": 1})
    kept = file.sync()
    file.write({"step": 2})
    with path.open("ab") as handle:
        handle.write(b'{"step": 3, "lo')  # a process was killed in the middle of a line
    file = MetricsFile(path, keep_bytes=kept)
    file.write({"step": 2})
    assert path.read_text() == '{"step":1}\n{"step":2}\n'
