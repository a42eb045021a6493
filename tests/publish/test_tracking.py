from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import shown
import wandb_stub
from tests.evaluations import write_evaluation

from assay.errors import AssayError
from assay.files import read_json
from assay.publish import tracked, tracking
from assay.publish.report import Report
from assay.settings import Tracking
from assay.store import RunDirectory, Store

OFFLINE = Tracking(mode="offline", project="assay", entity=None)
ONLINE = Tracking(mode="online", project="assay", entity="team")


@pytest.fixture(scope="module")
def report() -> Report:
    return shown.make(records=40)


@pytest.fixture
def store(tmp_path: Path, report: Report, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    store = Store(tmp_path / "store")
    shown.fill(store, report)
    return store


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory, report: Report) -> Path:
    """The offline run of the first run, for the tests that only read it."""
    store = Store(tmp_path_factory.mktemp("told") / "store")
    shown.fill(store, report)
    published = publish(store, report)
    assert published.problem is None
    assert offline_runs(store) == [store.wandb / (published.folder or "")]
    return offline_runs(store)[0]


def run_of(store: Store, report: Report, place: int = 0) -> RunDirectory:
    return store.run(report.runs[place].fingerprint or "")


def publish(store: Store, report: Report, place: int = 0, settings: Tracking = OFFLINE) -> tracking.Published:
    done = tracking.publish_run(
        store, run_of(store, report, place), sweep="code_replace", evaluation=report.plan.evaluation, settings=settings
    )
    assert done is not None
    return done


def offline_runs(store: Store) -> list[Path]:
    return sorted(store.wandb.glob("offline-run-*"))


@functools.cache
def inspect(folder: Path, *options: str) -> str:
    (file,) = folder.glob("*.wandb")
    command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", *options, str(file)]
    return subprocess.run(command, check=True, capture_output=True, text=True, stdin=subprocess.DEVNULL).stdout


def summary_of(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(inspect(folder, "--summary"))
    return found


def records_of(folder: Path, kind: str) -> list[dict[str, Any]]:
    records = [json.loads(line) for line in inspect(folder).splitlines()]
    return [record[kind] for record in records if record["type"] == kind]


def table_of(folder: Path, name: str) -> list[list[Any]]:
    (file,) = (folder / "files" / "media" / "table").glob(f"{name}_*.table.json")
    rows: list[list[Any]] = read_json(file)["data"]
    return rows


def test_what_wandb_has_of_a_run_is_what_the_store_has(told: Path, report: Report) -> None:
    seen, run = summary_of(told), report.runs[0]
    assert run.spec is not None
    assert run.result is not None
    scores = {f"eval/{score.task}/{score.metric}": score.value for score in run.scores}
    assert {key: value for key, value in seen["summary"].items() if key.startswith("eval/")} == scores
    config = seen["config"]
    assert (config["fingerprint"], config["evaluation"]) == (run.fingerprint, report.plan.evaluation)
    assert config["spec"]["corpora"] == run.spec.corpora
    given = {part.source: part.tokens for part in run.delivered}
    assert {name: part["tokens"] for name, part in config["delivered"].items()} == given
    assert seen["state"] == "finished"
    wanted = [[score["task"], score["metric"], score["value"]] for score in run.result.scores or ()]
    assert [row[:3] for row in table_of(told, "evaluation")] == wanted
    assert len(table_of(told, "delivered")) == len(run.delivered)


def test_history_is_by_tokens_and_equals_the_stores(told: Path, report: Report) -> None:
    history = [record["item"] for record in records_of(told, "history")]
    wanted = report.runs[0].history
    assert [row["tokens"] for row in history] == [record["tokens"] for record in wanted]
    assert [row["_step"] for row in history] == [record["step"] for record in wanted]
    for key in ("loss", "bits_per_byte", "lr", "grad_norm", "tokens_per_second"):
        assert [row[f"train/{key}"] for row in history] == [record[key] for record in wanted]
    assert history[0]["train/loss_by_source/books"] == wanted[0]["loss_by_source"]["books"]
    metrics = {metric.get("glob_name"): metric.get("step_metric") for metric in records_of(told, "metric")}
    assert metrics["train/*"] == "tokens"


def test_runs_need_no_tidying(told: Path, report: Report) -> None:
    (run,) = records_of(told, "run")
    assert run["display_name"] == "261118_web_and_github_0.3m_s000"
    assert (run["run_group"], run["job_type"], run["project"]) == ("code_replace", "train", "assay")
    assert run["tags"] == ["web_and_github", "0.3m", "baseline", "done", "sweep:code_replace"]
    assert run["run_id"] == (report.runs[0].fingerprint or "")[:32]


def test_publishing_again_writes_nothing(store: Store, report: Report) -> None:
    first = publish(store, report)
    before = {path: path.stat().st_mtime_ns for path in store.wandb.rglob("*.wandb")}
    assert publish(store, report) == first
    assert {path: path.stat().st_mtime_ns for path in store.wandb.rglob("*.wandb")} == before


def test_new_scores_take_the_place_of_what_was_there(store: Store, report: Report) -> None:
    first, run = publish(store, report), run_of(store, report)
    scores = [{**score, "value": 0.5} for score in run.scores(report.plan.evaluation)]
    write_evaluation(run.evaluation(report.plan.evaluation), scores)
    second = publish(store, report)
    assert (second.id, second.content != first.content) == (first.id, True)
    assert [path.name for path in offline_runs(store)] == [second.folder]
    assert summary_of(offline_runs(store)[0])["summary"]["eval/mmlu/acc"] == 0.5


def test_what_was_deleted_is_made_again(store: Store, report: Report) -> None:
    import shutil

    first = publish(store, report)
    shutil.rmtree(store.wandb)
    second = publish(store, report)
    assert second.content == first.content
    assert len(offline_runs(store)) == 1


def test_a_run_in_two_sweeps_is_one_run_with_both_as_tags(store: Store, report: Report) -> None:
    publish(store, report)
    tracking.publish_run(
        store, run_of(store, report), sweep="another", evaluation=report.plan.evaluation, settings=OFFLINE
    )
    (folder,) = offline_runs(store)
    (run,) = records_of(folder, "run")
    assert run["run_group"] == "code_replace"
    assert {"sweep:code_replace", "sweep:another"} <= set(run["tags"])


def test_a_run_that_diverged_is_a_failed_run_that_says_why(store: Store, report: Report) -> None:
    place = next(place for place, run in enumerate(report.runs) if run.state == "diverged")
    seen = summary_of(store.wandb / (publish(store, report, place).folder or ""))
    assert (seen["state"], seen["exit_code"], seen["summary"]["state"]) == ("failed", 1, "diverged")
    assert "the loss is 9.125" in seen["summary"]["failure"]


def test_the_verdict_is_a_run_with_every_comparison(store: Store, report: Report) -> None:
    published = tracking.publish_verdict(store, report, settings=OFFLINE)
    assert published is not None
    assert tracking.publish_verdict(store, report, settings=OFFLINE) == published
    folder = store.wandb / (published.folder or "")
    seen, rows = summary_of(folder), table_of(folder, "comparisons")
    assert seen["summary"]["verdict"] == report.decision
    assert len(rows) == len(report.comparisons)
    effect, low = tracked.COMPARISON.index("effect"), tracked.COMPARISON.index("ci_low")
    assert [(row[effect], row[low]) for row in rows] == [(c.effect, c.ci_low) for c in report.comparisons]
    for c in report.comparisons:
        assert seen["summary"][f"effect/{c.candidate}/{c.task}/{c.metric}"] == c.effect
    ids = [row[4] for row in table_of(folder, "runs")]
    assert ids == [tracked.wandb_id(run.fingerprint or "") for run in report.runs]
    (run,) = records_of(folder, "run")
    assert (run["job_type"], run["run_group"]) == ("gate", "code_replace")


def test_a_sweep_without_a_finished_run_has_a_verdict_run_too(store: Store) -> None:
    published = tracking.publish_verdict(store, shown.make(never=True), settings=OFFLINE)
    assert published is not None
    assert published.problem is None


def test_names_of_500_characters_are_cut_and_told_apart(store: Store) -> None:
    names = {"web_and_github": "w" * 500, "cc_code_replace_cc": "w" * 499 + "x"}
    long = shown.make(rename=names, records=10, failed=())
    shown.fill(store, long)
    one, other = publish(store, long, 0), publish(store, long, 6)
    assert (one.problem, other.problem) == (None, None)
    assert one.name != other.name
    assert len(one.name) <= 128
    (run,) = records_of(store.wandb / (one.folder or ""), "run")
    assert max(map(len, run["tags"])) <= 64


def test_disabled_is_disabled(store: Store, report: Report) -> None:
    settings = Tracking(mode="disabled", project="assay", entity=None)
    run = run_of(store, report)
    assert tracking.publish_run(store, run, sweep="s", evaluation="e", settings=settings) is None
    assert tracking.publish_verdict(store, report, settings=settings) is None
    assert not store.wandb.exists()


def test_all_files_are_in_the_store_and_the_environment_is_as_it_was(store: Store, report: Report) -> None:
    before = dict(os.environ)
    publish(store, report)
    assert dict(os.environ) == before
    assert not (store.root.parent / "home").exists()


def test_a_failure_of_wandb_is_told_and_costs_the_run_nothing(
    store: Store, report: Report, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import wandb

    def broken(**_: object) -> None:
        raise wandb.errors.CommError("no")

    monkeypatch.setattr(wandb, "init", broken)
    published = publish(store, report)
    assert published.folder is None
    assert "CommError: no" in (published.problem or "")
    assert "W&B was not told" in caplog.text
    monkeypatch.undo()
    assert publish(store, report).problem is None


def test_a_damaged_marker_costs_one_more_publication(store: Store, report: Report) -> None:
    publish(store, report)
    (run_of(store, report).path / tracking.MARKER).write_text('{"id"')
    assert publish(store, report).problem is None
    assert len(offline_runs(store)) == 1


@pytest.fixture
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)


def test_online_the_server_gets_every_record_once(
    store: Store, report: Report, monkeypatch: pytest.MonkeyPatch, key: None
) -> None:
    with wandb_stub.serve() as (url, received):
        monkeypatch.setenv("WANDB_BASE_URL", url)
        published = publish(store, report, settings=ONLINE)
        assert (published.sent, published.problem) == (True, None)
        requests = received.requests
        assert publish(store, report, settings=ONLINE) == published
        assert received.requests == requests
    wanted = report.runs[0]
    run = received.runs[published.id]
    assert (run["project"], run["entity"], run["groupName"]) == ("assay", "team", "code_replace")
    history = [received.history[published.id][line] for line in sorted(received.history[published.id])]
    assert [row["train/loss"] for row in history] == [record["loss"] for record in wanted.history]
    for score in wanted.scores:
        assert received.summary[published.id][f"eval/{score.task}/{score.metric}"] == score.value


@pytest.mark.parametrize("status", [401, 500])
def test_what_could_not_be_sent_is_sent_the_next_time(
    store: Store, report: Report, monkeypatch: pytest.MonkeyPatch, key: None, status: int
) -> None:
    monkeypatch.setattr(tracking, "SEND_SECONDS", 5.0)
    with wandb_stub.serve(status=status) as (url, _):
        monkeypatch.setenv("WANDB_BASE_URL", url)
        refused = publish(store, report, settings=ONLINE)
    assert not refused.sent
    assert "did not take" in (refused.problem or "")
    folder = offline_runs(store)
    with wandb_stub.serve() as (url, received):
        monkeypatch.setenv("WANDB_BASE_URL", url)
        monkeypatch.setattr(tracking, "SEND_SECONDS", 60.0)
        sent = publish(store, report, settings=ONLINE)
    assert (sent.sent, sent.problem, sent.folder) == (True, None, refused.folder)
    assert offline_runs(store) == folder
    assert list(received.runs) == [sent.id]


def test_the_users_own_wandb_settings_say_where_the_server_is(
    store: Store, report: Report, key: None, tmp_path: Path
) -> None:
    with wandb_stub.serve() as (url, received), tracking.session(store):
        settings = tmp_path / "home" / ".config" / "wandb" / "settings"
        settings.parent.mkdir(parents=True)
        settings.write_text(f"[default]\nbase_url = {url}\n")
        published = publish(store, report, settings=ONLINE)
    assert published.problem is None
    assert list(received.runs) == [published.id]


def test_without_a_key_nothing_is_sent_and_nothing_asked(
    store: Store, report: Report, monkeypatch: pytest.MonkeyPatch
) -> None:
    with wandb_stub.serve() as (url, received):
        monkeypatch.setenv("WANDB_BASE_URL", url)
        published = publish(store, report, settings=ONLINE)
    assert not published.sent
    assert "did not take" in (published.problem or "")
    assert received.runs == {}


def test_a_server_that_never_answers_is_waited_for_once(
    store: Store, report: Report, monkeypatch: pytest.MonkeyPatch, key: None
) -> None:
    publish(store, report)
    (folder,) = offline_runs(store)
    with wandb_stub.serve(answers=False) as (url, received):
        monkeypatch.setenv("WANDB_BASE_URL", url)
        with tracking.session(store):  # the order tells what is kept over both
            with pytest.raises(AssayError, match="within 3 s"):
                tracking.send(folder, ONLINE, seconds=3)
            asked = received.requests
            with pytest.raises(AssayError, match="a moment ago"):
                tracking.send(folder, ONLINE, seconds=3)
            assert received.requests == asked
