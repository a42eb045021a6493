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

    def send(self, number: int) -> None:
        """Send it a signal, if it is still there."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, number)


def daemons(folder: Path, name: str = "") -> list[Process]:
    """The processes of one daemon of the cluster in a folder, or of all of them.

    Each holds its log open there: `log/NAME.log`, or `log/NAME.out` for what it prints. A node's are its slurmd and the
    slurmstepds, which inherit slurmd's log and can be told by nothing else: they write their title over their environment.
    """
    held = f"{folder}/log/{name}." if name else f"{folder}/"
    return [
        process
        for process in _processes()
        if process.program in PROGRAMS and any(target.startswith(held) for target in _open_files(process.pid))
    ]


def tasks(folder: Path, node: str = "") -> list[Process]:
    """What jobs have running on one node of the cluster in a folder, or on all: told by the environment SLURM gave them."""
    return [
        process
        for process in _processes()
        if (environment := _environment(process.pid)).get("SLURM_CONF") == f"{folder}/etc/slurm.conf"
        and "SLURMD_NODENAME" in environment
        and node in ("", environment["SLURMD_NODENAME"])
    ]


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


def _processes() -> Iterator[Process]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):  # it has just ended, is a thread of the kernel's, or a corpse
                # Debian has these programs in variants: slurmd is slurmd-wlm, behind a link.
                program = (entry / "exe").readlink().name.removesuffix("-wlm")
                yield Process(pid=int(entry.name), program=program)


def _open_files(pid: int) -> list[str]:
    files = []
    with suppress(OSError):
        for entry in os.scandir(f"/proc/{pid}/fd"):
            with suppress(OSError):
                files.append(os.readlink(entry.path))
    return files


def _environment(pid: int) -> dict[str, str]:
    try:
        text = Path(f"/proc/{pid}/environ").read_text(errors="replace")
    except OSError:
        return {}
    return dict(entry.split("=", 1) for entry in text.split("\0") if "=" in entry)
