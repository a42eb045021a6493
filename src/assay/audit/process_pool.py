"""Run worker processes that scan files.

The pool replaces a worker that dies or hangs. On the document that caused a hang, the new worker skips the detector
that hung.
"""

from __future__ import annotations

import contextlib
import math
import multiprocessing
import multiprocessing.connection
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assay.audit.scan.warm_up import warm_up
from assay.audit.task import AuditSettings, AuditTask, scan_task
from assay.core.errors import AssayError, Damaged

if TYPE_CHECKING:
    from multiprocessing.connection import Connection
    from multiprocessing.process import BaseProcess

GRACE = 60.0
"""Seconds without a heartbeat, beyond a detector's time limit, after which the pool kills a worker.

A worker cannot interrupt compiled code itself."""
ATTEMPTS = 5


class ScanPool:
    """Pool of worker processes; each scans one task at a time."""

    def __init__(
        self, width: int, settings: AuditSettings, folder: Path, progress: Callable[[AuditTask, int], None]
    ) -> None:
        self._settings, self._folder, self._progress = settings, folder, progress
        self._width = width
        self._context = multiprocessing.get_context("spawn")  # forking a process with Arrow threads can hang

    def run(self, tasks: Sequence[AuditTask]) -> list[tuple[AuditTask, AssayError]]:
        """Scan all tasks, the largest first; return the failed tasks with their errors."""
        waiting = sorted(tasks, key=lambda task: task.size)
        busy: list[_Worker] = []
        failed: list[tuple[AuditTask, AssayError]] = []
        try:
            while waiting or any(worker.task for worker in busy):
                while waiting and len(busy) < self._width:
                    busy.append(_Worker(self._context, self._settings, self._folder))
                for worker in busy:
                    if worker.task is None and waiting:
                        worker.start(waiting.pop())
                multiprocessing.connection.wait([worker.pipe for worker in busy], timeout=1.0)
                for worker in list(busy):
                    task = worker.task
                    try:
                        if worker.receive(self._progress):
                            continue
                        busy.remove(worker)
                        waiting.append(worker.retry_task())
                    except AssayError as error:
                        assert task is not None, "only a worker with a task can fail"
                        failed.append((task, error))
                        if worker in busy:
                            busy.remove(worker)
                            worker.end()
        finally:
            for worker in busy:
                worker.end()
        return failed


class _Worker:
    """A worker process, its current task, and its last heartbeat."""

    def __init__(self, context: Any, settings: AuditSettings, folder: Path) -> None:
        self.pipe, child_pipe = context.Pipe()
        self._beats = context.RawArray("d", 3)
        """Time, document and detector, which the process writes before each detector runs. A pipe would be too slow."""
        self.process: BaseProcess = context.Process(
            target=_serve, args=(child_pipe, self._beats, settings, folder), daemon=True
        )
        self.process.start()
        child_pipe.close()
        self.task: AuditTask | None = None
        self._names = [detector.name for detector in settings.detectors()]
        self._limit = settings.seconds + GRACE

    def start(self, task: AuditTask) -> None:
        self.task = task
        self._beats[:] = [math.inf, -1, -1]  # the process may still be starting, which takes long on a busy machine
        with contextlib.suppress(BrokenPipeError):  # the process died; `receive` detects it
            self.pipe.send(task)

    def receive(self, progress: Callable[[AuditTask, int], None]) -> bool:
        """Read the worker's messages; return whether it is alive and within the time limit."""
        try:
            while self.pipe.poll():
                kind, value = self.pipe.recv()
                if kind == "error":
                    raise value
                if kind == "read" and self.task:
                    progress(self.task, value)
                elif kind == "done":
                    self.task = None
        except (EOFError, ConnectionResetError):
            return self.task is None
        return self.task is None or time.monotonic() - self._beats[0] < self._limit

    def retry_task(self) -> AuditTask:
        """End the worker, and return its task without the detector that hung."""
        self.end()
        assert self.task is not None
        number, index = int(self._beats[1]), int(self._beats[2])
        name = self._names[index] if index >= 0 else ""
        if len(self.task.skip) >= ATTEMPTS or not name:
            raise Damaged(
                f"{self.task.source.files[0]}: the worker process died or hung "
                f"(document {number + 1}, {name or 'reading'}).",
                fix="Check the available memory, or remove the file from the source.",
            )
        return replace(self.task, skip=(*self.task.skip, (number, name)))

    def end(self) -> None:
        self.process.kill()
        self.process.join()
        self.pipe.close()


def _serve(pipe: Connection, beats: Any, settings: AuditSettings, folder: Path) -> None:
    """Scan tasks in a worker process until the pipe closes."""
    detectors = settings.detectors()
    numbers = {detector.name: index for index, detector in enumerate(detectors)}
    warm_up()

    def beat(number: int, name: str) -> None:
        beats[1], beats[2] = number, numbers.get(name, -1)
        beats[0] = time.monotonic()

    with contextlib.suppress(EOFError):
        while True:
            task: AuditTask = pipe.recv()
            beat(-1, "")
            read = _by_megabyte(lambda size: pipe.send(("read", size)))
            try:
                scan_task(task, settings, detectors, folder, read, beat)
            except AssayError as error:
                pipe.send(("error", error))
                return
            pipe.send(("done", None))


def _by_megabyte(report: Callable[[int], None]) -> Callable[[int], None]:
    """Collect sizes, and report them per megabyte."""
    size = 0

    def add(more: int) -> None:
        nonlocal size
        size += more
        if size >= 1 << 20:
            report(size)
            size = 0

    return add
