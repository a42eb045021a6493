"""What a cluster has and allows, asked of it, and what of a profile it could never run."""

from __future__ import annotations

import logging
import os
import pwd
import re
from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import NamedTuple

from assay.errors import AssayError, did_you_mean
from assay.launch.slurm.commands import SlurmError, run
from assay.launch.slurm.notation import hosts, seconds

log = logging.getLogger(__name__)

SECONDS = 60.0
"""For one command."""
ATTEMPTS = 3
LIMITS_SECONDS = 5.0
"""For accounting, whose limits are good to know and no more: a slurmdbd that hangs would hold a submission up for a minute."""


@dataclass(frozen=True, kw_only=True)
class Shape:
    """Nodes of a partition that are alike."""

    nodes: tuple[str, ...]
    state: str
    """In sinfo's words: `idle`, `mixed`, `down*`, ..."""
    cpus: int
    memory_mb: int
    gpus: int
    features: frozenset[str] = frozenset()

    @property
    def up(self) -> bool:
        """Whether they run jobs, now or once they are free."""
        return "*" not in self.state and re.sub(r"[^a-z_]", "", self.state.lower()) not in _OUT_OF_SERVICE


_OUT_OF_SERVICE = {"down", "drained", "draining", "error", "fail", "failing", "inval", "maint", "unknown"}


@dataclass(frozen=True, kw_only=True)
class Partition:
    """A partition and its nodes."""

    name: str
    default: bool = False
    state: str = "UP"
    max_minutes: float | None = None
    """``None`` for no limit."""
    default_minutes: float | None = None
    max_nodes: int | None = None
    """Of one job; ``None`` for no limit."""
    preempt_mode: str = "OFF"
    """What becomes of jobs that have to make room."""
    grace_seconds: int = 0
    """What they have to do it in."""
    shapes: tuple[Shape, ...] = ()

    @property
    def nodes(self) -> int:
        """How many it has."""
        return sum(len(shape.nodes) for shape in self.shapes)


@dataclass(frozen=True, kw_only=True)
class Association:
    """What accounting lets the user do on one account."""

    account: str
    qos: tuple[str, ...]
    max_submit: int | None
    """Jobs, waiting or running, each task of an array counted; ``None`` for no limit."""


@dataclass(frozen=True, kw_only=True)
class Site:
    """A cluster as its controller describes it."""

    name: str
    version: str
    array_limit: int
    """Most tasks of one array."""
    max_jobs: int
    """Of all users together."""
    accounting: bool
    """Whether slurmdbd keeps accounts, by which a job's end is known for good."""
    kill_wait_seconds: int
    """Between SIGTERM and SIGKILL at a time limit."""
    partitions: Mapping[str, Partition]
    associations: tuple[Association, ...] | None = None
    """``None`` where anybody may use any account, or they could not be asked for."""
    limits_enforced: bool = False
    qos_max_submit: Mapping[str, int] = field(default_factory=dict)
    """Jobs that a user may have, waiting or running, by quality of service."""

    @property
    def features(self) -> frozenset[str]:
        """Of all its nodes."""
        return frozenset(name for part in self.partitions.values() for shape in part.shapes for name in shape.features)

    def max_submit(self, *, account: str | None, qos: str | None) -> int | None:
        """Jobs that the user may have, waiting or running; ``None`` for no limit that is known.

        Without an account, the tightest of all: which one SLURM takes by itself is not asked.
        """
        if not self.limits_enforced:
            return None
        mine = [a for a in self.associations or () if account in {None, a.account}]
        limits = [a.max_submit for a in mine] + [self.qos_max_submit.get(qos or "normal")]
        return min((limit for limit in limits if limit is not None), default=None)


@dataclass(frozen=True, kw_only=True)
class Request:
    """What each job of a profile asks for."""

    partition: str | None = None
    """One or several with commas between; left out, the cluster's default."""
    nodes: int = 1
    gpus_per_node: int = 0
    cpus_per_node: int = 1
    memory_mb_per_node: int | None = None
    minutes: float
    constraint: str | None = None
    exclude: tuple[str, ...] = ()
    """Lists of nodes, as SLURM writes them."""
    account: str | None = None
    qos: str | None = None
    grace_seconds: float = 0.0


def ask_site() -> Site:
    """Ask what the cluster has and allows: three calls, whose answers don't grow with the number of like nodes.

    Raises:
        AssayError: there is no SLURM here.
        Unreachable: its controller does not answer.
    """
    config = _config()
    shapes = _shapes(_ask("sinfo", "--noheader", "--all", "--exact", "--noconvert", f"--format={_SINFO}"))
    preempts = config.get("PreemptType", "preempt/none") != "preempt/none"
    rows = [
        dict(_FIELD.findall(line)) for line in _ask("scontrol", "--all", "--oneliner", "show", "partition").split("\n")
    ]
    enforced = set(config.get("AccountingStorageEnforce", "none").split(","))
    associations, qos_max_submit = _limits() if "associations" in enforced else (None, {})
    return Site(
        name=config.get("ClusterName", ""),
        version=config.get("SLURM_VERSION", ""),
        array_limit=_array_limit(config),
        max_jobs=int(config["MaxJobCount"]),
        accounting=config.get("AccountingStorageType", "").endswith("slurmdbd"),
        kill_wait_seconds=seconds(config.get("KillWait", "")) or 0,
        partitions={
            row["PartitionName"]: _partition(row, shapes.get(row["PartitionName"], []), preempts=preempts)
            for row in rows
            if "PartitionName" in row
        },
        associations=associations,
        limits_enforced="limits" in enforced,
        qos_max_submit=qos_max_submit,
    )


def array_limit() -> int:
    """Most tasks that the cluster takes in one array; at least 1.

    Raises:
        AssayError: there is no SLURM here.
        Unreachable: its controller does not answer.
    """
    return _array_limit(_config())


_FIELD = re.compile(r"(\w+)=(\S*)")
_BETWEEN = "\x1f"
_SINFO = _BETWEEN.join(("%R", "%T", "%c", "%m", "%G", "%f", "%N"))


def _ask(*command: str) -> str:
    return run(command, timeout=SECONDS, attempts=ATTEMPTS)


def _config() -> dict[str, str]:
    lines = _ask("scontrol", "show", "config").split("\n")
    return {name.strip(): value.strip() for name, equals, value in (line.partition("=") for line in lines) if equals}


def _array_limit(config: Mapping[str, str]) -> int:
    # MaxArraySize is one more than the highest index, and ours begin at 0.
    limits = [int(config["MaxArraySize"]), int(config["MaxJobCount"])]
    limits += [int(tasks) for tasks in re.findall(r"max_array_tasks=(\d+)", config.get("SchedulerParameters", ""))]
    return max(1, min(limits))


def _partition(row: Mapping[str, str], shapes: Iterable[Shape], *, preempts: bool) -> Partition:
    longest, default = seconds(row.get("MaxTime", "")), seconds(row.get("DefaultTime", ""))
    nodes = row.get("MaxNodes", "")
    return Partition(
        name=row["PartitionName"],
        default=row.get("Default") == "YES",
        state=row.get("State", "UP"),
        max_minutes=None if longest is None else longest / 60,
        default_minutes=None if default is None else default / 60,
        max_nodes=int(nodes) if nodes.isdigit() else None,
        preempt_mode=row.get("PreemptMode", "OFF") if preempts else "OFF",
        grace_seconds=int(row.get("GraceTime", "0")),
        shapes=tuple(shapes),
    )


def _shapes(printed: str) -> dict[str, list[Shape]]:
    """Nodes by partition; sinfo prints those that are alike as one line."""
    found: dict[str, list[Shape]] = {}
    for line in filter(None, printed.split("\n")):
        try:
            partition, state, cpus, memory, gres, features, nodes = line.split(_BETWEEN)
            shape = Shape(
                nodes=tuple(hosts(nodes)),
                state=state,
                cpus=int(cpus),
                memory_mb=int(memory),
                gpus=_gpus(gres),
                features=frozenset(features.split(",")) - {"(null)"},
            )
        except ValueError:
            log.warning("sinfo: a line that makes no sense: %r", line)
            continue
        found.setdefault(partition, []).append(shape)
    return found


def _gpus(gres: str) -> int:
    """GPUs of `gpu:a100:4(S:0-1),shard:8`, of any type."""
    items = [item.split(":") for item in re.sub(r"\([^)]*\)", "", gres).split(",")]
    return sum(int(words[-1]) if words[-1].isdigit() else 1 for words in items if words[0] == "gpu")


def _limits() -> tuple[tuple[Association, ...] | None, dict[str, int]]:
    """The user's limits in accounting, if it answers soon."""
    show = ("sacctmgr", "--noheader", "--parsable2", "show")
    try:
        mine = ("association", f"user={pwd.getpwuid(os.getuid()).pw_name}", "format=Account,QOS,MaxSubmit,GrpSubmit")
        associations = run([*show, *mine], timeout=LIMITS_SECONDS)
        qos = run([*show, "qos", "format=Name,MaxSubmitPU"], timeout=LIMITS_SECONDS)
    except SlurmError as error:
        log.info("limits of submission are not known: %s", error.what)
        return None, {}
    rows = [row for line in associations.split("\n") if len(row := line.split("|")) == 4]
    found = tuple(
        Association(
            account=account,
            qos=tuple(filter(None, names.split(","))),
            max_submit=min((int(limit) for limit in limits if limit.isdigit()), default=None),
        )
        for account, names, *limits in rows
    )
    pairs = (line.partition("|") for line in qos.split("\n"))
    return found, {name: int(limit) for name, _, limit in pairs if limit.isdigit()}


# --- whether a profile fits


def check(request: Request, site: Site) -> list[str]:
    """Refuse what the cluster could never run.

    Returns:
        What people should know, though it stops nothing.

    Raises:
        AssayError: everything that cannot be, in one.
    """
    wrong = problems(request, site)
    if wrong:
        listed = "".join(f"\n  - {problem}" for problem in wrong)
        raise AssayError(
            f"cluster {site.name!r} can never run such jobs:{listed}",
            fix="Change the profile in conf/cluster/, or single values as cluster.slurm.NAME=VALUE.",
        )
    return warnings(request, site)


def problems(request: Request, site: Site) -> list[str]:
    """What of a request the cluster could never fulfil."""
    return [*_partition_problems(request, site), *_unknown_names(request, site), *_account_problems(request, site)]


def warnings(request: Request, site: Site) -> list[str]:
    """What is to be known about how the cluster treats such jobs."""
    found = []
    if not site.accounting:
        found.append(
            f"cluster {site.name!r} keeps no accounts (AccountingStorageType): what ended a job that left no record of "
            "its own cannot be told after some minutes; its runs are tried again, as often as "
            "cluster.slurm.retries.vanished says."
        )
    for partition in _partitions(request, site):
        fitting = [shape for shape in partition.shapes if _Wants.of(request).fit(shape)]
        if fitting and not any(shape.up for shape in fitting):
            states = ", ".join(sorted({shape.state for shape in fitting}))
            found.append(f"partition {partition.name!r}: no node that fits is up now ({states}); jobs wait for one.")
        if partition.preempt_mode != "OFF" and partition.grace_seconds < request.grace_seconds:
            found.append(
                f"partition {partition.name!r} gives a job that has to make room {partition.grace_seconds} s, and the "
                f"profile counts on {request.grace_seconds:g} s: set cluster.slurm.grace_seconds to what a checkpoint "
                "fits in, or checkpoint more often."
            )
    return found


def waits_for_nodes(request: Request, site: Site) -> bool:
    """Whether too few of the nodes that fit are up now for a job to begin, whatever else runs there.

    sbatch takes such a job, and it waits; `sbatch --test-only` says of it that no such nodes exist.
    """
    return all(_up(request, partition) < request.nodes for partition in _partitions(request, site))


def _up(request: Request, partition: Partition) -> int:
    """Nodes of a partition that fit, are not excluded and are up."""
    wants, excluded = _Wants.of(request), set(hosts(",".join(request.exclude)))
    fitting = [shape for shape in partition.shapes if shape.up and wants.fit(shape)]
    return sum(node not in excluded for shape in fitting for node in shape.nodes)


def _partitions(request: Request, site: Site) -> list[Partition]:
    """Those that a request names and that exist; where it names none, the default."""
    if request.partition is None:
        return [partition for partition in site.partitions.values() if partition.default]
    return [site.partitions[name] for name in request.partition.split(",") if name in site.partitions]


def _partition_problems(request: Request, site: Site) -> list[str]:
    named = [] if request.partition is None else request.partition.split(",")
    unknown = [
        f"partition {name!r} does not exist. {did_you_mean(name, site.partitions)}"
        for name in named
        if name not in site.partitions
    ]
    partitions = _partitions(request, site)
    if unknown:
        return unknown
    if not partitions:
        return [f"no partition is given, and there is no default. {did_you_mean('', site.partitions)}"]
    each = [list(_misfits(request, partition, site.features)) for partition in partitions]
    # Of several, SLURM takes the one that can run it first; one will do.
    return [] if any(not misfits for misfits in each) else [misfit for misfits in each for misfit in misfits]


def _misfits(request: Request, partition: Partition, features: AbstractSet[str]) -> Iterator[str]:
    name, shapes, wants = f"partition {partition.name!r}", partition.shapes, _Wants.of(request)
    if partition.state != "UP":
        yield f"{name} is {partition.state} and runs no new jobs."
    if partition.max_minutes is not None and request.minutes > partition.max_minutes:
        yield f"{name} allows {partition.max_minutes:g} min, {request.minutes:g} are asked for."
    most = min(partition.nodes, partition.max_nodes or partition.nodes)
    if request.nodes > most:
        yield f"{name} allows {most} nodes a job, {request.nodes} are asked for."
    too_much = [
        f"{name} has nodes with up to {largest} {what}, {asked} are asked for."
        for what, asked, largest in (
            ("GPUs", wants.gpus, max((shape.gpus for shape in shapes), default=0)),
            ("CPUs", wants.cpus, max((shape.cpus for shape in shapes), default=0)),
            ("MB of memory", wants.memory_mb, max((shape.memory_mb for shape in shapes), default=0)),
        )
        if asked > largest
    ]
    yield from too_much
    excluded = set(hosts(",".join(request.exclude)))
    left = [node for shape in shapes if wants.fit(shape) for node in shape.nodes if node not in excluded]
    if not too_much and wants.features <= features and len(left) < request.nodes <= most:
        without = " that are not excluded" if excluded else ""
        yield f"{name} has {len(left)} nodes with {wants}{without}, {request.nodes} are asked for."


class _Wants(NamedTuple):
    """What a job asks of each node."""

    gpus: int
    cpus: int
    memory_mb: int
    features: frozenset[str]
    all_features: bool
    """Or one of them; how they go together in "[a|b]&c*2" is for sbatch to say."""

    @classmethod
    def of(cls, request: Request) -> _Wants:
        """What a request asks for."""
        constraint = request.constraint or ""
        words = re.findall(r"[\w.:=-]+", re.sub(r"\*\d+", "", constraint))
        memory = request.memory_mb_per_node or 0
        return cls(request.gpus_per_node, request.cpus_per_node, memory, frozenset(words), "|" not in constraint)

    def fit(self, shape: Shape) -> bool:
        """Whether nodes have it."""
        enough = shape.gpus >= self.gpus and shape.cpus >= self.cpus and shape.memory_mb >= self.memory_mb
        there = self.features & shape.features
        return enough and (there == self.features if self.all_features else bool(there))

    def __str__(self) -> str:
        features = ("" if self.all_features else "one of ") + ", ".join(sorted(self.features))
        words = (f"{self.gpus} GPUs", f"{self.cpus} CPUs", f"{self.memory_mb} MB", features)
        wanted = (self.gpus, self.cpus, self.memory_mb, self.features)
        return " and ".join(word for word, want in zip(words, wanted, strict=True) if want)


def _unknown_names(request: Request, site: Site) -> list[str]:
    """Nodes and features that no partition has: sbatch refuses both."""
    shapes = [shape for partition in site.partitions.values() for shape in partition.shapes]
    nodes = {node for shape in shapes for node in shape.nodes}
    return [
        f"node {node!r}, which is excluded, does not exist. {did_you_mean(node, nodes)}"
        for node in hosts(",".join(request.exclude))
        if node not in nodes
    ] + [
        f"constraint {request.constraint!r}: no node has {word!r}. {did_you_mean(word, site.features)}"
        for word in sorted(_Wants.of(request).features - site.features)
    ]


def _account_problems(request: Request, site: Site) -> Iterator[str]:
    if site.associations is None:
        return
    accounts = {association.account for association in site.associations}
    if not accounts:
        yield "accounting knows of no account that you may use: ask the cluster's administrators for one."
    elif request.account is not None and request.account not in accounts:
        yield f"account {request.account!r} is not one that you may use. {did_you_mean(request.account, accounts)}"
    elif request.qos is not None:
        mine = [a for a in site.associations if request.account in {None, a.account}]
        offered = {name for association in mine for name in association.qos}
        if request.qos not in offered:
            yield f"qos {request.qos!r} is not one that you may use. {did_you_mean(request.qos, offered)}"
