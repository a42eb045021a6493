"""Decide whether a change to a pretraining data recipe is an improvement.

The names in `__all__` are stable and documented in `docs/api.md`. All other names may change. The stable names are
loaded on first use, so that `import assay` is fast.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from assay.analysis.compare import compare
    from assay.analysis.comparison import Comparison
    from assay.analysis.early_stopping import InterimResult, analyze_interim
    from assay.analysis.gate import Decision, SweepVerdict, Verdict, decide, gate
    from assay.analysis.stats.checkpoint_average import average_last
    from assay.analysis.stats.sequential import over_replicates
    from assay.config.aggregate import Aggregate
    from assay.config.policy import Averaging, Criterion, EarlyStopping, Policy, Target
    from assay.config.reason import Code, Reason
    from assay.config.sequential_seeds import SequentialSeeds
    from assay.core.errors import AssayError, ConfigError, Damaged, NotFound, Refused, SchedulerError
    from assay.report.reason_text import text

__version__ = "0.1.0"

__all__ = [
    "Aggregate",
    "AssayError",
    "Averaging",
    "Code",
    "Comparison",
    "ConfigError",
    "Criterion",
    "Damaged",
    "Decision",
    "EarlyStopping",
    "InterimResult",
    "NotFound",
    "Policy",
    "Reason",
    "Refused",
    "SchedulerError",
    "SequentialSeeds",
    "SweepVerdict",
    "Target",
    "Verdict",
    "analyze_interim",
    "average_last",
    "compare",
    "decide",
    "gate",
    "over_replicates",
    "text",
]

_MODULES = {
    "assay.analysis.compare": ("compare",),
    "assay.analysis.comparison": ("Comparison",),
    "assay.analysis.early_stopping": ("InterimResult", "analyze_interim"),
    "assay.analysis.gate": ("Decision", "SweepVerdict", "Verdict", "decide", "gate"),
    "assay.analysis.stats.checkpoint_average": ("average_last",),
    "assay.analysis.stats.sequential": ("over_replicates",),
    "assay.config.aggregate": ("Aggregate",),
    "assay.config.policy": ("Averaging", "Criterion", "EarlyStopping", "Policy", "Target"),
    "assay.config.reason": ("Code", "Reason"),
    "assay.config.sequential_seeds": ("SequentialSeeds",),
    "assay.core.errors": ("AssayError", "ConfigError", "Damaged", "NotFound", "Refused", "SchedulerError"),
    "assay.report.reason_text": ("text",),
}
_HOMES = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'assay' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
