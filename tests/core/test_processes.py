from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from assay.core.processes import ProcessIdentity, out_of_memory_kills


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(60)"], stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    process.stdout.readline()
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_a_process_is_alive_until_it_ends(sleeper: subprocess.Popen[bytes]) -> None:
    identity = ProcessIdentity.of(sleeper.pid)
    assert identity.on_this_host
    assert identity.alive
    sleeper.kill()
    sleeper.wait()
    assert identity.alive is False


def test_a_zombie_is_not_alive(sleeper: subprocess.Popen[bytes]) -> None:
    identity = ProcessIdentity.of(sleeper.pid)
    sleeper.kill()
    os.waitid(os.P_PID, sleeper.pid, os.WEXITED | os.WNOWAIT)
    assert identity.alive is False


def test_a_reused_pid_is_neither_alive_nor_signaled(
    sleeper: subprocess.Popen[bytes],
) -> None:
    reused = replace(ProcessIdentity.of(sleeper.pid), start="another boot:1")
    assert reused.alive is False
    assert not reused.send(signal.SIGKILL)
    assert sleeper.poll() is None


def test_a_process_on_another_machine_has_no_known_state_and_gets_no_signal(sleeper: subprocess.Popen[bytes]) -> None:
    there = replace(ProcessIdentity.of(sleeper.pid), host="another-machine")
    assert there.alive is None
    assert not there.send(signal.SIGKILL)
    assert sleeper.poll() is None


def test_a_signal_reaches_the_process_itself(sleeper: subprocess.Popen[bytes]) -> None:
    assert ProcessIdentity.of(sleeper.pid).send(signal.SIGTERM)
    assert sleeper.wait(timeout=30) == -signal.SIGTERM


def test_a_name_with_parentheses_and_spaces_does_not_shift_the_fields(tmp_path: Path) -> None:
    script = tmp_path / "a) S 1 (b"
    script.symlink_to(sys.executable)
    process = subprocess.Popen(
        [str(script), "-c", "import time; print('up', flush=True); time.sleep(60)"], stdout=subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        process.stdout.readline()
        ticks = int(ProcessIdentity.of(process.pid).start.rpartition(":")[2])
        assert ticks >= int(ProcessIdentity.of(os.getpid()).start.rpartition(":")[2])
    finally:
        process.kill()
        process.communicate()


def test_a_process_that_does_not_exist_has_no_identity(sleeper: subprocess.Popen[bytes]) -> None:
    sleeper.kill()
    sleeper.wait()
    with pytest.raises(ProcessLookupError):
        ProcessIdentity.of(sleeper.pid)


def test_out_of_memory_kills_are_counted() -> None:
    assert out_of_memory_kills() >= 0


LONG_FOLDER = """
import multiprocessing, tempfile
from assay.core.processes import keep_socket_paths_short

def work(): pass

if __name__ == "__main__":
    keep_socket_paths_short()
    process = multiprocessing.get_context("forkserver").Process(target=work)
    process.start()
    process.join()
    print(process.exitcode, tempfile.gettempdir())
"""


def test_processes_start_if_the_path_of_the_temporary_folder_is_too_long_for_a_socket(tmp_path: Path) -> None:
    folder, script = tmp_path / ("a" * 90), tmp_path / "start.py"
    folder.mkdir()
    script.write_text(LONG_FOLDER)
    environment = {**os.environ, "TMPDIR": str(folder)}
    process = subprocess.run([sys.executable, str(script)], env=environment, capture_output=True, text=True, check=True)
    assert process.stdout.split() == ["0", str(folder)]
