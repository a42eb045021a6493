from __future__ import annotations

import logging

import pytest

from assay.launch.slurm.commands import Refused, Unreachable
from assay.launch.slurm.queue import (
    AT_A_TERMINAL,
    Patience,
    Seen,
    Settled,
    find_by_name,
    in_accounting,
    in_queue,
    settle,
)
from assay.launch.slurm.seen import BETWEEN, from_sacct, from_squeue
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
    """A line as squeue prints it."""
    times = ["2026-11-23T16:00:00", "N/A", "0:00", "1:00:00"]
    return BETWEEN.join([job, state, reason, nodes, "0", str(status), *times, name, ""]) + "\n"


def sacct_row(
    job: str, state: str, *, submitted: str = "16:00:00", reason: str = "None", status: str = "0:0", name: str = "ours"
) -> str:
    """A line as sacct prints it."""
    times = [f"2026-11-23T{submitted}", "2026-11-23T16:00:00", "1", "60"]
    return BETWEEN.join([job, state, reason, "n1", status, *times, name]) + "\n"


def all_jobs(printed: str) -> set[str]:
    """Every job and array in what squeue printed."""
    return {line.split(BETWEEN)[0].split("_")[0] for line in printed.splitlines() if BETWEEN in line[:-1]}


def by_name(found: dict[str, Seen]) -> dict[str, Seen]:
    """One task of each array is enough."""
    return {seen.name: seen for seen in found.values()}


@pytest.fixture
def queue(commands: Commands) -> dict[str, Seen]:
    """A queue in which all kinds of things had happened, by the jobs' names."""
    printed = recorded("queue.squeue")
    commands.prints("squeue", printed)
    return by_name(in_queue(all_jobs(printed)))


@pytest.fixture
def ended(commands: Commands) -> dict[str, Seen]:
    """What had become of the jobs that had left that queue, before the controller forgets them."""
    printed = recorded("later.squeue")
    commands.prints("squeue", printed)
    return by_name(in_accounting([seen.job for seen in from_squeue(printed)]))


@pytest.fixture
def accounted(commands: Commands) -> dict[str, Seen]:
    """The same by accounting, once the controller has forgotten them."""
    commands.prints("squeue")
    commands.prints("sacct", recorded("later.sacct"))
    commands.prints("sdiag", recorded("sdiag.txt"))
    return by_name(in_accounting(all_jobs(recorded("later.squeue"))))


# --- in the queue


@pytest.mark.parametrize(
    ("name", "kind", "words"),
    [
        ("resources", "pending", "waits in the queue: Resources"),
        ("begin|na|me 日本ü", "pending", "waits in the queue: BeginTime"),
        ("dependency", "pending", "waits in the queue: Dependency"),
        ("array", "pending", "waits in the queue: ReqNodeNotAvail, UnavailableNodes:n3"),
        ("never", "never_satisfied", "can never start: a job that it depends on did not end well"),
        ("held-user", "held", "held by the user: scontrol release {job}"),
        ("held-admin", "held", "held by an administrator: scontrol release {job}"),
        ("requeue-hold", "held", "held by SLURM (job requeued in held state): scontrol release {job}"),
        ("special-exit", "held", "held by SLURM (job requeued in held state): scontrol release {job}"),
        ("requeued", "requeued", "was requeued and waits in the queue: BeginTime"),
        ("preempted-requeued", "requeued", "was requeued and waits in the queue: Resources"),
        (
            "node-failed-requeued",
            "requeued",
            "was requeued and waits in the queue: ReqNodeNotAvail, UnavailableNodes:n4",
        ),
        ("runs", "running", "runs on n3"),
        ("suspended", "suspended", "is suspended on n1"),
        ("completing", "completing", "is being cleaned up on n1"),
    ],
)
def test_a_job_in_the_queue_is_named_for_what_it_does_there_and_is_not_over(
    queue: dict[str, Seen], name: str, kind: str, words: str
) -> None:
    settled = settle(queue[name], None)
    assert (settled.kind, settled.words) == (kind, words.format(job=queue[name].job))
    assert not settled.final


def test_what_has_ended_is_not_in_the_queue_though_the_controller_remembers_it(queue: dict[str, Seen]) -> None:
    assert "COMPLETED" in recorded("queue.squeue")
    assert not queue.keys() & {"ok", "exit-3", "cancelled-running", "cancelled-array", "time-limit", "node-failed"}


def test_times_nodes_and_restarts_are_read(queue: dict[str, Seen]) -> None:
    runs, requeued = queue["runs"], queue["requeued"]
    assert runs.start == 1795451616.0  # 2026-11-23T16:33:36 UTC
    assert (runs.elapsed_seconds, runs.limit_seconds, runs.nodes, runs.restarts) == (91, 3600, "n3", 0)
    assert requeued.submitted == 1795451707.0  # when it was requeued, 5 s after sbatch
    assert (requeued.start, requeued.elapsed_seconds, requeued.restarts) == (None, None, 1)  # a forecast is no start


def test_each_waiting_task_of_an_array_is_there_by_itself(commands: Commands) -> None:
    printed = recorded("queue.squeue")
    commands.prints("squeue", printed)
    found = in_queue(all_jobs(printed))
    tasks: dict[str, list[int]] = {}
    for job, seen in found.items():
        if "_" in job:
            tasks.setdefault(seen.name, []).append(int(job.split("_")[1]))
    assert sorted(tasks["array"]) == list(range(10))
    assert sorted(tasks["steps"]) == list(range(1, 200, 2))
    assert len(tasks["irregular"]) == 36
    assert max(tasks["irregular"]) == 131  # beyond the 64 characters that SLURM prints when it isn't asked for all


def test_a_task_that_is_held_does_not_make_the_others_of_its_array_look_so(commands: Commands) -> None:
    """Without --array-unique squeue has one line for all five: "BeginTime,JobHeldAdmin"."""
    printed = recorded("queue.squeue")
    commands.prints("squeue", printed)
    found = {
        job[-2:]: settle(seen, None).kind for job, seen in in_queue(all_jobs(printed)).items() if seen.name == "mixed"
    }
    assert found == {"_0": "pending", "_1": "pending", "_2": "held", "_3": "pending", "_4": "pending"}
    assert all("--array-unique" in call for call in commands.calls("squeue"))


def test_only_the_tasks_that_were_asked_for_are_told_of(commands: Commands) -> None:
    commands.prints(
        "squeue", squeue_row("7_[0-3]", "PENDING") + squeue_row("8", "PENDING") + squeue_row("9", "PENDING")
    )
    assert set(in_queue(["7_1", "7_2", "8"])) == {"7_1", "7_2", "8"}


def test_a_job_that_the_controller_has_forgotten_is_absent_and_no_error(commands: Commands) -> None:
    """squeue --jobs=7 would fail with "Invalid job id specified"."""
    commands.script("squeue", 'case "$*" in *--jobs*) echo "Invalid job id specified" >&2; exit 1;; esac')
    assert in_queue(["7"]) == {}


def test_lines_that_make_no_sense_are_passed_over_with_one_warning_each(
    commands: Commands, caplog: pytest.LogCaptureFixture
) -> None:
    torn = squeue_row("8", "RUNNING")[:20]
    senseless = [torn, "slurm_load_jobs: something new", squeue_row("x1", "RUNNING"), squeue_row("9", "RUN|NING")]
    commands.prints("squeue", "\n".join([*senseless, squeue_row("7", "RUNNING")]))
    for _ in range(2):
        assert set(in_queue(["7", "8", "9", "x1"])) == {"7"}
    assert [record.levelno for record in caplog.records] == [logging.WARNING] * 4
    assert "squeue: a line that makes no sense: 'slurm_load_jobs: something new'" in caplog.text


def test_a_line_break_in_a_name_costs_the_name_and_nothing_else(queue: dict[str, Seen]) -> None:
    assert settle(queue["new"], None).kind == "pending"


def test_a_controller_that_does_not_answer_is_no_empty_queue(commands: Commands) -> None:
    commands.fails("squeue", "slurm_load_jobs error: Unable to contact slurm controller (connect failure)")
    with pytest.raises(Unreachable):
        in_queue(["7"], patience=AT_A_TERMINAL)
    with pytest.raises(Unreachable):
        in_accounting(["7"], patience=AT_A_TERMINAL)


def test_a_number_that_another_job_has_now_is_not_ours(commands: Commands) -> None:
    """A controller that crashed before it had saved a job gives its number away again."""
    commands.prints("squeue", squeue_row("7_0", "RUNNING", name="theirs") + squeue_row("8_0", "RUNNING"))
    assert set(in_queue({"7": "ours", "8": "ours"})) == {"8_0"}
    assert set(in_queue({"7_0": "theirs", "8_0": "theirs"})) == {"7_0"}


def test_states_that_are_new_to_us_decide_nothing(commands: Commands) -> None:
    commands.prints("squeue", squeue_row("7", "REVOKED", reason="Other"))
    settled = settle(in_queue(["7"])["7"], None)
    assert (settled.kind, settled.final, settled.words) == ("unknown", False, "is REVOKED: Other, which is new here")


def test_a_job_that_slurm_could_not_launch_is_held_and_says_so(commands: Commands) -> None:
    commands.prints("squeue", squeue_row("7", "PENDING", reason="launch failed requeued held"))
    settled = settle(in_queue(["7"])["7"], None)
    assert (settled.kind, settled.words) == (
        "held",
        "held by SLURM (launch failed requeued held): scontrol release 7",
    )


# --- out of the queue

ENDS = [
    ("ok", "completed", "ended well on n1"),
    ("exit-3", "failed", "ended with exit code 3 on n1"),
    ("signal", "failed", "was killed by signal 11 on n1"),
    ("time-limit", "timed_out", "reached its time limit on n1"),
    ("deadline", "timed_out", "reached its time limit"),
    ("node-failed", "node_failed", "lost its node on n4"),
    ("preempted-cancelled", "preempted", "had to make room for another job on n3"),
    (
        "ended-in-grace",
        "preempted",
        "had to make room for another job on n1",
    ),  # SLURM says TIMEOUT, after 16 s of an hour
    ("never-killed", "never_satisfied", "can never start: a job that it depends on did not end well"),
    ("cancelled-running", "cancelled", "was cancelled on n1"),
    ("cancelled-pending", "cancelled", "was cancelled"),
    ("cancelled-array", "cancelled", "was cancelled"),
    ("dependency-cancelled", "cancelled", "was cancelled"),
]


@pytest.mark.parametrize(("name", "kind", "words"), ENDS)
def test_how_a_job_ended_is_known_from_the_controller_at_once(
    ended: dict[str, Seen], name: str, kind: str, words: str
) -> None:
    settled = settle(None, ended[name])
    assert (settled.kind, settled.final) == (kind, True)
    assert settled.words.startswith(words)


@pytest.mark.parametrize(("name", "kind", "words"), ENDS)
def test_how_a_job_ended_is_known_from_accounting_for_ever(
    accounted: dict[str, Seen], name: str, kind: str, words: str
) -> None:
    settled = settle(None, accounted[name])
    assert (settled.kind, settled.final) == (kind, True)
    if kind == "cancelled":
        words = words.replace("cancelled", "cancelled by user 0")
    assert settled.words == words


@pytest.mark.parametrize(
    ("state", "kind"),
    [("OUT_OF_MEMORY", "out_of_memory"), ("BOOT_FAIL", "node_failed"), ("NODE_FAIL", "node_failed")],
)
def test_an_end_that_names_a_cause_is_that(commands: Commands, state: str, kind: str) -> None:
    commands.prints("squeue", squeue_row("7", state, nodes="n1"))
    assert settle(None, in_accounting(["7"])["7"]).kind == kind


def test_what_ended_a_script_is_read_as_both_commands_write_it(commands: Commands) -> None:
    """squeue has the status of wait(2), where 128 says that there is a core dump."""
    rows = [("1", 3 << 8, "3:0"), ("2", 9, "0:9"), ("3", 128 + 11, "0:11"), ("4", (128 + 15) << 8, "143:0")]
    expected = {"1": (3, 0), "2": (0, 9), "3": (0, 11), "4": (143, 0)}
    for program, printed in (
        ("squeue", "".join(squeue_row(job, "FAILED", nodes="n1", status=status) for job, status, _ in rows)),
        ("sacct", "".join(sacct_row(job, "FAILED", status=words) for job, _, words in rows)),
    ):
        commands.prints("squeue")
        commands.prints(program, printed)
        found = in_accounting(list(expected))
        assert {job: (seen.exit_code, seen.signal) for job, seen in found.items()} == expected


def test_why_a_job_had_waited_is_not_why_it_failed(commands: Commands) -> None:
    commands.prints("squeue")
    commands.prints("sacct", sacct_row("7", "FAILED", reason="BeginTime", status="2:0"))
    assert settle(None, in_accounting(["7"])["7"]).words == "ended with exit code 2 on n1"


def test_how_long_a_job_took_and_might_have_is_read_in_seconds(
    ended: dict[str, Seen], accounted: dict[str, Seen]
) -> None:
    for seen in (ended["time-limit"], accounted["time-limit"]):
        assert (seen.elapsed_seconds, seen.limit_seconds) == (89, 60)
    for seen in (ended["ended-in-grace"], accounted["ended-in-grace"]):
        assert (seen.elapsed_seconds, seen.limit_seconds) == (16, 3600)


def test_what_the_controller_remembers_counts_more_than_what_accounting_has_so_far(commands: Commands) -> None:
    commands.prints("squeue", squeue_row("7_0", "COMPLETED", nodes="n1"))
    commands.prints("sacct", sacct_row("7_0", "RUNNING") + sacct_row("7_1", "FAILED"))
    found = in_accounting(["7_0", "7_1"])
    assert (found["7_0"].state, found["7_1"].state) == ("COMPLETED", "FAILED")


def test_the_node_to_blame_is_known_only_where_there_was_one() -> None:
    assert settled_on("n4").node == "n4"
    assert settled_on("n[1-4]").node is None
    assert settled_on("").node is None


def settled_on(nodes: str) -> Settled:
    return settle(None, Seen(job="7", state="NODE_FAIL", nodes=nodes, name="ours", source="sacct"))


def test_a_job_that_is_requeued_is_not_over_though_accounting_has_its_end(commands: Commands) -> None:
    """For some 5 s after a node's death the newest record says NODE_FAIL, of a job that waits in the queue again."""
    printed = recorded("node-failed.squeue")
    commands.prints("squeue", printed)
    recorded_ends = {seen.job: seen for seen in from_sacct(recorded("node-failed.sacct"))}
    requeued = [
        s for s in in_queue(all_jobs(printed)).values() if s.name in {"node-failed-requeued", "node-failed-array"}
    ]
    assert len(requeued) == 3
    for seen in requeued:
        assert recorded_ends[seen.job].state == "NODE_FAIL"
        assert settle(seen, recorded_ends[seen.job]).kind == "requeued"
        assert not settle(seen, recorded_ends[seen.job]).final


def test_a_job_whose_processes_are_still_being_ended_is_not_over(queue: dict[str, Seen]) -> None:
    (record,) = [seen for seen in from_sacct(recorded("queue.sacct")) if seen.name == "completing"]
    assert record.state == "CANCELLED"
    assert not settle(queue["completing"], record).final


def test_a_job_that_came_back_while_it_was_looked_for_is_in_the_queue(commands: Commands) -> None:
    commands.prints("squeue", squeue_row("7", "PENDING"))
    assert settle(None, in_accounting(["7"])["7"], complete=True).kind == "pending"


def test_of_several_records_the_newest_counts_and_the_others_are_restarts(commands: Commands) -> None:
    commands.prints("squeue")
    older, newer = sacct_row("7_0", "PREEMPTED", submitted="16:00:00"), sacct_row("7_0", "FAILED", submitted="16:05:00")
    oldest = sacct_row("7_0", "NODE_FAIL", submitted="15:00:00")
    commands.prints("sacct", newer + oldest + older)
    seen = in_accounting(["7_0"])["7_0"]
    assert (seen.state, seen.restarts) == ("FAILED", 2)


def test_a_tasks_own_record_counts_and_not_the_older_one_of_its_array(commands: Commands) -> None:
    commands.prints("squeue")
    commands.prints("sacct", sacct_row("7_0", "COMPLETED") + sacct_row("7_[0-3%2]", "PENDING"))
    commands.prints("sdiag")
    found = in_accounting(["7_0", "7_1"])
    assert (found["7_0"].state, found["7_1"].state) == ("COMPLETED", "PENDING")


def test_the_records_of_another_job_of_the_same_number_do_not_count(commands: Commands) -> None:
    commands.prints("squeue")
    theirs = sacct_row("7_0", "FAILED", submitted="16:05:00", name="theirs")
    commands.prints("sacct", sacct_row("7_0", "COMPLETED") + theirs)
    seen = in_accounting({"7_0": "ours"})["7_0"]
    assert (seen.state, seen.restarts) == ("COMPLETED", 0)


def test_a_name_that_the_database_could_not_write_is_still_the_jobs_name(commands: Commands) -> None:
    (name,) = [seen.name for seen in from_squeue(recorded("later.squeue")) if seen.name.startswith("begin")]
    (record,) = [seen for seen in from_sacct(recorded("later.sacct")) if seen.name.startswith("begin")]
    assert (name, record.name) == ("begin|na|me 日本ü", "begin|na|me ??ü")
    commands.prints("squeue")
    commands.prints("sacct", recorded("later.sacct"))
    commands.prints("sdiag")
    assert set(in_accounting({record.job: name})) == {record.job}


def test_tasks_that_were_cancelled_before_they_began_are_found_too(commands: Commands) -> None:
    """sacct --jobs=7_5 knows nothing of them: they are in the record of the whole array."""
    commands.prints("squeue")
    record = recorded("partial.sacct")
    array = record.split("_")[0]
    commands.script(
        "sacct", f"case \"$*\" in *_[0-9]*) exit;; esac\ncat <<'END'\n{record}END"
    )  # as the real one answers a task's number
    found = in_accounting([f"{array}_{index}" for index in range(7)])
    assert [found[f"{array}_{index}"].state for index in range(7)] == ["COMPLETED"] * 2 + ["CANCELLED"] * 5
    assert settle(None, found[f"{array}_5"]).words == "was cancelled by user 0"


def test_accounting_is_asked_only_of_what_the_controller_has_forgotten(commands: Commands) -> None:
    commands.prints("squeue", squeue_row("7_0", "COMPLETED", nodes="n1") + squeue_row("8_0", "FAILED", nodes="n1"))
    commands.prints("sacct", sacct_row("9_0", "COMPLETED"))
    assert set(in_accounting(["7_0", "8_0", "9_0"])) == {"7_0", "8_0", "9_0"}
    assert [call.split("--jobs=")[1] for call in commands.calls("sacct")] == ["9"]


def test_thousands_of_jobs_do_not_make_a_command_line_that_is_too_long(commands: Commands) -> None:
    commands.prints("squeue")
    commands.prints("sacct")
    commands.prints("sdiag", recorded("sdiag.txt"))
    jobs = [str(job) for job in range(10_000_000, 10_001_234)]
    in_accounting(jobs)
    asked = [call.split("--jobs=")[1].split(",") for call in commands.calls("sacct")]
    assert max(len(call) for call in commands.calls("sacct")) < 10_000
    assert sorted(job for call in asked for job in call) == jobs


# --- what nobody can tell


def test_accounting_that_lags_leaves_a_job_unknown(commands: Commands) -> None:
    commands.prints("squeue")
    commands.prints("sacct", sacct_row("7_0", "RUNNING"))
    commands.prints("sdiag", recorded("sdiag.txt").replace("DBD Agent queue size: 0", "DBD Agent queue size: 12"))
    records = in_accounting(["7_0", "7_1"])
    running = settle(None, records.get("7_0"), complete=records.complete)
    absent = settle(None, records.get("7_1"), complete=records.complete)
    assert (running.kind, running.final) == ("unknown", False)
    assert running.words == "left the queue, and so far its last record says RUNNING"
    assert (absent.kind, absent.final) == ("unknown", False)


def test_a_job_that_the_controller_lost_has_vanished_once_nothing_is_on_its_way_to_accounting(
    commands: Commands,
) -> None:
    """Its crash before the job was saved leaves no record, or one that says RUNNING for ever."""
    commands.prints("squeue")
    commands.prints("sacct", sacct_row("7_0", "RUNNING"))
    commands.prints("sdiag", recorded("sdiag.txt"))
    records = in_accounting(["7_0", "7_1"])
    for job in ("7_0", "7_1"):
        settled = settle(None, records.get(job), complete=records.complete)
        assert (settled.kind, settled.final) == ("vanished", True)


def test_a_job_that_nobody_cancelled_was_lost_with_the_controllers_state(commands: Commands) -> None:
    """One that starts without it has accounting cancel what had run; of a user's wish, accounting knows the user."""
    commands.prints("squeue")
    commands.prints("sacct", sacct_row("7_0", "CANCELLED") + sacct_row("7_1", "CANCELLED by 0"))
    records = in_accounting(["7_0", "7_1"])
    lost, cancelled = (settle(None, records[job]) for job in ("7_0", "7_1"))
    assert (lost.kind, lost.final, lost.words) == ("vanished", True, "was lost by the controller on n1")
    assert (cancelled.kind, cancelled.final) == ("cancelled", True)


def test_accounting_that_does_not_answer_leaves_a_job_unknown(
    commands: Commands, caplog: pytest.LogCaptureFixture
) -> None:
    commands.prints("squeue", squeue_row("7_0", "COMPLETED", nodes="n1"))
    commands.fails("sacct", DBD_DOWN)
    records = in_accounting(["7_0", "7_1"])
    assert settle(None, records["7_0"]).kind == "completed"
    assert settle(None, records.get("7_1"), complete=records.complete).kind == "unknown"
    assert "accounting does not answer: sacct:" in caplog.text


def test_whoever_does_not_wait_for_accounting_gets_what_the_controller_knows(commands: Commands) -> None:
    """A slurmdbd that hangs holds sacct up for a minute."""
    commands.prints("squeue", squeue_row("7_0", "COMPLETED", nodes="n1"))
    commands.script("sacct", "exec sleep 600")
    records = in_accounting(["7_0", "7_1"], patience=Patience(0.3, 1))
    assert (set(records), records.complete) == ({"7_0"}, False)


def test_where_it_cannot_be_told_whether_accounting_is_up_to_date_a_job_is_unknown(commands: Commands) -> None:
    commands.prints("squeue")
    commands.prints("sacct")
    commands.fails("sdiag", "slurm_get_statistics: Access/permission denied")
    records = in_accounting(["7_0"])
    assert settle(None, records.get("7_0"), complete=records.complete).kind == "unknown"


def test_without_accounting_the_controllers_memory_is_all_there_is(commands: Commands) -> None:
    commands.prints("squeue", squeue_row("7_0", "TIMEOUT", nodes="n1"))
    commands.fails("sacct", "Slurm accounting storage is disabled")
    records = in_accounting(["7_0", "7_1"])
    assert settle(None, records["7_0"]).kind == "timed_out"
    lost = settle(None, records.get("7_1"), complete=records.complete)
    assert (lost.kind, lost.final) == ("vanished", True)
    assert lost.words == "left the queue, and nothing is on record of it"


# --- by name


def test_a_job_is_found_by_its_name_and_by_no_part_of_it(commands: Commands) -> None:
    commands.prints(
        "squeue",
        squeue_row("12_[0-9]", "PENDING", name="ours")
        + squeue_row("12_10", "RUNNING", name="ours")
        + squeue_row("9", "COMPLETED", name="ours")
        + squeue_row("10", "PENDING", name="ours-2"),
    )
    assert find_by_name("ours") == ["9", "12"]


def test_a_job_that_the_controller_has_forgotten_is_found_by_its_name_in_accounting(commands: Commands) -> None:
    commands.prints("squeue")
    commands.prints("sacct", sacct_row("12_0", "COMPLETED") + sacct_row("12_1", "FAILED"))
    assert find_by_name("ours", since=1795449600.0) == ["12"]
    (call,) = commands.calls("sacct")
    assert "--starttime=2026-11-23T15:50:00" in call  # ten minutes before, for clocks that differ


def test_a_name_that_nobody_has_is_found_nowhere(commands: Commands) -> None:
    commands.prints("squeue")
    commands.prints("sacct")
    assert find_by_name("ours") == []
    commands.fails("sacct", "Slurm accounting storage is disabled")
    assert find_by_name("ours") == []


def test_a_name_is_not_said_to_be_unused_while_accounting_does_not_answer(commands: Commands) -> None:
    """Else the job would be submitted a second time."""
    commands.prints("squeue")
    commands.fails("sacct", DBD_DOWN)
    with pytest.raises(Unreachable):
        find_by_name("ours")


def test_what_accounting_refuses_is_not_taken_for_no_record(commands: Commands) -> None:
    commands.prints("squeue")
    commands.fails("sacct", "sacct: fatal: Bad job array element specified: 7")
    with pytest.raises(Refused, match="Bad job array element"):
        in_accounting(["7_0"])
