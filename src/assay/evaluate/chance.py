"""Chance level: the accuracy of random guesses on the evaluated items of a task.

There are two strategies. The uniform strategy picks each distinct choice of an item with equal probability. The
constant strategy always gives one answer. It applies if all items offer the same answers, such as "yes" and "no". The
chance level is the score of the better strategy. A model that only learned the most frequent answer is therefore at
chance level.
"""

from __future__ import annotations

import collections
import itertools
import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from assay.config.metrics import WITH_CHANCE_LEVEL
from assay.evaluate.item_weights import as_number

PREFERRED, REJECTED = -1e-3, -1e3
"""Loglikelihoods of a guessed choice and of the others: no normalization by length reverses their order."""


@dataclass(frozen=True, kw_only=True)
class Guesses:
    """Scores of random guesses on one metric of a task or group."""

    uniform: float
    """Expected score of a uniform guess among the distinct choices of each item."""
    gains: Mapping[str, float] = field(default_factory=dict)
    """Gain of each constant answer over `uniform`, by answer; empty if the items offer different answers."""

    @property
    def level(self) -> float:
        """The chance level: the score of the better strategy."""
        return self.uniform + max(0.0, *self.gains.values()) if self.gains else self.uniform


def guesses_of_task(leaf: Any, samples: Iterable[Mapping[str, Any]]) -> dict[str, Guesses]:
    """Score random guesses on each accuracy of a multiple-choice task.

    A task with its own `process_results` scores each guess itself, so that a metric with its own definition, such as
    the probability of all correct choices (truthfulqa_mc2), gets the matching chance level.

    Args:
        leaf: lm-eval's task.
        samples: lm-eval's log: a record for each item and each filter of its responses.

    Returns:
        Guesses by metric; empty for tasks without choices, and without a metric that cannot score a guess.
    """
    if leaf.OUTPUT_TYPE != "multiple_choice":
        return {}
    items = list({sample["doc_id"]: sample for sample in samples}.values())
    offered = [_offered(leaf, item) for item in items]
    if not items or min(len(choices) for choices in offered) < 2:  # one choice is no choice
        return {}
    metrics = {metric for item in items for metric in item["metrics"]} & WITH_CHANCE_LEVEL
    score = _own_scores if _has_own_results(leaf) else _standard_scores
    scored = [score(leaf, item, choices, metrics) for item, choices in zip(items, offered, strict=True)]
    guesses = {}
    for metric in sorted(metrics):
        parts = [item.get(metric) for item in scored]
        if None not in parts:
            guesses[metric] = _guesses([part for part in parts if part is not None])
    return guesses


def guesses_of_group(parts: Sequence[Guesses], weights: Sequence[float]) -> Guesses:
    """Average guesses over the tasks of a group. A constant answer counts in all tasks that offer this answer."""
    total = math.fsum(weights)
    gains: collections.Counter[str] = collections.Counter()
    for part, weight in zip(parts, weights, strict=True):
        gains.update({answer: gain * weight / total for answer, gain in part.gains.items()})
    uniform = math.fsum(part.uniform * weight for part, weight in zip(parts, weights, strict=True)) / total
    return Guesses(uniform=uniform, gains=dict(gains))


class _Item(NamedTuple):
    """Scores of random guesses on one item.

    Attributes:
        scores: score of a guess of each distinct choice.
        uniform: expected score of a uniform guess.
    """

    scores: Mapping[str, float]
    uniform: float


def _guesses(items: Sequence[_Item]) -> Guesses:
    uniform = math.fsum(item.uniform for item in items) / len(items)
    if not _same_answers(items):
        return Guesses(uniform=uniform)
    gains: collections.defaultdict[str, list[float]] = collections.defaultdict(list)
    for item in items:
        for answer, score in item.scores.items():
            gains[answer].append(score - item.uniform)
    return Guesses(uniform=uniform, gains={answer: math.fsum(parts) / len(items) for answer, parts in gains.items()})


def _same_answers(items: Sequence[_Item]) -> bool:
    """Return whether all items offer the same answers, apart from further ones: A to D, and A to E."""
    sets = sorted({frozenset(item.scores) for item in items}, key=len)
    return all(smaller < larger for smaller, larger in itertools.pairwise(sets))


def _offered(leaf: Any, item: Mapping[str, Any]) -> list[str]:
    """Return the text by which a model distinguishes each choice; with several inputs, that is the prompt."""
    arguments = item["arguments"]
    if "acc_mutual_info" in item["metrics"]:  # the second half are the choices without their prompt
        arguments = arguments[: len(arguments) // 2]
    return [str(argument[0 if getattr(leaf, "multiple_input", 0) else 1]) for argument in arguments]


def _standard_scores(
    leaf: Any, item: Mapping[str, Any], choices: Sequence[str], metrics: Iterable[str]
) -> dict[str, _Item]:
    """Score a guess of each distinct choice as lm-eval does; of equal choices, it takes the first."""
    correct = correct_choices(leaf, item, len(choices))
    scores = {text: float(choices.index(text) in correct) for text in dict.fromkeys(choices)}
    return dict.fromkeys(metrics, _Item(scores, math.fsum(scores.values()) / len(scores)))


def _own_scores(leaf: Any, item: Mapping[str, Any], choices: Sequence[str], metrics: Iterable[str]) -> dict[str, _Item]:
    """Score a guess of each distinct choice with the task's `process_results`."""
    try:
        guesses = {text: _results(leaf, item, choices, {text}) for text in dict.fromkeys(choices)}
        undecided = _results(leaf, item, choices, set(choices))
    except Exception:  # noqa: BLE001  # the task's own code, on answers that no model gave: no known chance level
        return {}
    scored = {}
    for metric in metrics:
        scores = {text: as_number(results.get(metric)) for text, results in guesses.items()}
        known = {text: score for text, score in scores.items() if score is not None}
        if len(known) == len(scores):
            scored[metric] = _Item(known, _uniform(known, choices, as_number(undecided.get(metric))))
    return scored


def _uniform(scores: Mapping[str, float], choices: Sequence[str], undecided: float | None) -> float:
    """Average over all choices if the metric is a probability, so that a model without preference gets this average.

    A metric that counts the best choice never takes a repeated choice twice.
    """
    expected = math.fsum(scores[text] for text in choices) / len(choices)
    if undecided is not None and math.isclose(undecided, expected, rel_tol=1e-6, abs_tol=1e-9):
        return expected
    return math.fsum(scores.values()) / len(scores)


def _results(leaf: Any, item: Mapping[str, Any], choices: Sequence[str], guessed: Collection[str]) -> Mapping[str, Any]:
    """Return the task's metrics of an item for a model that prefers the guessed choices equally."""
    answers = [(PREFERRED if text in guessed else REJECTED, text in guessed) for text in choices]
    extra = [(REJECTED, False)] * (len(item["arguments"]) - len(choices))
    results: Mapping[str, Any] = leaf.process_results(item["doc"], [*answers, *extra])
    return results


def _has_own_results(leaf: Any) -> bool:
    from lm_eval.api.task import ConfigurableTask

    own: Callable[..., Any] = type(leaf).process_results
    return own is not ConfigurableTask.process_results or callable(leaf.get_config("process_results"))


def correct_choices(leaf: Any, item: Mapping[str, Any], choices: int) -> list[int]:
    """Return the indices of an item's correct choices; tasks state them in several forms."""
    # With several inputs (winogrande), prompts contain the choices, and `doc_to_text` is the correct index.
    several = getattr(leaf, "multiple_input", 0)
    correct = leaf.doc_to_text(item["doc"]) if several else item["target"]
    indices = []
    for candidate in correct if isinstance(correct, list) else [correct]:
        index = candidate
        if isinstance(candidate, str):
            texts = leaf.doc_to_choice(item["doc"]) if leaf.get_config("doc_to_choice") is not None else []
            index = texts.index(candidate) if candidate in texts else None
        if index is not None and 0 <= int(index) < choices:
            indices.append(int(index))
    return indices
