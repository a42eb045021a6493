"""Imported once by the server that runs are forked from: what every run needs, and 10 s of a core to import.

What cannot be imported is left for the run to stumble on, where it is recorded as the run's failure, with its trace
in the run's log. Nothing here may touch a GPU, nor start a thread that is needed later: neither survives a fork.
"""

from __future__ import annotations

import contextlib
import importlib

NAMES = (
    "assay.workspace",
    "assay.train.loop",
    "assay.evaluate.run",
    "assay.publish.tracking",
    # What these import when it comes to that.
    "assay.corpus.loader",
    "assay.evaluate.items",
    "assay.evaluate.questions",
    "assay.evaluate.scores",
    "assay.evaluate.validation",
    "datasets",
    "lm_eval.evaluator",
    "lm_eval.models.huggingface",
    "lm_eval.tasks",
)

for _name in NAMES:
    with contextlib.suppress(Exception):
        importlib.import_module(_name)
