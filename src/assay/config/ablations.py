"""Expand typed ablations to the arms of a sweep and their controls.

An ablation expands to declarations that a user could write by hand: mixes with a base and edits, arms, and stages.
Plans, pages, the gate and jobs process these arms like all other arms.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, Protocol

from assay.config.arms import Arm
from assay.config.mixes import MixDeclaration, is_natural, names_of, resolve
from assay.config.recipe import Optimizer, Stage
from assay.config.sources import Source
from assay.core.errors import ConfigError, did_you_mean
from assay.core.serde import from_mapping


class AblationArm(NamedTuple):
    """An arm of an ablation.

    Attributes:
        arm: the arm. Its mix has the same name.
        base: the mix that the edits change.
        edits: the edits in their YAML form; empty for an unchanged mix.
    """

    arm: Arm
    base: str
    edits: tuple[dict[str, Any], ...] = ()


class Expansion(NamedTuple):
    """The arms, mixes and stages that an ablation expands to.

    Attributes:
        baseline: the control of all arms that name no control.
        candidates: the other arms, in order.
        arms: changes and description of each arm.
        mixes: the new mixes by name, in their YAML form.
        stages: the stages of every run of the sweep.
    """

    baseline: str
    candidates: tuple[str, ...]
    arms: tuple[Arm, ...]
    mixes: dict[str, dict[str, Any]]
    stages: tuple[Stage, ...]


@dataclass(frozen=True, kw_only=True)
class AblationSetting:
    """The sweep and the recipe that an ablation changes."""

    baseline: str
    """Mix that the ablation changes."""
    candidates: tuple[str, ...] = ()
    """Mixes that the sweep lists in addition to the ablation's mixes."""
    mixes: Mapping[str, MixDeclaration] = field(hash=False)
    """All declared mixes by name."""
    sources: Mapping[str, Source] = field(hash=False)
    """All declared sources by name."""
    stages: tuple[Stage, ...]
    """Stages of the study."""
    optimizer: Optimizer
    """Optimizer of the study."""

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the baseline's sources, which do not depend on token counts."""
        return names_of(self.baseline, self.mixes, self.sources)

    def require_declared(self, name: str, where: str) -> None:
        """Raise an error for a source that is not declared."""
        if name not in self.sources:
            raise ConfigError(f"{where}: no source is called {name!r}. {did_you_mean(name, self.sources)}")

    def require_used(self, name: str, where: str) -> None:
        """Raise an error for a source that the baseline does not use."""
        self.require_declared(name, where)
        if name not in self.names:
            raise ConfigError(
                f"{where}: source {name!r} is not in the baseline {self.baseline}, which has {', '.join(self.names)}.",
                fix="Name a source of the baseline, or another baseline.",
            )


class Ablation(Protocol):
    """One kind of ablation."""

    def make_arms(self, setting: AblationSetting) -> tuple[AblationArm, ...]:
        """Make the arms. The first arm is the control of all arms."""

    def stages(self, setting: AblationSetting) -> tuple[Stage, ...]:
        """Return the stages of every run."""


class _SameStages:
    """An ablation that does not change the stages."""

    def stages(self, setting: AblationSetting) -> tuple[Stage, ...]:
        return setting.stages


@dataclass(frozen=True, kw_only=True)
class SubstituteAblation(_SameStages):
    """Replacement of `source` by another source at the same weight; one arm per replacement."""

    source: str
    """Source of the baseline to replace."""
    by: tuple[str, ...]
    """Sources that take the weight of `source`, one per arm."""

    def make_arms(self, setting: AblationSetting) -> tuple[AblationArm, ...]:
        """Make one arm per source in `by`."""
        where, base = "ablation substitute", setting.baseline
        setting.require_used(self.source, where)
        for name in _distinct(self.by, f"{where}: `by`"):
            setting.require_declared(name, where)
            if name == self.source:
                raise ConfigError(
                    f"{where}: `by` {name!r} is invalid; expected sources other than {self.source!r}.",
                    fix=f"Remove {name!r} from `by`.",
                )
        return (
            _unchanged(base, f"the control, with {self.source}"),
            *(
                _edited(
                    f"{base}-{self.source}+{name}",
                    f"{self.source} replaced by {name} at the same weight; the control is {base}",
                    base,
                    {"replace": {"source": self.source, "by": name}},
                )
                for name in self.by
            ),
        )


@dataclass(frozen=True, kw_only=True)
class LeaveOneOutAblation(_SameStages):
    """Removal of one source per arm; the remaining sources keep their proportions."""

    sources: tuple[str, ...] | None = None
    """Sources to drop, one per arm. Null drops each source of the baseline in turn."""

    def make_arms(self, setting: AblationSetting) -> tuple[AblationArm, ...]:
        """Make one arm per dropped source."""
        where, base, names = "ablation leave_one_out", setting.baseline, setting.names
        if len(names) < 2:
            raise ConfigError(
                f"{where}: the baseline {base} has one source; expected at least two.",
                fix="Name a baseline with at least two sources.",
            )
        dropped = names if self.sources is None else _distinct(self.sources, f"{where}: `sources`")
        for name in dropped:
            setting.require_used(name, where)
        return (
            _unchanged(base, "the control, with all sources"),
            *(
                _edited(
                    f"{base}-{name}",
                    f"without {name}, the others in the same proportions; the control is {base}",
                    base,
                    {"drop": name},
                )
                for name in dropped
            ),
        )


@dataclass(frozen=True, kw_only=True)
class TierAblation(_SameStages):
    """Restriction of a source to one quality tier at the same weight.

    Each tier is declared as a source.
    """

    source: str
    """Source of the baseline to replace."""
    tiers: tuple[str, ...]
    """Tiers of `source`, one per arm. Each tier is a source of the same domain and receives the weight of `source`."""

    def make_arms(self, setting: AblationSetting) -> tuple[AblationArm, ...]:
        """Make one arm per tier."""
        where, base = "ablation tier", setting.baseline
        setting.require_used(self.source, where)
        domain = setting.sources[self.source].domain
        for name in _distinct(self.tiers, f"{where}: `tiers`"):
            setting.require_declared(name, where)
            if name in setting.names:
                raise ConfigError(
                    f"{where}: tier {name!r} is invalid; expected a source that the baseline {base} does not use.",
                    fix=f"Name a source that holds a part of {self.source}.",
                )
            if setting.sources[name].domain != domain:
                raise ConfigError(
                    f"{where}: tier {name!r} has domain {setting.sources[name].domain!r}; expected {domain!r}, the domain"
                    f" of {self.source}.",
                    fix="Use `kind: substitute` to replace a source by another kind of text.",
                )
        return (
            _unchanged(base, f"the control, with all tiers of {self.source}"),
            *(
                _edited(
                    f"{base}.{self.source}@{name}",
                    f"only the tier {name} of {self.source}, at the same weight; the control is {base}",
                    base,
                    {"replace": {"source": self.source, "by": name}},
                )
                for name in self.tiers
            ),
        )


@dataclass(frozen=True, kw_only=True)
class ScaleAblation(_SameStages):
    """Multiplication of the weight of a source; the other sources divide the remaining weight."""

    source: str
    """Source whose weight changes."""
    factors: tuple[float, ...]
    """Factors of the source's weight, one per arm. A factor is at least 0 and not 1."""

    def make_arms(self, setting: AblationSetting) -> tuple[AblationArm, ...]:
        """Make one arm per factor."""
        where, base = "ablation scale", setting.baseline
        setting.require_used(self.source, where)
        if len(setting.names) < 2:
            raise ConfigError(
                f"{where}: the baseline {base} has one source; expected at least two.",
                fix="Name a baseline with at least two sources.",
            )
        for factor in _distinct(self.factors, f"{where}: `factors`"):
            if not (math.isfinite(factor) and factor >= 0) or factor == 1:
                raise ConfigError(
                    f"{where}: factor {factor:g} is invalid; expected a finite number of at least 0 other than 1.",
                    fix="Remove factor 1, which is the control." if factor == 1 else "Correct the factor.",
                )
        return (
            _unchanged(base, f"the control, with {self.source} at its declared weight"),
            *(
                _edited(
                    f"{base}.{self.source}@x{factor:g}",
                    f"{self.source} at {factor:g} times its weight, the others divide the rest; the control is {base}",
                    base,
                    {"multiply": {self.source: factor}},
                )
                for factor in self.factors
            ),
        )


@dataclass(frozen=True, kw_only=True)
class EpochsAblation(_SameStages):
    """Repetition of a source.

    Every arm trains on the same number of tokens of the source, taken from pools of different sizes.
    """

    source: str
    """Source that is repeated."""
    epochs: tuple[float, ...]
    """Numbers of epochs over the pool, one per arm. At least two numbers are required."""
    weight_decay: tuple[float, ...] | None = None
    """Values of weight decay to combine with each value of `epochs`. Each weight decay has its
    own control. The first control is the baseline."""
    dropout: tuple[float, ...] | None = None
    """Values of dropout to combine with each value of `epochs` and `weight_decay`. Each combination of dropout and
    weight decay has its own control."""

    def make_arms(self, setting: AblationSetting) -> tuple[AblationArm, ...]:
        """Make one arm per regularization and number of epochs.

        The arm with the fewest epochs is the control of its regularization.
        """
        where = "ablation epochs"
        setting.require_used(self.source, where)
        counts = sorted(_distinct(self.epochs, f"{where}: `epochs`"))
        if len(counts) < 2:
            raise ConfigError(
                f"{where}: `epochs` {list(self.epochs)} is invalid; expected at least two values.",
                fix="Add another number of epochs.",
            )
        decays: Sequence[float | None] = [None]
        if self.weight_decay is not None:
            decays = _distinct(self.weight_decay, f"{where}: `weight_decay`")
        dropouts: Sequence[float | None] = [None]
        if self.dropout is not None:
            dropouts = _distinct(self.dropout, f"{where}: `dropout`")
        crossed = itertools.product(decays, dropouts)
        first, *others = [self._row(setting.baseline, counts, decay, dropout) for decay, dropout in crossed]
        top = first[0].arm.name
        for row in others:
            control = row[0].arm
            about = f"{control.about}; the control of this arm is {top}"
            row[0] = AblationArm(replace(control, control=top, about=about), row[0].base)
        return (*first, *(arm for row in others for arm in row))

    def _row(self, base: str, counts: Sequence[float], decay: float | None, dropout: float | None) -> list[AblationArm]:
        """Make the arms of one weight decay and one dropout, with their control first."""
        values = [("weight decay", "wd", decay), ("dropout", "do", dropout)]
        given = [(name, short, value) for name, short, value in values if value is not None]
        ending = "".join(f",{short}{value:g}" for _, short, value in given)
        regular = "".join(f", {name} {value:g}" for name, _, value in given)
        crossed = " and ".join(name for name, _, _ in given)
        names = [f"{base}.{self.source}@{_epochs(count)}{ending}" for count in counts]
        arms = []
        for count, name in zip(counts, names, strict=True):
            seen = f"{self.source} for {count:g} epoch{'' if count == 1 else 's'}{regular}"
            about = (
                f"the control for this {crossed}: {seen}"
                if name == names[0] and crossed
                else f"the control: {seen}"
                if name == names[0]
                else f"{seen}: the same number of tokens from a smaller pool; the control is {names[0]}"
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
            arms.append(AblationArm(arm, base))
        return arms


@dataclass(frozen=True, kw_only=True)
class AnnealAblation:
    """Annealing on a source in the last stage.

    Annealing is a linear decay of the learning rate to 0. The control anneals on the baseline.
    """

    sources: tuple[str, ...]
    """Sources to anneal on, one per arm."""
    weight: float
    """Weight of the source in the annealing stage. The sources of the baseline have the remaining weight."""
    fraction: float | None = None
    """Fraction of the run's tokens in the annealing stage. Null selects the last stage of the study, which must anneal."""

    def make_arms(self, setting: AblationSetting) -> tuple[AblationArm, ...]:
        """Make one arm per source."""
        where, base = "ablation anneal", setting.baseline
        if not 0 < self.weight <= 1:
            raise ConfigError(
                f"{where}: `weight` {self.weight:g} is invalid; expected a number above 0 and at most 1.",
                fix="Set `weight` to a number above 0 and at most 1.",
            )
        for name in _distinct(self.sources, f"{where}: `sources`"):
            setting.require_declared(name, where)
        control = f"{base}@anneal"
        return (
            _edited(control, "the control, annealed on the baseline", base),
            *(
                _edited(
                    f"{control}+{name}",
                    f"annealed with {name} at a weight of {self.weight:g}; the control is {control}, annealed on the baseline",
                    base,
                    {"set": {name: self.weight}},
                    control=control,
                )
                for name in self.sources
            ),
        )

    def stages(self, setting: AblationSetting) -> tuple[Stage, ...]:
        """Return stages on the baseline, and a last stage that anneals on the tested mix."""
        where, stages = "ablation anneal", setting.stages
        anneals = stages[-1].anneal
        if self.fraction is None and not anneals:
            raise ConfigError(
                f"{where}: no stage anneals; expected `fraction` or a last stage with `anneal: true`.",
                fix="Set `fraction` to the fraction of the run's tokens that anneals.",
            )
        if self.fraction is not None:
            if anneals:
                raise ConfigError(
                    f"{where}: `fraction` {self.fraction:g} is invalid; the stage {stages[-1].name!r} already anneals.",
                    fix="Remove `fraction`, or the stage with `anneal: true`.",
                )
            if not 0 < self.fraction < 1:
                raise ConfigError(
                    f"{where}: `fraction` {self.fraction:g} is invalid; expected a number above 0 and below 1.",
                    fix="Set `fraction` to a number above 0 and below 1.",
                )
            before = tuple(replace(stage, fraction=stage.fraction * (1 - self.fraction)) for stage in stages)
            stages = (*before, Stage(name="anneal", fraction=self.fraction, anneal=True))
        _check_rate(setting.optimizer, where)
        earlier = (replace(stage, mix=stage.mix or setting.baseline) for stage in stages[:-1])
        return (*earlier, replace(stages[-1], mix=None))


@dataclass(frozen=True, kw_only=True)
class MatchedRepetitionAblation(_SameStages):
    """Pools that are repeated as often as a target run of `target_tokens` repeats the whole sources.

    If the sweep has candidates, the baseline and the candidates train on such pools. Otherwise the baseline on such pools is
    compared with the baseline on whole sources.
    """

    target_tokens: int
    """Tokens of the target run. The pools reproduce the repetition of sources in the target run."""

    def make_arms(self, setting: AblationSetting) -> tuple[AblationArm, ...]:
        """Make the baseline and the candidates with their pools."""
        base, like = setting.baseline, f"as often as a run of {_amount(self.target_tokens)} tokens would"
        if not setting.candidates:
            control = _unchanged(base, "the control, with whole sources")
            return (control, self._matched(base, f"every source repeated {like}; the control is {base}"))
        control = self._matched(base, f"the control: every source repeated {like}")
        about = f"every source repeated {like}; the control is {control.arm.name}, with the same repetition"
        return (control, *(self._matched(name, about) for name in setting.candidates))

    def _matched(self, mix: str, about: str) -> AblationArm:
        name = f"{mix}@{_amount(self.target_tokens)}tokens"
        return AblationArm(Arm(name=name, about=about, target_tokens=self.target_tokens), mix)


KINDS: dict[str, type[Any]] = {
    "substitute": SubstituteAblation,
    "leave_one_out": LeaveOneOutAblation,
    "tier": TierAblation,
    "scale": ScaleAblation,
    "epochs": EpochsAblation,
    "anneal": AnnealAblation,
    "matched_repetition": MatchedRepetitionAblation,
}


def parse_ablation(raw: Any) -> Ablation:
    """Parse an ablation from its YAML form, a mapping with a `kind`."""
    if not isinstance(raw, Mapping) or "kind" not in raw:
        raise ConfigError(f"ablation: {raw!r} has no kind.", fix=f"Set `kind` to one of {', '.join(KINDS)}.")
    body = dict(raw)
    kind = str(body.pop("kind"))
    if kind not in KINDS:
        raise ConfigError(f"ablation: no kind is called {kind!r}. {did_you_mean(kind, KINDS)}")
    ablation: Ablation = from_mapping(KINDS[kind], body, where=f"ablation {kind}")
    return ablation


def expand(ablation: Ablation, setting: AblationSetting) -> Expansion:
    """Expand an ablation to declarations of arms, mixes and stages.

    Raises:
        ConfigError: a source is unknown or not in the baseline, a weight would exceed 1, no stage anneals, or a declared mix
            has the name of a new mix.
    """
    if setting.baseline not in setting.mixes:
        hint = did_you_mean(setting.baseline, setting.mixes)
        raise ConfigError(f"ablation: baseline: no mix is called {setting.baseline!r}. {hint}")
    if setting.candidates and not isinstance(ablation, MatchedRepetitionAblation):
        raise ConfigError(
            f"ablation: `candidates` {list(setting.candidates)} is invalid; the ablation defines the candidates.",
            fix="Remove `candidates`, or write a sweep for each list.",
        )
    ablation_arms = ablation.make_arms(setting)
    new: dict[str, dict[str, Any]] = {}
    for arm, base, edits in ablation_arms:
        if arm.name == base:
            continue
        if arm.name in setting.mixes or arm.name in new:
            raise ConfigError(
                f"ablation: the mix {arm.name!r} of an arm is already declared.", fix="Rename the declared mix."
            )
        new[arm.name] = {"base": base, "edits": [dict(edit) for edit in edits], "description": f"{arm.about}."}
    declared = {**setting.mixes, **{name: MixDeclaration.parse(name, raw) for name, raw in new.items()}}
    for name in new:
        if not is_natural(name, declared):  # natural proportions are checked after the tokens are counted
            resolve(name, declared, setting.sources)
    first, *others = [item.arm for item in ablation_arms]
    return Expansion(
        baseline=first.name,
        candidates=tuple(arm.name for arm in others),
        arms=(first, *others),
        mixes=new,
        stages=ablation.stages(setting),
    )


def _unchanged(base: str, about: str) -> AblationArm:
    return AblationArm(Arm(name=base, about=about), base)


def _edited(name: str, about: str, base: str, *edits: dict[str, Any], control: str | None = None) -> AblationArm:
    return AblationArm(Arm(name=name, about=about, control=control), base, edits)


def _distinct(values: Sequence[Any], where: str) -> Sequence[Any]:
    """Return the values; raise an error for an empty list and for duplicates."""
    if not values or len(set(values)) < len(values):
        raise ConfigError(
            f"{where} {list(values)} is invalid; expected at least one value, without duplicates.",
            fix="Add a value, or remove the duplicates.",
        )
    return values


def _check_rate(optimizer: Optimizer, where: str) -> None:
    """Raise an error for a schedule that has decayed before the annealing stage.

    Such a stage would train at a learning rate near 0.
    """
    last = optimizer.lr(999, 1000)
    if last < 0.01 * optimizer.peak_lr:
        raise ConfigError(
            f"{where}: the schedule {optimizer.schedule!r} of optimizer {optimizer.name!r} is invalid: its learning rate is "
            f"{last / optimizer.peak_lr:.2g} of the peak when annealing starts; expected at least 0.01 of the peak.",
            fix="Set optim.schedule=constant. The annealing stage itself lowers the learning rate.",
        )


def _epochs(count: float) -> str:
    return f"{count:g}epoch{'' if count == 1 else 's'}"


def _amount(tokens: int) -> str:
    """Format a number of tokens for a name: `1.5B`."""
    for size, unit in ((10**12, "T"), (10**9, "B"), (10**6, "M"), (10**3, "k")):
        if tokens >= size:
            return f"{tokens / size:.12g}{unit}"
    return str(tokens)
