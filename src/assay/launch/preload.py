"""Imported once by the server that runs are forked from: what every run needs, and 10 s of a core to import.

What cannot be imported is left for the run to stumble on, where it is recorded as the run's failure, with its trace
in the run's log. Nothing here may touch a GPU, nor start a thread that is needed later: neither survives a fork.

The server is deaf to what asks a job to stop. SLURM sends its signals to every process of a step, and the kernel
kills the runs with the server, before they have written their checkpoints. Each run listens for itself.
"""

from __future__ import annotations

import contextlib
import importlib
import signal

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

for _number in (signal.SIGTERM, signal.SIGUSR2, signal.SIGINT):
    signal.signal(_number, signal.SIG_IGN)
# A run may be asked to stop right after it was forked: blocked, the signal waits until it listens, and is not lost.
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})

for _name in NAMES:
    with contextlib.suppress(Exception):
        importlib.import_module(_name)
