"""The checks: which jobs each one runs, and what must hold for their figures."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from scripts.gpu_check.jobs import (
    DataJob,
    EvaluateJob,
    Figures,
    Job,
    Place,
    TrainerJob,
    TrainJob,
    missing_for_lm_eval,
)
from scripts.gpu_check.processes import JobResult

SAME_LOSS = 0.1
"""Maximum difference of the final losses of eager and compiled training, in nats: both round in bf16, but differently."""
SAME_BITS = 0.001
"""Maximum relative difference of bits per byte between the device and the CPU."""

RunJobs = Callable[[list[Job]], list[JobResult]]
"""Runs jobs at the same time within the check's time limit."""


class CheckFailedError(Exception):
    """A condition that does not hold; the message states it."""

    def __init__(self, message: str, figures: Figures | None = None) -> None:
        super().__init__(message)
        self.figures = figures or {}


class CheckSkippedError(Exception):
    """A check that this Python cannot run; the message states why."""


@dataclass(frozen=True, kw_only=True)
class Check:
    """A check with its time limit."""

    name: str
    limit: float
    """Seconds."""
    run: Callable[[Place, RunJobs, dict[str, Figures]], Figures]
    """Receives the figures of earlier checks by name."""
    needs: tuple[str, ...] = ()
    """Checks that must have passed before."""


def all_checks(place: Place) -> list[Check]:
    """Return the checks in order: the longest ones come last, so that a slow GPU still completes the others."""
    small, large = place.plan.loads
    return [
        Check(name="data", limit=60, run=_prepare),
        Check(name=f"train {small}", limit=60, run=_train(small), needs=("data",)),
        Check(name=f"resume {small}", limit=90, run=_resume(small), needs=(f"train {small}",)),
        Check(name=f"evaluate {small}", limit=60, run=_evaluate(small), needs=(f"train {small}",)),
        Check(name="pack", limit=75, run=_pack, needs=("data",)),
        Check(name=f"train {small} compiled", limit=100, run=_train(small, compiled=True), needs=("data",)),
        Check(name=f"Trainer {small}", limit=60, run=_trainer(small), needs=("data",)),
        Check(name=f"train {large}", limit=90, run=_train(large), needs=("data",)),
        Check(name=f"Trainer {large}", limit=60, run=_trainer(large), needs=("data",)),
        Check(name=f"train {large} compiled", limit=150, run=_train(large, compiled=True), needs=("data",)),
        Check(
            name=f"resume {small} compiled",
            limit=90,
            run=_resume(small, compiled=True),
            needs=(f"train {small} compiled",),
        ),
    ]


def _prepare(place: Place, run_jobs: RunJobs, earlier: dict[str, Figures]) -> Figures:
    del place, earlier
    return _only(run_jobs([DataJob()]))


def _train(name: str, *, compiled: bool = False) -> Callable[[Place, RunJobs, dict[str, Figures]], Figures]:
    def run(place: Place, run_jobs: RunJobs, earlier: dict[str, Figures]) -> Figures:
        job = TrainJob(load=place.plan.loads[name], run=_run_name(name, compiled=compiled), compile=compiled)
        figures = _only(run_jobs([job]))
        _require_learning(figures, place)
        eager = earlier.get(f"train {name}")
        if compiled and eager is not None:
            figures["speed_vs_eager"] = figures["tokens_per_second"] / eager["tokens_per_second"]
            difference = abs(figures["losses"][-1] - eager["losses"][-1])
            figures["loss_vs_eager"] = difference
            _require(
                difference <= SAME_LOSS,
                f"the final loss differs by {difference:.3f} nats from eager training; expected at most {SAME_LOSS}",
                figures,
            )
            note = f"{figures['speed_vs_eager']:.2f} times as fast as eager, first step after "
            figures["note"] = f"{note}{figures['seconds_to_first_step']:.0f} s"
        else:
            figures["note"] = f"{figures['precision']}, loss {figures['losses'][0]:.2f} to {figures['losses'][-1]:.2f}"
        return figures

    return run


def _resume(name: str, *, compiled: bool = False) -> Callable[[Place, RunJobs, dict[str, Figures]], Figures]:
    """Compare a run that stopped in one process and resumed in another with the uninterrupted run."""

    def run(place: Place, run_jobs: RunJobs, earlier: dict[str, Figures]) -> Figures:
        load = place.plan.loads[name]
        folder = _run_name(name, compiled=compiled) + "-resumed"
        stopped = TrainJob(load=load, run=folder, compile=compiled, stop_after=load.steps // 2)
        first = _only(run_jobs([stopped]))
        _require(first["state"] == "queued", f"the stopped run is {first['state']}; expected queued", first)
        second = _only(run_jobs([TrainJob(load=load, run=folder, compile=compiled)]))
        whole = earlier[f"train {name} compiled" if compiled else f"train {name}"]
        figures = {
            "stopped_after": load.steps // 2,
            "steps": second["steps"],
            "weights": second["weights"],
            "uninterrupted_weights": whole["weights"],
            "note": "weights are bit for bit those of the uninterrupted run",
        }
        _require(second["steps"] < load.steps, "the second process did not resume from the checkpoint", figures)
        _require(
            second["weights"] == whole["weights"],
            "the weights differ from those of the uninterrupted run",
            {**figures, "note": "", "losses": second["losses"], "uninterrupted_losses": whole["losses"]},
        )
        return figures

    return run


def _evaluate(name: str) -> Callable[[Place, RunJobs, dict[str, Figures]], Figures]:
    def run(place: Place, run_jobs: RunJobs, earlier: dict[str, Figures]) -> Figures:
        del earlier
        job = EvaluateJob(load=place.plan.loads[name], run=_run_name(name))
        figures = _only(run_jobs([job]))
        here, on_cpu = figures["bits_per_byte"], figures["bits_per_byte_on_cpu"]
        _require(
            math.isclose(here, on_cpu, rel_tol=SAME_BITS),
            f"bits per byte are {here:.5f} on the device and {on_cpu:.5f} on the CPU; expected a difference below 0.1%",
            figures,
        )
        scores = figures.get("scores", {})
        bad = [score for score, value in scores.items() if not math.isfinite(value)]
        _require(not bad, f"scores are not finite: {', '.join(bad)}", figures)
        missing = missing_for_lm_eval()
        figures["note"] = f"{here:.3f} bits per byte, on the CPU {on_cpu:.3f}; " + (
            f"skipped lm-eval (not installed: {', '.join(missing)})"
            if missing
            else f"{len(scores)} scores from lm-eval"
        )
        return figures

    return run


def _pack(place: Place, run_jobs: RunJobs, earlier: dict[str, Figures]) -> Figures:
    """Train several small runs at the same time, and compare one of them with the same run alone."""
    del earlier
    plan = place.plan
    jobs = [TrainJob(load=plan.packed, run=f"packed-{seed}", seed=seed) for seed in range(plan.packed_runs)]
    together = [_figures(result) for result in run_jobs(list(jobs))]
    alone = _only(run_jobs([TrainJob(load=plan.packed, run="alone")]))
    speeds = [figures["tokens_per_second"] for figures in together]
    figures = {
        "runs": len(together),
        "tokens_per_second": sum(speeds),
        "tokens_per_second_of_runs": speeds,
        "tokens_per_second_alone": alone["tokens_per_second"],
        "mfu": None if alone["mfu"] is None else sum(each["mfu"] for each in together),
        "peak_memory": sum(each["peak_memory"] for each in together),
        "weights": [each["weights"] for each in together],
        "weights_alone": alone["weights"],
    }
    for each in (*together, alone):
        _require_learning(each, place)
    _require(len(set(figures["weights"])) == len(together), "runs with different seeds have equal weights", figures)
    _require(
        together[0]["weights"] == alone["weights"], "a packed run has other weights than the same run alone", figures
    )
    gain = sum(speeds) / alone["tokens_per_second"]
    return {**figures, "gain": gain, "note": f"{len(together)} runs together: {gain:.2f} times the speed of one"}


def _trainer(name: str) -> Callable[[Place, RunJobs, dict[str, Figures]], Figures]:
    def run(place: Place, run_jobs: RunJobs, earlier: dict[str, Figures]) -> Figures:
        from importlib.util import find_spec

        if find_spec("accelerate") is None:
            raise CheckSkippedError("transformers' Trainer requires accelerate, which is not installed")
        load = place.plan.loads[name]
        figures = _only(run_jobs([TrainerJob(load=load, steps=max(8, load.steps // 3))]))
        _require(all(map(math.isfinite, figures["losses"])), "the Trainer's loss is not finite", figures)
        own = earlier.get(f"train {name}")
        if own is not None:
            figures["assay_vs_trainer"] = own["tokens_per_second"] / figures["tokens_per_second"]
            figures["note"] = f"assay, eager, is {figures['assay_vs_trainer']:.2f} times as fast"
        return figures

    return run


def _run_name(name: str, *, compiled: bool = False) -> str:
    return f"{name}-compiled" if compiled else name


def _require_learning(figures: Figures, place: Place) -> None:
    losses: list[float] = figures["losses"]
    _require(figures["state"] == "trained", f"the run is {figures['state']}; expected trained", figures)
    _require(all(map(math.isfinite, losses)), "the training loss is not finite", figures)
    fall = losses[0] - losses[-1]
    _require(
        fall >= place.plan.learned,
        f"the training loss fell by {fall:.3f} nats; expected at least {place.plan.learned}",
        figures,
    )
    _require(
        place.device == "cpu" or figures["precision"] == "bfloat16",
        f"training multiplied in {figures['precision']}; expected bfloat16",
        figures,
    )


def _require(condition: bool, message: str, figures: dict[str, Any]) -> None:  # noqa: FBT001  # a condition reads best first
    if not condition:
        raise CheckFailedError(message, figures)


def _only(results: list[JobResult]) -> Figures:
    (result,) = results
    return _figures(result)


def _figures(result: JobResult) -> Figures:
    if result.problem is not None:
        raise CheckFailedError(result.problem)
    return result.figures
