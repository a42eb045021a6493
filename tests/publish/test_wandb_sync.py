"""`assay sync`, as people and machines call it, where W&B does not take what it is told, and where a record is damaged."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import wandb_stub
from tests.cli.calls import Said, caller
from tests.cli.test_commands import CONF, TEXTS
from tests.finished import finish
from tests.imports.files import write

from assay.cli.compose import compose
from assay.publish.tracking.content import wandb_id
from assay.store import RunDirectory
from assay.workspace import Workspace

SYNC = ("sync", "sweep=tiny", "--send", "tracking.entity=team", "tracking.patience_seconds=2")


@pytest.fixture
def assay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Said]:
    """The command line, in this process, in a project with two small sources and a key for W&B's server."""
    for name, text in CONF.items():
        write(tmp_path / name, text)
    for name, text in TEXTS.items():
        write(
            tmp_path / f"{name}.jsonl", "\n".join(json.dumps({"text": text.format(i) * 20 + str(i)}) for i in range(60))
        )
        write(
            tmp_path / f"conf/source/{name}.yaml",
            f"{{files: [{name}.jsonl], domain: {name}, language: en, licence: CC0-1.0, clearance: {{state: cleared, by: us}}}}",
        )
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    monkeypatch.chdir(tmp_path)
    return caller(monkeypatch, capsys)


@pytest.fixture
def runs(assay: Callable[..., Said]) -> list[RunDirectory]:
    """A run of each mix, trained and scored; the others are missing."""
    space = Workspace(compose(["sweep=tiny"]))
    return [finish(space, mix, 0) for mix in ("half", "less_code")]


def test_what_wandb_does_not_take_is_said_in_words_exits_with_2_and_is_sent_by_the_next_call(
    assay: Callable[..., Said], runs: list[RunDirectory], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Records are as they were. Of several causes one is said once, and `--report` is not tried after it."""
    before = {path: path.read_bytes() for run in runs for path in run.path.rglob("*") if path.is_file()}
    outages = {
        "the API key is refused": {"status": 401},
        "the server fails (HTTP 5xx)": {"status": 500},
        "the server did not answer in time": {"answers": False},
    }
    for words, outage in outages.items():
        with wandb_stub.serve(**outage) as (url, _):
            monkeypatch.setenv("WANDB_BASE_URL", url)
            said = assay(*SYNC, "--report")
        assert said.code == 2
        assert said.err.count("W&B: the ") == 1
        assert f"W&B: {words}" in said.err
        assert said.err.endswith("7 of 7 runs are not there yet. The store has them: call this again.")
    assert {path: path.read_bytes() for path in before} == before
    with wandb_stub.serve() as (url, received):
        monkeypatch.setenv("WANDB_BASE_URL", url)
        said = assay(*SYNC, "--json")
    assert (said.code, said.json["published"], said.json["missing"], said.json["problems"]) == (0, 7, 0, [])
    assert {wandb_id(run.fingerprint) for run in runs} < set(received.runs)


def test_damaged_questions_of_many_runs_are_one_line(assay: Callable[..., Said], runs: list[RunDirectory]) -> None:
    """It counts them, names the first, and says what to do."""
    for run in runs:
        (evaluation,) = run.evaluations()
        (run.evaluation(evaluation) / "items.parquet").write_bytes(b"PAR1 damaged PAR1")
    said = assay("sync", "sweep=tiny", "tracking.mode=disabled")
    assert said.err.count("cannot be read") == 1
    assert "the questions of 2 runs cannot be read: half s0 is the first." in said.err
    assert "submit again" in said.err
    assert f"{runs[0].fingerprint}/evaluations/{evaluation}" in said.err
