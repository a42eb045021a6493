"""What of an import is judged: one scale, the last checkpoint, arms that were asked the same questions."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from assay.errors import AssayError
from assay.imports.read import Given, read
from assay.imports.selection import coverage, for_policy, select
from assay.suite import Averaging, Criterion, Policy, Target
from tests.imports.files import HEADER, table, write

POLICY = Policy(name="p", alpha=0.05, min_seeds=3, primary=(Criterion(task="arc_easy", metric="acc", better="higher"),))


def frame(folder: Path, *parts: str) -> pd.DataFrame:
    return read([write(folder / "t.csv", f"{HEADER}\n" + "".join(parts))], Given.parse({}, None)).table.frame


@pytest.fixture
def two_scales(tmp_path: Path) -> pd.DataFrame:
    big = table({"a": 0.6, "b": 0.62}, scale="1B", tokens="1e11")
    return frame(tmp_path, table({"a": 0.5, "b": 0.52, "c": 0.4}), table({"a": 0.3, "b": 0.3}, tokens="1e9"), big)


def test_the_policys_scale_is_judged_however_it_is_written(two_scales: pd.DataFrame) -> None:
    found = select(two_scales, replace(POLICY, proxy_scale="1.5e8"), baseline="a", candidate=None)
    assert found.candidates == ("b", "c")
    assert set(found.frame["scale"]) == {found.policy.proxy_scale} == {"150M"}


def test_of_each_run_the_last_checkpoint_is_judged_and_that_is_said(two_scales: pd.DataFrame) -> None:
    found = select(two_scales, replace(POLICY, proxy_scale="150M"), baseline="a", candidate="b")
    assert set(found.frame["tokens"]) == {3_000_000_000}
    assert found.notes == ("6 rows of earlier checkpoints are left out.",)


def test_of_each_run_the_mean_over_the_last_checkpoints_is_judged_where_the_policy_asks_for_that(
    two_scales: pd.DataFrame,
) -> None:
    policy = replace(POLICY, proxy_scale="150M", average=Averaging(last=2))
    found = select(two_scales, policy, baseline="a", candidate="b")
    assert set(found.frame["tokens"]) == {3_000_000_000}
    arms = two_scales[(two_scales["scale"] == "150M") & two_scales["mix"].isin(["a", "b"])]
    want = arms.groupby(["mix", "seed"])["value"].mean()
    assert found.frame.set_index(["mix", "seed"])["value"].to_dict() == pytest.approx(want.to_dict())
    with pytest.raises(AssayError, match="c was scored at 1 checkpoint"):
        select(two_scales, policy, baseline="a", candidate="c")


@pytest.mark.parametrize(
    ("changes", "arguments", "said"),
    [
        ({}, {}, "there are results at 2 scales: 150M, 1B"),
        ({"proxy_scale": "160M"}, {}, "no results at the policy's proxy scale '160M'. Did you mean '150M'?"),
        ({"proxy_scale": "1B"}, {"candidate": "c"}, "no mix is called 'c' at 1B"),
        ({"proxy_scale": "1B"}, {"baseline": "today"}, "no mix is called 'today' at 1B"),
    ],
)
def test_what_cannot_be_chosen_is_named(two_scales: pd.DataFrame, changes: dict, arguments: dict, said: str) -> None:
    with pytest.raises(AssayError) as error:
        select(two_scales, replace(POLICY, **changes), **{"baseline": "a", "candidate": None, **arguments})
    assert said in str(error.value)


@pytest.mark.parametrize(
    ("column", "values", "said"),
    [
        ("version", ("1.0", "2.0"), "the version is 1.0 for a, and 2.0 for b"),
        ("num_fewshot", (0.0, 5.0), "the number of few-shot examples is 0.0 for a, and 5.0 for b"),
        ("prompt", ("abc", "def"), "the prompt is abc for a, and def for b"),
    ],
)
def test_arms_that_were_asked_different_things_are_refused(
    tmp_path: Path, column: str, values: tuple, said: str
) -> None:
    found = frame(tmp_path, table({"a": 0.5, "b": 0.52}))
    found[column] = found["mix"].map(dict(zip("ab", values, strict=True)))
    with pytest.raises(AssayError) as error:
        select(found, POLICY, baseline="a", candidate="b")
    assert f"arc_easy acc: a and b were not asked the same: {said}" in str(error.value)


def test_a_mix_that_is_not_judged_may_have_been_asked_otherwise(tmp_path: Path) -> None:
    found = frame(tmp_path, table({"a": 0.5, "b": 0.52, "c": 0.4}))
    found["version"] = found["mix"].map({"a": "1", "b": "1", "c": "2"})
    assert select(found, POLICY, baseline="a", candidate="b").candidates == ("b",)


def test_coverage_says_what_a_verdict_lacks(tmp_path: Path) -> None:
    policy = replace(POLICY, guardrails=(Criterion(task="piqa", metric="acc", better="higher", margin=0.01),))
    found = select(
        frame(tmp_path, table({"a": 0.5}), table({"b": 0.5}, seeds=(2, 3)), table({"a": 0.7}, task="piqa")),
        policy, baseline="a", candidate="b",
    )  # fmt: skip
    told = coverage(found, baseline="a", candidate="b")
    assert told.seeds == {"a": [0, 1, 2], "b": [2, 3]}
    assert told.shared == {"arc_easy acc": 1, "piqa acc": 0}
    assert told.missing == ("b has 2 of the 3 seeds that the policy asks for.", "b was not scored on piqa acc.")


@pytest.mark.parametrize(
    ("proxy", "parameters", "scale"),
    [("150m", 190_000_000, "150M"), ("ours", 151_898_880, "150M"), ("20m", 20_000_000, 20_000_000)],
)
def test_a_sweeps_proxy_is_the_policys_scale_by_its_name_or_its_size(
    proxy: str, parameters: int, scale: object
) -> None:
    """So that a sweep's own runs are judged beside a history that calls the same size by another name."""
    target = Target(scale="1e9", task="arc_easy", metric="acc", better="higher")
    results = pd.DataFrame({"scale": [parameters]})
    found, policy = for_policy(
        results, replace(POLICY, proxy_scale="150m", target=target), proxy=proxy, parameters=parameters
    )
    assert found["scale"].tolist() == [scale]
    assert policy.target is not None
    assert policy.target.scale == "1B"
