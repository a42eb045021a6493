"""Data flows one way, and the command line answers at once: what may import what, and what is loaded when."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import assay

SOURCE = Path(assay.__file__).parent

# From what depends on nothing to the door. A part imports parts before it, never one after it.
ORDER = [
    "errors", "structure", "fingerprint", "files", "tails", "processes", "revision", "epochs", "lease", "demo",
    "sources", "mixes", "recipe", "arms", "ablations", "suite", "references", "roots", "plan", "store", "stopped",
    "corpus", "audit", "train", "evaluate", "settings", "study", "changes", "identities", "workspace", "registered",
    "stats", "compare", "effects", "design", "claims", "advice", "reasons", "gate", "early", "results", "past", "looks", "curves", "publish", "imports", "conclude", "launch", "cli",
]  # fmt: skip
HEAVY = [
    "torch",
    "transformers",
    "lm_eval",
    "datasets",
    "wandb",
    "plotly",
    "pandas",
    "numpy",
    "numba",
    "scipy",
    "pyarrow",
    "hydra",
]


def part_of(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def imported_parts(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "assay":
            inner = (node.module or "").split(".")[1:]
            names |= {inner[0]} if inner else {alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            names |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("assay.")}
    return names - {"__version__"}


@pytest.mark.parametrize("path", sorted(SOURCE.rglob("*.py")), ids=lambda p: str(p.relative_to(SOURCE)))
def test_no_part_imports_one_that_comes_after_it(path: Path) -> None:
    part = part_of(path)
    if part in ("__init__", "__main__"):
        return
    assert part in ORDER, f"{part} has no place in the order"
    allowed = set(ORDER[: ORDER.index(part) + 1])
    assert imported_parts(path) <= allowed


@pytest.mark.parametrize(
    "module", ["assay", "assay.cli.main", "assay.study", "assay.store", "assay.workspace", "assay.launch.status"]
)
def test_importing_loads_nothing_heavy(module: str) -> None:
    code = f"import sys, {module}; print([name for name in {HEAVY!r} if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_one_place_imports_lm_eval_and_one_imports_wandb() -> None:
    for package, home in (("lm_eval", "evaluate"), ("wandb", "publish"), ("submitit", "launch")):
        users = {
            part_of(path)
            for path in SOURCE.rglob("*.py")
            if f"import {package}" in path.read_text() or f"from {package}" in path.read_text()
        }
        assert users <= {home}
