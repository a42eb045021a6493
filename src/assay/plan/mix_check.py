"""Compare the declared mixes of a sweep with the mixes that its runs train on."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from assay.config.mixes import Scale, chain
from assay.config.reason import Code, Reason

if TYPE_CHECKING:
    from assay.config.recipe import RunSpec, StageSpec
    from assay.config.study import Study
    from assay.plan.mix_resolver import MixResolver

MIX_CODES = frozenset({Code.FEW_SEQUENCES, Code.WEIGHTS_CAPPED, Code.WEIGHTS_RESCALED, Code.KEYS_OVERRIDDEN})
"""Codes of the reasons of `check_mixes`."""
FEW = 5
"""Minimum number of sequences of a source. Sources with fewer are listed, because runs train on hardly any of their
text."""
TOLERANCE = 0.1
"""Maximum relative deviation of a source's number of sequences. The schedule is within one sequence of the weights, so only sources
with at most 10 sequences exceed it."""
LARGEST_SCHEDULE = 20_000_000
"""Maximum length of a schedule that is computed exactly, which takes a second. For longer schedules, counts are
rounded."""
SAME = 1e-9


def check_mixes(mixes: MixResolver, specs: Mapping[str, RunSpec]) -> list[Reason]:
    """List differences between mixes as declared and as trained.

    Args:
        mixes: the mixes of the study.
        specs: the spec of one run of each arm whose weights are known.

    Returns:
        Reasons for each arm: sources with no or very few sequences, and weights that a cap changes. Reasons for each
        mix: weights that were divided by their sum, and keys that an override changed.
    """
    study = mixes.study
    reasons = [reason for arm, spec in specs.items() for reason in _arm_reasons(mixes, arm, spec)]
    used = list(dict.fromkeys(name for mix in mixes.sweep_mixes for name in chain(mix, study.mixes)))
    reasons += [reason for name in used for reason in _rescaled(mixes, name)]
    return reasons + _overridden(
        study, {*used}, {source for mix in mixes.sweep_mixes for source in mixes.source_names(mix)}
    )


def _arm_reasons(mixes: MixResolver, arm: str, spec: RunSpec) -> Iterable[Reason]:
    several = len(spec.stages) > 1
    for stage, declared in zip(spec.stages, mixes.study.stages, strict=True):
        place = {"stage": stage.name if several else ""}
        length = stage.steps * spec.batch_sequences
        mix = declared.mix or arm
        few = _few_sequences(stage, mixes.source_names(mix), length)
        if few:
            figures = {**place, "sequences": length, "sources": few}
            yield Reason(code=Code.FEW_SEQUENCES, subject=arm, figures=figures)
        written = mixes.resolve(mix)
        if written.max_epochs is not None:
            capped = {
                name: {"written": weight, "trained": stage.weights.get(name, 0.0)}
                for name, weight in written.weights.items()
                if abs(weight - stage.weights.get(name, 0.0)) > SAME
            }
            if capped:
                figures = {**place, "max_epochs": written.max_epochs, "sources": capped}
                yield Reason(code=Code.WEIGHTS_CAPPED, subject=arm, figures=figures)


def _few_sequences(stage: StageSpec, names: Iterable[str], length: int) -> dict[str, dict[str, float]]:
    """Return the actual and the requested number of sequences of each source that gets too few."""
    requested = {name: stage.weights.get(name, 0.0) * length for name in {*names, *stage.weights}}
    suspects = [name for name in sorted(requested) if requested[name] < 2 / TOLERANCE]
    if not suspects:
        return {}
    counts = _counts(stage, length)
    few = {}
    for name in suspects:
        count, wanted = counts.get(name, 0), requested[name]
        if count < FEW or abs(count - wanted) > TOLERANCE * wanted:
            few[name] = {"sequences": count, "requested": wanted}
    return few


def _counts(stage: StageSpec, length: int) -> dict[str, int]:
    from assay.corpus.schedule import MixSchedule  # loads numba

    if length > LARGEST_SCHEDULE:
        return {name: round(weight * length) for name, weight in stage.weights.items()}
    schedule = MixSchedule(stage.weights, length)
    return dict(zip(schedule.names, schedule.counts(length).tolist(), strict=True))


def _rescaled(mixes: MixResolver, name: str) -> Iterable[Reason]:
    """Yield reasons for weights with a sum other than 1, in the declaration or after the edit `scale`."""
    declaration = mixes.study.mixes[name]
    if declaration.weights is not None and (total := math.fsum(declaration.weights.values())) and abs(total - 1) > SAME:
        yield Reason(code=Code.WEIGHTS_RESCALED, subject=name, figures={"sum": total, "edit": ""})
    if not any(isinstance(edit, Scale) for edit in declaration.edits) or mixes.missing_counts(name):
        return
    steps = mixes.resolve(name).steps
    for before, edit in zip(steps, declaration.edits, strict=False):
        if isinstance(edit, Scale):
            total = math.fsum(edit.apply(before.weights, mixes.study.sources).values())
            if abs(total - 1) > SAME:
                yield Reason(code=Code.WEIGHTS_RESCALED, subject=name, figures={"sum": total, "edit": str(edit)})


def _overridden(study: Study, mixes: set[str], sources: set[str]) -> list[Reason]:
    used = {"mix": mixes, "source": sources}
    reasons = []
    for entry in study.overridden:
        if entry.name in used[entry.catalog]:
            figures: dict[str, Any] = {"catalog": entry.catalog, "files": entry.files}
            reasons.append(Reason(code=Code.KEYS_OVERRIDDEN, subject=entry.name, figures=figures))
    return reasons
