"""An evaluation copies what an earlier one measured under the same conditions, and scores only the rest."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from assay.config.suite import EvaluationSpec, SuiteTask
from assay.evaluate.evaluation import evaluate
from assay.evaluate.reuse import remaining, reusable_parts
from assay.evaluate.task_identity import data_identity
from assay.store.runs import RunDirectory
from tests.evaluate.conftest import make_spec
from tests.helpers.data_sets import write_data_set, write_science

SCIENCE, PIQA = SuiteTask(task="sciq"), SuiteTask(task="piqa")


@pytest.fixture
def mirror(tmp_path: Path) -> Path:
    write_science(tmp_path / "mirror")
    goals = [{"goal": f"Lift {n}", "sol1": f"a lever {n}", "sol2": f"a spoon {n}", "label": n % 2} for n in range(4)]
    write_data_set(tmp_path / "mirror", "baber/piqa", {"train": goals[:2], "validation": goals})
    return tmp_path / "mirror"


def spec_of(mirror: Path, *tasks: SuiteTask, **changes: Any) -> EvaluationSpec:
    now = data_identity([task.task for task in tasks], mirror=mirror, tasks=None)
    return make_spec(*tasks, datasets=now.datasets, data_sets=now.data_sets, **changes)


def measured(run: RunDirectory, spec: EvaluationSpec) -> tuple[Any, pd.DataFrame]:
    folder = run.evaluation(spec.fingerprint)
    plain = json.loads((folder / "scores.json").read_text())
    return (plain["scores"], plain["tasks"], plain["parts"]), pd.read_parquet(folder / "items.parquet")


def test_an_added_task_is_scored_alone_with_the_results_of_a_full_evaluation(
    mirror: Path, make_run: Callable[[str], RunDirectory], corpora: dict[str, Path]
) -> None:
    held_out = {"validation": {"code": "c", "web": "w"}, "validation_bytes": 2000}
    both = spec_of(mirror, PIQA, SCIENCE, **held_out)
    in_steps, at_once = make_run("in steps"), make_run("at once")
    evaluate(in_steps, spec_of(mirror, SCIENCE, **held_out), corpora, mirror=mirror, device="cpu")
    assert remaining(both, reusable_parts(in_steps, both, None)) == replace(both, tasks=(PIQA,), validation={})
    evaluate(in_steps, both, corpora, mirror=mirror, device="cpu")
    evaluate(at_once, both, corpora, mirror=mirror, device="cpu")
    (scores, items), (expected_scores, expected_items) = measured(in_steps, both), measured(at_once, both)
    assert scores == expected_scores
    pd.testing.assert_frame_equal(items, expected_items)


def test_a_removed_task_needs_no_model(mirror: Path, make_run: Callable[[str], RunDirectory]) -> None:
    run = make_run("a")
    evaluate(run, spec_of(mirror, PIQA, SCIENCE), {}, mirror=mirror, device="cpu")
    (run.model / "model.safetensors").write_bytes(b"")
    evaluate(run, spec_of(mirror, PIQA), {}, mirror=mirror, device="cpu")
    assert {score["task"] for score in run.scores(spec_of(mirror, PIQA).fingerprint)} == {"piqa"}


@pytest.mark.parametrize(
    ("change", "reused"),
    [
        (lambda spec: replace(spec, batch_size=8), set()),
        (lambda spec: replace(spec, harness="lm_eval 0"), set()),
        (lambda spec: replace(spec, tasks=(replace(SCIENCE, limit=2), PIQA)), {"piqa"}),
        (lambda spec: replace(spec, tasks=(replace(SCIENCE, num_fewshot=1), PIQA)), {"piqa"}),
        (lambda spec: replace(spec, tasks=(replace(SCIENCE, chance=0.3), PIQA)), {"piqa"}),
        (lambda spec: replace(spec, datasets="hub", data_sets=None), set()),
        (lambda spec: replace(spec, data_sets={**spec.data_sets, "allenai___sciq": "0"}), {"piqa"}),
        (lambda spec: replace(spec, data_sets={**spec.data_sets, "team___new": "0"}), {"sciq", "piqa"}),
        (lambda spec: replace(spec, task_files="0"), {"sciq", "piqa"}),
    ],
)
def test_other_conditions_are_measured_again(
    mirror: Path,
    make_run: Callable[[str], RunDirectory],
    change: Callable[[EvaluationSpec], EvaluationSpec],
    reused: set[str],
) -> None:
    run, spec = make_run("a"), spec_of(mirror, SCIENCE, PIQA)
    results = {
        name: {"scores": [{"task": name, "metric": "acc", "value": 0.5}], "tasks": {name: {"n": 1}}}
        for name in ("sciq", "piqa")
    }
    write_earlier(run, spec, results)
    assert set(reusable_parts(run, change(spec), None)) == reused


def write_earlier(run: RunDirectory, spec: EvaluationSpec, results: dict[str, dict[str, Any]]) -> None:
    from assay.core.serde import to_mapping
    from assay.evaluate.items import write_items

    folder = run.evaluation(spec.fingerprint)
    folder.mkdir(parents=True)
    write_items(
        folder / "items.parquet", [{"task": name, "group": name, "doc_id": 0, "metrics": {}} for name in results]
    )
    plain = {
        "spec": to_mapping(spec),
        "scores": [score for result in results.values() for score in result["scores"]],
        "tasks": {name: task for result in results.values() for name, task in result["tasks"].items()},
        "parts": {name: list(result["tasks"]) for name, result in results.items()},
    }
    (folder / "scores.json").write_text(json.dumps(plain) + "\n")


@pytest.mark.parametrize("damage", ["parts", "spec", "scores", "items"])
def test_a_damaged_or_earlier_evaluation_is_not_reused(
    mirror: Path, make_run: Callable[[str], RunDirectory], damage: str
) -> None:
    run, spec = make_run("a"), spec_of(mirror, SCIENCE)
    result = {"scores": [{"task": "sciq", "metric": "acc", "value": 0.5}], "tasks": {"sciq": {"n": 1}}}
    write_earlier(run, spec, {"sciq": result})
    path = run.evaluation(spec.fingerprint) / "scores.json"
    plain = json.loads(path.read_text())
    if damage == "items":
        (path.parent / "items.parquet").write_bytes(b"not Parquet PAR1")
    else:
        plain.pop(damage)
        path.write_text(json.dumps(plain) + "\n")
    assert reusable_parts(run, spec, None) == {}
