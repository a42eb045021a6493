"""The job that makes a sweep's corpora before its runs begin: what became of it, and of the runs that wait for it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from assay.launch.inputs import made
from assay.launch.logs import line_that_matters
from assay.launch.slurm.causes import BY_SCHEDULER, Cause, cap
from assay.launch.slurm.reconcile import Decision, settled_job

if TYPE_CHECKING:
    from assay.launch.records import SubmissionDirectory
    from assay.launch.slurm.ledger import Ledger
    from assay.settings import Slurm

LOST = Cause("prepare lost")
FAILED = Cause("prepare failed")


@dataclass(frozen=True, kw_only=True)
class Preparation:
    """What became of the newest job that makes the corpora, where they are not all there."""

    job: str | None = None
    """Its number, while it may still make them."""
    known: bool = True
    """Whether it can be told yet."""
    cause: Cause = LOST
    """What ended it."""
    words: str = ""
    """For people."""
    log: Path | None = None
    """What it printed."""


def preparation(ledger: Ledger) -> Preparation | None:
    """Look what became of the newest job that makes the corpora; ``None`` where none was ever meant to.

    Raises:
        Unreachable: SLURM does not answer.
    """
    batches = [batch for batch in ledger.batches() if batch.kind == "prepare"]
    handed = ledger.handed(batches[-1]) if batches else None
    if handed is None:
        return None
    settled = settled_job(ledger, batches[-1])
    if not settled.final:
        return Preparation(job=handed.job, known=settled.kind != "unknown", words=settled.words)
    log = ledger.directory.job_log(f"{handed.job}_0")
    if settled.kind == "failed" and settled.seen is not None and 0 < (settled.seen.exit_code or 0) < 128:
        # By itself: shells add 128 to the signal that killed a program.
        said = (line_that_matters(log) or settled.words).removeprefix("assay.errors.AssayError: ")
        return Preparation(cause=FAILED, words=said, log=log if log.exists() else None)
    cause = LOST if settled.kind == "completed" else BY_SCHEDULER.get(settled.kind, LOST)
    return Preparation(cause=cause, words=f"the job that makes its corpora {settled.words}")


def without_corpora(directory: SubmissionDirectory, fingerprints: Iterable[str]) -> set[str]:
    """Of some runs, those that miss a corpus or the tokenizer."""
    validation, known = directory.read().evaluation.validation, dict[Path, bool]()
    found = set()
    for fingerprint in fingerprints:
        spec, store = directory.store.run(fingerprint).spec(), directory.store
        corpora = {*spec.corpora.values(), *validation.values()}
        for folder in [store.tokenizers / spec.tokenizer, *(store.corpora / identity for identity in corpora)]:
            if folder not in known:
                known[folder] = made(folder) if folder.parent == store.corpora else folder.exists()
            if not known[folder]:
                found.add(fingerprint)
    return found


def decide_again(
    decision: Decision, seen: Preparation | None, *, missing: bool, tries: Mapping[str, int], slurm: Slurm
) -> Decision:
    """Decide about a run that nobody works on in the light of the job that makes what it reads.

    Args:
        decision: what was decided by its own job: `again` or `give up`.
        seen: what became of that job.
        missing: whether the run misses what it makes.
        tries: how often it was sent again already, by class.
        slurm: the profile, with its caps.
    """
    waited = decision.cause == FAILED  # its own job never began
    if not missing:
        return _capped(decision, LOST, tries, slurm) if waited else decision
    if seen is None:
        return decision
    if not seen.known:
        return replace(decision, action="wait", cause=None, words=seen.words)
    if seen.cause == FAILED:
        return replace(decision, action="give up", cause=FAILED, words=seen.words, log=seen.log)
    return _capped(replace(decision, words=seen.words), seen.cause, tries, slurm) if waited else decision


def _capped(decision: Decision, cause: Cause, tries: Mapping[str, int], slurm: Slurm) -> Decision:
    spent = tries.get(cause.kind, 0) >= cap(cause.kind, slurm)
    return replace(decision, action="give up" if spent else "again", cause=cause)
