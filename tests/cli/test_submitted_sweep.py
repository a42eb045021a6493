"""Commands on a submitted sweep use the submitted configuration; overrides and later edits change none of its runs."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from assay.config.compose import compose
from assay.plan.workspace import Workspace
from tests.cli.invoke import Said, caller
from tests.cli.test_commands import CONF, TEXTS
from tests.helpers.finished import finish

if TYPE_CHECKING:
    from assay.store.runs import Store

BETTER = {"less_code": -0.1}
BIGGER = CONF["conf/proxy/tiny.yaml"].replace("name: tiny", "name: small").replace("layers: 1", "layers: 2")


class Project:
    """A project with text, configuration and a store."""

    def __init__(self, root: Path, call: Callable[..., Said]) -> None:
        self.root, self.call = root, call
        for name, text in {**CONF, "conf/proxy/small.yaml": BIGGER}.items():
            self.write(name, text)
        for name, text in TEXTS.items():
            self.write(f"{name}.jsonl", "\n".join(json.dumps({"text": text.format(i) * 20}) for i in range(60)))
            self.write(
                f"conf/source/{name}.yaml",
                f"{{files: [{name}.jsonl], domain: {name}, language: en, license: CC0-1.0,"
                " clearance: {state: cleared, by: us}}",
            )

    def write(self, name: str, text: str) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")

    def edit(self, name: str, old: str, new: str) -> None:
        text = (self.root / name).read_text(encoding="utf-8")
        assert old in text
        self.write(name, text.replace(old, new))

    def workspace(self, *overrides: str) -> Workspace:
        return Workspace(compose(["sweep=tiny", *overrides], root=self.root))

    def finish(self, *overrides: str, bits: dict[str, float] | None = None) -> None:
        """Record every run of the sweep as finished."""
        space = self.workspace(*overrides)
        sweep = space.study.require_sweep()
        for mix in sweep.mixes:
            for seed in sweep.seeds:
                finish(space, mix, seed, bits={"prose": (BETTER if bits is None else bits).get(mix, 0.0)})

    def submit(self, *overrides: str, options: tuple[str, ...] = ()) -> Said:
        return self.call("submit", "sweep=tiny", *overrides, *options)

    @property
    def store(self) -> Store:
        return self.workspace().store

    def json(self, *arguments: str) -> Any:
        said = self.call(*arguments, "--json")
        return said.json


def changed(verdict: Any) -> list[str]:
    """Keys in which the current configuration differs, as a verdict lists them."""
    (reason,) = (r for r in verdict["registration"]["reasons"] if r["code"] == "submitted_configuration")
    return list(reason["figures"]["changed"])


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Project:
    monkeypatch.chdir(tmp_path)
    return Project(tmp_path, caller(monkeypatch, capsys))


@pytest.fixture
def submitted(project: Project) -> Project:
    """The sweep, finished and submitted; its candidate is accepted."""
    project.finish()
    assert project.submit().code == 0
    return project


# --- overrides


def test_overrides_of_the_submission_are_not_repeated(project: Project) -> None:
    project.finish("budget.tokens=6144")
    assert project.submit("budget.tokens=6144").code == 0
    status = project.json("status", "sweep=tiny")
    assert [run["state"] for run in status["runs"]] == ["done"] * 6
    assert status["submission"]["changed"] == ["budget.tokens 6144 -> 3072"]
    gate = project.call("gate", "sweep=tiny")
    assert (gate.code, "+ ACCEPT" in gate.out) == (0, True)
    assert "The current configuration differs: budget.tokens 6144 -> 3072." in " ".join(gate.out.split())
    compared = project.json("compare", "sweep=tiny")
    assert compared["candidates"]["less_code"][0]["n_seeds"] == 3
    assert project.call("gate", "sweep=tiny", "budget.tokens=6144").code == 0, "a repeated override changes nothing"
    assert project.call("retry", "sweep=tiny", "--failed").code == 0
    assert "no run was active" in project.call("cancel", "sweep=tiny").out


@pytest.mark.parametrize(
    "override",
    [
        "proxy=small",
        "budget.tokens=1e6",
        "sweep.seeds=[0,1]",
        "sweep.candidates=[half2]",
        "mix.half.weights.code=3",
        "optim.peak_lr=0.5",
        "source.prose.files=[code.jsonl]",
    ],
)
@pytest.mark.parametrize("command", ["status", "gate", "compare", "report", "sync", "interim"])
def test_an_override_that_changes_the_runs_is_refused_and_names_the_option(
    submitted: Project, command: str, override: str
) -> None:
    said = submitted.call(command, "sweep=tiny", override)
    assert said.code == 2
    assert f"{override} changes its runs, which were submitted on" in said.err
    assert "--current" in said.err


@pytest.mark.parametrize("command", [("cancel",), ("retry", "--failed")])
def test_commands_that_act_on_runs_refuse_it_too(submitted: Project, command: tuple[str, ...]) -> None:
    said = submitted.call(command[0], "sweep=tiny", "proxy=small", *command[1:])
    assert (said.code, "proxy tiny -> small" in said.err) == (2, True)


def test_an_override_that_restores_the_submitted_value_is_no_change(submitted: Project) -> None:
    submitted.edit("sweeps/tiny.yaml", "tokens: 3072", "tokens: 6144")
    assert submitted.call("gate", "sweep=tiny", "budget.tokens=3072").code == 0
    refused = submitted.call("gate", "sweep=tiny", "budget.tokens=6144")
    assert (refused.code, "budget.tokens 3072 -> 6144" in refused.err) == (2, True)


def test_overrides_that_change_no_run_apply(submitted: Project) -> None:
    assert submitted.json("sync", "sweep=tiny", "tracking.mode=offline")["mode"] == "offline"
    blocked = submitted.call("gate", "sweep=tiny", "source.prose.clearance.state=blocked")
    assert (blocked.code, "BLOCKED" in blocked.out) == (4, True)


INVALID = [
    ("sweep=tiny", "sweep=tiny"),
    ("sweep=tiny", "sweep=code_replace"),
    ("+sweep=tiny",),
    ("++sweep=tiny",),
    ("~sweep",),
    ("sweep=tiny", "~sweep"),
    ("sweep=",),
    ("sweep=*",),
    ("sweep=tiny", "policy.alpha=many"),
    ("sweep=tiny", "policy=nowhere"),
    ("sweep=tiny", "suite.no_key=1"),
    ("sweep=tiny", "cluster=nowhere"),
    ("sweep=tiny", "sweep.seeds=none"),
    ("sweep=tiny", "no_section.key=1"),
    ("sweep=tiny", "tracking.mode=[a"),
    ("sweep=tiny", "=1"),
]
"""Overrides that are invalid whatever was submitted."""
COMMANDS = [
    *(("compare",), ("report",), ("sync",), ("interim",), ("status",), ("cancel",), ("retry", "--failed"), ("plan",)),
    *(("plan", "extend"), ("plan", "repair"), ("submit",), ("register",), ("logs", "0"), ("gate", "branch", "HEAD")),
]


def test_a_submission_does_not_replace_invalid_overrides(submitted: Project) -> None:
    for overrides in INVALID:
        said = submitted.call("gate", *overrides)
        assert (said.code, said.out) == (2, ""), (overrides, said)
    for command in COMMANDS:
        for overrides in INVALID[1:4]:
            said = submitted.call(*command, *overrides)
            assert (said.code, said.out) == (2, ""), (command, overrides, said)


@pytest.mark.parametrize("command", ["gate", "status", "cancel"])
def test_a_submission_replaces_invalid_files(submitted: Project, command: str) -> None:
    submitted.edit("sweeps/tiny.yaml", "tokens: 3072", "tokens: many")
    assert submitted.call(command, "sweep='tiny'").code == 0
    (submitted.root / "sweeps/tiny.yaml").unlink()
    assert submitted.call(command, "sweep=tiny").code == 0
    invalid = submitted.call(command, "sweep=tiny", "tracking.mode=[a")
    assert (invalid.code, "tracking.mode=[a" in invalid.err) == (2, True)


def test_an_override_of_the_registered_rules_is_refused_without_the_option(submitted: Project) -> None:
    for command in ("gate", "compare", "report", "sync", "interim"):
        said = submitted.call(command, "sweep=tiny", "policy.alpha=0.001")
        assert (said.code, said.out) == (2, ""), (command, said)
        assert "policy.alpha 0.05 -> 0.001" in said.err
        assert "--policy-now" in said.err
    suite = submitted.call("gate", "sweep=tiny", "suite.validation_bytes=1000")
    assert (suite.code, "would be ignored" in suite.err) == (2, True)
    assert submitted.call("gate", "sweep=tiny", "policy.alpha=0.05").code == 0, "the override changes nothing"
    assert submitted.json("gate", "sweep=tiny", "policy.alpha=0.001", "--policy-now")["registration"]["changed"]
    assert submitted.call("status", "sweep=tiny", "policy.alpha=0.001").code == 0, "no verdict"


# --- pages


def test_a_page_with_results_is_not_replaced_by_one_of_other_runs(submitted: Project) -> None:
    page = Path(submitted.json("report", "sweep=tiny")["page"])
    before = page.read_bytes()
    assert submitted.call("report", "sweep=tiny", "proxy=small").code == 2
    without = submitted.call("report", "sweep=tiny", "proxy=small", "--current")
    assert (without.code, "has no run of the sweep" in without.err) == (2, True)
    submitted.finish("proxy=small")
    other = submitted.json("report", "sweep=tiny", "proxy=small", "--current")
    assert Path(other["page"]) == page.with_name("tiny.current.html")
    assert "proxy tiny -&gt; small" in Path(other["page"]).read_text()
    assert page.read_bytes() == before
    assert sorted(path.name for path in page.parent.iterdir()) == ["tiny.current.html", "tiny.html"]


def test_the_page_of_a_sweep_without_any_run_is_refused(project: Project) -> None:
    said = project.call("report", "sweep=tiny")
    assert (said.code, "has no run of the sweep" in said.err) == (2, True)
    assert not project.store.reports.exists()


def test_other_runs_do_not_replace_the_verdict_in_wandb(submitted: Project) -> None:
    submitted.finish("proxy=small")
    said = submitted.call("sync", "sweep=tiny", "proxy=small", "--current")
    assert (said.code, "would replace its verdict in W&B" in said.err) == (2, True)


# --- edits after the submission


def test_after_the_accepted_mix_became_the_baseline_its_sweep_keeps_its_verdict(submitted: Project) -> None:
    before = submitted.json("gate", "sweep=tiny")
    submitted.write("conf/mix/half.yaml", "{weights: {prose: 2, code: 1}}")
    (submitted.root / "conf/mix/less_code.yaml").unlink()
    after = submitted.json("gate", "sweep=tiny")
    assert after["verdict"] == before["verdict"] == "ACCEPT"
    assert after["candidates"]["less_code"]["comparisons"] == before["candidates"]["less_code"]["comparisons"]
    assert changed(after) == ["mix.half.weights.prose 1.0 -> 2.0", "mix.less_code declared -> unset"]
    page = Path(submitted.json("report", "sweep=tiny")["page"])
    assert "mix.half.weights.prose 1.0" in page.read_text()
    markdown = submitted.call("gate", "sweep=tiny", "--markdown")
    assert (markdown.code, "mix.half.weights.prose 1.0" in markdown.out) == (0, True)
    status = submitted.json("status", "sweep=tiny")
    assert {run["state"] for run in status["runs"]} == {"done"}
    current = submitted.call("gate", "sweep=tiny", "--current")
    assert current.code == 2, "the current configuration has no such candidate"


def test_the_sweep_file_may_be_gone_or_invalid(submitted: Project) -> None:
    for text in (None, "sweep: [", "# @package _global_\nsweep: {name: tiny}\n"):
        if text is None:
            (submitted.root / "sweeps/tiny.yaml").unlink()
        else:
            submitted.write("sweeps/tiny.yaml", text)
        said = submitted.call("gate", "sweep=tiny")
        assert (said.code, "+ ACCEPT" in said.out) == (0, True)
        assert "The current configuration is invalid:" in " ".join(said.out.split())
        assert submitted.call("gate", "sweep=tiny", "--current").code == 2
        assert submitted.call("gate", "sweep=tiny", "proxy=small").code == 2
        assert "no run was active" in submitted.call("cancel", "sweep=tiny").out


def test_text_that_changed_since_the_submission_changes_no_run(submitted: Project) -> None:
    submitted.write("prose.jsonl", json.dumps({"text": "Another text. " * 50}) + "\n")
    assert submitted.call("gate", "sweep=tiny").code == 0
    (submitted.root / "prose.jsonl").unlink()
    (submitted.root / "code.jsonl").unlink()
    assert submitted.call("status", "sweep=tiny").code == 0


def test_a_tokenizer_file_that_changed_since_the_submission_changes_no_run(project: Project) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers

    def write(words: int) -> None:
        vocabulary = {"</s>": 0, "[UNK]": 1, **{f"w{i}": i + 2 for i in range(words)}}
        tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
        tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
        tokenizer.save(str(project.root / "own.json"))

    write(20)
    project.write("conf/tokenizer/small.yaml", "{name: small, vocabulary: null, file: own.json}")
    project.finish()
    assert project.submit().code == 0
    runs = [run["fingerprint"] for run in project.json("status", "sweep=tiny")["runs"]]
    write(30)
    status = project.json("status", "sweep=tiny")
    assert [run["fingerprint"] for run in status["runs"]] == runs
    assert {run["state"] for run in status["runs"]} == {"done"}


def test_an_unrelated_mix_or_a_reworded_question_is_no_difference(submitted: Project) -> None:
    submitted.write("conf/mix/other.yaml", "{weights: {prose: 1}}")
    submitted.edit("sweeps/tiny.yaml", "Less code?", "Would less code help?")
    assert submitted.json("status", "sweep=tiny")["submission"]["changed"] == []
    assert "note:" not in submitted.call("status", "sweep=tiny").err


# --- several submissions


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("sweep.seeds=[0,1,2]", "sweep.seeds=[0,1,2,3]"),
        ("sweep.seeds=[0,1,2]", "sweep.seeds=[3]"),
        ("sweep.seeds=[0,1,2,3]", "sweep.seeds=[0,1]"),
    ],
)
def test_seeds_of_all_submissions_count(project: Project, first: str, second: str) -> None:
    for seeds in (first, second):
        project.finish(seeds)
        assert project.submit(seeds).code == 0
    verdict = project.json("gate", "sweep=tiny")
    assert verdict["candidates"]["less_code"]["comparisons"][0]["n_seeds"] == 4
    assert "submission_superseded" not in [reason["code"] for reason in verdict["registration"]["reasons"]]


def test_candidates_of_all_submissions_count(project: Project) -> None:
    project.write("conf/mix/no_code.yaml", "{base: half, edits: [{drop: code}]}")
    for candidates in ("[less_code]", "[no_code]"):
        project.finish(f"sweep.candidates={candidates}")
        assert project.submit(f"sweep.candidates={candidates}").code == 0
    (project.root / "conf/mix/less_code.yaml").unlink()
    verdict = project.json("gate", "sweep=tiny")
    assert list(verdict["candidates"]) == ["less_code", "no_code"]


def test_a_submission_with_other_settings_supersedes_and_is_reported(project: Project) -> None:
    project.finish("budget.tokens=6144")
    assert project.submit("budget.tokens=6144").code == 0
    project.finish()
    refused = project.submit()
    assert (refused.code, "budget.tokens 6144 -> 3072" in refused.err) == (2, True)
    assert "--replace" in refused.err
    replaced = project.submit(options=("--replace",))
    assert (replaced.code, "6 runs that were submitted on" in replaced.err) == (0, True)
    status = project.json("status", "sweep=tiny")
    assert len(status["submission"]["superseded"]) == 1
    assert {run["state"] for run in status["runs"]} == {"done"}
    said = project.call("gate", "sweep=tiny")
    assert (
        "(6 runs), whose runs are not used. Inputs that differ (earlier -> newest): half: stages.0.steps 24 -> 12"
        in " ".join(said.out.split())
    )


def test_a_changed_baseline_supersedes(submitted: Project) -> None:
    overrides = ("sweep.baseline=less_code", "sweep.candidates=[half]")
    submitted.finish(*overrides)
    assert submitted.submit(*overrides).code == 0, "the same runs, of which none leaves the sweep"
    status = submitted.json("status", "sweep=tiny")
    assert len(status["submission"]["superseded"]) == 1
    assert {run["state"] for run in status["runs"]} == {"done"}


def test_a_repeated_submission_adds_no_record(submitted: Project) -> None:
    assert submitted.submit().code == 0
    assert len(list((submitted.store.sweep("tiny") / "submissions").iterdir())) == 1


# --- records


def test_a_configuration_of_another_version_is_named(submitted: Project) -> None:
    (record,) = (submitted.store.sweep("tiny") / "submissions").glob("*/submission.json")
    plain = json.loads(record.read_text())
    plain["study"]["budget"]["tokns"] = plain["study"]["budget"].pop("tokens")
    record.write_text(json.dumps(plain))
    said = submitted.call("gate", "sweep=tiny")
    assert (said.code, "its configuration is invalid in this version of assay" in said.err) == (2, True)
    assert submitted.call("gate", "sweep=tiny", "--current").code == 0
    assert "no run was active" in submitted.call("cancel", "sweep=tiny").out
    run = submitted.workspace().runs.spec("half", 0).fingerprint
    submitted.store.run(run).log.write_text("step 12 of 12\n")
    assert submitted.call("logs", run[:10], "sweep=tiny").out == "step 12 of 12\n"


def test_a_record_of_a_version_without_planned_runs_is_read(submitted: Project) -> None:
    (record,) = (submitted.store.sweep("tiny") / "submissions").glob("*/submission.json")
    plain = json.loads(record.read_text())
    del plain["planned"]
    record.write_text(json.dumps(plain))
    submitted.write("conf/mix/half.yaml", "{weights: {prose: 2, code: 1}}")
    assert submitted.call("gate", "sweep=tiny").code == 0


def test_runs_whose_folders_were_removed_are_missing_and_not_replaced(submitted: Project) -> None:
    run = submitted.workspace().runs.spec("less_code", 0)
    shutil.rmtree(submitted.store.run(run.fingerprint).path)
    states = {run["state"] for run in submitted.json("status", "sweep=tiny")["runs"]}
    assert states == {"done", "queued"}


# --- names


def test_a_copied_sweep_file_with_an_unchanged_name_is_refused(submitted: Project) -> None:
    submitted.write("sweeps/second.yaml", CONF["sweeps/tiny.yaml"])
    for command in ("plan", "submit", "status", "gate", "report"):
        said = submitted.call(command, "sweep=second")
        assert (said.code, "name 'tiny' is invalid; expected the name of the file, 'second'" in said.err) == (2, True)
    assert submitted.call("gate", "sweep=tiny").code == 0


def test_a_name_by_override_may_not_be_that_of_another_file(submitted: Project) -> None:
    submitted.write("sweeps/second.yaml", CONF["sweeps/tiny.yaml"].replace("name: tiny", "name: second"))
    assert submitted.call("plan", "sweep=second").code == 0
    said = submitted.call("plan", "sweep=second", "sweep.name=tiny")
    assert (said.code, "sweeps/tiny.yaml is another sweep" in said.err) == (2, True)
    assert submitted.call("plan", "sweep=second", "sweep.name=third").code == 0


# --- a sweep that runs


def test_a_sweep_with_a_run_in_progress_says_running(project: Project) -> None:
    project.finish("sweep.seeds=[0,1,2]")
    space = project.workspace("sweep.seeds=[0,1,2,3]")
    run = space.store.run(space.runs.spec("less_code", 3).fingerprint)
    run.create(space.runs.spec("less_code", 3), space.runs.labels("less_code", 3))
    four = "sweep.seeds=[0,1,2,3]"
    with run.claim() as held:
        assert held
        run.update(state="training", step=1, steps=12)
        said = project.call("gate", "sweep=tiny", four)
        assert said.out.startswith("RUNNING: 1 run has no result yet: less_code s3.")
        assert project.json("gate", "sweep=tiny", four)["state"] == "RUNNING"
        status = project.call("status", "sweep=tiny", four)
        assert "RUNNING" in status.out
        assert project.json("status", "sweep=tiny", four)["state"] == "RUNNING"
        assert project.call("gate", "sweep=tiny", four, "--markdown").out.startswith("## RUNNING, ACCEPT so far")
    assert project.json("gate", "sweep=tiny", four)["state"] == "ENDED"
