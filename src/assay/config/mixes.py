"""Define mixes and their edits. A mix gives each source a fraction of the training tokens."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from assay.config.sources import Source, check_name
from assay.core.errors import ConfigError, NotFound, did_you_mean
from assay.core.serde import from_mapping

Weights = dict[str, float]
LARGEST_POWER = 100
MAX_WEIGHT = 10.0**LARGEST_POWER
"""Maximum weight before normalization. Sums of larger numbers could overflow."""


MIN_FRACTION = 1e-12
"""Smallest positive fraction that a mix may declare: one token of a budget of 1e12 tokens."""


def check_declaration(where: str, body: Mapping[str, Any]) -> None:
    """Refuse keys of a mix's file that have no effect: empty `edits`, and weights too small for one token of any run.

    Mixes that assay generates may contain both, for example a weight of 1e-17 from rounding.

    Args:
        where: the file, for messages.
        body: its content, before any other check.
    """
    if body.get("edits") == []:
        raise ConfigError(
            f"{where}: `edits` is empty; expected at least one edit.",
            fix="Add an edit such as `- drop: books`, or remove `edits` to declare a copy of the base mix.",
        )
    weights = body.get("weights")
    numbers = (
        {key: w for key, w in weights.items() if isinstance(w, int | float)} if isinstance(weights, Mapping) else {}
    )
    total = math.fsum(weight for weight in numbers.values() if 0 < weight <= MAX_WEIGHT)
    for source, weight in numbers.items():
        if 0 < weight < MIN_FRACTION * total:
            raise ConfigError(
                f"{where}: weight {weight:g} of {source!r} is invalid; expected 0, or at least {MIN_FRACTION:g} of the sum of the"
                " weights.",
                fix=f"Raise the weight of {source!r}, or remove the source.",
            )


def normalize(weights: Mapping[str, float], *, mix: str) -> Weights:
    """Scale weights to a sum of 1; omit sources of weight 0; sort by name.

    Raises:
        ConfigError: a weight is negative, NaN or infinite, or all weights are 0.
    """
    for source, weight in weights.items():
        if not 0 <= weight <= MAX_WEIGHT:
            raise ConfigError(
                f"mix {mix!r}: weight {weight} of {source!r} is invalid; expected a number from 0 to {MAX_WEIGHT:g}.",
                fix=f"Correct the weight of {source!r}.",
            )
    total = math.fsum(weights.values())
    if total <= 0:
        raise ConfigError(
            f"mix {mix!r}: the weights sum to 0; expected at least one weight above 0.",
            fix="Give at least one source a weight above 0.",
        )
    return {source: weights[source] / total for source in sorted(weights) if weights[source] > 0}


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Selection of every source that matches a name, a domain or a tag."""

    source: tuple[str, ...] = ()
    """Names of sources to select. A plain name or list in place of the mapping, such as `drop: books`, sets this
    key."""
    domain: tuple[str, ...] = ()
    """Domains whose sources are selected."""
    tag: tuple[str, ...] = ()
    """Tags whose sources are selected."""

    def __post_init__(self) -> None:
        if not (self.source or self.domain or self.tag):
            raise ConfigError(
                "selection: the selection is empty; expected at least one source, domain or tag.",
                fix="Name a source, a domain or a tag.",
            )

    def matches(self, source: Source) -> bool:
        """Whether the selection includes the source."""
        return source.name in self.source or source.domain in self.domain or not set(self.tag).isdisjoint(source.tags)

    def __str__(self) -> str:
        parts = [f"{kind} {' or '.join(names)}" for kind, names in vars(self).items() if names]
        return ", ".join(parts)


@dataclass(frozen=True, kw_only=True)
class Replace:
    """Edit that moves weight from one source to another. All other weights are unchanged."""

    source: str
    """Source that loses weight."""
    by: str
    """Source that receives this weight."""
    fraction: float = 1.0
    """Fraction of the weight of `source` that moves to the source `by`."""

    def __post_init__(self) -> None:
        if not 0 < self.fraction <= 1:
            raise ConfigError(
                f"replace: `fraction` {self.fraction} is invalid; expected a number above 0 and at most 1.",
                fix="Set `fraction` to a number above 0 and at most 1.",
            )
        if self.source == self.by:
            raise ConfigError(
                f"replace: {self.source!r} by {self.by!r} changes nothing; expected two different sources.",
                fix="Name another source in `by`, or remove the edit.",
            )

    def apply(self, weights: Weights, sources: Mapping[str, Source]) -> Weights:
        """Return the weights after the edit, not normalized."""
        _require_known(self.by, sources, "replace: `by`")
        moved = _weight_of(self.source, weights, "replace") * self.fraction
        return {
            **weights,
            self.source: weights[self.source] - moved,
            self.by: weights.get(self.by, 0.0) + moved,
        }

    def __str__(self) -> str:
        part = "" if self.fraction == 1 else f"{self.fraction:.0%} of "
        return f"replace {part}{self.source} by {self.by}"


@dataclass(frozen=True, kw_only=True)
class Drop:
    """Edit that removes the selected sources. The remaining sources keep their proportions."""

    selection: Selection
    """Sources to remove, written as the value of the key: `drop: books`."""

    def apply(self, weights: Weights, sources: Mapping[str, Source]) -> Weights:
        """Return the weights after the edit, not normalized."""
        dropped = _select(self.selection, weights, sources, "drop")
        return {name: weight for name, weight in weights.items() if name not in dropped}

    def __str__(self) -> str:
        return f"drop {self.selection}"


@dataclass(frozen=True, kw_only=True)
class Only:
    """Edit that removes all sources except the selected ones. The selected sources keep their proportions."""

    selection: Selection
    """Sources to keep, written as the value of the key: `only: {domain: code}`."""

    def apply(self, weights: Weights, sources: Mapping[str, Source]) -> Weights:
        """Return the weights after the edit, not normalized."""
        kept = _select(self.selection, weights, sources, "only")
        return {name: weight for name, weight in weights.items() if name in kept}

    def __str__(self) -> str:
        return f"only {self.selection}"


@dataclass(frozen=True, kw_only=True)
class Scale:
    """Edit that multiplies some weights, and then normalizes all weights to a sum of 1."""

    factors: dict[str, float]
    """Factor for the weight of each source, written as the value of the key: `scale: {web: 2}`."""

    def apply(self, weights: Weights, sources: Mapping[str, Source]) -> Weights:
        """Return the weights after the edit, not normalized."""
        del sources
        scaled = {name: _weight_of(name, weights, "scale") * factor for name, factor in self.factors.items()}
        return {**weights, **scaled}

    def __str__(self) -> str:
        return "scale " + ", ".join(f"{name} x{factor:g}" for name, factor in self.factors.items())


@dataclass(frozen=True, kw_only=True)
class Set:
    """Edit that sets the weights of some sources. The other sources divide the rest in their proportions."""

    weights: dict[str, float]
    """New weight of each source, written as the value of the key: `set: {math: 0.05}`."""

    def apply(self, weights: Weights, sources: Mapping[str, Source]) -> Weights:
        """Return the weights after the edit, with a sum of 1.

        Raises:
            ConfigError: the given weights exceed 1, or are less than 1 and no other source has a weight.
        """
        for name, weight in self.weights.items():
            _require_known(name, sources, "set")
            if not 0 <= weight <= MAX_WEIGHT:
                raise ConfigError(
                    f"set: weight {weight} of {name!r} is invalid; expected a number from 0 to 1.",
                    fix=f"Correct the weight of {name!r}.",
                )
        left = 1 - math.fsum(self.weights.values())
        others = {name: weight for name, weight in weights.items() if name not in self.weights}
        total = math.fsum(others.values())
        if left < -1e-9 or (left > 1e-9 and total <= 0):
            bound = "exactly 1, since no other source has a weight" if left > 0 else "at most 1"
            raise ConfigError(
                f"set: the weights sum to {1 - left:g}; expected {bound}.", fix="Correct the weights in `set`."
            )
        rest = {name: weight * max(left, 0.0) / total for name, weight in others.items()} if total > 0 else {}
        return {**rest, **self.weights}

    def __str__(self) -> str:
        return "set " + ", ".join(f"{name} to {weight:g}" for name, weight in self.weights.items())


@dataclass(frozen=True, kw_only=True)
class Multiply:
    """Edit that multiplies some weights exactly. The other sources divide the rest in their proportions."""

    factors: dict[str, float]
    """Factor for the weight of each source, written as the value of the key: `multiply: {math: 2}`."""

    def apply(self, weights: Weights, sources: Mapping[str, Source]) -> Weights:
        """Return the weights after the edit, with a sum of 1.

        Raises:
            ConfigError: a source has no weight in the mix, or a weight would exceed 1.
        """
        multiplied = {name: _weight_of(name, weights, "multiply") * factor for name, factor in self.factors.items()}
        for name, weight in multiplied.items():
            if weight > 1 + 1e-9:
                raise ConfigError(
                    f"multiply: factor {self.factors[name]:g} of {name!r} is invalid: its weight of {weights[name]:g} would become"
                    f" {weight:g}; expected a weight of at most 1.",
                    fix=f"Use a factor of at most {1 / weights[name]:g}.",
                )
        return Set(weights=multiplied).apply(weights, sources)

    def __str__(self) -> str:
        return "multiply " + ", ".join(f"{name} by {factor:g}" for name, factor in self.factors.items())


Edit = Replace | Drop | Only | Scale | Set | Multiply


def parse_edit(raw: Mapping[str, Any], *, mix: str) -> Edit:
    """Parse an edit from its YAML form, such as ``{drop: books}``.

    The YAML form is a mapping with one key.
    """
    where = f"mix {mix!r}: edit"
    if not isinstance(raw, Mapping) or len(raw) != 1:
        raise ConfigError(
            f"{where} {raw!r} is invalid; expected a mapping of one key, such as `drop: books`.",
            fix="Write each edit as its own list entry.",
        )
    ((kind, body),) = raw.items()
    neutral = (
        kind in ("scale", "multiply") and isinstance(body, Mapping) and all(factor == 1 for factor in body.values())
    )
    if neutral or (kind == "set" and body == {}):
        raise ConfigError(
            f"{where} {kind}: {body!r} changes nothing; expected a change of a weight.", fix="Remove the edit."
        )
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
    raise ConfigError(f"{where}: no edit is called {kind!r}. {known}")


@dataclass(frozen=True, kw_only=True)
class Natural:
    """Weights in proportion to the token counts of the sources, each raised to the power 1 / `temperature`."""

    selection: Selection
    """Selection of the sources of the mix. The YAML key is `sources`."""
    temperature: float = 1.0
    """Temperature. With 1, weights are proportional to token counts. A higher temperature gives more even weights."""

    def __post_init__(self) -> None:
        if not self.temperature > 0:
            raise ConfigError(
                f"natural: `temperature` {self.temperature} is invalid; expected a number above 0.",
                fix="Set `temperature` to a number above 0.",
            )

    def weights(self, sources: Mapping[str, Source], tokens: Mapping[str, int], *, mix: str) -> Weights:
        """Return the weights for the given number of tokens of each source."""
        named = self.selection.source
        names = [
            name
            for name, source in sources.items()
            if self.selection.matches(source) and (source.role == "training" or name in named)
        ]
        missing = [name for name in names if name not in tokens]
        if missing:
            raise NotFound(
                f"mix {mix!r}: natural proportions need the tokens of {', '.join(sorted(missing))}, which are not tokenized.",
                fix="Run `assay prepare` with the same arguments first.",
            )
        largest = max((tokens[name] for name in names), default=0)
        # With a temperature near 0, powers overflow. Then only the ratios to the largest source matter.
        unit = largest if largest > 1 and math.log10(largest) / self.temperature > LARGEST_POWER else 1
        counts = {name: (tokens[name] / unit if unit > 1 else tokens[name]) ** (1 / self.temperature) for name in names}
        return normalize(counts, mix=mix)


@dataclass(frozen=True, kw_only=True)
class MixDeclaration:
    """Declaration of a mix: weights, natural proportions or a base mix, followed by edits."""

    name: str
    """Name of the mix; taken from the file's name."""
    description: str = ""
    """Description that pages show."""
    weights: dict[str, float] | None = None
    """Weight of each source, normalized to a sum of 1. Give exactly one of `weights`, `natural` and `base`."""
    natural: Natural | None = None
    """Natural proportions: weights that follow the token counts of the sources."""
    base: str | None = None
    """Name of the mix to which `edits` are applied."""
    edits: tuple[Edit, ...] = ()
    """Edits, applied in order; each is a mapping of one key, such as `{drop: books}`."""
    max_epochs: float | None = None
    """Maximum number of epochs of each source in a run. Excess weight goes to the other sources in their
    proportions."""

    def __post_init__(self) -> None:
        check_name("mix", self.name, extra="+@,")
        if sum(part is not None for part in (self.weights, self.natural, self.base)) != 1:
            raise ConfigError(
                f"mix {self.name!r}: the number of given keys is invalid; expected exactly one of `weights`, `natural` and `base`.",
                fix="Keep one of the three keys.",
            )
        if self.max_epochs is not None and not self.max_epochs > 0:
            raise ConfigError(
                f"mix {self.name!r}: `max_epochs` {self.max_epochs} is invalid; expected a number above 0.",
                fix="Set `max_epochs` to a number above 0, or to null.",
            )

    @classmethod
    def parse(cls, name: str, raw: Mapping[str, Any]) -> MixDeclaration:
        """Parse a declaration from its YAML form."""
        if not isinstance(raw, Mapping):
            raise ConfigError(
                f"mix {name!r}: a {type(raw).__name__} is invalid; expected a mapping of its keys.",
                fix="Write `key: value` pairs.",
            )
        body = dict(raw)
        raw_edits, natural = body.pop("edits", None) or (), body.pop("natural", None)
        if not isinstance(raw_edits, list | tuple):
            raise ConfigError(
                f"mix {name!r}: `edits` is a {type(raw_edits).__name__}; expected a list.",
                fix="Write for example `edits: [drop: books]`.",
            )
        edits = tuple(parse_edit(edit, mix=name) for edit in raw_edits)
        if natural is not None:
            natural = _parse_natural(natural, where=f"mix {name!r}: natural")
        plain = from_mapping(_PlainDeclaration, body, where=f"mix {name!r}")
        return cls(**{**vars(plain), "name": name, "edits": edits, "natural": natural})


def _parse_natural(raw: Any, *, where: str) -> Natural:
    if not isinstance(raw, Mapping):
        raise ConfigError(
            f"{where}: a {type(raw).__name__} is invalid; expected a mapping.",
            fix="Write for example `natural: {sources: [web, code]}`.",
        )
    body = dict(raw)
    selection = _selection_mapping(body.pop("sources", body.pop("selection", None)))
    return from_mapping(Natural, {**body, "selection": selection}, where=where)


@dataclass(frozen=True, kw_only=True)
class _PlainDeclaration:
    name: str = ""
    description: str = ""
    weights: dict[str, float] | None = None
    base: str | None = None
    max_epochs: float | None = None


class EditStep(NamedTuple):
    """An edit and its result.

    Attributes:
        edit: the edit as text.
        weights: all weights after the edit.
    """

    edit: str
    weights: Weights


@dataclass(frozen=True, kw_only=True)
class Mix:
    """A mix with resolved weights. A weight is the fraction of tokens of a source; the weights sum to 1."""

    name: str
    """Name of the mix."""
    weights: Weights
    """Weight of each source; the weights sum to 1."""
    max_epochs: float | None = None
    """Maximum number of epochs of each source in a run; None without a limit."""
    base: str | None = None
    """Mix that the edits change."""
    steps: tuple[EditStep, ...] = ()
    """Derivation of the weights, from the first declaration to the last edit."""
    description: str = ""
    """Description that pages show."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "weights", normalize(self.weights, mix=self.name))


def resolve(
    name: str,
    declarations: Mapping[str, MixDeclaration],
    sources: Mapping[str, Source],
    *,
    tokens: Mapping[str, int] | None = None,
) -> Mix:
    """Resolve a declared mix: apply the edits of its base and then its own.

    Args:
        name: the mix.
        declarations: all declared mixes by name.
        sources: all declared sources by name.
        tokens: tokens of each source, if known. Only natural proportions need the tokens.

    Raises:
        ConfigError: a mix or source is unknown, bases form a cycle, or an edit is invalid.
        NotFound: natural proportions need the tokens of a source that is not tokenized.
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
        raise ConfigError(
            f"mix {name!r}: its bases form a cycle: {' -> '.join([*path, name])}.",
            fix="Give one of these mixes `weights` instead of `base`.",
        )
    if name not in declarations:
        raise ConfigError(f"no mix is called {name!r}. {did_you_mean(name, declarations)}")
    declaration = declarations[name]
    steps: list[EditStep] = []
    max_epochs = declaration.max_epochs
    if declaration.base is not None:
        base = _resolve(declaration.base, declarations, sources, tokens, (*path, name))
        weights, max_epochs = base.weights, max_epochs if max_epochs is not None else base.max_epochs
        steps.append(EditStep(f"base {declaration.base}", weights))
    elif declaration.natural is not None:
        weights = declaration.natural.weights(sources, tokens, mix=name)
        steps.append(EditStep(_natural_step(declaration.natural, sources), weights))
    else:
        for source in declaration.weights or {}:
            _require_known(source, sources, f"mix {name!r}")
        weights = normalize(declaration.weights or {}, mix=name)
        steps.append(EditStep("weights", weights))
    for edit in declaration.edits:
        try:
            weights = normalize(edit.apply(weights, sources), mix=name)
        except ConfigError as error:
            if error.what.startswith("mix "):
                raise
            raise ConfigError(f"mix {name!r}: {error.what}", fix=error.fix) from None
        steps.append(EditStep(str(edit), weights))
    _refuse_validation(weights, sources, mix=name)
    return Mix(
        name=name,
        weights=weights,
        max_epochs=max_epochs,
        base=declaration.base,
        steps=tuple(steps),
        description=declaration.description,
    )


def natural_names(
    name: str, declarations: Mapping[str, MixDeclaration], sources: Mapping[str, Source]
) -> tuple[str, ...]:
    """Return the sources of the natural proportions that a mix starts from; empty without natural proportions."""
    natural = next((mix.natural for mix in _bases(name, declarations) if mix.natural is not None), None)
    return () if natural is None else tuple(n for n, source in sources.items() if natural.selection.matches(source))


def counted_names(
    name: str, declarations: Mapping[str, MixDeclaration], sources: Mapping[str, Source]
) -> tuple[str, ...]:
    """Return the sources whose numbers of tokens determine the weights of a mix with natural proportions.

    The result can contain sources that the mix does not train on. For example, the weight that `replace` moves depends
    on the tokens of the replaced source. A source that `drop` removes does not affect the other proportions.
    """
    selected = natural_names(name, declarations, sources)
    if not selected:
        return ()
    tokens = _placeholder_tokens(declarations, sources)
    weights = resolve(name, declarations, sources, tokens=tokens).weights
    return tuple(
        source
        for source in selected
        if source in weights or _depends_on(source, name, declarations, sources, tokens=tokens, weights=weights)
    )


def _depends_on(
    source: str,
    name: str,
    declarations: Mapping[str, MixDeclaration],
    sources: Mapping[str, Source],
    *,
    tokens: Mapping[str, int],
    weights: Weights,
) -> bool:
    """Return whether the weights of a mix depend on the token count of a source."""
    try:
        changed = resolve(name, declarations, sources, tokens={**tokens, source: 3 * tokens[source]}).weights
    except ConfigError:
        return True  # with more tokens, a multiplied weight exceeds 1
    return any(abs(changed.get(other, 0.0) - weight) > 1e-12 for other, weight in weights.items())


def names_of(name: str, declarations: Mapping[str, MixDeclaration], sources: Mapping[str, Source]) -> tuple[str, ...]:
    """Return the names of a mix's sources, which do not depend on token counts."""
    return tuple(resolve(name, declarations, sources, tokens=_placeholder_tokens(declarations, sources)).weights)


def _placeholder_tokens(declarations: Mapping[str, MixDeclaration], sources: Mapping[str, Source]) -> dict[str, int]:
    """Return numbers of tokens that suffice for the names of a mix.

    Sources that an edit multiplies get few tokens, so that no factor raises their weight above 1.
    """
    edits = [edit for mix in declarations.values() for edit in mix.edits if isinstance(edit, Multiply)]
    multiplied = {source for edit in edits for source in edit.factors}
    return {source: 1 if source in multiplied else 10**12 for source in sources}


def is_natural(name: str, declarations: Mapping[str, MixDeclaration]) -> bool:
    """Return whether the weights of a mix start from natural proportions, which depend on token counts."""
    return any(declaration.natural is not None for declaration in _bases(name, declarations))


def cap_of(name: str, declarations: Mapping[str, MixDeclaration]) -> float | None:
    """Return a mix's cap on epochs, or the cap of its nearest base mix; None without a cap."""
    caps = (declaration.max_epochs for declaration in _bases(name, declarations))
    return next((cap for cap in caps if cap is not None), None)


def chain(name: str, declarations: Mapping[str, MixDeclaration]) -> tuple[str, ...]:
    """Return the names of a mix and its bases, in this order."""
    return tuple(declaration.name for declaration in _bases(name, declarations))


def _bases(name: str | None, declarations: Mapping[str, MixDeclaration]) -> Iterator[MixDeclaration]:
    """Yield the declarations of a mix and its bases, up to an unknown mix or a cycle (`resolve` refuses both)."""
    seen: set[str] = set()
    while name is not None and name in declarations and name not in seen:
        seen.add(name)
        yield declarations[name]
        name = declarations[name].base


def epochs(weights: Mapping[str, float], budget: int, tokens: Mapping[str, int]) -> dict[str, float]:
    """Return the epochs of each source of known size: weight x budget / tokens of the source."""
    return {name: weight * budget / tokens[name] for name, weight in weights.items() if tokens.get(name)}


def cap_epochs(mix: Mix, budget: int, tokens: Mapping[str, int], taken: Mapping[str, float] | None = None) -> Weights:
    """Limit the weights of a mix so that no source exceeds its maximum epochs.

    The excess weight of capped sources goes to the other sources in their proportions, until no source exceeds the cap
    (water-filling, as UniMax does from uniform weights: Chung et al., 2023, arXiv 2304.09151).

    Args:
        mix: a resolved mix. Without `max_epochs`, the weights are returned unchanged.
        budget: tokens of the run, or of the stage that trains on this mix.
        tokens: training tokens of each source of the mix.
        taken: tokens of each source that earlier stages of the run take.

    Raises:
        ConfigError: the budget exceeds the tokens of all sources at their maximum epochs.
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
                raise ConfigError(
                    f"mix {mix.name!r}: `max_epochs` {mix.max_epochs:g} is invalid; a budget of {budget:,} tokens needs more of every source.",
                    fix="Lower the budget, raise max_epochs, or add sources.",
                )
            return normalize(capped, mix=mix.name)
        scale = left / math.fsum(free.values())
        over = [name for name, weight in free.items() if weight * scale > limit[name]]
        if not over:
            return normalize({**capped, **{name: weight * scale for name, weight in free.items()}}, mix=mix.name)
        capped |= {name: limit[name] for name in over}


def _require_known(name: str, sources: Mapping[str, Source], where: str) -> None:
    if name not in sources:
        raise ConfigError(f"{where}: no source is called {name!r}. {did_you_mean(name, sources)}")


def _natural_step(natural: Natural, sources: Mapping[str, Source]) -> str:
    """Describe natural proportions, with the sources that they leave out."""
    omitted = [
        name for name, source in sources.items() if natural.selection.matches(source) and source.role != "training"
    ]
    without = f", without {', '.join(sorted(omitted))} (role: validation)" if omitted else ""
    return f"natural, temperature {natural.temperature:g}{without}"


def _refuse_validation(weights: Weights, sources: Mapping[str, Source], *, mix: str) -> None:
    """Refuse a mix that trains on a source with `role: validation`, which must measure all mixes in the same way."""
    for name in weights:
        if sources[name].role == "validation":
            raise ConfigError(
                f"mix {mix!r}: weight {weights[name]:g} of {name!r} is invalid; expected none, because the source has"
                " `role: validation`.",
                fix=f"Remove {name} from the mix, or remove `role` from its declaration.",
            )


def _weight_of(name: str, weights: Weights, where: str) -> float:
    if name not in weights:
        raise ConfigError(f"{where}: {name!r} has no weight in the mix. {did_you_mean(name, weights)}")
    return weights[name]


def _select(selection: Selection, weights: Weights, sources: Mapping[str, Source], where: str) -> set[str]:
    for name in selection.source:
        _weight_of(name, weights, where)
    selected = {name for name in weights if selection.matches(sources[name])}
    if not selected:
        raise ConfigError(
            f"{where}: no source of the mix matches {selection}.", fix="Name a source, a domain or a tag of the mix."
        )
    return selected


def _selection_mapping(body: Any) -> dict[str, Any]:
    """Read a selection: `books`, `[books, web]` or `{domain: code}`."""
    if isinstance(body, str):
        return {"source": [body]}
    if isinstance(body, Sequence):
        return {"source": list(body)}
    if isinstance(body, Mapping):
        return {key: [value] if isinstance(value, str) else value for key, value in body.items()}
    raise ConfigError(
        f"selection {body!r} is invalid; expected names of sources, {{domain: ...}} or {{tag: ...}}.",
        fix="Write for example `books`, `[books, web]` or `{domain: code}`.",
    )
