from __future__ import annotations

import pandas as pd

from assay.publish.flips import LISTED, flips


def answers(right: dict[tuple[str, int], list[int]], *, task: str = "mmlu", part: str = "mmlu_anatomy") -> pd.DataFrame:
    """By mix and seed, which of some questions were answered right."""
    rows = [
        (mix, seed, task, part, number, f"d{number}", bool(value))
        for (mix, seed), values in right.items()
        for number, value in enumerate(values)
    ]
    return pd.DataFrame(rows, columns=["mix", "seed", "task", "part", "document", "digest", "right"])


def test_a_question_flips_seed_against_seed_and_chance_is_told_from_the_controls_own_seeds() -> None:
    items = answers(
        {
            ("base", 0): [1, 0, 0, 1],
            ("base", 1): [1, 0, 1, 1],
            ("new", 0): [0, 1, 0, 1],
            ("new", 1): [0, 1, 1, 1],
        }
    )
    (found,) = flips(items, [("new", "base")])
    assert (found.task, found.questions, found.seeds) == ("mmlu", 4, 2)
    assert (found.gained, found.lost) == (1.0, 1.0)
    assert found.by_chance == 1.0, "the third question flips between the seeds of the baseline"
    assert [(one.question.document, one.control, one.candidate) for one in found.worse] == [(0, 2, 0)]
    assert [(one.question.document, one.control, one.candidate) for one in found.better] == [(1, 0, 2)]
    assert found.worse[0].question.task == "mmlu_anatomy"


def test_one_seed_shows_no_chance_and_arms_without_a_shared_seed_no_flips() -> None:
    one = flips(answers({("base", 0): [1, 0], ("new", 0): [0, 0]}), [("new", "base")])
    assert [(found.lost, found.by_chance) for found in one] == [(1.0, None)]
    assert flips(answers({("base", 0): [1], ("new", 1): [0]}), [("new", "base")]) == ()
    assert flips(answers({}), [("new", "base")]) == ()


def test_questions_that_one_run_was_not_asked_are_left_out() -> None:
    items = answers({("base", 0): [1, 1, 1], ("new", 0): [0, 0]})
    (found,) = flips(items, [("new", "base")])
    assert (found.questions, found.lost) == (2, 2.0)


def test_the_list_is_bounded_over_all_tasks_and_the_clearest_stand_in_it() -> None:
    parts = []
    for task in ("a", "b", "c"):
        many = {(mix, seed): [int(mix == "base")] * 30 for mix in ("base", "new") for seed in (0, 1, 2)}
        if task != "b":
            many["new", 0] = [1] * 30  # of these tasks one seed still answers right
        parts.append(answers(many, task=task, part=task))
    found = flips(pd.concat(parts), [("new", "base")])
    listed = [one for part in found for one in part.worse]
    assert len(listed) == LISTED
    assert {one.question.task for one in listed} == {"b"}
    assert [part.lost for part in found] == [20.0, 30.0, 20.0], "the counts cover all"
