"""Published models stand beside a proxy only where both were asked the same questions in the same way."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from assay.config.compose import names
from assay.config.references import Reference, comparable
from assay.config.search_path import packaged, references
from assay.config.suite import SuiteTask
from assay.core.errors import AssayError
from assay.report.terminal.extras import references_view

MODEL = Reference(
    name="big",
    parameters=10**9,
    tokens=10**11,
    paper="arXiv 0000.00000",
    source="https://example.org/scores.json",
    prompt="lm_eval",
    num_fewshot=0,
    scores={"piqa": {"acc": 0.7, "acc_norm": 0.71}, "sciq": {"acc": 0.8}},
)
MEASURED = {("piqa", "acc"), ("piqa", "bits_per_byte"), ("sciq", "acc")}


def shown(model: Reference, *tasks: SuiteTask) -> list[tuple[str, str, float]]:
    return [(score.task, score.metric, score.value) for score in comparable([model], tasks, MEASURED)]


def test_scores_with_equal_task_metric_prompt_and_few_shot_examples_are_comparable() -> None:
    assert shown(MODEL, SuiteTask(task="piqa"), SuiteTask(task="sciq")) == [("piqa", "acc", 0.7), ("sciq", "acc", 0.8)]


@pytest.mark.parametrize(
    ("model", "task"),
    [
        (MODEL, SuiteTask(task="piqa", num_fewshot=5)),
        (MODEL, SuiteTask(task="piqa", limit=200)),
        (MODEL, SuiteTask(task="arc_easy")),
        (replace(MODEL, num_fewshot=5), SuiteTask(task="piqa")),
        (replace(MODEL, prompt="olmes"), SuiteTask(task="piqa")),
        (replace(MODEL, scores={"piqa": {"acc_norm": 0.71}}), SuiteTask(task="piqa")),
    ],
    ids=[
        "other examples",
        "some of the questions",
        "another task",
        "published with examples",
        "other wording",
        "not measured",
    ],
)
def test_scores_that_are_not_comparable_are_excluded(model: Reference, task: SuiteTask) -> None:
    assert shown(model, task) == []


def test_every_packaged_reference_names_the_source_of_its_scores(tmp_path: Path) -> None:
    models = {model.name: model for model in references(tmp_path)}
    assert sorted(models) == names("reference", [packaged()])
    for model in models.values():
        assert re.search(r"/[0-9a-f]{40}/", model.source), "a link that does not change"
        assert model.paper.startswith("arXiv ")
        assert all(0 < value < 1 for metrics in model.scores.values() for value in metrics.values())


def test_a_project_reference_replaces_the_packaged_one_of_its_name(tmp_path: Path) -> None:
    folder = tmp_path / "conf" / "reference"
    folder.mkdir(parents=True)
    text = (packaged() / "conf/reference/pythia-70m.yaml").read_text()
    (folder / "pythia-70m.yaml").write_text(text.replace("70_426_624", "70"))
    assert {m.name: m.parameters for m in references(tmp_path)}["pythia-70m"] == 70
    (folder / "ours.yaml").write_text("{name: ours, parameters: 5}")
    with pytest.raises(AssayError, match="reference 'ours': 'paper' is missing"):
        references(tmp_path)
    (folder / "ours.yaml").write_text("a: [")
    with pytest.raises(AssayError, match="cannot be read"):
        references(tmp_path)


@pytest.mark.parametrize(
    "change",
    [{"parameters": 0}, {"tokens": 0}, {"num_fewshot": -1}, {"source": ""}, {"scores": {"a": {"b": float("nan")}}}],
)
def test_an_invalid_reference_is_refused(change: dict) -> None:
    with pytest.raises(AssayError, match="reference 'big'"):
        replace(MODEL, **change)


def test_a_published_score_is_displayed_with_its_model_and_source() -> None:
    console = Console(width=160, record=True, file=io.StringIO())
    console.print(references_view(comparable([MODEL], [SuiteTask(task="piqa")], MEASURED), {("piqa", "acc"): 0.6}))
    text = console.export_text()
    for part in ("reference models", "big", "piqa acc", "60.00%", "70.00%", "1B parameters, 100B tokens", MODEL.source):
        assert part in text
