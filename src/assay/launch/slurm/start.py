"""Handing a submission to SLURM: the job that comes by the clock first, so that whatever happens next, somebody looks."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from assay.corpus.manifest import read_manifest
from assay.errors import AssayError
from assay.launch.records import SubmissionDirectory
from assay.launch.slurm.causes import check_retries
from assay.launch.slurm.commands import Refused, run
from assay.launch.slurm.finish import frozen
from assay.launch.slurm.ledger import Ledger
from assay.launch.slurm.sbatch import hand_over, probe_script, time_limit
from assay.launch.slurm.site import Request, ask_site, check, waits_for_nodes
from assay.launch.slurm.tend import close, send
from assay.launch.submission import done_elsewhere
from assay.study import Study

if TYPE_CHECKING:
    from assay.settings import Cluster

TRY_SECONDS = 60.0
NO_SUCH_NODES = "node configuration is not available"
"""What `sbatch --test-only` says of nodes that there aren't, and of nodes that are drained or down just now."""


def check_cluster(cluster: Cluster) -> list[str]:
    """Refuse a profile that the cluster here would refuse, before anything is submitted.

    Returns:
        What people should know, though it stops nothing.

    Raises:
        AssayError: there is no SLURM here, or it has no such partition, node, time or GPUs; or sbatch, asked to try,
            says no.
    """
    assert cluster.slurm is not None, "a profile for SLURM"
    check_retries(cluster.slurm)
    site, warnings = ask_site(), list[str]()
    for training in (True, False):
        request = _request(cluster, training=training)
        warnings += check(request, site)
        try:
            _try_out(cluster, training=training)
        except Refused as error:
            if NO_SUCH_NODES in error.what and waits_for_nodes(request, site):
                continue
            raise AssayError(
                f"cluster {cluster.name!r}: sbatch would refuse its jobs: {error.what}",
                fix="Change the profile in conf/cluster/, or single values as cluster.slurm.NAME=VALUE.",
            ) from error
    return list(dict.fromkeys(warnings))


def _request(cluster: Cluster, *, training: bool) -> Request:
    """What each job asks for: of runs, or of those that look after the sweep."""
    slurm = cluster.slurm
    assert slurm is not None, "a profile for SLURM"
    minutes = time_limit(cluster, training=training)
    if not training:
        return Request(
            partition=slurm.control_partition or slurm.partition,
            cpus_per_node=cluster.cpus_per_worker,
            minutes=minutes,
            exclude=slurm.exclude,
            account=slurm.account,
        )
    ranks = slurm.processes_per_node if slurm.ranks > 1 else slurm.at_once
    return Request(
        partition=slurm.partition,
        nodes=slurm.nodes,
        gpus_per_node=slurm.gpus_per_node,
        cpus_per_node=cluster.cpus_per_worker * ranks,
        memory_mb_per_node=None if slurm.memory_gb is None else round(slurm.memory_gb * 1024),
        minutes=minutes,
        constraint=slurm.constraint,
        exclude=slurm.exclude,
        account=slurm.account,
        qos=slurm.qos,
        grace_seconds=slurm.grace_seconds,
    )


def _try_out(cluster: Cluster, *, training: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        script = probe_script(Path(folder), cluster, training=training)
        run(["sbatch", "--test-only", str(script)], timeout=TRY_SECONDS)


def start_on_cluster(directory: SubmissionDirectory) -> None:
    """Hand over all of a submission: what looks after it, what makes its corpora, its runs.

    Raises:
        AssayError: SLURM refused. What it had taken until then goes on; if that was nothing, the submission is closed.
    """
    submission = directory.read()
    study = Study.parse(submission.study)
    cluster, slurm = study.cluster, study.cluster.slurm
    assert slurm is not None, "a submission for a cluster"
    ledger = Ledger(directory)
    ledger.folder.mkdir(parents=True, exist_ok=True)
    with directory.tending() as held:
        assert held, "nobody else knows of it yet"
        try:
            if slurm.tend_minutes:
                hand_over(ledger, ledger.mean("tend", begin_minutes=slurm.tend_minutes), cluster)
            jobs = _prepare(ledger, cluster)
            left_to_others = done_elsewhere(directory.store, submission)
            mine = [run.fingerprint for run in submission.runs if run.fingerprint not in left_to_others]
            arrays = send(ledger, cluster, mine, size=slurm.runs_per_job, after_success=jobs)
            awaited = [*arrays, *_arrays_of_others(directory, left_to_others)]
            hand_over(ledger, ledger.mean("tend", after=awaited or jobs), cluster)
        except AssayError:
            if not any(batch.kind == "runs" and ledger.handed(batch) for batch in ledger.batches()):
                close(directory, decision=None)
            raise


def _prepare(ledger: Ledger, cluster: Cluster) -> list[str]:
    """The job that makes the corpora, if one is missing: a thousand runs would all wait for the first."""
    submission = ledger.directory.read()
    space = frozen(submission)
    for name in submission.digests:
        try:
            read_manifest(space.store.corpora / space.corpus_id(name))
        except AssayError:
            return [hand_over(ledger, ledger.mean("prepare"), cluster).job]
    return []


def _arrays_of_others(directory: SubmissionDirectory, fingerprints: set[str]) -> list[str]:
    """The jobs of other sweeps that do runs of this one."""
    found: set[str] = set()
    for path in (directory.store.root / "sweeps").glob("*/submissions/*/batches"):
        if path.parent == directory.path:
            continue
        ledger = Ledger(SubmissionDirectory(path.parent))
        for fingerprint, place in ledger.places().items():
            if fingerprint in fingerprints and place.job is not None:
                found.add(place.job.split("_")[0])
    return sorted(found)
