"""Compute tokens to match of each candidate and its control, by source, from training histories."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from assay.analysis.results import DAMAGE
from assay.analysis.stats.tables import Seed
from assay.analysis.stats.tokens_to_match import Curve, Match, knots, tokens_to_match

if TYPE_CHECKING:
    from assay.plan.plan import Plan
    from assay.store.runs import RunDirectory, Store

ONCE = 1.01
"""Maximum number of epochs for which a source counts as seen once. The last sequence may extend into the next epoch."""
FEWEST = 10
"""Minimum number of records for a source to have a curve."""

Curves = Mapping[str, Mapping[Seed, Curve]]
"""By source and seed."""


class SourceMatch(NamedTuple):
    """The number of tokens of one arm that match another arm's loss on one source.

    Attributes:
        candidate: the arm.
        control: the arm that it is compared with.
        source: the source of the training loss.
        control_loss: final loss in nats per token, mean over seeds.
        candidate_loss: final loss of the candidate in nats per token, mean over seeds.
        worth: tokens of the control that match the candidate's final loss, divided by the candidate's tokens. A value
            above 1 means that the candidate is better.
        needed: tokens of the candidate that match the control's final loss, divided by the control's tokens. A value
            below 1 means that the candidate is better.
    """

    candidate: str
    control: str
    source: str
    control_loss: float
    candidate_loss: float
    worth: Match
    needed: Match


class Record(NamedTuple):
    """The inputs of a run's curves.

    Attributes:
        history: logged records of the run.
        delivered: delivered mix of the run; None if unknown.
    """

    history: Sequence[Mapping[str, Any]]
    delivered: Mapping[str, Any] | None


class Matches(NamedTuple):
    """Tokens to match of a sweep.

    Attributes:
        found: results by candidate and source.
        notes: sentences on the excluded sources.
    """

    found: tuple[SourceMatch, ...]
    notes: tuple[str, ...]


def match(
    store: Store, plan: Plan, *, candidate: str | None = None, records: Mapping[str, Record] | None = None
) -> Matches:
    """Match the tokens of each candidate and its control, from training losses of finished runs.

    The training loss on text that a run sees for the first time is a loss on unseen text. A source that an arm repeats
    is excluded, because its loss is partly due to memorization.

    Args:
        store: the store of the runs.
        plan: the sweep's plan.
        candidate: the only candidate to match (default: all).
        records: records that were already read, by fingerprint.
    """
    sweep = plan.sweep
    if candidate is not None:
        sweep.check_candidate(candidate)
    names = sweep.candidates if candidate is None else (candidate,)
    arms = {*names, *map(sweep.control, names)}
    curves: dict[str, dict[str, dict[Seed, Curve]]] = {arm: {} for arm in arms}
    repeated: set[tuple[str, str]] = set()
    unreadable: list[str] = []
    for run in plan.runs:
        if run.mix in arms and run.status == "reuse" and run.fingerprint is not None:
            known = (records or {}).get(run.fingerprint)
            try:
                fresh, again = _read(known if known is not None else _record(store.run(run.fingerprint)))
            except DAMAGE:
                unreadable.append(
                    f"{run.label} is excluded: its history ({store.run(run.fingerprint).metrics}) cannot be read."
                )
                continue
            repeated |= {(source, run.mix) for source in again}
            for source, curve in fresh.items():
                curves[run.mix].setdefault(source, {})[run.seed] = curve
    excluded = {source for source, _ in repeated}
    matches = [pair for name in names for pair in _pair(curves, name, sweep.control(name), excluded)]
    notes = [
        f"{source} is excluded: {', '.join(mix for mix in sweep.mixes if (source, mix) in repeated)} repeated it, so that its"
        " training loss is partly due to memorization."
        for source in sorted(excluded)
    ]
    return Matches(tuple(matches), (*unreadable, *notes))


def _pair(curves: Mapping[str, Curves], candidate: str, control: str, repeated: set[str]) -> list[SourceMatch]:
    matches = []
    for source in sorted(set(curves[candidate]) & set(curves[control]) - repeated):
        of_control, of_candidate = curves[control][source], curves[candidate][source]
        seeds = [seed for seed in of_control if seed in of_candidate]
        if not seeds:
            continue
        end, own_end = (float(np.mean([part[seed].loss[-1] for seed in seeds])) for part in (of_control, of_candidate))
        pairs = ((of_control, of_candidate), (of_candidate, of_control))
        worth, needed = (tokens_to_match(a, b, fallen=True) for a, b in pairs)
        matches.append(SourceMatch(candidate, control, source, end, own_end, worth, needed))
    return matches


def _record(run: RunDirectory) -> Record:
    return Record(run.history(), run.delivered())


def _read(record: Record) -> tuple[dict[str, Curve], list[str]]:
    """Return a run's curves by source, processed by `knots`, and the sources that it repeated."""
    delivered = (record.delivered or {}).get("delivered", {})
    again = [source for source, part in delivered.items() if (part.get("epochs") or 0.0) > ONCE]
    # Steps that were repeated after a kill were logged twice; the last record of a step counts.
    records = {logged["step"]: logged for logged in record.history}
    points: dict[str, list[tuple[float, float]]] = {}
    before = 0
    for step in sorted(records):
        logged = records[step]
        middle = (before + logged["tokens"]) / 2  # a record is the mean over the steps since the last one
        before = logged["tokens"]
        for source, loss in logged["loss_by_source"].items():
            points.setdefault(source, []).append((middle, loss))
    curves = {
        source: knots(Curve(*np.array(rows, np.float64).T))
        for source, rows in points.items()
        if source not in again and len(rows) >= FEWEST
    }
    return curves, again
