"""Data flows one way, and the command line answers at once: what may import what, and what is loaded when."""

from __future__ import annotations

import ast
import graphlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

import assay

SOURCE = Path(assay.__file__).parent

# The packages in data-flow order: a package imports itself and those before it.
ORDER = (
    "core", "config", "store", "corpus", "audit", "train", "evaluate", "plan",
    "analysis", "propose", "report", "export", "launch", "demo", "cli",
)  # fmt: skip
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


MODULES = {
    ".".join(("assay", *path.relative_to(SOURCE).with_suffix("").parts)).removesuffix(".__init__"): path
    for path in sorted(SOURCE.rglob("*.py"))
}


def package_of(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def imported_modules(path: Path) -> set[str]:
    """The modules of assay that a module imports, wherever the statement stands."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module is not None and node.level == 0:
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            names |= inner & MODULES.keys() if inner <= MODULES.keys() else inner | {node.module}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return names & MODULES.keys()


def cycle_in(graph: dict[str, set[str]]) -> list[str] | None:
    """Return one import cycle of a graph of modules, or ``None``."""
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        return list(error.args[1])
    return None


@pytest.mark.parametrize("path", MODULES.values(), ids=MODULES)
def test_no_package_imports_one_that_comes_after_it(path: Path) -> None:
    package = package_of(path)
    if package in ("__init__", "__main__"):
        return
    allowed = set(ORDER[: ORDER.index(package) + 1])
    assert {package_of(MODULES[name]) for name in imported_modules(path)} - {"__init__"} <= allowed


def test_no_modules_lie_outside_a_package() -> None:
    assert {path.name for path in SOURCE.glob("*.py")} == {"__init__.py", "__main__.py"}
    assert {path.name for path in SOURCE.iterdir() if (path / "__init__.py").exists()} <= set(ORDER)


def test_no_modules_import_each_other_in_a_cycle() -> None:
    """Imports for type checkers and inside functions count too: a reader follows them as well."""
    graph = {name: imported_modules(path) - {"assay", name} for name, path in MODULES.items()}
    assert cycle_in(graph) is None


def test_a_cycle_is_found() -> None:
    assert cycle_in({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) is not None


@pytest.mark.parametrize(
    "module",
    [
        "assay",
        "assay.cli.main",
        "assay.config.study",
        "assay.store.runs",
        "assay.plan.workspace",
        "assay.launch.status",
    ],
)
def test_importing_loads_nothing_heavy(module: str) -> None:
    code = f"import sys, {module}; print([name for name in {HEAVY!r} if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("library", "homes"),
    [
        ("lm_eval", {"evaluate"}),
        ("submitit", {"launch"}),
        ("wandb", {"report/wandb", "analysis/external"}),  # what is published; what is read from other projects
    ],
)
def test_a_library_is_imported_where_it_belongs(library: str, homes: set[str]) -> None:
    statement = re.compile(rf"^\s*(import|from) {library}\b", re.MULTILINE)
    users = {str(path.relative_to(SOURCE).parent) for path in MODULES.values() if statement.search(path.read_text())}
    assert users
    assert all(any(user.startswith(home) for home in homes) for user in users)
