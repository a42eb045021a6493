"""`assay plan` before a sweep runs, `plan extend` after it, and `assay suite check`, as people and machines call them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest

from assay.config.compose import compose
from assay.plan.workspace import Workspace
from tests.analysis.external.result_files import HEADER, table, write
from tests.cli.invoke import Said, caller
from tests.cli.test_commands import CONF, TEXTS
from tests.helpers.finished import finish

ABLATION = """# @package _global_
defaults: [override /proxy: tiny, override /suite: bytes, override /tokenizer: small, override /policy: prose]
sweep: {name: taken_apart, baseline: half, seeds: [0, 1, 2], ablation: {kind: epochs, source: code, epochs: [1, 2], weight_decay: [0.1, 0.3]}}
budget: {tokens: 3072}
batch: {sequences: 4, micro: 4}
tracking: {mode: disabled}
"""


@pytest.fixture
def assay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Said]:
    """The command line, in this process, in a project with two small sources."""
    for name, text in CONF.items():
        write(tmp_path / name, text)
    for name, text in TEXTS.items():
        lines = [json.dumps({"text": text.format(i) * 20 + str(i)}) for i in range(60)]
        write(tmp_path / f"{name}.jsonl", "\n".join(lines))
        write(
            tmp_path / f"conf/source/{name}.yaml",
            f"{{files: [{name}.jsonl], domain: {name}, language: en, license: CC0-1.0, clearance: {{state: cleared, by: us}}}}",
        )
    write(tmp_path / "sweeps/taken_apart.yaml", ABLATION)
    monkeypatch.chdir(tmp_path)
    return caller(monkeypatch, capsys)


def _finish(*overrides: str, prose: Mapping[str, float] | None = None) -> None:
    """Record every run of a sweep as finished; `prose` is what a mix adds in bits per byte there."""
    space = Workspace(compose(list(overrides)))
    sweep = space.study.require_sweep()
    for mix in sweep.mixes:
        for seed in sweep.seeds:
            finish(space, mix, seed, bits={"prose": (prose or {}).get(mix, 0.0)})


STAGED = ("sweep=tiny", "+policy.sequential_seeds={stages:[2,3]}", "policy.min_seeds=2")


def test_a_plan_in_stages_lists_levels_and_the_least_and_most_runs(assay: Callable[..., Said]) -> None:
    plan = assay("plan", *STAGED, "--json").json
    stages = plan["sequential_seeds"]
    assert (stages["stages"], stages["runs"]["least"], stages["runs"]["most"]) == ([2, 3], 4, 6)
    assert sum(stages["levels"]) == pytest.approx(0.05)
    assert [run["status"] for run in plan["runs"]] == ["todo", "todo", "later"] * 2
    printed = " ".join(assay("plan", *STAGED).out.split())
    assert "stages: 2 seeds at 1.64%, 3 seeds at 3.36% (obrien_fleming, stop: both). 4 to 6 runs" in printed
    assert assay("plan", "sweep=tiny", "--json").json["sequential_seeds"] is None


def test_a_submission_records_the_decisions_of_complete_stages(assay: Callable[..., Said]) -> None:
    space = Workspace(compose(list(STAGED)))
    for mix in ("half", "less_code"):
        for seed in (0, 1):
            finish(space, mix, seed, bits={"prose": -0.4 if mix == "less_code" else 0.0})
    said = assay("submit", *STAGED)
    printed = " ".join(said.out.split())
    assert said.code == 0
    assert "stage 1: less_code ACCEPT at a level of 1.64%; no further seeds" in printed
    assert "4 reuse, 2 skipped" in printed
    verdict = assay("gate", "sweep=tiny", "--json").json
    assert verdict["verdict"] == "ACCEPT"
    assert "stage_decided" in {reason["code"] for reason in verdict["candidates"]["less_code"]["reasons"]}


def test_a_sweep_with_another_number_of_seeds_than_its_stages_is_refused(assay: Callable[..., Said]) -> None:
    said = assay("plan", *STAGED, "sweep.seeds=[0,1]")
    assert said.code == 2
    assert "2 seeds are invalid; expected 3 seeds" in said.err


def test_before_anything_ran_the_smallest_effect_is_unknown_and_afterwards_it_is_the_verdicts(
    assay: Callable[..., Said],
) -> None:
    before = assay("plan", "sweep=tiny", "--json").json["detectable"]
    assert [one["basis"]["code"] for one in before["metrics"]] == ["noise_unknown"]
    assert "unknown, because no past replicates of this proxy exist" in " ".join(
        assay("plan", "sweep=tiny").out.split()
    )
    _finish("sweep=tiny")
    [after] = assay("plan", "sweep=tiny", "--json").json["detectable"]["metrics"]
    verdict = assay("gate", "sweep=tiny", "--json").json["candidates"]["less_code"]
    [judged] = [c for c in verdict["comparisons"] if c["role"] == "primary"]
    assert after["smallest"] == pytest.approx(judged["mde"])
    assert after["basis"]["code"] == "noise_from_runs"
    assert [after["basis"]["figures"][key] for key in ("n_runs", "n_mixes", "where", "history")] == [
        6,
        2,
        "the store",
        False,
    ]
    [other] = assay("plan", "sweep=tiny", "budget.tokens=6144", "--json").json["detectable"]["metrics"]
    assert other["smallest"] is None, "runs of another budget have other noise"
    [more] = assay("plan", "sweep=tiny", "sweep.seeds=[0,1,2,3,4,5]", "--json").json["detectable"]["metrics"]
    assert more["smallest"] < after["smallest"] / 1.4


def test_an_undecided_sweep_is_made_one_that_decides_and_reuses_what_there_is(
    assay: Callable[..., Said], tmp_path: Path
) -> None:
    options = ["policy.min_seeds=2", "tracking.mode=offline"]
    _finish("sweep=tiny", *options, prose={"less_code": -0.004})
    gate = assay("gate", "sweep=tiny", *options, "--json").json["candidates"]["less_code"]
    assert gate["verdict"] == "INCONCLUSIVE"
    [way] = [option for option in gate["options"] if option["kind"] == "seeds"]
    assert (way["runs"], way["tokens"]) == (2 * (way["seeds"] - 3), 3072 * way["runs"])
    assert way["worker_seconds"] == pytest.approx(way["runs"] * (3072 / 5000 + 1.0)), "as measured on the store's runs"

    made = assay("plan", "extend", "sweep=tiny", *options, "--json").json
    assert made["extend"]["seeds"] == list(range(way["seeds"]))
    assert made["extend"]["command_overrides"] == ["tracking.mode=offline"]
    [again] = (assay("plan", "sweep=tiny_decide", "tracking.mode=offline", "--json").json,)
    assert [run["status"] for run in again["runs"]].count("reuse") == 6
    assert again["cost"]["runs"] == way["runs"]
    assert again["runs"] == made["runs"]
    assert "policy:\n  min_seeds: 2" in (tmp_path / "sweeps/tiny_decide.yaml").read_text(), "overrides go with it"

    refused = assay("plan", "extend", "sweep=tiny", *options)
    assert refused.code == 2
    assert "exists." in refused.err
    assert assay("plan", "extend", "sweep=tiny", *options, "--force").code == 0

    _finish("sweep=tiny_decide", prose={"less_code": -0.004})
    [note] = assay("gate", "sweep=tiny_decide", "--json").json["note"]
    assert (note["code"], note["subject"]) == ("seeds_added", "tiny")


def test_the_arms_of_an_ablation_and_their_controls_are_kept(assay: Callable[..., Said]) -> None:
    assay("prepare", "sweep=taken_apart", "--json")
    _finish("sweep=taken_apart")
    before = assay("plan", "sweep=taken_apart", "--json").json
    out = assay("plan", "extend", "sweep=taken_apart")
    assert out.code == 0, out.err
    after = assay("plan", "sweep=taken_apart_decide", "--json").json
    assert after["arms"] == before["arms"]
    old = {run["fingerprint"] for run in before["runs"]}
    assert old == {run["fingerprint"] for run in after["runs"] if run["status"] == "reuse"}


def test_a_sweep_that_is_decided_unfinished_or_hopeless_is_not_extended(
    assay: Callable[..., Said], tmp_path: Path
) -> None:
    unfinished = assay("plan", "extend", "sweep=tiny")
    assert unfinished.code == 2
    assert "is not finished: 6 of its runs have no result yet" in unfinished.err
    _finish("sweep=tiny", prose={"less_code": -0.5})
    decided = assay("plan", "extend", "sweep=tiny")
    assert decided.code == 2
    assert "sweep 'tiny' is decided: less_code ACCEPT" in decided.err
    bar = "policy.primary=[{task: validation/prose, metric: bits_per_byte, better: lower, margin: 0.6}]"
    hopeless = assay("plan", "extend", "sweep=tiny", bar)
    assert hopeless.code == 2
    assert "predicted to stay undecided with any number of seeds up to 100" in hopeless.err
    assert "Train a proxy of twice the parameters" in hopeless.err
    assert not list(tmp_path.glob("sweeps/*_decide.yaml"))
    assert assay("plan", "extend", "--out", "x.txt", "sweep=tiny").code == 2


def test_imported_results_are_told_what_they_would_find(assay: Callable[..., Said], tmp_path: Path) -> None:
    policy = "{name: arc, alpha: 0.05, min_seeds: 3, primary: [{task: arc_easy, metric: acc, better: higher}]}"
    write(tmp_path / "conf/policy/arc.yaml", policy)
    write(tmp_path / "team.csv", f"{HEADER}\n{table({'today': 0.5, 'new': 0.505}, seeds=range(4))}")
    arguments = ["results", "team.csv", "--baseline", "today", "policy=arc", "--json"]
    [found] = assay("plan", *arguments).json["detectable"]["metrics"]
    [judged] = assay("compare", *arguments).json["candidates"]["new"]
    assert found["n_seeds"] == 4
    assert found["smallest"] == pytest.approx(judged["mde"])
    basis = found["basis"]["figures"]
    assert (basis["n_runs"], basis["n_mixes"], basis["where"]) == (8, 2, "the table")


def _recipes(path: Path) -> Path:
    """Thirty recipes at two scales: one task that tells them apart, one that is noise, one at chance."""
    rng = np.random.default_rng(0)
    rows = ["mix,seed,scale,tokens,task,metric,value,n,chance"]
    for mix in range(30):
        skill = rng.normal()
        for scale, gain in (("150M", 0.02), ("1B", 0.05)):
            for seed in range(3):
                for look in (1, 2, 3, 4):
                    noise = rng.normal(size=3)
                    values = {
                        "telling": 0.5 + gain * skill + 0.02 * look + 0.004 * noise[0],
                        "noise": 0.5 + 0.02 * look + 0.01 * noise[1],
                        "guessing": 0.25 + 0.004 * noise[2],
                    }
                    rows += [
                        f"m{mix},{seed},{scale},{look}e9,{task},acc,{value:.5f},5000,0.25"
                        for task, value in values.items()
                    ]
    return write(path, "\n".join(rows) + "\n") or path


def test_a_suite_is_ranked_by_what_it_tells_and_what_tells_nothing_is_to_be_dropped(
    assay: Callable[..., Said], tmp_path: Path
) -> None:
    _recipes(tmp_path / "recipes.csv")
    found = assay("suite", "check", "--results", "recipes.csv", "--json").json
    by_task = {one["task"]: one for one in found["metrics"]}
    assert found["metrics"][0]["task"] == "telling"
    assert {task: one["signal"] for task, one in by_task.items()} == {
        "telling": "ok",
        "noise": "no signal",
        "guessing": "no signal",
    }
    assert by_task["telling"]["decision_accuracy"]["accuracy"] > 0.9
    assert by_task["telling"]["monotone"]["rho"] > 0.9
    assert by_task["telling"]["signal_to_noise"]["low"] > 2
    assert by_task["noise"]["above_chance"]["state"] == "ok", "it is the mixes that it does not tell apart"
    assert set(found["drop"]) == {"noise", "guessing"}
    shown = assay("suite", "check", "--results", "recipes.csv").out
    assert "drop guessing: acc: accuracy 0.250" in shown
    assert "30 mixes at 150M, ranked as itself at 1B" in shown


def test_a_suite_is_checked_on_the_stores_runs(assay: Callable[..., Said]) -> None:
    empty = assay("suite", "check", "sweep=tiny")
    assert empty.code == 2
    assert "no finished run of proxy tiny" in empty.err
    _finish("sweep=tiny", prose={"less_code": 0.3})
    found = assay("suite", "check", "sweep=tiny", "--json").json
    assert {one["task"] for one in found["metrics"]} == {"validation/prose", "validation/code"}
    assert found["of"] == "6 runs of 2 mixes in the store"
    assert found["evaluate_seconds"] == 1.0
    assert {one["signal"] for one in found["metrics"]} == {"unknown"}, "two mixes say nothing for sure"
    assert found["drop"] == {}


@pytest.mark.parametrize("submitted", [False, True])
def test_only_undecided_candidates_are_extended(assay: Callable[..., Said], tmp_path: Path, submitted: bool) -> None:
    """Also those of a submission whose overrides are not repeated."""
    for name, factor in (("no_code", 0.0001), ("more_code", 2)):
        write(tmp_path / f"conf/mix/{name}.yaml", f"{{base: half, edits: [{{scale: {{code: {factor}}}}}]}}")
    options = ["policy.min_seeds=2", "sweep.candidates=[less_code,no_code,more_code]", "budget.tokens=6144"]
    _finish("sweep=tiny", *options, prose={"less_code": -0.004, "no_code": -0.5, "more_code": 0.5})
    if submitted:
        assert assay("submit", "sweep=tiny", *options).code == 0
    given = [] if submitted else options
    decisions = assay("gate", "sweep=tiny", *given, "--json").json["candidates"]
    assert {name: one["verdict"] for name, one in decisions.items()} == {
        "less_code": "INCONCLUSIVE",
        "no_code": "ACCEPT",
        "more_code": "REJECT",
    }
    out = assay("plan", "extend", "sweep=tiny", *given)
    assert out.code == 0, out.err
    assert "Decided candidates are left out: no_code ACCEPT, more_code REJECT." in " ".join(out.out.split())
    made = Workspace(compose(["sweep=tiny_decide"]))
    assert made.study.require_sweep().candidates == ("less_code",)
    assert (made.runs.budget, made.study.policy.min_seeds) == (6144, 2)
    plan = assay("plan", "sweep=tiny_decide", "--json").json
    assert [run["status"] for run in plan["runs"]].count("reuse") == 6


def test_a_sweep_is_extended_as_submitted_after_its_mix_was_edited(assay: Callable[..., Said], tmp_path: Path) -> None:
    _finish("sweep=tiny", "policy.min_seeds=2", prose={"less_code": -0.004})
    assert assay("submit", "sweep=tiny", "policy.min_seeds=2").code == 0
    write(tmp_path / "conf/mix/half.yaml", "{weights: {prose: 2, code: 1}}")
    out = assay("plan", "extend", "sweep=tiny")
    assert out.code == 0, out.err
    plan = assay("plan", "sweep=tiny_decide", "--json").json
    assert [run["status"] for run in plan["runs"]].count("reuse") == 6
    write(tmp_path / "conf/mix/half.yaml", "{weights: {prose: 2, code: 1}, max_epochs: 4}")
    refused = assay("plan", "extend", "sweep=tiny", "--force")
    assert (refused.code, "mix.half.max_epochs was added after the submission" in refused.err) == (2, True)
