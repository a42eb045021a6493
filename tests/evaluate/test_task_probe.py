"""A task that cannot be scored is refused before training, and what its scores do not cover is reported."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from assay.config.suite import SuiteTask
from assay.core.errors import AssayError, ConfigError, NotFound, Refused
from assay.evaluate.task_folder import TaskFolder
from assay.evaluate.task_probe import TaskProbe, probe_tasks

QUIZ: dict[str, Any] = {
    "task": "quiz",
    "dataset_path": "json",
    "dataset_kwargs": {"data_files": {"test": "evals/quiz.jsonl"}},
    "test_split": "test",
    "output_type": "multiple_choice",
    "doc_to_text": "{{q}}",
    "doc_to_choice": "{{c}}",
    "doc_to_target": "a",
    "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
}
ITEMS = [{"q": f"Is {n} even?", "c": ["yes", "no"], "a": n % 2} for n in range(6)]
WRITES = {
    "output_type": "generate_until",
    "doc_to_choice": None,
    "doc_to_target": "{{c[a]}}",
    "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
}


@pytest.fixture(autouse=True)
def _no_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")


class Project:
    """A project with own tasks in `evals`, and what is found of them with a model's context and tokenizer."""

    def __init__(self, root: Path, tokenizer: Path) -> None:
        self.root, self.tokenizer = root, tokenizer / "tokenizer.json"
        (root / "evals").mkdir()
        self.write("quiz.jsonl", "".join(json.dumps(item) + "\n" for item in ITEMS))

    def write(self, name: str, text: str) -> None:
        (self.root / "evals" / name).write_text(text)

    def probe(self, *, context: int = 64, known: bool = True, shots: int = 0, **changes: Any) -> TaskProbe | AssayError:
        config = {key: value for key, value in {**QUIZ, **changes}.items() if value is not None}
        text = "".join(
            f"{key}: {value if isinstance(value, str) and value.startswith('!function') else json.dumps(value)}\n"
            for key, value in config.items()
        )
        self.write("quiz.yaml", text)
        (found,) = probe_tasks(
            [SuiteTask(task="quiz", num_fewshot=shots)],
            mirror=None,
            folder=TaskFolder(self.root / "evals", self.root),
            context=context,
            tokenizer=self.tokenizer if known else None,
        )
        return found


@pytest.fixture
def project(tmp_path: Path, model_folder: Path) -> Project:
    return Project(tmp_path, model_folder)


def test_a_task_that_fits_has_its_counts(project: Project) -> None:
    found = project.probe()
    assert isinstance(found, TaskProbe)
    assert (found.items, found.left_out, found.probed, found.truncated) == (6, 0, 12, 0)
    assert found.longest is not None
    assert 3 < found.longest < 20


@pytest.mark.parametrize(
    ("kwargs", "context", "tokens"),
    [
        ({"max_gen_toks": 100, "until": ["\n"]}, 64, 100),
        ({"max_new_tokens": 64, "until": ["\n"]}, 64, 64),
        ({"until": ["\n"]}, 256, 256),
        (None, 256, 256),
    ],
    ids=str,
)
def test_a_task_that_writes_more_than_the_context_is_refused(
    project: Project, kwargs: dict[str, Any] | None, context: int, tokens: int
) -> None:
    for known in (True, False):
        found = project.probe(context=context, known=known, **WRITES, generation_kwargs=kwargs)
        assert isinstance(found, Refused)
        assert f"generates up to {tokens} tokens" in found.what
        assert f"context of {context} tokens" in found.what


def test_a_task_that_writes_little_is_accepted(project: Project) -> None:
    found = project.probe(**WRITES, generation_kwargs={"max_gen_toks": 8, "until": ["\n"]})
    assert isinstance(found, TaskProbe)
    assert (found.probed, found.truncated) == (6, 0)
    assert found.longest is not None
    assert found.longest > 8


def test_prompts_that_lose_their_beginning_are_counted(project: Project) -> None:
    long = [{**item, "q": f"{item['q']} " + "Think about it. " * (40 if n < 2 else 0)} for n, item in enumerate(ITEMS)]
    project.write("quiz.jsonl", "".join(json.dumps(item) + "\n" for item in long))
    found = project.probe()
    assert isinstance(found, TaskProbe)
    assert found.truncated == 4  # two items with two choices
    assert found.longest is not None
    assert found.longest > 64
    unknown = project.probe(known=False)
    assert isinstance(unknown, TaskProbe)
    assert unknown.longest is None


def test_choices_that_do_not_fit_are_counted(project: Project) -> None:
    long = [{**item, "c": ["yes", "no " * 200] if n == 0 else ["yes", "no"]} for n, item in enumerate(ITEMS)]
    project.write("quiz.jsonl", "".join(json.dumps(item) + "\n" for item in long))
    found = project.probe()
    assert isinstance(found, TaskProbe)
    assert (found.items, found.left_out) == (5, 1)


@pytest.mark.parametrize(
    ("changes", "kind", "message"),
    [
        ({"dataset_kwargs": {"data_files": {"test": "evals/none.jsonl"}}}, NotFound, "could not be read"),
        ({"test_split": "validation"}, ConfigError, "no split or field 'validation'"),
        ({"fewshot_split": "dev"}, ConfigError, "no split or field 'dev'"),
        ({"doc_to_text": "!function tools.prompt"}, ConfigError, r"tools\.py, line 2, failed: ModuleNotFoundError"),
        ({"doc_to_text": "!function broken.prompt"}, ConfigError, r"broken\.py, line 1, failed: SyntaxError"),
        ({"doc_to_text": "!function leaves.prompt"}, ConfigError, r"leaves\.py, line 3, failed: SystemExit"),
        ({"doc_to_text": "!function works.nothing"}, ConfigError, "has no function 'nothing'"),
        ({"doc_to_text": "!function nowhere.prompt"}, ConfigError, "Cannot import module 'nowhere'"),
        ({"doc_to_text": "!function works.second"}, ConfigError, "lm-eval cannot build its requests: ValueError: odd"),
        ({"unsafe_code": True}, Refused, "runs code that the model generates"),
    ],
    ids=str,
)
def test_a_task_that_cannot_be_loaded_is_described(
    project: Project, changes: dict[str, Any], kind: type[AssayError], message: str
) -> None:
    project.write("tools.py", "\nimport no_such_module\n")
    project.write("broken.py", "def prompt(doc:\n")
    project.write("leaves.py", "import sys\n\nsys.exit(3)\n")
    project.write(
        "works.py",
        "def second(doc):\n    if doc['a']:\n        raise ValueError('odd')\n    return doc['q']\n",
    )
    found = project.probe(**changes)
    assert isinstance(found, kind)
    with pytest.raises(kind, match=message):
        raise found
    assert found.fix


def test_few_shot_examples_that_the_data_lacks_are_refused(project: Project) -> None:
    few = {"dataset_kwargs": {"data_files": {"test": "evals/quiz.jsonl", "dev": "evals/dev.jsonl"}}}
    project.write("dev.jsonl", "".join(json.dumps(item) + "\n" for item in ITEMS[:2]))
    assert isinstance(project.probe(shots=2, **few, fewshot_split="dev"), TaskProbe)
    found = project.probe(shots=3, **few, fewshot_split="dev")
    assert isinstance(found, ConfigError)
    assert "`num_fewshot` 3 is invalid; the split 'dev' has 2 few-shot examples" in found.what
    # The evaluated item is never its own example.
    assert isinstance(project.probe(shots=5, fewshot_split="test"), TaskProbe)
    assert isinstance(project.probe(shots=6, fewshot_split="test"), ConfigError)


def test_examples_from_the_evaluated_items_are_reported(project: Project) -> None:
    undeclared, declared = project.probe(shots=2), project.probe(shots=2, fewshot_split="test")
    none = project.probe()
    assert [found.examples_are_items for found in (undeclared, declared, none) if isinstance(found, TaskProbe)] == [
        True,
        False,
        False,
    ]


def test_a_task_without_items_is_refused(project: Project) -> None:
    project.write("quiz.jsonl", "")
    assert isinstance(project.probe(), AssayError)
