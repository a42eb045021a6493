"""W&B's own client, told of one run at a time; loaded only in processes that are made for it and may be ended.

A run that W&B has already is taken up again: of its history only the steps after the last one that W&B knows are
told, its configuration and summary are brought up to date. So a run that was requeued, or sent twice, stands once.
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

from assay.errors import AssayError
from assay.files import exclusive
from assay.publish.tracking.content import LOOKS, STEP, Artifact, Content, Table

if TYPE_CHECKING:
    from assay.settings import Tracking

BUSY_SECONDS = 20.0
"""The longest that another process, which tells of the same run, is waited for."""

TABLE_ROWS = 10_000
"""As many as W&B keeps of a table."""

METADATA_KEYS = 50
"""W&B keeps 100 keys of an artifact's metadata; what has more stands in its record alone."""

_used: dict[tuple[str, ...], Any] = {}
"""Artifacts that W&B has, by project, name and record: further runs that use one need not tell of it again."""
_turns: dict[tuple[str, ...], threading.Lock] = {}
"""Who tells of one first, by the same; a run waits for no other artifact than its own."""
_drafting = threading.Lock()
"""The client drops the oldest of its newest 100 artifacts in two steps, so that two threads that make one can drop the
same: KeyError in one of 221 runs, and in 3 of 4,000 artifacts that 8 threads made while they were interrupted every
microsecond. In turns none of 4,000 failed, nor of 1,242 runs told 8 at a time. Tables are artifacts, too."""


class Taken(AssayError):  # noqa: N818  # it says what the run is
    """Somebody else tells W&B of this run at this moment."""


def tell(content: Content, settings: Tracking, folder: Path) -> str | None:
    """Tell W&B all there is of a run.

    Args:
        content: the run.
        settings: `offline` writes it below `folder`, `online` sends it.
        folder: W&B's folder of the store.

    Returns:
        Offline, the name of the run's folder in `folder`.

    Raises:
        Taken: another process has told of it all the time.
        Exception: whatever the client raises where W&B cannot be reached or refuses.
    """
    with taken(folder, content.id):
        if settings.mode == "offline":
            for superseded in folder.glob(f"offline-run-*-{content.id}"):
                shutil.rmtree(superseded, ignore_errors=True)
        run = begin(content, settings, folder)
        try:
            history(run, content)
            complete(run, content, online=settings.mode == "online")
        finally:
            run.finish(exit_code=int(content.failed))
        return _left(folder, content, settings)


@contextlib.contextmanager
def taken(folder: Path, run: str, *, patience: float = BUSY_SECONDS) -> Iterator[None]:
    """Be the only one to tell of a run.

    Raises:
        Taken: somebody else still tells of it after `patience` seconds.
    """
    until = time.monotonic() + patience
    while True:
        with exclusive(folder / "locks" / run, wait=False) as held:
            if held:
                yield
                return
        if time.monotonic() >= until:
            raise Taken(f"somebody else tells W&B of {run} at this moment.")
        time.sleep(0.1)


def begin(content: Content, settings: Tracking, folder: Path, *, watched: int | None = None) -> Any:
    """Open a run, or take it up where W&B left it.

    Args:
        content: the run.
        settings: where it goes.
        folder: W&B's folder of the store.
        watched: the process whose system metrics are told with it; of none, none are.
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
    run.config.update(content.config, allow_val_change=True)  # type: ignore[no-untyped-call]
    run.define_metric(STEP, hidden=True)
    run.define_metric("train/*", step_metric=STEP)
    run.define_metric(f"{LOOKS}/{STEP}", hidden=True)
    run.define_metric(f"{LOOKS}/*", step_metric=f"{LOOKS}/{STEP}", summary="none")
    return run


def history(run: Any, content: Content, *, after: int = -1) -> int:
    """Tell of the steps that W&B does not know; returns the last one.

    Args:
        run: as `begin` gave it.
        content: the run.
        after: the last step that was told through this `run`.
    """
    known = max(after, int(run.starting_step) - 1)
    for step, record in content.history:
        if step > known:
            run.log(record, step=step, commit=True)
            known = step
    return known


def complete(run: Any, content: Content, *, online: bool) -> None:
    """Tell what is not history: figures, tables, plots, artifacts, alerts.

    Tables and plots go into the summary: told again they take the place of what was there, and no step is doubled.
    """
    import wandb

    run.tags = content.tags
    run.notes = content.notes
    summary: dict[str, Any] = dict(content.summary)
    for name, table in content.tables.items():
        summary[f"tables/{name}"] = wandb.Table(columns=list(table.columns), data=[*_cells(run, table)])
    for name, figure in content.figures.items():
        summary[f"plots/{name}"] = wandb.Plotly(_plot(figure))
    with _drafting:
        run.summary.update(summary)
    if online:  # the client refuses `use_artifact` offline; what is made names what it came from
        for artifact in content.uses:
            _use(run, artifact)
    for artifact in content.makes:
        run.log_artifact(_draft(artifact))
    for alert in content.alerts:
        run.alert(alert.title, alert.text, level=alert.level)


def _plot(figure: Mapping[str, Any]) -> Any:
    from plotly import graph_objects as go

    return go.Figure(figure)


def _cells(run: Any, table: Table) -> list[list[Any]]:
    """A table's rows, other runs as their addresses where W&B has one."""
    base = str(run.url or "").rpartition("/")[0]

    def shown(value: Any) -> Any:
        if not isinstance(value, Mapping):
            return value
        return f"{base}/{value['run']}" if base else value["run"]

    return [[shown(value) for value in row] for row in table.rows[:TABLE_ROWS]]


def _use(run: Any, artifact: Artifact) -> None:
    """Declare what a run uses; W&B is told of each thing once in this process."""
    key = (str(run.entity), str(run.project), artifact.name, _record(artifact))
    with _turns.setdefault(key, threading.Lock()):
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
    with _drafting:
        draft = wandb.Artifact(artifact.name, artifact.type, description=artifact.description, metadata=small)
    with draft.new_file("record.json") as file:
        file.write(_record(artifact))
    for name, path in artifact.files.items():
        draft.add_file(path, name=name)
    return draft


def _record(artifact: Artifact) -> str:
    return json.dumps(artifact.metadata, indent=1, sort_keys=True)


def _left(folder: Path, content: Content, settings: Tracking) -> str | None:
    """What the client left on disk."""
    if settings.mode == "online":
        # W&B has it; what the client kept for itself is of no more use, and the copy that was written before is sent.
        for kept in folder.glob(f"run-*-{content.id}"):
            shutil.rmtree(kept, ignore_errors=True)
        for file in folder.glob(f"offline-run-*-{content.id}/*.wandb"):
            Path(f"{file}.synced").touch()
        return None
    written = sorted(folder.glob(f"offline-run-*-{content.id}"))
    if not written:
        raise AssayError(f"W&B's client left no offline run of {content.name} in {folder}.")
    return written[-1].name


def _client_settings(root: Path, settings: Tracking, content: Content, watched: int | None) -> Any:
    """Silent, within time, and telling nothing of this machine, its code or its packages."""
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
        x_disable_machine_info=watched is None,  # without it the client measures nothing
        x_disable_meta=True,
        x_disable_stats=watched is None,
        x_stats_pid=watched or os.getpid(),
        x_save_requirements=False,
        init_timeout=settings.patience_seconds,
        finish_timeout=2 * settings.patience_seconds,
        finish_timeout_raises=True,
    )
