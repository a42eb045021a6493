"""Processes of a cluster, identified through /proc instead of a list of process ids that can become outdated."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

PROGRAMS = frozenset({"munged", "mariadbd", "slurmdbd", "slurmctld", "slurmd", "slurmstepd"})


@dataclass(frozen=True, kw_only=True)
class Process:
    """A process of a cluster."""

    pid: int
    program: str
    """Name of the program, such as `slurmstepd`."""
    daemon: str
    """Owner: a daemon, such as `slurmctld`, or a node, such as `n1`."""

    def send(self, number: int) -> None:
        """Send a signal, unless the process has ended."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, number)


def daemons(folder: Path) -> list[Process]:
    """List the daemons of the cluster in a folder, and their helper processes.

    A daemon has its log open: `log/NAME.log`, or `log/NAME.out` for its output. The daemons of a node are its slurmd and
    the slurmstepds. Those inherit slurmd's log, which is their only mark: they overwrite their environment with a title.
    """
    found = []
    for pid, program in _programs():
        if program in PROGRAMS and (held := [path for path in _open_files(pid) if path.startswith(f"{folder}/")]):
            logs = [Path(path).stem for path in held if path.startswith(f"{folder}/log/")]
            found.append(Process(pid=pid, program=program, daemon=logs[0] if logs else ""))
    return found


def tasks(folder: Path) -> list[Process]:
    """List the processes of jobs on the nodes of the cluster in a folder, by SLURM's variables in their environment."""
    found = []
    for pid, program in _programs():
        environment = _environment(pid)
        node = environment.get("SLURMD_NODENAME")
        if node and environment.get("SLURM_CONF") == f"{folder}/etc/slurm.conf":
            found.append(Process(pid=pid, program=program, daemon=node))
    return found


def kill(find: Callable[[], list[Process]], *, longest: float = 20.0) -> None:
    """Kill processes until none is left: a process may start another before it dies.

    Raises:
        TimeoutError: a process does not die.
    """
    end = time.monotonic() + longest
    while alive := find():
        if time.monotonic() > end:
            raise TimeoutError(f"not dead {longest:.0f} s after SIGKILL: {alive}")
        for process in alive:
            process.send(signal.SIGKILL)
        time.sleep(0.01)


def started(pid: int) -> int | None:
    """Return the start tick of a process, which identifies it if its pid is reused; ``None`` if it ended."""
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    return None if state in "ZX" else int(fields[18])


# The functions below read every process and its open files through `os`: `Path` takes three times as long.
def _programs() -> Iterator[tuple[int, str]]:
    """Yield every process id with its program."""
    for pid in filter(str.isdigit, os.listdir("/proc")):  # noqa: PTH208
        with suppress(OSError):  # it has just ended, is a kernel thread, or a zombie
            # On Debian, slurmd is a link to slurmd-wlm.
            yield int(pid), os.readlink(f"/proc/{pid}/exe").rpartition("/")[2].removesuffix("-wlm")  # noqa: PTH115


def _open_files(pid: int) -> Iterator[str]:
    with suppress(OSError):
        for number in os.listdir(f"/proc/{pid}/fd"):  # noqa: PTH208
            with suppress(OSError):
                yield os.readlink(f"/proc/{pid}/fd/{number}")  # noqa: PTH115


def _environment(pid: int) -> dict[str, str]:
    try:
        text = Path(f"/proc/{pid}/environ").read_text(errors="replace")
    except OSError:
        return {}
    return dict(entry.split("=", 1) for entry in text.split("\0") if "=" in entry)
