"""Size, load time and frame times of the map of `assay audit topics`.

`python benchmarks/map.py [--points 100000] [--data data/text] [--frames 120]`

The benchmark repeats the sampled documents with small random shifts. It opens the map in headless Chromium without a GPU,
drags it, zooms, and points at documents, with one event per frame. The frame time is the time between two frames of the
browser; a screen of 60 Hz allows no less than 17 ms.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
import time
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from assay.audit.explore import topics
from assay.audit.explore.topics import TopicMap, TopicSettings
from assay.report import topic_map as map_page
from topics import sources

FLAGS = ["--no-sandbox", "--disable-gpu"]
MOVE = """
async ([kind, frames]) => {
  const map = document.getElementById("map"), box = map.getBoundingClientRect(), took = [], drawn = [];
  const at = (type, x, y, more = {}) => map.dispatchEvent(
    new (type === "wheel" ? WheelEvent : PointerEvent)(type, {
      clientX: box.left + x, clientY: box.top + y, pointerId: 1, bubbles: true, cancelable: true, ...more,
    }));
  map.setPointerCapture = () => {};
  const frame = () => new Promise(requestAnimationFrame);
  if (kind === "dragging") at("pointerdown", 400, 300);
  let last = await frame();
  for (let step = 0; step < frames; step++) {
    const turn = step / frames * 2 * Math.PI, x = 400 + 150 * Math.sin(turn), y = 300 + 150 * (1 - Math.cos(turn));
    if (kind === "zooming") at("wheel", 400, 300, { deltaY: step < frames / 2 ? -40 : 40 });
    else at("pointermove", x, y);
    const now = await frame();
    took.push(now - last);
    drawn.push(Number(map.dataset.milliseconds));
    last = now;
  }
  if (kind === "dragging") at("pointerup", 400, 300);
  return [took, drawn];
}
"""


def repeat(result: TopicMap, points: int) -> TopicMap:
    """Repeat the documents with small random shifts."""
    rows, draw = np.resize(np.arange(len(result.documents)), points), np.random.default_rng(0)
    shifted = result.documents.iloc[rows].assign(
        x=lambda table: table["x"] + draw.normal(0, 0.02, points),
        y=lambda table: table["y"] + draw.normal(0, 0.02, points),
    )
    return result._replace(documents=shifted)


def measure(page: Path, frames: int) -> Table:
    """Measure load time and frame times of a map."""
    from playwright.sync_api import sync_playwright

    table = Table("action", "frame: median", "95%", "worst", "drawing: median", "worst")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
        tab = browser.new_page(viewport={"width": 1280, "height": 900})
        start = time.perf_counter()
        tab.goto(page.as_uri())
        tab.wait_for_selector("html[data-map=ready]", state="attached")
        opened = time.perf_counter() - start
        own = tab.get_attribute("html", "data-opened")
        for kind in ("dragging", "zooming", "pointing"):
            took, drawn = (np.array(times) for times in tab.evaluate(MOVE, [kind, frames]))
            row = [f"{np.median(took):.0f} ms", f"{np.percentile(took, 95):.0f} ms", f"{took.max():.0f} ms"]
            table.add_row(kind, *row, f"{np.median(drawn):.0f} ms", f"{drawn.max():.0f} ms")
        browser.close()
    table.title = f"{page.stat().st_size / 1e6:.1f} MB, open after {opened:.1f} s (its script: {own} ms)"
    return table


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--points", type=int, nargs="*", default=[20_000, 100_000])
    parser.add_argument("--data", type=Path, default=Path("data/text"))
    parser.add_argument("--frames", type=int, default=120)
    given, console = parser.parse_args(), Console(width=120, highlight=False)
    selected = sources(given.data)
    settings = TopicSettings(vectors="svd", dimensions=64, sample=2_000, topics=15, seed=0)
    result = topics.find(selected, {source.name: "0" * 64 for source in selected}, settings)
    for points in given.points:
        with tempfile.TemporaryDirectory() as folder:
            page = Path(folder) / "map.html"
            page.write_text(map_page.render(repeat(result, points), title="benchmark"), encoding="utf-8")
            console.print(f"{points:,} points", measure(page, given.frames), sep="\n")
    console.print(f"load: {', '.join(f'{load:.1f}' for load in os.getloadavg())}")


if __name__ == "__main__":
    main()
