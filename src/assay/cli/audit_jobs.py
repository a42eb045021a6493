"""`assay audit cluster=slurm` and `assay audit --status`: audits that jobs of a cluster make."""

from __future__ import annotations

import shlex
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from rich.table import Column, Table
from rich.text import Text

from assay.cli.common import console, errors, print_json, program, size
from assay.errors import AssayError
from assay.publish.words import count, duration

if TYPE_CHECKING:
    from assay.audit.findings import Audit, Finding
    from assay.audit.task import Settings
    from assay.launch.slurm.audit_records import AuditDirectory
    from assay.launch.slurm.audit_submit import Sent
    from assay.launch.slurm.audit_view import AuditJob, AuditView
    from assay.sources import Source
    from assay.workspace import Workspace

LISTED = 10
"""Jobs and files that are listed one by one."""
COLOURS = {"audited": "green", "under way": "cyan", "incomplete": "red", "ended": "red", "unknown": "yellow"}
STATES = {
    "audited": "audited",
    "under way": "under way",
    "incomplete": "incomplete: the same command again looks at what is missing",
    "ended": "ended before it was summed up: the same command again does what is missing",
    "unknown": "SLURM did not answer",
}


def send(
    space: Workspace,
    sources: Mapping[str, tuple[Source, str]],
    settings: Settings,
    missing: Mapping[str, str],
    *,
    overrides: Sequence[str],
    jobs: int | None,
    as_json: bool,
) -> tuple[dict[str, tuple[Audit, list[Finding]]], set[str]] | None:
    """Send an audit to the cluster, and say so.

    Returns:
        Once it is over: the audits with their findings, and the ids of those that nobody was shown yet; before, ``None``.
    """
    from assay.launch.slurm.audit_submit import submit_audit

    sent = submit_audit(sources, settings, store=space.store, cluster=space.study.cluster, jobs=jobs)
    for warning in sent.warnings:
        errors.print(f"warning: {warning}", style="yellow", markup=False)
    if sent.state == "audited":
        return _results(space, sent.directory)
    if as_json:
        plain = {"audit": sent.directory.path.name, "state": sent.state, "shards": sent.shards, "done": sent.done}
        print_json({**plain, "sent": sent.sent, "jobs": sent.jobs, "missing": dict(missing)})
        return None
    _say(sent, space.study.cluster.name, overrides)
    for source, why in missing.items():
        console.print(f"{source}  not audited: {why}", style="bold red", markup=False)
    return None


def _say(sent: Sent, cluster: str, overrides: Sequence[str]) -> None:
    if sent.state == "under way":
        looked = f"{sent.done} of {count(sent.shards, 'file')} looked at"
        console.print(f"under way, sent {_ago(sent.directory.submission.created)}: {looked}; nothing was sent.")
    elif not sent.jobs:
        rest = sent.shards - sent.done
        why = f"{count(rest, 'file')} in the queue since before" if rest else "all files were looked at before"
        console.print(f"{why}; sent the job that sums up ({cluster}).", markup=False)
    else:
        before = f"; {sent.done} were looked at before" if sent.done else ""
        files = (
            f"{count(sent.sent, 'file')} of {sent.shards}" if sent.sent < sent.shards else count(sent.shards, "file")
        )
        console.print(f"sent {files} in {count(sent.jobs, 'job')} of SLURM ({cluster}){before}.", markup=False)
    console.print("the same command again sends what was lost, or prints what was found; where it stands:")
    console.print(f"  {program()} audit --status {shlex.join(overrides)}", markup=False, soft_wrap=True)


def _ago(moment: float) -> str:
    return f"{duration(max(1.0, time.time() - moment))} ago"


def _results(space: Workspace, directory: AuditDirectory) -> tuple[dict[str, tuple[Audit, list[Finding]]], set[str]]:
    """What an audit that is over has found."""
    from assay.audit.findings import Findings

    kept, closed, submission = Findings(space.store.root), directory.closed, directory.submission
    assert closed is not None, "it is over"
    done = {}
    for name, digest in submission.digests.items():
        audit = next((one for one in kept.audits(name, digest) if one.id == closed.audits[name]), None)
        if audit is None:
            raise AssayError(
                f"audit {submission.id}: what it found in {name} is gone.",
                fix=f"Remove {directory.path}, and run it again.",
            )
        done[name] = (audit, [kept.get(name, digest, identity) for identity in audit.findings])
    return done, set(closed.new) if directory.show_once() else set()


# --- the status


def show_status(space: Workspace, *, as_json: bool) -> None:
    """Print where the newest audit on a cluster stands, source by source, with the jobs that did not end well."""
    from assay.launch.slurm.audit_view import newest_audits

    found = newest_audits(space.store, 1)
    if as_json:
        print_json({"audits": [one.to_mapping() for one in found]})
        return
    if not found:
        console.print("no audit was sent to a cluster from this store: assay audit cluster=slurm", markup=False)
        return
    _show(found[0])


def _show(seen: AuditView) -> None:
    line = Text(STATES[seen.state], style=COLOURS[seen.state])
    console.print(Text(f"audit {seen.id} ({seen.cluster}), sent {_ago(seen.created)}: ").append(line))
    table = Table(Column("source", overflow="fold"), box=None, pad_edge=False)
    for heading in ("files", "of", "bytes", "of"):
        table.add_column(heading, justify="right", no_wrap=True)
    for name, one in seen.sources.items():
        table.add_row(Text(name), f"{one.done:,}", f"{one.shards:,}", size(one.bytes_done), size(one.bytes))
    console.print(table)
    if seen.counts:
        console.print(
            "jobs: " + ", ".join(f"{number} {state.replace('_', ' ')}" for state, number in seen.counts.items())
        )
    _show_jobs([job for job in seen.jobs if job.words and job.done < job.shards])
    for failed in seen.failed[:LISTED]:
        console.print(f"  {failed.shard}: {failed.why}", style="red", markup=False)
    _and_more(len(seen.failed) - LISTED, "file")
    if seen.problem:
        console.print(f"SLURM could not be asked: {seen.problem}", style="yellow", markup=False)


def _show_jobs(jobs: Sequence[AuditJob]) -> None:
    for job in jobs[:LISTED]:
        console.print(f"  {job.job}  {job.done} of {count(job.shards, 'file')}  {job.words}", markup=False)
        if job.line:
            console.print(f"      {job.line}", style="dim", markup=False)
        if job.line and job.log:
            console.print(f"      {job.log}", style="dim", markup=False, soft_wrap=True)
    _and_more(len(jobs) - LISTED, "job")


def _and_more(number: int, what: str) -> None:
    if number > 0:
        console.print(f"  and {count(number, f'more {what}')}; --json has all")
