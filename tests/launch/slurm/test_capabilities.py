from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from assay.core.errors import AssayError
from assay.launch.slurm.capabilities import (
    ClusterCapabilities,
    NodeGroup,
    ResourceRequest,
    array_limit,
    check_request,
    find_problems,
    find_warnings,
    read_capabilities,
)
from assay.launch.slurm.commands import Unreachable
from tests.launch.slurm.fakes import Commands, commands, recorded

__all__ = ["commands"]


def answer(commands: Commands, folder: str = "", *, config: str | None = None) -> None:
    """Answer like a recorded cluster: by default four identical nodes; `mixed/` has different nodes and no accounting."""
    described = recorded(f"{folder}config.txt") if config is None else config
    (commands.folder / "config").write_text(described, encoding="utf-8")
    (commands.folder / "partitions").write_text(recorded(f"{folder}partition.txt"), encoding="utf-8")
    cat = f"cat {commands.folder}"
    commands.script("scontrol", f'case "$*" in *partition*) {cat}/partitions;; *config*) {cat}/config;; esac')
    commands.prints("sinfo", recorded(f"{folder}sinfo.txt"))
    commands.fails("sacctmgr", "sacctmgr: error: Sending PersistInit msg: Connection refused")


@pytest.fixture
def site(commands: Commands) -> ClusterCapabilities:
    """Read a cluster of four identical nodes, with accounting."""
    answer(commands)
    return read_capabilities()


@pytest.fixture
def mixed(commands: Commands) -> ClusterCapabilities:
    """Read a cluster without accounting: n1 and n2 have 4 A100 each, n2 is drained, n3 has 2 V100, n4 has no GPU."""
    answer(commands, "mixed/")
    return read_capabilities()


def ask_for(**changes: Any) -> ResourceRequest:
    """Build a request that fits all these clusters, with changes."""
    return ResourceRequest(**{"minutes": 1, **changes})


# --- reading


def test_capabilities_contain_partitions_limits_and_nodes(site: ClusterCapabilities) -> None:
    assert (site.name, site.version, site.accounting) == ("assay", "22.05.8", True)
    assert list(site.partitions) == ["main", "scavenge", "kill", "short"]
    assert [name for name, partition in site.partitions.items() if partition.default] == ["main"]
    main, scavenge, short = (site.partitions[name] for name in ("main", "scavenge", "short"))
    assert (main.max_minutes, main.preempt_mode, main.nodes) == (None, "OFF", 4)
    assert (scavenge.preempt_mode, scavenge.grace_seconds) == ("REQUEUE", 10)
    assert short.max_minutes == 1.0
    shape = {"cpus": 8, "memory_mb": 64000, "gpus": 4}
    assert main.groups == (
        NodeGroup(nodes=("n4",), state="down*", **shape),
        NodeGroup(nodes=("n1", "n2", "n3"), state="idle", **shape),
    )


def test_different_nodes_form_groups_by_gpus_and_features(mixed: ClusterCapabilities) -> None:
    assert not mixed.accounting
    assert {(shape.nodes, shape.state, shape.gpus, shape.cpus) for shape in mixed.partitions["main"].groups} == {
        (("n1",), "idle", 4, 8),
        (("n2",), "drained", 4, 8),
        (("n3",), "idle", 2, 4),
        (("n4",), "idle", 0, 16),
    }
    assert mixed.features == {"a100", "ib", "v100"}
    hidden = mixed.partitions["mixed"]
    assert (hidden.max_minutes, hidden.max_nodes) == (90.0, 1)
    assert mixed.partitions["drained"].state == "DRAIN"
    assert mixed.partitions["drained"].max_minutes == 36 * 60


@pytest.mark.parametrize(
    ("gres", "gpus"),
    [
        ("gpu:8", 8),
        ("gpu:h100:8(S:0-1)", 8),
        ("gpu:a100:4(S:0,2),gpu:a100_3g.20gb:6(S:1,3),shard:40", 10),
        ("craynetwork:4,gpu:tesla", 1),
        ("craynetwork:4", 0),
        ("(null)", 0),
    ],
)
def test_gpus_of_all_types_are_counted(commands: Commands, gres: str, gpus: int) -> None:
    answer(commands)
    commands.prints("sinfo", recorded("sinfo.txt").replace("gpu:4", gres))
    assert {shape.gpus for shape in read_capabilities().partitions["main"].groups} == {gpus}


def test_the_array_limit_is_the_smallest_of_all_limits(commands: Commands) -> None:
    answer(commands)
    assert array_limit() == read_capabilities().array_limit == 4001  # sbatch accepted 0-4000 and rejected 0-4001
    answer(commands, "mixed/")
    assert array_limit() == read_capabilities().array_limit == 100  # max_array_tasks
    answer(commands, config=recorded("config.txt").replace("= 4001", "= 100000"))
    assert array_limit() == read_capabilities().array_limit == 20000  # MaxJobCount


def test_a_malformed_line_of_sinfo_is_skipped(commands: Commands, caplog: pytest.LogCaptureFixture) -> None:
    answer(commands)
    commands.prints("sinfo", "sinfo: something new\n" + recorded("sinfo.txt"))
    assert read_capabilities().partitions["main"].nodes == 4
    assert "sinfo: malformed line: 'sinfo: something new'" in caplog.text


def test_a_cluster_that_does_not_answer_is_an_error(commands: Commands, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("assay.launch.slurm.capabilities.ATTEMPTS", 1)
    commands.fails("scontrol", "slurm_load_ctl_conf error: Unable to contact slurm controller (connect failure)")
    with pytest.raises(Unreachable):
        read_capabilities()
    with pytest.raises(Unreachable):
        array_limit()


ENFORCED = recorded("config.txt").replace("Enforce = none", "Enforce = associations,limits,qos")


@pytest.fixture
def limited(commands: Commands) -> ClusterCapabilities:
    """Read a cluster that enforces accounts, with recorded output of sacctmgr."""
    answer(commands, config=ENFORCED)
    commands.prints("sacctmgr", "team|long,normal\nroot|normal\nteam|long\n")
    return read_capabilities()


def test_accounts_are_read_with_their_qos_names(limited: ClusterCapabilities, commands: Commands) -> None:
    assert limited.accounts == {"team": {"long", "normal"}, "root": {"normal"}}
    assert [call.split()[-1] for call in commands.calls("sacctmgr")] == ["format=Account,QOS"]


def test_without_an_answer_from_accounting_only_the_accounts_are_unknown(commands: Commands) -> None:
    answer(commands, config=ENFORCED)
    site = read_capabilities()
    assert site.accounts is None
    assert find_problems(ask_for(account="team"), site) == []


def test_accounts_are_not_read_if_they_are_not_enforced(commands: Commands, site: ClusterCapabilities) -> None:
    assert commands.calls("sacctmgr") == []
    assert site.accounts is None


# --- check of a request


def test_a_request_that_fits_has_no_problems_and_no_warnings(site: ClusterCapabilities) -> None:
    fits = ask_for(partition="main", nodes=4, gpus_per_node=4, cpus_per_node=8, memory_mb_per_node=64000)
    assert check_request(fits, site) == []
    assert check_request(ask_for(minutes=100_000), site) == []  # the default partition has no time limit


@pytest.mark.parametrize(
    ("request_", "problem"),
    [
        (
            ask_for(partition="mian"),
            "partition 'mian' does not exist. Did you mean 'main'? Known: kill, main, scavenge, short.",
        ),
        (ask_for(partition="short", minutes=10), "partition 'short' allows 1 min per job; 10 are requested."),
        (ask_for(gpus_per_node=8), "partition 'main' has nodes with up to 4 GPUs; 8 are requested."),
        (ask_for(cpus_per_node=9), "partition 'main' has nodes with up to 8 CPUs; 9 are requested."),
        (
            ask_for(memory_mb_per_node=64001),
            "partition 'main' has nodes with up to 64000 MB of memory; 64001 are requested.",
        ),
        (ask_for(nodes=5), "partition 'main' allows 4 nodes per job; 5 are requested."),
        (
            ask_for(nodes=3, exclude=("n[1-2]",)),
            "partition 'main' has 2 nodes with 1 CPUs that are not excluded; 3 are requested.",
        ),
        (
            ask_for(exclude=("n7",)),
            "excluded node 'n7' does not exist. Did you mean 'n4'? Known: n1, n2, n3, n4.",
        ),
        (ask_for(constraint="h100"), "constraint 'h100': no node has feature 'h100'. None is defined."),
    ],
)
def test_a_problem_names_the_value_and_the_bound(
    site: ClusterCapabilities, request_: ResourceRequest, problem: str
) -> None:
    assert find_problems(request_, site) == [problem]


@pytest.mark.parametrize(
    ("request_", "problem"),
    [
        (ask_for(partition="drained"), "partition 'drained' is DRAIN and runs no new jobs."),
        (ask_for(partition="mixed", nodes=2), "partition 'mixed' allows 1 nodes per job; 2 are requested."),
        (ask_for(partition="mixed", minutes=91), "partition 'mixed' allows 90 min per job; 91 are requested."),
        (
            ask_for(gpus_per_node=2, cpus_per_node=16),
            "partition 'main' has 0 nodes with 2 GPUs and 16 CPUs; 1 are requested.",
        ),
        (
            ask_for(nodes=3, constraint="a100&ib"),
            "partition 'main' has 2 nodes with 1 CPUs and a100, ib; 3 are requested.",
        ),
        (
            ask_for(partition="mixed", constraint="a100"),
            "partition 'mixed' has 0 nodes with 1 CPUs and a100; 1 are requested.",
        ),
        (
            ask_for(constraint="[a100|h100*2]"),
            "constraint '[a100|h100*2]': no node has feature 'h100'. Did you mean 'v100'? Known: a100, ib, v100.",
        ),
    ],
)
def test_a_combination_that_no_node_has_is_a_problem(
    mixed: ClusterCapabilities, request_: ResourceRequest, problem: str
) -> None:
    assert find_problems(request_, mixed) == [problem]


def test_one_of_several_alternative_features_is_enough(mixed: ClusterCapabilities) -> None:
    assert find_problems(ask_for(nodes=3, gpus_per_node=2, constraint="a100|v100"), mixed) == []
    assert find_problems(ask_for(nodes=1, constraint="[a100*2&ib]"), mixed) == []


def test_one_suitable_partition_of_several_is_enough(site: ClusterCapabilities) -> None:
    assert find_problems(ask_for(partition="short,main", minutes=10), site) == []
    assert len(find_problems(ask_for(partition="short,kill", nodes=9), site)) == 2


def test_without_a_default_partition_the_profile_must_name_one(site: ClusterCapabilities) -> None:
    none = replace(site, partitions={name: replace(p, default=False) for name, p in site.partitions.items()})
    (problem,) = find_problems(ask_for(), none)
    assert problem == "no partition is set, and the cluster has no default. Known: kill, main, scavenge, short."


def test_accounts_and_qos_that_the_user_does_not_have_are_problems_if_enforced(
    limited: ClusterCapabilities,
) -> None:
    assert find_problems(ask_for(account="team", qos="long"), limited) == []
    assert find_problems(ask_for(account="tean"), limited) == [
        "account 'tean' is not available to you. Did you mean 'team'? Known: root, team."
    ]
    assert find_problems(ask_for(account="root", qos="long"), limited) == [
        "qos 'long' is not available to you. Known: normal."
    ]
    (problem,) = find_problems(ask_for(), replace(limited, accounts={}))
    assert "accounting has no account for your user" in problem


def test_the_error_lists_all_problems(site: ClusterCapabilities) -> None:
    with pytest.raises(AssayError) as caught:
        check_request(ask_for(partition="short", minutes=10, gpus_per_node=8, exclude=("n9",)), site)
    first, *listed, fix = str(caught.value).splitlines()
    assert first == "cluster 'assay' can never run jobs with the resources that the profile requests:"
    assert [line.split(" ")[:4] for line in listed] == [
        ["", "", "-", "partition"],
        ["", "", "-", "partition"],
        ["", "", "-", "excluded"],
    ]
    assert "allows 1 min" in listed[0]
    assert "4 GPUs" in listed[1]
    assert "'n9'" in listed[2]
    assert fix.startswith("Change the profile in conf/cluster/")


# --- warnings


def test_a_cluster_without_accounting_causes_a_warning(mixed: ClusterCapabilities) -> None:
    (warning,) = find_warnings(ask_for(), mixed)
    assert "cluster 'mixed' keeps no accounting" in warning
    assert "resubmits such runs" in warning


def test_a_grace_time_below_the_profiles_causes_a_warning(site: ClusterCapabilities) -> None:
    (warning,) = find_warnings(ask_for(partition="scavenge", grace_seconds=60), site)
    assert "gives preempted jobs 10 s, but the profile expects 60 s" in warning
    assert find_warnings(ask_for(partition="scavenge", grace_seconds=10), site) == []
    assert find_warnings(ask_for(partition="main", grace_seconds=60), site) == []  # its jobs are never preempted


def test_without_preemption_a_short_grace_time_causes_no_warning(commands: Commands) -> None:
    off = recorded("config.txt").replace("preempt/partition_prio", "preempt/none")
    answer(commands, config=off)
    assert find_warnings(ask_for(partition="scavenge", grace_seconds=60), read_capabilities()) == []


@pytest.mark.parametrize("state", ["down*", "drained", "draining", "idle*", "unknown*", "maint"])
def test_nodes_out_of_service_cause_a_warning_and_no_problem(commands: Commands, state: str) -> None:
    answer(commands)
    commands.prints("sinfo", recorded("sinfo.txt").replace("idle", state).replace("down*", state))
    (warning,) = check_request(ask_for(), read_capabilities())
    assert warning == f"partition 'main': no suitable node is up now ({state}); jobs wait for one."


@pytest.mark.parametrize(
    "state", ["idle", "mixed", "allocated", "completing", "idle~", "mixed#", "planned", "reserved"]
)
def test_busy_and_sleeping_nodes_cause_no_warning(commands: Commands, state: str) -> None:
    answer(commands)
    commands.prints("sinfo", recorded("sinfo.txt").replace("idle", state))
    assert check_request(ask_for(), read_capabilities()) == []
