"""Publish the store to Weights & Biases: a W&B run for each run, evaluation, comparison and verdict.

W&B's client runs only in separate processes with a time limit (`uploader`, `live`), so that no outage of W&B can slow
or fail a run. In offline mode the client writes the same content to disk. Marker files next to the records state which
content was published. A second publication sends only changed content.
"""

from assay.report.wandb.errors import NOT_TRIED, explain_problem
from assay.report.wandb.publish import (
    Publication,
    Published,
    publish,
    publish_run,
    recipe_versions,
    run_publications,
    sweep_publications,
)

__all__ = [
    "NOT_TRIED",
    "Publication",
    "Published",
    "explain_problem",
    "publish",
    "publish_run",
    "recipe_versions",
    "run_publications",
    "sweep_publications",
]
