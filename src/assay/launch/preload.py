"""Imported once by the server that runs are forked from: what every run needs and takes seconds to import.

What cannot be imported is left for the run to stumble on, where it is recorded as the run's failure, with its trace
in the run's log. Nothing here may start a thread or touch a GPU: neither survives a fork.
"""

from __future__ import annotations

import contextlib
import importlib

for _name in ("assay.workspace", "assay.train.loop", "assay.evaluate.run", "assay.publish.tracking"):
    with contextlib.suppress(Exception):
        importlib.import_module(_name)
