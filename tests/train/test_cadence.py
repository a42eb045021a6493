"""The actions that are due after each step of a run, for every combination of causes."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest

from assay.config.training import TrainSettings
from assay.train.cadence import Cadence, Due
from tests.train.small_runs import make_spec

CADENCE = Cadence(steps=12, record_every=5, checkpoint_every=4, interim=frozenset({6, 8}), single=True)


def due(done: int, cadence: Cadence = CADENCE, *, stop: bool = False, timer: bool = False) -> Due:
    return cadence.due(done, stop=stop, timer=timer)


def steps(name: str, cadence: Cadence = CADENCE) -> list[int]:
    return [done for done in range(1, cadence.steps + 1) if getattr(due(done, cadence), name)]


def test_records_are_due_at_intervals_and_at_the_end() -> None:
    assert steps("record") == [5, 10, 12]


def test_checkpoints_are_due_by_step_and_with_interim_evaluations_and_never_at_the_end() -> None:
    assert steps("checkpoint") == [4, 6, 8]
    assert steps("checkpoint", replace(CADENCE, checkpoint_every=None)) == [6, 8]


def test_a_single_process_leaves_training_to_evaluate() -> None:
    assert [(done, due(done).leave) for done in steps("leave")] == [(6, "evaluate"), (8, "evaluate")]


def test_several_processes_save_the_weights_and_continue() -> None:
    several = replace(CADENCE, single=False)
    assert (
        steps("interim", several) == [6, 8] == [done for done in steps("checkpoint", several) if done % 4 or done == 8]
    )
    assert steps("leave", several) == []


def test_the_timer_makes_a_checkpoint_due_and_nothing_else() -> None:
    assert due(7, timer=True) == Due(record=False, interim=False, checkpoint=True, leave=None)


@pytest.mark.parametrize("single", [True, False])
def test_a_request_to_stop_comes_before_an_evaluation(*, single: bool) -> None:
    cadence = replace(CADENCE, single=single)
    assert due(7, cadence, stop=True) == Due(record=False, interim=False, checkpoint=True, leave="stop")
    assert due(6, cadence, stop=True) == Due(record=False, interim=True, checkpoint=True, leave="stop")


@pytest.mark.parametrize(("stop", "timer"), [*product([True, False], repeat=2)])
def test_nothing_but_the_record_is_due_at_the_end(*, stop: bool, timer: bool) -> None:
    """The final weights follow the last step, so a run that is stopped there has no work left."""
    at_the_end = replace(CADENCE, interim=frozenset({12}))
    assert due(12, at_the_end, stop=stop, timer=timer) == Due(record=True, interim=False, checkpoint=False, leave=None)


@pytest.mark.parametrize(("done", "stop", "timer"), [*product(range(1, 13), [True, False], [True, False])])
def test_an_interim_evaluation_or_a_stop_implies_a_checkpoint(*, done: int, stop: bool, timer: bool) -> None:
    at = due(done, stop=stop, timer=timer)
    assert at.checkpoint or not (at.interim or at.leave)


def test_a_cadence_follows_the_spec_and_the_settings() -> None:
    settings = TrainSettings(records=3, checkpoint_steps=7, interim_evaluations=(0.25, 0.5))
    made = Cadence.of(make_spec(steps=40), settings, ranks=2)
    assert made == Cadence(steps=40, record_every=13, checkpoint_every=7, interim=frozenset({10, 20}), single=False)
    assert Cadence.of(make_spec(steps=2), settings, ranks=1).record_every == 1
