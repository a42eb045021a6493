"""A cluster of SLURM's own daemons on this machine, as root: brought up in seconds, hurt on purpose, and gone afterwards."""

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
"""Debian's names of what has to be installed."""

_PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"  # Debian has daemons there, and PATH need not
_PREFIX = "assay-slurm-"
_MARK = "is-a-cluster"
_IN_SERVICE = {"idle", "mix", "alloc", "comp"}
"""Exactly: what does not answer has a `*` behind."""


def missing() -> str:
    """Why no cluster can be brought up here, and what to do; empty where one can."""
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
    """The cluster in a folder. Everything that is known of it lies there, so any process may make one of these."""

    folder: Path

    @classmethod
    def up(cls, folder: Path, **shape: Any) -> Cluster:
        """Bring one up; what is up and well is left as it is, what is broken is taken down first.

        Args:
            folder: everything of the cluster's goes below; made if need be. At most 70 characters.
            **shape: fields of `configuration.Shape`, such as ``accounting=False``.

        Raises:
            ValueError: the folder's path is too long, or it holds what is not a cluster's.
            TimeoutError: a daemon does not come up; its log is in the message.
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
        """One in a folder of its own, which ends with the block, or with this process however that ends.

        A guard, a process of its own, holds the other end of a pipe and takes the cluster down when this end closes: the
        kernel closes it even where no finalizer runs. A cluster whose guard was killed too is taken down here, by the next.
        """
        _take_down_strays()
        prefix = f"{_PREFIX}{os.getpid()}-{processes.started(os.getpid())}-"
        folder = Path(tempfile.mkdtemp(prefix=prefix, dir="/tmp"))  # TMPDIR may be too long for sockets
        guards_end, our_end = os.pipe()
        guard = subprocess.Popen(
            [sys.executable, "-m", "tests.slurm", "guard", str(folder)],
            stdin=guards_end,
            cwd=Path(__file__).parents[2],
            start_new_session=True,  # Ctrl-C is not for it
        )
        os.close(guards_end)
        try:
            yield cls.up(folder, **shape)
        finally:
            os.close(our_end)
            guard.wait(timeout=60)

    def down(self) -> None:
        """Kill all that is the cluster's and remove its folder. Nothing is kept, so nothing has to end in peace.

        Raises:
            ValueError: the folder holds what is not a cluster's.
        """
        if self.folder.exists() and any(self.folder.iterdir()) and not (self.folder / _MARK).exists():
            raise ValueError(f"{self.folder} is not empty, and not a cluster's: nothing in it is touched")
        processes.kill(self._processes)
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def environment(self) -> dict[str, str]:
        """What leads SLURM's commands, and whatever calls them, to this cluster."""
        return {"SLURM_CONF": str(self.folder / "etc/slurm.conf"), "PATH": _PATH}

    @property
    def accounting(self) -> bool:
        """Whether it has slurmdbd."""
        return (self.folder / "etc/slurmdbd.conf").exists()

    @property
    def nodes(self) -> list[str]:
        """The nodes' names, in order."""
        return sorted(entry.name for entry in (self.folder / "spool").glob("n*"))

    @property
    def daemons(self) -> list[str]:
        """The names of all that `start` and `kill` take, in the order in which they need each other."""
        return ["munged", *(["mariadbd", "slurmdbd"] if self.accounting else []), "slurmctld", *self.nodes]

    @property
    def alive(self) -> set[str]:
        """The names of the daemons that run, be they frozen, and of the nodes whose slurmd does."""
        return {p.daemon for p in processes.daemons(self.folder) if p.program in (p.daemon, "slurmd")}

    def start(self, name: str) -> None:
        """Start a daemon, or a node's slurmd, if it does not run, and come back once it does its work.

        A node that the controller had given up comes back by registering (ReturnToService=2). While there is no controller,
        it is not waited for.
        """
        if name not in self.alive:
            told = len(self._log(name))
            self._spawn(name)
            self._until(lambda: self._ready(name, told), f"{name} to be up")

    def kill(self, name: str, *, noticed: bool = False) -> None:
        """End a daemon as a crash does; of a node, everything that runs on it, as when its power fails.

        Args:
            name: a node, slurmctld, slurmdbd, ...
            noticed: of a node: the controller is told at once, instead of finding out after some 15 s by itself.
        """
        processes.kill(lambda: [process for process in self._processes() if process.daemon == name])
        if noticed:
            self.command("scontrol", "update", f"NodeName={name}", "State=DOWN", "Reason=killed")

    def kill_slurmd_only(self, node: str) -> None:
        """End a node's slurmd as a crash does; its job steps and their tasks live on."""
        processes.kill(lambda: [p for p in self._processes() if (p.daemon, p.program) == (node, "slurmd")])

    def freeze(self, name: str) -> None:
        """Stop a daemon without ending it: it still takes connections, and never answers."""
        self._send(signal.SIGSTOP, name)

    def thaw(self, name: str) -> None:
        """Let a frozen daemon go on."""
        self._send(signal.SIGCONT, name)

    def command(self, *args: str, timeout: float = 60) -> str:
        """What one of SLURM's commands prints, without white space around it.

        Raises:
            subprocess.CalledProcessError: it fails; what it says of that is among the error's notes.
            subprocess.TimeoutExpired: it takes longer than this many seconds.
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
        """What the controller says of one job that is not an array, or of one task of an array: JobState, Restarts, ..."""
        text = self.command("scontrol", "show", "job", "--oneliner", identifier)
        return dict(field.split("=", 1) for field in text.split() if "=" in field)

    def preempt(self, node: str) -> str:
        """Submit a job on `main` that wants all of a node's CPUs, so that what preemptible jobs run there has to go.

        Returns:
            The job's id; it runs until it is cancelled.
        """
        wants = ("--partition=main", f"--nodelist={node}", "--exclusive", "--output=/dev/null")
        return self.command("sbatch", "--parsable", *wants, "--job-name=preempt", "--wrap=sleep 3600")

    def cancel(self, identifier: str) -> None:
        """Cancel a job."""
        self.command("scancel", identifier)

    def save(self) -> None:
        """Have the controller write what it knows to disk, and wait until it has: a crash loses up to 5 s of it else."""
        state, now = self.folder / "state/job_state", time.time()
        self.command("scontrol", "reconfigure")  # which saves everything
        self._until(lambda: state.exists() and state.stat().st_mtime > now, "the state to be saved")

    def reset(self) -> None:
        """Make the cluster as it was when it came up: every daemon there, no job, no task left over, every node idle."""
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
        """The queue, the nodes and the end of every log: what a failure has to be read with."""
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
        """Start a daemon as a child of nobody's: it outlives this process and leaves no corpse in it."""
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

    def _ready(self, name: str, told: int) -> bool:
        """Whether a daemon does its work; `told` is the length of its log before it was started."""
        if name == "munged":
            return self._succeeds("munge", "--no-input", f"--socket={self.folder}/run/munge.socket")
        if name == "mariadbd":
            return self._succeeds("mariadb", f"--defaults-file={self.folder}/etc/mariadb.cnf", "--execute=select 1")
        if name == "slurmdbd":
            return self._succeeds("sacctmgr", "show", "cluster")
        if name == "slurmctld":
            return self._succeeds("scontrol", "ping")
        if "slurmd started" not in self._log(name)[told:]:  # until it is missed, the controller takes it for alive
            return False
        state = self._node_states().get(name, "unk")
        return "slurmctld" not in self.alive or not (state.startswith(("down", "unk")) or state.endswith("*"))

    def _in_service(self) -> bool:
        """Whether every node takes jobs. Those that were taken out of service are put back."""
        states = self._node_states()
        for node in [node for node, state in states.items() if state.startswith(("down", "drain", "drng", "fail"))]:
            self._succeeds("scontrol", "update", f"NodeName={node}", "State=RESUME")
        return set(states) == set(self.nodes) and set(states.values()) <= _IN_SERVICE

    def _node_states(self) -> dict[str, str]:
        """Each node's state, in SLURM's short form; empty while the controller does not answer."""
        try:
            rows = self.command("sinfo", "--noheader", "--Node", "--partition=main", "--format=%N %t")
        except subprocess.CalledProcessError:
            return {}
        return dict(row.split() for row in rows.splitlines())

    def _emptied(self) -> bool:
        """Whether the queue is empty. What is in it is cancelled; steps and tasks, in it or not, get no time to end."""
        try:
            if not self.command("squeue", "--noheader", "--format=%i"):
                return True
        except subprocess.CalledProcessError:
            return False  # the controller does not answer yet
        self._succeeds("scancel", f"--user={os.geteuid()}")
        self._kill_jobs()
        return False

    def _kill_jobs(self) -> None:
        """Kill every step and task, whether or not the controller knows of it."""
        own = {*self.daemons, "slurmd"}
        processes.kill(lambda: [process for process in self._processes() if process.program not in own])

    def _send(self, number: int, *names: str) -> None:
        for process in processes.daemons(self.folder):
            if process.daemon in names:
                process.send(number)

    def _processes(self) -> list[processes.Process]:
        """All that are the cluster's: daemons and steps, which could tell of the tasks' end, come before the tasks."""
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
    """A program without its fsyncs, where eatmydata is there to take them out: nothing here has to survive the machine."""
    return ["eatmydata", program] if shutil.which("eatmydata") else [program]


def _take_down_strays() -> None:
    """Take down what `Cluster.temporary` made for processes that are no more, guards included."""
    for folder in Path("/tmp").glob(f"{_PREFIX}*-*-*"):
        pid, tick = folder.name.removeprefix(_PREFIX).split("-")[:2]
        ours = folder.is_dir() and not folder.is_symlink() and folder.stat().st_uid == os.geteuid()
        if ours and str(processes.started(int(pid))) != tick:
            Cluster(folder).down()
