"""One holder at a time, whichever machines the processes are on and however they end."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from assay.epochs import Epochs, Holder
from assay.errors import AssayError
from assay.lease import LeaseLost, LeaseTimes, acquire, holding, looks_held
from tests.launch.waiting import until

BEAT, STALE = 0.1, 2.0
"""Seconds. A beat that comes 1.9 s late, as on a machine that is busy with other tests, is borne."""


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASSAY_LEASE_BEAT", str(BEAT))
    monkeypatch.setenv("ASSAY_LEASE_STALE", str(STALE))


PROCESS = """
import os, sys
from pathlib import Path
from assay.lease import LeaseLost, acquire

lease = acquire(Path(sys.argv[1]))
print("held" if lease else "refused", flush=True)
for line in sys.stdin:
    if line == "check\\n":
        try:
            lease.check()
            print("mine", flush=True)
        except LeaseLost as lost:
            print("lost:", lost, flush=True)
    elif line == "release\\n":
        lease.release()
        print("released", flush=True)
    elif line == "fork\\n":
        child = os.fork()
        if child == 0:
            try:
                lease.check()
                print("mine", flush=True)
            except LeaseLost as lost:
                print("lost:", lost, flush=True)
            lease.release()
        sys.stdin.readline()
"""


class Process:
    """Another process that takes a folder's lease: of this machine, or as if it were on another node."""

    def __init__(self, folder: Path, node: str | None) -> None:
        environment = dict(os.environ)
        if node is not None:
            environment["SLURMD_NODENAME"] = node
        self.popen = subprocess.Popen(
            [sys.executable, "-c", PROCESS, str(folder)],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.popen.stdout is not None
        assert self.read() == "held"

    def read(self) -> str:
        return self.popen.stdout.readline().strip()

    def ask(self, what: str) -> str:
        print(what, file=self.popen.stdin, flush=True)
        return self.read()

    def stop(self) -> None:
        self.popen.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self.popen.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        self.popen.kill()
        self.popen.wait()


Start = Callable[..., Process]


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[Start]:
    """Starts a process that holds the lease of the test's folder."""
    started: list[Process] = []

    def start(node: str | None = None) -> Process:
        started.append(Process(tmp_path, node))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.popen.communicate()


def files(folder: Path) -> set[str]:
    return {path.name for path in (folder / "lease").iterdir()}


# --- one at a time


def test_a_lease_that_is_held_is_refused_and_one_given_back_is_free_at_once(tmp_path: Path) -> None:
    with holding(tmp_path) as first:
        assert first
        first.check()
        with holding(tmp_path) as second:
            assert second is None
    with holding(tmp_path) as third:
        assert third


def test_the_lease_of_a_live_process_of_this_machine_is_never_stale(tmp_path: Path, holder: Start) -> None:
    """Not even where it is stopped: it would go on as if nothing had been."""
    process = holder()
    process.stop()
    assert acquire(tmp_path, patience=2 * STALE) is None
    process.go_on()
    assert process.ask("check") == "mine"


def test_a_process_of_this_machine_that_died_is_followed_at_once(tmp_path: Path, holder: Start) -> None:
    holder().kill()
    with holding(tmp_path) as lease:
        assert lease


def test_a_holder_on_another_node_that_gave_it_back_is_followed_at_once(tmp_path: Path, holder: Start) -> None:
    process = holder("node7")
    assert acquire(tmp_path) is None
    assert process.ask("release") == "released"
    with holding(tmp_path) as lease:
        assert lease


def test_a_holder_on_another_node_that_shows_that_it_lives_keeps_it(tmp_path: Path, holder: Start) -> None:
    process = holder("node7")
    assert acquire(tmp_path, patience=2 * STALE) is None
    assert process.ask("check") == "mine"


def test_a_holder_on_another_node_that_went_silent_is_followed_and_finds_out_before_it_writes_again(
    tmp_path: Path, holder: Start
) -> None:
    process = holder("node7")
    process.stop()
    assert acquire(tmp_path) is None, "without patience nobody can tell"
    with holding(tmp_path, patience=4 * STALE) as lease:
        assert lease
        process.go_on()
        told = process.ask("check")
        assert told.startswith(f"lost: {tmp_path}: its lease was taken over by process {os.getpid()} on ")
        assert process.ask("release") == "released"
        lease.check()
        assert acquire(tmp_path) is None, "what was lost cannot be given back"


def test_a_holder_that_was_stopped_and_that_nobody_followed_goes_on(tmp_path: Path, holder: Start) -> None:
    process = holder("node7")
    process.stop()
    assert acquire(tmp_path, patience=0.75 * STALE) is None
    process.go_on()
    assert process.ask("check") == "mine"


@pytest.mark.parametrize("year", [1980, 2200])
def test_whose_clock_is_right_does_not_matter(tmp_path: Path, holder: Start, year: int) -> None:
    """A node whose clock is decades off beats as well as any other, and is as dead once it stops."""
    holder("node7").kill()
    file, ended = tmp_path / "lease" / "1.json", threading.Event()
    base = (year - 1970) * 31_556_952 * 10**9

    def beat() -> None:
        count = 0
        while not ended.wait(BEAT):
            count += 1
            os.utime(file, ns=(base, base - count))  # backwards, even

    thread = threading.Thread(target=beat)
    thread.start()
    try:
        assert acquire(tmp_path, patience=2 * STALE) is None
    finally:
        ended.set()
        thread.join()
    with holding(tmp_path, patience=4 * STALE) as lease:
        assert lease


RACE = """
import os, sys
from pathlib import Path
from assay.lease import acquire

folder, patience, processes = Path(sys.argv[1]), float(sys.argv[2]), 20
begin, begun = os.pipe()
end, ended = os.pipe()
told, tell = os.pipe()
for _ in range(processes):
    if os.fork() == 0:
        os.close(begun), os.close(ended)
        os.read(begin, 1)
        lease = acquire(folder, patience=patience)
        os.write(tell, b"1" if lease else b"0")
        os.read(end, 1)
        os._exit(0)
os.close(begun)
print("".join(os.read(told, 1).decode() for _ in range(processes)), flush=True)
os.close(ended)
for _ in range(processes):
    os.wait()
"""


@pytest.mark.parametrize("before", ["never held", "its holder died here", "its holder went silent elsewhere"])
def test_of_twenty_processes_that_want_it_at_once_one_gets_it(tmp_path: Path, holder: Start, before: str) -> None:
    if before != "never held":
        holder("node7" if "elsewhere" in before else None).kill()
    patience = 4 * STALE if "elsewhere" in before else 0.0
    race = subprocess.run(
        [sys.executable, "-c", RACE, str(tmp_path), str(patience)], capture_output=True, text=True, check=True
    )
    assert sorted(race.stdout.strip()) == ["0"] * 19 + ["1"]


CROWD = """
import os, sys
from pathlib import Path
from assay.lease import holding

folder, inside, count = Path(sys.argv[1]), Path(sys.argv[1]) / "inside", 0
while count < 25:
    with holding(folder) as lease:
        if lease:
            inside.touch(exist_ok=False)
            count += 1
            inside.unlink()
"""


def test_two_are_never_inside_at_once_however_often_it_changes_hands(tmp_path: Path) -> None:
    crowd = [
        subprocess.Popen([sys.executable, "-c", CROWD, str(tmp_path)], stderr=subprocess.PIPE, text=True)
        for _ in range(6)
    ]
    said = [process.communicate()[1] for process in crowd]
    assert said == [""] * 6
    assert [process.returncode for process in crowd] == [0] * 6


# --- races, at the moments that matter


@pytest.fixture
def just_before_it_is_made(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], None]], None]:
    """Has something happen once, between the last look at a lease and the making of the next."""
    link = os.link

    def happen(what: Callable[[], None]) -> None:
        def linked(*names: Path) -> None:
            monkeypatch.setattr(os, "link", link)
            what()
            link(*names)

        monkeypatch.setattr(os, "link", linked)

    return happen


def elsewhere(token: str, *, released: bool = False) -> Holder:
    """A holder on another node."""
    mine = Holder.me({})
    return Holder(
        token=token, process=type(mine.process)(host="node9", pid=1, start="b:1"), job="12_7", released=released
    )


def test_a_holder_that_beats_at_the_last_moment_is_not_followed(
    tmp_path: Path, just_before_it_is_made: Callable[[Callable[[], None]], None]
) -> None:
    """It may have looked before the next one's file was there, and go on writing."""
    epochs, slow = Epochs(tmp_path), elsewhere("slow")
    assert epochs.create(1, slow)
    given: list[object] = []

    def beat() -> None:
        given.append(epochs.touch(1, slow))
        given.append(epochs.highest())

    just_before_it_is_made(beat)
    assert acquire(tmp_path, patience=1.5 * STALE) is None
    assert given == [True, 1]
    assert epochs.look().holder == slow


def test_whoever_looked_long_ago_does_not_get_what_changed_hands_since(
    tmp_path: Path, just_before_it_is_made: Callable[[Callable[[], None]], None]
) -> None:
    """An epoch that was made and removed meanwhile can be made again, but is not the last one."""
    epochs = Epochs(tmp_path)
    assert epochs.create(1, elsewhere("first", released=True))

    def others() -> None:
        for epoch in (2, 3, 4):
            assert epochs.create(epoch, elsewhere(f"other{epoch}"))
            epochs.clear(epoch)
        assert not epochs.file(2).exists()

    just_before_it_is_made(others)
    assert acquire(tmp_path) is None
    assert epochs.look().holder == elsewhere("other4")


def test_a_folder_that_is_removed_meanwhile_is_made_again(
    tmp_path: Path, just_before_it_is_made: Callable[[Callable[[], None]], None]
) -> None:
    just_before_it_is_made(lambda: shutil.rmtree(tmp_path / "lease"))
    with holding(tmp_path) as lease:
        assert lease


def test_a_holder_whose_file_was_removed_and_made_again_by_another_has_lost_it(tmp_path: Path) -> None:
    """Somebody who clears leases away by hand does not make two holders."""
    lease = acquire(tmp_path)
    assert lease
    shutil.rmtree(tmp_path / "lease")
    with holding(tmp_path) as other:
        assert other

        def lost() -> bool:
            try:
                lease.check()
            except LeaseLost:
                return True
            return False

        until(lost, "the first holder to notice")
        lease.release()
        other.check()
        assert acquire(tmp_path) is None


def test_a_link_that_was_made_though_the_answer_says_that_it_existed_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NFS repeats a request whose answer was lost."""
    link = os.link

    def twice(*names: Path) -> None:
        link(*names)
        raise FileExistsError(errno.EEXIST, "File exists")

    monkeypatch.setattr(os, "link", twice)
    with holding(tmp_path) as lease:
        assert lease
        assert acquire(tmp_path) is None


def test_where_there_are_no_hard_links_one_at_a_time_holds_it_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Path) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    with holding(tmp_path) as lease:
        assert lease
        lease.check()
        assert acquire(tmp_path) is None
    with holding(tmp_path) as lease:
        assert lease


# --- forks


def test_a_forked_process_does_not_hold_what_its_parent_holds(tmp_path: Path, holder: Start) -> None:
    """It can't write by it, can't give it back, and doesn't keep it alive."""
    process = holder("node7")
    assert process.ask("fork").startswith("lost")
    assert acquire(tmp_path) is None
    process.kill()
    with holding(tmp_path, patience=4 * STALE) as lease:
        assert lease


# --- what is on disk


@pytest.mark.parametrize(
    "text", [b"", b'{"token": "ab', b"[]", b"\xff\xfe", b'{"token": 5}', b'{"token": "a", "process": 5, "job": null}']
)
def test_a_damaged_file_is_somebodys_until_it_is_stale(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "lease").mkdir()
    (tmp_path / "lease" / "3.json").write_bytes(text)
    assert looks_held(tmp_path)
    assert acquire(tmp_path) is None
    with holding(tmp_path, patience=4 * STALE) as lease:
        assert lease
        assert "4.json" in files(tmp_path)


def test_neither_old_epochs_nor_half_written_ones_pile_up(tmp_path: Path) -> None:
    for _ in range(5):
        with holding(tmp_path) as lease:
            assert lease
    (tmp_path / "lease" / ".6.0123456789abcdef.tmp").write_text("{")  # somebody was killed here
    with holding(tmp_path):
        assert files(tmp_path) == {"5.json", "6.json"}


@pytest.mark.parametrize(
    ("variables", "job"),
    [
        ({}, None),
        ({"SLURM_JOB_ID": "1234"}, "1234"),
        ({"SLURM_JOB_ID": "1241", "SLURM_ARRAY_JOB_ID": "1234", "SLURM_ARRAY_TASK_ID": "7"}, "1234_7"),
    ],
)
def test_a_lease_says_whose_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], job: str | None
) -> None:
    monkeypatch.setenv("SLURMD_NODENAME", "gpu03")
    for name in ("SLURM_JOB_ID", "SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with holding(tmp_path):
        said = json.loads((tmp_path / "lease" / "1.json").read_text())
    assert (said["process"]["host"], said["process"]["pid"], said["job"]) == ("gpu03", os.getpid(), job)


BOUND_BY_PERMISSIONS = [] if os.getuid() else ["setpriv", "--bounding-set=-all", "--inh-caps=-all"]
"""Root writes wherever it likes; without its capabilities it is bound by permissions like anybody else."""


@pytest.mark.skipif(bool(BOUND_BY_PERMISSIONS) and shutil.which("setpriv") is None, reason="no setpriv to drop root by")
def test_a_folder_that_cannot_be_written_is_named_and_can_still_be_looked_at(tmp_path: Path, holder: Start) -> None:
    holder("node7").kill()
    (tmp_path / "lease").chmod(0o555)
    code = (
        "import sys; from pathlib import Path; from assay.lease import acquire, looks_held; "
        "folder = Path(sys.argv[1]); print(looks_held(folder), flush=True); acquire(folder, patience=60)"
    )
    result = subprocess.run(
        [*BOUND_BY_PERMISSIONS, sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False
    )
    (tmp_path / "lease").chmod(0o755)
    assert result.stdout == "True\n"
    assert f"AssayError: {tmp_path}/lease: the lease cannot be written: Permission denied." in result.stderr


def test_a_full_disk_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "link", full)
    with pytest.raises(AssayError, match="lease: the disk is full"):
        acquire(tmp_path)
    assert files(tmp_path) == set()


# --- looking


def test_looking_tells_who_seems_to_hold_it(tmp_path: Path, holder: Start) -> None:
    assert not looks_held(tmp_path)
    with holding(tmp_path):
        assert looks_held(tmp_path)
    assert not looks_held(tmp_path)
    process = holder("node7")
    assert looks_held(tmp_path)
    assert process.ask("release") == "released"
    assert not looks_held(tmp_path)
    holder().kill()
    assert not looks_held(tmp_path)


@pytest.mark.parametrize("hours", [-1, 1])
def test_a_file_of_another_time_is_no_sign_of_life(tmp_path: Path, hours: int) -> None:
    """Neither an old one, nor one of a node that died and whose clock was ahead: nobody would ever try to follow it."""
    epochs = Epochs(tmp_path)
    epochs.create(1, elsewhere("gone"))
    assert looks_held(tmp_path)
    os.utime(epochs.file(1), (0, time.time() + 3600 * hours))
    assert not looks_held(tmp_path)


def test_looking_changes_nothing_and_keeps_nobody_from_taking_it(tmp_path: Path) -> None:
    epochs = Epochs(tmp_path)
    epochs.create(1, elsewhere("there"))
    before = epochs.look()
    assert looks_held(tmp_path)
    assert epochs.look() == before
    assert files(tmp_path) == {"1.json"}


# --- times


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"ASSAY_LEASE_BEAT": "often"}, "ASSAY_LEASE_BEAT is 'often'"),
        ({"ASSAY_LEASE_BEAT": "0"}, "ASSAY_LEASE_BEAT is 0"),
        ({"ASSAY_LEASE_BEAT": "nan"}, "ASSAY_LEASE_BEAT is nan"),
        ({"ASSAY_LEASE_STALE": "inf"}, "ASSAY_LEASE_STALE is inf"),
        ({"ASSAY_LEASE_STALE": "30"}, "ASSAY_LEASE_STALE is 30, and ASSAY_LEASE_BEAT 10"),
    ],
)
def test_times_that_make_no_sense_are_refused(variables: dict[str, str], message: str) -> None:
    with pytest.raises(AssayError, match=message):
        LeaseTimes.from_environment(variables)


def test_times_are_the_usual_ones_where_none_are_set() -> None:
    assert LeaseTimes.from_environment({}) == LeaseTimes(beat=10, stale=60)
    assert LeaseTimes.from_environment({"ASSAY_LEASE_STALE": "31"}) == LeaseTimes(beat=10, stale=31)
