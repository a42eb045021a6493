"""Submit a sweep to SLURM.

The periodic monitor job is submitted first, so that it can recover from later failures.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from assay.core.errors import AssayError, SchedulerError
from assay.launch.inputs import made
from assay.launch.slurm.batches import Ledger
from assay.launch.slurm.capabilities import check_request, read_capabilities, waits_for_nodes
from assay.launch.slurm.commands import Rejected, run
from assay.launch.slurm.monitor import close_submission, submit_runs
from assay.launch.slurm.retry_policy import check_retries
from assay.launch.slurm.sbatch import probe_script, request_resources, submit_batch
from assay.plan.frozen_workspace import frozen_workspace
from assay.store.submissions import SubmissionDirectory, done_elsewhere

if TYPE_CHECKING:
    from assay.config.cluster import Cluster
    from assay.launch.slurm.batches import JobKind

TRY_SECONDS = 60.0
NO_SUCH_NODES = "node configuration is not available"
"""Message of `sbatch --test-only` for nodes that do not exist, and for nodes that are drained or down."""


def check_cluster(cluster: Cluster, kinds: Sequence[JobKind] = ("runs", "monitor")) -> list[str]:
    """Raise an error for a profile that this machine's cluster would reject.

    Args:
        cluster: the profile.
        kinds: kinds of jobs that will be submitted.

    Returns:
        Warnings, which do not prevent a submission.

    Raises:
        AssayError: this machine has no SLURM; the cluster lacks the partition, nodes, time or GPUs; or
            `sbatch --test-only` rejects a job.
    """
    assert cluster.slurm is not None, "a profile for SLURM"
    check_retries(cluster.slurm)
    capabilities, warnings = read_capabilities(), list[str]()
    for kind in kinds:
        resources = request_resources(cluster, kind)
        warnings += check_request(resources, capabilities)
        try:
            with tempfile.TemporaryDirectory() as folder:
                run(["sbatch", "--test-only", str(probe_script(Path(folder), cluster, kind))], timeout=TRY_SECONDS)
        except Rejected as error:
            if NO_SUCH_NODES in error.what and waits_for_nodes(resources, capabilities):
                continue
            raise SchedulerError(
                f"cluster {cluster.name!r}: sbatch rejects the jobs: {error.what}",
                fix="Change the profile in conf/cluster/, or override single values with cluster.slurm.NAME=VALUE.",
            ) from error
    return list(dict.fromkeys(warnings))


def submit_to_cluster(directory: SubmissionDirectory) -> None:
    """Submit all jobs of a submission: monitor jobs, corpus job, and runs.

    Raises:
        AssayError: SLURM rejected a job. Jobs that were submitted before continue. If no runs were submitted, the
            submission is closed.
    """
    submission = directory.read()
    study = submission.frozen_study()
    cluster, slurm = study.cluster, study.cluster.slurm
    assert slurm is not None, "a submission for a cluster"
    ledger = Ledger(directory)
    ledger.folder.mkdir(parents=True, exist_ok=True)
    with directory.hold_monitor_lease() as held:
        assert held, "no other process knows the new submission"
        try:
            if slurm.monitor_minutes:
                submit_batch(ledger, ledger.declare("monitor", begin_minutes=slurm.monitor_minutes), cluster)
            jobs = _prepare(ledger, cluster)
            shared = done_elsewhere(directory.store, submission)
            own = [run.fingerprint for run in submission.runs if run.fingerprint not in shared]
            arrays = submit_runs(ledger, cluster, own, size=slurm.runs_per_job, after_success=tuple(jobs))
            awaited = [*arrays, *_arrays_of_other_sweeps(directory, shared)]
            submit_batch(ledger, ledger.declare("monitor", after=tuple(awaited or jobs)), cluster)
        except AssayError:
            if not ledger.jobs("runs"):
                close_submission(directory, decision=None)
            raise


def _prepare(ledger: Ledger[SubmissionDirectory], cluster: Cluster) -> list[str]:
    """Submit the corpus job if a corpus is missing.

    Without this job, a thousand runs would wait for the first run to build the corpus.
    """
    submission = ledger.directory.read()
    workspace = frozen_workspace(submission)
    if all(made(workspace.sources.corpus_folder(name)) for name in submission.digests):
        return []
    return [submit_batch(ledger, ledger.declare("prepare"), cluster)]


def _arrays_of_other_sweeps(directory: SubmissionDirectory, fingerprints: set[str]) -> list[str]:
    """List the arrays of other sweeps that train runs of this submission."""
    arrays: set[str] = set()
    for path in (directory.store.root / "sweeps").glob("*/submissions/*/batches"):
        if path.parent == directory.path:
            continue
        ledger = Ledger(SubmissionDirectory(path.parent))
        for fingerprint, task in ledger.newest_tasks().items():
            if fingerprint in fingerprints and task.job is not None:
                arrays.add(task.job.split("_")[0])
    return sorted(arrays)
