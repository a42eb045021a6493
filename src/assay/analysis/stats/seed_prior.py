"""Learn the seed noise of a history, also if most of its seeds occur in one mix only."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import numpy as np

from assay.analysis.stats.moderated import Prior, learn
from assay.analysis.stats.sweep_model import SeedPrior, SweepModel
from assay.analysis.stats.tables import Seed


def learn_seed_prior(scores: Mapping[str, Mapping[Seed, float]]) -> SeedPrior:
    """Learn the noise of one metric (see `SweepModel.as_prior`).

    A seed of one mix only has its own effect, so the two-way layout fits its score exactly. These scores inform only the
    variance within mixes. Without them, the layout has one column per shared seed instead of one per seed.

    Args:
        scores: finite scores by mix and seed.
    """
    several = {mix: by_seed for mix, by_seed in scores.items() if len(by_seed) > 1}
    mixes_of = Counter(seed for by_seed in several.values() for seed in by_seed)
    if all(number > 1 for number in mixes_of.values()):
        return SweepModel.of(several).as_prior()
    shared = {
        mix: {seed: score for seed, score in by_seed.items() if mixes_of[seed] > 1} for mix, by_seed in several.items()
    }
    layout = SweepModel.of({mix: by_seed for mix, by_seed in shared.items() if len(by_seed) > 1})
    return layout.as_prior(_within(several))


def _within(scores: Mapping[str, Mapping[Seed, float]]) -> Prior:
    """Learn the variance within mixes, which have at least two scores each."""
    counts = np.array([len(by_seed) for by_seed in scores.values()])
    mix = np.repeat(np.arange(len(counts)), counts)
    values = np.array([score for by_seed in scores.values() for score in by_seed.values()], dtype=float)
    means = np.bincount(mix, values) / counts
    squares = np.bincount(mix, (values - means[mix]) ** 2)
    return learn(squares / (counts - 1), counts - 1.0)
