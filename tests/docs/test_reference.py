"""The reference pages are current, and complete."""

from __future__ import annotations

import importlib.util
import re
import sys
from types import ModuleType

import pytest

from assay.config.mixes import parse_edit
from assay.core.errors import ConfigError
from assay.launch.slurm.retry_policy import RETRY_LIMITS
from tests.docs.pages import ROOT


@pytest.fixture(scope="module")
def reference() -> ModuleType:
    """The script that writes the pages."""
    spec = importlib.util.spec_from_file_location("reference", ROOT / "scripts" / "reference.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("page", ["configuration.md", "commands.md"])
def test_pages_are_current(reference: ModuleType, page: str) -> None:
    written = (ROOT / "docs" / "reference" / page).read_text(encoding="utf-8")
    assert written == reference.PAGES[page](), "run `python scripts/reference.py`"


def test_every_key_has_a_meaning(reference: ModuleType) -> None:
    without = [
        f"{section.title}.{field.name}"
        for section in reference.sections()
        for field in reference.keys_of(section.kind)
        if not reference.field_docs(section.kind).get(field.name)
    ]
    assert without == []


def test_the_page_names_the_edits_as_mixes_do(reference: ModuleType) -> None:
    titles = [section.title for section in reference.sections()]
    keys = [title.removeprefix("mix.edits[].") for title in titles if title.startswith("mix.edits[].")]
    assert len(keys) == 6
    for key in keys:
        with pytest.raises(ConfigError) as refused:
            parse_edit({key: 1}, mix="any")
        assert "no edit is called" not in refused.value.what


def test_every_command_is_listed(reference: ModuleType) -> None:
    page = reference.PAGES["commands.md"]()
    for name in ("init", "audit scan", "plan extend", "gate branch", "interim results", "import list", "report"):
        assert f"## assay {name}\n" in page


def test_the_slurm_page_lists_every_cause_and_its_limit() -> None:
    limits: dict[str, str] = {}
    for line in (ROOT / "docs" / "reference" / "slurm.md").read_text(encoding="utf-8").splitlines():
        if line.startswith("| `"):
            causes, numbers, _ = line.strip("| ").split(" | ", 2)
            found = re.findall(r"`([^`]+)`", causes)
            limits |= dict(zip(found, re.findall(r"\d+", numbers), strict=True))
    assert limits == {cause: str(limit) for cause, limit in RETRY_LIMITS.items()}
