"""Imported once by the server that runs are forked from, where runs are evaluated with lm-eval: it takes 4 to 10 s."""

from __future__ import annotations

import contextlib
import importlib

for _name in ("datasets", "lm_eval.evaluator", "lm_eval.tasks", "lm_eval.models.huggingface"):
    with contextlib.suppress(Exception):
        importlib.import_module(_name)
