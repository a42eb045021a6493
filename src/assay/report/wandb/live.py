"""Publish a run to W&B live, in a separate process, so that training never waits.

The process reads the run's record. It resumes the W&B run of an earlier attempt and publishes the content that is
still missing. System metrics are those of the training process. If the process fails, the store still has all
content, and `assay sync` publishes the missing part.
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

from assay.core.files import write_json
from assay.core.serde import from_record, to_mapping
from assay.report.collect import read_run
from assay.report.wandb import uploader
from assay.report.wandb.publish import Published, marker_of, read_marker, recipe_versions
from assay.report.wandb.runs import run_content

if TYPE_CHECKING:
    import subprocess

    from assay.config.settings import Tracking
    from assay.report.wandb.content import Content
    from assay.store.runs import RunDirectory, Store

log = logging.getLogger(__name__)

EVERY_SECONDS = 5.0
"""Seconds between checks of the record for changes."""

LAST_SECONDS, LEAVE_SECONDS = 20.0, 5.0
"""Maximum seconds that a run waits for the publication of its end: after its normal end and after a preemption signal."""

HANDOVER_SECONDS = 120.0
"""Maximum seconds that the process waits for the process of an earlier attempt."""

ALIVE = "alive"
"""Line that the process prints after W&B has answered."""


@contextlib.contextmanager
def publish_live(
    store: Store, run: RunDirectory, *, sweep: str, evaluation: str, settings: Tracking
) -> Iterator[Callable[[], bool]]:
    """Publish a run to W&B during the block, and its outcome at the end.

    Args:
        store: the run's store.
        run: the run, which the block trains and evaluates. The process publishes every change of the run's record.
        sweep: the sweep that the run belongs to.
        evaluation: identity of the run's evaluation.
        settings: `online` publishes at once. `offline` writes all content when the run has ended. `disabled` does
            nothing.

    Yields:
        A function that returns whether W&B has answered yet.
    """
    if run.evaluated(evaluation):  # no work is left, and the run was published
        yield lambda: False
        return
    process = None
    if settings.mode == "online":
        process = _start_process(store, run, sweep=sweep, evaluation=evaluation, settings=settings)
    preempted = False
    try:
        yield lambda: process is not None and _has_answer(process)
    except BaseException as error:
        preempted = not isinstance(error, (Exception, SystemExit))
        raise
    finally:
        answered = process is not None and _end_process(process, LEAVE_SECONDS if preempted else LAST_SECONDS)
        # If the server does not answer, the run does not wait, and the next run begins.
        status = run.status()
        if (status.state == "done" or status.failed) and (answered or settings.mode != "online"):
            _publish_outcome(store, run, sweep=sweep, evaluation=evaluation, settings=settings)


def _publish_outcome(store: Store, run: RunDirectory, **arguments: Any) -> None:
    """Publish the ended run from its record. A failure does not affect the run."""
    from assay.report import wandb

    try:
        wandb.publish_run(store, run, **arguments)
    except Exception:
        log.exception("W&B did not get this run; `assay sync` tries again.")


def _start_process(store: Store, run: RunDirectory, **arguments: Any) -> subprocess.Popen[str] | None:
    settings = arguments.pop("settings")
    try:
        store.wandb.mkdir(parents=True, exist_ok=True)
        with (store.wandb / "live.log").open("ab") as output:
            process = uploader.start("assay.report.wandb.live", log=output, folder=store.wandb)
        assert process.stdin is not None
        task = {"store": str(store.root), "run": run.fingerprint, "watched": os.getpid()}
        process.stdin.write(json.dumps({**task, **arguments, "settings": to_mapping(settings)}) + "\n")
        process.stdin.flush()
    except OSError:
        log.exception("W&B does not get this run while it trains; `assay sync` publishes it.")
        return None
    return process


def _end_process(process: subprocess.Popen[str], seconds: float) -> bool:
    """Let the process publish the end; return whether W&B answered.

    A process without an answer is killed at once.
    """
    answered = _has_answer(process)
    return uploader.end(process, seconds if answered else 0.0) and answered


def _has_answer(process: subprocess.Popen[str]) -> bool:
    """Return whether the process has reported an answer of W&B."""
    assert process.stdout is not None
    return process.poll() is None and bool(select.select([process.stdout], [], [], 0)[0])


def main() -> None:
    """Publish the run that standard input names until standard input is closed."""
    from assay.config.settings import Tracking
    from assay.store.runs import Store

    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # all processes of a job get SIGTERM; this one ends with the run
    task = json.loads(sys.stdin.readline())
    settings = from_record(Tracking, task["settings"], where="settings")
    store = Store(task["store"])
    with uploader.reply_stream() as replies:
        _Follower(store, store.run(task["run"]), task["sweep"], task["evaluation"], settings).follow(
            task["watched"], lambda: print(ALIVE, file=replies, flush=True)
        )
        os._exit(0)


class _Follower:
    """The publication of one run's growing record."""

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
        """Return the record's current content without artifacts, which `publish_run` adds later."""
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

    def follow(self, watched: int, answered: Callable[[], None]) -> None:
        """Publish the existing record, then its changes, then the end.

        Args:
            watched: id of the process whose system metrics are published.
            answered: called once W&B has answered.
        """
        from assay.report.wandb import client

        content = self.content()
        with client.locked_run(self.store.wandb, content.id, patience=HANDOVER_SECONDS):
            run = client.open_run(content, self.settings, self.store.wandb, watched=watched)
            answered()
            last_step, changed = client.log_history(run, content), 0.0
            while not select.select([sys.stdin], [], [], EVERY_SECONDS)[0]:
                changed, before = self._change_time(), changed
                if changed != before:
                    last_step = client.log_history(run, self.content(), after=last_step)
            content = self.content()
            client.log_history(run, content, after=last_step)
            run.config.update(content.config, allow_val_change=True)
            client.log_results(run, content, online=True)
            ended = content.summary["state"] in ("done", "failed", "diverged")
            if not ended:
                run.mark_preempting()  # the run was preempted or killed, and another attempt resumes the W&B run
            run.finish(exit_code=int(content.failed or not ended))
        self._record(content)

    def _change_time(self) -> float:
        try:
            return self.run.metrics.stat().st_mtime
        except FileNotFoundError:
            return 0.0

    def _record(self, content: Content) -> None:
        """Write the run's name and raised alerts to its marker.

        Only `publish` marks the content as published.
        """
        raised = (*(self.before.alerts if self.before else ()), *(alert.key for alert in content.alerts))
        marker = Published(
            id=content.id,
            name=content.name,
            content="",
            folder=None,
            sent=False,
            sweeps=self.sweeps,
            alerts=raised,
        )
        write_json(self.marker, to_mapping(marker))


if __name__ == "__main__":
    main()
