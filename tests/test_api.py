"""The public API: what `docs/api.md` documents, loaded on first use."""

from __future__ import annotations

import ast
import doctest
import re
import subprocess
import sys
from pathlib import Path

import assay

PAGE = Path(__file__).parents[1] / "docs" / "api.md"


def test_the_documented_calls_give_the_documented_results() -> None:
    results = doctest.testfile(str(PAGE), module_relative=False, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert results.attempted > 10
    assert results.failed == 0


def test_the_public_names_are_pinned() -> None:
    """A removed or renamed name breaks the code of users: change this list only with an entry in the CHANGELOG."""
    assert assay.__all__ == [
        "Aggregate", "AssayError", "Averaging", "Code", "Comparison", "ConfigError", "Criterion", "Damaged", "Decision",
        "EarlyStopping", "InterimResult", "NotFound", "Policy", "Reason", "Refused", "SchedulerError", "SequentialSeeds", "SweepVerdict",
        "Target", "Verdict",
        "analyze_interim", "average_last", "compare", "decide", "gate", "over_replicates", "text",
    ]  # fmt: skip


def test_every_public_name_loads_and_is_documented() -> None:
    page = PAGE.read_text(encoding="utf-8")
    for name in assay.__all__:
        assert getattr(assay, name).__name__ == name
        assert re.search(rf"\b{name}\b", page), f"docs/api.md does not document {name}"


def test_the_page_imports_from_the_top_level_only() -> None:
    code = "\n".join(
        line.strip()[4:] for line in PAGE.read_text(encoding="utf-8").splitlines() if ">>> from assay" in line
    )
    assert {node.module for node in ast.walk(ast.parse(code)) if isinstance(node, ast.ImportFrom)} == {"assay"}


def test_types_and_lazy_names_agree() -> None:
    """The names that type checkers see come from the modules that the names are loaded from."""
    tree = ast.parse(Path(assay.__file__).read_text(encoding="utf-8"))
    seen = {
        alias.name: node.module
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("assay.")
        for alias in node.names
    }
    assert seen == assay._HOMES
    assert sorted(seen) == sorted(assay.__all__)


def test_a_name_from_the_top_level_loads_nothing_else() -> None:
    code = "import sys, assay; assay.Policy; print('torch' in sys.modules, 'pandas' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["False", "False"]
