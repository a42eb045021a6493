"""Read finished runs through W&B's public API. Only `assay import` uses the module."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, get_args

from assay.config.settings import JobType
from assay.core.errors import NotFound

TIMEOUT = 60
"""Timeout of one request in seconds; a page has 50 runs."""


@dataclass(frozen=True, kw_only=True)
class FinishedRun:
    """A finished W&B run."""

    id: str
    name: str
    config: Mapping[str, Any] = field(hash=False)
    summary: Mapping[str, Any] = field(hash=False)
    """The last logged value of each name."""


def finished_runs(project: str, *, progress: Callable[[float], None] | None = None) -> list[FinishedRun]:
    """Read the finished runs of a project.

    assay publishes evaluations, comparisons and verdicts as separate W&B runs, which repeat the figures of the training
    runs. The function skips these runs.

    Args:
        project: `entity/project`.
        progress: called with the fraction of runs that were read.

    Raises:
        AssayError: W&B cannot be reached, has no such project, or requires a login.
    """
    import wandb

    try:
        listed = wandb.Api(timeout=TIMEOUT).runs(project, filters={"state": "finished"}, lazy=False)
        total, runs = len(listed), []
        for i, run in enumerate(listed):
            config = dict(run.config)
            if not _is_derived(config):
                runs.append(
                    FinishedRun(
                        id=run.id,
                        name=run.name,
                        config=config,
                        summary=dict(run.summary_metrics),
                    )
                )
            if progress is not None:
                progress((i + 1) / max(total, 1))
    # The client raises its own errors, and ValueError for a missing project.
    except (wandb.errors.Error, ValueError, OSError) as error:
        raise NotFound(
            f"wandb://{project} cannot be read: {type(error).__name__}: {str(error)[:300]}",
            fix="Check the name, `entity/project`, your login (`wandb login`) and the server (WANDB_BASE_URL).",
        ) from None
    return runs


def _is_derived(config: Mapping[str, Any]) -> bool:
    """Return whether a run is a publication of assay: it has a run's fingerprint or a sweep's name."""
    kind = config.get("kind")
    return kind in get_args(JobType) and kind != "train" and ("fingerprint" in config or "sweep" in config)
