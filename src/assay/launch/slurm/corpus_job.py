"""Read the state of a sweep's corpus job, and decide about the runs that depend on it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from assay.launch.inputs import made
from assay.launch.logs import OWN_ERROR, line_that_matters
from assay.launch.slurm.reconcile import RunDecision
from assay.launch.slurm.retry_policy import CAUSES_BY_STATUS, Cause, retry_limit

if TYPE_CHECKING:
    from assay.config.cluster import Slurm
    from assay.launch.slurm.batches import Ledger
    from assay.store.submissions import SubmissionDirectory

LOST = Cause("prepare lost")
FAILED = Cause("prepare failed")


@dataclass(frozen=True, kw_only=True)
class CorpusJobState:
    """State of the newest corpus job of a submission with missing corpora."""

    job: str | None = None
    """Id of the job while the job may still build the corpora."""
    known: bool = True
    """Whether the outcome of the job is known."""
    cause: Cause = LOST
    """Retry cause of a job that ended without success."""
    text: str = ""
    """The state as text for users."""
    log: Path | None = None
    """Path of the job's log."""


def read_corpus_job(ledger: Ledger[SubmissionDirectory]) -> CorpusJobState | None:
    """Read the state of the newest corpus job; return None if there is none.

    Raises:
        Unreachable: SLURM does not answer.
    """
    tasks = [task for task in ledger.tasks() if task.batch.kind == "prepare"]
    job = tasks[-1].job if tasks else None
    if job is None:
        return None
    job_status = ledger.states(tasks[-1:])[job]
    if not job_status.final:
        return CorpusJobState(job=job.partition("_")[0], known=job_status.kind != "unknown", text=job_status.text)
    log = ledger.directory.job_log(job)
    if job_status.kind == "failed" and job_status.record is not None and 0 < (job_status.record.exit_code or 0) < 128:
        # An exit code of the program itself. Shells add 128 to the number of the signal that killed a program.
        message = OWN_ERROR.sub("", line_that_matters(log) or job_status.text, count=1)
        return CorpusJobState(cause=FAILED, text=message, log=log if log.exists() else None)
    cause = LOST if job_status.kind == "completed" else CAUSES_BY_STATUS.get(job_status.kind, LOST)
    return CorpusJobState(cause=cause, text=f"the corpus job {job_status.text}")


def find_runs_without_corpora(directory: SubmissionDirectory, fingerprints: Iterable[str]) -> set[str]:
    """Return the fingerprints of the runs whose corpora or tokenizer are missing."""
    validation, known = directory.read().evaluation.validation, dict[Path, bool]()
    missing = set()
    for fingerprint in fingerprints:
        spec, store = directory.store.run(fingerprint).spec(), directory.store
        corpora = {*spec.corpora.values(), *validation.values()}
        for folder in [store.tokenizers / spec.tokenizer, *(store.corpora / identity for identity in corpora)]:
            if folder not in known:
                known[folder] = made(folder) if folder.parent == store.corpora else folder.exists()
            if not known[folder]:
                missing.add(fingerprint)
    return missing


def decide_after_corpus_job(
    decision: RunDecision, corpus_job: CorpusJobState | None, *, missing: bool, retries: Mapping[str, int], slurm: Slurm
) -> RunDecision:
    """Revise the decision about an inactive run according to the state of the corpus job.

    Args:
        decision: decision from the run's own job: `resubmit` or `fail`.
        corpus_job: state of the corpus job; None without a corpus job.
        missing: whether corpora of the run are missing.
        retries: resubmissions of the run so far, by cause.
        slurm: the profile, with its retry limits.
    """
    dependency_failed = decision.cause == FAILED  # the run's own job never started
    if not missing:
        return _limit_retries(decision, LOST, retries, slurm) if dependency_failed else decision
    if corpus_job is None:
        return decision
    if not corpus_job.known:
        return replace(decision, action="wait", cause=None, text=corpus_job.text)
    if corpus_job.cause == FAILED:
        return replace(decision, action="fail", cause=FAILED, text=corpus_job.text, log=corpus_job.log)
    return (
        _limit_retries(replace(decision, text=corpus_job.text), corpus_job.cause, retries, slurm)
        if dependency_failed
        else decision
    )


def _limit_retries(decision: RunDecision, cause: Cause, retries: Mapping[str, int], slurm: Slurm) -> RunDecision:
    exhausted = retries.get(cause.kind, 0) >= retry_limit(cause.kind, slurm)
    return replace(decision, action="fail" if exhausted else "resubmit", cause=cause)
