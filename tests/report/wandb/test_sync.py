"""`assay sync` with a failing W&B server and with damaged records."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from assay.config.compose import compose
from assay.plan.workspace import Workspace
from assay.report.wandb.content import wandb_id
from assay.store.runs import RunDirectory
from tests.analysis.external.result_files import write
from tests.cli.invoke import Said, caller
from tests.cli.test_commands import CONF, TEXTS
from tests.helpers.finished import finish
from tests.report.wandb import wandb_stub

SYNC = ("sync", "sweep=tiny", "--send", "tracking.entity=team", "tracking.patience_seconds=2")


@pytest.fixture
def assay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Said]:
    """The command line in this process, in a project with two small sources and an API key for W&B's server."""
    for name, text in CONF.items():
        write(tmp_path / name, text)
    for name, text in TEXTS.items():
        write(
            tmp_path / f"{name}.jsonl", "\n".join(json.dumps({"text": text.format(i) * 20 + str(i)}) for i in range(60))
        )
        write(
            tmp_path / f"conf/source/{name}.yaml",
            f"{{files: [{name}.jsonl], domain: {name}, language: en, license: CC0-1.0, clearance: {{state: cleared, by: us}}}}",
        )
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    monkeypatch.chdir(tmp_path)
    return caller(monkeypatch, capsys)


@pytest.fixture
def runs(assay: Callable[..., Said]) -> list[RunDirectory]:
    """A trained and scored run of each mix; the other runs are missing."""
    space = Workspace(compose(["sweep=tiny"]))
    return [finish(space, mix, 0) for mix in ("half", "less_code")]


def test_a_failed_upload_is_explained_exits_with_2_and_is_repeated_by_the_next_call(
    assay: Callable[..., Said], runs: list[RunDirectory], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Records stay unchanged. Each cause is printed once, and `--report` is not tried after a failure."""
    before = {path: path.read_bytes() for run in runs for path in run.path.rglob("*") if path.is_file()}
    outages = {
        "the API key is refused": {"status": 401},
        "the server fails (HTTP 5xx)": {"status": 500},
        "the server did not answer in time": {"answers": False},
    }
    for explanation, outage in outages.items():
        with wandb_stub.serve(**outage) as (url, _):
            monkeypatch.setenv("WANDB_BASE_URL", url)
            result = assay(*SYNC, "--report")
        assert result.code == 2
        assert result.err.count("W&B: the ") == 1
        assert f"W&B: {explanation}" in result.err
        assert result.err.endswith(
            "7 of 7 runs were not published. The store still has these runs: repeat this command."
        )
    assert {path: path.read_bytes() for path in before} == before
    with wandb_stub.serve() as (url, received):
        monkeypatch.setenv("WANDB_BASE_URL", url)
        result = assay(*SYNC, "--json")
    assert (result.code, result.json["published"], result.json["missing"], result.json["problems"]) == (0, 7, 0, [])
    assert {wandb_id(run.fingerprint) for run in runs} < set(received.runs)


def test_damaged_items_of_many_runs_make_one_warning(assay: Callable[..., Said], runs: list[RunDirectory]) -> None:
    """The warning has their number, the first run, and the fix."""
    for run in runs:
        (evaluation,) = run.evaluations()
        (run.evaluation(evaluation) / "items.parquet").write_bytes(b"PAR1 damaged PAR1")
    result = assay("sync", "sweep=tiny", "tracking.mode=disabled")
    assert result.err.count("cannot read the items") == 1
    assert "cannot read the items of 2 runs (the first is half s0)." in result.err
    assert "submit the sweep again" in result.err
    assert f"{runs[0].fingerprint}/evaluations/{evaluation}" in result.err
