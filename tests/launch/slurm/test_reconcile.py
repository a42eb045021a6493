"""Actions for runs, from pairs of a run record and a job status."""

from __future__ import annotations

from typing import Any

import pytest

from assay.config.cluster import Slurm
from assay.core.errors import AssayError
from assay.launch.slurm.batches import ArrayTask, JobBatch
from assay.launch.slurm.job_record import JobRecord
from assay.launch.slurm.queue import JobStatus
from assay.launch.slurm.reconcile import RunDecision, RunState, decide_run
from assay.launch.slurm.retry_policy import RETRY_LIMITS, Cause, check_retries, classify_failure, retry_limit
from assay.store.runs import Failure, Status
from assay.store.submissions import SubmittedRun

RUN = SubmittedRun(fingerprint="f" * 64, mix="base", seed=0)
TASK = ArrayTask(JobBatch(number=1, kind="runs", key="key", created=0.0), 7, "12_7")


def slurm_says(
    kind: Any, *, final: bool, reason: str = "", nodes: str = "n3", restarts: int = 0, exit_code: int | None = None
) -> JobStatus:
    record = JobRecord(
        job="12_7",
        state="X",
        reason=reason,
        nodes=nodes,
        restarts=restarts,
        exit_code=exit_code,
        signal=None,
        name="key",
        submitted=None,
        elapsed_seconds=None,
        source="squeue",
    )
    return JobStatus(kind=kind, final=final, text=f"{kind}: {reason}", record=record)


def decided(
    job_status: JobStatus | None,
    *,
    status: Status | None = None,
    retries: dict[str, int] | None = None,
    slurm: Slurm | None = None,
    **known: Any,
) -> RunDecision:
    run_state = RunState(
        run=RUN,
        status=status or Status(state="queued"),
        job_status=job_status,
        **{"evaluated": False, "claimed": False, "task": TASK, **known},
    )
    return decide_run(run_state, retries=retries or {}, slurm=slurm or Slurm())


ENDS = {
    "preempted": "preempted",
    "node_failed": "node failed",
    "out_of_memory": "out of memory",
    "timed_out": "timed out",
    "completed": "requeued",
    "failed": "job failed",
    "vanished": "vanished",
}


@pytest.mark.parametrize("kind", ENDS)
def test_a_run_whose_job_the_cluster_ended_is_resubmitted_up_to_its_limit(kind: str) -> None:
    ended = slurm_says(kind, final=True)
    cause = ENDS[kind]
    first = decided(ended)
    assert (first.action, first.cause.kind) == ("resubmit", cause)
    last = decided(ended, retries={cause: RETRY_LIMITS[cause]})
    assert (last.action, last.cause.kind) == ("fail", cause)


def test_a_waiting_run_of_a_killed_job_is_not_blamed() -> None:
    """The runs before it caused the kill. But a job that fails before its worker starts would always fail again."""
    killed = slurm_says("failed", final=True, exit_code=137)
    assert decided(killed, job_started=True).cause.kind == "requeued"
    assert decided(killed, job_started=False).cause.kind == "job failed"
    assert decided(slurm_says("failed", final=True, exit_code=1), job_started=True).cause.kind == "job failed"


@pytest.mark.parametrize("kind", ["pending", "requeued", "running", "suspended", "completing"])
def test_a_run_with_a_queued_job_is_kept(kind: str) -> None:
    assert decided(slurm_says(kind, final=False)).action == "keep"


@pytest.mark.parametrize("kind", ["pending", "requeued", "held", "never_satisfied"])
def test_a_pending_job_whose_run_is_done_is_cancelled(kind: str) -> None:
    assert decided(slurm_says(kind, final=False), evaluated=True).action == "cancel"


def test_a_running_job_whose_run_is_done_is_not_cancelled() -> None:
    """It ends by itself, and another run of the same job may be active."""
    assert decided(slurm_says("running", final=False), evaluated=True).action == "done"


def test_a_hold_after_a_failed_launch_is_released_and_a_users_hold_is_not() -> None:
    assert decided(slurm_says("held", final=False, reason="launch failed requeued held")).action == "release"
    assert decided(slurm_says("held", final=False, reason="JobHeldUser")).action == "keep"
    assert decided(slurm_says("held", final=False, reason="JobHeldAdmin")).action == "keep"


def test_a_hold_is_released_after_the_controller_forgot_the_failed_launch() -> None:
    assert decided(slurm_says("held", final=False, reason="JobHeldAdmin", restarts=1)).action == "release"


def test_a_run_fails_after_too_many_failed_launches() -> None:
    reason = "launch failed requeued held"
    last = decided(slurm_says("held", final=False, reason=reason, restarts=RETRY_LIMITS["launch failed"] + 1))
    assert (last.action, last.cause.kind, last.queued) == ("fail", "launch failed", True)


def test_a_run_waits_while_accounting_lags() -> None:
    assert decided(slurm_says("unknown", final=False)).action == "wait"


def test_a_run_whose_lease_is_held_is_never_resubmitted() -> None:
    """SLURM may have lost a job whose task still runs."""
    assert decided(None, claimed=True).action == "wait"
    assert decided(slurm_says("running", final=False), claimed=True).action == "keep"
    assert decided(None, claimed=True, task=None).action == "keep"


@pytest.mark.parametrize(
    "failure",
    [
        Failure(kind="error", message="source 'web': a.jsonl:3: not JSON"),
        Failure(kind="ZeroDivisionError", message="division by zero"),
        Failure(kind="disk full", message="store: the disk is full."),
        Failure(kind="time limit", message="3 jobs in a row ran to their time limit"),
    ],
)
def test_a_run_with_an_error_of_its_own_is_not_resubmitted(failure: Failure) -> None:
    status = Status(state="failed", failure=failure)
    assert decided(slurm_says("completed", final=True), status=status).action == "done"


def test_a_diverged_run_is_not_resubmitted() -> None:
    status = Status(state="diverged", failure=Failure(kind="diverged", message="loss is nan"))
    assert decided(slurm_says("failed", final=True), status=status).action == "done"


@pytest.mark.parametrize(
    ("failure", "cause"),
    [
        (Failure(kind="killed", message="was killed (SIGKILL)"), Cause("killed", alone=True)),
        (Failure(kind="out of memory", message="the kernel killed it"), Cause("out of memory", alone=True)),
        (Failure(kind="AcceleratorError", message="CUDA error: uncorrectable ECC error"), Cause("device error", True)),
        (Failure(kind="RuntimeError", message="NCCL communicator was aborted"), Cause("device error", True)),
        (Failure(kind="RuntimeError", message="shapes do not match"), None),
    ],
)
def test_a_recorded_failure_has_the_cause_of_its_kind_and_message(failure: Failure, cause: Cause | None) -> None:
    assert classify_failure(failure) == cause
    status = Status(state="failed", failure=failure)
    decision = decided(slurm_says("completed", final=True), status=status)
    assert decision.action == ("done" if cause is None else "resubmit")
    assert decision.cause == cause


def test_a_run_with_a_cluster_failure_is_kept_until_its_job_has_ended() -> None:
    """Its neighbors in the job continue."""
    status = Status(state="failed", failure=Failure(kind="killed", message="was killed (SIGKILL)"))
    assert decided(slurm_says("running", final=False), status=status).action == "keep"


def test_preempted_runs_are_resubmitted_without_limit_on_a_preemptible_partition() -> None:
    ended = slurm_says("preempted", final=True)
    assert decided(ended, retries={"preempted": 99}, slurm=Slurm(preemptible=True)).action == "resubmit"
    assert decided(ended, retries={"preempted": 99}, slurm=Slurm()).action == "fail"


def test_a_run_whose_job_was_cancelled_is_not_resubmitted() -> None:
    decision = decided(slurm_says("cancelled", final=True))
    assert (decision.action, decision.cause.kind) == ("fail", "cancelled")


def test_a_run_of_another_sweep_is_kept_and_resubmitted_once_that_sweep_abandons_it() -> None:
    assert decided(None, task=None, elsewhere=True).action == "keep"
    taken = decided(None, task=None)
    assert (taken.action, taken.cause.kind) == ("resubmit", "left")


def test_a_profile_overrides_retry_limits_and_must_name_known_causes() -> None:
    assert retry_limit("killed", Slurm(retries={"killed": 7})) == 7
    assert retry_limit("killed", Slurm()) == RETRY_LIMITS["killed"]
    with pytest.raises(AssayError, match="'node faild' is not a retry cause. Did you mean 'node failed'"):
        check_retries(Slurm(retries={"node faild": 1}))
    with pytest.raises(AssayError, match=r"'killed'\]: -1 is invalid"):
        check_retries(Slurm(retries={"killed": -1}))
