"""Audit sources with worker processes that scan each file once.

Results are stored under the file's digest. A file that was scanned with the same detectors is not read again, even
under another name.
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

from assay.audit import duplicates
from assay.audit.aggregate import BYTES_A_TOKEN, CORPUS_DETECTORS, findings, sum_files
from assay.audit.detectors.registry import Detector
from assay.audit.explore.records import write_records
from assay.audit.findings import Audit, Finding, Findings, Severity, Unread, ranked
from assay.audit.process_pool import ScanPool
from assay.audit.scan.warm_up import warm_up
from assay.audit.task import AuditSettings, AuditTask, scan_task
from assay.config.sources import Source
from assay.core.errors import AssayError
from assay.core.files import read_json
from assay.core.fingerprint import fingerprint
from assay.corpus.source_reader import file_digests

FORMAT = 6
"""Version of the scan results. Raise it when the same file gives another result."""
PART_BYTES = 64 << 20
"""Size in bytes of a stored file from which several processes scan the file in parts."""


def audit(
    sources: Mapping[str, tuple[Source, str]],
    *,
    store: Path,
    settings: AuditSettings,
    workers: int | None = None,
    bytes_a_token: Mapping[str, float] | None = None,
    progress: Callable[[str, float], None] | None = None,
) -> dict[str, tuple[Audit, list[Finding]]]:
    """Scan sources with all detectors, and store the findings of their versions.

    Args:
        sources: sources with their digests, by name.
        store: folder that contains `audits/`.
        settings: detectors and limits.
        workers: number of worker processes (default: one per core); 0 scans in this process.
        bytes_a_token: mean bytes of text per token, for tokenized sources.
        progress: called with the name of a source and its completed fraction.

    Returns:
        The audit of each source and its findings, with isolated hits last.

    Raises:
        AssayError: a detector declaration is invalid, or a source has no file.
    """
    tasks = split_tasks(sources, settings, store=store)
    todo = pending_tasks(tasks, store=store)
    report = _progress_callback(
        {name: sum(task.size for task in parts) for name, parts in tasks.items()}, todo, progress
    )
    for _, error in scan_tasks(todo, settings, store=store, workers=workers, progress=report):
        raise error
    done = record_audits(sources, tasks, settings, store=store, bytes_a_token=bytes_a_token)
    if progress is not None:
        for name in done:
            progress(name, 1.0)
    return done


def split_tasks(
    sources: Mapping[str, tuple[Source, str]], settings: AuditSettings, *, store: Path
) -> dict[str, list[AuditTask]]:
    """Split sources into tasks: files, and parts of large files.

    The key of a task is a fingerprint of all inputs of its result, such as the content of the file, the part and the detectors.

    Raises:
        AssayError: a detector declaration is invalid, or a source has no file.
    """
    detectors = settings.detectors()
    return {name: _tasks(source, settings, detectors, store) for name, (source, _) in sources.items()}


def pending_tasks(tasks: Mapping[str, Sequence[AuditTask]], *, store: Path) -> list[AuditTask]:
    """Select the tasks without a result."""
    folder = Findings(store).files
    return [task for parts in tasks.values() for task in parts if not (folder / task.key / "sums.json").exists()]


def scan_tasks(
    tasks: Sequence[AuditTask],
    settings: AuditSettings,
    *,
    store: Path,
    workers: int | None = None,
    progress: Callable[[AuditTask, int], None] = lambda _task, _size: None,
) -> list[tuple[AuditTask, AssayError]]:
    """Scan files, and store the result of each file under its key.

    Args:
        tasks: files and parts of files to scan.
        settings: detectors and limits.
        store: folder that contains `audits/`.
        workers: number of worker processes (default: one per core); 0 scans in this process.
        progress: called with a task and the number of bytes that were read of its file.

    Returns:
        The tasks that failed, with their errors. The other tasks are complete.
    """
    folder = Findings(store).files
    if tasks:
        warm_up()  # before the workers start: one process compiles for 12 s on a new machine, not each worker
    if workers != 0 and tasks:
        return ScanPool(workers or len(os.sched_getaffinity(0)), settings, folder, progress).run(tasks)
    detectors, failed = settings.detectors(), []
    for task in tasks:
        try:
            scan_task(task, settings, detectors, folder, functools.partial(progress, task), lambda _n, _d: None)
        except AssayError as error:
            failed.append((task, error))
    return failed


def record_audits(
    sources: Mapping[str, tuple[Source, str]],
    tasks: Mapping[str, Sequence[AuditTask]],
    settings: AuditSettings,
    *,
    store: Path,
    bytes_a_token: Mapping[str, float] | None = None,
) -> dict[str, tuple[Audit, list[Finding]]]:
    """Sum the results of the sources' files, and store findings and audits of their versions.

    Args:
        sources: sources with their digests, by name.
        tasks: result of `split_tasks` for these sources; all tasks are complete.
        settings: settings of the scan.
        store: folder that contains `audits/`.
        bytes_a_token: mean bytes of text per token, for tokenized sources.
    """
    records = Findings(store)
    totals = {name: sum_files(_sums(records.files, task) for task in parts) for name, parts in tasks.items()}
    files = [
        duplicates.FileHashes(task.source.name, records.files / task.key) for parts in tasks.values() for task in parts
    ]
    duplicates.add_duplicates(totals, files, {name: source.repairs for name, (source, _) in sources.items()})
    known = {
        detector.name: (detector.version, detector.severity, detector.clean, detector.reason)
        for detector in settings.detectors()
    }
    known |= {name: (1, *properties) for name, properties in CORPUS_DETECTORS.items()}
    done = {}
    for name, (_, digest) in sources.items():
        rate = (bytes_a_token or {}).get(name, BYTES_A_TOKEN)
        ranked_findings = ranked(findings(name, digest, totals[name], known, bytes_a_token=rate))
        done[name] = (
            _record(name, digest, totals[name], ranked_findings, known, questions=settings.questions is not None),
            ranked_findings,
        )
        write_records(store, name, digest, [records.files / task.key for task in tasks[name]])
        records.add(*done[name])
    return done


def _record(
    name: str,
    digest: str,
    total: Mapping[str, Any],
    source_findings: Sequence[Finding],
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
        findings=tuple(finding.id for finding in source_findings),
        unread=tuple(Unread(**record) for record in total["unread"]),
        unread_count=total["unread_count"],
        summary={"lengths": total["lengths"], "fractions": total["fractions"]},
    )


def _tasks(source: Source, settings: AuditSettings, detectors: Sequence[Detector], store: Path) -> list[AuditTask]:
    tasks = []
    index = Path(settings.questions) if settings.questions else None
    for url, sha256 in file_digests(source, cache=store).items():
        size = os.path.getsize(url) if os.path.exists(url) else PART_BYTES  # noqa: PTH110, PTH202  # may be a URL
        parts = max(1, -(-size // PART_BYTES))
        for part in range(parts):
            identity = {
                "format": FORMAT,
                "sha256": sha256,
                "part": [part, parts],
                "read": [source.format, source.text_field, source.separator, source.domain, source.language],
                "name": Path(url).name,
                "detectors": {detector.name: [detector.version, detector.clean] for detector in detectors},
                "declared": [_plain(declaration) for declaration in settings.declared],
                "questions": index.name if index else None,
            }
            key = fingerprint("audit", identity)
            one_file = replace(source, files=(url,))
            tasks.append(AuditTask(source=one_file, part=part, parts=parts, key=key, size=size // parts))
    return tasks


def _plain(value: Mapping[str, Any]) -> str:
    return json.dumps(value, sort_keys=True, default=str)


def _sums(folder: Path, task: AuditTask) -> dict[str, Any]:
    sums: dict[str, Any] = read_json(folder / task.key / "sums.json")
    return sums


def _progress_callback(
    sizes: Mapping[str, int], todo: Sequence[AuditTask], progress: Callable[[str, float], None] | None
) -> Callable[[AuditTask, int], None]:
    remaining = dict.fromkeys(sizes, 0)
    for task in todo:
        remaining[task.source.name] += task.size
    done = {name: float(sizes[name] - remaining[name]) for name in sizes}

    def report(task: AuditTask, size: int) -> None:
        name = task.source.name
        done[name] += size / task.parts
        if progress is not None:
            progress(name, min(0.99, done[name] / max(1, sizes[name])))

    return report
