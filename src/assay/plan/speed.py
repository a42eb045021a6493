"""Estimate the cost of a run from the finished runs of the store."""

from __future__ import annotations

import contextlib
import itertools
import statistics
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from assay.core.errors import Damaged
from assay.core.files import read_json, write_json
from assay.plan.plan import Speed

if TYPE_CHECKING:
    from assay.config.recipe import RunSpec
    from assay.plan.run_specs import RunSpecs
    from assay.store.runs import RunDirectory, Status, Store

SAMPLE = 50
"""Maximum number of newest runs that determine a proxy's speed. Older runs may be from other machines."""
READ_LIMIT = 300
"""Maximum number of runs to read for the estimate. Reading takes 0.1 s, even in a store of thousands of runs."""


def estimate_speed(runs: RunSpecs, store: Store) -> Speed:
    """Estimate the cost of a run of the study's proxy on this machine.

    The newest runs of the same proxy determine the speed. Without such runs, the speed follows from runs of other
    proxies, scaled by FLOPs. Without any run, the speed is the measurement of `assay doctor`.
    """
    study, flops = runs.study, runs.flops_per_token
    shape = (study.proxy, runs.vocabulary, study.batch.sequences)
    same, other, evaluations = [], [], []
    for status, spec in itertools.islice(_timed_runs(store), READ_LIMIT):
        rate = status.tokens / status.train_seconds
        if (spec.model, spec.vocabulary, spec.batch_sequences) == shape:
            same.append(rate)
            if status.evaluate_seconds:
                evaluations.append(
                    status.evaluate_seconds / (1 + len(store.run(spec.fingerprint).interim_evaluations()))
                )
        else:
            other.append(rate * spec.model.flops_per_token(spec.vocabulary) / flops)
        if len(same) == SAMPLE:
            break
    evaluate = statistics.median(evaluations) * (1 + len(study.interim_fractions)) if evaluations else None
    if same:
        return Speed(statistics.median(same), evaluate, f"measured on {len(same)} runs of this proxy")
    if other:
        return Speed(
            statistics.median(other), evaluate, f"scaled by operations from {len(other)} runs of other proxies"
        )
    try:
        measured = read_json(store.speed)
        rate = measured["tokens_per_second"] * measured["flops_per_token"] / flops
    except FileNotFoundError:
        return Speed(None, None, "no run has been measured in this store yet")
    except (Damaged, KeyError, TypeError):
        return Speed(None, None, f"{store.speed} is damaged")
    return Speed(rate, None, "measured by `assay doctor`, without evaluation")


def save_speed(runs: RunSpecs, store: Store, tokens_per_second: float) -> None:
    """Save a measured training speed of the proxy, for plans before the first run."""
    write_json(store.speed, {"tokens_per_second": tokens_per_second, "flops_per_token": runs.flops_per_token})


def finished_runs(store: Store) -> Iterator[tuple[RunDirectory, RunSpec]]:
    """Yield the newest runs of any sweep and proxy that completed training."""
    for status, spec in itertools.islice(_timed_runs(store), READ_LIMIT):
        if status.state == "done":
            yield store.run(spec.fingerprint), spec


def has_same_setup(runs: RunSpecs, spec: RunSpec) -> bool:
    """Return whether a run has the study's proxy, budget and optimizer.

    Such a run has comparable noise. Weight decay may differ, as between the arms of an ablation.
    """
    study = runs.study
    setup = (study.proxy, runs.vocabulary, study.batch.sequences, runs.steps, study.optim)
    optimizer = replace(spec.optimizer, weight_decay=study.optim.weight_decay)
    return setup == (spec.model, spec.vocabulary, spec.batch_sequences, spec.steps, optimizer)


def _timed_runs(store: Store) -> Iterator[tuple[Status, RunSpec]]:
    """Yield runs with a recorded training time, newest first."""
    for run in store.newest():
        status = run.status()
        if status.tokens and status.train_seconds:
            # A damaged record of another sweep must not prevent planning of this sweep.
            with contextlib.suppress(FileNotFoundError, Damaged, KeyError, TypeError):
                yield status, run.spec()
