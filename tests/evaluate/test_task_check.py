from __future__ import annotations

import subprocess
import sys

import pytest

from assay.core.errors import AssayError, ConfigError
from assay.evaluate.task_check import check_tasks, harness_version


def test_tasks_groups_and_tags_of_lm_eval_are_accepted() -> None:
    check_tasks(["mmlu", "hellaswag", "arc_easy", "arc_challenge", "piqa", "sciq", "super-glue-lm-eval-v1"])


def test_an_unknown_task_is_refused_with_similar_names() -> None:
    with pytest.raises(AssayError, match="no task, group or tag 'hellaswg'") as refused:
        check_tasks(["mmlu", "hellaswg"])
    assert "'hellaswag'" in refused.value.fix


@pytest.mark.parametrize("names", [("mmlu", "mmlu_anatomy"), ("ai2_arc", "arc_easy"), ("mmlu_stem", "mmlu")])
def test_a_task_that_two_names_contain_is_refused(names: tuple[str, str]) -> None:
    with pytest.raises(AssayError, match="would be scored twice") as refused:
        check_tasks(names)
    assert names[0] in refused.value.fix
    assert names[1] in refused.value.fix


def test_checking_tasks_imports_nothing_heavy() -> None:
    code = (
        "import sys; from assay.evaluate.task_check import *; check_tasks(['mmlu']); print(harness_version());"
        "print([name for name in ('lm_eval', 'torch', 'datasets', 'transformers', 'pyarrow') if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.splitlines() == [harness_version(), "[]"]
    assert harness_version().startswith("lm_eval 0.")


def test_a_pattern_is_refused_with_the_group_that_it_matches() -> None:
    with pytest.raises(ConfigError, match=r"task 'mmlu_\*' is a pattern, which matches \d+ names \(mmlu_") as error:
        check_tasks(["mmlu_*"])
    assert error.value.fix == "Use the group 'mmlu', or list the tasks."


@pytest.mark.parametrize("pattern", ["no_such_*", "sci?_x", "[a"])
def test_a_pattern_without_a_match_is_refused(pattern: str) -> None:
    with pytest.raises(ConfigError, match="matches 0 names;") as error:
        check_tasks([pattern])
    assert error.value.fix == "List the tasks."


@pytest.mark.parametrize("path", ["./evals/sums.yaml", "evals/sums.yml", "evals/sums"])
def test_a_path_is_refused_with_the_key_for_own_tasks(path: str) -> None:
    with pytest.raises(ConfigError, match="is a path; expected the name of a task") as error:
        check_tasks([path])
    assert "include_path" in error.value.fix
