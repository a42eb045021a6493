"""What a change of the configuration means: which mixes get other weights or sources, and which sweeps ask about them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from assay.mixes import resolve

if TYPE_CHECKING:
    from assay.mixes import Mix
    from assay.sources import Source
    from assay.study import Study

SETTINGS = ("proxy", "optim", "budget", "batch", "stages", "tokenizer", "suite", "policy")
"""Sections that decide a sweep's runs or its verdict."""
SOURCE_FIELDS = ("files", "format", "text_field", "domain", "tags", "licence", "effective_clearance")
"""What of a source decides runs, weights, or whether it may be used."""
SAME = 1e-12


@dataclass(frozen=True, kw_only=True)
class MixChange:
    """One mix, before and after."""

    mix: str
    kind: Literal["added", "changed", "removed"]
    before: dict[str, float] = field(hash=False)
    """Weights; empty where there was none, or they are in natural proportion to tokens that are not counted yet."""
    after: dict[str, float] = field(hash=False)
    sources: tuple[str, ...] = ()
    """Its sources that are declared otherwise now."""


@dataclass(frozen=True, kw_only=True)
class SweepChange:
    """One sweep that a change touches."""

    sweep: str
    new: bool
    mixes: tuple[MixChange, ...]
    """Its arms, and the mixes of its stages, that changed."""
    settings: tuple[str, ...]
    """Other sections that changed."""
    candidates: tuple[str, ...]
    """Whose verdict may be another now."""


def sources_changed(before: Study, after: Study) -> dict[str, tuple[str, ...]]:
    """What is declared otherwise of each source that was there and is there, in words."""
    found = {}
    for name in sorted(before.sources.keys() & after.sources.keys()):
        told = tuple(_told(before.sources[name], after.sources[name]))
        if told:
            found[name] = told
    return found


def mixes_changed(
    before: Study | None, after: Study, names: Iterable[str] | None = None, *, tokens: Mapping[str, int] | None = None
) -> tuple[MixChange, ...]:
    """The mixes that are others now.

    Args:
        before: the study then; None where there was none.
        after: the study now.
        names: which mixes; left out, all that were or are declared.
        tokens: of sources, where they are counted: mixes in natural proportion need them.
    """
    known, then = tokens or {}, before.mixes if before is not None else {}
    wanted = sorted({*then, *after.mixes}) if names is None else sorted(set(names))
    others = sources_changed(before, after) if before is not None else {}
    found = []
    for name in wanted:
        old = _resolved(before, name, known) if before is not None and name in then else None
        new = _resolved(after, name, known) if name in after.mixes else None
        if old is None and new is None:
            continue  # a name that the sweep has and nothing declares: its plan says so
        kind: Literal["added", "changed", "removed"] = (
            "added" if old is None else "removed" if new is None else "changed"
        )
        touched = tuple(source for source in new.weights if source in others) if new is not None else ()
        if kind != "changed" or touched or not _same(old, new):
            found.append(
                MixChange(
                    mix=name,
                    kind=kind,
                    before=_shown(old, before, name, known),
                    after=_shown(new, after, name, known),
                    sources=touched if kind == "changed" else (),
                )
            )
    return tuple(found)


def sweep_changed(before: Study | None, after: Study, *, tokens: Mapping[str, int] | None = None) -> SweepChange | None:
    """What a change means for a sweep; ``None`` where it means nothing.

    Args:
        before: the study of the sweep then; None where there was no such sweep.
        after: the study of the sweep now.
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
    everyone = bool(settings) or not changed.isdisjoint(staged)
    candidates = [name for name in sweep.candidates if everyone or not changed.isdisjoint({name, sweep.control(name)})]
    if not candidates:
        return None
    return SweepChange(
        sweep=sweep.name, new=before is None, mixes=mixes, settings=settings, candidates=tuple(candidates)
    )


def as_it_was(before: Study, name: str, tokens: Mapping[str, int]) -> dict[str, Any] | None:
    """A mix as it was, written out as a declaration; None where its weights need tokens that are not counted."""
    mix = _resolved(before, name, tokens)
    if not _shown(mix, before, name, tokens):
        return None
    return {"weights": dict(mix.weights), **({} if mix.max_epochs is None else {"max_epochs": mix.max_epochs})}


def _resolved(study: Study, name: str, tokens: Mapping[str, int]) -> Mix:
    """A mix; where tokens are not counted, with numbers that stand for them, so that any change of the rule shows."""
    standing = {source: tokens.get(source) or _stand_in(source) for source in study.sources}
    return resolve(name, study.mixes, study.sources, tokens=standing)


def _stand_in(source: str) -> int:
    return 10**6 + int.from_bytes(hashlib.sha256(source.encode()).digest()[:4], "big")


def _shown(mix: Mix | None, study: Study | None, name: str, tokens: Mapping[str, int]) -> dict[str, float]:
    if mix is None or study is None:
        return {}
    while (declaration := study.mixes[name]).base is not None:
        name = declaration.base
    counted = declaration.natural is None or set(mix.weights) <= set(tokens)
    return dict(mix.weights) if counted else {}


def _same(old: Mix | None, new: Mix | None) -> bool:
    if old is None or new is None:
        return old is new
    close = all(
        abs(old.weights.get(name, 0.0) - new.weights.get(name, 0.0)) <= SAME for name in {*old.weights, *new.weights}
    )
    return close and old.weights.keys() == new.weights.keys() and old.max_epochs == new.max_epochs


def _told(old: Source, new: Source) -> Iterable[str]:
    for name in SOURCE_FIELDS:
        was, now = getattr(old, name), getattr(new, name)
        if was != now:
            yield f"{name.removeprefix('effective_')}: {_plain(was)} is now {_plain(now)}"


def _plain(value: Any) -> str:
    return ", ".join(map(str, value)) or "none" if isinstance(value, tuple) else str(value)
