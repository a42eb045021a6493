"""The pages of audits in a browser: what a document says is shown and never runs, loads or leaves."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

import pytest
import shown
from test_page_in_chromium import CHROMIUM, browser  # noqa: F401  # a fixture
from test_site import Told
from tests.tiny import tiny_study

from assay.audit import unknown
from assay.audit.detectors import BUILT_IN, Text
from assay.audit.findings import Audit, Example, Finding, Findings
from assay.audit.judged import Judgement, append
from assay.corpus.read import Document
from assay.files import write_json
from assay.plan import TAINTED
from assay.publish import markdown, page
from assay.publish.details import FindingShown
from assay.publish.site.audits import Audits
from assay.publish.site.index import Index
from assay.publish.site.server import Server
from assay.publish.site.views import Site
from assay.workspace import Workspace

if TYPE_CHECKING:
    from playwright.sync_api import Browser

needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on PATH to open the pages in")

BAIT = (
    "</pre></textarea></script><script>window.hacked = 1; fetch('https://evil.example/a')</script>"
    "<img src='https://evil.example/b' onerror='window.hacked = 2'><svg onload='window.hacked = 3'>"
    "<iframe srcdoc='<script>parent.hacked = 4</script>'></iframe><body onload='window.hacked = 5'>"
    "<meta http-equiv=refresh content='0;url=https://evil.example/c'><link rel=stylesheet href='https://evil.example/d'>"
    "<base href='https://evil.example/'><a href='javascript:window.hacked = 6' autofocus onfocus='window.hacked = 7'>x</a>"
    "<style>@import 'https://evil.example/e'; body { display: none }</style>{{ 7 * 7 }}${7*7}"
)
TURNED = "safe\u202egnp.exe\u2066\u200b\x00\x1b[31m"
KEY = "AKIA" + "QWERTYUIOPASDFGH"
LONG = "L" * 10_000_000
GUTTER = "\n".join(map(str, range(1, 60))) + "\n" + "\n".join(f"int x{i} = f(y{i});" for i in range(1, 60))
EVIL_ID = f"'\"><script>window.hacked = 8</script>&id=x#{TURNED}"


class Case:
    """A project with a source of hostile documents, its findings and judgements."""

    def __init__(self, root: Path) -> None:
        self.space = Workspace(tiny_study(root, overrides={"source.web.originals": "raw"}))
        raw = root / "raw"
        raw.mkdir()
        (raw / "page.html").write_text(
            f"<html><body onload='window.hacked = 9'><p>{BAIT}</p><pre>{GUTTER}</pre>{TURNED}"
        )
        self.documents: list[dict[str, Any]] = [
            {"id": "bait", "text": f"{BAIT}\n{TURNED}\n{KEY} jo@corp.org", "url": "javascript:window.hacked = 10"},
            {
                "id": "gutter",
                "text": GUTTER,
                "original": "page.html",
                "url": "https://code.example/x",
                "snapshot": BAIT,
            },
            {"id": "long", "text": LONG, "original": "../data/web.jsonl"},
            {"id": EVIL_ID, "text": "named to hurt", "original": "gone.html"},
        ]
        (root / "data/web.jsonl").write_text(
            "".join(json.dumps(one) + "\n" for one in self.documents), encoding="utf-8"
        )
        digest = self.space.digest("web")
        example = Example(
            document="gutter", where="data/web.jsonl:2", text=GUTTER[:500], matches=((0, 161),), note=BAIT
        )
        evil = Example(document=EVIL_ID, where=BAIT, text=f"{BAIT}{KEY}", matches=((0, len(BAIT)),), url=BAIT)
        finding = Finding(
            detector="line_number_gutter",
            version=1,
            source="web",
            digest=digest,
            severity="high",
            reason=f"numbers {BAIT}",
            documents=2,
            of=4,
            bytes=100,
            of_bytes=1000,
            matched_bytes=10,
            tokens=3,
            clean=0.001,
            examples=(example, evil),
        )
        audit = Audit(
            source="web",
            digest=digest,
            finished=1e9,
            detectors={finding.detector: 1},
            documents=4,
            bytes=1000,
            findings=(finding.id,),
        )
        Findings(self.space.store.root).add(audit, [finding])
        self.put_unknown(digest)
        self.judgement = Judgement(
            source="web",
            digest=digest,
            document="bait",
            text="0" * 64,
            verdict="bad",
            note=BAIT,
            by=f"Ana {BAIT}",
            when="2026-11-23T12:00:00+00:00",
        )
        append(root, self.judgement)
        audits = Audits(lambda: self.space, project=root, detectors=lambda: BUILT_IN)
        self.site = Site(self.space.store, Told(), Index(self.space.store.root), title="team", audits=audits)

    def put_unknown(self, digest: str) -> None:
        """Distributions as an audit makes them, and a contrast as hostile as can be."""
        seen, source = unknown.Seen(), self.space.source("web")
        for place, one in enumerate(self.documents):
            document = Document(text=one["text"], id=one["id"], where=f"data/web.jsonl:{place + 1}")
            seen.add(document, Text(document.text, source))
        place = unknown.folder(self.space.store.root, "web", digest)
        seen.write(place)
        evil = {"document": EVIL_ID, "where": BAIT, "text": BAIT, "matches": [(0, 5)]}
        one = {
            "unit": "word",
            "ngram": BAIT,
            "phrase": f"{TURNED}{BAIT}{KEY}",
            "source": "web",
            "kind": "host",
            "group": BAIT,
        }
        counts = {"documents": 9, "of": 10, "elsewhere": 0, "of_elsewhere": 50, "score": 12.3, "ngrams": 4}
        write_json(place / unknown.CONTRASTS, {"identity": "", "contrasts": [{**one, **counts, "example": evil}]})

    def body(self, path: str, **query: str) -> str:
        answer = self.site.answer([part for part in path.split("/") if part], query)
        assert answer.status == 200, answer.body[-500:]
        return answer.body


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    return Case(tmp_path_factory.mktemp("team"))


@pytest.fixture(scope="module")
def address(case: Case) -> Iterator[str]:
    with Server(case.site, port=0) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server.address
        server.shutdown()
        thread.join()


def document_path(identity: str) -> str:
    return f"audits/web/document?{urlencode({'id': identity})}"


PAGES = {
    "all": "audits",
    "search": f"audits?q={quote('evil.example onload')}",
    "source": "audits/web",
    "sample": "audits/web/sample?by=host&n=9",
    "bait": document_path("bait"),
    "gutter": document_path("gutter"),
    "long": document_path("long"),
    "named": document_path(EVIL_ID),
}


@needs_chromium
@pytest.mark.parametrize("name", PAGES)
def test_nothing_of_a_document_runs_loads_or_leaves(browser: Browser, address: str, name: str) -> None:  # noqa: F811
    context = browser.new_context(viewport={"width": 400, "height": 900})
    tab, asked, said = context.new_page(), list[str](), list[str]()
    tab.on("request", lambda request: asked.append(request.url))
    tab.on("console", lambda message: said.append(message.text))
    tab.on("pageerror", lambda error: said.append(str(error)))
    tab.goto(address + PAGES[name])
    tab.wait_for_selector("main h1")
    tab.evaluate("for (const part of document.querySelectorAll('details')) part.open = true")
    assert tab.evaluate("window.hacked") is None
    assert [url for url in asked if not url.startswith((address, "data:"))] == []
    assert said == [], "the policy had nothing to stop: nothing was there to be stopped"
    selector = "img, svg, iframe, object, textarea, base, main style, main script, [onload], [onerror], [onfocus]"
    assert tab.evaluate(f"document.querySelectorAll({json.dumps(selector)}).length") == 0
    hrefs = tab.eval_on_selector_all("main a", "links => links.map(link => new URL(link.href).origin)")
    assert set(hrefs) <= {address.rstrip("/")}
    assert tab.evaluate("document.documentElement.scrollWidth") == 400
    context.close()


@needs_chromium
def test_a_document_stands_beside_its_original_its_match_marked(browser: Browser, address: str) -> None:  # noqa: F811
    tab = browser.new_page()
    tab.goto(address + PAGES["gutter"])
    assert tab.inner_text("#extracted mark").split() == [str(i) for i in range(1, 60)]
    assert "int x59" in tab.inner_text("#original")
    assert "window.hacked = 1" not in tab.inner_text("#original"), "a script's text is no text of the page"
    assert "- " in tab.inner_text("#differences")
    tab.click("summary")
    assert BAIT in tab.inner_text("#raw")
    tab.close()


@needs_chromium
def test_what_cannot_be_seen_is_seen(browser: Browser, address: str) -> None:  # noqa: F811
    tab = browser.new_page()
    tab.goto(address + PAGES["bait"])
    told = tab.inner_text("#extracted")
    assert BAIT in told
    for code in ("U+202E", "U+2066", "U+200B", "U+0000", "U+001B"):
        assert code in told
    assert not set(told) & set("\u202e\u2066\u200b\x00\x1b")
    tab.close()


def test_a_line_of_10_mb_is_cut_and_the_page_says_so(case: Case) -> None:
    body = case.body("audits/web/document", id="long")
    assert len(body) < 300_000
    assert "9,938,000 characters are not shown" in body


def test_originals_that_are_missing_or_lie_outside_are_said_to_be(case: Case) -> None:
    assert "leaves the folder of originals" in case.body("audits/web/document", id="long")
    assert "is missing" in case.body("audits/web/document", id=EVIL_ID)
    assert "names no original" in case.body("audits/web/document", id="bait")


def test_secrets_stand_on_no_page(case: Case) -> None:
    bodies = [case.body("audits/web"), case.body("audits/web/sample"), case.body("audits/web/document", id="bait")]
    for body in bodies:
        assert KEY not in body
        assert "AK******************" in body
        assert "jo@corp.org" not in body


def test_all_sources_have_a_row_with_what_is_known_of_them(case: Case) -> None:
    body = case.body("audits")
    assert body.count("not audited") == 2
    assert "tainted" in body
    assert "1 document (25.0%): 1 bad, 0 good" in body


def test_contrasts_and_the_ends_of_distributions_lead_to_documents(case: Case) -> None:
    body = case.body("audits/web")
    assert "9 of 10" in body
    assert "90.0%" in body
    assert "the documents at both ends" in body
    assert (
        f"/audits/web/document?{urlencode({'id': 'long', 'where': 'data/web.jsonl:3', 'finding': ''})}".replace(
            "&", "&amp;"
        )
        in body
    )
    assert KEY not in body


@needs_chromium
def test_distributions_are_drawn_and_their_figures_saved(browser: Browser, address: str) -> None:  # noqa: F811
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    tab = context.new_page()
    tab.goto(address + "audits/web")
    tab.locator("#spread").scroll_into_view_if_needed()  # plots are drawn where they are looked at
    tab.locator("#spread-length .main-svg").first.wait_for(timeout=20_000)
    with tab.expect_download() as saved:
        tab.locator("[data-csv-figure=spread-length]").click()
    lines = Path(saved.value.path()).read_text(encoding="utf-8").splitlines()
    assert lines[0].startswith("from,to,documents,share")
    assert sum(int(line.split(",")[2]) for line in lines[1:]) == 4
    context.close()


def test_findings_are_searched_by_their_words(case: Case) -> None:
    assert "Findings with" in case.body("audits", q="gutter evil.example")
    assert "No finding has all of these words" in case.body("audits", q="gutter nowhere")


def test_a_later_version_of_the_files_says_that_nobody_audited_it(tmp_path: Path) -> None:
    case = Case(tmp_path)
    (tmp_path / "data/web.jsonl").write_text('{"id": "new", "text": "other"}\n')
    space = Workspace(case.space.study)
    case.site = Site(
        space.store,
        Told(),
        Index(space.store.root),
        title="team",
        audits=Audits(lambda: space, project=tmp_path, detectors=lambda: BUILT_IN),
    )
    body = case.body("audits/web")
    assert "found in an earlier version" in body
    (tmp_path / "data/web.jsonl").unlink()
    assert case.site.answer(["audits", "web", "document"], {"id": "new"}).status == 404


@pytest.mark.parametrize(
    ("path", "query"),
    [
        ("audits/nothing", {}),
        ("audits/web/document", {}),
        ("audits/web/document", {"id": "no such", "where": "/etc/passwd:1"}),
        ("audits/../web", {}),
        ("audits/web/else", {}),
    ],
)
def test_what_is_not_there_is_not_found_and_no_other_file_is_read(case: Case, path: str, query: dict[str, str]) -> None:
    answer = case.site.answer(path.split("/"), query)
    assert answer.status == 404
    assert "root:" not in answer.body


def test_odd_questions_for_a_sample_are_answered(case: Case) -> None:
    for query in ({"n": "-5"}, {"n": "x"}, {"seed": "9" * 50}, {"by": "smell"}):
        assert "Sample of web" in case.body("audits/web/sample", **query)


def test_looking_writes_nothing_but_what_digests_are_found_by(case: Case) -> None:
    root = Path(case.space.study.paths.root)
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*") if path.is_file()}
    for path in ("audits", "audits/web", "audits/web/sample"):
        case.body(path)
    case.body("audits/web/document", id="gutter")
    after = {path: path.stat().st_mtime_ns for path in root.rglob("*") if path.is_file()}
    assert {path.name for path in after if after[path] != before.get(path)} <= {"digests.json", "digests.lock"}


def test_a_sweep_that_touched_a_defect_says_so_at_every_run_and_in_markdown() -> None:
    report = shown.make(candidates=("cc_code_replace_cc",))
    touched = report.runs[-1]
    found = FindingShown(
        source="code_cc", detector="line_number_gutter", severity="high", share=0.5, message=BAIT, tainting=True
    )
    runs = tuple(replace(run, reasons=(f"{TAINTED}source {BAIT}",)) if run == touched else run for run in report.runs)
    report = replace(report, runs=runs, details=replace(report.details, findings=(found,)))
    body = page.render(report)
    assert body.count(">tainted</span>") == 1
    assert "<iframe" not in body.partition("<main")[2]
    text = markdown.render(report)
    assert text.count("**tainted**") == 1
    assert "| `code_cc` | `line_number_gutter` | high | 50.0% | **yes** |" in text
    assert "<iframe" not in text
