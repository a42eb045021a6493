"""The page as people meet it: in a browser, from disk."""

from __future__ import annotations

import contextlib
import csv
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import shown
from test_figures import SHAPES

from assay.publish import page
from assay.publish.report import Report

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

CHROMIUM = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None
)
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
playwright = pytest.importorskip(
    "playwright.sync_api", reason="the page is driven with playwright: pip install playwright"
)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on PATH to open the page in")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def report() -> Report:
    return shown.make()


@pytest.fixture(scope="module")
def file(report: Report, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "page.html"
    path.write_text(page.render(report), encoding="utf-8")
    return path


@contextlib.contextmanager
def opened(
    browser: Browser, file: Path, *, width: int = 1280, scheme: Any = "light", plots: bool = False
) -> Iterator[Page]:
    """The page, with every plot drawn if asked; whatever it logs, raises or asks for fails the test."""
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, accept_downloads=True)
    tab, said = context.new_page(), []
    tab.on("console", lambda message: said.append(f"{message.type}: {message.text}"))
    tab.on("pageerror", lambda error: said.append(f"error: {error}"))
    tab.on("request", lambda request: said.append(f"request: {request.url}") if _outside(request.url) else None)
    tab.goto(file.as_uri())
    tab.wait_for_selector("html[data-plots=ready]", state="attached")
    tab.evaluate("for (const part of document.querySelectorAll('details')) part.open = true")
    if plots:
        for plot in tab.query_selector_all("[data-figure]"):
            plot.scroll_into_view_if_needed()
        until(tab, "[...document.querySelectorAll('[data-figure]')].every((plot) => plot.querySelector('svg'))")
    yield tab
    assert said == []
    context.close()


def until(tab: Page, condition: str) -> None:
    """Wait for a condition. Playwright's own way to wait evaluates text, which the page's policy does not allow."""
    for _ in range(200):
        if tab.evaluate(condition):
            return
        tab.wait_for_timeout(50)
    pytest.fail(f"never came true: {condition}")


def _outside(url: str) -> bool:
    return not url.startswith(("file:", "data:", "blob:"))


def column(tab: Page, table: str, place: int) -> list[str]:
    texts: list[str] = tab.eval_on_selector_all(
        f"#{table} tbody tr:not([hidden])",
        f"rows => rows.map(row => row.cells[{place}].dataset.value ?? row.cells[{place}].textContent.trim())",
    )
    return texts


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 400])
def test_it_opens_from_disk_quietly_and_fits_its_window(browser: Browser, file: Path, width: int, scheme: str) -> None:
    with opened(browser, file, width=width, scheme=scheme, plots=True) as tab:
        assert tab.evaluate("document.documentElement.scrollWidth") == width
        assert tab.evaluate("document.querySelectorAll('[data-figure] .main-svg').length") > 0


@pytest.mark.parametrize("shape", [shape for shape in SHAPES if shape not in ("normal", "hostile")])
def test_any_sweep_opens_and_fits_a_narrow_window(browser: Browser, shape: str, tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    path.write_text(page.render(shown.make(**SHAPES[shape])), encoding="utf-8")
    with opened(browser, path, width=400, plots=True) as tab:
        assert tab.evaluate("document.documentElement.scrollWidth") == 400


def test_hostile_text_is_inert(browser: Browser, tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    path.write_text(page.render(shown.make(hostile=True)), encoding="utf-8")
    with opened(browser, path, plots=True) as tab:
        assert tab.evaluate("window.hacked") is None
        assert tab.evaluate("document.images.length") == 0
        assert shown.HOSTILE in tab.inner_text("h1")
        tab.hover("#effects-1 .scatterlayer .point >> nth=0", force=True)
        assert tab.evaluate("window.hacked") is None


def test_markup_that_got_in_after_all_could_not_run(browser: Browser, file: Path, tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    path.write_text(file.read_text(encoding="utf-8").replace("<main>", f"<main>{shown.HOSTILE[9:]}"), encoding="utf-8")
    context = browser.new_context()
    tab = context.new_page()
    tab.goto(path.as_uri())
    tab.wait_for_selector("html[data-plots=ready]", state="attached")
    assert tab.evaluate("document.images.length") == 1
    assert tab.evaluate("window.hacked") is None
    context.close()


def test_a_table_sorts_by_its_values_both_ways_and_what_has_none_stands_last(
    browser: Browser, file: Path, report: Report
) -> None:
    with opened(browser, file) as tab:
        head = tab.locator("#comparisons thead th", has_text="adj. p")
        place = head.evaluate("cell => cell.cellIndex")
        head.locator("button").click()
        assert head.get_attribute("aria-sort") == "ascending"
        rising = column(tab, "comparisons", place)
        known = [float(value) for value in rising if value]
        assert known == sorted(known)
        assert rising[: len(known)] == [value for value in rising if value]
        assert len(rising) == len(report.comparisons)
        assert len(known) < len(rising)
        head.locator("button").click()
        assert head.get_attribute("aria-sort") == "descending"
        falling = column(tab, "comparisons", place)
        assert [float(value) for value in falling if value] == known[::-1]
        assert falling[len(known) :] == rising[len(known) :]


def test_sorting_needs_no_mouse(browser: Browser, file: Path) -> None:
    with opened(browser, file) as tab:
        button = tab.locator("#run-table thead th button").first
        button.focus()
        tab.keyboard.press("Enter")
        names = column(tab, "run-table", 0)
        assert names == sorted(names)


def test_a_table_filters_by_words(browser: Browser, file: Path, report: Report) -> None:
    with opened(browser, file) as tab:
        tab.fill("#comparisons-filter", "hellaswag acc replace_cc")
        assert len(column(tab, "comparisons", 0)) == 1
        assert tab.inner_text("#comparisons-shown") == f"1 of {len(report.comparisons)} rows"
        tab.fill("#comparisons-filter", "")
        assert len(column(tab, "comparisons", 0)) == len(report.comparisons)


def test_a_link_leads_to_its_run(browser: Browser, file: Path) -> None:
    with opened(browser, file) as tab:
        tab.click("text=cc_code_replace_cc s2 >> nth=0")
        assert tab.evaluate("document.querySelector(':target').id") == "run-cc_code_replace_cc-2"
        assert tab.locator("#run-cc_code_replace_cc-2").is_visible()


def saved(tab: Page, selector: str, folder: Path) -> list[dict[str, str]]:
    with tab.expect_download() as download:
        tab.click(selector)
    path = folder / download.value.suggested_filename
    download.value.save_as(path)
    with path.open(encoding="utf-8", newline="") as handle:
        return list(csv.DictReader(handle))


def test_plots_and_tables_are_saved_as_csv(browser: Browser, file: Path, report: Report, tmp_path: Path) -> None:
    with opened(browser, file) as tab:
        loss = saved(tab, "[data-csv-figure=curve-loss]", tmp_path)
        table = saved(tab, "[data-csv-table=comparisons]", tmp_path)
    assert len(loss) == sum(len(run.history) for run in report.runs)
    assert float(loss[0]["loss"]) == pytest.approx(report.runs[0].history[0]["loss"], rel=1e-5)
    assert [float(row["effect"]) for row in table] == [c.effect for c in report.comparisons]


def test_a_spreadsheet_runs_nothing_of_a_saved_table(browser: Browser, tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    report = shown.make(benchmarks=("=HYPERLINK(1)", "hellaswag"))
    path.write_text(page.render(report), encoding="utf-8")
    with opened(browser, path) as tab:
        rows = saved(tab, "[data-csv-table=score-table]", tmp_path)
    assert "'=HYPERLINK(1)" in {row["task"] for row in rows}


def test_hovering_tells_the_figures(browser: Browser, file: Path) -> None:
    with opened(browser, file) as tab:
        tab.locator("#effects-0").scroll_into_view_if_needed()
        until(tab, "document.querySelector('#effects-0 .scatterlayer .point') !== null")
        tab.locator("#effects-0 .scatterlayer .trace .point").nth(3).hover(force=True)
        tab.wait_for_selector("#effects-0 .hoverlayer .hovertext")
        assert "interval" in (tab.locator("#effects-0 .hoverlayer").text_content() or "")


def test_the_theme_follows_the_reader(browser: Browser, file: Path) -> None:
    with opened(browser, file) as tab:
        tab.locator("#curve-loss").scroll_into_view_if_needed()
        until(tab, "document.querySelector('#curve-loss').data?.[0].line.color === '#5b6673'")
        tab.emulate_media(color_scheme="dark")
        until(tab, "document.querySelector('#curve-loss').data[0].line.color === '#b3bdc9'")


def test_plotly_starts_when_a_plot_comes_near_and_for_paper_every_plot_is_drawn(browser: Browser, file: Path) -> None:
    with opened(browser, file, width=400) as tab:  # the verdict is more than two windows high there
        assert tab.evaluate("typeof Plotly") == "undefined"
        tab.pdf()
        drawn = "[...document.querySelectorAll('[data-figure]')].map((plot) => plot.querySelector('svg') !== null)"
        assert set(tab.evaluate(drawn)) == {True}


def test_filtering_a_folded_table_opens_it(browser: Browser, file: Path) -> None:
    with opened(browser, file) as tab:
        tab.evaluate("document.getElementById('comparisons').closest('details').open = false")
        tab.fill("#comparisons-filter", "hellaswag acc replace_cc")
        assert tab.locator("#comparisons tbody tr:visible").count() == 1


def test_on_paper_the_verdict_fits_the_first_page(browser: Browser, file: Path) -> None:
    with opened(browser, file, scheme="dark") as tab:
        tab.emulate_media(media="print")
        effects = tab.evaluate("getComputedStyle(document.getElementById('effects')).breakBefore")
        ink = tab.evaluate("getComputedStyle(document.body).color")
        assert (effects, ink) == ("page", "rgb(0, 0, 0)")
        tab.set_viewport_size({"width": 703, "height": 1032})  # A4 less margins of 12 mm, at 96 dots an inch
        assert tab.evaluate("document.getElementById('effects').getBoundingClientRect().top + scrollY") < 1032
        assert tab.pdf()[:5] == b"%PDF-"
