"""Which processes are a cluster's, as the kernel tells it: no list of pids that could be out of date."""

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
    """The name of its program, such as `slurmstepd`."""
    daemon: str
    """Whose it is: a daemon's, such as `slurmctld`, or a node's, such as `n1`."""

    def send(self, number: int) -> None:
        """Send it a signal, if it is still there."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, number)


def daemons(folder: Path) -> list[Process]:
    """The daemons of the cluster in a folder, and all that they have started on their own behalf.

    Each holds its log open there: `log/NAME.log`, or `log/NAME.out` for what it prints. A node's are its slurmd and the
    slurmstepds, which inherit slurmd's log and can be told by nothing else: they write their title over their environment.
    """
    found = []
    for pid, program in _programs():
        if program in PROGRAMS and (held := [path for path in _open_files(pid) if path.startswith(f"{folder}/")]):
            logs = [Path(path).stem for path in held if path.startswith(f"{folder}/log/")]
            found.append(Process(pid=pid, program=program, daemon=logs[0] if logs else ""))
    return found


def tasks(folder: Path) -> list[Process]:
    """What jobs have running on the nodes of the cluster in a folder: told by the environment that SLURM gave them."""
    found = []
    for pid, program in _programs():
        environment = _environment(pid)
        node = environment.get("SLURMD_NODENAME")
        if node and environment.get("SLURM_CONF") == f"{folder}/etc/slurm.conf":
            found.append(Process(pid=pid, program=program, daemon=node))
    return found


def kill(find: Callable[[], list[Process]], *, longest: float = 20.0) -> None:
    """Kill what is found until nothing is found any more: a process may start another before it dies.

    Raises:
        TimeoutError: something does not die.
    """
    end = time.monotonic() + longest
    while found := find():
        if time.monotonic() > end:
            raise TimeoutError(f"not dead {longest:.0f} s after SIGKILL: {found}")
        for process in found:
            process.send(signal.SIGKILL)
        time.sleep(0.01)


def started(pid: int) -> int | None:
    """The kernel's tick at which a process began, which tells it from a later one of the same pid; ``None`` if it ended."""
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    return None if state in "ZX" else int(fields[18])


# Every process is looked at, with every file it has open: through `os`, as `Path` takes three times as long.
def _programs() -> Iterator[tuple[int, str]]:
    """Every process, and its program."""
    for pid in filter(str.isdigit, os.listdir("/proc")):  # noqa: PTH208
        with suppress(OSError):  # it has just ended, is a thread of the kernel's, or a corpse
            # Debian has these programs in variants: slurmd is slurmd-wlm, behind a link.
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
