"""Audits by SLURM jobs: `assay audit scan cluster=slurm`, and `assay audit status`."""

from __future__ import annotations

import shlex
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from rich.table import Column, Table
from rich.text import Text

from assay.cli.arguments import AsJson, Overrides, load_workspace, program
from assay.cli.console import console, errors, print_json
from assay.cli.progress import spinner
from assay.core.errors import Damaged
from assay.report.formatting import byte_count, count, duration

if TYPE_CHECKING:
    from assay.audit.findings import Audit, Finding
    from assay.audit.task import AuditSettings
    from assay.config.sources import Source
    from assay.launch.slurm.audit.records import AuditDirectory
    from assay.launch.slurm.audit.status import AuditJob, AuditView
    from assay.launch.slurm.audit.submit import SubmittedAudit
    from assay.plan.workspace import Workspace

LISTED = 10
"""Maximum number of listed jobs and files. The output only counts further jobs and files."""
COLORS = {"audited": "green", "under way": "cyan", "incomplete": "red", "ended": "red", "unknown": "yellow"}
STATES = {
    "audited": "audited",
    "under way": "under way",
    "incomplete": "incomplete: repeat the command to read the missing files",
    "ended": "ended before the results were combined: repeat the command",
    "unknown": "SLURM did not answer",
}


def submit(
    space: Workspace,
    sources: Mapping[str, tuple[Source, str]],
    settings: AuditSettings,
    missing: Mapping[str, str],
    *,
    overrides: Sequence[str],
    jobs: int | None,
    as_json: bool,
) -> tuple[dict[str, tuple[Audit, list[Finding]]], set[str]] | None:
    """Submit an audit to the cluster, and print what was submitted.

    Returns:
        Once the audit is complete: the audits with their findings, and the ids of findings not printed before.
        Until then ``None``.
    """
    from assay.launch.slurm.audit.submit import submit_audit

    sent = submit_audit(sources, settings, store=space.store, cluster=space.study.cluster, jobs=jobs)
    for warning in sent.warnings:
        errors.print(f"warning: {warning}", style="yellow", markup=False)
    if sent.state == "audited":
        return _results(space, sent.directory)
    if as_json:
        plain = {"audit": sent.directory.path.name, "state": sent.state, "shards": sent.shards, "done": sent.done}
        print_json({**plain, "sent": sent.sent, "jobs": sent.jobs, "missing": dict(missing)})
        return None
    _print_sent(sent, space.study.cluster.name, overrides)
    for source, why in missing.items():
        console.print(f"{source}  not audited: {why}", style="bold red", markup=False)
    return None


def _print_sent(sent: SubmittedAudit, cluster: str, overrides: Sequence[str]) -> None:
    if sent.state == "under way":
        read = f"{sent.done} of {count(sent.shards, 'file')} read"
        console.print(f"under way, submitted {_ago(sent.directory.read().created)}: {read}; nothing was submitted.")
    elif not sent.jobs:
        rest = sent.shards - sent.done
        why = f"{count(rest, 'file')} already queued" if rest else "all files were read before"
        console.print(f"{why}; submitted the job that combines the results ({cluster}).", markup=False)
    else:
        before = f"; {sent.done} were read before" if sent.done else ""
        files = (
            f"{count(sent.sent, 'file')} of {sent.shards}" if sent.sent < sent.shards else count(sent.shards, "file")
        )
        console.print(f"submitted {files} in {count(sent.jobs, 'job')} to SLURM ({cluster}){before}.", markup=False)
    console.print("repeat the command to resubmit lost jobs, or to print the findings; show progress with:")
    console.print(f"  {program()} audit status {shlex.join(overrides)}", markup=False, soft_wrap=True)


def _ago(moment: float) -> str:
    return f"{duration(max(1.0, time.time() - moment))} ago"


def _results(space: Workspace, directory: AuditDirectory) -> tuple[dict[str, tuple[Audit, list[Finding]]], set[str]]:
    """Return the audits with their findings, and the ids of findings not printed before."""
    from assay.audit.findings import Findings

    stored, closed, submission = Findings(space.store.root), directory.closed, directory.read()
    assert closed is not None, "the audit is complete"
    done = {}
    for name, digest in submission.digests.items():
        audit = next((entry for entry in stored.audits(name, digest) if entry.id == closed.audits[name]), None)
        if audit is None:
            raise Damaged(
                f"audit {submission.id}: the findings of source {name!r} are missing.",
                fix=f"Remove {directory.path}, then repeat the command.",
            )
        done[name] = (audit, [stored.get(name, digest, identity) for identity in audit.findings])
    return done, set(closed.new) if directory.show_once() else set()


# --- the status


def status(overrides: Overrides = None, *, as_json: AsJson = False) -> None:
    """Show the progress of the newest SLURM audit by source, and its failed jobs."""
    from assay.launch.slurm.audit.status import newest_audits

    with spinner("reading the audits", quiet=as_json):
        audits = newest_audits(load_workspace(overrides, needs_project=False).store, 1)
    if as_json:
        print_json({"audits": [audit.to_mapping() for audit in audits]})
        return
    if not audits:
        console.print(
            "no audit was submitted to a cluster from this store; submit one with: assay audit cluster=slurm",
            markup=False,
        )
        return
    _show(audits[0])


def _show(audit: AuditView) -> None:
    line = Text(STATES[audit.state], style=COLORS[audit.state])
    console.print(Text(f"audit {audit.id} ({audit.cluster}), submitted {_ago(audit.created)}: ").append(line))
    table = Table(Column("source", overflow="fold"), box=None, pad_edge=False)
    for heading in ("files", "of", "bytes", "of"):
        table.add_column(heading, justify="right", no_wrap=True)
    for name, part in audit.sources.items():
        table.add_row(
            Text(name), f"{part.done:,}", f"{part.shards:,}", byte_count(part.bytes_done), byte_count(part.bytes)
        )
    console.print(table)
    if audit.counts:
        console.print(
            "jobs: " + ", ".join(f"{number} {state.replace('_', ' ')}" for state, number in audit.counts.items())
        )
    _show_jobs([job for job in audit.jobs if job.words and job.done < job.shards])
    for failed in audit.failed[:LISTED]:
        console.print(f"  {failed.shard}: {failed.why}", style="red", markup=False)
    _print_more(len(audit.failed) - LISTED, "file")
    if audit.problem:
        console.print(f"SLURM did not answer: {audit.problem}", style="yellow", markup=False)


def _show_jobs(jobs: Sequence[AuditJob]) -> None:
    for job in jobs[:LISTED]:
        console.print(f"  {job.job}  {job.done} of {count(job.shards, 'file')}  {job.words}", markup=False)
        if job.line:
            console.print(f"      {job.line}", style="dim", markup=False)
        if job.line and job.log:
            console.print(f"      {job.log}", style="dim", markup=False, soft_wrap=True)
    _print_more(len(jobs) - LISTED, "job")


def _print_more(number: int, what: str) -> None:
    if number > 0:
        console.print(f"  and {count(number, f'more {what}')}; --json lists all")
