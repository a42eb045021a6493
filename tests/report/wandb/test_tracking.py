"""W&B has what the store has, published once, in bounded time, through W&B's real client."""

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

from assay.config.reason import stated
from assay.config.settings import Tracking
from assay.core.errors import AssayError
from assay.core.files import read_json
from assay.report import wandb
from assay.report.model import Report
from assay.report.wandb.comparisons import COMPARISON, sweep_contents
from assay.report.wandb.content import Content, cell, wandb_id
from assay.report.wandb.live import publish_live
from assay.report.wandb.publish import marker_of, recipe_versions
from assay.store.runs import Failure, RunDirectory, Store
from tests.helpers.evaluations import write_evaluation
from tests.launch.polling import until
from tests.report import page_data
from tests.report.wandb import wandb_stub

OFFLINE = Tracking(mode="offline", project="assay", entity=None)
ONLINE = Tracking(mode="online", project="assay", entity="team", sweep="sw1")
TAINT = "books has a finding: line numbers"
RECORDS = 20
PUBLISHED = 16
"""Six trained runs, of which one diverged; five evaluations; training data, two comparisons, verdict and audit."""


@pytest.fixture(scope="module")
def report() -> Report:
    return page_data.make(records=RECORDS, seeds=(0, 1), failed=(("cc_code_replace_cc", 1),))


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[pytest.MonkeyPatch]:
    """A home folder without keys, and an API key for the server."""
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
    """A store published offline, for tests that only read it: the first run, the diverged run, the sweep."""
    store = filled(tmp_path_factory.mktemp("offline") / "store", report)
    prepared = publications(store, report, settings=OFFLINE, places=(0, diverged(report)))
    assert [state.problem for state in wandb.publish(store, prepared, settings=OFFLINE)] == [None] * 8
    return store


@pytest.fixture
def copied(tmp_path: Path, offline: Store) -> Store:
    """A copy of the store published offline, for a test that changes it."""
    return Store(shutil.copytree(offline.root, tmp_path / "store"))


@pytest.fixture(scope="module")
def odd(
    tmp_path_factory: pytest.TempPathFactory, environment: pytest.MonkeyPatch
) -> tuple[list[wandb.Publication], list[wandb.Published]]:
    """Two runs of mixes with names of 500 characters, then a sweep without runs, with their published states."""
    names = {"web_and_github": "w" * 500, "cc_code_replace_cc": "w" * 499 + "x"}
    long, never = page_data.make(rename=names, records=10, failed=()), page_data.make(never=True)
    store = filled(tmp_path_factory.mktemp("odd") / "store", long)
    runs = publications(store, long, settings=OFFLINE, places=(0, 6))[:4]
    prepared = [*runs, *wandb.sweep_publications(store, never)]
    return prepared, wandb.publish(store, prepared, settings=OFFLINE)


@pytest.fixture(scope="module")
def served(
    tmp_path_factory: pytest.TempPathFactory, report: Report, environment: pytest.MonkeyPatch
) -> Iterator[tuple[str, Store, wandb_stub.Received, list[float]]]:
    """A server's address, a fully published store, what the server received, and the fractions that progress reported."""
    store, fractions = filled(tmp_path_factory.mktemp("online") / "store", report), list[float]()
    with wandb_stub.serve() as (url, received):
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("WANDB_BASE_URL", url)
            done = wandb.publish(store, publications(store, report), settings=ONLINE, progress=fractions.append)
        assert [(state.problem, state.sent) for state in done] == [(None, True)] * PUBLISHED
        assert received.unknown == []
        yield url, store, received, fractions


@pytest.fixture
def online(
    served: tuple[str, Store, wandb_stub.Received, list[float]], monkeypatch: pytest.MonkeyPatch
) -> tuple[Store, wandb_stub.Received, list[float]]:
    """The store and its server, whose address is set for one test only, since other tests use other servers."""
    monkeypatch.setenv("WANDB_BASE_URL", served[0])
    return served[1:]


def filled(folder: Path, report: Report) -> Store:
    store = Store(folder)
    page_data.fill(store, report)
    return store


def run_of(store: Store, report: Report, place: int = 0) -> RunDirectory:
    return store.run(report.runs[place].fingerprint or "")


def diverged(report: Report) -> int:
    return next(place for place, run in enumerate(report.runs) if run.state == "diverged")


def of_run(store: Store, report: Report, place: int = 0) -> dict[str, Any]:
    return {"run": run_of(store, report, place), "sweep": "code_replace", "evaluation": report.plan.evaluation}


def publications(
    store: Store, report: Report, *, settings: Tracking = ONLINE, places: tuple[int, ...] | None = None
) -> list[wandb.Publication]:
    """Return what `assay sync` publishes of the sweep, with all of its runs or some."""
    runs = []
    for place in range(len(report.runs)) if places is None else places:
        runs += wandb.run_publications(store, settings=settings, **of_run(store, report, place))
    return [*runs, *wandb.sweep_publications(store, report, taints=[stated(TAINT)])]


def publish(store: Store, report: Report, place: int = 0, settings: Tracking = OFFLINE) -> wandb.Published:
    done = wandb.publish_run(store, settings=settings, **of_run(store, report, place))
    assert done is not None
    return done


def folder_of(store: Store, identity: str) -> Path:
    (folder,) = store.wandb.glob(f"offline-run-*-{identity}")
    return folder


@functools.cache
def inspect(folder: Path, *options: str) -> str:
    """Return the output of `wandb leet inspect` from the program that it calls, which starts a second faster."""
    (file,) = folder.glob("*.wandb")
    spec = find_spec("wandb")
    assert spec is not None
    core = Path(spec.origin or "").parent / "bin" / "wandb-core"
    command = [core, "leet", "inspect", "--no-observability", "--json", *options, "--run-file", file, folder.parent]
    return subprocess.run(command, check=True, capture_output=True, text=True, stdin=subprocess.DEVNULL).stdout


def summary_of(folder: Path) -> dict[str, Any]:
    summary: dict[str, Any] = json.loads(inspect(folder, "--summary"))
    return summary


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
    return next(content for content in sweep_contents(report, taints=[stated(TAINT)]) if content.job_type == kind)


# --- content


def test_a_wandb_run_has_what_the_store_has(offline: Store, report: Report) -> None:
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


def test_history_is_by_tokens_and_equals_the_record(offline: Store, report: Report) -> None:
    folder, wanted = folder_of(offline, trained(report)), report.runs[0].history
    history = [record["item"] for record in records_of(folder, "history")]
    assert [row["tokens"] for row in history] == [record["tokens"] for record in wanted]
    assert [row["_step"] for row in history] == [record["step"] for record in wanted]
    for key in ("loss", "bits_per_byte", "lr", "grad_norm", "tokens_per_second"):
        assert [row[f"train/{key}"] for row in history] == [record[key] for record in wanted]
    assert history[0]["train/loss_by_source/books"] == wanted[0]["loss_by_source"]["books"]
    metrics = {metric.get("glob_name"): metric.get("step_metric") for metric in records_of(folder, "metric")}
    assert metrics["train/*"] == "tokens"


def test_interim_scores_are_curves_by_tokens(copied: Store, report: Report) -> None:
    """Each is in the first record logged after it was scored, with its own tokens; the final scores come last."""
    run, spec = run_of(copied, report), report.runs[0].spec
    assert spec is not None
    steps = [record["step"] for record in report.runs[0].history]
    taken = {steps[4]: 0.31, steps[4] + 1: 0.32, steps[9] - 1: 0.33}
    for step, value in taken.items():
        score = {"task": "mmlu", "metric": "acc", "value": value}
        write_evaluation(run.interim(step).evaluation(report.plan.evaluation), [score])
    (run.interim(steps[9]).path / "evaluations" / report.plan.evaluation).mkdir(parents=True)  # not scored yet
    folder = folder_of(copied, publish(copied, report).id)
    rows = [record["item"] for record in records_of(folder, "history")]
    final = next(s.value for s in report.runs[0].scores if (s.task, s.metric) == ("mmlu", "acc"))
    assert [
        (row["_step"], row["interim/tokens"] // spec.tokens_per_step, row["interim/mmlu/acc"])
        for row in rows
        if "interim/tokens" in row
    ] == [
        (steps[5], steps[4], 0.31),
        (steps[6], steps[4] + 1, 0.32),
        (steps[9], steps[9] - 1, 0.33),
        (spec.steps + 1, spec.steps, final),
    ]
    assert [row["train/loss"] for row in rows[:-1]] == [record["loss"] for record in report.runs[0].history]
    assert not [key for key in summary_of(folder)["summary"] if key.startswith("interim/mmlu")], (
        "they are no final scores"
    )


def test_a_run_has_a_name_a_group_tags_and_notes(offline: Store, report: Report) -> None:
    """The name is date, mix, proxy, budget, version, seed; the sweep is the group, and notes describe the run."""
    (run,) = records_of(folder_of(offline, trained(report)), "run")[:1]
    assert run["display_name"] == "261118_web_and_github_0.3m_492k_v1_s000"
    assert (run["run_group"], run["job_type"], run["project"]) == ("code_replace", "train", "assay")
    assert run["tags"] == ["web_and_github", "0.3m", "baseline", "done", "sweep:code_replace"]
    assert "web_cc 30.0%" in run["notes"]


def test_a_mix_with_changed_corpora_is_its_second_version(store: Store, report: Report) -> None:
    spec = report.runs[0].spec
    assert spec is not None
    later = replace(spec, corpora={**spec.corpora, "books": "f" * 64})
    store.run(later.fingerprint).create(later, run_of(store, report).labels())
    seeds = {versions for run, versions in recipe_versions(store).items() if run != later.fingerprint}
    assert (seeds, recipe_versions(store)[later.fingerprint]) == ({1}, 2)


def test_a_diverged_run_is_a_failed_run_with_its_reason(offline: Store, report: Report) -> None:
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
    assert any(None in figures for figures in wanted), "unknown figures are empty"
    for c in report.comparisons:
        assert seen["summary"][f"effect/{c.candidate}/{c.task}/{c.metric}"] == c.effect
    ids = [row[4] for row in table_of(folder, "runs")]
    assert ids == [wandb_id(run.fingerprint or "") for run in report.runs]


def test_a_sweep_without_a_finished_run_has_a_verdict_run_too(
    odd: tuple[list[wandb.Publication], list[wandb.Published]],
) -> None:
    prepared, done = odd
    assert [publication.content.job_type for publication in prepared[4:]] == ["prepare", "gate"]
    assert [state.problem for state in done[4:]] == [None, None], "the training data and the verdict"


def test_offline_an_artifact_names_its_inputs(offline: Store, report: Report) -> None:
    """The client cannot declare them there: its `use_artifact` raises."""
    made = {artifact["name"]: artifact for artifact in records_of(folder_of(offline, trained(report)), "artifact")}
    checkpoint = made[f"checkpoint-{(report.runs[0].fingerprint or '')[:12]}"]
    metadata = json.loads(checkpoint["metadata"])
    assert metadata["sha256"] == "a" * 64
    assert "mix-web_and_github" in metadata["from"]


# --- offline


def test_publishing_again_writes_nothing_and_recreates_deleted_folders(copied: Store, report: Report) -> None:
    before = {path: path.stat().st_mtime_ns for path in copied.wandb.rglob("*.wandb")}
    first = publish(copied, report)
    assert first.folder in {path.parent.name for path in before}
    assert {path: path.stat().st_mtime_ns for path in copied.wandb.rglob("*.wandb")} == before
    shutil.rmtree(copied.wandb)
    second = publish(copied, report)
    assert second.content == first.content
    assert folder_of(copied, first.id).name == second.folder


def test_new_scores_replace_published_ones(copied: Store, report: Report) -> None:
    """A run in two sweeps is one W&B run with both as tags and the first as its group."""
    run, first = run_of(copied, report), publish(copied, report)
    scores = [{**score, "value": 0.5} for score in run.scores(report.plan.evaluation)]
    write_evaluation(run.evaluation(report.plan.evaluation), scores)
    second = wandb.publish_run(copied, run, sweep="another", evaluation=report.plan.evaluation, settings=OFFLINE)
    assert second is not None
    assert (second.id, second.name, second.content != first.content) == (first.id, first.name, True)
    folder = folder_of(copied, trained(report))
    assert folder.name == second.folder
    assert summary_of(folder)["summary"]["eval/mmlu/acc"] == 0.5
    record = records_of(folder, "run")[0]
    assert record["run_group"] == "code_replace"
    assert {"sweep:code_replace", "sweep:another"} <= set(record["tags"])


def test_names_of_500_characters_are_cut_and_stay_unique(
    odd: tuple[list[wandb.Publication], list[wandb.Published]],
) -> None:
    prepared, done = odd[0][:4], odd[1][:4]
    assert [state.problem for state in done] == [None] * 4
    assert len({state.name for state in done}) == 4
    assert max(len(state.name) for state in done) <= 128
    assert max(len(tag) for publication in prepared for tag in publication.content.tags) <= 64
    assert (
        len(
            {
                artifact.name
                for publication in prepared
                for artifact in publication.content.uses
                if artifact.type == "mix"
            }
        )
        == 2
    )


def test_disabled_mode_publishes_nothing(store: Store, report: Report) -> None:
    settings = replace(OFFLINE, mode="disabled")
    assert wandb.publish_run(store, settings=settings, **of_run(store, report)) is None
    assert not store.wandb.exists()


def test_all_files_are_in_the_store_and_the_environment_is_unchanged(offline: Store) -> None:
    assert not [name for name in os.environ if name in ("WANDB_DATA_DIR", "WANDB_CACHE_DIR")]
    assert not list(Path(os.environ["HOME"]).rglob("*artifacts*"))


def test_a_failure_of_wandb_is_logged_and_the_next_call_tries_again(
    store: Store, report: Report, caplog: pytest.LogCaptureFixture
) -> None:
    store.wandb.write_text("a file in place of W&B's folder")
    for _ in range(2):  # the run does not count as published: the second call tries again
        caplog.clear()
        assert "exists" in (publish(store, report).problem or "").lower()
        assert "W&B did not get 261118_web_and_github_0.3m_492k_v1_s000" in caplog.text


# --- online


def test_the_server_has_the_figures_of_the_store(
    online: tuple[Store, wandb_stub.Received, list[float]], report: Report
) -> None:
    """Every record of every history, every score, every figure of every comparison."""
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
        content.config["candidate"]: received.runs[content.id]
        for content in sweep_contents(report)
        if content.job_type == "compare"
    }
    for c in report.comparisons:
        for figure in ("effect", "ci_low", "ci_high", "p_adjusted"):
            value = getattr(c, figure)
            if not math.isnan(value):  # unknown figures are not published
                assert compared[c.candidate].summary[f"{figure}/{c.task}/{c.metric}"] == value
                assert gate.summary[f"{figure}/{c.candidate}/{c.task}/{c.metric}"] == value


def test_publishing_again_sends_no_request(
    online: tuple[Store, wandb_stub.Received, list[float]], report: Report
) -> None:
    store, received, fractions = online
    requests = received.requests
    done = wandb.publish(store, publications(store, report), settings=ONLINE)
    assert [state.sent for state in done] == [True] * PUBLISHED
    assert received.requests == requests
    assert fractions == sorted(fractions)
    assert (fractions[0], fractions[-1]) == (0.0, 1.0)


def test_lineage_goes_from_source_to_verdict(
    online: tuple[Store, wandb_stub.Received, list[float]], report: Report
) -> None:
    _, received, _ = online
    runs = {run.fields["jobType"]: run for run in received.runs.values() if run.state == "finished"}
    assert set(runs) == {"prepare", "train", "eval", "compare", "gate", "audit"}
    kinds = {
        kind: ({name.split("/")[0] for name in run.used}, {name.split("/")[0] for name in run.logged} - {"run_table"})
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
    run = received.runs[trained(report)]
    assert "mix/mix-web_and_github" in run.used
    assert {artifact.state for artifact in received.artifacts.values()} == {"COMMITTED"}
    assert run.fields["sweep"] == "sw1"


def test_alerts_are_raised_once(online: tuple[Store, wandb_stub.Received, list[float]], report: Report) -> None:
    store, received, _ = online
    alerts = [alert["title"] for run in received.runs.values() for alert in run.alerts]
    verdicts = (
        []
        if report.verdict is None
        else [f"{v.decision}: {n} in code_replace" for n, v in report.verdict.candidates.items()]
    )
    assert sorted(alerts) == sorted(["cc_code_replace_cc s1 diverged", "code_replace is tainted", *verdicts])
    changed = [
        publication._replace(content=replace(publication.content, notes="x"))
        for publication in publications(store, report)[-2:-1]
    ]
    assert [state.sent for state in wandb.publish(store, changed, settings=ONLINE)] == [True]
    assert len([alert for run in received.runs.values() for alert in run.alerts]) == len(alerts)


def test_a_comparison_links_its_runs(online: tuple[Store, wandb_stub.Received, list[float]], report: Report) -> None:
    _, received, _ = online
    compare = received.runs[content_of(report, "compare").id]
    (table,) = [json.loads(body) for name, body in compare.files.items() if "tables/runs" in name]
    links = [row[4] for row in table["data"]]
    assert all("/team/assay/runs/" in link for link in links)
    assert {link.rpartition("/")[2] for link in links} <= set(received.runs)


def test_finished_runs_can_be_read_back_with_their_scores(
    online: tuple[Store, wandb_stub.Received, list[float]], report: Report
) -> None:
    """Reading uses W&B's public API and omits assay's runs that are no training."""
    from assay.analysis.external.wandb import rows_of
    from assay.analysis.external.wandb_api import finished_runs

    finished = finished_runs("team/assay")
    rows, _ = rows_of(finished, project="team/assay", fields={}, prefix="eval/", given={"scale": "1M"})
    wanted = {
        (run.mix, str(run.seed), score.task, score.metric): score.value for run in report.runs for score in run.scores
    }
    assert {(row["mix"], row["seed"], row["task"], row["metric"]): row["value"] for row in rows} == wanted
    assert len(rows) == len(wanted)
    assert {run.config["sweeps"][0] for run in finished} == {"code_replace"}


def test_offline_runs_can_be_sent_later_and_repeatedly(
    copied: Store, report: Report, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sending needs no offline folder, and sending twice creates one run."""
    prepared = wandb.run_publications(copied, settings=ONLINE, **of_run(copied, report))
    shutil.rmtree(copied.wandb)
    with wandb_stub.serve() as (url, received):
        monkeypatch.setenv("WANDB_BASE_URL", url)
        for _ in range(2):
            done = wandb.publish(copied, prepared, settings=ONLINE, again=True)
            assert [state.sent for state in done] == [True, True]
        seen = received.runs[trained(report)]
    assert [row["_step"] for row in seen.history] == [record["step"] for record in report.runs[0].history]
    assert sorted(seen.lines) == list(range(RECORDS))


def test_wandbs_own_sync_can_send_offline_runs(offline: Store, report: Report, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = folder_of(offline, trained(report))
    with wandb_stub.serve() as (url, received):
        monkeypatch.setenv("WANDB_BASE_URL", url)
        command = [sys.executable, "-m", "wandb", "sync", "--project", "assay", "--entity", "team", str(folder)]
        subprocess.run(command, check=True, capture_output=True, stdin=subprocess.DEVNULL, timeout=60)
    history = received.runs[trained(report)].history
    assert [row["train/loss"] for row in history] == [record["loss"] for record in report.runs[0].history]


def test_an_outage_costs_one_wait_and_unsent_runs_are_sent_later(
    store: Store, report: Report, monkeypatch: pytest.MonkeyPatch
) -> None:
    hurried = replace(ONLINE, patience_seconds=1.0)
    prepared = publications(store, report, places=(0, 1))[:-4]
    assert [publication.content.job_type for publication in prepared] == ["train", "eval", "train", "eval", "prepare"]
    for outage in ({"status": 401}, {"status": 500}, {"answers": False}):
        with wandb_stub.serve(**outage) as (url, _):
            monkeypatch.setenv("WANDB_BASE_URL", url)
            done = wandb.publish(store, prepared, settings=hurried)
        problems = [state.problem or "" for state in done]
        assert not any(state.sent for state in done), outage
        assert [problem == wandb.NOT_TRIED for problem in problems] == [True] * 4 + [False], (
            "only the run that others use was tried"
        )
        assert all(problems), outage
    with wandb_stub.serve() as (url, received):
        monkeypatch.setenv("WANDB_BASE_URL", url)
        assert [state.problem for state in wandb.publish(store, prepared, settings=ONLINE)] == [None] * len(prepared)
    assert len(received.runs) == len(prepared)


def test_a_damaged_marker_costs_one_more_publication(copied: Store, report: Report) -> None:
    marker_of(run_of(copied, report).path, "train").write_text('{"id"')
    assert publish(copied, report).problem is None
    assert folder_of(copied, trained(report)).is_dir(), "one folder, which replaces the previous one"


def test_the_users_own_wandb_settings_define_the_server(
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


def test_without_a_key_nothing_is_sent_and_no_prompt_appears(
    store: Store, report: Report, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("WANDB_API_KEY")
    with wandb_stub.serve() as (url, received):
        monkeypatch.setenv("WANDB_BASE_URL", url)
        published = publish(store, report, settings=ONLINE)
    assert not published.sent
    assert "No API key configured" in (published.problem or "")
    assert received.runs == {}


# --- live publication


class Training:
    """A run's record, written in the same order as training does."""

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


def test_a_requeued_run_resumes_in_the_same_wandb_run_with_a_complete_history(
    store: Store, report: Report, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = Training(store, report)
    monkeypatch.setenv("WANDB__STATS_SAMPLING_INTERVAL", "0.5")
    with wandb_stub.serve() as (url, received):
        monkeypatch.setenv("WANDB_BASE_URL", url)

        training.reach(8)
        with publish_live(store, settings=ONLINE, **of_run(store, report)) as answered:
            until(answered, "W&B's first answer")
            training.run.update(state="queued")  # the run was preempted
        first = received.runs[trained(report)]
        assert (first.state != "finished", len(first.lines)) == (True, 8)
        training.reach(6)  # back at its last checkpoint
        with publish_live(store, settings=ONLINE, **of_run(store, report)) as answered:
            until(answered, "W&B's answer to the second attempt")
            training.reach(RECORDS)
            training.end()
        (seen,) = [run for run in received.runs.values() if run.fields["jobType"] == "train"]
    assert [row["_step"] for row in seen.history] == [record["step"] for record in report.runs[0].history]
    assert [row["train/loss"] for row in seen.history] == [record["loss"] for record in report.runs[0].history]
    assert (seen.name, seen.state) == (trained(report), "finished")
    assert any("system.cpu" in event or any(key.startswith("system.") for key in event) for event in seen.events)


def test_a_run_that_diverges_during_live_publication_raises_an_alert(
    store: Store, report: Report, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = Training(store, report)
    with wandb_stub.serve() as (url, received):
        monkeypatch.setenv("WANDB_BASE_URL", url)
        training.reach(5)
        with publish_live(store, settings=ONLINE, **of_run(store, report)) as answered:
            until(answered, "W&B's answer")
            training.run.update(state="diverged", failure=Failure(kind="diverged", message="the loss is NaN"))
        seen = received.runs[trained(report)]
    assert [(alert["title"], alert["text"]) for alert in seen.alerts] == [
        ("web_and_github s0 diverged", "diverged: the loss is NaN")
    ]
    assert seen.state == "failed"


@pytest.mark.parametrize(("status", "answers"), [(500, True), (200, False)])
def test_a_run_does_not_wait_for_a_server_that_never_answered(
    store: Store, report: Report, monkeypatch: pytest.MonkeyPatch, status: int, answers: bool
) -> None:
    """The publishing process ends with the run, and nothing is tried again."""
    training = Training(store, report)
    with wandb_stub.serve(status=status, answers=answers) as (url, received):
        monkeypatch.setenv("WANDB_BASE_URL", url)
        training.reach(5)
        with publish_live(store, settings=ONLINE, **of_run(store, report)):
            until(lambda: received.requests > 0, "the first request")
            training.end()
        requests = received.requests
        assert training.run.status().state == "done"
        assert not list(training.run.path.glob("wandb-*.json"))
        assert received.requests == requests


def test_a_wandb_sweep_is_given_by_its_id() -> None:
    with pytest.raises(AssayError, match="expected the id of a W&B sweep"):
        replace(ONLINE, sweep="team/assay/sw1")
