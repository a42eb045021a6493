"""An audit: files dealt out to processes, each file looked at once, and what was seen of it kept under its digest.

A file that was looked at before, with the same detectors, is not read again, whatever it is called now.
"""

from __future__ import annotations

import functools
import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from assay.audit import copies
from assay.audit.detectors import Detector
from assay.audit.findings import Audit, Finding, Findings, Severity, Unread, ranked
from assay.audit.merge import BYTES_A_TOKEN, MADE, findings, summed
from assay.audit.pool import Pool
from assay.audit.ready import get_ready
from assay.audit.task import Settings, Task, work
from assay.audit.unknown import gather
from assay.corpus.read import file_digests
from assay.errors import AssayError
from assay.files import read_json
from assay.fingerprint import fingerprint
from assay.sources import Source

FORMAT = 3
"""Raised whenever the same file would be summed up otherwise."""
PART_BYTES = 64 << 20
"""Of a stored file, after which several processes share it."""


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
        return Pool(workers or len(os.sched_getaffinity(0)), settings, folder, tell).run(tasks)
    looking, failed = settings.detectors(), []
    for task in tasks:
        try:
            work(task, settings, looking, folder, functools.partial(tell, task), lambda _n, _d: None)
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
