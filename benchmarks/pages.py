"""How fast pages are: `python benchmarks/pages.py page` and `python benchmarks/pages.py serve`.

Both make stores of their own in a temporary folder. `page` has 1,000 finished runs with 100 tasks: the seconds of judging them, of
making the page and of opening it in Chromium, and its size. `serve` has 10,000 runs: the seconds until `assay serve` listens, of its
first answers, and of those after.
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

from assay import conclude
from assay.files import write_json
from assay.publish.page import render
from sweeps import finish, make_project

if TYPE_CHECKING:
    from playwright.sync_api import Page

    from assay.plan import PlannedRun
    from assay.workspace import Workspace

RUNS, TASKS, RECORDS, QUESTIONS = 1_000, 100, 200, 20
SERVED = 10_000
TIMES = 5
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]


def fill(space: Workspace, planned: PlannedRun) -> None:
    """Everything that a page shows of a run: history, what was delivered, scores and a few questions of each task."""
    assert planned.spec is not None
    spec, run = planned.spec, space.store.run(planned.spec.fingerprint)
    run.create(spec, space.labels(planned.mix, planned.seed))
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
    folder = run.evaluation(space.evaluation.fingerprint)
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


def timed(table: Table, what: str, work: Callable[[], Any]) -> Any:
    """Do it, and enter its seconds into the table, and those of the processor: other work may be on the machine."""
    started, spent = time.perf_counter(), time.process_time()
    found = work()
    table.add_row(what, f"{time.perf_counter() - started:.1f} s, {time.process_time() - spent:.1f} s of the processor")
    return found


def page(root: Path, table: Table) -> None:
    """Judging, making and opening the page of a large sweep."""
    space = make_project(root, RUNS)
    for planned in space.plan().runs:
        fill(space, planned)
    plan = timed(table, "plan", space.plan)
    verdict = timed(table, "judge (the gate; not the page's)", lambda: conclude.judge(space, plan))
    assert all(one.comparisons for one in verdict.candidates.values()), (
        "a page without effects tells nothing of a large one"
    )
    report = timed(table, "page: read the store", lambda: conclude.make_report(space, plan, verdict))
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
    """When a page that is opened can be read, when it answers a click, when each plot can be drawn, and how long drawing takes."""
    started, took = time.perf_counter(), []
    tab.goto(path.as_uri(), wait_until="domcontentloaded")
    took.append(f"verdict {time.perf_counter() - started:.1f} s")
    tab.click("h1")
    took.append(f"a click answered {time.perf_counter() - started:.1f} s")
    tab.wait_for_selector("html[data-plots=ready]", state="attached")
    took.append(f"every plot can be drawn {time.perf_counter() - started:.1f} s")
    tab.evaluate(
        "for (const part of document.querySelectorAll('details')) part.open = part.querySelector('[data-figure]') !== null"
    )
    for what, last in (("then the first plot", 1), ("all the others", None)):
        started = time.perf_counter()
        for plot in tab.query_selector_all("[data-figure]")[:last]:
            plot.scroll_into_view_if_needed()
            while plot.query_selector("svg") is None:
                time.sleep(0.01)
        took.append(f"{what} {time.perf_counter() - started:.1f} s")
    return ", ".join(took)


def serve(root: Path, table: Table) -> None:
    """First and later answers of a site of a large store."""
    space = make_project(root, SERVED)
    for place, planned in enumerate(space.outline().runs):
        assert planned.spec is not None
        run = space.store.run(planned.spec.fingerprint)
        run.create(planned.spec, space.labels(planned.mix, planned.seed))
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
            taken = []
            for _ in range(TIMES):
                began = time.perf_counter()
                urllib.request.urlopen(address + path).read()
                taken.append(time.perf_counter() - began)
                time.sleep(0.6)  # longer than a look at the files serves
            later = statistics.median(taken[1:])
            table.add_row(f"/{path}", f"first {taken[0]:.2f} s, then {later:.2f} s (slowest {max(taken[1:]):.2f} s)")
    finally:
        server.send_signal(signal.SIGINT)
        server.wait(30)


def main() -> None:
    """Print the table."""
    part = sys.argv[1] if len(sys.argv) > 1 else "page"
    table = Table("what", "taken")
    with tempfile.TemporaryDirectory() as made:
        {"page": page, "serve": serve}[part](Path(made), table)
    Console(width=120).print(table, f"load: {', '.join(f'{one:.1f}' for one in os.getloadavg())}", sep="\n")


if __name__ == "__main__":
    main()
