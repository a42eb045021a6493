"""The site on loopback: every page renders for every content of the store."""

from __future__ import annotations

import csv
import http.client
import io
import json
import os
import threading
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pytest

from assay.core.files import write_json
from assay.report.site.run_index import UNREADABLE, RunIndex, filter_runs
from assay.report.site.server import SiteServer
from assay.report.site.summaries import CandidateSummary, DataCatalog, SweepMember, SweepSummary, VerdictSummary
from assay.report.site.sweep_history import collect_history
from assay.report.site.views import PAGE, SiteResponse, StoreSite
from assay.store.runs import Store
from tests.report import page_data
from tests.report.test_page import Elements

RTL = "\u202e"
"""Reverses the direction of the following text."""
LONG = "n" * 500
PATHS = (
    "",
    "runs",
    "mixes",
    "sources",
    "verdicts",
    "history",
    "search",
    "search?q=a",
    "runs.csv",
    "sweeps/code_replace",
)


class FixedProject:
    """Project view with fixed sweeps and verdicts."""

    def __init__(self, *sweeps: SweepSummary, verdicts: tuple[VerdictSummary, ...] = ()) -> None:
        self._sweeps = {sweep.name: sweep for sweep in sweeps}
        self._verdicts = {verdict.sweep: verdict for verdict in verdicts}

    def sweeps(self) -> dict[str, SweepSummary]:
        return self._sweeps

    def catalog(self) -> DataCatalog:
        return DataCatalog()

    def verdict(self, sweep: str) -> tuple[VerdictSummary | None, bool]:
        return self._verdicts.get(sweep), True

    def page(self, sweep: str) -> str | None:
        del sweep
        return None


def make_site(store: Store, *sweeps: SweepSummary, verdicts: tuple[VerdictSummary, ...] = ()) -> StoreSite:
    return StoreSite(store, FixedProject(*sweeps, verdicts=verdicts), RunIndex(store.root), title="team")


def request(site: StoreSite, path: str) -> SiteResponse:
    path, _, query = path.partition("?")
    return site.respond(
        [part for part in path.split("/") if part], dict(part.split("=") for part in query.split("&") if part)
    )


def make_sweep(**changes: object) -> SweepSummary:
    report = page_data.make()
    members = tuple(SweepMember(run.mix, run.seed, run.fingerprint) for run in report.runs)
    sweep = SweepSummary(
        name="code_replace",
        question=report.sweep.question,
        baseline=report.sweep.baseline,
        candidates=report.sweep.candidates,
        seeds=report.sweep.seeds,
        proxy="0.3m",
        tokens=report.budget,
        policy="code",
        members=members,
    )
    return replace(sweep, **changes)  # type: ignore[arg-type]  # the names of its fields


@pytest.fixture
def filled(tmp_path: Path) -> Store:
    store = Store(tmp_path / "store")
    page_data.fill(store, page_data.make())
    return store


def test_every_page_renders_for_an_empty_store(tmp_path: Path) -> None:
    site = make_site(Store(tmp_path / "nothing here"))
    for path in PATHS[:-1]:
        response = request(site, path)
        assert response.status == 200, path
    assert "assay demo" in request(site, "").body
    assert request(site, "sweeps/code_replace").status == 404


def test_damaged_runs_are_listed_as_unreadable_and_do_not_hide_others(filled: Store) -> None:
    cut, empty, list_, folder = (filled.root / "runs" / name for name in ("a" * 64, "b" * 64, "c" * 64, "d" * 64))
    for path in (cut, empty, list_, folder):
        path.mkdir()
    (cut / "status.json").write_text('{"state": "trai')
    (cut / "spec.json").write_bytes(b"\xff\xfe")
    (empty / "status.json").write_text("")
    write_json(list_ / "status.json", [1, 2])
    write_json(list_ / "spec.json", {"spec": None, "labels": "no"})
    site = make_site(filled, make_sweep())
    runs = RunIndex(filled.root).runs()
    assert len(runs) == 9 + 3, "a folder without records is not a run"
    assert {runs[path.name].state for path in (cut, empty, list_)} == {UNREADABLE}
    for path in (*PATHS, *(f"runs/{name}" for name in runs)):
        assert request(site, path).status == 200, path
    assert "cannot be read" in request(site, f"runs/{cut.name}").body


def test_the_index_rereads_only_changed_runs(filled: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("assay.report.site.run_index.FRESH", -1.0)
    index = RunIndex(filled.root)
    before = index.runs()
    key = next(iter(before))
    status = filled.run(key).path / "status.json"
    write_json(status, {**json.loads(status.read_text()), "state": "failed"})
    os.utime(status, ns=(2_000_000_000_000_000_000, 2_000_000_000_000_000_000))
    after = index.runs()
    assert after[key].state == "failed"
    assert all(after[other] is before[other] for other in before if other != key)


def test_runs_are_filtered_sorted_and_paged_and_the_csv_has_all_rows(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for number in range(PAGE + 50):
        path = store.run(f"{number:064x}").path
        write_json(
            path / "spec.json", {"spec": {"corpora": {}}, "labels": {"sweep": "s", "mix": f"m{number}", "seed": 0}}
        )
        write_json(path / "status.json", {"state": "done" if number % 2 else "failed", "tokens": number})
    site = make_site(store)
    first, second = (request(site, f"runs?sort=-tokens&page={page}").body for page in (1, 2))
    assert (first.count('<th scope="row"'), second.count('<th scope="row"')) == (PAGE, 50)
    assert first.index(">m249 s0<") < first.index(">m248 s0<")
    assert ">m0 s0<" in second
    assert request(site, "runs?state=done&q=m24").body.count('<th scope="row"') == 5
    rows = list(csv.DictReader(io.StringIO(request(site, "sweeps/s/runs.csv").body)))
    assert len(rows) == PAGE + 50
    assert request(site, "runs?page=x&sort=nonsense").status == 200


def test_a_fingerprint_prefix_identifies_a_run(filled: Store) -> None:
    key = page_data.make().runs[0].fingerprint or ""
    site = make_site(filled, make_sweep())
    body = request(site, f"runs/{key[:12]}").body
    assert "web_and_github s0" in body
    assert key in body
    assert request(site, "runs/zzz").status == 404


def test_hostile_names_and_messages_are_escaped(tmp_path: Path) -> None:
    store, evil = Store(tmp_path), f"{page_data.HOSTILE}{RTL}{LONG}"
    path = store.run("e" * 64).path
    write_json(
        path / "spec.json", {"spec": {"corpora": {evil: "x"}}, "labels": {"sweep": evil, "mix": evil, "seed": 1}}
    )
    failure = {"kind": evil, "message": evil}
    write_json(
        path / "status.json", {"state": evil, "failure": failure, "updated": 1e300, "tokens": "many", "steps": 5}
    )
    (path / "run.log").write_text(evil)
    verdict = VerdictSummary(
        sweep=evil, decision="REJECT", candidates=(CandidateSummary(evil, "REJECT", (evil,)),), when=1.8e9
    )
    sweep = SweepSummary(name=evil, question=evil, baseline=evil, candidates=(evil,), problem=evil)
    site = make_site(store, sweep, verdicts=(verdict,))
    responses = [request(site, path) for path in ("", "runs", "verdicts", "history", f"runs/{'e' * 64}")]
    responses += [site.respond(["sweeps", evil], {}), site.respond(["search"], {"q": evil})]
    for response in responses:
        elements = Elements(response.body)
        assert response.status == 200
        assert not [tag for tag, _ in elements.tags if tag == "img"]
        assert not [a for _, a in elements.tags if any(name.startswith("on") for name in a)]
        assert "window.hacked" in "".join(elements.text)
        for _, attributes in elements.tags:
            assert (attributes.get("href") or "/").startswith(("/", "#", "data:,"))
        assert "script-src 'sha256-" in response.policy


def test_the_csv_contains_no_spreadsheet_formulas(tmp_path: Path) -> None:
    store = Store(tmp_path)
    write_json(store.run("e" * 64).path / "spec.json", {"spec": {}, "labels": {"mix": "=HYPERLINK(1)", "seed": 1}})
    (row,) = csv.DictReader(io.StringIO(request(make_site(store), "runs.csv").body))
    assert row["mix"] == "'=HYPERLINK(1)"


def test_the_search_covers_names_states_and_problems(filled: Store) -> None:
    runs = RunIndex(filled.root).runs().values()
    assert {run.label for run in filter_runs(runs, words="diverged 9.125")} == {"cc_code_replace_cc s2"}
    assert len(filter_runs(runs, words="WEB_AND")) == 3
    body = request(make_site(filled, make_sweep()), "search?q=crawl").body
    assert "Can crawled code" in body


def test_the_history_orders_outcomes_baseline_changes_and_scores_by_date() -> None:
    def make_verdict(
        sweep: str, when: float | None, decision: str, weights: dict[str, float], scale: str = "a"
    ) -> VerdictSummary:
        candidate = CandidateSummary("c", decision, ("reason",))
        scores = {("validation/books", "bits_per_byte"): when or 0.0}
        return VerdictSummary(
            sweep=sweep,
            decision=decision,
            candidates=(candidate,),
            when=when,
            weights=weights,
            scores=scores,
            scale=scale,
        )

    verdicts = [
        make_verdict("late", 3e9, "INCONCLUSIVE", {"web": 0.5, "books": 0.5}),
        make_verdict("first", 1e9, "ACCEPT", {"web": 1.0}),
        make_verdict("same", 2e9, "REJECT", {"web": 1.0}, scale="b"),
        make_verdict("never", None, "REJECT", {}),
    ]
    sweeps = {name: SweepSummary(name=name, baseline=f"base_{name}") for name in ("first", "same", "late")}
    past = collect_history(sweeps, verdicts)
    assert [(outcome.sweep, outcome.verdict.decided) for outcome in past.outcomes] == [
        ("late", False),
        ("same", True),
        ("first", True),
    ]
    assert [(change.sweep, change.before) for change in past.changes] == [("first", ""), ("late", "base_first")]
    assert dict(past.changes[1].changes) == {"web": -0.5, "books": 0.5}
    recipe, *scores = past.figures
    assert [row[1] for row in recipe.rows] == ["first", "same", "late", "late"]
    assert [[row[1] for row in figure.rows] for figure in scores] == [["first", "late"], ["same"]], (
        "scores of another scale are in a separate plot"
    )


# --- over HTTP


@pytest.fixture
def server(filled: Store) -> Iterator[SiteServer]:
    with SiteServer(make_site(filled, make_sweep()), port=0) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


class HttpResponse(NamedTuple):
    status: int
    headers: Mapping[str, str]
    body: bytes


def send_request(server: SiteServer, path: str = "/", *, method: str = "GET", host: str | None = None) -> HttpResponse:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=30)
    connection.putrequest(method, path, skip_host=True)
    connection.putheader("Host", f"localhost:{server.server_port}" if host is None else host)
    connection.endheaders()
    with connection.getresponse() as response:
        received = HttpResponse(response.status, dict(response.headers), response.read())
    connection.close()
    return received


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "localhost:1", "", "[::2]", "localhost@evil"]
)
def test_foreign_host_names_are_rejected(server: SiteServer, host: str) -> None:
    assert send_request(server, host=host).status == 403


def test_every_loopback_name_is_accepted(server: SiteServer) -> None:
    for name in ("127.0.0.1", "localhost", "[::1]", "LOCALHOST"):
        assert send_request(server, host=f"{name}:{server.server_port}").status == 200
        assert send_request(server, host=name).status == 200


def test_the_server_listens_on_loopback_only(server: SiteServer) -> None:
    assert server.server_address[0] == "127.0.0.1"


def test_the_site_is_read_only_and_forbids_caching_and_framing(server: SiteServer, filled: Store) -> None:
    before = sorted(filled.root.rglob("*"))
    for method in ("POST", "PUT", "DELETE", "PATCH"):
        assert send_request(server, method=method).status == 501
    response = send_request(server, "/runs")
    assert response.headers["Cache-Control"] == "no-store"
    assert response.headers["X-Frame-Options"] == "DENY"
    assert "frame-ancestors 'none'" in response.headers["Content-Security-Policy"]
    assert sorted(filled.root.rglob("*")) == before


@pytest.mark.parametrize(
    "path", ["/..%2f..%2fetc/passwd", "/runs/..%2f..", "/sweeps/%ff%fe", "//", "/sweeps/" + "a" * 600]
)
def test_malformed_paths_read_no_file(server: SiteServer, path: str) -> None:
    response = send_request(server, path)
    assert response.status in (200, 404)
    assert b"root:" not in response.body


def test_the_page_of_a_run_shows_its_curves(filled: Store) -> None:
    site = make_site(filled)
    run = next(path.parent for path in sorted(filled.root.glob("runs/*/metrics.jsonl")) if path.stat().st_size)
    body = request(site, f"runs/{run.name}").body
    for title in ("Training loss", "Training loss by source", "Learning rate", "Gradient norm", "Speed"):
        assert f">{title}</h3>" in body
    assert 'data-figure="curve-loss"' in body


@pytest.mark.parametrize(
    "text", ["", "not json\n", "[]\n", '{"step": 1}\n', '{"step": 1, "tokens": "x", "loss": null}\n']
)
def test_a_run_without_usable_metrics_says_so(filled: Store, text: str) -> None:
    run = next(filled.root.glob("runs/*/metrics.jsonl"))
    run.write_text(text)
    response = request(make_site(filled), f"runs/{run.parent.name}")
    assert "The run has logged no metrics yet." in response.body
