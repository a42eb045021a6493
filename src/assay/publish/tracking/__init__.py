"""Weights & Biases, derived from the store: a run for each run, evaluation, comparison and verdict, and what they share.

W&B's client runs in processes of its own (`sender`, `live`), which are given so much time and no more, so that no outage
of W&B can slow or fail a run. Offline it writes the same to disk. What W&B was told stands in marker files beside the
records; telling it again tells nothing unless something has changed.
"""

from assay.publish.tracking.outages import NOT_TRIED, in_words
from assay.publish.tracking.publish import (
    Published,
    Telling,
    publish,
    publish_run,
    recipe_versions,
    run_tellings,
    sweep_tellings,
)

__all__ = [
    "NOT_TRIED",
    "Published",
    "Telling",
    "in_words",
    "publish",
    "publish_run",
    "recipe_versions",
    "run_tellings",
    "sweep_tellings",
]
