from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from assay.errors import AssayError
from assay.launch.slurm.commands import Unreachable
from assay.launch.slurm.site import Association, Request, Shape, Site, array_limit, ask_site, check, problems, warnings
from tests.launch.slurm.fakes import Commands, commands, recorded

__all__ = ["commands"]


def answer(commands: Commands, folder: str = "", *, config: str | None = None) -> None:
    """Answer as a real cluster did: `` of four like nodes, or `mixed/`, whose nodes differ and which has no accounting."""
    described = recorded(f"{folder}config.txt") if config is None else config
    (commands.folder / "config").write_text(described, encoding="utf-8")
    (commands.folder / "partitions").write_text(recorded(f"{folder}partition.txt"), encoding="utf-8")
    cat = f"cat {commands.folder}"
    commands.script("scontrol", f'case "$*" in *partition*) {cat}/partitions;; *config*) {cat}/config;; esac')
    commands.prints("sinfo", recorded(f"{folder}sinfo.txt"))
    commands.fails("sacctmgr", "sacctmgr: error: Sending PersistInit msg: Connection refused")


@pytest.fixture
def site(commands: Commands) -> Site:
    """Four like nodes, with accounting."""
    answer(commands)
    return ask_site()


@pytest.fixture
def mixed(commands: Commands) -> Site:
    """n1 and n2 have 4 A100 each, and n2 is drained; n3 has 2 V100; n4 has no GPU. No accounting."""
    answer(commands, "mixed/")
    return ask_site()


def ask_for(**changes: Any) -> Request:
    """A request that any of these clusters could fulfil, changed."""
    return Request(**{"minutes": 1, **changes})


# --- asking


def test_a_cluster_tells_what_it_has_and_allows(site: Site) -> None:
    assert (site.name, site.version, site.accounting) == ("assay", "22.05.8", True)
    assert (site.max_jobs, site.kill_wait_seconds) == (20000, 2)
    assert list(site.partitions) == ["main", "scavenge", "kill", "short"]
    assert [name for name, partition in site.partitions.items() if partition.default] == ["main"]
    main, scavenge, short = (site.partitions[name] for name in ("main", "scavenge", "short"))
    assert (main.max_minutes, main.default_minutes, main.preempt_mode, main.nodes) == (None, 60.0, "OFF", 4)
    assert (scavenge.preempt_mode, scavenge.grace_seconds) == ("REQUEUE", 10)
    assert short.max_minutes == 1.0
    shape = {"cpus": 8, "memory_mb": 64000, "gpus": 4}
    assert main.shapes == (
        Shape(nodes=("n4",), state="down*", **shape),
        Shape(nodes=("n1", "n2", "n3"), state="idle", **shape),
    )


def test_nodes_that_differ_are_told_apart_by_gpus_of_any_type_and_by_features(mixed: Site) -> None:
    assert not mixed.accounting
    assert {(shape.nodes, shape.state, shape.gpus, shape.cpus) for shape in mixed.partitions["main"].shapes} == {
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
def test_gpus_are_counted_whatever_their_type(commands: Commands, gres: str, gpus: int) -> None:
    answer(commands)
    commands.prints("sinfo", recorded("sinfo.txt").replace("gpu:4", gres))
    assert {shape.gpus for shape in ask_site().partitions["main"].shapes} == {gpus}


def test_an_array_may_be_as_long_as_the_tightest_limit_says(commands: Commands) -> None:
    answer(commands)
    assert array_limit() == ask_site().array_limit == 4001  # sbatch took 0-4000, and refused 0-4001
    answer(commands, "mixed/")
    assert array_limit() == ask_site().array_limit == 100  # max_array_tasks
    answer(commands, config=recorded("config.txt").replace("= 4001", "= 100000"))
    assert array_limit() == ask_site().array_limit == 20000  # MaxJobCount


def test_a_line_of_sinfo_that_makes_no_sense_costs_only_itself(
    commands: Commands, caplog: pytest.LogCaptureFixture
) -> None:
    answer(commands)
    commands.prints("sinfo", "sinfo: something new\n" + recorded("sinfo.txt"))
    assert ask_site().partitions["main"].nodes == 4
    assert "sinfo: a line that makes no sense: 'sinfo: something new'" in caplog.text


def test_a_cluster_that_does_not_answer_is_no_cluster_without_limits(
    commands: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("assay.launch.slurm.site.ATTEMPTS", 1)
    commands.fails("scontrol", "slurm_load_ctl_conf error: Unable to contact slurm controller (connect failure)")
    with pytest.raises(Unreachable):
        ask_site()
    with pytest.raises(Unreachable):
        array_limit()


ENFORCED = recorded("config.txt").replace("Enforce = none", "Enforce = associations,limits,qos")


@pytest.fixture
def limited(commands: Commands) -> Site:
    """Accounts are enforced, with limits, as sacctmgr showed them."""
    answer(commands, config=ENFORCED)
    (commands.folder / "associations").write_text("team|long,normal|5|\nroot|normal||\n", encoding="utf-8")
    (commands.folder / "qos").write_text("normal|\nlong|3\n", encoding="utf-8")
    cat = f"cat {commands.folder}"
    commands.script("sacctmgr", f'case "$*" in *association*) {cat}/associations;; *qos*) {cat}/qos;; esac')
    return ask_site()


def test_how_many_jobs_the_user_may_have_is_asked_of_accounting(limited: Site) -> None:
    assert limited.associations == (
        Association(account="team", qos=("long", "normal"), max_submit=5),
        Association(account="root", qos=("normal",), max_submit=None),
    )
    assert limited.max_submit(account="team", qos=None) == 5
    assert limited.max_submit(account="team", qos="long") == 3
    assert limited.max_submit(account="root", qos=None) is None
    assert limited.max_submit(account=None, qos=None) == 5  # which account SLURM takes is not known: the tightest


def test_accounting_that_does_not_answer_costs_the_limits_and_nothing_else(commands: Commands) -> None:
    answer(commands, config=ENFORCED)
    site = ask_site()
    assert site.associations is None
    assert site.max_submit(account="team", qos=None) is None
    assert problems(ask_for(account="team"), site) == []


def test_a_limit_is_none_where_only_accounts_are_enforced(limited: Site) -> None:
    assert replace(limited, limits_enforced=False).max_submit(account="team", qos="long") is None


def test_limits_that_nobody_enforces_are_not_asked_for(commands: Commands, site: Site) -> None:
    assert commands.calls("sacctmgr") == []
    assert site.max_submit(account="team", qos=None) is None


# --- whether a request fits


def test_a_request_that_fits_has_no_problems_and_no_warnings(site: Site) -> None:
    fits = ask_for(partition="main", nodes=4, gpus_per_node=4, cpus_per_node=8, memory_mb_per_node=64000)
    assert check(fits, site) == []
    assert check(ask_for(minutes=100_000), site) == []  # the default partition, which has no time limit


@pytest.mark.parametrize(
    ("request_", "problem"),
    [
        (
            ask_for(partition="mian"),
            "partition 'mian' does not exist. Did you mean 'main'? Known: kill, main, scavenge, short.",
        ),
        (ask_for(partition="short", minutes=10), "partition 'short' allows 1 min, 10 are asked for."),
        (ask_for(gpus_per_node=8), "partition 'main' has nodes with up to 4 GPUs, 8 are asked for."),
        (ask_for(cpus_per_node=9), "partition 'main' has nodes with up to 8 CPUs, 9 are asked for."),
        (
            ask_for(memory_mb_per_node=64001),
            "partition 'main' has nodes with up to 64000 MB of memory, 64001 are asked for.",
        ),
        (ask_for(nodes=5), "partition 'main' allows 4 nodes a job, 5 are asked for."),
        (
            ask_for(nodes=3, exclude=("n[1-2]",)),
            "partition 'main' has 2 nodes with 1 CPUs that are not excluded, 3 are asked for.",
        ),
        (
            ask_for(exclude=("n7",)),
            "node 'n7', which is excluded, does not exist. Did you mean 'n4'? Known: n1, n2, n3, n4.",
        ),
        (ask_for(constraint="h100"), "constraint 'h100': no node has 'h100'. None is defined."),
    ],
)
def test_what_the_cluster_could_never_run_is_named_with_its_value_and_the_bound(
    site: Site, request_: Request, problem: str
) -> None:
    assert problems(request_, site) == [problem]


@pytest.mark.parametrize(
    ("request_", "problem"),
    [
        (ask_for(partition="drained"), "partition 'drained' is DRAIN and runs no new jobs."),
        (ask_for(partition="mixed", nodes=2), "partition 'mixed' allows 1 nodes a job, 2 are asked for."),
        (ask_for(partition="mixed", minutes=91), "partition 'mixed' allows 90 min, 91 are asked for."),
        (
            ask_for(gpus_per_node=2, cpus_per_node=16),
            "partition 'main' has 0 nodes with 2 GPUs and 16 CPUs, 1 are asked for.",
        ),
        (
            ask_for(nodes=3, constraint="a100&ib"),
            "partition 'main' has 2 nodes with 1 CPUs and a100, ib, 3 are asked for.",
        ),
        (
            ask_for(partition="mixed", constraint="a100"),
            "partition 'mixed' has 0 nodes with 1 CPUs and a100, 1 are asked for.",
        ),
        (
            ask_for(constraint="[a100|h100*2]"),
            "constraint '[a100|h100*2]': no node has 'h100'. Did you mean 'v100'? Known: a100, ib, v100.",
        ),
    ],
)
def test_what_no_single_node_has_together_is_a_problem_though_each_part_is_there(
    mixed: Site, request_: Request, problem: str
) -> None:
    assert problems(request_, mixed) == [problem]


def test_of_features_that_are_alternatives_one_will_do(mixed: Site) -> None:
    assert problems(ask_for(nodes=3, gpus_per_node=2, constraint="a100|v100"), mixed) == []
    assert problems(ask_for(nodes=1, constraint="[a100*2&ib]"), mixed) == []


def test_of_several_partitions_one_that_can_will_do(site: Site) -> None:
    assert problems(ask_for(partition="short,main", minutes=10), site) == []
    assert len(problems(ask_for(partition="short,kill", nodes=9), site)) == 2


def test_without_a_default_partition_one_has_to_be_named(site: Site) -> None:
    none = replace(site, partitions={name: replace(p, default=False) for name, p in site.partitions.items()})
    (problem,) = problems(ask_for(), none)
    assert problem == "no partition is given, and there is no default. Known: kill, main, scavenge, short."


def test_accounts_and_qualities_that_the_user_does_not_have_are_problems_where_they_are_enforced(limited: Site) -> None:
    assert problems(ask_for(account="team", qos="long"), limited) == []
    assert problems(ask_for(account="tean"), limited) == [
        "account 'tean' is not one that you may use. Did you mean 'team'? Known: root, team."
    ]
    assert problems(ask_for(account="root", qos="long"), limited) == [
        "qos 'long' is not one that you may use. Known: normal."
    ]
    (problem,) = problems(ask_for(), replace(limited, associations=()))
    assert "accounting knows of no account that you may use" in problem


def test_all_problems_are_told_at_once(site: Site) -> None:
    with pytest.raises(AssayError) as caught:
        check(ask_for(partition="short", minutes=10, gpus_per_node=8, exclude=("n9",)), site)
    first, *listed, fix = str(caught.value).splitlines()
    assert first == "cluster 'assay' can never run such jobs:"
    assert [line.split(" ")[:4] for line in listed] == [
        ["", "", "-", "partition"],
        ["", "", "-", "partition"],
        ["", "", "-", "node"],
    ]
    assert "allows 1 min" in listed[0]
    assert "4 GPUs" in listed[1]
    assert "'n9'" in listed[2]
    assert fix.startswith("Change the profile in conf/cluster/")


# --- what people should know


def test_a_cluster_without_accounting_is_warned_of(mixed: Site) -> None:
    (warning,) = warnings(ask_for(), mixed)
    assert "cluster 'mixed' keeps no accounts" in warning
    assert "its runs are tried again" in warning


def test_a_grace_that_is_shorter_than_the_profiles_is_warned_of(site: Site) -> None:
    (warning,) = warnings(ask_for(partition="scavenge", grace_seconds=60), site)
    assert "gives a job that has to make room 10 s, and the profile counts on 60 s" in warning
    assert warnings(ask_for(partition="scavenge", grace_seconds=10), site) == []
    assert warnings(ask_for(partition="main", grace_seconds=60), site) == []  # whose jobs never have to make room


def test_where_nothing_is_preempted_no_grace_is_too_short(commands: Commands) -> None:
    off = recorded("config.txt").replace("preempt/partition_prio", "preempt/none")
    answer(commands, config=off)
    assert warnings(ask_for(partition="scavenge", grace_seconds=60), ask_site()) == []


@pytest.mark.parametrize("state", ["down*", "drained", "draining", "idle*", "unknown*", "maint"])
def test_nodes_that_are_all_out_of_service_are_warned_of_and_are_no_problem(commands: Commands, state: str) -> None:
    answer(commands)
    commands.prints("sinfo", recorded("sinfo.txt").replace("idle", state).replace("down*", state))
    (warning,) = check(ask_for(), ask_site())
    assert warning == f"partition 'main': no node that fits is up now ({state}); jobs wait for one."


@pytest.mark.parametrize(
    "state", ["idle", "mixed", "allocated", "completing", "idle~", "mixed#", "planned", "reserved"]
)
def test_nodes_that_are_busy_or_asleep_are_waited_for_without_a_word(commands: Commands, state: str) -> None:
    answer(commands)
    commands.prints("sinfo", recorded("sinfo.txt").replace("idle", state))
    assert check(ask_for(), ask_site()) == []
