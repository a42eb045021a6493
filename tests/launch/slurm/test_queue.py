from __future__ import annotations

import logging

import pytest

from assay.launch.slurm.commands import Rejected, Unreachable
from assay.launch.slurm.job_record import SEPARATOR, JobRecord, parse_sacct, parse_squeue
from assay.launch.slurm.queue import (
    INTERACTIVE,
    JobStatus,
    Patience,
    find_jobs_by_name,
    interpret_record,
    query_accounting,
    query_job_statuses,
    query_queue,
)
from tests.launch.slurm.fakes import Commands, commands, recorded

__all__ = ["commands"]

DBD_DOWN = """\
sacct: error: slurm_persist_conn_open_without_init: failed to open persistent connection to host:127.0.0.1:6819: \
Connection refused
sacct: error: Sending PersistInit msg: Connection refused
sacct: error: Problem talking to the database: Connection refused"""


def squeue_row(
    job: str, state: str, *, reason: str = "None", nodes: str = "", status: int = 0, name: str = "ours"
) -> str:
    """Build a row of squeue."""
    times = ["2026-11-23T16:00:00", "N/A", "0:00", "1:00:00"]
    return SEPARATOR.join([job, state, reason, nodes, "0", str(status), *times, name, ""]) + "\n"


def sacct_row(
    job: str, state: str, *, submitted: str = "16:00:00", reason: str = "None", status: str = "0:0", name: str = "ours"
) -> str:
    """Build a row of sacct."""
    times = [f"2026-11-23T{submitted}", "2026-11-23T16:00:00", "1", "60"]
    return SEPARATOR.join([job, state, reason, "n1", status, *times, name]) + "\n"


def all_jobs(printed: str) -> set[str]:
    """List every job and array in the output of squeue."""
    return {line.split(SEPARATOR)[0].split("_")[0] for line in printed.splitlines() if SEPARATOR in line[:-1]}


def by_name(found: dict[str, JobRecord]) -> dict[str, JobRecord]:
    """Map names to records, with one task per array."""
    return {record.name: record for record in found.values()}


@pytest.fixture
def queue(commands: Commands) -> dict[str, JobRecord]:
    """Read a recorded queue with jobs in many states, by job name."""
    printed = recorded("queue.squeue")
    commands.prints("squeue", printed)
    return by_name(query_queue(all_jobs(printed)))


@pytest.fixture
def ended(commands: Commands) -> dict[str, JobRecord]:
    """Read the end states of that queue's jobs while the controller still remembers them."""
    printed = recorded("later.squeue")
    commands.prints("squeue", printed)
    return by_name(query_accounting([record.job for record in parse_squeue(printed)]))


@pytest.fixture
def accounted(commands: Commands) -> dict[str, JobRecord]:
    """Read the same end states from accounting, after the controller has forgotten the jobs."""
    commands.prints("squeue")
    commands.prints("sacct", recorded("later.sacct"))
    commands.prints("sdiag", recorded("sdiag.txt"))
    return by_name(query_accounting(all_jobs(recorded("later.squeue"))))


# --- in the queue


@pytest.mark.parametrize(
    ("name", "kind", "text"),
    [
        ("resources", "pending", "is pending: Resources"),
        ("begin|na|me 日本ü", "pending", "is pending: BeginTime"),
        ("dependency", "pending", "is pending: Dependency"),
        ("array", "pending", "is pending: ReqNodeNotAvail, UnavailableNodes:n3"),
        ("never", "never_satisfied", "can never start: a job that it depends on did not complete"),
        ("held-user", "held", "held by the user: scontrol release {job}"),
        ("held-admin", "held", "held by an administrator: scontrol release {job}"),
        ("requeue-hold", "held", "held by SLURM (job requeued in held state): scontrol release {job}"),
        ("special-exit", "held", "held by SLURM (job requeued in held state): scontrol release {job}"),
        ("requeued", "requeued", "was requeued and is pending: BeginTime"),
        ("preempted-requeued", "requeued", "was requeued and is pending: Resources"),
        (
            "node-failed-requeued",
            "requeued",
            "was requeued and is pending: ReqNodeNotAvail, UnavailableNodes:n4",
        ),
        ("runs", "running", "is running on n3"),
        ("suspended", "suspended", "is suspended on n1"),
        ("completing", "completing", "is completing on n1"),
    ],
)
def test_a_queued_job_has_the_kind_of_its_state_and_is_not_final(
    queue: dict[str, JobRecord], name: str, kind: str, text: str
) -> None:
    status = interpret_record(queue[name])
    assert (status.kind, status.text) == (kind, text.format(job=queue[name].job))
    assert not status.final


def test_an_ended_job_that_the_controller_remembers_is_not_in_the_queue(queue: dict[str, JobRecord]) -> None:
    assert "COMPLETED" in recorded("queue.squeue")
    assert not queue.keys() & {"ok", "exit-3", "cancelled-running", "cancelled-array", "time-limit", "node-failed"}


def test_times_nodes_and_restarts_are_parsed(queue: dict[str, JobRecord]) -> None:
    runs, requeued = queue["runs"], queue["requeued"]
    assert (runs.elapsed_seconds, runs.limit_seconds, runs.nodes, runs.restarts) == (91, 3600, "n3", 0)
    assert requeued.submitted == 1795451707.0  # time of the requeue, 5 s after sbatch
    assert (requeued.elapsed_seconds, requeued.restarts) == (None, 1)  # a predicted start is not a start


def test_each_pending_task_of_an_array_has_its_own_record(commands: Commands) -> None:
    printed = recorded("queue.squeue")
    commands.prints("squeue", printed)
    found = query_queue(all_jobs(printed))
    tasks: dict[str, list[int]] = {}
    for job, record in found.items():
        if "_" in job:
            tasks.setdefault(record.name, []).append(int(job.split("_")[1]))
    assert sorted(tasks["array"]) == list(range(10))
    assert sorted(tasks["steps"]) == list(range(1, 200, 2))
    assert len(tasks["irregular"]) == 36
    assert max(tasks["irregular"]) == 131  # beyond the 64 characters that SLURM prints by default


def test_a_held_task_does_not_make_the_other_tasks_of_its_array_look_held(commands: Commands) -> None:
    """Without --array-unique squeue has one line for all five: "BeginTime,JobHeldAdmin"."""
    printed = recorded("queue.squeue")
    commands.prints("squeue", printed)
    found = {
        job[-2:]: interpret_record(record).kind
        for job, record in query_queue(all_jobs(printed)).items()
        if record.name == "mixed"
    }
    assert found == {"_0": "pending", "_1": "pending", "_2": "held", "_3": "pending", "_4": "pending"}
    assert all("--array-unique" in call for call in commands.calls("squeue"))


def test_only_the_requested_tasks_are_returned(commands: Commands) -> None:
    commands.prints(
        "squeue", squeue_row("7_[0-3]", "PENDING") + squeue_row("8", "PENDING") + squeue_row("9", "PENDING")
    )
    assert set(query_queue(["7_1", "7_2", "8"])) == {"7_1", "7_2", "8"}


def test_a_job_that_the_controller_has_forgotten_is_absent_without_an_error(commands: Commands) -> None:
    """squeue --jobs=7 would fail with "Invalid job id specified"."""
    commands.script("squeue", 'case "$*" in *--jobs*) echo "Invalid job id specified" >&2; exit 1;; esac')
    assert query_queue(["7"]) == {}


def test_malformed_lines_are_skipped_with_one_warning_each(
    commands: Commands, caplog: pytest.LogCaptureFixture
) -> None:
    torn = squeue_row("8", "RUNNING")[:20]
    malformed = [torn, "slurm_load_jobs: something new", squeue_row("x1", "RUNNING"), squeue_row("9", "RUN|NING")]
    commands.prints("squeue", "\n".join([*malformed, squeue_row("7", "RUNNING")]))
    for _ in range(2):
        assert set(query_queue(["7", "8", "9", "x1"])) == {"7"}
    assert [record.levelno for record in caplog.records] == [logging.WARNING] * 4
    assert "squeue: malformed line: 'slurm_load_jobs: something new'" in caplog.text


def test_a_line_break_in_a_name_loses_only_the_name(queue: dict[str, JobRecord]) -> None:
    assert interpret_record(queue["new"]).kind == "pending"


def test_a_controller_that_does_not_answer_is_not_an_empty_queue(commands: Commands) -> None:
    commands.fails("squeue", "slurm_load_jobs error: Unable to contact slurm controller (connect failure)")
    with pytest.raises(Unreachable):
        query_queue(["7"], patience=INTERACTIVE)
    with pytest.raises(Unreachable):
        query_accounting(["7"], patience=INTERACTIVE)


def test_a_job_id_that_slurm_reused_for_another_job_is_ignored(commands: Commands) -> None:
    """A controller that crashed before saving a job reuses its id."""
    commands.prints("squeue", squeue_row("7_0", "RUNNING", name="theirs") + squeue_row("8_0", "RUNNING"))
    assert set(query_queue({"7": "ours", "8": "ours"})) == {"8_0"}
    assert set(query_queue({"7_0": "theirs", "8_0": "theirs"})) == {"7_0"}


def test_an_unknown_state_is_not_final(commands: Commands) -> None:
    commands.prints("squeue", squeue_row("7", "REVOKED", reason="Other"))
    status = interpret_record(query_queue(["7"])["7"])
    assert (status.kind, status.final, status.text) == (
        "unknown",
        False,
        "is in state REVOKED: Other, which assay does not know",
    )


def test_a_job_that_slurm_could_not_launch_is_held_with_the_reason(commands: Commands) -> None:
    commands.prints("squeue", squeue_row("7", "PENDING", reason="launch failed requeued held"))
    status = interpret_record(query_queue(["7"])["7"])
    assert (status.kind, status.text) == (
        "held",
        "held by SLURM (launch failed requeued held): scontrol release 7",
    )


# --- out of the queue

ENDS = [
    ("ok", "completed", "completed on n1"),
    ("exit-3", "failed", "ended with exit code 3 on n1"),
    ("signal", "failed", "was killed by signal 11 on n1"),
    ("time-limit", "timed_out", "reached its time limit on n1"),
    ("deadline", "timed_out", "reached its time limit"),
    ("node-failed", "node_failed", "ended by node failure on n4"),
    ("preempted-cancelled", "preempted", "was preempted on n3"),
    (
        "ended-in-grace",
        "preempted",
        "was preempted on n1",
    ),  # SLURM says TIMEOUT, after 16 s of an hour
    ("never-killed", "never_satisfied", "can never start: a job that it depends on did not complete"),
    ("cancelled-running", "cancelled", "was cancelled on n1"),
    ("cancelled-pending", "cancelled", "was cancelled"),
    ("cancelled-array", "cancelled", "was cancelled"),
    ("dependency-cancelled", "cancelled", "was cancelled"),
]


@pytest.mark.parametrize(("name", "kind", "text"), ENDS)
def test_the_controller_reports_the_end_state_immediately(
    ended: dict[str, JobRecord], name: str, kind: str, text: str
) -> None:
    status = interpret_record(ended[name])
    assert (status.kind, status.final) == (kind, True)
    assert status.text.startswith(text)


@pytest.mark.parametrize(("name", "kind", "text"), ENDS)
def test_accounting_reports_the_end_state_after_the_controller_forgot_the_job(
    accounted: dict[str, JobRecord], name: str, kind: str, text: str
) -> None:
    status = interpret_record(accounted[name])
    assert (status.kind, status.final) == (kind, True)
    if kind == "cancelled":
        text = text.replace("cancelled", "cancelled by user 0")
    assert status.text == text


@pytest.mark.parametrize(
    ("state", "kind"),
    [("OUT_OF_MEMORY", "out_of_memory"), ("BOOT_FAIL", "node_failed"), ("NODE_FAIL", "node_failed")],
)
def test_an_end_state_that_names_a_cause_has_that_kind(commands: Commands, state: str, kind: str) -> None:
    commands.prints("squeue", squeue_row("7", state, nodes="n1"))
    assert interpret_record(query_accounting(["7"])["7"]).kind == kind


def test_exit_codes_and_signals_are_parsed_in_the_notation_of_both_commands(commands: Commands) -> None:
    """squeue prints the status of wait(2), in which 128 marks a core dump."""
    rows = [("1", 3 << 8, "3:0"), ("2", 9, "0:9"), ("3", 128 + 11, "0:11"), ("4", (128 + 15) << 8, "143:0")]
    expected = {"1": (3, 0), "2": (0, 9), "3": (0, 11), "4": (143, 0)}
    for program, printed in (
        ("squeue", "".join(squeue_row(job, "FAILED", nodes="n1", status=status) for job, status, _ in rows)),
        ("sacct", "".join(sacct_row(job, "FAILED", status=text) for job, _, text in rows)),
    ):
        commands.prints("squeue")
        commands.prints(program, printed)
        found = query_accounting(list(expected))
        assert {job: (record.exit_code, record.signal) for job, record in found.items()} == expected


def test_the_reason_for_waiting_is_not_reported_as_the_reason_for_failure(commands: Commands) -> None:
    commands.prints("squeue")
    commands.prints("sacct", sacct_row("7", "FAILED", reason="BeginTime", status="2:0"))
    assert interpret_record(query_accounting(["7"])["7"]).text == "ended with exit code 2 on n1"


def test_elapsed_time_and_time_limit_are_parsed_in_seconds(
    ended: dict[str, JobRecord], accounted: dict[str, JobRecord]
) -> None:
    for record in (ended["time-limit"], accounted["time-limit"]):
        assert (record.elapsed_seconds, record.limit_seconds) == (89, 60)
    for record in (ended["ended-in-grace"], accounted["ended-in-grace"]):
        assert (record.elapsed_seconds, record.limit_seconds) == (16, 3600)


def test_the_controllers_record_takes_precedence_over_accounting(commands: Commands) -> None:
    commands.prints("squeue", squeue_row("7_0", "COMPLETED", nodes="n1"))
    commands.prints("sacct", sacct_row("7_0", "RUNNING") + sacct_row("7_1", "FAILED"))
    found = query_accounting(["7_0", "7_1"])
    assert (found["7_0"].state, found["7_1"].state) == ("COMPLETED", "FAILED")


def test_a_status_has_a_node_only_if_the_job_had_exactly_one() -> None:
    assert status_on("n4").node == "n4"
    assert status_on("n[1-4]").node is None
    assert status_on("").node is None


def status_on(nodes: str) -> JobStatus:
    return interpret_record(JobRecord(job="7", state="NODE_FAIL", nodes=nodes, name="ours", source="sacct"))


def test_a_requeued_job_is_not_final_although_accounting_has_an_end_state(commands: Commands) -> None:
    """For about 5 s after a node failure, the newest record of the requeued job has the state NODE_FAIL."""
    printed = recorded("node-failed.squeue")
    commands.prints("squeue", printed)
    commands.prints("sacct", recorded("node-failed.sacct"))
    recorded_ends = {record.job: record for record in parse_sacct(recorded("node-failed.sacct"))}
    requeued = {
        job: record.name
        for job, record in query_queue(all_jobs(printed)).items()
        if record.name in {"node-failed-requeued", "node-failed-array"}
    }
    assert len(requeued) == 3
    assert {recorded_ends[job].state for job in requeued} == {"NODE_FAIL"}
    assert {(state.kind, state.final) for state in query_job_statuses(requeued).values()} == {("requeued", False)}


def test_a_completing_job_is_not_final(commands: Commands) -> None:
    (record,) = [record for record in parse_sacct(recorded("queue.sacct")) if record.name == "completing"]
    assert record.state == "CANCELLED"
    commands.prints("squeue", recorded("queue.squeue"))
    commands.prints("sacct", recorded("queue.sacct"))
    assert not query_job_statuses({record.job: "completing"})[record.job].final


def test_accounting_is_queried_only_for_jobs_whose_end_state_is_needed(commands: Commands) -> None:
    commands.prints("squeue", squeue_row("7_0", "RUNNING"))
    commands.prints("sacct", sacct_row("8_0", "COMPLETED") + sacct_row("9_0", "FAILED"))
    states = query_job_statuses({"7_0": "ours", "8_0": "ours", "9_0": "ours"}, accounted=["7_0", "9_0"])
    assert {job: state.kind for job, state in states.items()} == {"7_0": "running", "9_0": "failed"}


def test_a_job_that_was_requeued_during_the_query_is_pending(commands: Commands) -> None:
    commands.prints("squeue", squeue_row("7", "PENDING"))
    assert interpret_record(query_accounting(["7"])["7"], complete=True).kind == "pending"


def test_the_newest_of_several_records_counts_and_the_others_are_restarts(commands: Commands) -> None:
    commands.prints("squeue")
    older, newer = sacct_row("7_0", "PREEMPTED", submitted="16:00:00"), sacct_row("7_0", "FAILED", submitted="16:05:00")
    oldest = sacct_row("7_0", "NODE_FAIL", submitted="15:00:00")
    commands.prints("sacct", newer + oldest + older)
    record = query_accounting(["7_0"])["7_0"]
    assert (record.state, record.restarts) == ("FAILED", 2)


def test_a_tasks_own_record_takes_precedence_over_the_record_of_its_array(commands: Commands) -> None:
    commands.prints("squeue")
    commands.prints("sacct", sacct_row("7_0", "COMPLETED") + sacct_row("7_[0-3%2]", "PENDING"))
    commands.prints("sdiag")
    found = query_accounting(["7_0", "7_1"])
    assert (found["7_0"].state, found["7_1"].state) == ("COMPLETED", "PENDING")


def test_records_of_another_job_with_the_same_id_are_ignored(commands: Commands) -> None:
    commands.prints("squeue")
    theirs = sacct_row("7_0", "FAILED", submitted="16:05:00", name="theirs")
    commands.prints("sacct", sacct_row("7_0", "COMPLETED") + theirs)
    record = query_accounting({"7_0": "ours"})["7_0"]
    assert (record.state, record.restarts) == ("COMPLETED", 0)


def test_a_name_that_the_database_altered_still_matches(commands: Commands) -> None:
    (name,) = [record.name for record in parse_squeue(recorded("later.squeue")) if record.name.startswith("begin")]
    (record,) = [record for record in parse_sacct(recorded("later.sacct")) if record.name.startswith("begin")]
    assert (name, record.name) == ("begin|na|me 日本ü", "begin|na|me ??ü")
    commands.prints("squeue")
    commands.prints("sacct", recorded("later.sacct"))
    commands.prints("sdiag")
    assert set(query_accounting({record.job: name})) == {record.job}


def test_tasks_that_were_cancelled_before_their_start_are_found(commands: Commands) -> None:
    """sacct --jobs=7_5 does not return them: they are in the record of the whole array."""
    commands.prints("squeue")
    record = recorded("partial.sacct")
    array = record.split("_")[0]
    commands.script(
        "sacct", f"case \"$*\" in *_[0-9]*) exit;; esac\ncat <<'END'\n{record}END"
    )  # the real command answers a task id in this way
    found = query_accounting([f"{array}_{index}" for index in range(7)])
    assert [found[f"{array}_{index}"].state for index in range(7)] == ["COMPLETED"] * 2 + ["CANCELLED"] * 5
    assert interpret_record(found[f"{array}_5"]).text == "was cancelled by user 0"


def test_accounting_is_queried_only_for_jobs_that_the_controller_has_forgotten(commands: Commands) -> None:
    commands.prints("squeue", squeue_row("7_0", "COMPLETED", nodes="n1") + squeue_row("8_0", "FAILED", nodes="n1"))
    commands.prints("sacct", sacct_row("9_0", "COMPLETED"))
    assert set(query_accounting(["7_0", "8_0", "9_0"])) == {"7_0", "8_0", "9_0"}
    assert [call.split("--jobs=")[1] for call in commands.calls("sacct")] == ["9"]


def test_thousands_of_jobs_are_split_over_several_command_lines(commands: Commands) -> None:
    commands.prints("squeue")
    commands.prints("sacct")
    commands.prints("sdiag", recorded("sdiag.txt"))
    jobs = [str(job) for job in range(10_000_000, 10_001_234)]
    query_accounting(jobs)
    asked = [call.split("--jobs=")[1].split(",") for call in commands.calls("sacct")]
    assert max(len(call) for call in commands.calls("sacct")) < 10_000
    assert sorted(job for call in asked for job in call) == jobs


# --- incomplete records


def test_a_job_is_unknown_while_accounting_lags(commands: Commands) -> None:
    commands.prints("squeue")
    commands.prints("sacct", sacct_row("7_0", "RUNNING"))
    commands.prints("sdiag", recorded("sdiag.txt").replace("DBD Agent queue size: 0", "DBD Agent queue size: 12"))
    records = query_accounting(["7_0", "7_1"])
    running = interpret_record(records.get("7_0"), complete=records.complete)
    absent = interpret_record(records.get("7_1"), complete=records.complete)
    assert (running.kind, running.final) == ("unknown", False)
    assert running.text == "left the queue and so far its last recorded state is RUNNING"
    assert (absent.kind, absent.final) == ("unknown", False)


def test_a_job_without_an_end_state_has_vanished_once_accounting_is_up_to_date(
    commands: Commands,
) -> None:
    """If the controller crashed before saving the job, there is no record, or one that stays RUNNING."""
    commands.prints("squeue")
    commands.prints("sacct", sacct_row("7_0", "RUNNING"))
    commands.prints("sdiag", recorded("sdiag.txt"))
    records = query_accounting(["7_0", "7_1"])
    for job in ("7_0", "7_1"):
        status = interpret_record(records.get(job), complete=records.complete)
        assert (status.kind, status.final) == ("vanished", True)


def test_a_cancelled_job_without_a_user_was_lost_by_the_controller(commands: Commands) -> None:
    """A controller without its state makes accounting cancel running jobs; a user's cancellation records the user."""
    commands.prints("squeue")
    commands.prints("sacct", sacct_row("7_0", "CANCELLED") + sacct_row("7_1", "CANCELLED by 0"))
    records = query_accounting(["7_0", "7_1"])
    lost, cancelled = (interpret_record(records[job]) for job in ("7_0", "7_1"))
    assert (lost.kind, lost.final, lost.text) == ("vanished", True, "was lost by the controller on n1")
    assert (cancelled.kind, cancelled.final) == ("cancelled", True)


def test_a_job_is_unknown_if_accounting_does_not_answer(commands: Commands, caplog: pytest.LogCaptureFixture) -> None:
    commands.prints("squeue", squeue_row("7_0", "COMPLETED", nodes="n1"))
    commands.fails("sacct", DBD_DOWN)
    records = query_accounting(["7_0", "7_1"])
    assert interpret_record(records["7_0"]).kind == "completed"
    assert interpret_record(records.get("7_1"), complete=records.complete).kind == "unknown"
    assert "accounting does not answer: sacct:" in caplog.text


def test_a_query_with_little_patience_returns_the_controllers_records(commands: Commands) -> None:
    """A frozen slurmdbd delays sacct by a minute."""
    commands.prints("squeue", squeue_row("7_0", "COMPLETED", nodes="n1"))
    commands.script("sacct", "exec sleep 600")
    records = query_accounting(["7_0", "7_1"], patience=Patience(0.3, 1))
    assert (set(records), records.complete) == ({"7_0"}, False)


def test_a_job_is_unknown_if_sdiag_fails(commands: Commands) -> None:
    commands.prints("squeue")
    commands.prints("sacct")
    commands.fails("sdiag", "slurm_get_statistics: Access/permission denied")
    records = query_accounting(["7_0"])
    assert interpret_record(records.get("7_0"), complete=records.complete).kind == "unknown"


def test_without_accounting_only_the_controllers_records_count(commands: Commands) -> None:
    commands.prints("squeue", squeue_row("7_0", "TIMEOUT", nodes="n1"))
    commands.fails("sacct", "Slurm accounting storage is disabled")
    records = query_accounting(["7_0", "7_1"])
    assert interpret_record(records["7_0"]).kind == "timed_out"
    lost = interpret_record(records.get("7_1"), complete=records.complete)
    assert (lost.kind, lost.final) == ("vanished", True)
    assert lost.text == "left the queue and has no record"


# --- by name


def test_a_job_is_found_only_by_its_full_name(commands: Commands) -> None:
    commands.prints(
        "squeue",
        squeue_row("12_[0-9]", "PENDING", name="ours")
        + squeue_row("12_10", "RUNNING", name="ours")
        + squeue_row("9", "COMPLETED", name="ours")
        + squeue_row("10", "PENDING", name="ours-2"),
    )
    assert find_jobs_by_name("ours") == ["9", "12"]


def test_a_forgotten_job_is_found_by_its_name_in_accounting(commands: Commands) -> None:
    commands.prints("squeue")
    commands.prints("sacct", sacct_row("12_0", "COMPLETED") + sacct_row("12_1", "FAILED"))
    assert find_jobs_by_name("ours", since=1795449600.0) == ["12"]
    (call,) = commands.calls("sacct")
    assert "--starttime=2026-11-23T15:50:00" in call  # ten minutes earlier, for clock differences


def test_an_unused_name_has_no_jobs(commands: Commands) -> None:
    commands.prints("squeue")
    commands.prints("sacct")
    assert find_jobs_by_name("ours") == []
    commands.fails("sacct", "Slurm accounting storage is disabled")
    assert find_jobs_by_name("ours") == []


def test_a_name_is_not_reported_as_unused_while_accounting_does_not_answer(commands: Commands) -> None:
    """Otherwise the job would be submitted twice."""
    commands.prints("squeue")
    commands.fails("sacct", DBD_DOWN)
    with pytest.raises(Unreachable):
        find_jobs_by_name("ours")


def test_a_query_that_accounting_rejects_is_an_error(commands: Commands) -> None:
    commands.prints("squeue")
    commands.fails("sacct", "sacct: fatal: Bad job array element specified: 7")
    with pytest.raises(Rejected, match="Bad job array element"):
        query_accounting(["7_0"])
