"""The tutorial's files and commands lead from an empty folder to the verdict that it shows."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from pydoc_data.topics import topics

import pyarrow.parquet as pq
import pytest

from assay.config.suite import Suite
from tests.docs.pages import ROOT, blocks

PAGE = ROOT / "docs" / "tutorial.md"
EXIT_CODES = {"assay gate": 1, "assay audit": 1}
"""Commands that end with another exit code than 0."""


def steps() -> Iterator[tuple[str, str]]:
    """Yield the files as (path, text), and the commands as ("", command), in the order of the page."""
    for language, text in blocks(PAGE):
        lines = [line for line in text.splitlines() if not line.startswith("# @package")]
        if language == "console":
            yield from (("", line.removeprefix("$ ")) for line in lines if line.startswith("$ "))
        elif language in ("yaml", "python"):
            assert lines[0].startswith("# "), f"the block that begins with {lines[0]!r} names no file"
            yield lines[0].removeprefix("# "), text


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """A shell that finds this `assay` and this Python, and no settings of assay."""
    programs = tmp_path / "programs"
    programs.mkdir()
    for name, arguments in (("assay", "-m assay "), ("python", "")):
        (programs / name).write_text(f'#!/bin/sh\nexec {sys.executable} {arguments}"$@"\n')
        (programs / name).chmod(0o755)
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("ASSAY_")}
    return {**inherited, "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(ROOT / "src")}


@pytest.mark.skipif("include_path" not in {field.name for field in fields(Suite)}, reason="needs suite.include_path")
def test_the_tutorial_ends_with_its_verdict(tmp_path: Path, environment: dict[str, str]) -> None:
    folder = tmp_path
    for path, text in steps():
        if path:
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(text, encoding="utf-8")
        elif text.startswith("cd "):
            folder /= text.removeprefix("cd ")
        else:
            run(text, folder, environment)
    verdicts = json.loads(run("assay gate sweep=cheap --json", folder, environment))["candidates"]
    assert set(verdicts) == {"with_cheap_code", "no_manual", "even"}
    rejected = verdicts["with_cheap_code"]
    assert rejected["verdict"] == "REJECT"
    assert {"worse"} <= {reason["code"] for reason in rejected["reasons"]}
    tasks = {comparison["task"] for comparison in rejected["comparisons"]}
    assert tasks >= {"validation/code", "validation/docs", "validation/manual", "next_line"}
    assert (folder / "store/reports/cheap.html").stat().st_size > 10_000
    check_sources(folder, environment)


def check_sources(folder: Path, environment: dict[str, str]) -> None:
    """Check that every format was read as documents, and that the baseline has natural proportions."""
    sources = {
        source["name"]: source for source in json.loads(run("assay sources sweep=cheap --json", folder, environment))
    }
    documents = {name: source["documents"]["documents"] for name, source in sources.items()}
    assert documents["docs"] == len(topics)
    assert documents["manual"] == len(list((folder / "data/manual/html").glob("*.html")))
    assert documents["code"] == (folder / "data/code/modules.txt").read_text().count("\n%%%%\n") + 1
    assert documents["cheap_code"] == len(pq.read_table(folder / "data/cheap_code/part-0.parquet"))
    mix = json.loads(run("assay mix show today sweep=cheap --json", folder, environment))
    used = ("code", "docs", "manual")
    natural = {name: sources[name]["tokens"] / sum(sources[name]["tokens"] for name in used) for name in used}
    assert {row["source"]: row["weight"] for row in mix["sources"]} == pytest.approx(natural)


def run(command: str, folder: Path, environment: dict[str, str]) -> str:
    """Run a command of the page; return its standard output."""
    done = subprocess.run(
        command, shell=True, cwd=folder, env=environment, capture_output=True, text=True, timeout=900, check=False
    )
    expected = next((code for start, code in EXIT_CODES.items() if command.startswith(start)), 0)
    assert done.returncode == expected, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout
