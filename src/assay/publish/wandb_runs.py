"""What W&B has of finished runs, through its public API; read for `assay import` alone, when a person asks for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, get_args

from assay.errors import AssayError
from assay.publish.tracking.content import JobType

TIMEOUT = 60
"""Seconds that one request may take; a page has 50 runs."""


@dataclass(frozen=True, kw_only=True)
class FinishedRun:
    """A run as W&B has it."""

    id: str
    name: str
    config: Mapping[str, Any] = field(hash=False)
    summary: Mapping[str, Any] = field(hash=False)
    """The last value of everything that was logged."""


def finished_runs(project: str, *, progress: Callable[[float], None] | None = None) -> list[FinishedRun]:
    """The runs of a project that ended well; of those that assay itself has told of, the trained ones.

    An evaluation, a comparison or a verdict of assay's is a run of its own in W&B and has the same figures again.

    Args:
        project: `entity/project`.
        progress: told the share of the runs that were read.

    Raises:
        AssayError: W&B cannot be reached, knows no such project, or asks who we are.
    """
    import wandb

    try:
        listed = wandb.Api(timeout=TIMEOUT).runs(project, filters={"state": "finished"}, lazy=False)
        total, found = len(listed), []
        for i, run in enumerate(listed):
            config = dict(run.config)
            if not _beside_training(config):
                found.append(
                    FinishedRun(
                        id=run.id,
                        name=run.name,
                        config=config,
                        summary=dict(run.summary_metrics),
                    )
                )
            if progress is not None:
                progress((i + 1) / max(total, 1))
    # The client raises its own errors, and ValueError for a project that is not there.
    except (wandb.errors.Error, ValueError, OSError) as error:
        raise AssayError(
            f"wandb://{project} cannot be read: {type(error).__name__}: {str(error)[:300]}",
            fix="Check the name, `entity/project`; `wandb login` says who you are, WANDB_BASE_URL where the server is.",
        ) from None
    return found


def _beside_training(config: Mapping[str, Any]) -> bool:
    """Whether a run is assay's and no training: an evaluation has its run's fingerprint, all others name their sweep."""
    kind = config.get("kind")
    return kind in get_args(JobType) and kind != "train" and ("fingerprint" in config or "sweep" in config)
