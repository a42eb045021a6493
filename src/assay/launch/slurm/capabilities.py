"""Read the capabilities of a cluster, and check a profile against them.

Capabilities are partitions, nodes, limits and accounts.
"""

from __future__ import annotations

import logging
import os
import pwd
import re
from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import NamedTuple

from assay.core.errors import SchedulerError, did_you_mean
from assay.launch.slurm.commands import run
from assay.launch.slurm.notation import expand_hosts, parse_duration

log = logging.getLogger(__name__)

COMMAND_SECONDS = 60.0
"""Timeout of one command in seconds."""
ATTEMPTS = 3
ACCOUNTS_SECONDS = 5.0
"""Timeout of accounting in seconds. A frozen slurmdbd takes a minute, and sbatch checks accounts anyway."""


@dataclass(frozen=True, kw_only=True)
class NodeGroup:
    """Identical nodes of a partition."""

    nodes: tuple[str, ...]
    state: str
    """State of the nodes as sinfo prints it: `idle`, `mixed`, `down*`, ..."""
    cpus: int
    memory_mb: int
    gpus: int
    features: frozenset[str] = frozenset()

    @property
    def up(self) -> bool:
        """Whether the nodes run jobs, now or after their current jobs end."""
        return "*" not in self.state and re.sub(r"[^a-z_]", "", self.state.lower()) not in _OUT_OF_SERVICE


_OUT_OF_SERVICE = {"down", "drained", "draining", "error", "fail", "failing", "inval", "maint", "unknown"}


@dataclass(frozen=True, kw_only=True)
class Partition:
    """A partition and its nodes."""

    name: str
    default: bool = False
    state: str = "UP"
    max_minutes: float | None = None
    """Maximum time limit of a job in minutes; None for no limit."""
    max_nodes: int | None = None
    """Maximum number of nodes of one job; None for no limit."""
    preempt_mode: str = "OFF"
    """SLURM's action on preempted jobs: `OFF`, `REQUEUE`, `CANCEL`, ..."""
    grace_seconds: int = 0
    """Seconds between a preemption's SIGTERM and the kill."""
    groups: tuple[NodeGroup, ...] = ()

    @property
    def nodes(self) -> int:
        """Number of nodes."""
        return sum(len(group.nodes) for group in self.groups)


@dataclass(frozen=True, kw_only=True)
class ClusterCapabilities:
    """Capabilities of a cluster, as its controller reports them."""

    name: str
    version: str
    array_limit: int
    """Maximum number of tasks of one array."""
    accounting: bool
    """Whether slurmdbd keeps accounting, which permanently records the end of every job."""
    partitions: Mapping[str, Partition]
    accounts: Mapping[str, frozenset[str]] | None = None
    """QOS names that the user may use, by account; None if accounts are not enforced or unknown."""

    @property
    def features(self) -> frozenset[str]:
        """The features of all nodes."""
        return frozenset(name for part in self.partitions.values() for group in part.groups for name in group.features)


@dataclass(frozen=True, kw_only=True)
class ResourceRequest:
    """Resources that a profile requests for each job."""

    partition: str | None = None
    """One or several partition names, separated by commas (default: the cluster's default partition)."""
    nodes: int = 1
    gpus_per_node: int = 0
    cpus_per_node: int = 1
    memory_mb_per_node: int | None = None
    minutes: float
    constraint: str | None = None
    exclude: tuple[str, ...] = ()
    """Excluded node lists in SLURM's notation."""
    account: str | None = None
    qos: str | None = None
    grace_seconds: float = 0.0


def read_capabilities() -> ClusterCapabilities:
    """Read the capabilities of the cluster in three calls.

    The output of the calls does not grow with the number of identical nodes.

    Raises:
        AssayError: this machine has no SLURM.
        Unreachable: the controller does not answer.
    """
    config = _config()
    groups = _node_groups(_run("sinfo", "--noheader", "--all", "--exact", "--noconvert", f"--format={_SINFO}"))
    preempts = config.get("PreemptType", "preempt/none") != "preempt/none"
    rows = [
        dict(_FIELD.findall(line)) for line in _run("scontrol", "--all", "--oneliner", "show", "partition").split("\n")
    ]
    enforced = set(config.get("AccountingStorageEnforce", "none").split(","))
    return ClusterCapabilities(
        name=config.get("ClusterName", ""),
        version=config.get("SLURM_VERSION", ""),
        array_limit=_array_limit(config),
        accounting=config.get("AccountingStorageType", "").endswith("slurmdbd"),
        partitions={
            row["PartitionName"]: _partition(row, groups.get(row["PartitionName"], []), preempts=preempts)
            for row in rows
            if "PartitionName" in row
        },
        accounts=_accounts() if "associations" in enforced else None,
    )


def array_limit() -> int:
    """Read the maximum number of tasks of one array, at least 1.

    Raises:
        AssayError: this machine has no SLURM.
        Unreachable: the controller does not answer.
    """
    return _array_limit(_config())


_FIELD = re.compile(r"(\w+)=(\S*)")
_SEPARATOR = "\x1f"
_SINFO = _SEPARATOR.join(("%R", "%T", "%c", "%m", "%G", "%f", "%N"))


def _run(*command: str) -> str:
    return run(command, timeout=COMMAND_SECONDS, attempts=ATTEMPTS)


def _config() -> dict[str, str]:
    lines = _run("scontrol", "show", "config").split("\n")
    return {name.strip(): value.strip() for name, equals, value in (line.partition("=") for line in lines) if equals}


def _array_limit(config: Mapping[str, str]) -> int:
    # MaxArraySize is the highest index plus one. The indices of assay start at 0.
    limits = [int(config["MaxArraySize"]), int(config["MaxJobCount"])]
    limits += [int(tasks) for tasks in re.findall(r"max_array_tasks=(\d+)", config.get("SchedulerParameters", ""))]
    return max(1, min(limits))


def _partition(row: Mapping[str, str], groups: Iterable[NodeGroup], *, preempts: bool) -> Partition:
    longest, nodes = parse_duration(row.get("MaxTime", "")), row.get("MaxNodes", "")
    return Partition(
        name=row["PartitionName"],
        default=row.get("Default") == "YES",
        state=row.get("State", "UP"),
        max_minutes=None if longest is None else longest / 60,
        max_nodes=int(nodes) if nodes.isdigit() else None,
        preempt_mode=row.get("PreemptMode", "OFF") if preempts else "OFF",
        grace_seconds=int(row.get("GraceTime", "0")),
        groups=tuple(groups),
    )


def _node_groups(printed: str) -> dict[str, list[NodeGroup]]:
    """Parse sinfo's output into node groups by partition. Each line describes identical nodes."""
    groups: dict[str, list[NodeGroup]] = {}
    for line in filter(None, printed.split("\n")):
        try:
            partition, state, cpus, memory, gres, features, nodes = line.split(_SEPARATOR)
            group = NodeGroup(
                nodes=tuple(expand_hosts(nodes)),
                state=state,
                cpus=int(cpus),
                memory_mb=int(memory),
                gpus=_gpus(gres),
                features=frozenset(features.split(",")) - {"(null)"},
            )
        except ValueError:
            log.warning("sinfo: malformed line: %r", line)
            continue
        groups.setdefault(partition, []).append(group)
    return groups


def _gpus(gres: str) -> int:
    """Count the GPUs of all types in `gpu:a100:4(S:0-1),shard:8`."""
    items = [item.split(":") for item in re.sub(r"\([^)]*\)", "", gres).split(",")]
    return sum(int(parts[-1]) if parts[-1].isdigit() else 1 for parts in items if parts[0] == "gpu")


def _accounts() -> dict[str, frozenset[str]] | None:
    """Read the user's accounts with their QOS names; return None if accounting does not answer."""
    which = ("association", f"user={pwd.getpwuid(os.getuid()).pw_name}", "format=Account,QOS")
    try:
        printed = run(["sacctmgr", "--noheader", "--parsable2", "show", *which], timeout=ACCOUNTS_SECONDS)
    except SchedulerError as error:
        log.info("cannot read the accounts: %s", error.what)
        return None
    accounts: dict[str, frozenset[str]] = {}
    for account, _, names in (line.partition("|") for line in printed.split("\n") if "|" in line):
        accounts[account] = accounts.get(account, frozenset()) | frozenset(filter(None, names.split(",")))
    return accounts


# --- check of a profile


def check_request(request: ResourceRequest, cluster: ClusterCapabilities) -> list[str]:
    """Raise an error for a request that the cluster can never run.

    Returns:
        Warnings, which do not prevent a submission.

    Raises:
        AssayError: the request exceeds the cluster; the message lists all problems.
    """
    problems = find_problems(request, cluster)
    if problems:
        listed = "".join(f"\n  - {problem}" for problem in problems)
        raise SchedulerError(
            f"cluster {cluster.name!r} can never run jobs with the resources that the profile requests:{listed}",
            fix="Change the profile in conf/cluster/, or override single values with cluster.slurm.NAME=VALUE.",
        )
    return find_warnings(request, cluster)


def find_problems(request: ResourceRequest, cluster: ClusterCapabilities) -> list[str]:
    """List the parts of a request that the cluster can never satisfy."""
    return [
        *_partition_problems(request, cluster),
        *_unknown_names(request, cluster),
        *_account_problems(request, cluster),
    ]


def find_warnings(request: ResourceRequest, cluster: ClusterCapabilities) -> list[str]:
    """List properties of the cluster that limit recovery or delay the requested jobs."""
    warnings = []
    if not cluster.accounting:
        warnings.append(
            f"cluster {cluster.name!r} keeps no accounting (AccountingStorageType): after some minutes the cause of a job's "
            "end is unknown unless the job recorded it. The monitor job resubmits such runs up to "
            "cluster.slurm.retries.vanished times."
        )
    for partition in _partitions(request, cluster):
        fitting = [group for group in partition.groups if _NodeRequirements.of(request).fit(group)]
        if fitting and not any(group.up for group in fitting):
            states = ", ".join(sorted({group.state for group in fitting}))
            warnings.append(f"partition {partition.name!r}: no suitable node is up now ({states}); jobs wait for one.")
        if partition.preempt_mode != "OFF" and partition.grace_seconds < request.grace_seconds:
            warnings.append(
                f"partition {partition.name!r} gives preempted jobs {partition.grace_seconds} s, but the profile expects "
                f"{request.grace_seconds:g} s. Set cluster.slurm.grace_seconds to the time that a checkpoint takes, or "
                "write checkpoints more often."
            )
    return warnings


def waits_for_nodes(request: ResourceRequest, cluster: ClusterCapabilities) -> bool:
    """Return whether too few suitable nodes are up now for the job to start.

    Such a job cannot start even on an idle cluster. sbatch accepts the job, and the job waits. `sbatch --test-only`
    reports that no such nodes exist.
    """
    return all(_up(request, partition) < request.nodes for partition in _partitions(request, cluster))


def _up(request: ResourceRequest, partition: Partition) -> int:
    """Count the suitable nodes of a partition that are up and not excluded."""
    requirements, excluded = _NodeRequirements.of(request), set(expand_hosts(",".join(request.exclude)))
    fitting = [group for group in partition.groups if group.up and requirements.fit(group)]
    return sum(node not in excluded for group in fitting for node in group.nodes)


def _partitions(request: ResourceRequest, cluster: ClusterCapabilities) -> list[Partition]:
    """Select the existing partitions that a request names (default: the default partition)."""
    if request.partition is None:
        return [partition for partition in cluster.partitions.values() if partition.default]
    return [cluster.partitions[name] for name in request.partition.split(",") if name in cluster.partitions]


def _partition_problems(request: ResourceRequest, cluster: ClusterCapabilities) -> list[str]:
    named = [] if request.partition is None else request.partition.split(",")
    unknown = [
        f"partition {name!r} does not exist. {did_you_mean(name, cluster.partitions)}"
        for name in named
        if name not in cluster.partitions
    ]
    partitions = _partitions(request, cluster)
    if unknown:
        return unknown
    if not partitions:
        return [f"no partition is set, and the cluster has no default. {did_you_mean('', cluster.partitions)}"]
    each = [list(_misfits(request, partition, cluster.features)) for partition in partitions]
    # SLURM selects the first of several partitions that can run the job, so one suitable partition is enough.
    return [] if any(not misfits for misfits in each) else [misfit for misfits in each for misfit in misfits]


def _misfits(request: ResourceRequest, partition: Partition, features: AbstractSet[str]) -> Iterator[str]:
    name, groups, requirements = f"partition {partition.name!r}", partition.groups, _NodeRequirements.of(request)
    if partition.state != "UP":
        yield f"{name} is {partition.state} and runs no new jobs."
    if partition.max_minutes is not None and request.minutes > partition.max_minutes:
        yield f"{name} allows {partition.max_minutes:g} min per job; {request.minutes:g} are requested."
    most = min(partition.nodes, partition.max_nodes or partition.nodes)
    if request.nodes > most:
        yield f"{name} allows {most} nodes per job; {request.nodes} are requested."
    too_much = [
        f"{name} has nodes with up to {largest} {what}; {requested} are requested."
        for what, requested, largest in (
            ("GPUs", requirements.gpus, max((group.gpus for group in groups), default=0)),
            ("CPUs", requirements.cpus, max((group.cpus for group in groups), default=0)),
            ("MB of memory", requirements.memory_mb, max((group.memory_mb for group in groups), default=0)),
        )
        if requested > largest
    ]
    yield from too_much
    excluded = set(expand_hosts(",".join(request.exclude)))
    left = [node for group in groups if requirements.fit(group) for node in group.nodes if node not in excluded]
    if not too_much and requirements.features <= features and len(left) < request.nodes <= most:
        without = " that are not excluded" if excluded else ""
        yield f"{name} has {len(left)} nodes with {requirements}{without}; {request.nodes} are requested."


class _NodeRequirements(NamedTuple):
    """Requirements of a job on each node."""

    gpus: int
    cpus: int
    memory_mb: int
    features: frozenset[str]
    all_features: bool
    """Whether a node needs all features or only one. sbatch evaluates expressions such as "[a|b]&c*2"."""

    @classmethod
    def of(cls, request: ResourceRequest) -> _NodeRequirements:
        """Extract the node requirements of a request."""
        constraint = request.constraint or ""
        features = re.findall(r"[\w.:=-]+", re.sub(r"\*\d+", "", constraint))
        memory = request.memory_mb_per_node or 0
        return cls(request.gpus_per_node, request.cpus_per_node, memory, frozenset(features), "|" not in constraint)

    def fit(self, group: NodeGroup) -> bool:
        """Return whether nodes meet the requirements."""
        enough = group.gpus >= self.gpus and group.cpus >= self.cpus and group.memory_mb >= self.memory_mb
        common = self.features & group.features
        return enough and (common == self.features if self.all_features else bool(common))

    def __str__(self) -> str:
        features = ("" if self.all_features else "one of ") + ", ".join(sorted(self.features))
        texts = (f"{self.gpus} GPUs", f"{self.cpus} CPUs", f"{self.memory_mb} MB", features)
        values = (self.gpus, self.cpus, self.memory_mb, self.features)
        return " and ".join(text for text, value in zip(texts, values, strict=True) if value)


def _unknown_names(request: ResourceRequest, cluster: ClusterCapabilities) -> list[str]:
    """List excluded nodes and features that no partition has. sbatch rejects both."""
    groups = [group for partition in cluster.partitions.values() for group in partition.groups]
    nodes = {node for group in groups for node in group.nodes}
    return [
        f"excluded node {node!r} does not exist. {did_you_mean(node, nodes)}"
        for node in expand_hosts(",".join(request.exclude))
        if node not in nodes
    ] + [
        f"constraint {request.constraint!r}: no node has feature {feature!r}. {did_you_mean(feature, cluster.features)}"
        for feature in sorted(_NodeRequirements.of(request).features - cluster.features)
    ]


def _account_problems(request: ResourceRequest, cluster: ClusterCapabilities) -> Iterator[str]:
    accounts = cluster.accounts
    if accounts is None:
        return
    if not accounts:
        yield "accounting has no account for your user. Ask the cluster's administrators for one."
    elif request.account is not None and request.account not in accounts:
        yield f"account {request.account!r} is not available to you. {did_you_mean(request.account, accounts)}"
    elif request.qos is not None:
        chosen = accounts if request.account is None else [request.account]
        offered = {name for account in chosen for name in accounts[account]}
        if request.qos not in offered:
            yield f"qos {request.qos!r} is not available to you. {did_you_mean(request.qos, offered)}"
