"""An audit: files dealt out to processes, each file looked at once, and what was seen of it kept under its digest.

A file that was looked at before, with the same detectors, is not read again, whatever it is called now. A process that
dies, or in which a detector does not come back, is replaced; the document is left to the other detectors.
"""

from __future__ import annotations

import contextlib
import functools
import json
import math
import multiprocessing
import multiprocessing.connection
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from assay.audit import copies
from assay.audit.detectors import Detector, detectors
from assay.audit.examine import Questions, examine
from assay.audit.findings import Audit, Finding, Findings, Severity, Unread, ranked
from assay.audit.merge import BYTES_A_TOKEN, MADE, findings, summed
from assay.audit.ready import get_ready
from assay.audit.unknown import Seen, gather
from assay.corpus.read import Look, file_digests
from assay.errors import AssayError
from assay.files import read_json, replacing, write_json
from assay.fingerprint import fingerprint
from assay.sources import Source
from assay.structure import to_mapping

if TYPE_CHECKING:
    from multiprocessing.connection import Connection
    from multiprocessing.process import BaseProcess

FORMAT = 3
"""Raised whenever the same file would be summed up otherwise."""
PART_BYTES = 64 << 20
"""Of a stored file, after which several processes share it."""
SECONDS = 5.0
"""That a detector may take for a document, or for a megabyte of it."""
GRACE = 60.0
"""Seconds without a sign of life, beyond that, after which a process is ended: machine code cannot be interrupted."""
ATTEMPTS = 5


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What decides what is seen in a file."""

    declared: tuple[dict[str, Any], ...] = ()
    """A team's own detectors; see `assay.audit.detectors`."""
    without: tuple[str, ...] = ()
    questions: str | None = None
    """The index of the benchmarks' questions, as `assay.audit.contamination` writes it."""
    seconds: float = SECONDS

    def detectors(self) -> list[Detector]:
        """The detectors, ready to look."""
        return detectors(self.declared, without=self.without)


@dataclass(frozen=True, kw_only=True)
class Task:
    """A file, or a part of one, that is looked at by one process."""

    source: Source
    """With this one file."""
    part: int
    parts: int
    key: str
    size: int
    skip: tuple[tuple[int, str], ...] = ()


def audit(
    sources: Mapping[str, tuple[Source, str]],
    *,
    store: Path,
    settings: Settings,
    workers: int | None = None,
    bytes_a_token: Mapping[str, float] | None = None,
    progress: Callable[[str, float], None] | None = None,
) -> dict[str, tuple[Audit, list[Finding]]]:
    """Look at sources with all detectors, and keep what was found with their versions.

    Args:
        sources: each with its digest, by name.
        store: the folder in which `audits/` is.
        settings: what to look with.
        workers: processes; one a core if left out, none (this process) for 0.
        bytes_a_token: of those sources that were tokenised.
        progress: told the source and the share of it that is done.

    Returns:
        The audit of each source, and its findings, isolated hits last.

    Raises:
        AssayError: a detector's declaration is wrong, or a source has no file.
    """
    tasks = tasks_of(sources, settings, store=store)
    todo = left(tasks, store=store)
    tell = _teller({name: sum(task.size for task in each) for name, each in tasks.items()}, todo, progress)
    for _, error in look(todo, settings, store=store, workers=workers, tell=tell):
        raise error
    done = conclude(sources, tasks, settings, store=store, bytes_a_token=bytes_a_token)
    if progress is not None:
        for name in done:
            progress(name, 1.0)
    return done


def tasks_of(sources: Mapping[str, tuple[Source, str]], settings: Settings, *, store: Path) -> dict[str, list[Task]]:
    """The files of sources, and parts of large ones, as they are dealt out; what each has to be looked at for is in its key.

    Raises:
        AssayError: a detector's declaration is wrong, or a source has no file.
    """
    looking = settings.detectors()
    return {name: _tasks(source, settings, looking, store) for name, (source, _) in sources.items()}


def left(tasks: Mapping[str, Sequence[Task]], *, store: Path) -> list[Task]:
    """Those that nobody has looked at yet."""
    folder = Findings(store).files
    return [task for each in tasks.values() for task in each if not (folder / task.key / "sums.json").exists()]


def look(
    tasks: Sequence[Task],
    settings: Settings,
    *,
    store: Path,
    workers: int | None = None,
    tell: Callable[[Task, int], None] = lambda _task, _size: None,
) -> list[tuple[Task, AssayError]]:
    """Look at files, and keep what was seen of each under its key.

    Args:
        tasks: what to look at.
        settings: what to look with.
        store: the folder in which `audits/` is.
        workers: processes; one a core if left out, none (this process) for 0.
        tell: told the bytes of a task that were read.

    Returns:
        Those that could not be looked at, and why; the others are done all the same.
    """
    folder = Findings(store).files
    if tasks:
        get_ready()  # here first, so that on a new machine one process compiles and not each: 12 s of a core
    if workers != 0 and tasks:
        return _Pool(workers or len(os.sched_getaffinity(0)), settings, folder, tell).run(tasks)
    looking, failed = settings.detectors(), []
    for task in tasks:
        try:
            _work(task, settings, looking, folder, functools.partial(tell, task), lambda _n, _d: None)
        except AssayError as error:
            failed.append((task, error))
    return failed


def conclude(
    sources: Mapping[str, tuple[Source, str]],
    tasks: Mapping[str, Sequence[Task]],
    settings: Settings,
    *,
    store: Path,
    bytes_a_token: Mapping[str, float] | None = None,
) -> dict[str, tuple[Audit, list[Finding]]]:
    """Sum up what was seen of the sources' files, and keep it with their versions.

    Args:
        sources: each with its digest, by name.
        tasks: what `tasks_of` gave for them; all of it was looked at.
        settings: what it was looked at with.
        store: the folder in which `audits/` is.
        bytes_a_token: of those sources that were tokenised.
    """
    kept = Findings(store)
    totals = {name: summed(_sums(kept.files, task) for task in each) for name, each in tasks.items()}
    files = [copies.File(task.source.name, kept.files / task.key) for each in tasks.values() for task in each]
    copies.compare(totals, files, {name: source.repairs for name, (source, _) in sources.items()})
    known = {each.name: (each.version, each.severity, each.clean, each.reason) for each in settings.detectors()}
    known |= {name: (1, *made) for name, made in MADE.items()}
    done = {}
    for name, (_, digest) in sources.items():
        rate = (bytes_a_token or {}).get(name, BYTES_A_TOKEN)
        found = ranked(findings(name, digest, totals[name], known, bytes_a_token=rate))
        done[name] = (
            _record(name, digest, totals[name], found, known, questions=settings.questions is not None),
            found,
        )
        gather(store, name, digest, [kept.files / task.key for task in tasks[name]])
        kept.add(*done[name])
    return done


def _record(
    name: str,
    digest: str,
    total: Mapping[str, Any],
    found: Sequence[Finding],
    known: Mapping[str, tuple[int, Severity, float, str]],
    *,
    questions: bool,
) -> Audit:
    return Audit(
        source=name,
        digest=digest,
        finished=time.time(),
        detectors={
            detector: entry[0]
            for detector, entry in known.items()
            if questions or detector != "benchmark_contamination"
        },
        documents=total["documents"],
        bytes=total["bytes"],
        findings=tuple(finding.id for finding in found),
        unread=tuple(Unread(**each) for each in total["unread"]),
        unread_count=total["unread_count"],
        summary={"lengths": total["lengths"], "shares": total["shares"]},
    )


def _tasks(source: Source, settings: Settings, looking: Sequence[Detector], store: Path) -> list[Task]:
    made = []
    index = Path(settings.questions) if settings.questions else None
    for url, sha256 in file_digests(source, cache=store).items():
        size = os.path.getsize(url) if os.path.exists(url) else PART_BYTES  # noqa: PTH110, PTH202  # may be a URL
        parts = max(1, -(-size // PART_BYTES))
        for part in range(parts):
            identity = {
                "format": FORMAT,
                "sha256": sha256,
                "part": [part, parts],
                "read": [source.format, source.text_field, source.domain, source.language],
                "name": Path(url).name,
                "detectors": {each.name: [each.version, each.clean] for each in looking},
                "declared": [_plain(each) for each in settings.declared],
                "questions": index.name if index else None,
            }
            one = replace(source, files=(url,))
            made.append(
                Task(source=one, part=part, parts=parts, key=fingerprint("audit", identity), size=size // parts)
            )
    return made


def _plain(value: Mapping[str, Any]) -> str:
    return json.dumps(value, sort_keys=True, default=str)


def _work(  # noqa: PLR0917  # what it is about, and where it tells of it
    task: Task,
    settings: Settings,
    looking: Sequence[Detector],
    folder: Path,
    progress: Callable[[int], None],
    beat: Callable[[int, str], None],
) -> None:
    """Look at a file, and put what was seen under its key."""
    skip: dict[int, set[str]] = {}
    for number, name in task.skip:
        skip.setdefault(number, set()).add(name)
    unknown = Seen()
    sums, prints = examine(
        task.source,
        looking,
        look=Look(part=task.part, parts=task.parts),
        questions=_questions(settings.questions),
        seconds=settings.seconds,
        skip=skip,
        progress=progress,
        beat=beat,
        seen=unknown.add,
    )
    with replacing(folder / task.key) as temporary:
        temporary.mkdir()
        copies.keep(temporary, prints)
        unknown.write(temporary)
        write_json(temporary / "sums.json", to_mapping(sums))


def _questions(index: str | None) -> Questions | None:
    if index is None:
        return None
    folder = Path(index)
    return Questions(
        grams=np.load(folder / "grams.npy", allow_pickle=False),
        task=np.load(folder / "task.npy", allow_pickle=False),
        names=tuple(read_json(folder / "names.json")),
    )


def _sums(folder: Path, task: Task) -> dict[str, Any]:
    found: dict[str, Any] = read_json(folder / task.key / "sums.json")
    return found


def _teller(
    sizes: Mapping[str, int], todo: Sequence[Task], progress: Callable[[str, float], None] | None
) -> Callable[[Task, int], None]:
    left = dict.fromkeys(sizes, 0)
    for task in todo:
        left[task.source.name] += task.size
    done = {name: float(sizes[name] - left[name]) for name in sizes}

    def tell(task: Task, size: int) -> None:
        name = task.source.name
        done[name] += size / task.parts
        if progress is not None:
            progress(name, min(0.99, done[name] / max(1, sizes[name])))

    return tell


# --- processes


class _Pool:
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
                _work(task, settings, looking, folder, read, beat)
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
