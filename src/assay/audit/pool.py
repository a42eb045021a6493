"""Processes that look at files, one after the other.

One that dies, or in which a detector does not come back, is replaced; the document is left to the other detectors.
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

from assay.audit.ready import get_ready
from assay.audit.task import Settings, Task, work
from assay.errors import AssayError

if TYPE_CHECKING:
    from multiprocessing.connection import Connection
    from multiprocessing.process import BaseProcess

GRACE = 60.0
"""Seconds without a sign of life, beyond what a detector may take, after which a process is ended: machine code cannot be
interrupted."""
ATTEMPTS = 5


class Pool:
    """Processes that take one file after the other, and are replaced when they die or hang."""

    def __init__(self, width: int, settings: Settings, folder: Path, tell: Callable[[Task, int], None]) -> None:
        self._settings, self._folder, self._tell = settings, folder, tell
        self._width = width
        self._context = multiprocessing.get_context("spawn")  # forking a process with Arrow's threads in it can hang

    def run(self, tasks: Sequence[Task]) -> list[tuple[Task, AssayError]]:
        """Do all tasks, the largest first; returns those that failed: a file ended its process again and again, say."""
        waiting = sorted(tasks, key=lambda task: task.size)
        busy: list[_Worker] = []
        failed: list[tuple[Task, AssayError]] = []
        try:
            while waiting or any(worker.task for worker in busy):
                while waiting and len(busy) < self._width:
                    busy.append(_Worker(self._context, self._settings, self._folder))
                for worker in busy:
                    if worker.task is None and waiting:
                        worker.give(waiting.pop())
                multiprocessing.connection.wait([worker.pipe for worker in busy], timeout=1.0)
                for worker in list(busy):
                    task = worker.task
                    try:
                        if worker.listen(self._tell):
                            continue
                        busy.remove(worker)
                        waiting.append(worker.retried())
                    except AssayError as error:
                        assert task is not None, "what fails is about a task"
                        failed.append((task, error))
                        if worker in busy:
                            busy.remove(worker)
                            worker.end()
        finally:
            for worker in busy:
                worker.end()
        return failed


class _Worker:
    """One process, the task that it works on, and what it last said."""

    def __init__(self, context: Any, settings: Settings, folder: Path) -> None:
        self.pipe, theirs = context.Pipe()
        self._beats = context.RawArray("d", 3)
        """Written by the process before each detector: when, which document, which detector; a pipe would be too slow."""
        self.process: BaseProcess = context.Process(
            target=_serve, args=(theirs, self._beats, settings, folder), daemon=True
        )
        self.process.start()
        theirs.close()
        self.task: Task | None = None
        self._names = [each.name for each in settings.detectors()]
        self._limit = settings.seconds + GRACE

    def give(self, task: Task) -> None:
        self.task = task
        self._beats[:] = [math.inf, -1, -1]  # it may still start, which on a busy machine takes its time
        with contextlib.suppress(BrokenPipeError):  # it died; `listen` finds that out
            self.pipe.send(task)

    def listen(self, tell: Callable[[Task, int], None]) -> bool:
        """Take what it says; whether it can be counted on."""
        try:
            while self.pipe.poll():
                kind, value = self.pipe.recv()
                if kind == "error":
                    raise value
                if kind == "read" and self.task:
                    tell(self.task, value)
                elif kind == "done":
                    self.task = None
        except (EOFError, ConnectionResetError):
            return self.task is None
        return self.task is None or time.monotonic() - self._beats[0] < self._limit

    def retried(self) -> Task:
        """The task for another process, without the detector that this one did not come back from."""
        self.end()
        assert self.task is not None
        number, index = int(self._beats[1]), int(self._beats[2])
        name = self._names[index] if index >= 0 else ""
        if len(self.task.skip) >= ATTEMPTS or not name:
            raise AssayError(
                f"{self.task.source.files[0]}: the process that looked at it died or hung "
                f"(document {number + 1}, {name or 'reading'}).",
                fix="See whether memory is short, or leave the file out of the source.",
            )
        return replace(self.task, skip=(*self.task.skip, (number, name)))

    def end(self) -> None:
        self.process.kill()
        self.process.join()
        self.pipe.close()


def _serve(pipe: Connection, beats: Any, settings: Settings, folder: Path) -> None:
    """A process' life: look at files until there are no more."""
    looking = settings.detectors()
    numbers = {each.name: index for index, each in enumerate(looking)}
    get_ready()

    def beat(number: int, name: str) -> None:
        beats[1], beats[2] = number, numbers.get(name, -1)
        beats[0] = time.monotonic()

    with contextlib.suppress(EOFError):
        while True:
            task: Task = pipe.recv()
            beat(-1, "")
            read = _gathered(lambda size: pipe.send(("read", size)))
            try:
                work(task, settings, looking, folder, read, beat)
            except AssayError as error:
                pipe.send(("error", error))
                return
            pipe.send(("done", None))


def _gathered(tell: Callable[[int], None]) -> Callable[[int], None]:
    """Tell sizes by the megabyte."""
    size = 0

    def add(more: int) -> None:
        nonlocal size
        size += more
        if size >= 1 << 20:
            tell(size)
            size = 0

    return add
