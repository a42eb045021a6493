"""What is decided about a run, from every pair of what its record and what SLURM says."""

from __future__ import annotations

from typing import Any

import pytest

from assay.errors import AssayError
from assay.launch.records import SubmittedRun
from assay.launch.slurm.causes import CAPS, Cause, cap, check_retries, of_failure
from assay.launch.slurm.ledger import Placed
from assay.launch.slurm.queue import Settled
from assay.launch.slurm.reconcile import Decision, Standing, decide
from assay.launch.slurm.seen import Seen
from assay.settings import Slurm
from assay.store import Failure, Status

RUN = SubmittedRun(fingerprint="f" * 64, mix="base", seed=0)
PLACE = Placed(batch=1, index=7, job="12_7")


def slurm_says(
    kind: Any, *, final: bool, reason: str = "", nodes: str = "n3", restarts: int = 0, exit_code: int | None = None
) -> Settled:
    seen = Seen(
        job="12_7",
        state="X",
        reason=reason,
        nodes=nodes,
        restarts=restarts,
        exit_code=exit_code,
        signal=None,
        name="key",
        submitted=None,
        start=None,
        elapsed_seconds=None,
        source="squeue",
    )
    return Settled(kind=kind, final=final, words=f"{kind}: {reason}", seen=seen)


def decided(
    settled: Settled | None,
    *,
    status: Status | None = None,
    tries: dict[str, int] | None = None,
    slurm: Slurm | None = None,
    **known: Any,
) -> Decision:
    standing = Standing(
        run=RUN,
        status=status or Status(state="queued"),
        settled=settled,
        **{"evaluated": False, "claimed": False, "place": PLACE, **known},
    )
    return decide(standing, tries=tries or {}, slurm=slurm or Slurm())


ENDS = {
    "preempted": "preempted",
    "node_failed": "node failed",
    "out_of_memory": "out of memory",
    "timed_out": "timed out",
    "completed": "given back",
    "failed": "job failed",
    "vanished": "vanished",
}


@pytest.mark.parametrize("kind", ENDS)
def test_what_the_cluster_ended_is_sent_again_until_its_cap(kind: str) -> None:
    ended = slurm_says(kind, final=True)
    cause = ENDS[kind]
    first = decided(ended)
    assert (first.action, first.cause.kind) == ("again", cause)
    last = decided(ended, tries={cause: CAPS[cause]})
    assert (last.action, last.cause.kind) == ("give up", cause)


def test_a_run_whose_turn_had_not_come_in_a_job_that_was_killed_bears_no_blame() -> None:
    """Whatever killed the job was about the runs before it; but a job that fails before it takes up runs always will."""
    killed = slurm_says("failed", final=True, exit_code=137)
    assert decided(killed, begun=True).cause.kind == "given back"
    assert decided(killed, begun=False).cause.kind == "job failed"
    assert decided(slurm_says("failed", final=True, exit_code=1), begun=True).cause.kind == "job failed"


@pytest.mark.parametrize("kind", ["pending", "requeued", "running", "suspended", "completing"])
def test_what_slurm_still_has_is_left_alone(kind: str) -> None:
    assert decided(slurm_says(kind, final=False)).action == "leave"


@pytest.mark.parametrize("kind", ["pending", "requeued", "held", "never_satisfied"])
def test_a_job_whose_run_is_done_is_taken_back_before_it_begins(kind: str) -> None:
    assert decided(slurm_says(kind, final=False), evaluated=True).action == "drop"


def test_a_job_that_runs_is_not_taken_back_when_its_run_is_done() -> None:
    """It ends by itself; and another run of the same job may be at work."""
    assert decided(slurm_says("running", final=False), evaluated=True).action == "done"


def test_a_launch_that_failed_is_released_and_a_users_hold_is_not() -> None:
    assert decided(slurm_says("held", final=False, reason="launch failed requeued held")).action == "release"
    assert decided(slurm_says("held", final=False, reason="JobHeldUser")).action == "leave"
    assert decided(slurm_says("held", final=False, reason="JobHeldAdmin")).action == "leave"


def test_a_launch_that_failed_is_released_after_the_controller_forgot_why_it_holds_the_job() -> None:
    assert decided(slurm_says("held", final=False, reason="JobHeldAdmin", restarts=1)).action == "release"


def test_a_launch_that_fails_again_and_again_is_given_up_and_its_job_taken_back() -> None:
    reason = "launch failed requeued held"
    last = decided(slurm_says("held", final=False, reason=reason, restarts=CAPS["launch failed"] + 1))
    assert (last.action, last.cause.kind, last.queued) == ("give up", "launch failed", True)


def test_nothing_is_decided_while_accounting_lags() -> None:
    assert decided(slurm_says("unknown", final=False)).action == "wait"


def test_a_run_that_somebody_writes_into_is_never_sent_again() -> None:
    """SLURM may have lost a job whose task lives on."""
    assert decided(None, claimed=True).action == "wait"
    assert decided(slurm_says("running", final=False), claimed=True).action == "leave"
    assert decided(None, claimed=True, place=None).action == "leave"


@pytest.mark.parametrize(
    "failure",
    [
        Failure(kind="error", message="source 'web': a.jsonl:3: not JSON"),
        Failure(kind="ZeroDivisionError", message="division by zero"),
        Failure(kind="disk full", message="store: the disk is full."),
        Failure(kind="time limit", message="3 jobs in a row ran to their time limit"),
    ],
)
def test_a_users_error_is_not_tried_again(failure: Failure) -> None:
    status = Status(state="failed", failure=failure)
    assert decided(slurm_says("completed", final=True), status=status).action == "done"


def test_a_divergence_is_not_tried_again() -> None:
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
def test_whose_fault_a_runs_own_failure_is(failure: Failure, cause: Cause | None) -> None:
    assert of_failure(failure) == cause
    status = Status(state="failed", failure=failure)
    decision = decided(slurm_says("completed", final=True), status=status)
    assert decision.action == ("done" if cause is None else "again")
    assert decision.cause == cause


def test_a_run_that_failed_for_the_clusters_fault_waits_until_its_job_has_ended() -> None:
    """Its neighbours in the job go on."""
    status = Status(state="failed", failure=Failure(kind="killed", message="was killed (SIGKILL)"))
    assert decided(slurm_says("running", final=False), status=status).action == "leave"


def test_preemption_is_borne_without_end_where_the_profile_says_so() -> None:
    ended = slurm_says("preempted", final=True)
    assert decided(ended, tries={"preempted": 99}, slurm=Slurm(preemptible=True)).action == "again"
    assert decided(ended, tries={"preempted": 99}, slurm=Slurm()).action == "give up"


def test_a_job_that_somebody_cancelled_is_not_sent_again() -> None:
    decision = decided(slurm_says("cancelled", final=True))
    assert (decision.action, decision.cause.kind) == ("give up", "cancelled")


def test_a_run_of_another_sweep_is_left_to_it_and_taken_up_when_that_gives_it_up() -> None:
    assert decided(None, place=None, elsewhere=True).action == "leave"
    taken = decided(None, place=None)
    assert (taken.action, taken.cause.kind) == ("again", "left")


def test_a_profile_changes_caps_and_may_not_name_others() -> None:
    assert cap("killed", Slurm(retries={"killed": 7})) == 7
    assert cap("killed", Slurm()) == CAPS["killed"]
    with pytest.raises(AssayError, match="nothing is called 'node faild'. Did you mean 'node failed'"):
        check_retries(Slurm(retries={"node faild": 1}))
    with pytest.raises(AssayError, match="'killed' is -1"):
        check_retries(Slurm(retries={"killed": -1}))
