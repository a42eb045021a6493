from __future__ import annotations

import subprocess
import sys

import pytest

from assay.errors import AssayError
from assay.evaluate.harness import check_tasks, harness_version


def test_tasks_groups_and_tags_are_known_by_the_names_their_users_know() -> None:
    check_tasks(["mmlu", "hellaswag", "arc_easy", "arc_challenge", "piqa", "sciq", "super-glue-lm-eval-v1"])


def test_an_unknown_task_is_refused_with_the_nearest_names() -> None:
    with pytest.raises(AssayError, match="no task, group or tag 'hellaswg'") as refused:
        check_tasks(["mmlu", "hellaswg"])
    assert "'hellaswag'" in refused.value.fix


@pytest.mark.parametrize("names", [("mmlu", "mmlu_anatomy"), ("ai2_arc", "arc_easy"), ("mmlu_stem", "mmlu")])
def test_a_task_that_two_names_stand_for_is_refused(names: tuple[str, str]) -> None:
    with pytest.raises(AssayError, match="would be scored twice") as refused:
        check_tasks(names)
    assert names[0] in refused.value.fix
    assert names[1] in refused.value.fix


def test_checking_tasks_imports_nothing_heavy() -> None:
    code = (
        "import sys; from assay.evaluate.harness import *; check_tasks(['mmlu']); print(harness_version());"
        "print([name for name in ('lm_eval', 'torch', 'datasets', 'transformers', 'pyarrow') if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.splitlines() == [harness_version(), "[]"]
    assert harness_version().startswith("lm_eval 0.")
