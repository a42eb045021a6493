"""Speed of pages: `python benchmarks/pages.py page` and `python benchmarks/pages.py serve`.

Both create their own store in a temporary folder. `page` has 1,000 finished runs with 100 tasks, and measures the time of
the verdict, of building the page and of opening it in Chromium, and the page's size. `serve` has 10,000 runs, and
measures the time until `assay serve` listens, of its first responses and of later ones.
"""

from __future__ import annotations

import json
import math
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from rich.console import Console
from rich.table import Table

from assay.analysis.verdict import decide_sweep
from assay.core.files import write_json
from assay.report.page import render
from assay.report.publish import make_report
from sweeps import finish, make_project

if TYPE_CHECKING:
    from playwright.sync_api import Page

    from assay.plan.plan import PlannedRun
    from assay.plan.workspace import Workspace

RUNS, TASKS, RECORDS, QUESTIONS = 1_000, 100, 200, 20
SERVED = 10_000
TIMES = 5
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]


def fill(space: Workspace, planned: PlannedRun) -> None:
    """Write everything that a page shows of a run: history, delivered mix, scores and some items of each task."""
    assert planned.spec is not None
    spec, run = planned.spec, space.store.run(planned.spec.fingerprint)
    run.create(spec, space.runs.labels(planned.mix, planned.seed))
    finish(space, planned)
    draw = random.Random(f"{planned.mix} {planned.seed}")
    lines = []
    for place in range(1, RECORDS + 1):
        loss = 4 + 4 * math.exp(-6 * place / RECORDS) + draw.gauss(0, 0.03)
        step = round(spec.steps * place / RECORDS)
        lines.append(
            {
                "step": step,
                "tokens": step * spec.tokens_per_step,
                "loss": loss,
                "bits_per_byte": loss / 2.5,
                "lr": 0.001,
                "grad_norm": 0.7,
                "tokens_per_second": 9_000.0,
                "mfu": None,
                "loss_by_source": dict.fromkeys(spec.corpora, loss),
            }
        )
    run.metrics.write_text("".join(json.dumps(line) + "\n" for line in lines))
    sequences = spec.steps * spec.batch_sequences
    given = {name: {"sequences": round(w * sequences), "tokens": 0} for name, w in spec.stages[0].weights.items()}
    write_json(run.path / "delivered.json", {"requested": spec.stages[0].weights, "delivered": given})
    folder = run.evaluation(space.runs.evaluation.fingerprint)
    names = ["mmlu", *(f"task_{number:02d}" for number in range(TASKS - 1))]
    right = {name: [float(draw.random() < 0.4) for _ in range(QUESTIONS)] for name in names}
    scores = [
        {
            "task": name,
            "metric": "acc",
            "value": statistics.fmean(answers),
            "n": QUESTIONS,
            "stderr": 0.1,
            "chance": 0.25,
        }
        for name, answers in right.items()
    ]
    write_json(folder / "scores.json", {"scores": scores})
    rows = [
        {"task": name, "group": name, "doc_id": i, "doc_hash": f"{name}{i}", "prompt_hash": "", "acc": answer}
        for name, answers in right.items()
        for i, answer in enumerate(answers)
    ]
    pd.DataFrame(rows).to_parquet(folder / "items.parquet")


def timed(table: Table, name: str, work: Callable[[], Any]) -> Any:
    """Call a function, and add its wall time and CPU time to the table; other processes may use the machine."""
    started, cpu_started = time.perf_counter(), time.process_time()
    result = work()
    table.add_row(name, f"{time.perf_counter() - started:.1f} s, {time.process_time() - cpu_started:.1f} s of CPU time")
    return result


def page(root: Path, table: Table) -> None:
    """Measure the verdict, the page and its opening in Chromium for a large sweep."""
    space = make_project(root, RUNS)
    for planned in space.planner.plan().runs:
        fill(space, planned)
    plan = timed(table, "plan", space.planner.plan)
    verdict = timed(table, "verdict (not part of the page)", lambda: decide_sweep(space, plan))
    assert all(candidate.comparisons for candidate in verdict.candidates.values()), (
        "a page without effects does not represent a large one"
    )
    report = timed(table, "page: read the store", lambda: make_report(space, plan, verdict))
    html = timed(table, "page: render", lambda: render(report))
    path = root / "page.html"
    path.write_text(html)
    table.add_row("size", f"{len(html.encode()) / 1e6:.1f} MB")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
        for number in range(3):
            tab = browser.new_context(viewport={"width": 1280, "height": 900}).new_page()
            table.add_row(f"open in Chromium, time {number + 1}", opened(tab, path))
            tab.context.close()
        browser.close()


def opened(tab: Page, path: Path) -> str:
    """Return the times until the page is readable, reacts to a click and has its plots ready, and of drawing them."""
    started, times = time.perf_counter(), []
    tab.goto(path.as_uri(), wait_until="domcontentloaded")
    times.append(f"verdict {time.perf_counter() - started:.1f} s")
    tab.click("h1")
    times.append(f"reaction to a click {time.perf_counter() - started:.1f} s")
    tab.wait_for_selector("html[data-plots=ready]", state="attached")
    times.append(f"all plots ready {time.perf_counter() - started:.1f} s")
    tab.evaluate(
        "for (const part of document.querySelectorAll('details')) part.open = part.querySelector('[data-figure]') !== null"
    )
    for name, last in (("then the first plot", 1), ("all others", None)):
        started = time.perf_counter()
        for plot in tab.query_selector_all("[data-figure]")[:last]:
            plot.scroll_into_view_if_needed()
            while plot.query_selector("svg") is None:
                time.sleep(0.01)
        times.append(f"{name} {time.perf_counter() - started:.1f} s")
    return ", ".join(times)


def serve(root: Path, table: Table) -> None:
    """Measure first and later responses of the site of a large store."""
    space = make_project(root, SERVED)
    for place, planned in enumerate(space.planner.outline().runs):
        assert planned.spec is not None
        run = space.store.run(planned.spec.fingerprint)
        run.create(planned.spec, space.runs.labels(planned.mix, planned.seed))
        if place % 2 == 0:
            run.update(state="training", step=10, steps=100, tokens=1000, tokens_per_second=5_000.0 + place)
    command = [sys.executable, "-m", "assay", "serve", "--port", "0", "--json"]
    started = time.perf_counter()
    server = subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    try:
        address = json.loads(server.stdout.readline())["address"]
        table.add_row("until it listens", f"{time.perf_counter() - started:.2f} s")
        for path in ("sweeps/large", "sweeps/large?q=mix_07&state=training&sort=-speed", "runs", "", "search?q=mix_03"):
            seconds = []
            for _ in range(TIMES):
                request_started = time.perf_counter()
                urllib.request.urlopen(address + path).read()
                seconds.append(time.perf_counter() - request_started)
                time.sleep(0.6)  # longer than the site caches its reading of the files
            later = statistics.median(seconds[1:])
            table.add_row(
                f"/{path}", f"first {seconds[0]:.2f} s, then {later:.2f} s (slowest {max(seconds[1:]):.2f} s)"
            )
    finally:
        server.send_signal(signal.SIGINT)
        server.wait(30)


def main() -> None:
    """Print the table."""
    part = sys.argv[1] if len(sys.argv) > 1 else "page"
    table = Table("step", "time")
    with tempfile.TemporaryDirectory() as made:
        {"page": page, "serve": serve}[part](Path(made), table)
    Console(width=120).print(table, f"load: {', '.join(f'{load:.1f}' for load in os.getloadavg())}", sep="\n")


if __name__ == "__main__":
    main()
