"""The chance level is the score of random guesses on the evaluated items, for every form of multiple-choice task."""

from __future__ import annotations

from typing import Any

import pytest

from assay.evaluate.chance import Guesses, guesses_of_group, guesses_of_task
from assay.evaluate.log_filter import capture_harness_log
from tests.evaluate.conftest import local_task

ACC = {"metric": "acc", "aggregation": "mean", "higher_is_better": True}


def quiz(rows: list[dict[str, Any]], **config: Any) -> tuple[Any, list[dict[str, Any]]]:
    """Return a multiple-choice task, and lm-eval's log of its items, without a model."""
    fields = {"output_type": "multiple_choice", "doc_to_text": "{{q}}", "doc_to_choice": "choices"}
    with capture_harness_log():
        task = local_task(rows, **{"doc_to_target": "gold", "metric_list": [ACC], **fields, **config})
        task.build_all_requests()
    arguments: dict[int, list[Any]] = {}
    for request in task.instances:
        arguments.setdefault(request.doc_id, []).append(request.args)
    samples = [
        {
            "doc_id": number,
            "doc": doc,
            "filter": "none",
            "metrics": ["acc"],
            "arguments": arguments[number],
            "target": task.doc_to_target(doc),
        }
        for number, doc in enumerate(task.eval_docs)
    ]
    return task, samples


def level(rows: list[dict[str, Any]], **config: Any) -> float:
    return guesses_of_task(*quiz(rows, **config))["acc"].level


def test_items_with_different_answers_are_guessed_uniformly() -> None:
    rows = [
        {"q": "The mill grinds", "choices": ["corn", "iron"], "gold": 0},
        {"q": "The sea is", "choices": ["wet", "dry", "red", "far"], "gold": 0},
    ]
    assert level(rows) == pytest.approx((1 / 2 + 1 / 4) / 2)


def test_several_correct_choices_raise_the_level() -> None:
    rows = [
        {"q": "A bird has", "choices": ["wings", "feathers", "wheels"], "gold": [0, 1]},
        {"q": "A ship has", "choices": ["a keel", "a trunk", "gills", "leaves"], "gold": [0]},
    ]
    assert level(rows) == pytest.approx((2 / 3 + 1 / 4) / 2)


def test_the_majority_answer_is_chance_where_all_items_offer_the_same_answers() -> None:
    rows = [{"q": f"Is {n} even?", "choices": ["yes", "no"], "gold": int(n < 3)} for n in range(10)]
    assert level(rows) == pytest.approx(0.7)


def test_further_letters_in_some_items_keep_the_majority_answer() -> None:
    letters = ["A", "B", "C", "D"]
    rows = [{"q": f"{n}?", "choices": letters[: 3 + n % 2], "gold": 1 if n < 4 else 0} for n in range(6)]
    assert level(rows) == pytest.approx(4 / 6)


def test_the_position_of_the_correct_choice_is_no_answer() -> None:
    """A model scores each choice by its text, so it cannot prefer the first one."""
    rows = [{"q": f"{n} + 1 =", "choices": [f"{n + 1}", f"{n + 2}", f"{n + 3}"], "gold": 0} for n in range(0, 30, 10)]
    assert level(rows) == pytest.approx(1 / 3)


@pytest.mark.parametrize(("gold", "expected"), [(2, 1 / 2), (0, 1 / 2), (1, 0.0)])
def test_a_repeated_choice_is_guessed_once(gold: int, expected: float) -> None:
    """Equal choices have equal loglikelihoods, of which lm-eval takes the first."""
    rows = [{"q": "The river is", "choices": ["deep", "deep", "shallow"], "gold": gold}]
    task, samples = quiz(rows)
    assert guesses_of_task(task, samples)["acc"].uniform == pytest.approx(expected)


def test_choices_in_the_prompt_are_guessed_uniformly() -> None:
    rows = [{"choices": [f"The {n} fits because the cup", f"The {n} fits because the ball"], "right": 1} for n in "ab"]
    config = {"doc_to_text": lambda doc: doc["right"], "doc_to_choice": lambda doc: doc["choices"]}
    assert level(rows, **config, doc_to_target=lambda _: "is big.") == pytest.approx(0.5)


def probability_of_correct(doc: dict[str, Any], results: list[tuple[float, bool]]) -> dict[str, float]:
    import numpy as np

    chances = np.exp([answer[0] for answer in results])
    return {"acc": float(chances[np.array(doc["labels"]) == 1].sum() / chances.sum())}


def test_a_probability_of_all_correct_choices_is_at_chance_with_their_fraction() -> None:
    rows = [
        {"q": "Rain is", "choices": ["wet", "water", "wet", "dry"], "labels": [1, 1, 1, 0], "gold": 0},
        {"q": "Snow is", "choices": ["cold", "white", "hot", "black", "loud"], "labels": [1, 1, 0, 0, 0], "gold": 0},
    ]
    assert level(rows, process_results=probability_of_correct) == pytest.approx((3 / 4 + 2 / 5) / 2)


def best_of_two(doc: dict[str, Any], results: list[tuple[float, bool]]) -> dict[str, float]:
    """Count the best choice as correct if it is one of two."""
    best = max(range(len(results)), key=lambda index: results[index][0])
    return {"acc": float(best in doc["both"])}


def test_an_own_definition_of_correct_sets_the_level() -> None:
    rows = [{"q": f"{n}", "choices": [f"a{n}", f"b{n}", f"c{n}", f"d{n}", f"e{n}"], "both": [1, 3]} for n in range(3)]
    assert level(rows, process_results=best_of_two, doc_to_target=lambda _: 0) == pytest.approx(2 / 5)


def failing(doc: dict[str, Any], results: list[tuple[float, bool]]) -> dict[str, float]:
    if any(answer[0] == -1e3 for answer in results):
        raise ValueError("an impossible answer")
    return {"acc": 1.0}


def test_a_definition_that_cannot_score_a_guess_has_no_level() -> None:
    rows = [{"q": "1", "choices": ["a", "b"], "gold": 0}]
    assert guesses_of_task(*quiz(rows, process_results=failing)) == {}


def test_a_group_is_guessed_with_one_answer() -> None:
    """The best answer of each part may differ; one constant answer serves both."""
    parts = [Guesses(uniform=0.5, gains={"yes": 0.2, "no": -0.2}), Guesses(uniform=0.5, gains={"yes": -0.1, "no": 0.1})]
    assert [part.level for part in parts] == pytest.approx([0.7, 0.6])
    assert guesses_of_group(parts, [3, 1]).level == pytest.approx(0.5 + (3 * 0.2 - 0.1) / 4)
    assert guesses_of_group(parts, [1, 1]).level == pytest.approx(0.55)
