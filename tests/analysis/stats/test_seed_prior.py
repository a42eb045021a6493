"""Seeds of one mix only inform the variance within mixes, and need no column of the two-way layout."""

from __future__ import annotations

import numpy as np
import pytest

from assay.analysis.stats.seed_prior import learn_seed_prior
from assay.analysis.stats.sweep_model import SeedPrior, SweepModel
from assay.analysis.stats.tables import Seed


def _scores(draw: int, *, own: float) -> dict[str, dict[Seed, float]]:
    """Scores of mixes with one to six seeds; `own` is the probability that a seed is not shared."""
    rng = np.random.default_rng(draw)
    scores: dict[str, dict[Seed, float]] = {}
    for mix in range(rng.integers(1, 25)):
        chosen = rng.choice(8, rng.integers(1, 6), replace=False).tolist()
        seeds: list[Seed] = [f"{mix}-{seed}" if rng.random() < own else int(seed) for seed in chosen]
        scores[f"m{mix}"] = {seed: float(rng.normal() + chosen[at] / 3) for at, seed in enumerate(seeds)}
    return scores


@pytest.mark.parametrize("own", [0.0, 0.1, 0.5, 0.9, 1.0])
def test_the_noise_equals_that_of_the_layout_with_all_seeds(own: float) -> None:
    for draw in range(40):
        scores = _scores(draw, own=own)
        expected, found = SweepModel.of(scores).as_prior(), learn_seed_prior(scores)
        for part, direct in ((found.paired, expected.paired), (found.unpaired, expected.unpaired)):
            assert tuple(part) == pytest.approx(tuple(direct), rel=1e-10, nan_ok=True)


def test_past_mixes_with_one_run_have_no_noise() -> None:
    assert learn_seed_prior({"a": {0: 1.0}, "b": {1: 2.0}}) == SeedPrior()
    assert learn_seed_prior({}) == SeedPrior()
