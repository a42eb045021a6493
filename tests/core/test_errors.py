"""The exception classes: handlers react to a class, and none hides damage."""

from __future__ import annotations

import ast
import pickle
from collections.abc import Iterator
from pathlib import Path

import pytest

import assay
from assay.core.errors import AssayError, ConfigError, Damaged, NotFound, Refused, SchedulerError
from assay.launch.logs import OWN_ERROR

PACKAGE = Path(assay.__file__).parent
KINDS = (ConfigError, Damaged, NotFound, Refused, SchedulerError)


def modules() -> Iterator[tuple[str, ast.Module]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        yield path.relative_to(PACKAGE).as_posix(), ast.parse(path.read_text(encoding="utf-8"))


def names(node: ast.expr | None) -> set[str]:
    return {part.id for part in ast.walk(node) if isinstance(part, ast.Name)} if node is not None else set()


def test_no_module_raises_the_base_class() -> None:
    calls = [
        f"{name}:{node.lineno}"
        for name, module in modules()
        for node in ast.walk(module)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "AssayError"
    ]
    assert calls == []


def test_a_handler_of_the_base_class_reports_the_error_or_raises_it() -> None:
    """Handlers that continue without a message must name the classes that they expect."""
    silent = []
    for name, module in modules():
        for node in ast.walk(module):
            if isinstance(node, ast.ExceptHandler) and "AssayError" in names(node.type):
                raises = any(isinstance(part, ast.Raise) and part.exc is None for part in ast.walk(node))
                if node.name is None and not raises:
                    silent.append(f"{name}:{node.lineno}")
            suppresses = isinstance(node, ast.Call) and "suppress" in ast.unparse(node.func)
            if suppresses and any("AssayError" in names(kind) for kind in node.args):
                silent.append(f"{name}:{node.lineno}")
    assert silent == []


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_keeps_its_class_and_its_fix_between_processes(kind: type[AssayError]) -> None:
    error = pickle.loads(pickle.dumps(kind("run: 3 is invalid.", fix="Choose 2.")))
    assert (type(error), error.what, error.fix) == (kind, "run: 3 is invalid.", "Choose 2.")


@pytest.mark.parametrize("kind", KINDS)
def test_no_class_is_caught_as_another(kind: type[AssayError]) -> None:
    assert [other for other in KINDS if issubclass(kind, other)] == [kind]


@pytest.mark.parametrize("kind", KINDS)
def test_a_log_shows_every_class_as_an_error(kind: type[AssayError]) -> None:
    assert OWN_ERROR.match(f"{kind.__module__}.{kind.__qualname__}: source 'web': not JSON")
