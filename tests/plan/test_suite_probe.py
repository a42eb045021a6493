"""Plans and submissions load every task of the suite before a run is trained."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from assay.config.reason import Code
from assay.config.study import Study
from assay.config.suite import SuiteTask
from assay.core.errors import Refused
from assay.plan import suite_probe
from assay.plan.prepare import prepare_corpora
from assay.plan.suite_probe import probe_suite, require_scorable_suite
from assay.plan.workspace import Workspace
from tests.helpers.reasons import codes

YAML = """
task: team_facts
dataset_path: json
dataset_kwargs: {data_files: {test: evals/facts.jsonl}}
test_split: test
output_type: OUTPUT
doc_to_text: "{{question}}"
doc_to_target: answer
doc_to_choice: [true, false]
metric_list: [{metric: acc, aggregation: mean, higher_is_better: true}]
"""


@pytest.fixture
def configured(tiny_study: Callable[..., Study]) -> Callable[..., Workspace]:
    def make(output: str = "multiple_choice", words: int = 3) -> Workspace:
        study = tiny_study(suite__tasks=[{"task": "team_facts"}], suite__include_path="evals")
        folder = Path(study.paths.root) / "evals"
        folder.mkdir(exist_ok=True)
        (folder / "facts.yaml").write_text(YAML.replace("OUTPUT", output).replace("[true, false]", '["yes", "no"]'))
        items = [{"question": "Is it so? " * words, "answer": n % 2} for n in range(4)]
        (folder / "facts.jsonl").write_text("".join(json.dumps(item) + "\n" for item in items))
        return Workspace(study)

    return make


def test_a_task_that_no_run_of_this_proxy_can_answer_is_refused(configured: Callable[..., Workspace]) -> None:
    with pytest.raises(Refused, match="generates up to 256 tokens"):
        require_scorable_suite(configured("generate_until"))


def test_every_task_is_checked_even_if_one_cannot_be_scored(configured: Callable[..., Workspace]) -> None:
    space = configured()
    folder = Path(space.study.paths.root) / "evals"
    (folder / "essay.yaml").write_text(
        (folder / "facts.yaml").read_text().replace("team_facts", "essay").replace("multiple_choice", "generate_until")
    )
    suite = replace(space.study.suite, tasks=(SuiteTask(task="essay"), SuiteTask(task="team_facts")))
    essay, facts = probe_suite(Workspace(replace(space.study, suite=suite)))
    assert (essay.task, essay.probe, type(essay.error)) == ("essay", None, Refused)
    assert facts.error is None
    assert facts.probe is not None
    assert facts.probe.items == 4


def test_lengths_are_unknown_without_the_tokenizer_and_reported_with_it(configured: Callable[..., Workspace]) -> None:
    space = configured(words=60)
    assert codes(require_scorable_suite(space)) == [Code.LENGTHS_UNKNOWN]
    prepare_corpora(space.sources, ())
    (reason,) = require_scorable_suite(space)
    assert (reason.code, reason.subject) == (Code.PROMPTS_TRUNCATED, "team_facts")
    assert (reason.figures["truncated"], reason.figures["probed"], reason.figures["context"]) == (8, 8, 32)


def test_a_suite_is_loaded_once_until_its_tasks_change(
    configured: Callable[..., Workspace], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, probed = require_scorable_suite(configured()), suite_probe.probe_suite
    calls: list[str] = []

    def counted(space: Workspace, **options: object) -> object:
        calls.append(space.study.suite.name)
        return probed(space, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(suite_probe, "probe_suite", counted)
    assert require_scorable_suite(configured()) == first
    assert calls == []
    space = configured(words=4)
    require_scorable_suite(space)
    assert calls == ["tiny"]
    assert len([*(space.store.root / "probes").glob("*.json")]) == 2


def test_a_suite_without_tasks_is_not_loaded(tiny_study: Callable[..., Study]) -> None:
    assert require_scorable_suite(Workspace(tiny_study())) == []
