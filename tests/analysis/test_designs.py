"""Designs of a sweep: seeds, overrides, effects, hours and marks."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from assay.analysis.design_noise import RunSize
from assay.analysis.design_table import Axes, Design, Effect, mark_designs, parse_effect
from assay.analysis.designs import devices_per_run, extended_seeds, gain_of, require_effect, scale_overrides
from assay.config.cluster import Cluster, Slurm
from assay.config.policy import Criterion, Policy
from assay.config.sweep import Sweep
from assay.core.errors import ConfigError

ACC = Criterion(task="mmlu", metric="acc", better="higher", margin=0.01)
BITS = Criterion(task="code", metric="bits_per_byte", better="lower")


def design(row: int, *, power: float, hours: float | None, flops: float = 1.0, seeds: int = 3) -> Design:
    return Design(
        row=row,
        scale=RunSize("1m", 1000),
        n_candidates=1,
        seeds=tuple(range(seeds)),
        coupling="shared",
        decides="each",
        runs=1,
        reused=0,
        reused_candidates=0,
        refused=0,
        hours=hours,
        flops=flops,
        power=power,
        metrics=(),
    )


def marks(*designs: Design, budget: float | None = None) -> list[tuple[str, ...]]:
    return [marked.marks for marked in mark_designs(designs, min_seeds=3, budget=budget)]


def policy(*primary: Criterion, **more: Any) -> Policy:
    return Policy(name="p", primary=primary, alpha=0.05, min_seeds=3, **more)


def cluster(**more: Any) -> Cluster:
    fields = {"name": "c", "executor": "local", "cpus_per_worker": 2, "device": "auto", "environment": {}}
    return Cluster(**{**fields, "timeout_hours": 1.0, **more})


def test_the_cheapest_design_with_enough_power_and_the_best_in_budget_are_marked() -> None:
    weak, cheap, strong = (
        design(1, power=0.5, hours=1),
        design(2, power=0.8, hours=3),
        design(3, power=0.95, hours=9),
    )
    assert marks(weak, strong, cheap) == [(), (), ("cheapest",)]
    assert marks(weak, cheap, strong, budget=9) == [(), ("cheapest",), ("budget",)]
    assert marks(weak, cheap, strong, budget=2) == [("budget",), ("cheapest",), ()]
    assert marks(weak, cheap, strong, budget=0.5) == [(), ("cheapest",), ()]


def test_a_design_with_too_few_seeds_or_unknown_power_is_never_recommended() -> None:
    few, unknown = design(1, power=0.9, hours=1, seeds=2), design(2, power=math.nan, hours=1)
    assert marks(few, unknown, budget=5) == [("seeds",), ()]
    assert marks(few, design(3, power=0.85, hours=4)) == [("seeds",), ("cheapest",)]


def test_without_the_time_of_a_run_the_cheapest_design_has_the_fewest_operations() -> None:
    small, large = design(1, power=0.9, hours=None, flops=1), design(2, power=0.9, hours=1, flops=2)
    assert marks(large, small) == [(), ("cheapest",)]


def test_of_equally_expensive_designs_the_more_powerful_one_is_marked() -> None:
    assert marks(design(1, power=0.85, hours=0), design(2, power=0.9, hours=0)) == [(), ("cheapest",)]


def test_seeds_of_a_sweep_come_first_and_are_continued() -> None:
    sweep = Sweep(name="s", baseline="a", candidates=("b",), seeds=(4, 7))
    assert [extended_seeds(sweep, n) for n in (1, 2, 4)] == [(4,), (4, 7), (4, 7, 8, 9)]


def test_a_proxy_and_budget_replace_those_of_the_command() -> None:
    overrides = ["sweep=s", "proxy=1m", "++budget.tokens=5", "policy=p"]
    assert scale_overrides(overrides, None, None) == overrides
    assert scale_overrides(overrides, "4m", 100) == [
        "sweep=s", "policy=p", "proxy=4m", "budget.tokens=100", "budget.tokens_per_parameter=null",
    ]  # fmt: skip


def test_an_effect_is_in_the_metrics_unit_or_in_sds() -> None:
    assert parse_effect(" 0.01 ") == Effect(0.01, "metric")
    assert parse_effect("1.5 SD") == Effect(1.5, "sd")
    assert gain_of(ACC, parse_effect("2sd"), sd=0.004) == pytest.approx(0.008)
    assert gain_of(ACC, parse_effect("0.03"), sd=0.004) == 0.03
    assert gain_of(ACC, None, sd=0.004) == 0.02
    for text in ("", "sd", "0", "inf", "nan", "-1", "1%"):
        with pytest.raises(ConfigError, match="--effect"):
            parse_effect(text)


def test_one_effect_in_a_unit_does_not_fit_metrics_of_different_units() -> None:
    require_effect(policy(ACC), None)
    require_effect(policy(ACC, replace(ACC, task="arc", metric="acc_norm")), Effect(0.02, "metric"))
    require_effect(policy(ACC, BITS), Effect(2.0, "sd"))
    with pytest.raises(ConfigError, match="different units: bits_per_byte, fraction"):
        require_effect(policy(ACC, BITS), Effect(0.02, "metric"))
    with pytest.raises(ConfigError, match="gain of code bits_per_byte is unknown"):
        require_effect(policy(ACC, BITS), None)


def test_hours_are_those_of_the_device_that_trains() -> None:
    gpus = Slurm(nodes=2, processes_per_node=4, gpus_per_node="h100:4")
    assert devices_per_run(cluster(executor="slurm", slurm=gpus)) == ("GPU", 8.0)
    shared = Slurm(gpus_per_node=1, runs_per_job=4, runs_per_gpu=4)
    assert devices_per_run(cluster(executor="slurm", slurm=shared)) == ("GPU", 0.25)
    assert devices_per_run(cluster(executor="slurm", slurm=Slurm())) == ("CPU", 2.0)
    assert devices_per_run(cluster(device="cpu")) == ("CPU", 2.0)
    assert devices_per_run(cluster(device="cuda")) == ("GPU", 1.0)
    assert devices_per_run(cluster()) == ("worker", 1.0)


def test_values_of_an_axis_are_distinct_and_bounded() -> None:
    assert Axes(seeds=(3, 3, 2)).seeds == (3, 2)
    for invalid in ({"seeds": (101,)}, {"candidates": (0,)}, {"tokens": (0,)}, {"correlation": -1.0}):
        with pytest.raises(ConfigError, match="is invalid; expected"):
            Axes(**invalid)  # type: ignore[arg-type]  # one key at a time
