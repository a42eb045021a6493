"""The map of `assay clusters`: its size, how long it takes to open, and whether it stays fluid while it is moved.

`python benchmarks/map.py [--points 100000] [--data data/text] [--frames 120]`

The sample's documents are taken over and over, each time shifted a little. The map is opened in headless Chromium without a GPU, dragged about,
and drawn nearer and farther; each frame has one event, and its time is that from one frame of the browser to the next: 17 ms is all that a
screen of 60 Hz can show. Pointing asks for what is under the pointer in every frame.
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

from assay.audit import clusters
from assay.audit.clusters import Found, Settings
from assay.publish import map as map_page
from clusters import sources

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


def many(found: Found, points: int) -> Found:
    """The documents over and over, each time somewhere near."""
    rows, draw = np.resize(np.arange(len(found.documents)), points), np.random.default_rng(0)
    shifted = found.documents.iloc[rows].assign(
        x=lambda table: table["x"] + draw.normal(0, 0.02, points),
        y=lambda table: table["y"] + draw.normal(0, 0.02, points),
    )
    return found._replace(documents=shifted)


def measure(page: Path, frames: int) -> Table:
    """Open the map, and move it."""
    from playwright.sync_api import sync_playwright

    table = Table("what", "frame: median", "95%", "worst", "drawing: median", "worst")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
        tab = browser.new_page(viewport={"width": 1280, "height": 900})
        begun = time.perf_counter()
        tab.goto(page.as_uri())
        tab.wait_for_selector("html[data-map=ready]", state="attached")
        opened = time.perf_counter() - begun
        own = tab.get_attribute("html", "data-opened")
        for kind in ("dragging", "zooming", "pointing"):
            took, drawn = (np.array(one) for one in tab.evaluate(MOVE, [kind, frames]))
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
    read = sources(given.data)
    settings = Settings(vectors="svd", dimensions=64, sample=2_000, clusters=15, seed=0)
    found = clusters.find(read, {source.name: "0" * 64 for source in read}, settings)
    for points in given.points:
        with tempfile.TemporaryDirectory() as folder:
            page = Path(folder) / "map.html"
            page.write_text(map_page.render(many(found, points), title="benchmark"), encoding="utf-8")
            console.print(f"{points:,} points", measure(page, given.frames), sep="\n")
    console.print(f"load: {', '.join(f'{one:.1f}' for one in os.getloadavg())}")


if __name__ == "__main__":
    main()
