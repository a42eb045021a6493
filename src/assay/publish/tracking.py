"""Weights & Biases: one run there for each run here, and one for each verdict; all of it derived from the store.

What is published is first written to disk by the real client in its offline mode, then, where W&B is configured to be
online, sent by `wandb sync` in a process of its own with a time limit. So a run's W&B copy is the same online and
offline, no outage of W&B can slow or fail a run, and what could not be sent is sent the next time. Publishing again
writes nothing unless what would be published has changed, and then takes the place of what was there: the W&B id comes
from the run's fingerprint.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from assay.errors import AssayError
from assay.files import exclusive, read_json, write_json
from assay.publish.collect import read_run
from assay.publish.tracked import STEP, Content, run_content, verdict_content
from assay.structure import from_mapping, to_mapping

if TYPE_CHECKING:
    from pathlib import Path

    from assay.publish.report import Report
    from assay.settings import Tracking
    from assay.store import RunDirectory, Store

log = logging.getLogger(__name__)

SEND_SECONDS = 60.0
"""The longest that sending one run may take; 200 records and 60 scores take 1 s where the server answers."""

MARKER = "wandb.json"
TABLE_ROWS = 10_000
"""As many as W&B keeps of a table."""


@dataclass(frozen=True, kw_only=True)
class Published:
    """What W&B was told of a run or a verdict; the marker file beside the record."""

    id: str
    """The run's id in W&B."""
    name: str
    content: str
    """Digest of what was published: where it is still the same, nothing is written again."""
    folder: str | None
    """The offline run in W&B's folder of the store; `None` where writing it failed."""
    sent: bool
    sweeps: tuple[str, ...] = ()
    problem: str | None = None
    """Why it could not be written or sent."""


def publish_run(
    store: Store, run: RunDirectory, *, sweep: str, evaluation: str, settings: Tracking
) -> Published | None:
    """Tell W&B of a run as it stands in the store: config, history by tokens, scores, delivered mix.

    Args:
        store: where the run is; W&B's files go to its folder `wandb`.
        run: the run; finished, failed or half done.
        sweep: the study it is published for; the first one is its group in W&B, every one a tag.
        evaluation: identity of the evaluation whose scores are told.
        settings: mode, project and entity.

    Returns:
        What W&B knows now, or `None` where it is disabled. A failure of W&B raises nothing: it is logged, and stands
        in `Published.problem` and in the marker file beside the run's record.
    """
    if settings.mode == "disabled":
        return None
    marker = run.path / MARKER
    before = read_marker(marker)
    sweeps = tuple(dict.fromkeys([*(before.sweeps if before else ()), sweep]))
    content = run_content(run, read_run(run, evaluation=evaluation), sweeps=sweeps, evaluation=evaluation)
    return _Publication(content, settings, store.wandb, marker, sweeps).publish(before)


def publish_verdict(store: Store, report: Report, *, settings: Tracking) -> Published | None:
    """Tell W&B of a sweep's verdict: one run of job type `gate` with the comparisons, the mixes and the runs it used.

    Args:
        store: as for `publish_run`; the marker file is in the sweep's folder.
        report: what is shown of the sweep.
        settings: as for `publish_run`.

    Returns:
        As for `publish_run`.
    """
    if settings.mode == "disabled":
        return None
    marker = store.sweep(report.sweep.name) / MARKER
    publication = _Publication(verdict_content(report), settings, store.wandb, marker, (report.sweep.name,))
    return publication.publish(read_marker(marker))


@dataclass(frozen=True)
class _Publication:
    """One run on its way to W&B."""

    content: Content
    settings: Tracking
    folder: Path
    marker: Path
    sweeps: tuple[str, ...]

    def publish(self, before: Published | None) -> Published:
        """Write and send what is not there yet, and say so in the marker."""
        digest = self.content.digest(self.settings)
        now = Published(
            id=self.content.id, name=self.content.name, content=digest, folder=None, sent=False, sweeps=self.sweeps
        )
        if before is not None and before.content == digest and before.folder and (self.folder / before.folder).is_dir():
            if before.sent or self.settings.mode == "offline":
                return before
            now = replace(before, problem=None)
        try:
            if now.folder is None:
                now = replace(now, folder=_write(self.content, self.settings, self.folder))
            if self.settings.mode == "online":
                send(self.folder / str(now.folder), self.settings, seconds=SEND_SECONDS)
                now = replace(now, sent=True)
        # The one place where any exception is caught: whatever W&B's client does, the run and its record are whole.
        except Exception as error:  # noqa: BLE001
            now = replace(now, problem=f"{type(error).__name__}: {error}")
            log.warning("W&B was not told of %s: %s", now.name, now.problem)
        write_json(self.marker, to_mapping(now))
        return now


def read_marker(marker: Path) -> Published | None:
    """What W&B was told before; `None` where the file is missing or damaged, which costs one more publication."""
    try:
        return from_mapping(Published, read_json(marker), where=str(marker))
    except (FileNotFoundError, AssayError):
        return None


@dataclass
class _Session:
    """W&B's service, kept up for one folder."""

    folder: Path
    outside: dict[str, str]
    """The environment outside of it."""
    silent: bool = False
    """Whether the server has not answered in time: then nothing more is sent to it in this session."""


_sessions: dict[int, _Session] = {}
"""The session that is open in a process, by the process's id: a fork inherits none."""


@contextlib.contextmanager
def session(store: Store) -> Iterator[None]:
    """Keep W&B's service up over several publications, where each would start and stop its own (0.7 s) otherwise.

    Within it W&B's client keeps all its files in the store, and none in the user's home.
    """
    with _session(store.wandb):
        yield


@contextlib.contextmanager
def _session(folder: Path) -> Iterator[None]:
    current = _sessions.get(os.getpid())
    if current is not None and current.folder == folder:
        yield
        return
    import wandb

    places = {"WANDB_DATA_DIR": "data", "WANDB_CACHE_DIR": "cache", "WANDB_CONFIG_DIR": "config"}
    outside = dict(os.environ)
    os.environ.update({name: str(folder.absolute() / place) for name, place in places.items()})
    _sessions[os.getpid()] = _Session(folder, outside)
    try:
        yield
    finally:
        del _sessions[os.getpid()]
        wandb.teardown()
        for name in places:
            os.environ.pop(name)
            if name in outside:
                os.environ[name] = outside[name]


def _write(content: Content, settings: Tracking, folder: Path) -> str:
    """Write an offline run; returns its folder's name in W&B's folder."""
    with exclusive(folder / "lock", wait=True), _session(folder):
        import wandb

        for superseded in folder.glob(f"offline-run-*-{content.id}"):
            shutil.rmtree(superseded, ignore_errors=True)
        run = wandb.init(
            project=settings.project,
            entity=settings.entity,
            id=content.id,
            name=content.name,
            group=content.group,
            job_type=content.job_type,
            tags=content.tags,
            config=content.config,
            settings=_client_settings(folder.absolute().parent),
        )
        try:
            run.define_metric(STEP, hidden=True)
            run.define_metric("train/*", step_metric=STEP)
            for step, record in content.history:
                run.log(record, step=step)
            last = content.history[-1][0] if content.history else 0
            tables = {
                name: wandb.Table(columns=list(table.columns), data=[*table.rows[:TABLE_ROWS]])
                for name, table in content.tables.items()
            }
            run.log(tables, step=last)
            run.summary.update(content.summary)
        finally:
            run.finish(exit_code=int(content.failed))
    written = sorted(folder.glob(f"offline-run-*-{content.id}"))
    if not written:
        raise AssayError(f"W&B's client left no offline run of {content.name} in {folder}.")
    return written[-1].name


def _client_settings(root: Path) -> Any:
    """Offline, silent, and telling nothing of this machine, its code or its packages."""
    import wandb

    return wandb.Settings(
        mode="offline",
        root_dir=str(root),  # W&B adds the folder `wandb` itself
        reinit="create_new",
        console="off",
        silent=True,
        disable_code=True,
        disable_git=True,
        disable_job_creation=True,
        save_code=False,
        x_disable_machine_info=True,
        x_disable_meta=True,
        x_disable_stats=True,
        x_save_requirements=False,
        init_timeout=60,
    )


_KEPT = "It is kept; `assay sync` sends it. `wandb login` and WANDB_BASE_URL say who you are and where W&B is."


def send(offline_run: Path, settings: Tracking, *, seconds: float) -> None:
    """Send an offline run with `wandb sync`; one that it has sent before is left alone.

    Args:
        offline_run: the folder of an offline run.
        settings: which project of whom.
        seconds: the longest that it may take.

    Raises:
        AssayError: W&B did not take it, or not in time.
    """
    current = _sessions.get(os.getpid())
    if current is not None and current.silent:
        raise AssayError(f"W&B did not answer a moment ago; {offline_run.name} was not sent.", fix=_KEPT)
    if _taken(offline_run):
        return
    where = ["--project", settings.project, *(["--entity", settings.entity] if settings.entity else [])]
    command = [sys.executable, "-m", "wandb", "sync", *where, str(offline_run)]
    try:
        done = subprocess.run(
            command,
            # With the user's own settings: `wandb login` and a host of their own are in their configuration.
            env=None if current is None else current.outside,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        if current is not None:
            current.silent = True
        raise AssayError(f"W&B did not take {offline_run.name} within {seconds:g} s.", fix=_KEPT) from None
    # Its exit status is 0 where the server refuses the key, too; the mark it leaves on what was taken is what counts.
    if done.returncode or not _taken(offline_run):
        said = " ".join((done.stderr or done.stdout).split())[-300:]
        raise AssayError(f"W&B did not take {offline_run.name}: {said}", fix=_KEPT)


def _taken(offline_run: Path) -> bool:
    return any(offline_run.glob("*.wandb.synced"))
