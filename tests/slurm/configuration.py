"""Configuration of a cluster's daemons: all files in the cluster's folder, all addresses on the loopback."""

from __future__ import annotations

import os
import re
import socket
import stat
import time
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent

LONGEST_FOLDER = 70
"""Maximum length in characters: the folder contains Unix sockets, whose paths may have at most 107 bytes."""


@dataclass(frozen=True, kw_only=True)
class Shape:
    """Size of a cluster. It may exceed the machine: SLURM trusts its configuration, and GPUs are only counted."""

    accounting: bool = True
    """Whether to start slurmdbd with a MariaDB; without it, `sacct` fails."""
    nodes: int = 4
    cpus: int = 8
    """CPUs per node."""
    gpus: int = 4
    """GPUs per node."""
    memory: int = 64_000
    """MB per node."""
    array: int = 4_001
    """MaxArraySize: one more than the highest array index."""
    grace: int = 10
    """Seconds from SIGTERM to SIGKILL for a preempted job on `scavenge`."""
    first_job: int | None = None
    """Id of the first job (default: an id that no cluster used in the last 16 hours, because result files may be named
    after job ids)."""

    @property
    def node_names(self) -> list[str]:
        return [f"n{number}" for number in range(1, self.nodes + 1)]


def write(folder: Path, shape: Shape) -> None:
    """Write `etc/` of a cluster.

    Raises:
        ValueError: the folder's path is too long for the sockets in it.
    """
    if len(str(folder)) > LONGEST_FOLDER:
        raise ValueError(f"{folder}: {len(str(folder))} characters is invalid; expected at most {LONGEST_FOLDER}")
    port = _free_ports(shape.nodes + 4)
    etc, devices = folder / "etc", folder / "dev"
    for directory in (etc, devices):
        directory.mkdir()
    (etc / "slurm.conf").write_text(
        _slurm(folder, shape, port) + (_accounting(folder, port) if shape.accounting else "")
    )
    if shape.gpus:
        for number in range(shape.gpus):
            _null_device(devices / f"gpu{number}")
        nodes, files = f"n[1-{shape.nodes}]", f"{devices}/gpu[0-{shape.gpus - 1}]"
        (etc / "gres.conf").write_text(f"NodeName={nodes} Name=gpu File={files}\n")
    if shape.accounting:
        private = etc / "slurmdbd.conf"
        private.touch(mode=0o600)  # slurmdbd rejects a file that others can read
        private.write_text(_slurmdbd(folder, port))
        (etc / "mariadb.cnf").write_text(_mariadb(folder, port))
    (etc / "munge.key").touch(mode=0o400)
    (etc / "munge.key").write_bytes(os.urandom(128))


def renumber(folder: Path) -> None:
    """Set the next job id to an unused one; it takes effect when the controller rereads its configuration.

    A crashed controller may have forgotten the latest ids and reuse them, although a node or accounting knows them.
    """
    conf = folder / "etc/slurm.conf"
    conf.write_text(re.sub(r"(?m)^FirstJobId=.*", f"FirstJobId={_unused_job()}", conf.read_text()))


def _unused_job() -> int:
    """Return an id above all earlier ones, for up to 1,000 jobs per second; ids repeat after 16 hours."""
    return int(time.time()) % 60_000 * 1_000 + 1_000


def _null_device(path: Path) -> None:
    """Create a device like /dev/null for slurmd to count; a plain file also counts, but causes a warning."""
    try:
        os.mknod(path, 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    except PermissionError:  # a container without the permission to create devices
        path.touch()


def _free_ports(count: int) -> int:
    """Find the first of a range of free ports, below the kernel's ephemeral ports and distinct for each process."""
    base = 20_000 + os.getpid() % 380 * 32
    while not all(_is_free(base + offset) for offset in range(count)):
        base += 32
    return base


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # ports in TIME_WAIT of an ended cluster are free
        try:
            probe.bind(("", port))
        except OSError:
            return False
    return True


def _slurm(folder: Path, shape: Shape, port: int) -> str:
    host = socket.gethostname().partition(".")[0]
    last = shape.nodes
    first_job = shape.first_job or _unused_job()
    gpus = f"Gres=gpu:{shape.gpus}" if shape.gpus else ""
    return dedent(f"""\
        ClusterName=assay
        SlurmctldHost={host}(127.0.0.1)
        SlurmctldPort={port}
        SlurmUser=root
        CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
        StateSaveLocation={folder}/state
        SlurmctldPidFile={folder}/run/slurmctld.pid
        SlurmctldLogFile={folder}/log/slurmctld.log
        SlurmdPidFile={folder}/run/%n.pid
        SlurmdSpoolDir={folder}/spool/%n
        SlurmdLogFile={folder}/log/%n.log
        ProctrackType=proctrack/linuxproc
        TaskPlugin=task/none
        MailProg=/bin/true
        # A credential's life is also how long a requeued job waits before it may start again; 120 s by default.
        AuthInfo=socket={folder}/run/munge.socket,cred_expire=5
        # A node that died is noticed once two pings in a row have failed; each tries for MessageTimeout + 1 s, 11 s at
        # most. So after some 15 s here; after 25 s with the default of 10, whatever SlurmdTimeout says.
        SlurmdTimeout=5
        MessageTimeout=5
        KillWait=2
        ReturnToService=2
        SelectType=select/cons_tres
        SelectTypeParameters=CR_Core_Memory
        DefMemPerCPU=100
        GresTypes=gpu
        SlurmdParameters=config_overrides
        SchedulerParameters=bf_interval=1,bf_continue,sched_interval=5,sched_min_interval=50000,batch_sched_delay=0,default_queue_depth=1000,partition_job_depth=0
        PriorityType=priority/basic
        PreemptType=preempt/partition_prio
        PreemptMode=REQUEUE
        SlurmctldParameters=preempt_send_user_signal
        FirstJobId={first_job}
        MaxArraySize={shape.array}
        MaxJobCount=20000
        NodeName=n[1-{last}] NodeHostname={host} NodeAddr=127.0.0.1 Port=[{port + 4}-{port + 3 + last}] CPUs={shape.cpus} Sockets=1 CoresPerSocket={shape.cpus} ThreadsPerCore=1 RealMemory={shape.memory} {gpus} State=UNKNOWN
        PartitionName=DEFAULT  Nodes=ALL MaxTime=INFINITE DefaultTime=60 State=UP
        PartitionName=main     Default=YES PriorityTier=10 PreemptMode=OFF
        PartitionName=scavenge PriorityTier=1 PreemptMode=REQUEUE GraceTime={shape.grace}
        PartitionName=kill     PriorityTier=1 PreemptMode=CANCEL GraceTime=0
        PartitionName=short    PriorityTier=10 PreemptMode=OFF MaxTime=1 DefaultTime=1
        """)


def _accounting(folder: Path, port: int) -> str:
    return dedent(f"""\
        AccountingStorageType=accounting_storage/slurmdbd
        AccountingStorageHost=127.0.0.1
        AccountingStoragePort={port + 1}
        AccountingStoragePass={folder}/run/munge.socket
        AccountingStorageTRES=gres/gpu
        AccountingStoreFlags=job_comment
        """)


def _slurmdbd(folder: Path, port: int) -> str:
    return dedent(f"""\
        AuthInfo=socket={folder}/run/munge.socket
        DbdHost={socket.gethostname().partition(".")[0]}
        DbdAddr=127.0.0.1
        DbdPort={port + 1}
        SlurmUser=root
        PidFile={folder}/run/slurmdbd.pid
        LogFile={folder}/log/slurmdbd.log
        StorageType=accounting_storage/mysql
        StorageHost=127.0.0.1
        StoragePort={port + 2}
        StorageUser=slurm
        StoragePass=slurm
        StorageLoc=slurm_acct_db
        CommitDelay=0
        """)


def _mariadb(folder: Path, port: int) -> str:
    return dedent(f"""\
        [client-server]
        socket={folder}/run/mariadbd.socket
        [client]
        user=root
        [mariadbd]
        user=root
        datadir={folder}/db
        pid-file={folder}/run/mariadbd.pid
        log-error={folder}/log/mariadbd.log
        bind-address=127.0.0.1
        port={port + 2}
        skip-name-resolve
        skip-log-bin
        performance-schema=OFF
        innodb-buffer-pool-size=64M
        innodb-log-file-size=8M
        innodb-flush-log-at-trx-commit=0
        innodb-doublewrite=0
        innodb-lock-wait-timeout=900
        """)
