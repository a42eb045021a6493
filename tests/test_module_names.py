"""Modules that are named in strings exist: `python -m`, preloaded modules, package loaders, entry points."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import re
import signal
import tomllib
from pathlib import Path

import pytest

import assay

SOURCE = Path(assay.__file__).parent
ROOT = SOURCE.parent.parent
MODULE = re.compile(r"assay(\.[a-z_][a-z_0-9]*)+")
NOT_MODULES = {"assay.plain"}  # the name of a logging handler


def named_modules() -> list[tuple[str, str]]:
    """Every string literal of the package that has the form of a module's name, with the file that it stands in."""
    return [
        (str(path.relative_to(SOURCE)), node.value)
        for path in sorted(SOURCE.rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and MODULE.fullmatch(node.value)
        if node.value not in NOT_MODULES
    ]


@pytest.mark.parametrize(("file", "module"), named_modules())
def test_a_module_named_in_a_string_exists(file: str, module: str) -> None:
    if importlib.util.find_spec(module) is None:
        pytest.fail(f"{file} names {module}, which does not exist")


def test_the_strings_are_found() -> None:
    assert len(named_modules()) >= 15


def test_entry_points_exist() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    for target in project["project"]["scripts"].values():
        module, _, function = target.partition(":")
        assert callable(getattr(importlib.import_module(module), function))


def test_files_that_pytest_must_not_import_exist() -> None:
    options = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["pytest"]["ini_options"]["addopts"]
    ignored = [option.removeprefix("--ignore=") for option in options if option.startswith("--ignore=")]
    assert ignored
    assert [path for path in ignored if not (ROOT / path).is_file()] == []


def test_the_test_process_does_not_ignore_sigterm() -> None:
    """Its child processes would inherit that, and could be stopped only by SIGKILL."""
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    assert signal.SIGTERM not in signal.pthread_sigmask(signal.SIG_BLOCK, ())


@pytest.mark.parametrize("script", sorted((ROOT / "benchmarks").glob("*.py")), ids=lambda path: path.stem)
def test_benchmarks_import_names_that_exist(script: Path) -> None:
    for node in ast.walk(ast.parse(script.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "assay":
            module = importlib.import_module(node.module or "")
            for alias in node.names:
                found = hasattr(module, alias.name) or importlib.util.find_spec(f"{node.module}.{alias.name}")
                assert found, f"{node.module} has no {alias.name}"
