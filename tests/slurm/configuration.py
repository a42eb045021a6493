"""What the daemons of a cluster read: everything under the cluster's own folder, every address on the loopback."""

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
"""Characters. Unix sockets lie below the folder, and the kernel takes 107 bytes for the whole path of one."""


@dataclass(frozen=True, kw_only=True)
class Shape:
    """What a cluster has. More than the machine, if wanted: SLURM believes its configuration, and GPUs are only counted."""

    accounting: bool = True
    """Whether slurmdbd, and a MariaDB for it, are there; `sacct` fails without."""
    nodes: int = 4
    cpus: int = 8
    """On each node."""
    gpus: int = 4
    """On each node."""
    memory: int = 64_000
    """MB on each node."""
    array: int = 4_001
    """MaxArraySize: one more than the highest index an array may have."""
    grace: int = 10
    """Seconds that a preempted job on `scavenge` has from SIGTERM to SIGKILL."""
    first_job: int | None = None
    """The first job's id; by default one that no earlier cluster of the last 16 hours gave, as results may lie in files
    that are named after it."""

    @property
    def node_names(self) -> list[str]:
        return [f"n{number}" for number in range(1, self.nodes + 1)]


def write(folder: Path, shape: Shape) -> None:
    """Write `etc/` of a cluster.

    Raises:
        ValueError: the folder's path leaves too little room for the sockets below it.
    """
    if len(str(folder)) > LONGEST_FOLDER:
        raise ValueError(f"{folder} has {len(str(folder))} characters, at most {LONGEST_FOLDER} leave room for sockets")
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
        private.touch(mode=0o600)  # slurmdbd refuses one that others can read
        private.write_text(_slurmdbd(folder, port))
        (etc / "mariadb.cnf").write_text(_mariadb(folder, port))
    (etc / "munge.key").touch(mode=0o400)
    (etc / "munge.key").write_bytes(os.urandom(128))


def renumber(folder: Path) -> None:
    """Have the next job numbered as no job before, once the controller has read its configuration again.

    A controller that crashed may have forgotten the last ids it gave, and gives them again: to a node, or to accounting,
    that knows them already.
    """
    conf = folder / "etc/slurm.conf"
    conf.write_text(re.sub(r"(?m)^FirstJobId=.*", f"FirstJobId={_unused_job()}", conf.read_text()))


def _unused_job() -> int:
    """Higher than any job's id so far, as long as fewer than 1,000 jobs a second are submitted; from anew every 16 hours."""
    return int(time.time()) % 60_000 * 1_000 + 1_000


def _null_device(path: Path) -> None:
    """A device for slurmd to count, of /dev/null's kind. A plain file counts too, and has slurmd complain of it."""
    try:
        os.mknod(path, 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    except PermissionError:  # in a container that may make none
        path.touch()


def _free_ports(count: int) -> int:
    """The first of this many ports that nobody listens on: below those that the kernel gives out, apart for each process."""
    base = 20_000 + os.getpid() % 380 * 32
    while not all(_is_free(base + offset) for offset in range(count)):
        base += 32
    return base


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # what only lingers from an ended cluster is free
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
