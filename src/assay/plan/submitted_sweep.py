"""Reconstruct a submitted sweep: the runs of all submissions, with the configuration of the newest submission.

A sweep may be submitted several times, for example with more seeds or another candidate. The newest submission
determines the configuration. An earlier submission adds its candidates and seeds if the arms that both submissions
contain have equal run specs. Otherwise the newest submission supersedes the earlier one. The superseded runs stay in
the store, but leave the sweep.
"""

from __future__ import annotations

import contextlib
import datetime
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from assay.config.study import Study
from assay.core.errors import AssayError, ConfigError, Damaged, NotFound
from assay.core.fingerprint import differences
from assay.core.serde import to_mapping
from assay.plan.workspace import Workspace
from assay.store.submissions import submissions

if TYPE_CHECKING:
    from assay.config.arms import Arm
    from assay.config.recipe import RunSpec
    from assay.config.sweep import Sweep
    from assay.store.runs import Store
    from assay.store.submissions import Submission

TRUST = ("license", "clearance", "waivers", "snapshot", "origin", "processing")
"""Fields of a source that decide whether training on it is permitted. They are not part of a run's identity."""
LISTED = 3
"""Maximum number of differences that a superseded submission lists."""


@dataclass(frozen=True, kw_only=True)
class Superseded:
    """An earlier submission whose runs are no longer part of the sweep."""

    id: str
    """ID of the submission."""
    day: str
    """Time of the submission in UTC, to the minute."""
    runs: int
    """Number of runs of the submission."""
    differences: tuple[str, ...]
    """Inputs in which its runs differ from the runs of the newest submission, with both values."""


@dataclass(frozen=True, kw_only=True)
class SubmittedSweep:
    """The runs and settings of all submissions of a sweep."""

    newest: Submission
    """The newest submission."""
    study: Study
    """Study of the newest submission, with the candidates and seeds of compatible earlier submissions."""
    digests: dict[str, str]
    """Digests of the sources at the submissions, by name."""
    specs: dict[str, RunSpec] = field(hash=False)
    """Recorded spec of one run of each arm. Arms without a recorded spec are absent."""
    fingerprints: dict[str, str] = field(hash=False)
    """Fingerprints of the submitted runs by label, such as `more_web s0`."""
    superseded: tuple[Superseded, ...] = ()
    """Earlier submissions that the newest submission supersedes, from new to old."""

    @property
    def day(self) -> str:
        """Time of the newest submission in UTC, to the minute."""
        return day_of(self.newest)

    def workspace(self, study: Study | None = None) -> Workspace:
        """Resolve the sweep on this machine, with its frozen digests, specs and evaluation.

        Args:
            study: the study with other sections that define no run (default: the study of the submissions).
        """
        return Workspace(study or self.study, digests=self.digests, evaluation=self.newest.evaluation, specs=self.specs)

    def with_rules_of(self, study: Study) -> Workspace:
        """Resolve the sweep with the policy and suite of another study. This suite determines the evaluation."""
        own = replace(self.study, policy=study.policy, suite=study.suite, history=study.history, paths=study.paths)
        return Workspace(own, digests=self.digests, specs=self.specs)


def day_of(submission: Submission) -> str:
    """Return the time of a submission in UTC, to the minute."""
    return datetime.datetime.fromtimestamp(submission.created, datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")


def read_submitted_sweep(store: Store, sweep: str, *, paths: Mapping[str, Any] | None = None) -> SubmittedSweep | None:
    """Read a sweep as it was submitted; ``None`` if it was never submitted.

    Args:
        store: the store of the sweep.
        sweep: its name.
        paths: section `paths` of this machine's configuration (default: as submitted).

    Raises:
        Damaged: another version of assay wrote the configuration of the newest submission.
    """
    records = [directory.read() for directory in submissions(store, sweep)]
    if not records:
        return None
    merged = _read_one(store, records[-1], paths)
    for earlier in reversed(records[:-1]):
        merged = _merge(store, merged, earlier, paths)
    return merged


def with_current_trust(study: Study, current: Study) -> Study:
    """Return a submitted study with the current clearances, waivers and taint rule.

    A clearance may have been revoked since the submission. A sweep that was submitted with permission to use a tainted source
    is blocked as well.
    """
    now, submitted = current.raw.get("source") or {}, study.raw.get("source") or {}
    sources = {name: _with_current_trust(source, now.get(name)) for name, source in submitted.items()}
    return Study.parse({**study.raw, "taint": current.raw["taint"], "source": sources})


def _with_current_trust(submitted: Mapping[str, Any], now: Mapping[str, Any] | None) -> Mapping[str, Any]:
    if now is None:
        return submitted
    kept = {key: value for key, value in submitted.items() if key not in TRUST}
    return kept | {key: now[key] for key in TRUST if key in now}


def _read_one(store: Store, submission: Submission, paths: Mapping[str, Any] | None) -> SubmittedSweep:
    try:
        study = submission.frozen_study(**({} if paths is None else {"paths": paths}))
        study.require_sweep()
    except ConfigError as error:
        raise Damaged(
            f"submission {submission.id} of sweep {submission.sweep!r}: its configuration is invalid in this version of assay:"
            f" {error.what}",
            fix="Use the version of assay that submitted the sweep, or add --current to use the current configuration.",
        ) from error
    return SubmittedSweep(
        newest=submission,
        study=study,
        digests=submission.digests,
        specs=_recorded_specs(store, submission),
        fingerprints=_fingerprints(submission),
    )


def _fingerprints(submission: Submission) -> dict[str, str]:
    return {run.label: run.fingerprint for run in (*submission.planned, *submission.runs)}


def _recorded_specs(store: Store, submission: Submission) -> dict[str, RunSpec]:
    """Read one recorded spec of each arm, so that later changes of a tokenizer or corpus file cannot change a run."""
    specs: dict[str, RunSpec] = {}
    for run in (*submission.planned, *submission.runs):
        if run.mix not in specs:
            with contextlib.suppress(NotFound, Damaged, FileNotFoundError):  # then the study determines the spec
                specs[run.mix] = store.run(run.fingerprint).spec()
    return specs


def _merge(
    store: Store, merged: SubmittedSweep, earlier: Submission, paths: Mapping[str, Any] | None
) -> SubmittedSweep:
    """Add the arms and seeds of an earlier submission, or mark it as superseded."""
    if earlier.study == merged.newest.study and earlier.digests == merged.newest.digests:
        return replace(
            merged,
            specs={**_recorded_specs(store, earlier), **merged.specs},
            fingerprints={**_fingerprints(earlier), **merged.fingerprints},
        )
    try:
        before = _read_one(store, earlier, paths)
        conflicts = tuple(_conflicts(before, merged))
        union = None if conflicts else _union(before, merged)
    except AssayError as error:
        conflicts, union = (error.what.replace("\n", " "),), None
    if union is not None:
        return union
    superseded = Superseded(
        id=earlier.id, day=day_of(earlier), runs=len(earlier.planned or earlier.runs), differences=conflicts[:LISTED]
    )
    return replace(merged, superseded=(*merged.superseded, superseded))


def _conflicts(before: SubmittedSweep, after: SubmittedSweep) -> Iterable[str]:
    """List the inputs of shared arms in which an earlier submission differs."""
    old, new = before.study.require_sweep(), after.study.require_sweep()
    if old.baseline != new.baseline:
        yield f"baseline {old.baseline} -> {new.baseline}"
        return
    left, right = before.workspace(), after.workspace()
    for arm in old.mixes:
        if arm in new.mixes:
            pair = (left.runs.spec(arm, 0).identity, right.runs.spec(arm, 0).identity)
            yield from (f"{arm}: {d.path} {d.left} -> {d.right}" for d in differences(*pair))
        else:
            yield from _changed_declarations(arm, before.study, after.study)


def _changed_declarations(arm: str, before: Study, after: Study) -> Iterable[str]:
    """List the mixes of an arm's chain of base mixes that the later study declares differently."""
    for name in mix_chain(arm, before):
        if name in after.mixes and after.mixes[name] != before.mixes[name]:
            yield f"{arm}: the declaration of mix {name} changed"


def _union(before: SubmittedSweep, after: SubmittedSweep) -> SubmittedSweep:
    """Add the arms and seeds of an earlier submission to a later one."""
    old, new = before.study.require_sweep(), after.study.require_sweep()
    sweep = replace(
        new,
        candidates=_ordered(old.candidates, new.candidates),
        seeds=_ordered(old.seeds, new.seeds),
        arms=(*new.arms, *_missing_arms(old, new)),
    )
    raw, added = after.study.raw, before.study.raw
    study = Study.parse(
        {
            **raw,
            "mix": {**(added.get("mix") or {}), **(raw.get("mix") or {})},
            "source": {**(added.get("source") or {}), **(raw.get("source") or {})},
            "sweep": to_mapping(sweep),
        }
    )
    return replace(
        after,
        study=study,
        digests={**before.digests, **after.digests},
        specs={**before.specs, **after.specs},
        fingerprints={**before.fingerprints, **after.fingerprints},
    )


def _missing_arms(old: Sweep, new: Sweep) -> list[Arm]:
    return [arm for arm in old.arms if arm.name not in new.mixes]


def _ordered(old: tuple[Any, ...], new: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return the values of both submissions without duplicates, in the order of the submissions."""
    return tuple(dict.fromkeys([*old, *new]))


def mix_chain(name: str, study: Study) -> list[str]:
    """Return a mix and its chain of base mixes, without mixes that the study does not declare."""
    chain: list[str] = []
    current: str | None = name
    while current is not None and current in study.mixes and current not in chain:
        chain.append(current)
        current = study.mixes[current].base
    return chain
