"""The files of a source: through links, without files that no author of a glob has in mind, and by exact names first."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import fsspec
import pytest

from assay.core.errors import ConfigError, NotFound, Refused
from assay.corpus.source_files import FileListing, list_files
from assay.corpus.source_reader import documents
from tests.corpus.conftest import source_of, write_jsonl


def names_of(listing: FileListing, folder: Path) -> list[str]:
    return [str(Path(file.url).relative_to(folder)) for file in listing.files]


def listed(folder: Path, *patterns: str, **fields: object) -> list[str]:
    return names_of(list_files(source_of(*(f"{folder}/{pattern}" for pattern in patterns), **fields)), folder)


# --- links


def test_links_to_files_and_folders_are_followed(tmp_path: Path) -> None:
    store = tmp_path / "store"
    write_jsonl(store / "blob-a.jsonl", ["a"])
    write_jsonl(store / "news/b.jsonl", ["b"])
    (tmp_path / "data").mkdir()
    (tmp_path / "data/a.jsonl").symlink_to("../store/blob-a.jsonl")
    (tmp_path / "data/news").symlink_to(store / "news")
    assert listed(tmp_path, "data/**/*.jsonl") == ["data/a.jsonl", "data/news/b.jsonl"]


@pytest.mark.parametrize(
    ("link", "pattern"),
    [
        ("shard-1.jsonl", "data/*.jsonl"),
        ("shard-1.jsonl", "data/shard-1.jsonl"),
        ("more", "data/**/*.jsonl"),  # a folder of shards
        ("2026.07", "data/*/*.jsonl"),  # a folder, although its name has a dot
        ("more", "data/more/*.jsonl"),
    ],
)
def test_a_link_without_a_target_is_an_error_that_names_it(tmp_path: Path, link: str, pattern: str) -> None:
    write_jsonl(tmp_path / "data/shard-0.jsonl", ["a"])
    (tmp_path / "data" / link).symlink_to("../gone/target")
    with pytest.raises(NotFound, match=rf"source 'web': .*/data/{link} is a link to \.\./gone/target, which does not"):
        listed(tmp_path, "data/shard-0.jsonl", pattern)


def test_a_link_without_a_target_that_no_pattern_can_reach_is_ignored(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "data/a.jsonl", ["a"])
    for link in ("notes.txt", ".lock"):
        (tmp_path / "data" / link).symlink_to("gone")
    assert listed(tmp_path, "data/**/*.jsonl") == ["data/a.jsonl"]


def test_a_link_to_itself_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").symlink_to("b.jsonl")
    (tmp_path / "b.jsonl").symlink_to("a.jsonl")
    with pytest.raises(NotFound, match=r"a\.jsonl is a link to b\.jsonl, and never to a file"):
        listed(tmp_path, "*.jsonl")


def test_cycles_of_links_end_and_each_file_is_read_once(tmp_path: Path) -> None:
    for name in ("left", "right"):
        write_jsonl(tmp_path / name / f"{name}.jsonl", [name])
    (tmp_path / "left/other").symlink_to("../right")
    (tmp_path / "right/other").symlink_to("../left")
    (tmp_path / "left/up").symlink_to("..")
    listing = list_files(source_of(tmp_path / "**/*.jsonl"))
    assert names_of(listing, tmp_path) == ["left/left.jsonl", "right/right.jsonl"]
    assert set(listing.skipped.values()) == {"repeated"}


def test_names_of_linked_folders_still_select(tmp_path: Path) -> None:
    """The folder `dump` does not match `en`, so that its files are only reached through the link."""
    write_jsonl(tmp_path / "dump/a.jsonl", ["a"])
    (tmp_path / "en").symlink_to("dump")
    assert listed(tmp_path, "**/en/*.jsonl") == ["en/a.jsonl"]


def test_two_revisions_of_a_cache_that_share_a_file_read_it_once(tmp_path: Path) -> None:
    """`huggingface_hub` links each revision's files to blobs without a suffix."""
    write_jsonl(tmp_path / "blobs/8c1f", ["a"])
    for revision in ("r1", "r2"):
        (tmp_path / "snapshots" / revision).mkdir(parents=True)
        (tmp_path / "snapshots" / revision / "a.jsonl").symlink_to("../../blobs/8c1f")
    listing = list_files(source_of(tmp_path / "snapshots/*/*.jsonl"))
    assert names_of(listing, tmp_path) == ["snapshots/r1/a.jsonl"]
    assert listing.skipped == {f"{tmp_path}/snapshots/r2/a.jsonl": "repeated"}
    assert listed(tmp_path, "snapshots/r1/a.jsonl", "snapshots/r2/a.jsonl") == [
        "snapshots/r1/a.jsonl",
        "snapshots/r2/a.jsonl",
    ], "files that are listed by name are always read"


def test_data_behind_a_link_into_a_hidden_folder_is_read(tmp_path: Path) -> None:
    write_jsonl(tmp_path / ".store/17/a.jsonl", ["a"])
    (tmp_path / "data").symlink_to(".store/17")
    assert listed(tmp_path, "**/*.jsonl") == ["data/a.jsonl"]


def test_data_behind_a_link_into_a_folder_with_an_underscore_is_read(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "_versions/a.jsonl", ["a"])
    (tmp_path / "current").symlink_to("_versions")
    assert listed(tmp_path, "**/*.jsonl") == ["current/a.jsonl"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may list every folder")
def test_a_folder_that_cannot_be_listed_is_an_error(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "data/closed/a.jsonl", ["a"])
    write_jsonl(tmp_path / "data/b.jsonl", ["b"])
    (tmp_path / "data/closed").chmod(0)
    try:
        with pytest.raises(Refused, match="data/closed"):
            listed(tmp_path, "data/**/*.jsonl")
    finally:
        (tmp_path / "data/closed").chmod(0o755)


# --- hidden and temporary files


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        (".ipynb_checkpoints/a-checkpoint.jsonl", "hidden"),
        (".cache/huggingface/download/a.jsonl", "hidden"),
        ("._a.jsonl", "hidden"),  # macOS
        ("__MACOSX/a.jsonl", "hidden"),
        ("_temporary/0/part-0.jsonl", "marker"),  # Spark
        ("_staging/a.jsonl", "marker"),
        ("_backup.jsonl", "marker"),
        ("0.0.0.incomplete/a.jsonl", "temporary"),
        ("a.tmp/b.jsonl", "temporary"),
    ],
)
def test_globs_skip_files_that_are_hidden_or_unfinished(tmp_path: Path, path: str, kind: str) -> None:
    write_jsonl(tmp_path / "a.jsonl", ["a"])
    write_jsonl(tmp_path / path, ["b"])
    listing = list_files(source_of(tmp_path / "**/*.jsonl"))
    assert names_of(listing, tmp_path) == ["a.jsonl"]
    assert listing.skipped == {f"{tmp_path}/{path}": kind}
    assert listed(tmp_path, path) == [path], "a file that is listed by name is always read"


@pytest.mark.parametrize(
    "name", ["a.jsonl.incomplete", "a.jsonl.tmp", "a.jsonl~", "_SUCCESS", "_metadata", ".a.jsonl.swp"]
)
def test_a_glob_for_all_files_skips_unfinished_files_and_markers(tmp_path: Path, name: str) -> None:
    write_jsonl(tmp_path / "a.jsonl", ["a"])
    (tmp_path / name).write_bytes(b"")
    assert [document.text for document in documents(source_of(tmp_path / "*"))] == ["a"]


def test_code_and_prose_with_underscores_are_content(tmp_path: Path) -> None:
    for path in ("pkg/__init__.py", "pkg/_vendor/x.py", "_posts/day.md", "pkg/__pycache__/x.py"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text("x = 1\n")
    assert listed(tmp_path, "**/*.py", format="text") == ["pkg/__init__.py", "pkg/_vendor/x.py"]
    assert listed(tmp_path, "**/*.md") == ["_posts/day.md"]


@pytest.mark.parametrize("pattern", [".hidden/*.jsonl", ".h*/*.jsonl", "*/.b.jsonl", "**/.hidden/**/*.jsonl"])
def test_a_pattern_that_names_hidden_files_reads_them(tmp_path: Path, pattern: str) -> None:
    for folder in (".hidden", "plain"):
        for name in ("a", ".b"):
            write_jsonl(tmp_path / folder / f"{name}.jsonl", ["a"])
    expected = {"*/.b.jsonl": ["plain/.b.jsonl"]}.get(pattern, [".hidden/a.jsonl"])
    assert listed(tmp_path, pattern) == expected


def test_a_pattern_that_matches_only_hidden_files_is_an_error_that_names_one(tmp_path: Path) -> None:
    write_jsonl(tmp_path / ".old/a.jsonl", ["a"])
    with pytest.raises(NotFound, match=r"matches only hidden, temporary and marker files, such as .*/\.old/a\.jsonl"):
        listed(tmp_path, "**/*.jsonl")


def test_globs_of_other_file_systems_skip_the_same_files() -> None:
    for path in ("a.jsonl", ".ipynb_checkpoints/a.jsonl", "_temporary/0/a.jsonl"):
        fsspec.filesystem("memory").pipe(f"/skips/{path}", b'{"text": "x"}\n')
    listing = list_files(source_of("memory://skips/**/*.jsonl"))
    assert [file.url for file in listing.files] == ["memory:///skips/a.jsonl"]
    assert listing.skipped_counts == {"hidden": 1, "marker": 1}


# --- names that look like patterns


@pytest.mark.parametrize(
    ("path", "pattern"),
    [
        ("c4::en/a.jsonl", "c4::en/a.jsonl"),
        ("c4::en/a.jsonl", "c4::en/*.jsonl"),
        ("dump [en]/a.jsonl", "dump [en]/*.jsonl"),
        ("dump [en]/a.jsonl", "*/dump [en]/*.jsonl"),
        ("what?/a*b.jsonl", "what?/a*b.jsonl"),
        ("a b#c%20d;e/ü 数.jsonl", "a b#c%20d;e/*.jsonl"),
        ("en [1]::2/a.jsonl", "en [1]::2/**/*.jsonl"),
    ],
)
def test_a_path_that_exists_is_a_name_before_it_is_a_pattern_or_a_chain(
    tmp_path: Path, path: str, pattern: str
) -> None:
    parent = "top/" if pattern.startswith("*/") else ""
    write_jsonl(tmp_path / parent / path, ["a"])
    write_jsonl(tmp_path / "dump e/other.jsonl", ["b"])
    assert listed(tmp_path, pattern) == [f"{parent}{path}"]
    [document] = documents(source_of(tmp_path / pattern))
    assert document.text == "a"
    url = f"file://{tmp_path}/{pattern}"
    assert names_of(list_files(source_of(url)), tmp_path) == [f"{parent}{path}"]


def test_a_chain_of_file_systems_is_read(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "texts.zip", "w") as archive:
        archive.writestr("a.jsonl", '{"text": "x"}\n')
        archive.writestr("__MACOSX/a.jsonl", "\x00")
    source = source_of(f"zip://**/*.jsonl::{tmp_path}/texts.zip")
    assert [document.text for document in documents(source)] == ["x"]


# --- errors and notes


def test_a_folder_is_answered_with_patterns_for_its_files(tmp_path: Path) -> None:
    for name in ("a.jsonl.gz", "b.jsonl.gz", "state.json"):
        write_jsonl(tmp_path / "data" / name, ["a"])
    for pattern in ("data", "data/", "data/*.parquet"):
        with pytest.raises(NotFound) as refused:
            listed(tmp_path, pattern)
        assert f"as in {tmp_path}/data/*.jsonl.gz" in refused.value.fix


def test_the_splits_of_a_saved_data_set_are_separate_patterns(tmp_path: Path) -> None:
    for split in ("test", "train"):
        for name in ("data-00000-of-00001.arrow", "state.json", "dataset_info.json"):
            write_jsonl(tmp_path / "set" / split / name, ["a"])
    write_jsonl(tmp_path / "set/dataset_dict.json", ["a"])
    with pytest.raises(NotFound) as refused:
        listed(tmp_path, "set")
    assert refused.value.fix == (
        f"This path is a folder. List its files, as in {tmp_path}/set/test/*.arrow or {tmp_path}/set/train/*.arrow."
    )


def test_braces_are_answered_with_one_pattern_per_alternative(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "a.jsonl", ["a"])
    with pytest.raises(NotFound, match="Write one pattern per alternative"):
        listed(tmp_path, "{a,b}.jsonl")


@pytest.mark.parametrize("pattern", ["*.jsonl", "a.jsonl"])
def test_a_pipe_is_an_error_and_is_never_opened(tmp_path: Path, pattern: str) -> None:
    os.mkfifo(tmp_path / "a.jsonl")
    with pytest.raises(Refused, match=r"a\.jsonl is not a regular file"):
        listed(tmp_path, pattern)


def test_absent_files_of_a_numbered_set_are_counted(tmp_path: Path) -> None:
    for number in (0, 1, 3):
        write_jsonl(tmp_path / f"train-{number:05}-of-00004.jsonl", [str(number)])
    write_jsonl(tmp_path / "test-00000-of-00001.jsonl", ["a"])
    [shards] = list_files(source_of(tmp_path / "*.jsonl")).partial_sets
    assert (Path(shards.name).name, shards.present, shards.total) == ("train-*-of-00004.jsonl", 3, 4)


def test_a_file_name_that_is_not_utf8_is_an_error_that_can_be_printed(tmp_path: Path) -> None:
    name = os.fsdecode(b"r\xe9sum\xe9.jsonl")
    write_jsonl(tmp_path / name, ["a"])
    with pytest.raises(Refused) as refused:
        listed(tmp_path, "*.jsonl")
    assert r"r\xe9sum\xe9.jsonl is not UTF-8" in refused.value.what
    assert str(refused.value).encode()


@pytest.mark.parametrize("entry", ["", "  ", "a\0.jsonl"])
def test_an_entry_that_is_no_path_is_refused(entry: str) -> None:
    with pytest.raises(ConfigError, match="`files` contains"):
        source_of(entry)
