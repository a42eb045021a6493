"""Mixes: weights over sources that sum to 1 by token, and the edits that turn one mix into another."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from assay.errors import AssayError, did_you_mean
from assay.sources import Source, check_name
from assay.structure import from_mapping

Weights = dict[str, float]


def normalise(weights: Mapping[str, float], *, mix: str) -> Weights:
    """Weights scaled to a sum of 1, sources of weight 0 left out, in order of name.

    Raises:
        AssayError: a weight is negative, NaN or infinite, or all are 0.
    """
    for source, weight in weights.items():
        if not math.isfinite(weight) or weight < 0:
            raise AssayError(
                f"mix {mix!r}: the weight of {source!r} is {weight}.",
                fix="A weight is a finite number of at least 0.",
            )
    total = math.fsum(weights.values())
    if total <= 0:
        raise AssayError(f"mix {mix!r}: the weights sum to 0.", fix="Give at least one source a weight above 0.")
    return {source: weights[source] / total for source in sorted(weights) if weights[source] > 0}


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Sources chosen by name, domain or tag; those that match any of the three."""

    source: tuple[str, ...] = ()
    domain: tuple[str, ...] = ()
    tag: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not (self.source or self.domain or self.tag):
            raise AssayError("an empty selection.", fix="Name at least one source, domain or tag.")

    def matches(self, source: Source) -> bool:
        """Whether the source is chosen."""
        return source.name in self.source or source.domain in self.domain or not set(self.tag).isdisjoint(source.tags)

    def __str__(self) -> str:
        parts = [f"{kind} {' or '.join(names)}" for kind, names in vars(self).items() if names]
        return ", ".join(parts)


@dataclass(frozen=True, kw_only=True)
class Replace:
    """`by` takes the place of a share of `source`'s weight; nothing else changes."""

    source: str
    by: str
    share: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise AssayError(f"replace: share is {self.share}.", fix="A share is above 0 and at most 1.")

    def apply(self, weights: Weights, sources: Mapping[str, Source]) -> Weights:
        """The weights after the edit, not yet normalised."""
        _require_known(self.by, sources, "replace: `by`")
        moved = _weight_of(self.source, weights, "replace") * self.share
        return {
            **weights,
            self.source: weights[self.source] - moved,
            self.by: (weights.get(self.by, 0.0) if self.by != self.source else weights[self.source] - moved) + moved,
        }

    def __str__(self) -> str:
        part = "" if self.share == 1 else f"{self.share:.0%} of "
        return f"replace {part}{self.source} by {self.by}"


@dataclass(frozen=True, kw_only=True)
class Drop:
    """The chosen sources leave; the others keep their proportions."""

    selection: Selection

    def apply(self, weights: Weights, sources: Mapping[str, Source]) -> Weights:
        """The weights after the edit, not yet normalised."""
        gone = _chosen(self.selection, weights, sources, "drop")
        return {name: weight for name, weight in weights.items() if name not in gone}

    def __str__(self) -> str:
        return f"drop {self.selection}"


@dataclass(frozen=True, kw_only=True)
class Only:
    """The chosen sources stay, in their proportions; the others leave."""

    selection: Selection

    def apply(self, weights: Weights, sources: Mapping[str, Source]) -> Weights:
        """The weights after the edit, not yet normalised."""
        kept = _chosen(self.selection, weights, sources, "only")
        return {name: weight for name, weight in weights.items() if name in kept}

    def __str__(self) -> str:
        return f"only {self.selection}"


@dataclass(frozen=True, kw_only=True)
class Scale:
    """Weights multiplied by factors; every weight is then brought back to a sum of 1."""

    factors: dict[str, float]

    def apply(self, weights: Weights, sources: Mapping[str, Source]) -> Weights:
        """The weights after the edit, not yet normalised."""
        del sources
        scaled = {name: _weight_of(name, weights, "scale") * factor for name, factor in self.factors.items()}
        return {**weights, **scaled}

    def __str__(self) -> str:
        return "scale " + ", ".join(f"{name} x{factor:g}" for name, factor in self.factors.items())


@dataclass(frozen=True, kw_only=True)
class Set:
    """Sources set to exactly these weights; the others share the rest in their proportions."""

    weights: dict[str, float]

    def apply(self, weights: Weights, sources: Mapping[str, Source]) -> Weights:
        """The weights after the edit; they sum to 1 already.

        Raises:
            AssayError: the set weights exceed 1, or fall short of it with no other source to take the rest.
        """
        for name, weight in self.weights.items():
            _require_known(name, sources, "set")
            if not math.isfinite(weight) or weight < 0:
                raise AssayError(f"set: the weight of {name!r} is {weight}.", fix="A weight is between 0 and 1.")
        left = 1 - math.fsum(self.weights.values())
        others = {name: weight for name, weight in weights.items() if name not in self.weights}
        total = math.fsum(others.values())
        if left < -1e-9 or (left > 1e-9 and total <= 0):
            raise AssayError(f"set: the weights set sum to {1 - left:g}.", fix="They may sum to 1 at most.")
        rest = {name: weight * max(left, 0.0) / total for name, weight in others.items()} if total > 0 else {}
        return {**rest, **self.weights}

    def __str__(self) -> str:
        return "set " + ", ".join(f"{name} to {weight:g}" for name, weight in self.weights.items())


@dataclass(frozen=True, kw_only=True)
class Multiply:
    """Weights multiplied by exactly these factors; the others share the rest in their proportions."""

    factors: dict[str, float]

    def apply(self, weights: Weights, sources: Mapping[str, Source]) -> Weights:
        """The weights after the edit; they sum to 1 already.

        Raises:
            AssayError: a source has no weight here, or they would exceed 1.
        """
        wanted = {name: _weight_of(name, weights, "multiply") * factor for name, factor in self.factors.items()}
        for name, weight in wanted.items():
            if weight > 1 + 1e-9:
                raise AssayError(
                    f"multiply: {name} at {self.factors[name]:g} times its {weights[name]:g} would weigh {weight:g}.",
                    fix=f"A weight is at most 1: a factor of {1 / weights[name]:g}.",
                )
        return Set(weights=wanted).apply(weights, sources)

    def __str__(self) -> str:
        return "multiply " + ", ".join(f"{name} by {factor:g}" for name, factor in self.factors.items())


Edit = Replace | Drop | Only | Scale | Set | Multiply


def parse_edit(raw: Mapping[str, Any], *, mix: str) -> Edit:
    """One edit out of its YAML form: a mapping of one key, such as ``{drop: books}``."""
    where = f"mix {mix!r}: edit"
    if not isinstance(raw, Mapping) or len(raw) != 1:
        raise AssayError(f"{where} {raw!r} is not a mapping of one key.", fix="Write it as `- drop: books`.")
    ((kind, body),) = raw.items()
    match kind:
        case "replace":
            return from_mapping(Replace, body, where=f"{where} replace")
        case "drop" | "only":
            selection = from_mapping(Selection, _selection_mapping(body), where=f"{where} {kind}")
            return Drop(selection=selection) if kind == "drop" else Only(selection=selection)
        case "scale":
            return from_mapping(Scale, {"factors": body}, where=f"{where} scale")
        case "set":
            return from_mapping(Set, {"weights": body}, where=f"{where} set")
        case "multiply":
            return from_mapping(Multiply, {"factors": body}, where=f"{where} multiply")
    known = did_you_mean(str(kind), ["replace", "drop", "only", "scale", "set", "multiply"])
    raise AssayError(f"{where}: no edit is called {kind!r}. {known}")


@dataclass(frozen=True, kw_only=True)
class Natural:
    """Weights in proportion to tokens ** (1 / temperature): 1 is natural, above 1 flatter, below 1 steeper."""

    selection: Selection
    temperature: float = 1.0

    def __post_init__(self) -> None:
        if not self.temperature > 0:
            raise AssayError(f"natural: temperature is {self.temperature}.", fix="A temperature is above 0.")

    def weights(self, sources: Mapping[str, Source], tokens: Mapping[str, int], *, mix: str) -> Weights:
        """The prior's weights, given the tokens that each source has."""
        names = [name for name, source in sources.items() if self.selection.matches(source)]
        missing = [name for name in names if name not in tokens]
        if missing:
            raise AssayError(
                f"mix {mix!r}: natural proportions need the tokens of {', '.join(sorted(missing))}.",
                fix="Run `assay prepare` with the same arguments first: it tokenises and counts them.",
            )
        counts = {name: tokens[name] ** (1 / self.temperature) for name in names}
        return normalise(counts, mix=mix)


@dataclass(frozen=True, kw_only=True)
class MixDeclaration:
    """A mix as it is written: weights, or natural proportions, or a base mix; and edits on top."""

    name: str
    description: str = ""
    weights: dict[str, float] | None = None
    natural: Natural | None = None
    base: str | None = None
    edits: tuple[Edit, ...] = ()
    max_epochs: float | None = None
    """No source is repeated more often than this; what that frees goes to the others in their proportions."""

    def __post_init__(self) -> None:
        check_name("mix", self.name, made="+@,")
        if sum(part is not None for part in (self.weights, self.natural, self.base)) != 1:
            raise AssayError(f"mix {self.name!r}: give exactly one of `weights`, `natural` and `base`.")
        if self.max_epochs is not None and not self.max_epochs > 0:
            raise AssayError(f"mix {self.name!r}: max_epochs is {self.max_epochs}.", fix="It is above 0, or left out.")

    @classmethod
    def parse(cls, name: str, raw: Mapping[str, Any]) -> MixDeclaration:
        """A declaration out of its YAML form."""
        body = dict(raw)
        edits = tuple(parse_edit(edit, mix=name) for edit in body.pop("edits", None) or ())
        natural = body.pop("natural", None)
        if natural is not None:
            natural = dict(natural)
            selection = _selection_mapping(natural.pop("sources", natural.pop("selection", None)))
            natural = from_mapping(Natural, {"selection": selection, **natural}, where=f"mix {name!r}: natural")
        plain = from_mapping(_PlainDeclaration, body, where=f"mix {name!r}")
        return cls(**{**vars(plain), "name": name, "edits": edits, "natural": natural})


@dataclass(frozen=True, kw_only=True)
class _PlainDeclaration:
    name: str = ""
    description: str = ""
    weights: dict[str, float] | None = None
    base: str | None = None
    max_epochs: float | None = None


class Step(NamedTuple):
    """What one edit did.

    Attributes:
        edit: the edit in words.
        weights: every weight after it.
    """

    edit: str
    weights: Weights


@dataclass(frozen=True, kw_only=True)
class Mix:
    """Weights over sources, resolved: they sum to 1 by token."""

    name: str
    weights: Weights
    max_epochs: float | None = None
    base: str | None = None
    steps: tuple[Step, ...] = ()
    """How the weights came about, from the first declaration to the last edit."""
    description: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "weights", normalise(self.weights, mix=self.name))


def resolve(
    name: str,
    declarations: Mapping[str, MixDeclaration],
    sources: Mapping[str, Source],
    *,
    tokens: Mapping[str, int] | None = None,
) -> Mix:
    """The weights of a declared mix, its base's edits and its own applied in order.

    Args:
        name: which mix.
        declarations: all that are declared, by name.
        sources: all that are declared, by name.
        tokens: tokens of each source, where known; only natural proportions need them.

    Raises:
        AssayError: a mix or source is unknown, bases form a circle, or an edit cannot be made.
    """
    return _resolve(name, declarations, sources, tokens or {}, ())


def _resolve(
    name: str,
    declarations: Mapping[str, MixDeclaration],
    sources: Mapping[str, Source],
    tokens: Mapping[str, int],
    path: tuple[str, ...],
) -> Mix:
    if name in path:
        raise AssayError(f"mix {name!r} is its own base: {' -> '.join([*path, name])}.")
    if name not in declarations:
        raise AssayError(f"no mix is called {name!r}. {did_you_mean(name, declarations)}")
    declaration = declarations[name]
    steps: list[Step] = []
    max_epochs = declaration.max_epochs
    if declaration.base is not None:
        base = _resolve(declaration.base, declarations, sources, tokens, (*path, name))
        weights, max_epochs = base.weights, max_epochs if max_epochs is not None else base.max_epochs
        steps.append(Step(f"base {declaration.base}", weights))
    elif declaration.natural is not None:
        weights = declaration.natural.weights(sources, tokens, mix=name)
        steps.append(Step(f"natural, temperature {declaration.natural.temperature:g}", weights))
    else:
        for source in declaration.weights or {}:
            _require_known(source, sources, f"mix {name!r}")
        weights = normalise(declaration.weights or {}, mix=name)
        steps.append(Step("weights", weights))
    for edit in declaration.edits:
        try:
            weights = normalise(edit.apply(weights, sources), mix=name)
        except AssayError as error:
            if error.what.startswith("mix "):
                raise
            raise AssayError(f"mix {name!r}: {error.what}", fix=error.fix) from None
        steps.append(Step(str(edit), weights))
    return Mix(
        name=name,
        weights=weights,
        max_epochs=max_epochs,
        base=declaration.base,
        steps=tuple(steps),
        description=declaration.description,
    )


def names_of(name: str, declarations: Mapping[str, MixDeclaration], sources: Mapping[str, Source]) -> tuple[str, ...]:
    """A mix's sources, which are known before its weights are."""
    # In natural proportion to what? Any will do for the names; next to nothing of what an edit multiplies, that no
    # factor takes it above 1.
    edits = [edit for mix in declarations.values() for edit in mix.edits if isinstance(edit, Multiply)]
    multiplied = {source for edit in edits for source in edit.factors}
    tokens = {source: 1 if source in multiplied else 10**12 for source in sources}
    return tuple(resolve(name, declarations, sources, tokens=tokens).weights)


def is_natural(name: str, declarations: Mapping[str, MixDeclaration]) -> bool:
    """Whether a mix's weights are in proportion to its sources' tokens, and so known once these are counted."""
    while (declaration := declarations[name]).base is not None:
        name = declaration.base
    return declaration.natural is not None


def cap_of(name: str, declarations: Mapping[str, MixDeclaration]) -> float | None:
    """A mix's cap on epochs, its own or the nearest base's."""
    declaration = declarations[name]
    if declaration.max_epochs is not None or declaration.base is None:
        return declaration.max_epochs
    return cap_of(declaration.base, declarations)


def epochs(weights: Mapping[str, float], budget: int, tokens: Mapping[str, int]) -> dict[str, float]:
    """How often each source of known size is gone through: weight x budget / its tokens."""
    return {name: weight * budget / tokens[name] for name, weight in weights.items() if tokens.get(name)}


def cap_epochs(mix: Mix, budget: int, tokens: Mapping[str, int], taken: Mapping[str, float] | None = None) -> Weights:
    """Weights under which no source is repeated more than the mix allows.

    What a capped source cannot take goes to the others in their proportions, until none is above the cap
    (water-filling, as UniMax does from uniform weights: Chung et al., 2023, arXiv 2304.09151).

    Args:
        mix: a resolved mix; without `max_epochs` its weights come back as they are.
        budget: tokens of the run, or of the stage of it that trains on this mix.
        tokens: training tokens of each source of the mix.
        taken: tokens that earlier stages of the run took of a source.

    Raises:
        AssayError: even with every source at the cap the budget is not filled.
    """
    if mix.max_epochs is None:
        return mix.weights
    before = taken or {}
    limit = {name: max(0.0, mix.max_epochs * tokens[name] - before.get(name, 0.0)) / budget for name in mix.weights}
    capped: Weights = {}
    while True:
        free = {name: weight for name, weight in mix.weights.items() if name not in capped}
        left = 1 - math.fsum(capped.values())
        if not free:
            if left > 1e-12:
                raise AssayError(
                    f"mix {mix.name!r}: {budget:,} tokens need more than max_epochs = {mix.max_epochs:g} of every source.",
                    fix="Lower the budget, raise max_epochs, or add sources.",
                )
            return normalise(capped, mix=mix.name)
        scale = left / math.fsum(free.values())
        over = [name for name, weight in free.items() if weight * scale > limit[name]]
        if not over:
            return normalise({**capped, **{name: weight * scale for name, weight in free.items()}}, mix=mix.name)
        capped |= {name: limit[name] for name in over}


def _require_known(name: str, sources: Mapping[str, Source], where: str) -> None:
    if name not in sources:
        raise AssayError(f"{where}: no source is called {name!r}. {did_you_mean(name, sources)}")


def _weight_of(name: str, weights: Weights, where: str) -> float:
    if name not in weights:
        raise AssayError(f"{where}: {name!r} has no weight here. {did_you_mean(name, weights)}")
    return weights[name]


def _chosen(selection: Selection, weights: Weights, sources: Mapping[str, Source], where: str) -> set[str]:
    for name in selection.source:
        _weight_of(name, weights, where)
    chosen = {name for name in weights if selection.matches(sources[name])}
    if not chosen:
        raise AssayError(f"{where}: no source of the mix matches {selection}.")
    return chosen


def _selection_mapping(body: Any) -> dict[str, Any]:
    """`books`, `[books, web]` and `{domain: code}` are all ways to choose sources."""
    if isinstance(body, str):
        return {"source": [body]}
    if isinstance(body, Sequence):
        return {"source": list(body)}
    if isinstance(body, Mapping):
        return {key: [value] if isinstance(value, str) else value for key, value in body.items()}
    raise AssayError(f"a selection cannot be {body!r}.", fix="Name sources, or write {domain: ...} or {tag: ...}.")
