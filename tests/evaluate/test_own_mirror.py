"""A mirror of a team is read, and its contents are part of an evaluation's identity."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from assay.config.suite import EvaluationSpec, SuiteTask
from assay.core.errors import Damaged, NotFound, Refused
from assay.evaluate.evaluation import evaluate
from assay.evaluate.mirror import MANIFEST, OWN, digest_data_sets, folder_of, mirror_digest, sha256_of
from assay.evaluate.task_identity import data_identity
from assay.plan.workspace import Workspace
from assay.store.runs import RunDirectory
from tests.evaluate.conftest import make_spec
from tests.helpers.data_sets import science_items, write_data_set, write_science
from tests.helpers.tiny import tiny_study


@pytest.fixture
def mirror(tmp_path: Path) -> Path:
    write_science(tmp_path / "mirror")
    return tmp_path / "mirror"


def identity(mirror: Path, *names: str) -> Any:
    return data_identity(names or ("sciq",), mirror=mirror, tasks=None)


def spec_of(mirror: Path, *tasks: SuiteTask) -> EvaluationSpec:
    now = identity(mirror, *(task.task for task in tasks))
    return make_spec(*tasks, datasets=now.datasets, data_sets=now.data_sets)


def with_manifest(mirror: Path) -> None:
    """Make a mirror one of assay's own: all its present files are in the manifest."""
    files = {str(path.relative_to(mirror)): sha256_of(path) for path in sorted(mirror.rglob("*")) if path.is_file()}
    (mirror / MANIFEST).write_text(json.dumps({"format": 1, "package": "none", "files": files}))


def test_a_mirror_without_a_manifest_is_evaluated(mirror: Path, make_run: Callable[[str], RunDirectory]) -> None:
    run, spec = make_run("a"), spec_of(mirror, SuiteTask(task="sciq"))
    assert spec.datasets == OWN
    evaluate(run, spec, {}, mirror=mirror, device="cpu")
    assert {score["n"] for score in run.scores(spec.fingerprint)} == {6}
    assert spec_of(mirror, SuiteTask(task="sciq")) == spec  # locks and caches that `datasets` writes do not count


def test_changed_items_under_the_same_name_are_another_evaluation(mirror: Path) -> None:
    overrides = {"suite.tasks": [{"task": "sciq"}], "paths.benchmarks": str(mirror)}
    before = Workspace(tiny_study(mirror.parent, overrides=overrides)).runs.evaluation
    write_science(mirror, seed=7)
    after = Workspace(tiny_study(mirror.parent, overrides=overrides)).runs.evaluation
    assert after.fingerprint != before.fingerprint
    write_science(mirror)
    assert Workspace(tiny_study(mirror.parent, overrides=overrides)).runs.evaluation == before


def test_items_that_change_after_the_plan_are_refused(mirror: Path, make_run: Callable[[str], RunDirectory]) -> None:
    spec = spec_of(mirror, SuiteTask(task="sciq"))
    write_science(mirror, seed=7)
    with pytest.raises(Refused, match="allenai___sciq changed after the evaluation was planned"):
        evaluate(make_run("a"), spec, {}, mirror=mirror, device="cpu")


@pytest.mark.parametrize("file", ["dataset_info.json", "sciq-test.arrow", "sciq-train.arrow"])
def test_every_file_of_a_data_set_counts(mirror: Path, file: str) -> None:
    before = identity(mirror)
    path = next(mirror.rglob(file))
    path.write_bytes(path.read_bytes() + b"\n")
    assert identity(mirror) != before


def test_a_further_version_of_a_data_set_counts(mirror: Path) -> None:
    """`datasets` reads the version that was changed last."""
    before, folder = identity(mirror), next(mirror.glob("*/*/*/*"))
    shutil.copytree(folder, folder.with_name("b" * 40))
    assert identity(mirror) != before


def test_locks_caches_and_other_data_sets_do_not_count(mirror: Path) -> None:
    before, folder = identity(mirror), next(mirror.glob("*/*/*/*"))
    for name in ("cache-0123456789abcdef.arrow", "x_builder.lock", ".hidden"):
        (folder / name).write_bytes(b"x")
    (mirror / "mirror.lock").write_bytes(b"")
    write_data_set(mirror, "aps/super_glue", {"validation": [{"question": "Is it?", "label": 0}]}, config="boolq")
    assert identity(mirror) == before
    assert identity(mirror, "sciq", "boolq").data_sets.keys() == {"allenai___sciq", "aps___super_glue"}


def test_a_data_set_behind_a_symbolic_link_counts(mirror: Path, tmp_path: Path) -> None:
    direct = identity(mirror)
    (mirror / "allenai___sciq").rename(tmp_path / "elsewhere")
    (mirror / "allenai___sciq").symlink_to(tmp_path / "elsewhere")
    assert identity(mirror) == direct
    path = next((tmp_path / "elsewhere").rglob("sciq-test.arrow"))
    path.write_bytes(path.read_bytes() + b"\n")
    assert identity(mirror) != direct


def test_the_files_of_a_manifest_have_the_identity_of_the_manifest_alone(mirror: Path) -> None:
    with_manifest(mirror)
    alone = identity(mirror)
    assert alone == (mirror_digest(mirror), None)
    write_data_set(mirror, "baber/piqa", {"validation": [{"goal": "Sit", "sol1": "chair", "sol2": "sky", "label": 0}]})
    assert identity(mirror) == alone
    both = identity(mirror, "sciq", "piqa")
    assert (both.datasets, both.data_sets.keys()) == (alone.datasets, {"baber___piqa"})


def test_a_file_added_to_a_data_set_of_the_manifest_counts(mirror: Path) -> None:
    with_manifest(mirror)
    alone, folder = identity(mirror), next(mirror.glob("*/*/*/*"))
    shutil.copytree(folder, folder.with_name("b" * 40))
    assert identity(mirror) != alone


def test_a_changed_file_of_the_manifest_is_named(mirror: Path) -> None:
    with_manifest(mirror)
    path = next(mirror.rglob("sciq-test.arrow"))
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(Damaged, match=r"sciq-test\.arrow: the file is missing, or differs") as error:
        mirror_digest(mirror)
    assert MANIFEST in error.value.fix


def test_a_manifest_of_another_program_is_no_manifest(mirror: Path) -> None:
    (mirror / MANIFEST).write_text(json.dumps({"files": ["a", "b"]}))
    assert mirror_digest(mirror) == OWN


def test_a_truncated_manifest_is_damaged(mirror: Path) -> None:
    (mirror / MANIFEST).write_text('{"format": 1, "fil')
    with pytest.raises(Damaged, match="invalid or incomplete JSON"):
        mirror_digest(mirror)


@pytest.mark.parametrize("content", ["nothing", "a file", "another layout", "a lock"])
def test_a_folder_without_a_data_set_is_refused_with_the_layout(tmp_path: Path, content: str) -> None:
    mirror = tmp_path / "mirror"
    mirror.mkdir()
    if content == "a file":
        (mirror / "sciq.jsonl").write_text("{}\n")
    if content == "another layout":
        (mirror / "datasets--allenai--sciq" / "snapshots").mkdir(parents=True)
    if content == "a lock":
        (mirror / "x.lock").write_text("")
    with pytest.raises(NotFound, match="it contains no data set") as error:
        mirror_digest(mirror)
    assert "NAMESPACE___NAME/CONFIG/VERSION/HASH" in error.value.fix


def test_a_cycle_of_links_is_followed_once(mirror: Path) -> None:
    before = identity(mirror)
    (next(mirror.glob("*/*/*/*")) / "again").symlink_to(mirror / "allenai___sciq")
    assert identity(mirror) == before


def test_the_folder_is_that_of_datasets() -> None:
    from datasets.naming import camelcase_to_snakecase

    for name in ("super_glue", "ScienceQA", "AI2ARC", "MMLUPro", "gsm8k", "TruthfulQA-v2"):
        assert folder_of(f"Team/{name}") == f"Team___{camelcase_to_snakecase(name)}"


def test_a_task_in_python_may_read_every_data_set(mirror: Path, tmp_path: Path) -> None:
    write_data_set(mirror, "team/other", {"test": science_items(2)})
    assert digest_data_sets(mirror, None).keys() == {"allenai___sciq", "team___other"}
    assert digest_data_sets(mirror, ["team/other"]).keys() == {"team___other"}


def stories(seed: int) -> list[dict[str, Any]]:
    """Items in the form of HellaSwag, which lm-eval processes before it asks them."""
    return [
        {
            "activity_label": "Cooking",
            "ctx_a": f"The cook takes {n + seed} eggs.",
            "ctx_b": "the cook",
            "endings": [f"breaks {n + seed} of them", "reads them", "sings them", "sells the sea"],
            "label": "0",
        }
        for n in range(3)
    ]


def test_changed_items_are_processed_again(mirror: Path, make_run: Callable[[str], RunDirectory]) -> None:
    """`datasets` keeps processed items under the path of the data set, whose content may have changed."""
    import pandas as pd

    prompts = []
    for seed in (0, 50):
        write_data_set(mirror, "Rowan/hellaswag", {"train": stories(9), "validation": stories(seed)})
        run, spec = make_run(str(seed)), spec_of(mirror, SuiteTask(task="hellaswag"))
        evaluate(run, spec, {}, mirror=mirror, device="cpu")
        items = pd.read_parquet(run.evaluation(spec.fingerprint) / "items.parquet")
        prompts.append({*items["doc_hash"]})
    assert len(prompts[0] | prompts[1]) == 6


def test_the_version_that_datasets_reads_counts(mirror: Path) -> None:
    """Of several versions, `datasets` reads the one that was changed last, which a copy of the mirror may change."""
    folder = next(mirror.glob("*/*/*/*"))
    other = shutil.copytree(folder, folder.with_name("b" * 40))
    os.utime(folder, (1, 1))
    before = identity(mirror)
    os.utime(other, (0, 0))
    assert identity(mirror) != before
