"""Configuration is read strictly: errors name the nearest valid key, and types are never coerced."""

from __future__ import annotations

import datetime
import math
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import pytest

from assay.config.recipe import Budget
from assay.config.sources import Source
from assay.core.errors import AssayError, ConfigError, Damaged
from assay.core.serde import from_mapping, from_record, json_shape, to_json, to_mapping

GOOD = {"files": ["a"], "domain": "code", "language": "en", "license": "MIT", "name": "a"}


def test_a_round_trip_preserves_the_value() -> None:
    clearance = {"state": "cleared", "by": "the board", "date": "2026-02-02"}
    source = from_mapping(Source, {**GOOD, "snapshot": "2026-01-01", "clearance": clearance}, where="source")
    assert source.snapshot == datetime.date(2026, 1, 1)
    assert from_mapping(Source, to_mapping(source), where="source") == source


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"domian": "x"}, "no field is called 'domian'. Did you mean 'domain'?"),
        ({"clearance": {"state": "claered"}}, "clearance.state: 'claered' is not one of"),
        ({"clearance": {"sate": "cleared"}}, "clearance: no field is called 'sate'. Did you mean 'state'?"),
        ({"files": [3]}, "files[0]: 3 is a int, expected text"),
        ({"files": "data"}, "files: 'data' is a str, expected a list, such as [data]"),
        ({"files": 3}, "files: expected a list, such as [0, 1, 2]"),
        ({"clearance": 3}, "clearance: expected a mapping, such as {name: value}"),
        ({"clearance": []}, "clearance: expected a mapping, such as {name: value}"),
        ({"domain": 3}, "domain: 3 is a int"),
        ({"files": []}, "`files` is empty"),
        ({"name": "../x"}, "name '../x' is invalid"),
        ({"snapshot": "yesterday"}, "snapshot: "),
    ],
)
def test_an_error_names_its_location(change: dict, message: str) -> None:
    with pytest.raises(AssayError) as error:
        from_mapping(Source, {**GOOD, **change}, where="source 'a'")
    assert message in str(error.value)


def test_a_missing_field_is_named() -> None:
    with pytest.raises(AssayError, match="source 'a': .*domain.* is missing"):
        from_mapping(Source, {k: v for k, v in GOOD.items() if k != "domain"}, where="source 'a'")


@pytest.mark.parametrize("written", [1_000_000_000, 1e9, "1e9"])
def test_a_billion_may_be_written_in_exponent_notation(written: object) -> None:
    assert from_mapping(Budget, {"tokens": written}, where="budget").tokens == 1_000_000_000


@pytest.mark.parametrize("written", [1.5, True, "many", float("nan"), float("inf"), [1]])
def test_a_fraction_is_never_coerced_to_a_whole_number(written: object) -> None:
    with pytest.raises(AssayError, match="budget: tokens"):
        from_mapping(Budget, {"tokens": written}, where="budget")


def test_a_record_that_does_not_fit_is_damaged_and_keeps_its_fix() -> None:
    with pytest.raises(ConfigError):
        from_mapping(Budget, {"tokens": "many"}, where="budget")
    for record in ({"tokens": "many"}, {}, [], None):
        with pytest.raises(Damaged, match="budget.json") as error:
            from_record(Budget, record, where="budget.json", fix="Delete it.")
        assert error.value.fix == "Delete it."


class Pair(NamedTuple):
    low: float
    high: float


@json_shape(
    {"verdict": "decision", "ends": "interval", "width": lambda shown: shown.interval.high - shown.interval.low}
)
@dataclass(frozen=True)
class Shown:
    decision: str
    interval: Pair
    hidden: object = None


@json_shape(omit=["hidden"], add=["count"])
@dataclass(frozen=True)
class Counted:
    seeds: tuple[int, ...]
    by_metric: dict[tuple[str, str], float]
    file: Path
    hidden: object = None

    @property
    def count(self) -> int:
        return len(self.seeds)


def test_json_has_the_declared_keys_and_null_for_nan() -> None:
    shown = Shown("ACCEPT", Pair(math.nan, math.inf))
    assert to_json(shown) == {"verdict": "ACCEPT", "ends": {"low": None, "high": None}, "width": None}
    counted = Counted((0, 1), {("mmlu", "acc"): 0.5}, Path("a.yaml"), object())
    assert to_json([counted]) == [{"seeds": [0, 1], "by_metric": {"mmlu acc": 0.5}, "file": "a.yaml", "count": 2}]


def test_a_caller_can_provide_the_json_of_a_class() -> None:
    made = to_json({3: Shown("ACCEPT", Pair(0.0, 1.0))}, {Pair: lambda pair: f"{pair.low} to {pair.high}"})
    assert made["3"]["ends"] == "0.0 to 1.0"
