"""`assay serve` and `assay report` as people meet them: a process, a browser, a store that is deleted in part."""

from __future__ import annotations

import contextlib
import csv
import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

from assay.config.compose import compose
from assay.plan.workspace import Workspace
from assay.report.site.live_project import LiveProject
from assay.report.site.run_index import RunIndex
from assay.store.submissions import Submission, SubmissionDirectory
from tests.cli.invoke import Said, caller
from tests.cli.test_commands import CONF, TEXTS
from tests.helpers.finished import finish
from tests.launch.polling import until

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

CHROMIUM = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None
)
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run", "--disable-sync"]


def make_project(root: Path) -> Workspace:
    """A team's project whose sweep is finished but for one seed of the candidate."""
    for name, text in CONF.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    (root / "conf/source").mkdir()
    for name, text in TEXTS.items():
        (root / f"{name}.jsonl").write_text("\n".join(json.dumps({"text": text.format(i) * 20}) for i in range(60)))
        (root / f"conf/source/{name}.yaml").write_text(
            f"{{files: [{name}.jsonl], domain: {name}, language: en, license: CC0-1.0, clearance: {{state: cleared, by: us}}}}"
        )
    space = Workspace(compose(["sweep=tiny"], root=root))
    for mix, seed in (("half", 0), ("half", 1), ("half", 2), ("less_code", 0), ("less_code", 1)):
        finish(space, mix, seed, bits={"prose": -0.1 if mix == "less_code" else 0.0})
    return space


class Served(NamedTuple):
    """A server of a project."""

    process: subprocess.Popen[str]
    address: str
    space: Workspace


@contextlib.contextmanager
def serving(root: Path, *arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """`assay serve` in a folder; ended as Ctrl-C does."""
    command = [sys.executable, "-m", "assay", "serve", "--port", "0", "--json", *arguments]
    process = subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield process, json.loads(process.stdout.readline())["address"]
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.communicate(timeout=60)
        finally:
            process.kill()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    root = tmp_path_factory.mktemp("team")
    space = make_project(root)
    with serving(root) as (process, address):
        yield Served(process, address, space)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    playwright = pytest.importorskip("playwright.sync_api", reason="the site is driven with playwright")
    if CHROMIUM is None:
        pytest.skip("no chromium on PATH to open the site in")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@contextlib.contextmanager
def opened(browser: Browser, served: Served, path: str = "", *, width: int = 1280) -> Iterator[Page]:
    """A page of the site; whatever it logs, raises, or asks of anybody but the site fails the test."""
    context = browser.new_context(viewport={"width": width, "height": 900}, accept_downloads=True)
    tab, said = context.new_page(), list[str]()
    tab.on("console", lambda message: said.append(f"{message.type}: {message.text}"))
    tab.on("pageerror", lambda error: said.append(f"error: {error}"))
    own = (served.address, "data:", "blob:")
    tab.on("request", lambda request: None if request.url.startswith(own) else said.append(request.url))
    tab.goto(served.address + path)
    yield tab
    assert said == []
    context.close()


def judged(tab: Page, served: Served) -> None:
    """Wait until the sweep has its verdict: the site judges while people look."""

    def there() -> bool:
        tab.goto(served.address + "sweeps/tiny")
        return tab.locator(".badge.large").count() == 1

    until(there, "the verdict")


def test_ctrl_c_ends_it_quietly_on_an_empty_store_too(tmp_path: Path) -> None:
    with serving(tmp_path, f"paths.store={tmp_path}/none") as (process, address):
        assert address.startswith("http://127.0.0.1:")
    assert process.returncode == 0
    assert not (tmp_path / "none").exists(), "looking makes nothing"


def test_a_port_that_is_taken_is_named(served: Served, tmp_path: Path) -> None:
    port = served.address.rstrip("/").rpartition(":")[2]
    command = [sys.executable, "-m", "assay", "serve", "--port", port]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert f"port {port} on 127.0.0.1 cannot be used" in result.stderr
    assert "--port 0" in result.stderr


@pytest.mark.parametrize("width", [1280, 400])
def test_every_view_is_quiet_and_fits_its_window(browser: Browser, served: Served, width: int) -> None:
    run = served.space.runs.spec("half", 0).fingerprint
    with opened(browser, served, width=width) as tab:
        judged(tab, served)
        paths = ("", "runs", "mixes", "mixes/half", "sources", "sources/prose", "verdicts", "history", "search?q=half")
        for path in (*paths, f"runs/{run}", "sweeps/tiny"):
            tab.goto(served.address + path)
            assert tab.evaluate("document.documentElement.scrollWidth") == width, path
            assert tab.locator("h1").inner_text()


def test_from_the_sweeps_to_a_run_by_links_sorted_and_filtered(browser: Browser, served: Served) -> None:
    with opened(browser, served) as tab:
        judged(tab, served)
        assert "Less code?" in tab.inner_text("h1")
        assert "5 of 6 runs finished" in tab.inner_text(".answer")
        tab.click("#runs thead >> text=run")
        names = tab.locator("#runs tbody th a").all_inner_texts()
        assert names == sorted(names)
        tab.click("#runs thead >> text=run")
        assert tab.locator("#runs tbody th a").all_inner_texts() == names[::-1]
        tab.fill("#runs-q", "less_code s1")
        tab.keyboard.press("Enter")
        tab.click("#runs tbody th a")
        assert tab.inner_text("h1") == "less_code s1"
        assert served.space.runs.spec("less_code", 1).fingerprint in tab.url, "the link is permanent"


def test_a_search_needs_no_mouse_and_finds_all_kinds(browser: Browser, served: Served) -> None:
    with opened(browser, served, "runs") as tab:
        tab.focus("#q")
        tab.keyboard.type("prose")
        tab.keyboard.press("Enter")
        tab.wait_for_url("**/search?q=prose")
        assert "1 source" in tab.inner_text("main")
        tab.click("main >> text=prose >> nth=1")


def test_lists_are_saved_as_csv(browser: Browser, served: Served, tmp_path: Path) -> None:
    with opened(browser, served, "sweeps/tiny") as tab:
        with tab.expect_download() as download:
            tab.click("text=Save all as CSV")
        path = tmp_path / download.value.suggested_filename
        download.value.save_as(path)
    with path.open(newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert sorted((row["mix"], row["seed"]) for row in rows) == [
        ("half", "0"),
        ("half", "1"),
        ("half", "2"),
        ("less_code", "0"),
        ("less_code", "1"),
    ]


def test_the_sweeps_page_opens_from_the_site_once_it_is_made(browser: Browser, served: Served) -> None:
    with opened(browser, served, "sweeps/tiny/page") as tab:
        tab.wait_for_selector("html[data-plots=ready]", state="attached", timeout=60_000)
        assert tab.locator("#comparisons tbody tr").count() == 2
        tab.click("#comparisons thead th >> nth=0 >> button")
        tasks = tab.locator("#comparisons tbody th").all_inner_texts()
        assert tasks == ["validation/code", "validation/prose"]


def test_the_site_blocks_a_sweep_whose_source_lost_its_clearance_since_it_was_submitted(tmp_path: Path) -> None:
    space = make_project(tmp_path)
    declared = tmp_path / "conf/source/code.yaml"
    submission = Submission(
        id="20260101T000000-000000",
        sweep="tiny",
        created=0.0,
        cluster="local",
        executor="local",
        workers=1,
        code="c" * 64,
        digests=space.sources.digests(space.mixes.sweep_sources),
        runs=(),
        evaluation=space.runs.evaluation,
        study={**space.study.raw, "taint": {**space.study.raw["taint"], "severity": "never"}},
    )
    SubmissionDirectory(space.store.sweep("tiny") / "submissions" / submission.id).create(submission)
    declared.write_text(declared.read_text().replace("state: cleared", "state: blocked"))
    project = LiveProject(tmp_path, space.store, RunIndex(space.store.root), [])
    project.load()
    project.start()
    until(lambda: project.verdict("tiny")[0] is not None, "the sweep is judged")
    judged, _ = project.verdict("tiny")
    assert judged is not None
    assert judged.decision == "BLOCKED"


def test_pages_are_rebuilt_from_the_store_where_all_that_is_derived_is_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    space = make_project(tmp_path)
    monkeypatch.chdir(tmp_path)
    call: Callable[..., Said] = caller(monkeypatch, capsys)
    first = call("report", "sweep=tiny", "--json").json
    page = Path(first["page"])
    assert page == space.store.reports / "tiny.html"
    before = page.read_text()
    shutil.rmtree(space.store.reports)
    shutil.rmtree(space.store.wandb, ignore_errors=True)
    again = call("report", "sweep=tiny", "--out", "elsewhere/tiny.html")
    assert again.code == 0
    after = (tmp_path / "elsewhere/tiny.html").read_text()

    def verdict(html: str) -> str:
        return html.split('id="verdict"')[1].split('id="effects"', maxsplit=1)[0]

    assert verdict(after) == verdict(before)
    assert not space.store.reports.exists()
