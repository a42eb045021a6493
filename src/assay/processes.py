"""Which process is meant: a pid alone is reused, so a pid goes with its machine and the time at which it began."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from functools import cache
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class ProcessIdentity:
    """One process that ever was."""

    host: str
    """What `this_host` says there."""
    pid: int
    start: str
    """The machine's boot and the kernel's tick at which the process began; a later process of the same pid has another."""

    @classmethod
    def of(cls, pid: int) -> ProcessIdentity:
        """The process that has this pid here and now.

        Raises:
            ProcessLookupError: there is none.
        """
        start = _start(pid)
        if start is None:
            raise ProcessLookupError(f"no process {pid} on this machine")
        return cls(host=this_host(), pid=pid, start=start)

    @property
    def here(self) -> bool:
        """Whether it is, or was, on this machine: only then can anything be known of it."""
        return self.host == this_host()

    @property
    def alive(self) -> bool | None:
        """Whether it still runs; ``None`` where it is on another machine."""
        return _start(self.pid) == self.start if self.here else None

    def send(self, number: int) -> bool:
        """Send a signal, to this very process or to none.

        Returns:
            Whether the process was there to get it.
        """
        if not self.alive:
            return False
        try:
            os.kill(self.pid, number)
        except ProcessLookupError:
            return False
        return True


def this_host() -> str:
    """What this machine is called: SLURM's name of the node in its jobs, else the host's name.

    Containers on different nodes may share a host name, and SLURM's nodes never share theirs.
    """
    return os.environ.get("SLURMD_NODENAME") or socket.gethostname()


def _start(pid: int) -> str | None:
    """The boot and the tick at which a process began; ``None`` where there is none, or only its corpse."""
    try:
        line = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The command's name is in parentheses and may hold anything; proc(5) counts fields from after the last one.
    state, *fields = line.rpartition(")")[2].split()
    return None if state in "ZX" else f"{_boot()}:{fields[18]}"


@cache
def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return "unknown"  # some sandboxes hide it; the tick alone still tells most processes apart


def out_of_memory_kills() -> int:
    """Processes that the kernel has killed for want of memory, as far as it can be seen from here.

    The control group's own count where there is one (cgroup v2), else the machine's.
    """
    for path, key in ((_control_group() / "memory.events", "oom_kill"), (Path("/proc/vmstat"), "oom_kill")):
        try:
            counts = dict(line.split()[:2] for line in path.read_text(encoding="ascii").splitlines())
        except OSError:
            continue
        if key in counts:
            return int(counts[key])
    return 0


def _control_group() -> Path:
    try:
        lines = Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    unified = [line.removeprefix("0::") for line in lines if line.startswith("0::")]
    return Path("/sys/fs/cgroup" + (unified[0] if unified else "")).resolve()
