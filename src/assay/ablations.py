"""Typed ablations: a sweep says what it takes apart, and its arms and their controls are made for it.

What comes out is what a person could have written: mixes by base and edits, arms, and stages. From there on nothing knows that
an ablation was meant: plans, pages and the gate see arms like any other, and jobs see these.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, Protocol

from assay.arms import Arm
from assay.errors import AssayError, did_you_mean
from assay.mixes import MixDeclaration, is_natural, names_of, resolve
from assay.recipe import Optimiser, Stage
from assay.sources import Source
from assay.structure import from_mapping


class Made(NamedTuple):
    """An arm of an ablation.

    Attributes:
        arm: the arm; its mix bears its name.
        base: the mix that it changes.
        edits: how, as they are written.
    """

    arm: Arm
    base: str
    edits: tuple[dict[str, Any], ...] = ()


class Expansion(NamedTuple):
    """What an ablation comes to.

    Attributes:
        baseline: the arm that the others are compared with, unless they name another.
        candidates: the other arms, in order.
        arms: what the arms change beside their mix, and what is said of them.
        mixes: the mixes that were made, by name, as they are written.
        stages: of every run of the sweep.
    """

    baseline: str
    candidates: tuple[str, ...]
    arms: tuple[Arm, ...]
    mixes: dict[str, dict[str, Any]]
    stages: tuple[Stage, ...]


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What an ablation is made in."""

    baseline: str
    candidates: tuple[str, ...] = ()
    """Mixes that the sweep lists by hand."""
    mixes: Mapping[str, MixDeclaration] = field(hash=False)
    sources: Mapping[str, Source] = field(hash=False)
    stages: tuple[Stage, ...]
    optimiser: Optimiser

    @property
    def names(self) -> tuple[str, ...]:
        """The baseline's sources, which are known before its weights are."""
        return names_of(self.baseline, self.mixes, self.sources)

    def known(self, name: str, where: str) -> str:
        """A source's name, if it is one."""
        if name not in self.sources:
            raise AssayError(f"{where}: no source is called {name!r}. {did_you_mean(name, self.sources)}")
        return name

    def used(self, name: str, where: str) -> str:
        """A source's name, if the baseline uses it."""
        if self.known(name, where) not in self.names:
            raise AssayError(
                f"{where}: the baseline {self.baseline} has no {name!r}; it has {', '.join(self.names)}.",
                fix="Name one of these, or another baseline.",
            )
        return name


class Ablation(Protocol):
    """One kind of ablation."""

    def made(self, setting: Setting) -> tuple[Made, ...]:
        """The arms, the control of them all first; the declared baseline stands for itself by having no edits."""

    def stages(self, setting: Setting) -> tuple[Stage, ...]:
        """The stages of every run."""


class _SameStages:
    """An ablation that leaves the stages as they are."""

    def stages(self, setting: Setting) -> tuple[Stage, ...]:
        return setting.stages


@dataclass(frozen=True, kw_only=True)
class Substitute(_SameStages):
    """One source's weight goes to another: is B as good as A?"""

    source: str
    by: tuple[str, ...]

    def made(self, setting: Setting) -> tuple[Made, ...]:
        """One arm for each source that takes its place."""
        where, base = "ablation substitute", setting.baseline
        setting.used(self.source, where)
        for name in _listed(self.by, f"{where}: by"):
            if setting.known(name, where) == self.source:
                raise AssayError(f"{where}: {name} would take its own place.", fix="Name other sources in `by`.")
        return (
            _as_declared(base, f"the control, with its own {self.source}"),
            *(
                _edited(
                    f"{base}-{self.source}+{name}",
                    f"{name} in the place of {self.source}, at its weight; the control is {base}",
                    base,
                    {"replace": {"source": self.source, "by": name}},
                )
                for name in self.by
            ),
        )


@dataclass(frozen=True, kw_only=True)
class LeaveOneOut(_SameStages):
    """Each source, or each of those named, is dropped and the rest renormalised: what is it worth?"""

    sources: tuple[str, ...] | None = None

    def made(self, setting: Setting) -> tuple[Made, ...]:
        """One arm for each source that is left out."""
        where, base, names = "ablation leave_one_out", setting.baseline, setting.names
        if len(names) < 2:
            raise AssayError(f"{where}: the baseline {base} has one source only; nothing would be left.")
        gone = names if self.sources is None else _listed(self.sources, f"{where}: sources")
        for name in gone:
            setting.used(name, where)
        return (
            _as_declared(base, "the control, with all of its sources"),
            *(
                _edited(
                    f"{base}-{name}",
                    f"without {name}, the others in their proportions; the control is {base}",
                    base,
                    {"drop": name},
                )
                for name in gone
            ),
        )


@dataclass(frozen=True, kw_only=True)
class Tier(_SameStages):
    """Of a source only a tier of its quality: are the best documents enough? Tiers are sources of their own."""

    source: str
    tiers: tuple[str, ...]

    def made(self, setting: Setting) -> tuple[Made, ...]:
        """One arm for each tier."""
        where, base = "ablation tier", setting.baseline
        domain = setting.sources[setting.used(self.source, where)].domain
        for name in _listed(self.tiers, f"{where}: tiers"):
            if setting.known(name, where) in setting.names:
                raise AssayError(
                    f"{where}: {name} is in the baseline {base} itself.", fix="A tier is a part of the source it is of."
                )
            if setting.sources[name].domain != domain:
                raise AssayError(
                    f"{where}: {name} is of the domain {setting.sources[name].domain!r}, and {self.source} of {domain!r}.",
                    fix="To put another kind of text in its place, use `kind: substitute`.",
                )
        return (
            _as_declared(base, f"the control, with all tiers of {self.source}"),
            *(
                _edited(
                    f"{base}.{self.source}@{name}",
                    f"of {self.source} only the tier {name}, at the same weight; the control is {base}",
                    base,
                    {"replace": {"source": self.source, "by": name}},
                )
                for name in self.tiers
            ),
        )


@dataclass(frozen=True, kw_only=True)
class Scale(_SameStages):
    """A source's weight is multiplied, and the others share the rest: how much of it is right?"""

    source: str
    factors: tuple[float, ...]

    def made(self, setting: Setting) -> tuple[Made, ...]:
        """One arm for each factor."""
        where, base = "ablation scale", setting.baseline
        setting.used(self.source, where)
        if len(setting.names) < 2:
            raise AssayError(f"{where}: {self.source} is all of the baseline {base}; its weight cannot change.")
        for factor in _listed(self.factors, f"{where}: factors"):
            if not (math.isfinite(factor) and factor >= 0) or factor == 1:
                raise AssayError(
                    f"{where}: a factor is {factor:g}.", fix="Factors are at least 0, and 1 is the control already."
                )
        return (
            _as_declared(base, f"the control, with {self.source} at its own weight"),
            *(
                _edited(
                    f"{base}.{self.source}@x{factor:g}",
                    f"{self.source} at {factor:g} times its weight, the others share the rest; the control is {base}",
                    base,
                    {"multiply": {self.source: factor}},
                )
                for factor in self.factors
            ),
        )


@dataclass(frozen=True, kw_only=True)
class Epochs(_SameStages):
    """A source is seen 1, 2, 4 times, its tokens always as many, from pools so much smaller; crossed with regularisation."""

    source: str
    epochs: tuple[float, ...]
    weight_decay: tuple[float, ...] | None = None
    """Each value has a control of its own; the first value's is the sweep's baseline."""
    dropout: tuple[float, ...] | None = None
    """The same; each is crossed with each weight decay."""

    def made(self, setting: Setting) -> tuple[Made, ...]:
        """For each regularisation an arm for each count of epochs; the smallest count is the control of its own."""
        where = "ablation epochs"
        setting.used(self.source, where)
        counts = sorted(_listed(self.epochs, f"{where}: epochs"))
        if len(counts) < 2:
            raise AssayError(f"{where}: epochs {list(self.epochs)} has nothing to compare.", fix="Give at least two.")
        decays: Sequence[float | None] = [None]
        if self.weight_decay is not None:
            decays = _listed(self.weight_decay, f"{where}: weight_decay")
        dropouts: Sequence[float | None] = [None]
        if self.dropout is not None:
            dropouts = _listed(self.dropout, f"{where}: dropout")
        crossed = itertools.product(decays, dropouts)
        first, *others = [self._row(setting.baseline, counts, decay, dropout) for decay, dropout in crossed]
        top = first[0].arm.name
        with_top = [
            (
                Made(replace(row[0].arm, control=top, about=f"{row[0].arm.about}; its own is {top}"), row[0].base),
                *row[1:],
            )
            for row in others
        ]
        return (*first, *(made for row in with_top for made in row))

    def _row(self, base: str, counts: Sequence[float], decay: float | None, dropout: float | None) -> tuple[Made, ...]:
        """The arms of one weight decay and one dropout, their control first."""
        values = [("weight decay", "wd", decay), ("dropout", "do", dropout)]
        given = [(name, short, value) for name, short, value in values if value is not None]
        ending = "".join(f",{short}{value:g}" for _, short, value in given)
        regular = "".join(f", {name} {value:g}" for name, _, value in given)
        crossed = " and ".join(name for name, _, _ in given)
        names = [f"{base}.{self.source}@{_epochs(count)}{ending}" for count in counts]
        found = []
        for count, name in zip(counts, names, strict=True):
            seen = f"{self.source} seen {count:g} time{'' if count == 1 else 's'}{regular}"
            about = (
                f"the control of its {crossed}: {seen}"
                if name == names[0] and crossed
                else f"the control: {seen}"
                if name == names[0]
                else f"{seen}: as many tokens of it, from a smaller pool; the control is {names[0]}"
            )
            control = None if name == names[0] else names[0]
            arm = Arm(
                name=name,
                about=about,
                control=control,
                weight_decay=decay,
                dropout=dropout or 0.0,
                epochs={self.source: count},
            )
            found.append(Made(arm, base))
        return tuple(found)


@dataclass(frozen=True, kw_only=True)
class Anneal:
    """The last stage anneals on a source, against annealing on the base: what does it add to a trained model?"""

    sources: tuple[str, ...]
    weight: float
    """Of the source in the stage that anneals; the base shares the rest."""
    share: float | None = None
    """Of the run's tokens that anneal; left out, the study's stages have to end with one that does."""

    def made(self, setting: Setting) -> tuple[Made, ...]:
        """One arm for each source."""
        where, base = "ablation anneal", setting.baseline
        if not 0 < self.weight <= 1:
            raise AssayError(f"{where}: weight is {self.weight:g}.", fix="It is above 0 and at most 1.")
        for name in _listed(self.sources, f"{where}: sources"):
            setting.known(name, where)
        control = f"{base}@anneal"
        return (
            _edited(control, "the control: annealed on the base itself", base),
            *(
                _edited(
                    f"{control}+{name}",
                    f"annealed with {name} at a weight of {self.weight:g}; the control is {control}, annealed on the base",
                    base,
                    {"set": {name: self.weight}},
                    control=control,
                )
                for name in self.sources
            ),
        )

    def stages(self, setting: Setting) -> tuple[Stage, ...]:
        """All train on the base until the last, which anneals on what is under test."""
        where, stages = "ablation anneal", setting.stages
        anneals = stages[-1].anneal
        if self.share is None and not anneals:
            raise AssayError(
                f"{where}: no stage anneals.",
                fix="Give `share`, the part of the run's tokens that does, and it is made.",
            )
        if self.share is not None:
            if anneals:
                raise AssayError(
                    f"{where}: `share` is given, and the stage {stages[-1].name!r} anneals already.",
                    fix="Leave one of them out.",
                )
            if not 0 < self.share < 1:
                raise AssayError(f"{where}: share is {self.share:g}.", fix="It is above 0 and below 1.")
            before = tuple(replace(stage, share=stage.share * (1 - self.share)) for stage in stages)
            stages = (*before, Stage(name="anneal", share=self.share, anneal=True))
        _check_rate(setting.optimiser, where)
        return (*(replace(s, mix=s.mix or setting.baseline) for s in stages[:-1]), replace(stages[-1], mix=None))


@dataclass(frozen=True, kw_only=True)
class MatchedRepetition(_SameStages):
    """Every source's pool is so small that the proxy repeats it as often as the target's run would.

    A sweep that lists candidates gets them so, and its baseline too: they are compared as the target would see
    them. One that lists none compares its baseline so with its baseline as it is: what does the repetition cost?
    """

    target_tokens: int

    def made(self, setting: Setting) -> tuple[Made, ...]:
        """The baseline and the candidates, on their pools."""
        base, like = setting.baseline, f"as often as a run of {_amount(self.target_tokens)} tokens would"
        if not setting.candidates:
            control = _as_declared(base, "the control, on whole sources")
            return (control, self._matched(base, f"every source repeated {like}; the control is {base}"))
        control = self._matched(base, f"the control: every source repeated {like}")
        about = f"every source repeated {like}; the control is {control.arm.name}, repeated so too"
        return (control, *(self._matched(name, about) for name in setting.candidates))

    def _matched(self, mix: str, about: str) -> Made:
        name = f"{mix}@{_amount(self.target_tokens)}tokens"
        return Made(Arm(name=name, about=about, target_tokens=self.target_tokens), mix)


KINDS: dict[str, type[Any]] = {
    "substitute": Substitute,
    "leave_one_out": LeaveOneOut,
    "tier": Tier,
    "scale": Scale,
    "epochs": Epochs,
    "anneal": Anneal,
    "matched_repetition": MatchedRepetition,
}


def parse_ablation(raw: Any) -> Ablation:
    """An ablation out of its YAML form: a mapping with its `kind`."""
    if not isinstance(raw, Mapping) or "kind" not in raw:
        raise AssayError(f"ablation: {raw!r} has no kind.", fix=f"Give `kind`, one of {', '.join(KINDS)}.")
    body = dict(raw)
    kind = str(body.pop("kind"))
    if kind not in KINDS:
        raise AssayError(f"ablation: no kind is called {kind!r}. {did_you_mean(kind, KINDS)}")
    found: Ablation = from_mapping(KINDS[kind], body, where=f"ablation {kind}")
    return found


def expand(ablation: Ablation, setting: Setting) -> Expansion:
    """The arms of an ablation, as a person could have written them.

    Raises:
        AssayError: it cannot be made: a source is unknown or not in the baseline, a weight would be above 1, no
            stage anneals; or a mix has a name that it would make.
    """
    if setting.baseline not in setting.mixes:
        hint = did_you_mean(setting.baseline, setting.mixes)
        raise AssayError(f"ablation: no mix is called {setting.baseline!r}, its baseline. {hint}")
    if setting.candidates and not isinstance(ablation, MatchedRepetition):
        raise AssayError(
            f"ablation: candidates {list(setting.candidates)} are listed, and it makes its own.",
            fix="Leave `candidates` out, or make a sweep of each.",
        )
    made = ablation.made(setting)
    new: dict[str, dict[str, Any]] = {}
    for arm, base, edits in made:
        if arm.name == base:
            continue
        if arm.name in setting.mixes or arm.name in new:
            raise AssayError(f"ablation: it would make {arm.name}, which is there already.")
        new[arm.name] = {"base": base, "edits": [dict(edit) for edit in edits], "description": f"{arm.about}."}
    everything = {**setting.mixes, **{name: MixDeclaration.parse(name, raw) for name, raw in new.items()}}
    for name in new:
        if not is_natural(name, everything):  # those in natural proportion are checked once their sources are counted
            resolve(name, everything, setting.sources)
    first, *others = [one.arm for one in made]
    return Expansion(
        baseline=first.name,
        candidates=tuple(arm.name for arm in others),
        arms=(first, *others),
        mixes=new,
        stages=ablation.stages(setting),
    )


def _as_declared(base: str, about: str) -> Made:
    return Made(Arm(name=base, about=about), base)


def _edited(name: str, about: str, base: str, *edits: dict[str, Any], control: str | None = None) -> Made:
    return Made(Arm(name=name, about=about, control=control), base, edits)


def _listed(values: Sequence[Any], where: str) -> Sequence[Any]:
    """Values of which there is at least one, and none twice."""
    if not values:
        raise AssayError(f"{where} is empty.", fix="Give at least one.")
    if len(set(values)) < len(values):
        raise AssayError(f"{where}: {list(values)} name one twice.")
    return values


def _check_rate(optimiser: Optimiser, where: str) -> None:
    """Refuse a schedule that leaves nothing to anneal from: the stage would train at a learning rate of 0."""
    last = optimiser.lr(999, 1000)
    if last < 0.01 * optimiser.peak_lr:
        raise AssayError(
            f"{where}: the schedule {optimiser.schedule!r} of optimiser {optimiser.name!r} has fallen to "
            f"{last / optimiser.peak_lr:.2g} of its peak when annealing begins: nothing is left to anneal from.",
            fix="Set optim.schedule=constant: the stage that anneals brings the rate down.",
        )


def _epochs(count: float) -> str:
    return f"{count:g}epoch{'' if count == 1 else 's'}"


def _amount(tokens: int) -> str:
    """Tokens as a part of a name: `1.5B`."""
    for size, unit in ((10**12, "T"), (10**9, "B"), (10**6, "M"), (10**3, "k")):
        if tokens >= size:
            return f"{tokens / size:.12g}{unit}"
    return str(tokens)
