"""Identify processes by host, PID and start time, because the kernel reuses PIDs."""

from __future__ import annotations

import os
import socket
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

MAX_SOCKET_PATH = 107
"""Maximum number of bytes in the path of a Unix socket on Linux (unix(7))."""

SOCKET_NAME_BYTES = len("/pymp-12345678/listener-12345678")
"""Number of bytes that `multiprocessing` appends to the temporary folder."""


@dataclass(frozen=True, kw_only=True)
class ProcessIdentity:
    """The identity of one process, past or present."""

    host: str
    """Host name of the process's machine, as returned by `this_host`."""
    pid: int
    start: str
    """Boot id of the machine and kernel tick of the start. A later process with the same PID has another value."""

    @classmethod
    def of(cls, pid: int) -> ProcessIdentity:
        """Return the identity of the current process with this PID on this machine.

        Raises:
            ProcessLookupError: no process has this PID.
        """
        start = _start(pid)
        if start is None:
            raise ProcessLookupError(f"no process {pid} on this machine")
        return cls(host=this_host(), pid=pid, start=start)

    @property
    def on_this_host(self) -> bool:
        """Whether the process is or was on this machine. The state of processes on other machines is unknown."""
        return self.host == this_host()

    @property
    def alive(self) -> bool | None:
        """Whether the process is still running; None if the process is on another machine."""
        return _start(self.pid) == self.start if self.on_this_host else None

    def send(self, number: int) -> bool:
        """Send a signal to exactly this process, never to a later process with the same PID.

        Returns:
            Whether the process existed and received the signal.
        """
        if not self.alive:
            return False
        try:
            os.kill(self.pid, number)
        except ProcessLookupError:
            return False
        return True


def this_host() -> str:
    """Return this machine's name: SLURM's node name inside a job, else the host name.

    Containers on different nodes may have equal host names. SLURM's node names are unique.
    """
    return os.environ.get("SLURMD_NODENAME") or socket.gethostname()


def _start(pid: int) -> str | None:
    """Return boot id and start tick of a process; None if it does not exist or is a zombie."""
    try:
        line = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The command's name is in parentheses and may contain any character. proc(5) counts fields after the last
    # parenthesis.
    state, *fields = line.rpartition(")")[2].split()
    return None if state in "ZX" else f"{_boot()}:{fields[18]}"


@cache
def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return "unknown"  # some sandboxes hide the boot id; the tick alone still distinguishes most processes


def out_of_memory_kills() -> int:
    """Count the processes that the kernel killed for lack of memory, as visible here.

    The count is that of the control group (cgroup v2), or of the machine without a control group.
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


def keep_socket_paths_short() -> None:
    """Let `multiprocessing` create its sockets in `/tmp` if the path of the temporary folder is too long for them.

    SLURM sites often set TMPDIR to a long path per job. Only the sockets move; all other temporary files stay in TMPDIR.
    """
    from multiprocessing import util

    if len(os.fsencode(tempfile.gettempdir())) + SOCKET_NAME_BYTES <= MAX_SOCKET_PATH:
        return
    before, tempfile.tempdir = tempfile.tempdir, "/tmp"  # noqa: S108  # `mkdtemp` creates a private folder in it
    try:
        util.get_temp_dir()  # created once per process
    finally:
        tempfile.tempdir = before
