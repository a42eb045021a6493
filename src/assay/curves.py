"""Tokens to match, out of the histories of a sweep's runs: source by source, each candidate against its control."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from assay.results import DAMAGE
from assay.stats.frames import Seed
from assay.stats.match import Curve, Match, knots, tokens_to_match

if TYPE_CHECKING:
    from assay.plan import Plan
    from assay.store import RunDirectory, Store

ONCE = 1.01
"""Epochs up to which a source counts as seen once: the last sequence may reach into the next."""
FEWEST = 10
"""Records without which a source has no curve."""

Curves = Mapping[str, Mapping[Seed, Curve]]
"""By source and seed."""


class SourceMatch(NamedTuple):
    """How many tokens of one arm match another's on one source.

    Attributes:
        candidate: the arm.
        control: what it is compared with.
        source: whose training loss it is read off.
        control_loss: at the end, in nats a token, mean over seeds.
        candidate_loss: the same.
        worth: tokens of the control that match the candidate's end, over the candidate's tokens; above 1 it is better.
        needed: tokens of the candidate that match the control's end, over the control's tokens; below 1 it is better.
    """

    candidate: str
    control: str
    source: str
    control_loss: float
    candidate_loss: float
    worth: Match
    needed: Match

    def to_mapping(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {**self._asdict(), "worth": self.worth._asdict(), "needed": self.needed._asdict()}


class Record(NamedTuple):
    """What a run's curves are made of.

    Attributes:
        history: its logged records.
        delivered: what each source gave it; None where that is not known.
    """

    history: Sequence[Mapping[str, Any]]
    delivered: Mapping[str, Any] | None


class Matches(NamedTuple):
    """What the histories of a sweep tell.

    Attributes:
        found: by candidate and source.
        notes: sources that were left out, and why, in sentences.
    """

    found: tuple[SourceMatch, ...]
    notes: tuple[str, ...]


def match(
    store: Store, plan: Plan, *, candidate: str | None = None, records: Mapping[str, Record] | None = None
) -> Matches:
    """Read the training losses of a sweep's finished runs, and match each candidate's tokens with its control's.

    Training loss on text that is seen for the first time is loss on unseen text. A source that an arm goes through more
    than once is left out: what it has seen before it has partly learned by heart.

    Args:
        store: where the runs are.
        plan: the sweep's.
        candidate: the only one to look at; left out, all of them.
        records: by fingerprint, of runs that were read already.
    """
    sweep = plan.sweep
    if candidate is not None:
        sweep.check_candidate(candidate)
    names = sweep.candidates if candidate is None else (candidate,)
    arms = {*names, *map(sweep.control, names)}
    curves: dict[str, dict[str, dict[Seed, Curve]]] = {arm: {} for arm in arms}
    repeated: set[tuple[str, str]] = set()
    unread: list[str] = []
    for run in plan.runs:
        if run.mix in arms and run.status == "reuse" and run.fingerprint is not None:
            known = (records or {}).get(run.fingerprint)
            try:
                fresh, again = _read(known if known is not None else _record(store.run(run.fingerprint)))
            except DAMAGE:
                unread.append(
                    f"{run.label} is left out: its history ({store.run(run.fingerprint).metrics}) cannot be read."
                )
                continue
            repeated |= {(source, run.mix) for source in again}
            for source, curve in fresh.items():
                curves[run.mix].setdefault(source, {})[run.seed] = curve
    found = [one for name in names for one in _pair(curves, name, sweep.control(name), {s for s, _ in repeated})]
    notes = [
        f"{source} is left out: {', '.join(mix for mix in sweep.mixes if (source, mix) in repeated)} went through it more than "
        "once, and its training loss is partly memory."
        for source in sorted({source for source, _ in repeated})
    ]
    return Matches(tuple(found), (*unread, *notes))


def _pair(curves: Mapping[str, Curves], candidate: str, control: str, repeated: set[str]) -> list[SourceMatch]:
    found = []
    for source in sorted(set(curves[candidate]) & set(curves[control]) - repeated):
        theirs, ours = curves[control][source], curves[candidate][source]
        seeds = [seed for seed in theirs if seed in ours]
        if not seeds:
            continue
        end, ours_end = (float(np.mean([part[seed].loss[-1] for seed in seeds])) for part in (theirs, ours))
        worth, needed = (tokens_to_match(a, b, fallen=True) for a, b in ((theirs, ours), (ours, theirs)))
        found.append(SourceMatch(candidate, control, source, end, ours_end, worth, needed))
    return found


def _record(run: RunDirectory) -> Record:
    return Record(run.history(), run.delivered())


def _read(record: Record) -> tuple[dict[str, Curve], list[str]]:
    """A run's curves by source as `knots` makes them, and the sources that it went through more than once."""
    delivered = (record.delivered or {}).get("delivered", {})
    again = [source for source, part in delivered.items() if (part.get("epochs") or 0.0) > ONCE]
    # Steps that were trained again after a kill were logged again; the last record of a step counts.
    records = {one["step"]: one for one in record.history}
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
