"""Describe the effects of a configuration change on mixes and on the sweeps that use them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from assay.config.mixes import counted_names, resolve

if TYPE_CHECKING:
    from assay.config.mixes import Mix
    from assay.config.sources import Source
    from assay.config.study import Study

SETTINGS = ("proxy", "optim", "budget", "batch", "stages", "tokenizer", "suite", "policy")
"""Sections that determine a sweep's runs or its verdict."""
SOURCE_FIELDS = ("files", "format", "text_field", "separator", "domain", "tags", "license", "effective_clearance")
"""Fields of a source that determine runs, weights, or permission to use the source."""
SAME = 1e-12
"""Maximum difference of equal weights."""


@dataclass(frozen=True, kw_only=True)
class MixChange:
    """Change of one mix."""

    mix: str
    """Name of the mix."""
    kind: Literal["added", "changed", "removed"]
    """Kind of the change."""
    before: dict[str, float] = field(hash=False)
    """Weights before; empty for an added mix, and for natural proportions of sources without token counts."""
    after: dict[str, float] = field(hash=False)
    """Weights after; empty for a removed mix, and for natural proportions of sources without token counts."""
    sources: tuple[str, ...] = ()
    """Sources of the mix whose declaration changed."""


@dataclass(frozen=True, kw_only=True)
class SweepChange:
    """Effect of a configuration change on one sweep."""

    sweep: str
    """Name of the sweep."""
    new: bool
    """Whether the sweep did not exist before."""
    mixes: tuple[MixChange, ...]
    """Changes of the mixes of its arms and stages."""
    settings: tuple[str, ...]
    """Names of other sections that changed."""
    candidates: tuple[str, ...]
    """Candidates whose verdict may change."""


def sources_changed(before: Study, after: Study) -> dict[str, tuple[str, ...]]:
    """Describe the changed fields of each source that both studies declare."""
    changes = {
        name: tuple(_describe_changes(before.sources[name], after.sources[name]))
        for name in sorted(before.sources.keys() & after.sources.keys())
    }
    return {name: fields for name, fields in changes.items() if fields}


def mixes_changed(
    before: Study | None, after: Study, names: Iterable[str] | None = None, *, tokens: Mapping[str, int] | None = None
) -> tuple[MixChange, ...]:
    """Return the changes of mixes between two studies.

    Args:
        before: the study before the change; None if there was none.
        after: the study after the change.
        names: the mixes to compare (default: all mixes that either study declares).
        tokens: tokens of sources, if counted. Natural proportions need the tokens.
    """
    known, before_mixes = tokens or {}, before.mixes if before is not None else {}
    wanted = sorted({*before_mixes, *after.mixes}) if names is None else sorted(set(names))
    changed_sources = sources_changed(before, after) if before is not None else {}
    changes = []
    for name in wanted:
        old = _resolved(before, name, known) if before is not None and name in before_mixes else None
        new = _resolved(after, name, known) if name in after.mixes else None
        if old is None and new is None:
            continue  # the sweep names an undeclared mix, which the sweep's plan reports
        kind: Literal["added", "changed", "removed"] = (
            "added" if old is None else "removed" if new is None else "changed"
        )
        affected = tuple(source for source in new.weights if source in changed_sources) if new is not None else ()
        if kind != "changed" or affected or not _same(old, new):
            changes.append(
                MixChange(
                    mix=name,
                    kind=kind,
                    before=_known_weights(old, before, name, known),
                    after=_known_weights(new, after, name, known),
                    sources=affected if kind == "changed" else (),
                )
            )
    return tuple(changes)


def sweep_changed(before: Study | None, after: Study, *, tokens: Mapping[str, int] | None = None) -> SweepChange | None:
    """Return the effect of a change on a sweep; None if there is no effect.

    Args:
        before: the study of the sweep before the change; None if there was no such sweep.
        after: the study of the sweep after the change.
        tokens: as for `mixes_changed`.
    """
    sweep = after.require_sweep()
    staged = [stage.mix for stage in after.stages if stage.mix is not None]
    mixes = mixes_changed(before, after, [*sweep.mixes, *staged], tokens=tokens)
    settings = (
        () if before is None else tuple(name for name in SETTINGS if getattr(before, name) != getattr(after, name))
    )
    old = before.require_sweep() if before is not None else None
    if old is not None and (old.baseline, old.seeds) != (sweep.baseline, sweep.seeds):
        settings = ("sweep", *settings)
    changed = {change.mix for change in mixes}
    if old is not None:
        changed |= {name for name in sweep.mixes if name not in old.mixes or old.arm(name) != sweep.arm(name)}
    all_affected = bool(settings) or not changed.isdisjoint(staged)
    candidates = [
        name for name in sweep.candidates if all_affected or not changed.isdisjoint({name, sweep.control(name)})
    ]
    if not candidates:
        return None
    return SweepChange(
        sweep=sweep.name, new=before is None, mixes=mixes, settings=settings, candidates=tuple(candidates)
    )


def previous_declaration(before: Study, name: str, tokens: Mapping[str, int]) -> dict[str, Any] | None:
    """Return a mix's declaration before the change, as weights; None if weights are unknown.

    Natural proportions have unknown weights if token counts are missing.
    """
    mix = _resolved(before, name, tokens)
    if not _known_weights(mix, before, name, tokens):
        return None
    return {"weights": dict(mix.weights), **({} if mix.max_epochs is None else {"max_epochs": mix.max_epochs})}


def _resolved(study: Study, name: str, tokens: Mapping[str, int]) -> Mix:
    """Resolve a mix with placeholders for missing token counts.

    The placeholders ensure that every change of the declaration is detected.
    """
    counts = {source: tokens.get(source) or _placeholder(source) for source in study.sources}
    return resolve(name, study.mixes, study.sources, tokens=counts)


def _placeholder(source: str) -> int:
    return 10**6 + int.from_bytes(hashlib.sha256(source.encode()).digest()[:4], "big")


def _known_weights(mix: Mix | None, study: Study | None, name: str, tokens: Mapping[str, int]) -> dict[str, float]:
    if mix is None or study is None:
        return {}
    counted = set(counted_names(name, study.mixes, study.sources)) <= set(tokens)
    return dict(mix.weights) if counted else {}


def _same(old: Mix | None, new: Mix | None) -> bool:
    if old is None or new is None:
        return old is new
    close = all(
        abs(old.weights.get(name, 0.0) - new.weights.get(name, 0.0)) <= SAME for name in {*old.weights, *new.weights}
    )
    return close and old.weights.keys() == new.weights.keys() and old.max_epochs == new.max_epochs


def _describe_changes(old: Source, new: Source) -> Iterable[str]:
    for name in SOURCE_FIELDS:
        before, after = getattr(old, name), getattr(new, name)
        if before != after:
            yield f"{name.removeprefix('effective_')}: {_plain(before)} is now {_plain(after)}"


def _plain(value: Any) -> str:
    return ", ".join(map(str, value)) or "none" if isinstance(value, tuple) else str(value)
