"""Upload one run with W&B's own client.

The client is loaded only in separate processes that may be killed. If W&B already has the run, the client resumes the
run. The client then sends only history steps after W&B's last step, and updates configuration and summary. A run that
was requeued or uploaded twice therefore appears once in W&B.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assay.core.errors import AssayError, NotFound
from assay.core.files import exclusive
from assay.report.wandb.content import INTERIM, STEP, Artifact, Content, WandbTable

if TYPE_CHECKING:
    from assay.config.settings import Tracking

BUSY_SECONDS = 20.0
"""Maximum seconds to wait for another process that publishes the same run."""

TABLE_ROWS = 10_000
"""Maximum number of rows of a table that W&B keeps."""

METADATA_KEYS = 50
"""Maximum number of entries of a nested value in an artifact's metadata, of which W&B keeps 100 keys.

Longer values are only in the artifact's `record.json`."""

_used: dict[tuple[str, ...], Any] = {}
"""Artifacts that W&B has, by entity, project, name and record, so that each artifact is uploaded once per process."""
_artifact_locks: dict[tuple[str, ...], threading.Lock] = {}
"""Locks by the key of `_used`, so that a thread waits only for artifacts of its own run."""
_draft_lock = threading.Lock()
"""Lock for the creation of artifacts.

The client evicts the oldest of its newest 100 artifacts in two steps. Two threads that create an artifact can therefore
evict the same artifact. Without the lock, the client raised KeyError in one of 221 runs. It also did so for 3 of 4,000
artifacts that 8 threads created while they were interrupted every microsecond. With the lock, none of 4,000 artifacts
failed, and none of 1,242 runs that were uploaded 8 at a time. Tables are artifacts too."""


class RunBusyError(AssayError):
    """Another process currently publishes this run to W&B."""


def upload(content: Content, settings: Tracking, folder: Path) -> str | None:
    """Upload all content of a run that W&B shows.

    Args:
        content: the run.
        settings: mode, project and entity. Mode `offline` writes the run below `folder`. Mode `online` sends the run to
            W&B.
        folder: W&B's folder of the store.

    Returns:
        In offline mode, the name of the run's folder in `folder`.

    Raises:
        RunBusyError: another process still publishes the run after `BUSY_SECONDS`.
        Exception: any error of the client, such as an unreachable server or a rejected request.
    """
    with locked_run(folder, content.id):
        if settings.mode == "offline":
            for superseded in folder.glob(f"offline-run-*-{content.id}"):
                shutil.rmtree(superseded, ignore_errors=True)
        run = open_run(content, settings, folder)
        try:
            log_history(run, content)
            log_results(run, content, online=settings.mode == "online")
        finally:
            run.finish(exit_code=int(content.failed))
        return _clean_up(folder, content, settings)


@contextlib.contextmanager
def locked_run(folder: Path, run: str, *, patience: float = BUSY_SECONDS) -> Iterator[None]:
    """Lock a run, so that only one process publishes it at a time.

    Raises:
        RunBusyError: another process still holds the lock after `patience` seconds.
    """
    until = time.monotonic() + patience
    while True:
        with exclusive(folder / "locks" / run, wait=False) as held:
            if held:
                yield
                return
        if time.monotonic() >= until:
            raise RunBusyError(
                f"another process publishes {run} to W&B right now.",
                fix="Wait until that process ends, then run the command again.",
            )
        time.sleep(0.1)


def open_run(content: Content, settings: Tracking, folder: Path, *, watched: int | None = None) -> Any:
    """Open a W&B run, or resume it after its last step.

    Args:
        content: the run.
        settings: mode, project and entity.
        folder: W&B's folder of the store.
        watched: id of the process whose system metrics are logged (default: no system metrics).
    """
    import wandb

    run = wandb.init(
        project=settings.project,
        entity=settings.entity,
        id=content.id,
        name=content.name,
        group=content.group,
        job_type=content.job_type,
        tags=content.tags,
        notes=content.notes,
        resume="allow" if settings.mode == "online" else None,
        settings=_client_settings(folder.absolute().parent, settings, content, watched),
    )
    run.config.update(content.config, allow_val_change=True)  # type: ignore[no-untyped-call]  # untyped in wandb
    run.define_metric(STEP, hidden=True)
    run.define_metric("train/*", step_metric=STEP)
    run.define_metric(f"{INTERIM}/{STEP}", hidden=True)
    run.define_metric(f"{INTERIM}/*", step_metric=f"{INTERIM}/{STEP}", summary="none")
    return run


def log_history(run: Any, content: Content, *, after: int = -1) -> int:
    """Log the history steps that W&B does not have, and return the last step.

    Args:
        run: the open run of `open_run`.
        content: the run.
        after: the last step that was logged through this `run`.
    """
    known = max(after, int(run.starting_step) - 1)
    for step, record in content.history:
        if step > known:
            run.log(record, step=step, commit=True)
            known = step
    return known


def log_results(run: Any, content: Content, *, online: bool) -> None:
    """Log everything except the history: summary, tables, plots, artifacts, alerts.

    Tables and plots are stored in the summary, where a new version replaces the previous version and adds no history
    step.
    """
    import wandb

    run.tags = content.tags
    run.notes = content.notes
    summary: dict[str, Any] = dict(content.summary)
    for name, table in content.tables.items():
        summary[f"tables/{name}"] = wandb.Table(columns=list(table.columns), data=[*_cells(run, table)])
    for name, figure in content.figures.items():
        summary[f"plots/{name}"] = wandb.Plotly(_plot(figure))
    with _draft_lock:
        run.summary.update(summary)
    if online:  # the client refuses `use_artifact` offline, where each artifact names its inputs in its metadata
        for artifact in content.uses:
            _use(run, artifact)
    for artifact in content.makes:
        run.log_artifact(_draft(artifact))
    for alert in content.alerts:
        run.alert(alert.title, alert.text, level=alert.level)


def _plot(figure: Mapping[str, Any]) -> Any:
    from plotly import graph_objects as go

    return go.Figure(figure)


def _cells(run: Any, table: WandbTable) -> list[list[Any]]:
    """Return a table's rows, with references to other runs as URLs if possible."""
    base = str(run.url or "").rpartition("/")[0]

    def with_url(value: Any) -> Any:
        if not isinstance(value, Mapping):
            return value
        return f"{base}/{value['run']}" if base else value["run"]

    return [[with_url(value) for value in row] for row in table.rows[:TABLE_ROWS]]


def _use(run: Any, artifact: Artifact) -> None:
    """Declare an artifact that a run uses, and upload each artifact once per process."""
    key = (str(run.entity), str(run.project), artifact.name, _record(artifact))
    with _artifact_locks.setdefault(key, threading.Lock()):
        known = _used.get(key)
        if known is None:
            _used[key] = run.use_artifact(_draft(artifact))
            return
    run.use_artifact(known)


def _draft(artifact: Artifact) -> Any:
    import wandb

    small = {
        key: value
        for key, value in artifact.metadata.items()
        if not isinstance(value, (dict, list)) or len(value) <= METADATA_KEYS
    }
    with _draft_lock:
        draft = wandb.Artifact(artifact.name, artifact.type, description=artifact.description, metadata=small)
    with draft.new_file("record.json") as file:
        file.write(_record(artifact))
    for name, path in artifact.files.items():
        draft.add_file(path, name=name)
    return draft


def _record(artifact: Artifact) -> str:
    return json.dumps(artifact.metadata, indent=1, sort_keys=True)


def _clean_up(folder: Path, content: Content, settings: Tracking) -> str | None:
    """Delete the client's files of a sent run; return the folder name of an offline run."""
    if settings.mode == "online":
        # The server has the run. Delete the client's local copy, and mark an earlier offline copy as sent.
        for local_copy in folder.glob(f"run-*-{content.id}"):
            shutil.rmtree(local_copy, ignore_errors=True)
        for file in folder.glob(f"offline-run-*-{content.id}/*.wandb"):
            Path(f"{file}.synced").touch()
        return None
    written = sorted(folder.glob(f"offline-run-*-{content.id}"))
    if not written:
        raise NotFound(
            f"W&B's client wrote no offline run of {content.name} to {folder}.",
            fix="Check that the folder is writable, then publish the run again.",
        )
    return written[-1].name


def _client_settings(root: Path, settings: Tracking, content: Content, watched: int | None) -> Any:
    """Return settings of a client that prints nothing and has time limits.

    The client sends no details of the machine, the code or the packages.
    """
    import wandb

    return wandb.Settings(
        mode=settings.mode,
        root_dir=str(root),  # W&B adds the folder `wandb` itself
        reinit="create_new",
        console="off",
        silent=True,
        disable_code=True,
        disable_git=True,
        disable_job_creation=True,
        save_code=False,
        sweep_id=content.sweep,
        x_disable_machine_info=watched is None,  # the client needs machine info to measure system metrics
        x_disable_meta=True,
        x_disable_stats=watched is None,
        x_stats_pid=watched or os.getpid(),
        x_save_requirements=False,
        init_timeout=settings.patience_seconds,
        finish_timeout=2 * settings.patience_seconds,
        finish_timeout_raises=True,
    )
