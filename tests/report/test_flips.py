from __future__ import annotations

import pandas as pd

from assay.report.flips import LISTED, find_flips


def answers(right: dict[tuple[str, int], list[int]], *, task: str = "mmlu", part: str = "mmlu_anatomy") -> pd.DataFrame:
    """Return the items table of 0/1 answers by mix and seed."""
    rows = [
        (mix, seed, task, part, number, f"d{number}", bool(value))
        for (mix, seed), values in right.items()
        for number, value in enumerate(values)
    ]
    return pd.DataFrame(rows, columns=["mix", "seed", "task", "part", "document", "digest", "right"])


def test_flips_are_counted_per_seed_and_chance_comes_from_the_seeds_of_the_control() -> None:
    items = answers(
        {
            ("base", 0): [1, 0, 0, 1],
            ("base", 1): [1, 0, 1, 1],
            ("new", 0): [0, 1, 0, 1],
            ("new", 1): [0, 1, 1, 1],
        }
    )
    (mmlu,) = find_flips(items, [("new", "base")])
    assert (mmlu.task, mmlu.questions, mmlu.seeds) == ("mmlu", 4, 2)
    assert (mmlu.gained, mmlu.lost) == (1.0, 1.0)
    assert mmlu.by_chance == 1.0, "the third item flips between the seeds of the baseline"
    assert [(item.question.document, item.control, item.candidate) for item in mmlu.worse] == [(0, 2, 0)]
    assert [(item.question.document, item.control, item.candidate) for item in mmlu.better] == [(1, 0, 2)]
    assert mmlu.worse[0].question.task == "mmlu_anatomy"


def test_a_single_seed_has_no_chance_flips_and_arms_without_a_shared_seed_have_no_flips() -> None:
    single = find_flips(answers({("base", 0): [1, 0], ("new", 0): [0, 0]}), [("new", "base")])
    assert [(task.lost, task.by_chance) for task in single] == [(1.0, None)]
    assert find_flips(answers({("base", 0): [1], ("new", 1): [0]}), [("new", "base")]) == ()
    assert find_flips(answers({}), [("new", "base")]) == ()


def test_items_that_a_run_did_not_answer_are_omitted() -> None:
    items = answers({("base", 0): [1, 1, 1], ("new", 0): [0, 0]})
    (mmlu,) = find_flips(items, [("new", "base")])
    assert (mmlu.questions, mmlu.lost) == (2, 2.0)


def test_the_list_has_the_largest_changes_over_all_tasks_and_a_maximum_length() -> None:
    parts = []
    for task in ("a", "b", "c"):
        many = {(mix, seed): [int(mix == "base")] * 30 for mix in ("base", "new") for seed in (0, 1, 2)}
        if task != "b":
            many["new", 0] = [1] * 30  # in these tasks one seed still answers right
        parts.append(answers(many, task=task, part=task))
    tasks = find_flips(pd.concat(parts), [("new", "base")])
    listed = [item for task in tasks for item in task.worse]
    assert len(listed) == LISTED
    assert {item.question.task for item in listed} == {"b"}
    assert [task.lost for task in tasks] == [20.0, 30.0, 20.0], "the counts cover all items"
