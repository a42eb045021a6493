"""`assay interim` on an imported table with several tokens for a run, as people and machines call it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.analysis.external.result_files import HEADER, write
from tests.cli.invoke import Said, caller

POLICY = """name: arc
alpha: 0.05
min_seeds: 3
primary: [{task: arc_easy, metric: acc, better: higher}]
early_stopping: {stop: losers, interim_analyses: [0.25, 0.5, 0.75]}
"""
NOISE = (-0.003, 0.001, 0.002, 0.0)


def rows(mix: str, gap: float, *, upto: int) -> str:
    """Four seeds at so many quarters of 400 tokens."""
    sign = (-1) ** len(mix)
    return "".join(
        f"{mix},{seed},150M,{quarter * 100},arc_easy,acc,{0.4 + 0.02 * quarter + gap + sign * noise * (1 + quarter / 9)}\n"
        for seed, noise in enumerate(NOISE)
        for quarter in range(1, upto + 1)
    )


@pytest.fixture
def assay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Said]:
    """The command line in a project whose baseline is done and whose candidates are half trained."""
    write(tmp_path / "conf/policy/arc.yaml", POLICY)
    arms = rows("today", 0.0, upto=4) + rows("poorer", -0.06, upto=2) + rows("better", 0.06, upto=2)
    write(tmp_path / "team.csv", f"{HEADER.split(',n')[0]}\n{arms}")
    monkeypatch.chdir(tmp_path)
    return caller(monkeypatch, capsys)


TABLE = ("interim", "results", "team.csv", "--baseline", "today", "policy=arc")


def test_a_table_is_looked_at_and_the_loser_is_named(assay: Callable[..., Said]) -> None:
    found = assay(*TABLE, "--json")
    assert found.code == 0
    assert {name: one["advice"] for name, one in found.json["candidates"].items()} == {
        "poorer": "STOP as loser",
        "better": "GO ON",
    }
    assert found.json["candidates"]["poorer"]["budget_tokens"] == 400


def test_people_see_it_in_80_columns(assay: Callable[..., Said], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    shown = assay(*TABLE).out
    assert max(map(len, shown.splitlines())) <= 80
    assert "STOP as loser  poorer against today" in shown
    assert "the policy stops only losers early" in " ".join(shown.split())


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((*TABLE, "--cancel"), "No such option: --cancel"),
        ((*TABLE, "--budget", "100"), "budget: 100 tokens is invalid; expected at least the 400 tokens"),
        ((*TABLE, "--candidate", "bettr"), "no mix is named 'bettr'"),
        (("interim", "--baseline", "today"), "No such option: --baseline"),
        (("interim", "--budget", "1e9", "policy=arc"), "No such option: --budget"),
    ],
)
def test_what_cannot_be_looked_at_is_refused(assay: Callable[..., Said], arguments: tuple[str, ...], told: str) -> None:
    refused = assay(*arguments)
    assert refused.code == 2
    assert told in refused.err
