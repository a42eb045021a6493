"""Published models stand beside a proxy only where both were asked the same questions in the same way."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from assay.cli.compose import names
from assay.errors import AssayError
from assay.publish.beside import references_view
from assay.references import Reference, comparable
from assay.roots import packaged, references
from assay.suite import Task

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


def shown(model: Reference, *tasks: Task) -> list[tuple[str, str, float]]:
    return [(score.task, score.metric, score.value) for score in comparable([model], tasks, MEASURED)]


def test_the_same_task_metric_wording_and_examples_are_comparable() -> None:
    assert shown(MODEL, Task(task="piqa"), Task(task="sciq")) == [("piqa", "acc", 0.7), ("sciq", "acc", 0.8)]


@pytest.mark.parametrize(
    ("model", "task"),
    [
        (MODEL, Task(task="piqa", num_fewshot=5)),
        (MODEL, Task(task="piqa", limit=200)),
        (MODEL, Task(task="arc_easy")),
        (replace(MODEL, num_fewshot=5), Task(task="piqa")),
        (replace(MODEL, prompt="olmes"), Task(task="piqa")),
        (replace(MODEL, scores={"piqa": {"acc_norm": 0.71}}), Task(task="piqa")),
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
def test_what_is_not_comparable_is_never_shown(model: Reference, task: Task) -> None:
    assert shown(model, task) == []


def test_every_packaged_reference_says_where_its_scores_stand(tmp_path: Path) -> None:
    found = {model.name: model for model in references(tmp_path)}
    assert sorted(found) == names("reference", [packaged()])
    for model in found.values():
        assert re.search(r"/[0-9a-f]{40}/", model.source), "a link that does not change"
        assert model.paper.startswith("arXiv ")
        assert all(0 < value < 1 for metrics in model.scores.values() for value in metrics.values())


def test_a_teams_reference_takes_the_place_of_the_packaged_one_of_its_name(tmp_path: Path) -> None:
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
def test_a_reference_that_cannot_be_is_refused(change: dict) -> None:
    with pytest.raises(AssayError, match="reference 'big'"):
        replace(MODEL, **change)


def test_a_published_score_is_shown_with_its_model_and_its_source() -> None:
    console = Console(width=160, record=True, file=io.StringIO())
    console.print(references_view(comparable([MODEL], [Task(task="piqa")], MEASURED), {("piqa", "acc"): 0.6}))
    text = console.export_text()
    for part in ("reference models", "big", "piqa acc", "60.00%", "70.00%", "1B parameters, 100B tokens", MODEL.source):
        assert part in text
