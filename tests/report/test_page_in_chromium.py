"""The sweep report in a browser, opened from disk."""

from __future__ import annotations

import contextlib
import csv
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from assay.report import page
from assay.report.model import Report
from tests.report import page_data
from tests.report.font_sets import FAMILIES, write_font_set
from tests.report.plots.test_figures import SHAPES

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, Playwright

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
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
playwright = pytest.importorskip("playwright.sync_api", reason="requires playwright: pip install playwright")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="requires chromium on PATH")


MISPLACED = """
() => [...document.querySelectorAll("[data-figure]")].flatMap((plot) => {
  const frame = plot.getBoundingClientRect();
  const boxes = (selector) => [...plot.querySelectorAll(selector)]
    .map((label) => ({ text: label.textContent, box: label.getBoundingClientRect() }))
    .filter(({ box }) => box.width > 0);
  const outside = ({ box }) =>
    box.left < frame.left - 1 || box.right > frame.right + 1 || box.top < frame.top - 1 || box.bottom > frame.bottom + 1;
  const overlap = (a, b) => a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom;
  const pairs = [[".ytitle", ".ytick text"], [".xtitle", ".xtick text"]];
  return [
    ...boxes(".xtick text, .ytick text, .xtitle, .ytitle, .annotation-text").filter(outside)
      .map(({ text }) => `${plot.id}: ${text} is cut off`),
    ...pairs.flatMap(([titles, ticks]) => boxes(titles).flatMap((title) => boxes(ticks)
      .filter((tick) => overlap(title.box, tick.box)).map((tick) => `${plot.id}: ${title.text} covers ${tick.text}`))),
    ...boxes(".xtick text").flatMap((tick, place, all) => all.slice(place + 1)
      .filter((other) => overlap(tick.box, other.box)).map((other) => `${plot.id}: ${tick.text} covers ${other.text}`)),
  ];
})
"""
"""Labels of plots that exceed their plot, or overlap each other."""


@pytest.fixture(scope="module")
def driver() -> Iterator[Playwright]:
    with playwright.sync_playwright() as driver:
        yield driver


@pytest.fixture(scope="module")
def browser(driver: Playwright) -> Iterator[Browser]:
    browser = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
    yield browser
    browser.close()


@pytest.fixture(scope="module", params=FAMILIES)
def browser_with_one_family(
    driver: Playwright, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Browser]:
    config = write_font_set(request.param, tmp_path_factory.mktemp("fonts"))
    if config is None:
        pytest.skip(f"requires the font family {request.param}")
    environment = {**os.environ, "FONTCONFIG_FILE": str(config)}
    browser = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS, env=environment)
    yield browser
    browser.close()


@pytest.fixture(scope="module")
def report() -> Report:
    return page_data.make()


@pytest.fixture(scope="module")
def file(report: Report, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "page.html"
    path.write_text(page.render(report), encoding="utf-8")
    return path


@contextlib.contextmanager
def opened(
    browser: Browser, file: Path, *, width: int = 1280, scheme: Any = "light", plots: bool = False
) -> Iterator[Page]:
    """Open the page, with `plots` draw every plot, and fail on any console message, error or external request."""
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, accept_downloads=True)
    tab, messages = context.new_page(), []
    tab.on("console", lambda message: messages.append(f"{message.type}: {message.text}"))
    tab.on("pageerror", lambda error: messages.append(f"error: {error}"))
    tab.on("request", lambda request: messages.append(f"request: {request.url}") if _outside(request.url) else None)
    tab.goto(file.as_uri())
    tab.wait_for_selector("html[data-plots=ready]", state="attached")
    tab.evaluate("for (const part of document.querySelectorAll('details')) part.open = true")
    if plots:
        for plot in tab.query_selector_all("[data-figure]"):
            plot.scroll_into_view_if_needed()
        until(tab, "[...document.querySelectorAll('[data-figure]')].every((plot) => plot.querySelector('svg'))")
    yield tab
    assert messages == []
    context.close()


def until(tab: Page, condition: str) -> None:
    """Wait for a condition. Playwright's `wait_for_function` evaluates text, which the page's policy forbids."""
    for _ in range(200):
        if tab.evaluate(condition):
            return
        tab.wait_for_timeout(50)
    pytest.fail(f"condition not met within 10 s: {condition}")


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
def test_the_page_opens_without_messages_and_fits_the_window(
    browser: Browser, file: Path, width: int, scheme: str
) -> None:
    with opened(browser, file, width=width, scheme=scheme, plots=True) as tab:
        assert tab.evaluate("document.documentElement.scrollWidth") == width
        assert tab.evaluate("document.querySelectorAll('[data-figure] .main-svg').length") > 0


@pytest.mark.parametrize("shape", [shape for shape in SHAPES if shape not in ("normal", "hostile")])
def test_any_sweep_opens_and_fits_a_narrow_window(browser: Browser, shape: str, tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    path.write_text(page.render(page_data.make(**SHAPES[shape])), encoding="utf-8")
    with opened(browser, path, width=400, plots=True) as tab:
        assert tab.evaluate("document.documentElement.scrollWidth") == 400


@pytest.mark.parametrize(("shape", "width"), [("one task", 400), ("long names", 400), ("normal", 1280)])
def test_labels_of_plots_are_readable_with_any_font(
    browser_with_one_family: Browser, shape: str, width: int, tmp_path: Path
) -> None:
    """Plotly redraws without end where the labels decide the margins, which then depends on the font's widths."""
    path = tmp_path / "page.html"
    path.write_text(page.render(page_data.make(**SHAPES[shape])), encoding="utf-8")
    with opened(browser_with_one_family, path, width=width, plots=True) as tab:
        assert tab.evaluate("document.documentElement.scrollWidth") == width
        assert tab.evaluate(MISPLACED) == []


def test_hostile_text_is_inert(browser: Browser, tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    path.write_text(page.render(page_data.make(hostile=True)), encoding="utf-8")
    with opened(browser, path, plots=True) as tab:
        assert tab.evaluate("window.hacked") is None
        assert tab.evaluate("document.images.length") == 0
        assert page_data.HOSTILE in tab.inner_text("h1")
        tab.hover("#effects-1 .scatterlayer .point >> nth=0", force=True)
        assert tab.evaluate("window.hacked") is None


def test_the_policy_blocks_injected_markup(browser: Browser, file: Path, tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    path.write_text(
        file.read_text(encoding="utf-8").replace("<main>", f"<main>{page_data.HOSTILE[9:]}"), encoding="utf-8"
    )
    context = browser.new_context()
    tab = context.new_page()
    tab.goto(path.as_uri())
    tab.wait_for_selector("html[data-plots=ready]", state="attached")
    assert tab.evaluate("document.images.length") == 1
    assert tab.evaluate("window.hacked") is None
    context.close()


def test_a_table_sorts_in_both_directions_with_empty_values_last(browser: Browser, file: Path, report: Report) -> None:
    with opened(browser, file) as tab:
        head = tab.locator("#comparisons thead th", has_text="p of claim")
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


def test_tables_sort_by_keyboard(browser: Browser, file: Path) -> None:
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


def test_a_warning_links_to_its_run(browser: Browser, file: Path) -> None:
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


def test_saved_tables_contain_no_spreadsheet_formulas(browser: Browser, tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    report = page_data.make(benchmarks=("=HYPERLINK(1)", "hellaswag"))
    path.write_text(page.render(report), encoding="utf-8")
    with opened(browser, path) as tab:
        rows = saved(tab, "[data-csv-table=score-table]", tmp_path)
    assert "'=HYPERLINK(1)" in {row["task"] for row in rows}


def test_hovering_shows_the_values(browser: Browser, file: Path) -> None:
    with opened(browser, file) as tab:
        tab.locator("#effects-0").scroll_into_view_if_needed()
        until(tab, "document.querySelector('#effects-0 .scatterlayer .point') !== null")
        tab.locator("#effects-0 .scatterlayer .trace .point").nth(3).hover(force=True)
        tab.wait_for_selector("#effects-0 .hoverlayer .hovertext")
        assert "interval" in (tab.locator("#effects-0 .hoverlayer").text_content() or "")


def test_the_theme_follows_the_browser(browser: Browser, file: Path) -> None:
    with opened(browser, file) as tab:
        tab.locator("#curve-loss").scroll_into_view_if_needed()
        until(tab, "document.querySelector('#curve-loss').data?.[0].line.color === '#5b6673'")
        tab.emulate_media(color_scheme="dark")
        until(tab, "document.querySelector('#curve-loss').data[0].line.color === '#b3bdc9'")


def test_plotly_starts_on_demand_and_printing_draws_every_plot(browser: Browser, file: Path) -> None:
    with opened(browser, file, width=400) as tab:  # the verdict is more than two windows high at this width
        assert tab.evaluate("typeof Plotly") == "undefined"
        tab.pdf()
        drawn = "[...document.querySelectorAll('[data-figure]')].map((plot) => plot.querySelector('svg') !== null)"
        assert set(tab.evaluate(drawn)) == {True}


def test_filtering_opens_a_closed_table(browser: Browser, file: Path) -> None:
    with opened(browser, file) as tab:
        tab.evaluate("document.getElementById('comparisons').closest('details').open = false")
        tab.fill("#comparisons-filter", "hellaswag acc replace_cc")
        assert tab.locator("#comparisons tbody tr:visible").count() == 1


def test_the_verdict_fits_the_first_printed_page(browser: Browser, file: Path) -> None:
    with opened(browser, file, scheme="dark") as tab:
        tab.emulate_media(media="print")
        effects = tab.evaluate("getComputedStyle(document.getElementById('effects')).breakBefore")
        ink = tab.evaluate("getComputedStyle(document.body).color")
        assert (effects, ink) == ("page", "rgb(0, 0, 0)")
        tab.set_viewport_size({"width": 703, "height": 1032})  # A4 without margins of 12 mm, at 96 pixels per inch
        assert tab.evaluate("document.getElementById('effects').getBoundingClientRect().top + scrollY") < 1032
        assert tab.pdf()[:5] == b"%PDF-"
