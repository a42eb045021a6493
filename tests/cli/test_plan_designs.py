"""`assay plan designs` compares designs on the store's noise, and writes the chosen one as a sweep."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from assay.analysis.stats.power import power
from assay.config.compose import compose
from assay.plan.workspace import Workspace
from tests.cli.invoke import Said, caller
from tests.helpers.finished import finish
from tests.helpers.first_project import POLICY, write, write_first_project

METRIC = "task: validation/my_code, metric: bits_per_byte, better: lower"
SECOND = "{task: validation/my_web, metric: bits_per_byte, better: lower}"
WITH_MARGIN = POLICY.format(name="ours").replace(METRIC, f"{METRIC}, margin: 0.004")
TWO = POLICY.format(name="two").replace("better: lower}]", f"better: lower}}, {SECOND}]")
TINY = (
    "{name: tiny, hidden_size: 32, intermediate_size: 64, layers: 1, heads: 2, kv_heads: 1, tie_embeddings: true,"
    " rope_theta: 10000, sequence_length: 64}"
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("designs") / "project"
    write_first_project(root)
    write(root / "conf/policy/two.yaml", TWO)
    write(root / "conf/proxy/tiny.yaml", TINY)
    return root


@pytest.fixture
def assay(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Said]:
    """The command line in a copy of a project whose sweep `first` is finished."""
    monkeypatch.chdir(shutil.copytree(finished, tmp_path / "project"))
    return caller(monkeypatch, capsys)


def codes(table: dict[str, Any]) -> set[str]:
    return {note["code"] for note in table["notes"]}


def test_power_and_cost_follow_from_the_stores_runs(assay: Callable[..., Said]) -> None:
    said = assay("plan", "designs", "sweep=first", "--effect", "0.005", "--seeds", "2,3,5", "--budget", "1", "--json")
    assert said.code == 0, said.err
    table = said.json
    two, three, five = table["designs"]
    assert [(design["runs"], design["reused"]) for design in (two, three, five)] == [(0, 4), (0, 6), (4, 6)]
    assert three["hours"] == 0
    assert five["hours"] == pytest.approx(4 * (3072 / 5000 + 1.0) / 3600), "as measured on the store's runs"
    assert five["marks"] == ["cheapest", "budget"]
    [noise] = table["noise"]
    assert (noise["origin"], noise["assumed"], noise["noise"]["n_runs"], noise["noise"]["df"]) == ("store", False, 6, 2)
    assert noise["noise"]["correlation"] > 0.9, "the scores of these runs grow with the seed"
    [metric] = three["metrics"]
    assert (metric["unit"], metric["effect"], metric["power"]) == ("metric", 0.005, three["power"])
    shown = assay("plan", "sweep=first", "--json").json["detectable"]["metrics"]
    assert metric["smallest"] == pytest.approx(shown[0]["smallest"]), "with one candidate, as `assay plan` prints"
    assert {"design_primary_only", "design_noise_uncertain"} == codes(table)


def test_more_candidates_add_power_and_runs(assay: Callable[..., Said]) -> None:
    arguments = ["--effect", "0.005", "--seeds", "3", "--candidates", "1,4"]
    one, four = assay("plan", "designs", "sweep=first", *arguments, "--json").json["designs"]
    assert (one["runs"], four["runs"], four["reused"]) == (0, 9, 6)
    assert four["power"] > one["power"]


def test_candidates_that_share_alpha_have_less_power(assay: Callable[..., Said]) -> None:
    each, shared = (
        assay(
            "plan",
            "designs",
            "sweep=first",
            "--effect",
            "1sd",
            "--seeds",
            "3",
            "--candidates",
            "1,4",
            f"+policy.candidates={rule}",
            "--json",
        ).json["designs"]
        for rule in ("each", "all")
    )
    assert shared[0]["power"] == each[0]["power"]
    assert shared[1]["power"] < each[1]["power"]


def test_noise_of_another_scale_is_assumed_and_stated_until_it_is_measured(assay: Callable[..., Said]) -> None:
    arguments = ["--effect", "0.005", "--seeds", "3", "--tokens", "3072,6144", "--proxy", "0.3m,tiny", "--json"]
    table = assay("plan", "designs", "sweep=first", *arguments).json
    assert [(d["scale"]["proxy"], d["scale"]["tokens"]) for d in table["designs"]] == [
        ("0.3m", 3072), ("0.3m", 6144), ("tiny", 3072), ("tiny", 6144),
    ]  # fmt: skip
    assert [noise["assumed"] for noise in table["noise"]] == [False, True, True, True]
    [assumed] = [note for note in table["notes"] if note["code"] == "design_noise_assumed"]
    assert len(assumed["figures"]["scales"]) == 3
    assert "design_effect_constant" in codes(table)
    assert table["speed"]["tiny"].startswith("scaled by operations")
    assert "design_evaluation_time_unknown" in codes(table)

    space = Workspace(compose(["sweep=first", "budget.tokens=6144"]))
    for mix in ("today", "more_code"):
        for seed in range(3):
            finish(space, mix, seed)
    noise = assay("plan", "designs", "sweep=first", *arguments).json["noise"]
    assert [known["assumed"] for known in noise] == [False, False, True, True]
    assert noise[3]["measured_at"]["tokens"] == 6144, "the nearest scale"


def test_unknown_noise_leaves_a_comparison_in_seed_sds(assay: Callable[..., Said]) -> None:
    shutil.rmtree("store/runs")
    arguments = ["plan", "designs", "sweep=first", "--seeds", "3"]
    table = assay(*arguments, "--effect", "2sd", "--json").json
    [design] = table["designs"]
    assert design["metrics"][0]["unit"] == "sd"
    assert design["power"] == pytest.approx(power(2.0, se=(2 / 3) ** 0.5, df=2, tail=0.025))
    assert design["hours"] is None
    assert design["marks"] == []
    assert {"design_noise_unknown", "design_correlation_unknown", "design_hours_unknown"} <= codes(table)
    given = assay(*arguments, "--effect", "2sd", "--correlation", "0.75", "--json").json
    assert given["designs"][0]["power"] == pytest.approx(power(2.0, se=(2 / 3 / 4) ** 0.5, df=2, tail=0.025))
    assert "design_correlation_given" in codes(given)
    in_bits = assay(*arguments, "--effect", "0.01", "--json").json
    assert in_bits["designs"][0]["power"] is None
    assert in_bits["designs"][0]["metrics"][0]["smallest"] > 0, "the smallest gain in SDs is known"
    refused = assay(*arguments, "--effect", "2sd", "--budget", "3")
    assert refused.code == 2
    assert "the time of a run is unknown" in refused.err


def _history(scale: str, tokens: str) -> str:
    """Return results of 12 past mixes with three shared seeds, with an SD of 0.01 that is mostly common to a seed."""
    rng, rows = np.random.default_rng(0), ["mix,seed,scale,tokens,task,metric,value"]
    common = rng.normal(0, 0.01, 3)
    for mix in range(12):
        for seed in range(3):
            value = 2 + 0.1 * mix + common[seed] + rng.normal(0, 0.001)
            rows.append(f"past{mix},{seed},{scale},{tokens},validation/my_code,bits_per_byte,{value:.6f}")
    return "\n".join(rows) + "\n"


@pytest.mark.parametrize(
    ("scale", "tokens", "assumed"), [("0.3m", "3072", False), ("0.3m", "1e6", True), ("1B", "1e9", True)]
)
def test_the_history_shows_the_noise_where_the_store_has_none(
    assay: Callable[..., Said], scale: str, tokens: str, *, assumed: bool
) -> None:
    shutil.rmtree("store/runs")
    write(Path("past.csv"), _history(scale, tokens))
    overrides = ["sweep=first", "history=past.csv", "+policy.proxy_scale=0.3M", "policy.min_seeds=1"]
    said = assay("plan", "designs", *overrides, "--effect", "0.002", "--seeds", "1,3", "--json")
    assert said.code == 0, said.err
    [noise] = said.json["noise"]
    assert (noise["origin"], noise["assumed"], noise["noise"]["n_mixes"]) == ("history", assumed, 12)
    assert noise["noise"]["correlation"] > 0.9
    assert ("design_noise_assumed" in codes(said.json)) is assumed
    one, three = said.json["designs"]
    at_proxy = scale == "0.3m"
    assert (noise["noise"]["prior_df"] > 0) is at_proxy, "a verdict uses only the history at the proxy's scale"
    assert (one["power"] > 0) is at_proxy, "the noise of past runs lets one seed decide"
    sd = noise["noise"]["residual"] ** 0.5
    assert three["power"] == pytest.approx(power(0.002, se=sd * (2 / 3) ** 0.5, df=2, tail=0.025))


def test_the_effect_is_twice_the_margin_of_the_policy_or_required(assay: Callable[..., Said]) -> None:
    refused = assay("plan", "designs", "sweep=first")
    assert refused.code == 2
    assert "smallest relevant gain of validation/my_code bits_per_byte is unknown" in refused.err
    assert "--effect 0.01" in refused.err
    write(Path("conf/policy/ours.yaml"), WITH_MARGIN)
    table = assay("plan", "designs", "sweep=first", "--seeds", "3", "--json").json
    assert table["designs"][0]["metrics"][0]["effect"] == pytest.approx(0.008)
    assert "design_effect_from_margin" in codes(table)
    beyond = assay("plan", "designs", "sweep=first", "--seeds", "3", "--effect", "0.008", "--json").json
    assert beyond["designs"][0]["power"] == pytest.approx(table["designs"][0]["power"])
    within = assay("plan", "designs", "sweep=first", "--effect", "0.004")
    assert within.code == 2
    assert "expected more than the margin" in within.err


def test_the_mean_of_two_metrics_and_separate_seeds_are_compared_but_not_written(assay: Callable[..., Said]) -> None:
    options = ["policy=two", "--effect", "0.5sd", "--seeds", "4", "--aggregate", "each,mean"]
    table = assay("plan", "designs", "sweep=first", *options, "--coupling", "shared,separate", "--json").json
    each, mean, separate, _ = table["designs"]
    assert [len(design["metrics"]) for design in (each, mean)] == [2, 1]
    assert mean["metrics"][0]["effect"] == pytest.approx(0.5)
    assert (each["reused"], separate["reused"]) == (6, 3), "only the baseline's runs have the right seeds"
    assert separate["power"] < each["power"]
    assert {"design_mean", "design_separate_seeds"} <= codes(table)
    written = ["--write", "next", "--choose"]
    for row, message in (("2", "decides by the mean"), ("3", "has separate seeds")):
        said = assay("plan", "designs", "sweep=first", *options, "--coupling", "shared,separate", *written, row)
        assert said.code == 2
        assert message in said.err
    assert not Path("sweeps/next.yaml").exists()
    single = assay("plan", "designs", "sweep=first", "--effect", "2sd", "--aggregate", "mean")
    assert single.code == 2
    assert "one primary metric" in single.err


def test_a_chosen_design_becomes_a_sweep_that_the_plan_accepts(assay: Callable[..., Said]) -> None:
    arguments = ["plan", "designs", "sweep=first", "--effect", "0.005", "--seeds", "2,5", "--tokens", "3072,6144"]
    made = assay(*arguments, "--proxy", "0.3m,tiny", "--write", "next", "--choose", "8", "--json")
    assert made.code == 0, made.err
    table = made.json
    chosen = table["designs"][7]
    assert (chosen["scale"], len(chosen["seeds"])) == ({"proxy": "tiny", "tokens": 6144}, 5)
    assert table["written"]["extends"] is None
    plan = assay("plan", "sweep=next", "--json").json
    todo = [run for run in plan["runs"] if run["status"] == "todo"]
    assert (len(todo), {run["tokens"] for run in todo}) == (chosen["runs"], {6144})
    assert compose(["sweep=next"]).proxy.name == "tiny"
    again = assay(*arguments, "--write", "next", "--choose", "1")
    assert again.code == 2
    assert "exists already" in again.err
    packaged = assay(*arguments, "--write", "code_replace", "--choose", "1")
    assert packaged.code == 2
    assert "exists already" in packaged.err


def test_a_design_that_adds_seeds_to_known_results_extends_the_sweep(assay: Callable[..., Said]) -> None:
    arguments = ["plan", "designs", "sweep=first", "policy=two", "--effect", "0.005", "--seeds", "2,5"]
    said = assay(*arguments, "--write", "next", "--choose", "2")
    assert said.code == 0, said.err
    assert "raises the false-positive rate" in " ".join(said.out.split())
    study = compose(["sweep=next"])
    assert study.policy.name == "two", "the overrides of the command go with the sweep"
    assert study.sweep is not None
    assert (study.sweep.extends, study.sweep.seeds) == ("first", (0, 1, 2, 3, 4))
    assert [run["status"] for run in assay("plan", "sweep=next", "--json").json["runs"]].count("reuse") == 6


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--effect", "big"], "--effect: 'big' is invalid"),
        (["--effect", "-1sd"], "--effect: '-1sd' is invalid"),
        (["--effect", "2sd", "--seeds", "2,x"], "--seeds: 'x' is invalid; expected a whole number"),
        (["--effect", "2sd", "--seeds", "0"], "--seeds: 0 is invalid; expected a number from 1 to 100"),
        (["--effect", "2sd", "--tokens", "nan"], "--tokens: 'nan' is invalid"),
        (["--effect", "2sd", "--tokens", "10"], "expected at least 256, one optimizer step"),
        (["--effect", "2sd", "--proxy", "tinny"], "Did you mean 'tiny'?"),
        (["--effect", "2sd", "--coupling", "both"], "expected one of shared, separate"),
        (["--effect", "2sd", "--correlation", "1"], "expected a number between -1 and 1"),
        (["--effect", "2sd", "--budget", "0"], "--budget: 0 is invalid"),
        (["--effect", "2sd", "--write", "next"], "--write is given without --choose"),
        (["--effect", "2sd", "--write", "next", "--choose", "9"], "row 9 is invalid; expected a row from 1 to 3"),
        (["--effect", "2sd", "--write", "../next", "--choose", "1"], "name '../next' is invalid"),
        (["--effect", "2sd", "--candidates", "3", "--write", "next", "--choose", "1"], "declares only 1"),
        (["--effect", "2sd", "--seeds", ",".join(map(str, range(1, 101))), "--candidates", "1,2,3,4,5"], "at most 400"),
    ],
)
def test_invalid_options_are_errors_with_a_bound(assay: Callable[..., Said], options: list[str], message: str) -> None:
    said = assay("plan", "designs", "sweep=first", *options)
    assert said.code == 2
    assert message in said.err
    assert not Path("sweeps/next.yaml").exists()


def test_the_table_fits_into_80_columns(assay: Callable[..., Said], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    options = ["policy=two", "--effect", "2sd", "--aggregate", "each,mean", "--coupling", "shared,separate"]
    scales = ["--tokens", "3072,6144", "--proxy", "0.3m,tiny", "--candidates", "1,12"]
    said = assay("plan", "designs", "sweep=first", *options, *scales, "--seeds", "2,12", "--budget", "9")
    assert said.code == 0, said.err
    lines = said.out.splitlines()
    assert max(map(len, lines)) <= 80
    assert "…" not in said.out, "no cell is cut"
    assert sum(line.strip().startswith("32 ") for line in lines) >= 2, "each design has one line per table"
    assert "+ most power within 9 worker hours" in said.out
    row = next(
        line for line in said.out.partition("power, and smallest")[2].splitlines() if line.strip().startswith("2 ")
    )
    assert row.split()[1:3] == ["-", "-"], "the mean stands in its own column"


def test_the_arms_of_an_ablation_stay_together(assay: Callable[..., Said]) -> None:
    text = Path("sweeps/first.yaml").read_text().replace("name: first", "name: apart")
    text = text.replace(
        "  candidates: [more_code]\n", "  ablation: {kind: epochs, source: my_code, epochs: [1, 2, 4]}\n"
    )
    lines = [line for line in text.splitlines() if not line.startswith("  arms:")]
    write(Path("sweeps/apart.yaml"), "\n".join(lines))
    arguments = ["plan", "designs", "sweep=apart", "--effect", "0.005", "--seeds", "4"]
    refused = assay(*arguments, "--candidates", "1")
    assert refused.code == 2
    assert "whose arms are compared with each other" in refused.err
    made = assay(*arguments, "--write", "next", "--choose", "1", "--json")
    assert made.code == 0, made.err
    before, after = (assay("plan", f"sweep={name}", "--json").json for name in ("apart", "next"))
    assert after["arms"] == before["arms"]
    assert {run["seed"] for run in after["runs"]} == {0, 1, 2, 3}
