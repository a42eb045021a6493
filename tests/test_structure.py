"""Configuration is read strictly: a typo is named with the nearest valid name, a wrong type is never coerced."""

from __future__ import annotations

import datetime

import pytest

from assay.errors import AssayError
from assay.recipe import Budget
from assay.sources import Source
from assay.structure import from_mapping, to_mapping

GOOD = {"files": ["a"], "domain": "code", "language": "en", "licence": "MIT", "name": "a"}


def test_what_is_written_is_what_is_read_back() -> None:
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
        ({"domain": 3}, "domain: 3 is a int"),
        ({"files": []}, "`files` is empty"),
        ({"name": "../x"}, "not a usable name"),
        ({"snapshot": "yesterday"}, "snapshot: "),
    ],
)
def test_a_mistake_is_named_with_its_place(change: dict, message: str) -> None:
    with pytest.raises(AssayError) as error:
        from_mapping(Source, {**GOOD, **change}, where="source 'a'")
    assert message in str(error.value)


def test_a_missing_field_is_named() -> None:
    with pytest.raises(AssayError, match="source 'a': .*domain.* is missing"):
        from_mapping(Source, {k: v for k, v in GOOD.items() if k != "domain"}, where="source 'a'")


@pytest.mark.parametrize("written", [1_000_000_000, 1e9, "1e9"])
def test_a_billion_may_be_written_as_people_write_it(written: object) -> None:
    assert from_mapping(Budget, {"tokens": written}, where="budget").tokens == 1_000_000_000


@pytest.mark.parametrize("written", [1.5, True, "many", float("nan"), float("inf"), [1]])
def test_what_is_no_whole_number_is_never_taken_for_one(written: object) -> None:
    with pytest.raises(AssayError, match="budget: tokens"):
        from_mapping(Budget, {"tokens": written}, where="budget")
