"""What W&B has is what the store has, told once, in bounded time, through W&B's real client."""

from __future__ import annotations

import functools
import json
import math
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import shown
import wandb_stub
from tests.evaluations import write_evaluation
from tests.launch.waiting import until

from assay.errors import AssayError
from assay.files import read_json
from assay.publish import tracking
from assay.publish.report import Report
from assay.publish.tracking.comparisons import COMPARISON, sweep_contents
from assay.publish.tracking.content import Content, cell, wandb_id
from assay.publish.tracking.live import told as told_live
from assay.publish.tracking.publish import marker_of, recipe_versions
from assay.settings import Tracking
from assay.store import Failure, RunDirectory, Store

OFFLINE = Tracking(mode="offline", project="assay", entity=None)
ONLINE = Tracking(mode="online", project="assay", entity="team", sweep="sw1")
TAINT = "books has a finding: line numbers"
RECORDS = 20
TOLD = 16
"""Six trained runs, of which one diverged; five evaluations; what they train on, two comparisons, verdict and audit."""


@pytest.fixture(scope="module")
def report() -> Report:
    return shown.make(records=RECORDS, seeds=(0, 1), failed=(("cc_code_replace_cc", 1),))


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[pytest.MonkeyPatch]:
    """A home without anybody's keys, and a key for the server."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(tmp_path_factory.mktemp("home")))
        for name in [name for name in os.environ if name.startswith("WANDB_")]:
            patch.delenv(name)
        patch.setenv("WANDB_API_KEY", "0" * 40)
        yield patch


@pytest.fixture
def store(tmp_path: Path, report: Report, environment: pytest.MonkeyPatch) -> Store:
    return filled(tmp_path / "store", report)


@pytest.fixture(scope="module")
def offline(tmp_path_factory: pytest.TempPathFactory, report: Report, environment: pytest.MonkeyPatch) -> Store:
    """A store that was told of offline, for the tests that only read it: the first run, the diverged one, the sweep."""
    store = filled(tmp_path_factory.mktemp("offline") / "store", report)
    told = tellings(store, report, settings=OFFLINE, places=(0, diverged(report)))
    assert [one.problem for one in tracking.publish(store, told, settings=OFFLINE)] == [None] * 8
    return store


@pytest.fixture
def copied(tmp_path: Path, offline: Store) -> Store:
    """A store that was told of offline, for a test that goes on with it."""
    return Store(shutil.copytree(offline.root, tmp_path / "store"))


@pytest.fixture(scope="module")
def odd(
    tmp_path_factory: pytest.TempPathFactory, environment: pytest.MonkeyPatch
) -> tuple[list[tracking.Telling], list[tracking.Published]]:
    """Two runs of mixes with names of 500 characters, then a sweep that was never run, and what became of them."""
    names = {"web_and_github": "w" * 500, "cc_code_replace_cc": "w" * 499 + "x"}
    long, never = shown.make(rename=names, records=10, failed=()), shown.make(never=True)
    store = filled(tmp_path_factory.mktemp("odd") / "store", long)
    told = [*tellings(store, long, settings=OFFLINE, places=(0, 6))[:4], *tracking.sweep_tellings(store, never)]
    return told, tracking.publish(store, told, settings=OFFLINE)


@pytest.fixture(scope="module")
def served(
    tmp_path_factory: pytest.TempPathFactory, report: Report, environment: pytest.MonkeyPatch
) -> Iterator[tuple[str, Store, wandb_stub.Received, list[float]]]:
    """A server's address, a store that it was told all of, what it has, and the shares that progress went through."""
    store, shares = filled(tmp_path_factory.mktemp("online") / "store", report), list[float]()
    with wandb_stub.serve() as (url, received):
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("WANDB_BASE_URL", url)
            done = tracking.publish(store, tellings(store, report), settings=ONLINE, progress=shares.append)
        assert [(one.problem, one.sent) for one in done] == [(None, True)] * TOLD
        assert received.unknown == []
        yield url, store, received, shares


@pytest.fixture
def online(
    served: tuple[str, Store, wandb_stub.Received, list[float]], monkeypatch: pytest.MonkeyPatch
) -> tuple[Store, wandb_stub.Received, list[float]]:
    """The store and its server, whose address is set for this test only: others name servers of their own."""
    monkeypatch.setenv("WANDB_BASE_URL", served[0])
    return served[1:]


def filled(folder: Path, report: Report) -> Store:
    store = Store(folder)
    shown.fill(store, report)
    return store


def run_of(store: Store, report: Report, place: int = 0) -> RunDirectory:
    return store.run(report.runs[place].fingerprint or "")


def diverged(report: Report) -> int:
    return next(place for place, run in enumerate(report.runs) if run.state == "diverged")


def of_run(store: Store, report: Report, place: int = 0) -> dict[str, Any]:
    return {"run": run_of(store, report, place), "sweep": "code_replace", "evaluation": report.plan.evaluation}


def tellings(
    store: Store, report: Report, *, settings: Tracking = ONLINE, places: tuple[int, ...] | None = None
) -> list[tracking.Telling]:
    """The sweep as `assay sync` tells it, with all of its runs or some."""
    found = []
    for place in range(len(report.runs)) if places is None else places:
        found += tracking.run_tellings(store, settings=settings, **of_run(store, report, place))
    return [*found, *tracking.sweep_tellings(store, report, taints=[TAINT])]


def publish(store: Store, report: Report, place: int = 0, settings: Tracking = OFFLINE) -> tracking.Published:
    done = tracking.publish_run(store, settings=settings, **of_run(store, report, place))
    assert done is not None
    return done


def folder_of(store: Store, identity: str) -> Path:
    (folder,) = store.wandb.glob(f"offline-run-*-{identity}")
    return folder


@functools.cache
def inspect(folder: Path, *options: str) -> str:
    """What `wandb leet inspect` prints, from the program that it calls: Python and its client would take a second more."""
    (file,) = folder.glob("*.wandb")
    spec = find_spec("wandb")
    assert spec is not None
    core = Path(spec.origin or "").parent / "bin" / "wandb-core"
    command = [core, "leet", "inspect", "--no-observability", "--json", *options, "--run-file", file, folder.parent]
    return subprocess.run(command, check=True, capture_output=True, text=True, stdin=subprocess.DEVNULL).stdout


def summary_of(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(inspect(folder, "--summary"))
    return found


def records_of(folder: Path, kind: str) -> list[dict[str, Any]]:
    records = [json.loads(line) for line in inspect(folder).splitlines()]
    return [record[kind] for record in records if record["type"] == kind]


def table_of(folder: Path, name: str) -> list[list[Any]]:
    (file,) = (folder / "files" / "media" / "table" / "tables").glob(f"{name}_*.table.json")
    rows: list[list[Any]] = read_json(file)["data"]
    return rows


def trained(report: Report, place: int = 0) -> str:
    return wandb_id(report.runs[place].fingerprint or "")


def content_of(report: Report, kind: str) -> Content:
    return next(one for one in sweep_contents(report, taints=[TAINT]) if one.job_type == kind)


# --- what is told


def test_what_wandb_has_of_a_run_is_what_the_store_has(offline: Store, report: Report) -> None:
    folder, run = folder_of(offline, trained(report)), report.runs[0]
    seen = summary_of(folder)
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
    assert [row[:3] for row in table_of(folder, "evaluation")] == wanted
    assert len(table_of(folder, "delivered")) == len(run.delivered)


def test_history_is_by_tokens_and_equals_the_stores(offline: Store, report: Report) -> None:
    folder, wanted = folder_of(offline, trained(report)), report.runs[0].history
    history = [record["item"] for record in records_of(folder, "history")]
    assert [row["tokens"] for row in history] == [record["tokens"] for record in wanted]
    assert [row["_step"] for row in history] == [record["step"] for record in wanted]
    for key in ("loss", "bits_per_byte", "lr", "grad_norm", "tokens_per_second"):
        assert [row[f"train/{key}"] for row in history] == [record[key] for record in wanted]
    assert history[0]["train/loss_by_source/books"] == wanted[0]["loss_by_source"]["books"]
    metrics = {metric.get("glob_name"): metric.get("step_metric") for metric in records_of(folder, "metric")}
    assert metrics["train/*"] == "tokens"


def test_looks_while_it_trained_are_scores_by_tokens(copied: Store, report: Report) -> None:
    """Each goes with the first record that is told after it was scored, under its own tokens; the final scores come last."""
    run, spec = run_of(copied, report), report.runs[0].spec
    assert spec is not None
    steps = [record["step"] for record in report.runs[0].history]
    taken = {steps[4]: 0.31, steps[4] + 1: 0.32, steps[9] - 1: 0.33}
    for step, value in taken.items():
        score = {"task": "mmlu", "metric": "acc", "value": value}
        write_evaluation(run.look(step).evaluation(report.plan.evaluation), [score])
    (run.look(steps[9]).path / "evaluations" / report.plan.evaluation).mkdir(parents=True)  # not scored yet
    folder = folder_of(copied, publish(copied, report).id)
    rows = [record["item"] for record in records_of(folder, "history")]
    final = next(s.value for s in report.runs[0].scores if (s.task, s.metric) == ("mmlu", "acc"))
    assert [
        (row["_step"], row["looks/tokens"] // spec.tokens_per_step, row["looks/mmlu/acc"])
        for row in rows
        if "looks/tokens" in row
    ] == [
        (steps[5], steps[4], 0.31),
        (steps[6], steps[4] + 1, 0.32),
        (steps[9], steps[9] - 1, 0.33),
        (spec.steps + 1, spec.steps, final),
    ]
    assert [row["train/loss"] for row in rows[:-1]] == [record["loss"] for record in report.runs[0].history]
    assert not [key for key in summary_of(folder)["summary"] if key.startswith("looks/mmlu")], "they are no end scores"


def test_runs_need_no_tidying(offline: Store, report: Report) -> None:
    """Date, mix, proxy, budget, version, seed; the sweep is the group, and notes say what the run is."""
    (run,) = records_of(folder_of(offline, trained(report)), "run")[:1]
    assert run["display_name"] == "261118_web_and_github_0.3m_492k_v1_s000"
    assert (run["run_group"], run["job_type"], run["project"]) == ("code_replace", "train", "assay")
    assert run["tags"] == ["web_and_github", "0.3m", "baseline", "done", "sweep:code_replace"]
    assert "web_cc 30.0%" in run["notes"]


def test_a_mix_that_is_trained_on_other_corpora_is_its_second_version(store: Store, report: Report) -> None:
    spec = report.runs[0].spec
    assert spec is not None
    later = replace(spec, corpora={**spec.corpora, "books": "f" * 64})
    store.run(later.fingerprint).create(later, run_of(store, report).labels())
    seeds = {versions for run, versions in recipe_versions(store).items() if run != later.fingerprint}
    assert (seeds, recipe_versions(store)[later.fingerprint]) == ({1}, 2)


def test_a_run_that_diverged_is_a_failed_run_that_says_why(offline: Store, report: Report) -> None:
    folder = folder_of(offline, trained(report, diverged(report)))
    seen = summary_of(folder)
    assert (seen["state"], seen["exit_code"], seen["summary"]["state"]) == ("failed", 1, "diverged")
    assert "the loss is 9.125" in seen["summary"]["failure"]
    (alert,) = records_of(folder, "alert")
    assert alert["title"] == "cc_code_replace_cc s1 diverged"


def test_the_verdict_is_a_run_with_every_comparison(offline: Store, report: Report) -> None:
    folder = folder_of(offline, content_of(report, "gate").id)
    seen, rows = summary_of(folder), table_of(folder, "comparisons")
    assert seen["summary"]["verdict"] == report.decision
    assert len(rows) == len(report.comparisons)
    effect, low = COMPARISON.index("effect"), COMPARISON.index("ci_low")
    wanted = [(cell(c.effect), cell(c.ci_low)) for c in report.comparisons]
    assert [(row[effect], row[low]) for row in rows] == wanted
    assert any(None in figures for figures in wanted), "what is not known is left empty"
    for c in report.comparisons:
        assert seen["summary"][f"effect/{c.candidate}/{c.task}/{c.metric}"] == c.effect
    ids = [row[4] for row in table_of(folder, "runs")]
    assert ids == [wandb_id(run.fingerprint or "") for run in report.runs]


def test_a_sweep_without_a_finished_run_has_a_verdict_run_too(
    odd: tuple[list[tracking.Telling], list[tracking.Published]],
) -> None:
    told, done = odd
    assert [telling.content.job_type for telling in told[4:]] == ["prepare", "gate"]
    assert [one.problem for one in done[4:]] == [None, None], "what is trained on, and the verdict"


def test_offline_an_artifact_names_what_it_came_from(offline: Store, report: Report) -> None:
    """The client cannot say it there: its `use_artifact` raises."""
    made = {one["name"]: one for one in records_of(folder_of(offline, trained(report)), "artifact")}
    checkpoint = made[f"checkpoint-{(report.runs[0].fingerprint or '')[:12]}"]
    metadata = json.loads(checkpoint["metadata"])
    assert metadata["sha256"] == "a" * 64
    assert "mix-web_and_github" in metadata["from"]


# --- offline


def test_publishing_again_writes_nothing_and_what_was_deleted_is_made_again(copied: Store, report: Report) -> None:
    before = {path: path.stat().st_mtime_ns for path in copied.wandb.rglob("*.wandb")}
    first = publish(copied, report)
    assert first.folder in {path.parent.name for path in before}
    assert {path: path.stat().st_mtime_ns for path in copied.wandb.rglob("*.wandb")} == before
    shutil.rmtree(copied.wandb)
    second = publish(copied, report)
    assert second.content == first.content
    assert folder_of(copied, first.id).name == second.folder


def test_new_scores_take_the_place_of_what_was_there(copied: Store, report: Report) -> None:
    """And a run in two sweeps is one run, with both as tags and the first as its group."""
    run, first = run_of(copied, report), publish(copied, report)
    scores = [{**score, "value": 0.5} for score in run.scores(report.plan.evaluation)]
    write_evaluation(run.evaluation(report.plan.evaluation), scores)
    second = tracking.publish_run(copied, run, sweep="another", evaluation=report.plan.evaluation, settings=OFFLINE)
    assert second is not None
    assert (second.id, second.name, second.content != first.content) == (first.id, first.name, True)
    folder = folder_of(copied, trained(report))
    assert folder.name == second.folder
    assert summary_of(folder)["summary"]["eval/mmlu/acc"] == 0.5
    told = records_of(folder, "run")[0]
    assert told["run_group"] == "code_replace"
    assert {"sweep:code_replace", "sweep:another"} <= set(told["tags"])


def test_names_of_500_characters_are_cut_and_told_apart(
    odd: tuple[list[tracking.Telling], list[tracking.Published]],
) -> None:
    told, done = odd[0][:4], odd[1][:4]
    assert [one.problem for one in done] == [None] * 4
    assert len({one.name for one in done}) == 4
    assert max(len(one.name) for one in done) <= 128
    assert max(len(tag) for telling in told for tag in telling.content.tags) <= 64
    assert len({artifact.name for telling in told for artifact in telling.content.uses if artifact.type == "mix"}) == 2


def test_disabled_is_disabled(store: Store, report: Report) -> None:
    settings = replace(OFFLINE, mode="disabled")
    assert tracking.publish_run(store, settings=settings, **of_run(store, report)) is None
    assert not store.wandb.exists()


def test_all_files_are_in_the_store_and_the_environment_is_as_it_was(offline: Store) -> None:
    assert not [name for name in os.environ if name in ("WANDB_DATA_DIR", "WANDB_CACHE_DIR")]
    assert not list(Path(os.environ["HOME"]).rglob("*artifacts*"))


def test_a_failure_of_wandb_is_told_and_what_it_failed_at_is_tried_again(
    store: Store, report: Report, caplog: pytest.LogCaptureFixture
) -> None:
    store.wandb.write_text("a file, where W&B's folder has to be")
    for _ in range(2):  # it is not taken for told, but tried again
        caplog.clear()
        assert "exists" in (publish(store, report).problem or "").lower()
        assert "W&B was not told of 261118_web_and_github_0.3m_492k_v1_s000" in caplog.text


# --- online


def test_the_servers_figures_are_the_stores(
    online: tuple[Store, wandb_stub.Received, list[float]], report: Report
) -> None:
    """All of them: every record of every history, every score, every figure of every comparison."""
    _, received, _ = online
    for run in report.runs:
        seen = received.runs[wandb_id(run.fingerprint or "")]
        assert [row["_step"] for row in seen.history] == [record["step"] for record in run.history]
        for key in ("loss", "bits_per_byte", "lr", "grad_norm", "tokens_per_second"):
            assert [row[f"train/{key}"] for row in seen.history] == [record[key] for record in run.history]
        for name in run.spec.corpora if run.spec else ():
            losses = [row[f"train/loss_by_source/{name}"] for row in seen.history]
            assert losses == [record["loss_by_source"][name] for record in run.history]
        scores = {f"eval/{score.task}/{score.metric}": score.value for score in run.scores}
        assert {key: value for key, value in seen.summary.items() if key.startswith("eval/")} == scores
        assert seen.state == ("failed" if run.state == "diverged" else "finished")
    gate = received.runs[content_of(report, "gate").id]
    compared = {
        one.config["candidate"]: received.runs[one.id] for one in sweep_contents(report) if one.job_type == "compare"
    }
    for c in report.comparisons:
        for figure in ("effect", "ci_low", "ci_high", "p_adjusted"):
            value = getattr(c, figure)
            if not math.isnan(value):  # what is not known is not told
                assert compared[c.candidate].summary[f"{figure}/{c.task}/{c.metric}"] == value
                assert gate.summary[f"{figure}/{c.candidate}/{c.task}/{c.metric}"] == value


def test_told_again_the_server_is_not_even_asked(
    online: tuple[Store, wandb_stub.Received, list[float]], report: Report
) -> None:
    store, received, shares = online
    asked = received.requests
    done = tracking.publish(store, tellings(store, report), settings=ONLINE)
    assert [one.sent for one in done] == [True] * TOLD
    assert received.requests == asked
    assert shares == sorted(shares)
    assert (shares[0], shares[-1]) == (0.0, 1.0)


def test_lineage_goes_from_source_to_verdict(
    online: tuple[Store, wandb_stub.Received, list[float]], report: Report
) -> None:
    _, received, _ = online
    runs = {run.fields["jobType"]: run for run in received.runs.values() if run.state == "finished"}
    assert set(runs) == {"prepare", "train", "eval", "compare", "gate", "audit"}
    kinds = {
        kind: ({one.split("/")[0] for one in run.used}, {one.split("/")[0] for one in run.logged} - {"run_table"})
        for kind, run in runs.items()
    }
    assert kinds == {
        "prepare": ({"source"}, {"corpus", "mix"}),
        "train": ({"corpus", "mix"}, {"checkpoint"}),
        "eval": ({"checkpoint"}, {"evaluation"}),
        "compare": ({"evaluation"}, {"comparison"}),
        "gate": ({"comparison"}, {"verdict"}),
        "audit": (set(), set()),
    }
    one = received.runs[trained(report)]
    assert "mix/mix-web_and_github" in one.used
    assert {artifact.state for artifact in received.artifacts.values()} == {"COMMITTED"}
    assert one.fields["sweep"] == "sw1"


def test_whoever_does_not_look_is_alerted_once(
    online: tuple[Store, wandb_stub.Received, list[float]], report: Report
) -> None:
    store, received, _ = online
    alerts = [alert["title"] for run in received.runs.values() for alert in run.alerts]
    verdicts = (
        []
        if report.verdict is None
        else [f"{v.decision}: {n} in code_replace" for n, v in report.verdict.candidates.items()]
    )
    assert sorted(alerts) == sorted(["cc_code_replace_cc s1 diverged", "code_replace is tainted", *verdicts])
    changed = [
        telling._replace(content=replace(telling.content, notes="x")) for telling in tellings(store, report)[-2:-1]
    ]
    assert [one.sent for one in tracking.publish(store, changed, settings=ONLINE)] == [True]
    assert len([alert for run in received.runs.values() for alert in run.alerts]) == len(alerts)


def test_runs_are_linked_from_the_comparison_that_used_them(
    online: tuple[Store, wandb_stub.Received, list[float]], report: Report
) -> None:
    _, received, _ = online
    compare = received.runs[content_of(report, "compare").id]
    (table,) = [json.loads(body) for name, body in compare.files.items() if "tables/runs" in name]
    links = [row[4] for row in table["data"]]
    assert all("/team/assay/runs/" in link for link in links)
    assert {link.rpartition("/")[2] for link in links} <= set(received.runs)


def test_finished_runs_are_read_back_with_their_scores(
    online: tuple[Store, wandb_stub.Received, list[float]], report: Report
) -> None:
    """Through W&B's own public API; runs of assay's that are no training are left out."""
    from assay.imports.tracked import rows_of
    from assay.publish.wandb_runs import finished_runs

    found = finished_runs("team/assay")
    rows, _ = rows_of(found, project="team/assay", fields={}, prefix="eval/", given={"scale": "1M"})
    wanted = {
        (run.mix, str(run.seed), score.task, score.metric): score.value for run in report.runs for score in run.scores
    }
    assert {(row["mix"], row["seed"], row["task"], row["metric"]): row["value"] for row in rows} == wanted
    assert len(rows) == len(wanted)
    assert {run.config["sweeps"][0] for run in found} == {"code_replace"}


def test_sent_to_an_empty_server_again_it_has_everything(
    copied: Store, report: Report, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was written offline goes to a server later, without the folder that it was written to; twice, it stands once."""
    told = tracking.run_tellings(copied, settings=ONLINE, **of_run(copied, report))
    shutil.rmtree(copied.wandb)
    with wandb_stub.serve() as (url, received):
        monkeypatch.setenv("WANDB_BASE_URL", url)
        for _ in range(2):
            done = tracking.publish(copied, told, settings=ONLINE, again=True)
            assert [one.sent for one in done] == [True, True]
        seen = received.runs[trained(report)]
    assert [row["_step"] for row in seen.history] == [record["step"] for record in report.runs[0].history]
    assert sorted(seen.lines) == list(range(RECORDS))


def test_what_was_written_offline_is_sent_by_wandbs_own_sync_too(
    offline: Store, report: Report, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = folder_of(offline, trained(report))
    with wandb_stub.serve() as (url, received):
        monkeypatch.setenv("WANDB_BASE_URL", url)
        command = [sys.executable, "-m", "wandb", "sync", "--project", "assay", "--entity", "team", str(folder)]
        subprocess.run(command, check=True, capture_output=True, stdin=subprocess.DEVNULL, timeout=60)
    history = received.runs[trained(report)].history
    assert [row["train/loss"] for row in history] == [record["loss"] for record in report.runs[0].history]


def test_an_outage_is_waited_for_once_and_what_was_not_sent_is_sent_later(
    store: Store, report: Report, monkeypatch: pytest.MonkeyPatch
) -> None:
    hurried = replace(ONLINE, patience_seconds=1.0)
    told = tellings(store, report, places=(0, 1))[:-4]
    assert [telling.content.job_type for telling in told] == ["train", "eval", "train", "eval", "prepare"]
    for outage in ({"status": 401}, {"status": 500}, {"answers": False}):
        with wandb_stub.serve(**outage) as (url, _):
            monkeypatch.setenv("WANDB_BASE_URL", url)
            done = tracking.publish(store, told, settings=hurried)
        problems = [one.problem or "" for one in done]
        assert not any(one.sent for one in done), outage
        assert ["not tried" in problem for problem in problems] == [True] * 4 + [False], (
            "what others use was tried, alone"
        )
        assert all(problems), outage
    with wandb_stub.serve() as (url, received):
        monkeypatch.setenv("WANDB_BASE_URL", url)
        assert [one.problem for one in tracking.publish(store, told, settings=ONLINE)] == [None] * len(told)
    assert len(received.runs) == len(told)


def test_a_damaged_marker_costs_one_more_publication(copied: Store, report: Report) -> None:
    marker_of(run_of(copied, report).path, "train").write_text('{"id"')
    assert publish(copied, report).problem is None
    assert folder_of(copied, trained(report)).is_dir(), "one folder, in the place of the one before"


def test_the_users_own_wandb_settings_say_where_the_server_is(
    store: Store, report: Report, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    with wandb_stub.serve() as (url, received):
        settings = tmp_path / "home" / ".config" / "wandb" / "settings"
        settings.parent.mkdir(parents=True)
        settings.write_text(f"[default]\nbase_url = {url}\n")
        published = publish(store, report, settings=ONLINE)
    assert published.problem is None
    assert published.id in received.runs


def test_without_a_key_nothing_is_sent_and_nothing_asked(
    store: Store, report: Report, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("WANDB_API_KEY")
    with wandb_stub.serve() as (url, received):
        monkeypatch.setenv("WANDB_BASE_URL", url)
        published = publish(store, report, settings=ONLINE)
    assert not published.sent
    assert "No API key configured" in (published.problem or "")
    assert received.runs == {}


# --- while it is trained


class Training:
    """A run's record, written as training writes it."""

    def __init__(self, store: Store, report: Report) -> None:
        self.run = run_of(store, report)
        self.lines = self.run.metrics.read_text().splitlines(keepends=True)
        self.evaluation = self.run.evaluation(report.plan.evaluation)
        self.final = (self.run.path / "status.json").read_text()
        self.evaluation.rename(self.run.path / "aside")

    def reach(self, records: int) -> None:
        self.run.metrics.write_text("".join(self.lines[:records]))
        self.run.update(state="training", weights=None)

    def end(self) -> None:
        (self.run.path / "aside").rename(self.evaluation)
        (self.run.path / "status.json").write_text(self.final)


def test_a_requeued_run_goes_on_in_the_same_wandb_run_with_its_history_whole(
    store: Store, report: Report, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = Training(store, report)
    monkeypatch.setenv("WANDB__STATS_SAMPLING_INTERVAL", "0.5")
    with wandb_stub.serve() as (url, received):
        monkeypatch.setenv("WANDB_BASE_URL", url)

        training.reach(8)
        with told_live(store, settings=ONLINE, **of_run(store, report)) as heard:
            until(heard, "W&B's first answer")
            training.run.update(state="queued")  # it was asked to make room
        first = received.runs[trained(report)]
        assert (first.state != "finished", len(first.lines)) == (True, 8)
        training.reach(6)  # back at its last checkpoint
        with told_live(store, settings=ONLINE, **of_run(store, report)) as heard:
            until(heard, "W&B's answer to the second attempt")
            training.reach(RECORDS)
            training.end()
        (seen,) = [run for run in received.runs.values() if run.fields["jobType"] == "train"]
    assert [row["_step"] for row in seen.history] == [record["step"] for record in report.runs[0].history]
    assert [row["train/loss"] for row in seen.history] == [record["loss"] for record in report.runs[0].history]
    assert (seen.name, seen.state) == (trained(report), "finished")
    assert any("system.cpu" in event or any(key.startswith("system.") for key in event) for event in seen.events)


def test_a_run_that_diverges_while_it_is_watched_is_an_alert(
    store: Store, report: Report, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = Training(store, report)
    with wandb_stub.serve() as (url, received):
        monkeypatch.setenv("WANDB_BASE_URL", url)
        training.reach(5)
        with told_live(store, settings=ONLINE, **of_run(store, report)) as heard:
            until(heard, "W&B's answer")
            training.run.update(state="diverged", failure=Failure(kind="diverged", message="the loss is NaN"))
        seen = received.runs[trained(report)]
    assert [(alert["title"], alert["text"]) for alert in seen.alerts] == [
        ("web_and_github s0 diverged", "diverged: the loss is NaN")
    ]
    assert seen.state == "failed"


@pytest.mark.parametrize(("status", "answers"), [(500, True), (200, False)])
def test_a_run_does_not_wait_for_a_server_that_was_not_heard_of(
    store: Store, report: Report, monkeypatch: pytest.MonkeyPatch, status: int, answers: bool
) -> None:
    """Its process is ended with it, and no second try is made."""
    training = Training(store, report)
    with wandb_stub.serve(status=status, answers=answers) as (url, received):
        monkeypatch.setenv("WANDB_BASE_URL", url)
        training.reach(5)
        with told_live(store, settings=ONLINE, **of_run(store, report)):
            until(lambda: received.requests > 0, "the server being asked")
            training.end()
        asked = received.requests
        assert training.run.status().state == "done"
        assert not list(training.run.path.glob("wandb-*.json"))
        assert received.requests == asked


def test_a_wandb_sweep_is_named_by_its_id() -> None:
    with pytest.raises(AssayError, match="Give the sweep's id alone"):
        replace(ONLINE, sweep="team/assay/sw1")
