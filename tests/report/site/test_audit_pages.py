"""Audit pages in a browser: document text is displayed and never executes or loads anything."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

import pytest

from assay.audit.detectors.registry import BUILT_IN, Text
from assay.audit.explore import records
from assay.audit.findings import Audit, Example, Finding, Findings
from assay.audit.review.annotations import Annotation, append
from assay.audit.scan.collector import DocumentCollector
from assay.config.reason import stated
from assay.core.files import write_json
from assay.corpus.source_reader import SourceDocument
from assay.plan.workspace import Workspace
from assay.report import markdown, page
from assay.report.details import FindingShown
from assay.report.site.audit_pages import AuditPages
from assay.report.site.run_index import RunIndex
from assay.report.site.server import SiteServer
from assay.report.site.views import StoreSite
from tests.helpers.tiny import tiny_study
from tests.report import page_data
from tests.report.site.test_site import FixedProject
from tests.report.test_page_in_chromium import CHROMIUM, browser, driver  # noqa: F401  # fixtures

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
BIDI = "safe\u202egnp.exe\u2066\u200b\x00\x1b[31m"
KEY = "AKIA" + "QWERTYUIOPASDFGH"
LONG = "L" * 10_000_000
GUTTER = "\n".join(map(str, range(1, 60))) + "\n" + "\n".join(f"int x{i} = f(y{i});" for i in range(1, 60))
EVIL_ID = f"'\"><script>window.hacked = 8</script>&id=x#{BIDI}"


class HostileProject:
    """Project with a source of hostile documents, findings and annotations."""

    def __init__(self, root: Path) -> None:
        self.space = Workspace(tiny_study(root, overrides={"source.web.originals": "raw"}))
        raw = root / "raw"
        raw.mkdir()
        (raw / "page.html").write_text(f"<html><body onload='window.hacked = 9'><p>{BAIT}</p><pre>{GUTTER}</pre>{BIDI}")
        self.documents: list[dict[str, Any]] = [
            {"id": "bait", "text": f"{BAIT}\n{BIDI}\n{KEY} jo@corp.org", "url": "javascript:window.hacked = 10"},
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
            "".join(json.dumps(document) + "\n" for document in self.documents), encoding="utf-8"
        )
        digest = self.space.sources.digest("web")
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
        self.add_distributions(digest)
        self.annotation = Annotation(
            source="web",
            digest=digest,
            document="bait",
            text="0" * 64,
            verdict="bad",
            note=BAIT,
            by=f"Ana {BAIT}",
            when="2026-11-23T12:00:00+00:00",
        )
        append(root, self.annotation)
        audits = AuditPages(lambda: self.space, project=root, detectors=lambda: BUILT_IN)
        self.site = StoreSite(
            self.space.store, FixedProject(), RunIndex(self.space.store.root), title="team", audits=audits
        )

    def add_distributions(self, digest: str) -> None:
        """Write the distributions of an audit, and a hostile contrast."""
        seen, source = DocumentCollector(), self.space.sources.source("web")
        for line, record in enumerate(self.documents, start=1):
            document = SourceDocument(text=record["text"], id=record["id"], where=f"data/web.jsonl:{line}")
            seen.add(document, Text(document.text, source))
        folder = records.folder(self.space.store.root, "web", digest)
        seen.write(folder)
        evil = {"document": EVIL_ID, "where": BAIT, "text": BAIT, "matches": [(0, 5)]}
        contrast = {
            "unit": "word",
            "ngram": BAIT,
            "phrase": f"{BIDI}{BAIT}{KEY}",
            "source": "web",
            "kind": "host",
            "group": BAIT,
        }
        counts = {"documents": 9, "of": 10, "elsewhere": 0, "of_elsewhere": 50, "score": 12.3, "ngrams": 4}
        write_json(folder / records.CONTRASTS, {"identity": "", "contrasts": [{**contrast, **counts, "example": evil}]})

    def body(self, path: str, **query: str) -> str:
        response = self.site.respond([part for part in path.split("/") if part], query)
        assert response.status == 200, response.body[-500:]
        return response.body


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> HostileProject:
    return HostileProject(tmp_path_factory.mktemp("team"))


@pytest.fixture(scope="module")
def address(case: HostileProject) -> Iterator[str]:
    with SiteServer(case.site, port=0) as server:
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
def test_document_text_executes_and_loads_nothing(browser: Browser, address: str, name: str) -> None:  # noqa: F811
    context = browser.new_context(viewport={"width": 400, "height": 900})
    tab, requests, messages = context.new_page(), list[str](), list[str]()
    tab.on("request", lambda request: requests.append(request.url))
    tab.on("console", lambda message: messages.append(message.text))
    tab.on("pageerror", lambda error: messages.append(str(error)))
    tab.goto(address + PAGES[name])
    tab.wait_for_selector("main h1")
    tab.evaluate("for (const part of document.querySelectorAll('details')) part.open = true")
    assert tab.evaluate("window.hacked") is None
    assert [url for url in requests if not url.startswith((address, "data:"))] == []
    assert messages == [], "the page contains nothing that the policy would block"
    selector = "img, svg, iframe, object, textarea, base, main style, main script, [onload], [onerror], [onfocus]"
    assert tab.evaluate(f"document.querySelectorAll({json.dumps(selector)}).length") == 0
    hrefs = tab.eval_on_selector_all("main a", "links => links.map(link => new URL(link.href).origin)")
    assert set(hrefs) <= {address.rstrip("/")}
    assert tab.evaluate("document.documentElement.scrollWidth") == 400
    context.close()


@needs_chromium
def test_a_document_is_shown_next_to_its_original_with_the_match_marked(browser: Browser, address: str) -> None:  # noqa: F811
    tab = browser.new_page()
    tab.goto(address + PAGES["gutter"])
    assert tab.inner_text("#extracted mark").split() == [str(i) for i in range(1, 60)]
    assert "int x59" in tab.inner_text("#original")
    assert "window.hacked = 1" not in tab.inner_text("#original"), "the text of a script is not text of the page"
    assert "- " in tab.inner_text("#differences")
    tab.click("summary")
    assert BAIT in tab.inner_text("#raw")
    tab.close()


@needs_chromium
def test_invisible_characters_are_spelled_out(browser: Browser, address: str) -> None:  # noqa: F811
    tab = browser.new_page()
    tab.goto(address + PAGES["bait"])
    shown = tab.inner_text("#extracted")
    assert BAIT in shown
    for code in ("U+202E", "U+2066", "U+200B", "U+0000", "U+001B"):
        assert code in shown
    assert not set(shown) & set("\u202e\u2066\u200b\x00\x1b")
    tab.close()


def test_a_line_of_10_mb_is_truncated_with_a_note(case: HostileProject) -> None:
    body = case.body("audits/web/document", id="long")
    assert len(body) < 300_000
    assert "9,938,000 characters omitted" in body


def test_missing_and_outside_originals_are_reported(case: HostileProject) -> None:
    assert "leaves the folder of originals" in case.body("audits/web/document", id="long")
    assert "is missing" in case.body("audits/web/document", id=EVIL_ID)
    assert "has no field" in case.body("audits/web/document", id="bait")


def test_secrets_are_masked_on_every_page(case: HostileProject) -> None:
    bodies = [case.body("audits/web"), case.body("audits/web/sample"), case.body("audits/web/document", id="bait")]
    for body in bodies:
        assert KEY not in body
        assert "AK******************" in body
        assert "jo@corp.org" not in body


def test_the_overview_lists_every_source(case: HostileProject) -> None:
    body = case.body("audits")
    assert body.count("not audited") == 2
    assert "tainted" in body
    assert "1 document (25.0%): 1 bad, 0 good" in body


def test_contrasts_and_extremes_link_to_documents(case: HostileProject) -> None:
    body = case.body("audits/web")
    assert "9 of 10" in body
    assert "90.0%" in body
    assert "extreme documents" in body
    assert (
        f"/audits/web/document?{urlencode({'id': 'long', 'where': 'data/web.jsonl:3', 'finding': ''})}".replace(
            "&", "&amp;"
        )
        in body
    )
    assert KEY not in body


@needs_chromium
def test_distributions_are_drawn_and_saved_as_csv(browser: Browser, address: str) -> None:  # noqa: F811
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    tab = context.new_page()
    tab.goto(address + "audits/web")
    tab.locator("#spread").scroll_into_view_if_needed()  # plots are drawn when they are visible
    tab.locator("#spread-length .main-svg").first.wait_for(timeout=20_000)
    with tab.expect_download() as saved:
        tab.locator("[data-csv-figure=spread-length]").click()
    lines = Path(saved.value.path()).read_text(encoding="utf-8").splitlines()
    assert lines[0].startswith("from,to,documents,fraction")
    assert sum(int(line.split(",")[2]) for line in lines[1:]) == 4
    context.close()


def test_the_search_matches_all_words_of_a_finding(case: HostileProject) -> None:
    assert "Findings that contain" in case.body("audits", q="gutter evil.example")
    assert "No finding contains all words" in case.body("audits", q="gutter nowhere")


def test_changed_files_are_reported_as_not_audited(tmp_path: Path) -> None:
    case = HostileProject(tmp_path)
    (tmp_path / "data/web.jsonl").write_text('{"id": "new", "text": "other"}\n')
    space = Workspace(case.space.study)
    case.site = StoreSite(
        space.store,
        FixedProject(),
        RunIndex(space.store.root),
        title="team",
        audits=AuditPages(lambda: space, project=tmp_path, detectors=lambda: BUILT_IN),
    )
    body = case.body("audits/web")
    assert "from an earlier version" in body
    (tmp_path / "data/web.jsonl").unlink()
    assert case.site.respond(["audits", "web", "document"], {"id": "new"}).status == 404


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
def test_unknown_paths_are_not_found_and_read_no_other_file(
    case: HostileProject, path: str, query: dict[str, str]
) -> None:
    response = case.site.respond(path.split("/"), query)
    assert response.status == 404
    assert "root:" not in response.body


def test_invalid_sample_parameters_fall_back_to_defaults(case: HostileProject) -> None:
    for query in ({"n": "-5"}, {"n": "x"}, {"seed": "9" * 50}, {"by": "smell"}):
        assert "Sample of web" in case.body("audits/web/sample", **query)


def test_the_pages_write_nothing_but_the_digest_cache(case: HostileProject) -> None:
    root = Path(case.space.study.paths.root)
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*") if path.is_file()}
    for path in ("audits", "audits/web", "audits/web/sample"):
        case.body(path)
    case.body("audits/web/document", id="gutter")
    after = {path: path.stat().st_mtime_ns for path in root.rglob("*") if path.is_file()}
    assert {path.name for path in after if after[path] != before.get(path)} <= {"digests.json", "digests.lock"}


def test_reports_mark_every_tainted_run() -> None:
    report = page_data.make(candidates=("cc_code_replace_cc",))
    touched = report.runs[-1]
    found = FindingShown(
        source="code_cc", detector="line_number_gutter", severity="high", fraction=0.5, message=BAIT, tainting=True
    )
    runs = tuple(replace(run, taints=(stated(f"source {BAIT}"),)) if run == touched else run for run in report.runs)
    report = replace(report, runs=runs, details=replace(report.details, findings=(found,)))
    body = page.render(report)
    assert body.count(">tainted</span>") == 1
    assert "<iframe" not in body.partition("<main")[2]
    text = markdown.render(report)
    assert text.count("**tainted**") == 1
    assert "| `code_cc` | `line_number_gutter` | high | 50.0% | **yes** |" in text
    assert "<iframe" not in text
