"""Import heavy libraries in the server from which run processes are forked.

The imports take 10 s on one core, once instead of once per run. A failed import is ignored here. The import fails again
in the run, which records the failure with its traceback in the run's log. This module must not use a GPU or start a
thread, because neither survives a fork.

The server ignores stop signals. SLURM sends its signals to every process of a step. A server that handled them would
end, and the kernel would then kill the runs before they have written their checkpoints. Each run handles the signals
itself.
"""

from __future__ import annotations

import contextlib
import importlib
import signal

NAMES = (
    "assay.plan.workspace",
    "assay.train.loop",
    "assay.evaluate.evaluation",
    "assay.report.wandb",
    # The modules above import these modules on first use.
    "assay.corpus.loader",
    "assay.evaluate.items",
    "assay.evaluate.tasks",
    "assay.evaluate.scores",
    "assay.evaluate.heldout",
    "datasets",
    "lm_eval.evaluator",
    "lm_eval.models.huggingface",
    "lm_eval.tasks",
)

for _number in (signal.SIGTERM, signal.SIGUSR2, signal.SIGINT):
    signal.signal(_number, signal.SIG_IGN)
# A stop signal may arrive directly after the fork. While blocked, the signal stays pending until the run handles it.
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})

for _name in NAMES:
    with contextlib.suppress(Exception):
        importlib.import_module(_name)
