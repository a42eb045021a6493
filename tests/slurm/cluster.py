"""A cluster of real SLURM daemons on this machine, as root: started in seconds, damaged on purpose, and removed."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.slurm import configuration, processes

PACKAGES = Path(__file__).with_name("packages.txt").read_text(encoding="utf-8").split()
"""Debian packages that the cluster needs."""

_PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"  # Debian installs daemons there; PATH may omit it
_PREFIX = "assay-slurm-"
_MARK = "is-a-cluster"
_IN_SERVICE = {"idle", "mix", "alloc", "comp"}
"""States of usable nodes; the state of a node that does not answer ends with `*`."""


def missing() -> str:
    """Explain why this machine cannot run a cluster, with instructions; empty if it can."""
    programs = ("slurmctld", "slurmd", "sbatch", "slurmdbd", "munged", "mariadbd", "mariadb-install-db")
    absent = [program for program in programs if shutil.which(program, path=_PATH) is None]
    if absent:
        install = f"apt-get install -y --no-install-recommends {' '.join(PACKAGES)}"
        return f"no SLURM here ({', '.join(absent)} not found). On Debian, as root: {install}"
    if os.geteuid() != 0:
        return f"SLURM's daemons need root, and this is user {os.geteuid()}: run the tests as root, in a container"
    return ""


@dataclass(frozen=True)
class Cluster:
    """The cluster in a folder. The folder has its complete state, so any process may create this object."""

    folder: Path

    @classmethod
    def up(cls, folder: Path, **shape: Any) -> Cluster:
        """Start a cluster: keep one that runs and is healthy, replace one that is broken.

        Args:
            folder: folder of the cluster, created if necessary. At most 70 characters.
            **shape: fields of `configuration.Shape`, such as ``accounting=False``.

        Raises:
            ValueError: the folder's path is too long, or the folder has other contents.
            TimeoutError: a daemon does not start; the message contains its log.
        """
        cluster = cls(folder.resolve())
        if cluster.nodes and cluster.alive >= set(cluster.daemons):
            cluster._until(cluster._in_service, "every node to be in service")
        else:
            cluster.down()
            cluster._start_all(configuration.Shape(**shape))
        return cluster

    @classmethod
    @contextmanager
    def temporary(cls, **shape: Any) -> Iterator[Cluster]:
        """Start a cluster in a temporary folder; remove it at the end of the block or of this process.

        A separate guard process reads from a pipe and removes the cluster when this end of the pipe closes: the kernel
        closes it even if no finalizer runs. If the guard was killed too, the next call removes the cluster.
        """
        _remove_strays()
        prefix = f"{_PREFIX}{os.getpid()}-{processes.started(os.getpid())}-"
        folder = Path(tempfile.mkdtemp(prefix=prefix, dir="/tmp"))  # TMPDIR may be too long for sockets
        read_end, write_end = os.pipe()
        guard = subprocess.Popen(
            [sys.executable, "-m", "tests.slurm", "guard", str(folder)],
            stdin=read_end,
            cwd=Path(__file__).parents[2],
            start_new_session=True,  # Ctrl-C must not reach it
        )
        os.close(read_end)
        try:
            yield cls.up(folder, **shape)
        finally:
            os.close(write_end)
            guard.wait(timeout=60)

    def down(self) -> None:
        """Kill all processes of the cluster, and remove its folder.

        Raises:
            ValueError: the folder has other contents.
        """
        if self.folder.exists() and any(self.folder.iterdir()) and not (self.folder / _MARK).exists():
            raise ValueError(f"{self.folder} is not empty, and not a cluster's: nothing in it is touched")
        processes.kill(self._processes)
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def environment(self) -> dict[str, str]:
        """Variables that select this cluster for SLURM's commands."""
        return {"SLURM_CONF": str(self.folder / "etc/slurm.conf"), "PATH": _PATH}

    @property
    def accounting(self) -> bool:
        """Whether the cluster has slurmdbd."""
        return (self.folder / "etc/slurmdbd.conf").exists()

    @property
    def nodes(self) -> list[str]:
        """Names of the nodes, in order."""
        return sorted(entry.name for entry in (self.folder / "spool").glob("n*"))

    @property
    def daemons(self) -> list[str]:
        """Names of all daemons and nodes, in the order of their dependencies."""
        return ["munged", *(["mariadbd", "slurmdbd"] if self.accounting else []), "slurmctld", *self.nodes]

    @property
    def alive(self) -> set[str]:
        """Names of the running daemons, including frozen ones, and of the nodes with a running slurmd."""
        return {p.daemon for p in processes.daemons(self.folder) if p.program in (p.daemon, "slurmd")}

    def start(self, name: str) -> None:
        """Start a daemon or a node's slurmd if it does not run, and wait until it is ready.

        A node that the controller considers down returns by registering (ReturnToService=2). Without a controller, this
        function does not wait for the registration.
        """
        if name not in self.alive:
            log_length = len(self._log(name))
            self._spawn(name)
            self._until(lambda: self._ready(name, log_length), f"{name} to be up")

    def kill(self, name: str, *, noticed: bool = False) -> None:
        """Kill a daemon, or everything that runs on a node, as a crash or a power failure does.

        Args:
            name: a node, slurmctld, slurmdbd, ...
            noticed: report the failure of a node to the controller, which otherwise notices it after about 15 s.
        """
        processes.kill(lambda: [process for process in self._processes() if process.daemon == name])
        if noticed:
            self.command("scontrol", "update", f"NodeName={name}", "State=DOWN", "Reason=killed")

    def kill_slurmd_only(self, node: str) -> None:
        """Kill a node's slurmd as a crash does; its job steps and their tasks continue."""
        processes.kill(lambda: [p for p in self._processes() if (p.daemon, p.program) == (node, "slurmd")])

    def freeze(self, name: str) -> None:
        """Stop a daemon without ending it: it still accepts connections, but never answers."""
        self._send(signal.SIGSTOP, name)

    def thaw(self, name: str) -> None:
        """Resume a frozen daemon."""
        self._send(signal.SIGCONT, name)

    def command(self, *args: str, timeout: float = 60) -> str:
        """Run one of SLURM's commands and return its output, stripped.

        Raises:
            subprocess.CalledProcessError: the command fails; the error's notes contain its message.
            subprocess.TimeoutExpired: the command takes longer than the timeout, in seconds.
        """
        try:
            result = subprocess.run(
                args, env=os.environ | self.environment, capture_output=True, text=True, timeout=timeout, check=True
            )
        except subprocess.CalledProcessError as error:
            error.add_note(error.stderr)
            raise
        return result.stdout.strip()

    def job(self, identifier: str) -> dict[str, str]:
        """Query the controller for a job or array task: JobState, Restarts, ..."""
        text = self.command("scontrol", "show", "job", "--oneliner", identifier)
        return dict(field.split("=", 1) for field in text.split() if "=" in field)

    def preempt(self, node: str) -> str:
        """Submit a job on `main` that needs all CPUs of a node, so that SLURM preempts the jobs there.

        Returns:
            The id of the job, which runs until it is cancelled.
        """
        wants = ("--partition=main", f"--nodelist={node}", "--exclusive", "--output=/dev/null")
        return self.command("sbatch", "--parsable", *wants, "--job-name=preempt", "--wrap=sleep 3600")

    def cancel(self, identifier: str) -> None:
        """Cancel a job."""
        self.command("scancel", identifier)

    def save(self) -> None:
        """Make the controller save its state, and wait for it; otherwise a crash loses up to 5 s."""
        state, now = self.folder / "state/job_state", time.time()
        self.command("scontrol", "reconfigure")  # it saves the complete state
        self._until(lambda: state.exists() and state.stat().st_mtime > now, "the state to be saved")

    def reset(self) -> None:
        """Restore the initial state of the cluster: all daemons run, no jobs or tasks exist, all nodes are idle."""
        self._kill_jobs()
        self._send(signal.SIGCONT, *self.daemons)
        alive = self.alive
        for name in self.daemons:
            if name not in alive:
                self.start(name)
        configuration.renumber(self.folder)
        self._until(lambda: self._succeeds("scontrol", "reconfigure"), "the controller to read its configuration")
        self._until(self._emptied, "the queue to be empty")
        self._until(self._in_service, "every node to be idle")

    def log_tail(self, lines: int = 15) -> str:
        """Return the queue, the nodes and the end of every log, for failure reports."""
        parts = []
        for question in (("squeue", "--all"), ("sinfo", "--all", "--Node", "--long")):
            try:
                parts.append(self.command(*question, timeout=5))
            except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
                parts.append(str(error))
        logs = {log.stem: log for log in sorted((self.folder / "log").glob("*"), reverse=True)}  # .log rather than .out
        for name in sorted(logs):
            last = logs[name].read_text(encoding="utf-8", errors="replace").splitlines()[-lines:]
            parts.append("\n".join([f"-- {name}", *last]))
        return "\n".join(parts)

    def _start_all(self, shape: configuration.Shape) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / _MARK).touch()
        for directory in ("run", "log", "state", *(f"spool/{node}" for node in shape.node_names)):
            (self.folder / directory).mkdir(parents=True)
        configuration.write(self.folder, shape)
        self.start("munged")
        if shape.accounting:
            self._start_accounting()
        for name in ("slurmctld", *self.nodes):
            self._spawn(name)
        self._until(self._in_service, "every node to be idle")

    def _start_accounting(self) -> None:
        cnf = f"--defaults-file={self.folder}/etc/mariadb.cnf"
        login = ("--auth-root-authentication-method=normal", "--skip-test-db")
        self.command(*_unsynced("mariadb-install-db"), cnf, *login)
        self.start("mariadbd")
        user = "create user slurm@'127.0.0.1' identified by 'slurm'; grant all on slurm_acct_db.* to slurm@'127.0.0.1'"
        self.command("mariadb", cnf, f"--execute=create database slurm_acct_db; {user}")
        self.start("slurmdbd")
        self.command("sacctmgr", "--immediate", "add", "cluster", "assay")

    def _spawn(self, name: str) -> None:
        """Start a detached daemon: it outlives this process and leaves no zombie in it."""
        etc, run = self.folder / "etc", self.folder / "run"
        munge = {"key-file": etc / "munge.key", "socket": run / "munge.socket", "pid-file": run / "munged.pid"}
        munge |= {"log-file": self.folder / "log/munged.log", "seed-file": run / "munge.seed"}
        commands = {
            "munged": ["munged", "--foreground", "--force", *(f"--{key}={value}" for key, value in munge.items())],
            "mariadbd": [*_unsynced("mariadbd"), f"--defaults-file={etc}/mariadb.cnf"],
            "slurmdbd": ["slurmdbd", "-D"],
            "slurmctld": [*_unsynced("slurmctld"), "-D", "-i"],
        }
        with (self.folder / f"log/{name}.out").open("ab") as out:
            subprocess.run(
                ["setsid", "--fork", *commands.get(name, ["slurmd", "-D", "-N", name])],
                cwd=self.folder,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                check=True,
            )

    def _ready(self, name: str, log_length: int) -> bool:
        """Check whether a daemon is ready; `log_length` is the length of its log before its start."""
        if name == "munged":
            return self._succeeds("munge", "--no-input", f"--socket={self.folder}/run/munge.socket")
        if name == "mariadbd":
            return self._succeeds("mariadb", f"--defaults-file={self.folder}/etc/mariadb.cnf", "--execute=select 1")
        if name == "slurmdbd":
            return self._succeeds("sacctmgr", "show", "cluster")
        if name == "slurmctld":
            return self._succeeds("scontrol", "ping")
        if (
            "slurmd started" not in self._log(name)[log_length:]
        ):  # the controller may still consider the old slurmd alive
            return False
        state = self._node_states().get(name, "unk")
        return "slurmctld" not in self.alive or not (state.startswith(("down", "unk")) or state.endswith("*"))

    def _in_service(self) -> bool:
        """Check whether every node accepts jobs; resume nodes that are out of service."""
        states = self._node_states()
        for node in [node for node, state in states.items() if state.startswith(("down", "drain", "drng", "fail"))]:
            self._succeeds("scontrol", "update", f"NodeName={node}", "State=RESUME")
        return set(states) == set(self.nodes) and set(states.values()) <= _IN_SERVICE

    def _node_states(self) -> dict[str, str]:
        """Query the state of each node in SLURM's short form; empty while the controller does not answer."""
        try:
            rows = self.command("sinfo", "--noheader", "--Node", "--partition=main", "--format=%N %t")
        except subprocess.CalledProcessError:
            return {}
        return dict(row.split() for row in rows.splitlines())

    def _emptied(self) -> bool:
        """Check whether the queue is empty; cancel all jobs and kill all steps and tasks."""
        try:
            if not self.command("squeue", "--noheader", "--format=%i"):
                return True
        except subprocess.CalledProcessError:
            return False  # the controller does not answer yet
        self._succeeds("scancel", f"--user={os.geteuid()}")
        self._kill_jobs()
        return False

    def _kill_jobs(self) -> None:
        """Kill every step and task, including those that the controller does not know."""
        own = {*self.daemons, "slurmd"}
        processes.kill(lambda: [process for process in self._processes() if process.program not in own])

    def _send(self, number: int, *names: str) -> None:
        for process in processes.daemons(self.folder):
            if process.daemon in names:
                process.send(number)

    def _processes(self) -> list[processes.Process]:
        """List all processes of the cluster: first daemons and steps, which could report the end of tasks, then tasks."""
        return [*processes.daemons(self.folder), *processes.tasks(self.folder)]

    def _succeeds(self, *args: str) -> bool:
        try:
            self.command(*args)
        except subprocess.CalledProcessError:
            return False
        return True

    def _log(self, name: str) -> str:
        log = self.folder / f"log/{name}.log"
        return log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""

    def _until(self, condition: Callable[[], bool], what: str, *, longest: float = 60.0) -> None:
        end = time.monotonic() + longest
        while not condition():
            if time.monotonic() > end:
                raise TimeoutError(f"waited {longest:.0f} s for {what}\n{self.log_tail()}")
            time.sleep(0.05)


def _unsynced(program: str) -> list[str]:
    """Run a program without fsync if eatmydata is installed: no data must survive a crash of the machine."""
    return ["eatmydata", program] if shutil.which("eatmydata") else [program]


def _remove_strays() -> None:
    """Remove clusters of `Cluster.temporary` whose process and guard have ended."""
    for folder in Path("/tmp").glob(f"{_PREFIX}*-*-*"):
        pid, tick = folder.name.removeprefix(_PREFIX).split("-")[:2]
        ours = folder.is_dir() and not folder.is_symlink() and folder.stat().st_uid == os.geteuid()
        if ours and str(processes.started(int(pid))) != tick:
            Cluster(folder).down()
