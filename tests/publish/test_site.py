"""The site: the whole store, live, on loopback; whatever is in the store, it answers."""

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
import shown
from test_page import Elements

from assay.files import write_json
from assay.publish.site.history import history
from assay.publish.site.index import UNREADABLE, Index, matching
from assay.publish.site.server import Server
from assay.publish.site.values import CandidateJudged, Catalogue, Judged, Place, SweepKnown
from assay.publish.site.views import PAGE, Answer, Site
from assay.store import Store

RTL = "\u202e"
"""Turns the direction of the text after it."""
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


class Told:
    """A desk that knows what it was told."""

    def __init__(self, *known: SweepKnown, judged: tuple[Judged, ...] = ()) -> None:
        self._sweeps = {one.name: one for one in known}
        self._judged = {one.sweep: one for one in judged}

    def sweeps(self) -> dict[str, SweepKnown]:
        return self._sweeps

    def catalogue(self) -> Catalogue:
        return Catalogue()

    def judged(self, sweep: str) -> tuple[Judged | None, bool]:
        return self._judged.get(sweep), True

    def page(self, sweep: str) -> str | None:
        del sweep
        return None


def site(store: Store, *known: SweepKnown, judged: tuple[Judged, ...] = ()) -> Site:
    return Site(store, Told(*known, judged=judged), Index(store.root), title="team")


def asked(one: Site, path: str) -> Answer:
    path, _, query = path.partition("?")
    return one.answer(
        [part for part in path.split("/") if part], dict(part.split("=") for part in query.split("&") if part)
    )


def known(**changes: object) -> SweepKnown:
    report = shown.make()
    places = tuple(Place(run.mix, run.seed, run.fingerprint) for run in report.runs)
    told = SweepKnown(
        name="code_replace",
        question=report.sweep.question,
        baseline=report.sweep.baseline,
        candidates=report.sweep.candidates,
        seeds=report.sweep.seeds,
        proxy="0.3m",
        tokens=report.budget,
        policy="code",
        places=places,
    )
    return replace(told, **changes)  # type: ignore[arg-type]  # fields of its own


@pytest.fixture
def filled(tmp_path: Path) -> Store:
    store = Store(tmp_path / "store")
    shown.fill(store, shown.make())
    return store


def test_an_empty_store_has_every_page(tmp_path: Path) -> None:
    one = site(Store(tmp_path / "nothing here"))
    for path in PATHS[:-1]:
        answer = asked(one, path)
        assert answer.status == 200, path
    assert "assay demo" in asked(one, "").body
    assert asked(one, "sweeps/code_replace").status == 404


def test_half_written_runs_are_named_and_hide_no_other(filled: Store) -> None:
    cut, empty, list_, folder = (filled.root / "runs" / name for name in ("a" * 64, "b" * 64, "c" * 64, "d" * 64))
    for path in (cut, empty, list_, folder):
        path.mkdir()
    (cut / "status.json").write_text('{"state": "trai')
    (cut / "spec.json").write_bytes(b"\xff\xfe")
    (empty / "status.json").write_text("")
    write_json(list_ / "status.json", [1, 2])
    write_json(list_ / "spec.json", {"spec": None, "labels": "no"})
    one = site(filled, known())
    runs = Index(filled.root).runs()
    assert len(runs) == 9 + 3, "a folder without any record is no run yet"
    assert {runs[path.name].state for path in (cut, empty, list_)} == {UNREADABLE}
    for path in (*PATHS, *(f"runs/{name}" for name in runs)):
        assert asked(one, path).status == 200, path
    assert "cannot be read" in asked(one, f"runs/{cut.name}").body


def test_only_what_changed_is_read_again(filled: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("assay.publish.site.index.FRESH", -1.0)
    index = Index(filled.root)
    before = index.runs()
    key = next(iter(before))
    status = filled.run(key).path / "status.json"
    write_json(status, {**json.loads(status.read_text()), "state": "failed"})
    os.utime(status, ns=(2_000_000_000_000_000_000, 2_000_000_000_000_000_000))
    after = index.runs()
    assert after[key].state == "failed"
    assert all(after[other] is before[other] for other in before if other != key)


def test_runs_are_filtered_sorted_and_paged_and_the_csv_has_all(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for number in range(PAGE + 50):
        path = store.run(f"{number:064x}").path
        write_json(
            path / "spec.json", {"spec": {"corpora": {}}, "labels": {"sweep": "s", "mix": f"m{number}", "seed": 0}}
        )
        write_json(path / "status.json", {"state": "done" if number % 2 else "failed", "tokens": number})
    one = site(store)
    first, second = (asked(one, f"runs?sort=-tokens&page={page}").body for page in (1, 2))
    assert (first.count('<th scope="row"'), second.count('<th scope="row"')) == (PAGE, 50)
    assert first.index(">m249 s0<") < first.index(">m248 s0<")
    assert ">m0 s0<" in second
    assert asked(one, "runs?state=done&q=m24").body.count('<th scope="row"') == 5
    rows = list(csv.DictReader(io.StringIO(asked(one, "sweeps/s/runs.csv").body)))
    assert len(rows) == PAGE + 50
    assert asked(one, "runs?page=x&sort=nonsense").status == 200


def test_a_run_is_found_by_the_beginning_of_its_fingerprint(filled: Store) -> None:
    key = shown.make().runs[0].fingerprint or ""
    one = site(filled, known())
    body = asked(one, f"runs/{key[:12]}").body
    assert "web_and_github s0" in body
    assert key in body
    assert asked(one, "runs/zzz").status == 404


def test_names_and_messages_of_a_store_stay_text(tmp_path: Path) -> None:
    store, evil = Store(tmp_path), f"{shown.HOSTILE}{RTL}{LONG}"
    path = store.run("e" * 64).path
    write_json(
        path / "spec.json", {"spec": {"corpora": {evil: "x"}}, "labels": {"sweep": evil, "mix": evil, "seed": 1}}
    )
    failure = {"kind": evil, "message": evil}
    write_json(
        path / "status.json", {"state": evil, "failure": failure, "updated": 1e300, "tokens": "many", "steps": 5}
    )
    (path / "run.log").write_text(evil)
    judged = Judged(sweep=evil, decision="REJECT", candidates=(CandidateJudged(evil, "REJECT", (evil,)),), when=1.8e9)
    told = SweepKnown(name=evil, question=evil, baseline=evil, candidates=(evil,), problem=evil)
    one = site(store, told, judged=(judged,))
    answers = [asked(one, path) for path in ("", "runs", "verdicts", "history", f"runs/{'e' * 64}")]
    answers += [one.answer(["sweeps", evil], {}), one.answer(["search"], {"q": evil})]
    for answer in answers:
        elements = Elements(answer.body)
        assert answer.status == 200
        assert not [tag for tag, _ in elements.tags if tag == "img"]
        assert not [a for _, a in elements.tags if any(name.startswith("on") for name in a)]
        assert "window.hacked" in "".join(elements.text)
        for _, attributes in elements.tags:
            assert (attributes.get("href") or "/").startswith(("/", "#", "data:,"))
        assert "script-src 'sha256-" in answer.policy


def test_a_saved_list_runs_nothing_in_a_spreadsheet(tmp_path: Path) -> None:
    store = Store(tmp_path)
    write_json(store.run("e" * 64).path / "spec.json", {"spec": {}, "labels": {"mix": "=HYPERLINK(1)", "seed": 1}})
    (row,) = csv.DictReader(io.StringIO(asked(site(store), "runs.csv").body))
    assert row["mix"] == "'=HYPERLINK(1)"


def test_words_are_looked_for_in_names_states_and_problems(filled: Store) -> None:
    runs = Index(filled.root).runs().values()
    assert {run.label for run in matching(runs, words="diverged 9.125")} == {"cc_code_replace_cc s2"}
    assert len(matching(runs, words="WEB_AND")) == 3
    body = asked(site(filled, known()), "search?q=crawl").body
    assert "May code out of a crawl" in body


def test_across_sweeps_the_recipe_its_scores_and_the_settled_questions_stand_by_date() -> None:
    def came_to(sweep: str, when: float | None, decision: str, weights: dict[str, float], scale: str = "a") -> Judged:
        one = CandidateJudged("c", decision, ("because",))
        scores = {("validation/books", "bits_per_byte"): when or 0.0}
        return Judged(
            sweep=sweep, decision=decision, candidates=(one,), when=when, weights=weights, scores=scores, scale=scale
        )

    judged = [
        came_to("late", 3e9, "INCONCLUSIVE", {"web": 0.5, "books": 0.5}),
        came_to("first", 1e9, "ACCEPT", {"web": 1.0}),
        came_to("same", 2e9, "REJECT", {"web": 1.0}, scale="b"),
        came_to("never", None, "REJECT", {}),
    ]
    sweeps = {name: SweepKnown(name=name, baseline=f"base_{name}") for name in ("first", "same", "late")}
    past = history(sweeps, judged)
    assert [(one.sweep, one.settled) for one in past.questions] == [("late", False), ("same", True), ("first", True)]
    assert [(move.sweep, move.before) for move in past.moves] == [("first", ""), ("late", "base_first")]
    assert dict(past.moves[1].changes) == {"web": -0.5, "books": 0.5}
    recipe, *scores = past.figures
    assert [row[1] for row in recipe.rows] == ["first", "same", "late", "late"]
    assert [[row[1] for row in figure.rows] for figure in scores] == [["first", "late"], ["same"]], (
        "scores of another scale stand in a plot of their own"
    )


# --- over HTTP


@pytest.fixture
def server(filled: Store) -> Iterator[Server]:
    with Server(site(filled, known()), port=0) as one:
        thread = threading.Thread(target=one.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield one
        one.shutdown()
        thread.join()


class Response(NamedTuple):
    """What came back."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def respond(server: Server, path: str = "/", *, method: str = "GET", host: str | None = None) -> Response:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=30)
    connection.putrequest(method, path, skip_host=True)
    connection.putheader("Host", f"localhost:{server.server_port}" if host is None else host)
    connection.endheaders()
    with connection.getresponse() as answer:
        found = Response(answer.status, dict(answer.headers), answer.read())
    connection.close()
    return found


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "localhost:1", "", "[::2]", "localhost@evil"]
)
def test_a_host_that_is_not_this_machine_is_refused(server: Server, host: str) -> None:
    assert respond(server, host=host).status == 403


def test_this_machine_is_answered_by_all_of_its_names(server: Server) -> None:
    for name in ("127.0.0.1", "localhost", "[::1]", "LOCALHOST"):
        assert respond(server, host=f"{name}:{server.server_port}").status == 200
        assert respond(server, host=name).status == 200


def test_it_listens_on_loopback_alone(server: Server) -> None:
    assert server.server_address[0] == "127.0.0.1"


def test_nothing_is_written_and_nothing_is_kept_or_framed(server: Server, filled: Store) -> None:
    before = sorted(filled.root.rglob("*"))
    for method in ("POST", "PUT", "DELETE", "PATCH"):
        assert respond(server, method=method).status == 501
    answer = respond(server, "/runs")
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["X-Frame-Options"] == "DENY"
    assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]
    assert sorted(filled.root.rglob("*")) == before


@pytest.mark.parametrize(
    "path", ["/..%2f..%2fetc/passwd", "/runs/..%2f..", "/sweeps/%ff%fe", "//", "/sweeps/" + "a" * 600]
)
def test_odd_paths_are_answered_and_read_no_file(server: Server, path: str) -> None:
    answer = respond(server, path)
    assert answer.status in (200, 404)
    assert b"root:" not in answer.body
