"""The debug executor: all work happens in the calling process, so that a debugger can inspect it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import pytest

from assay.core.files import read_json
from assay.corpus.encoder import TextEncoder
from assay.launch.submit import submit
from tests.corpus import user_tokenizers as users
from tests.corpus.user_tokenizers import write_tokenizer

if TYPE_CHECKING:
    from assay.store.runs import RunDirectory
    from tests.launch.conftest import MakeWorkspace


def test_all_work_happens_in_this_process(workspace: MakeWorkspace) -> None:
    space = workspace(cluster__executor="debug", sweep__seeds=[0])
    sent = submit(space, space.planner.plan())
    for run in space.store.runs():
        status = run.status()
        assert (status.state, status.pid, status.attempt) == ("done", os.getpid(), 1)
        assert run.evaluated(sent.evaluation.fingerprint)
    assert submit(space, space.planner.plan()) is None


def test_a_users_tokenizer_reaches_the_model_without_its_template(workspace: MakeWorkspace) -> None:
    root = Path(workspace().study.paths.root)
    write_tokenizer(users.template("<begin>", "$A", users.END), root / "given", config={"eos_token": users.END})
    declared = {"name": "ours", "file": "given"}
    space = workspace(cluster__executor="debug", sweep__seeds=[0], tokenizer=declared)
    sent = submit(space, space.planner.plan())
    run = space.store.run(sent.runs[0].fingerprint)
    assert run.evaluated(sent.evaluation.fingerprint)
    model = TextEncoder.open(run.model)
    assert model.tokenizer.post_processor is None
    assert read_json(run.model / "config.json")["eos_token_id"] == model.end
    task = read_json(run.evaluation(sent.evaluation.fingerprint) / "scores.json")["tasks"]["validation/web"]
    assert "lost_bytes" not in task


def test_an_exception_reaches_the_debugger_and_is_recorded(workspace: MakeWorkspace) -> None:
    space = workspace(cluster__executor="debug", sweep__seeds=[0])
    plan = space.planner.plan()
    run = space.store.run(plan.runs[0].fingerprint)
    run.metrics.mkdir(parents=True)  # a folder in place of a file
    with pytest.raises(IsADirectoryError):
        submit(space, plan)
    assert run.status().state == "failed"
    assert run.status().failure.kind == "IsADirectoryError"


def test_ctrl_c_releases_the_run(workspace: MakeWorkspace, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any, **__: Any) -> NoReturn:
        raise KeyboardInterrupt

    monkeypatch.setattr("assay.train.loop.train", interrupted)
    space = workspace(cluster__executor="debug", sweep__seeds=[0])
    plan = space.planner.plan()
    with pytest.raises(KeyboardInterrupt):
        submit(space, plan)
    assert space.store.run(plan.runs[0].fingerprint).status().state == "queued"


def test_finished_work_is_not_repeated(workspace: MakeWorkspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """Evaluating the same runs for another sweep trains nothing."""
    space = workspace(cluster__executor="debug", sweep__seeds=[0])
    submit(space, space.planner.plan())
    weights = {run.fingerprint: run.status().weights for run in space.store.runs()}

    def train(*_: Any, **__: Any) -> NoReturn:
        pytest.fail("trained again")

    monkeypatch.setattr("assay.train.loop.train", train)
    other = workspace(cluster__executor="debug", sweep__name="another", sweep__seeds=[0], suite__validation_bytes=5_000)
    assert other.store.root == space.store.root
    submit(other, other.planner.plan())
    for run in other.store.runs():
        assert run.status().weights == weights[run.fingerprint]
        assert run.evaluated(space.runs.evaluation.fingerprint)
        assert run.evaluated(other.runs.evaluation.fingerprint)


def test_a_finished_run_is_reported_to_wandb_whose_errors_do_not_affect_it(
    workspace: MakeWorkspace, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    reports = []

    def publish(_: Any, run: RunDirectory, *, sweep: str, evaluation: str, **__: Any) -> NoReturn:
        reports.append((run.fingerprint, sweep, run.evaluated(evaluation)))
        raise OSError("no W&B today")

    monkeypatch.setattr("assay.report.wandb.publish_run", publish)
    space = workspace(cluster__executor="debug", sweep__seeds=[0])
    sent = submit(space, space.planner.plan())
    assert sent is not None
    assert reports == [(run.fingerprint, "tiny", True) for run in sent.runs]
    assert [run.status().state for run in space.store.runs()] == ["done"] * 3
    assert "no W&B today" in caplog.text
