"""A run told to W&B while it is trained, by a process of its own that reads the run's record; training waits for nothing.

It takes up the W&B run of an earlier attempt and tells what that did not. System metrics are those of the run's process.
Whatever becomes of it, the store has everything, and `assay sync` tells what is missing.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import select
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from assay.files import write_json
from assay.publish.collect import read_run
from assay.publish.tracking import sender
from assay.publish.tracking.publish import Published, marker_of, read_marker, recipe_versions
from assay.publish.tracking.runs import run_content
from assay.structure import from_mapping, to_mapping

if TYPE_CHECKING:
    import subprocess

    from assay.publish.tracking.content import Content
    from assay.settings import Tracking
    from assay.store import RunDirectory, Store

log = logging.getLogger(__name__)

EVERY_SECONDS = 5.0
"""How often the record is looked at."""

LAST_SECONDS, LEAVE_SECONDS = 20.0, 5.0
"""The longest that a run's process waits for the end to be told: at its end, and where it was asked to make room."""

HANDOVER_SECONDS = 120.0
"""The longest that the process of an earlier attempt is waited for."""

ALIVE = "alive"
"""What the process says once W&B has answered."""


@contextlib.contextmanager
def told(
    store: Store, run: RunDirectory, *, sweep: str, evaluation: str, settings: Tracking
) -> Iterator[Callable[[], bool]]:
    """Tell W&B of a run while the block trains and evaluates it, and of what it came to when it ends.

    Args:
        store: where the run is.
        run: the run; what the block writes into its record is what is told.
        sweep: the study it is done for.
        evaluation: identity of its evaluation.
        settings: `online` tells at once; `offline` writes the whole when the run has ended; `disabled` does nothing.

    Yields:
        Whether W&B has answered yet.
    """
    if run.evaluated(evaluation):  # there is nothing to do, and it was told
        yield lambda: False
        return
    process = None
    if settings.mode == "online":
        process = _begin(store, run, sweep=sweep, evaluation=evaluation, settings=settings)
    asked_to_leave = False
    try:
        yield lambda: process is not None and _heard(process)
    except BaseException as error:
        asked_to_leave = not isinstance(error, (Exception, SystemExit))
        raise
    finally:
        heard = process is not None and _finish(process, LEAVE_SECONDS if asked_to_leave else LAST_SECONDS)
        # A server that was not heard of is not waited for: the next run begins.
        if run.status().state in ("done", "failed", "diverged") and (heard or settings.mode != "online"):
            _complete(store, run, sweep=sweep, evaluation=evaluation, settings=settings)


def _complete(store: Store, run: RunDirectory, **given: Any) -> None:
    """Tell W&B of the ended run. That is derived from the record: a failure costs the run nothing."""
    from assay.publish import tracking

    try:
        tracking.publish_run(store, run, **given)
    except Exception:
        log.exception("W&B did not get this run; `assay sync` tries again.")


def _begin(store: Store, run: RunDirectory, **given: Any) -> subprocess.Popen[str] | None:
    settings = given.pop("settings")
    try:
        store.wandb.mkdir(parents=True, exist_ok=True)
        with (store.wandb / "live.log").open("ab") as printed:
            process = sender.start("assay.publish.tracking.live", log=printed, folder=store.wandb)
        assert process.stdin is not None
        where = {"store": str(store.root), "run": run.fingerprint, "watched": os.getpid()}
        process.stdin.write(json.dumps({**where, **given, "settings": to_mapping(settings)}) + "\n")
        process.stdin.flush()
    except OSError:
        log.exception("W&B is not told of this run while it is trained; `assay sync` tells it.")
        return None
    return process


def _finish(process: subprocess.Popen[str], seconds: float) -> bool:
    """Let the process tell the end; returns whether W&B was heard of. Where it was not, nothing is waited for."""
    heard = _heard(process)
    return sender.end(process, seconds if heard else 0.0) and heard


def _heard(process: subprocess.Popen[str]) -> bool:
    """Whether the process has said that W&B answered."""
    assert process.stdout is not None
    return process.poll() is None and bool(select.select([process.stdout], [], [], 0)[0])


def main() -> None:
    """Follow the run that standard input names until that is closed."""
    from assay.settings import Tracking
    from assay.store import Store

    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a job's processes all get it; this one ends when the run's does
    asked = json.loads(sys.stdin.readline())
    settings = from_mapping(Tracking, asked["settings"], where="settings")
    store = Store(asked["store"])
    with sender.answering() as answers:
        _Follower(store, store.run(asked["run"]), asked["sweep"], asked["evaluation"], settings).follow(
            asked["watched"], lambda: print(ALIVE, file=answers, flush=True)
        )
        os._exit(0)


class _Follower:
    """One run's record, followed."""

    def __init__(self, store: Store, run: RunDirectory, sweep: str, evaluation: str, settings: Tracking) -> None:
        self.store = store
        self.run = run
        self.evaluation = evaluation
        self.settings = settings
        self.marker = marker_of(run.path, "train")
        self.before = read_marker(self.marker)
        self.sweeps = tuple(dict.fromkeys([*(self.before.sweeps if self.before else ()), sweep]))
        self.version = recipe_versions(store, mix=run.labels().get("mix")).get(run.fingerprint, 1)
        self.name = self.before.name if self.before else None

    def content(self) -> Content:
        """The run as its record has it now; what others use of it is told when it is published."""
        result = read_run(self.run, evaluation=self.evaluation)
        content = run_content(
            self.store,
            self.run,
            result,
            sweeps=self.sweeps,
            evaluation=self.evaluation,
            settings=self.settings,
            version=self.version,
            name=self.name,
        )
        raised = self.before.alerts if self.before else ()
        return replace(content, uses=(), makes=(), alerts=tuple(a for a in content.alerts if a.key not in raised))

    def follow(self, watched: int, heard: Callable[[], None]) -> None:
        """Tell what there is, then what comes, then the end."""
        from assay.publish.tracking import client

        content = self.content()
        with client.taken(self.store.wandb, content.id, patience=HANDOVER_SECONDS):
            run = client.begin(content, self.settings, self.store.wandb, watched=watched)
            heard()
            known, looked = client.history(run, content), 0.0
            while not select.select([sys.stdin], [], [], EVERY_SECONDS)[0]:
                looked, before = self._changed(), looked
                if looked != before:
                    known = client.history(run, self.content(), after=known)
            content = self.content()
            client.history(run, content, after=known)
            run.config.update(content.config, allow_val_change=True)
            client.complete(run, content, online=True)
            ended = content.summary["state"] in ("done", "failed", "diverged")
            if not ended:
                run.mark_preempting()  # it was asked to make room, or was killed: another attempt goes on with it
            run.finish(exit_code=int(content.failed or not ended))
        self._note(content)

    def _changed(self) -> float:
        try:
            return self.run.metrics.stat().st_mtime
        except FileNotFoundError:
            return 0.0

    def _note(self, content: Content) -> None:
        """Write down its name and the alerts that were raised; that all of it was told, `publish` says."""
        raised = (*(self.before.alerts if self.before else ()), *(one.key for one in content.alerts))
        now = Published(
            id=content.id,
            name=content.name,
            content="",
            folder=None,
            sent=False,
            sweeps=self.sweeps,
            alerts=raised,
        )
        write_json(self.marker, to_mapping(now))


if __name__ == "__main__":
    main()
