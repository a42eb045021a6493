"""Selecting external results: one scale, the last checkpoint, arms with equal evaluation settings."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from assay.analysis.external.reading import RunLabels, read
from assay.analysis.external.selection import coverage, for_policy, select
from assay.analysis.gate import gate
from assay.config.policy import Averaging, Criterion, Policy, Target
from assay.core.errors import AssayError
from tests.analysis.external.result_files import HEADER, table, write

POLICY = Policy(name="p", alpha=0.05, min_seeds=3, primary=(Criterion(task="arc_easy", metric="acc", better="higher"),))


def frame(folder: Path, *parts: str) -> pd.DataFrame:
    return read([write(folder / "t.csv", f"{HEADER}\n" + "".join(parts))], RunLabels.parse({}, None)).table.frame


@pytest.fixture
def two_scales(tmp_path: Path) -> pd.DataFrame:
    big = table({"a": 0.6, "b": 0.62}, scale="1B", tokens="1e11")
    return frame(tmp_path, table({"a": 0.5, "b": 0.52, "c": 0.4}), table({"a": 0.3, "b": 0.3}, tokens="1e9"), big)


def test_the_policys_scale_is_selected_in_any_spelling(two_scales: pd.DataFrame) -> None:
    selected = select(two_scales, replace(POLICY, proxy_scale="1.5e8"), baseline="a", candidate=None)
    assert selected.candidates == ("b", "c")
    assert set(selected.frame["scale"]) == {selected.policy.proxy_scale} == {"150M"}


def test_the_last_checkpoint_is_selected_with_a_note(two_scales: pd.DataFrame) -> None:
    selected = select(two_scales, replace(POLICY, proxy_scale="150M"), baseline="a", candidate="b")
    assert set(selected.frame["tokens"]) == {3_000_000_000}
    assert selected.notes == ("6 rows of earlier checkpoints are excluded.",)


def test_the_last_checkpoints_are_averaged_if_the_policy_requires_it(two_scales: pd.DataFrame) -> None:
    policy = replace(POLICY, proxy_scale="150M", average=Averaging(last=2))
    selected = select(two_scales, policy, baseline="a", candidate="b")
    assert set(selected.frame["tokens"]) == {3_000_000_000}
    arms = two_scales[(two_scales["scale"] == "150M") & two_scales["mix"].isin(["a", "b"])]
    want = arms.groupby(["mix", "seed"])["value"].mean()
    assert selected.frame.set_index(["mix", "seed"])["value"].to_dict() == pytest.approx(want.to_dict())
    assert selected.notes[-1].endswith("are excluded: c.")
    with pytest.raises(AssayError, match="c was scored at 1 checkpoint"):
        select(two_scales, policy, baseline="a", candidate="c")


@pytest.mark.parametrize(
    ("changes", "arguments", "expected"),
    [
        ({}, {}, "there are results at 2 scales: 150M, 1B"),
        ({"proxy_scale": "160M"}, {}, "no results at the policy's proxy scale '160M'. Did you mean '150M'?"),
        ({"proxy_scale": "1B"}, {"candidate": "c"}, "no mix is named 'c' at 1B"),
        ({"proxy_scale": "1B"}, {"baseline": "today"}, "no mix is named 'today' at 1B"),
    ],
)
def test_an_impossible_selection_is_refused(
    two_scales: pd.DataFrame, changes: dict, arguments: dict, expected: str
) -> None:
    with pytest.raises(AssayError) as error:
        select(two_scales, replace(POLICY, **changes), **{"baseline": "a", "candidate": None, **arguments})
    assert expected in str(error.value)


@pytest.mark.parametrize(
    ("column", "values", "expected"),
    [
        ("version", ("1.0", "2.0"), "the task version is 1.0 for a, but 2.0 for b"),
        ("num_fewshot", (0.0, 5.0), "the number of few-shot examples is 0.0 for a, but 5.0 for b"),
        ("prompt", ("abc", "def"), "the prompt is abc for a, but def for b"),
    ],
)
def test_arms_with_different_settings_are_refused(tmp_path: Path, column: str, values: tuple, expected: str) -> None:
    selected = frame(tmp_path, table({"a": 0.5, "b": 0.52}))
    selected[column] = selected["mix"].map(dict(zip("ab", values, strict=True)))
    with pytest.raises(AssayError) as error:
        select(selected, POLICY, baseline="a", candidate="b")
    assert f"arc_easy acc: {expected}" in str(error.value)


def test_a_mix_outside_the_comparison_may_have_other_settings(tmp_path: Path) -> None:
    selected = frame(tmp_path, table({"a": 0.5, "b": 0.52, "c": 0.4}))
    selected["version"] = selected["mix"].map({"a": "1", "b": "1", "c": "2"})
    assert select(selected, POLICY, baseline="a", candidate="b").candidates == ("b",)


def test_one_candidate_has_the_verdict_that_it_has_among_all(tmp_path: Path) -> None:
    values = {"a": 0.5, "b": 0.52, "c": 0.4, "d": 0.45}
    rows = frame(tmp_path, table(values))
    rows["value"] += 0.004 * np.random.default_rng(1).standard_normal(len(rows))
    verdicts = []
    for candidate in (None, "b"):
        chosen = select(rows, POLICY, baseline="a", candidate=candidate)
        verdict = gate(
            chosen.frame, POLICY, baseline="a", candidates=chosen.candidates, n_candidates=chosen.n_candidates
        )
        verdicts.append(verdict)
    assert verdicts[1].candidates["b"].comparisons == verdicts[0].candidates["b"].comparisons
    assert verdicts[1].candidates["b"].comparisons[0].noise_sources["sweep"] > 0
    assert [note.figures["candidates"] for note in verdicts[0].note] == [3]
    assert (set(verdicts[1].candidates), verdicts[1].note) == ({"b"}, ()), "only the decided candidates are counted"


def test_coverage_lists_what_a_verdict_lacks(tmp_path: Path) -> None:
    policy = replace(POLICY, guardrails=(Criterion(task="piqa", metric="acc", better="higher", margin=0.01),))
    selected = select(
        frame(tmp_path, table({"a": 0.5}), table({"b": 0.5}, seeds=(2, 3)), table({"a": 0.7}, task="piqa")),
        policy, baseline="a", candidate="b",
    )  # fmt: skip
    (cover,) = coverage(selected, baseline="a")
    assert cover.seeds == {"a": [0, 1, 2], "b": [2, 3]}
    assert cover.shared == {"arc_easy acc": 1, "piqa acc": 0}
    assert cover.missing == ("b has 2 of the 3 seeds that the policy requires.", "b was not scored on piqa acc.")


@pytest.mark.parametrize(
    ("proxy", "parameters", "scale"),
    [("150m", 190_000_000, "150M"), ("ours", 151_898_880, "150M"), ("20m", 20_000_000, 20_000_000)],
)
def test_a_sweeps_proxy_matches_the_policys_scale_by_name_or_size(proxy: str, parameters: int, scale: object) -> None:
    """A sweep's runs and a history may spell the same size differently."""
    target = Target(scale="1e9", task="arc_easy", metric="acc", better="higher")
    results = pd.DataFrame({"scale": [parameters]})
    selected, policy = for_policy(
        results, replace(POLICY, proxy_scale="150m", target=target), proxy=proxy, parameters=parameters
    )
    assert selected["scale"].tolist() == [scale]
    assert policy.target is not None
    assert policy.target.scale == "1B"
