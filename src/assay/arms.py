"""Arms of a sweep: what one changes of the recipe beside its mix, and what it is compared with."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from assay.errors import AssayError
from assay.recipe import Optimiser


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One arm. It trains on the mix of its name; where it says nothing else, with the study's own recipe."""

    name: str
    about: str = ""
    """What it is, in a line for people."""
    control: str | None = None
    """The arm that it is compared with; left out, the sweep's baseline."""
    weight_decay: float | None = None
    """In place of the optimiser's."""
    dropout: float = 0.0
    """Share of the activations that is dropped in training."""
    epochs: dict[str, float] = field(default_factory=dict, hash=False)
    """Sources of which the run sees as many tokens as ever, but from a pool so small that it sees each so often."""
    target_tokens: int | None = None
    """Every source's pool is so small that this run repeats it as often as a run of so many tokens would."""

    def __post_init__(self) -> None:
        where = f"arm {self.name!r}"
        if self.control == self.name:
            raise AssayError(f"{where} is its own control.", fix="Name another arm, or leave `control` out.")
        if self.weight_decay is not None and not (math.isfinite(self.weight_decay) and self.weight_decay >= 0):
            raise AssayError(f"{where}: weight_decay is {self.weight_decay}; it is at least 0.")
        if not 0 <= self.dropout < 1:
            raise AssayError(f"{where}: dropout is {self.dropout}; it is at least 0 and below 1.")
        for source, count in self.epochs.items():
            if not (math.isfinite(count) and count > 0):
                raise AssayError(f"{where}: {source} is to be seen {count} times.", fix="Epochs are above 0.")
        if self.target_tokens is not None and self.target_tokens < 1:
            raise AssayError(f"{where}: target_tokens is {self.target_tokens}; it is at least 1.")
        if self.epochs and self.target_tokens is not None:
            raise AssayError(f"{where} has both `epochs` and `target_tokens`.", fix="Give one: each decides the pools.")

    @property
    def pooled(self) -> bool:
        """Whether it trains on parts of its sources."""
        return bool(self.epochs) or self.target_tokens is not None

    def optimiser(self, usual: Optimiser) -> Optimiser:
        """The optimiser of the arm's runs, given the study's."""
        return usual if self.weight_decay is None else replace(usual, weight_decay=self.weight_decay)

    def available(self, tokens: Mapping[str, int], budget: int) -> dict[str, int]:
        """Tokens of each source that a cap on epochs counts by: those of the whole source, or of its pool at the target.

        A cap holds for the target's run, whose repetition this one has. Where `epochs` shrink a source, the
        cap is about the whole of it: the arms of a comparison have to take the same tokens of every source.

        Args:
            tokens: training tokens of each source.
            budget: tokens of the run.
        """
        if self.target_tokens is None:
            return dict(tokens)
        if self.target_tokens < budget:
            raise AssayError(
                f"arm {self.name!r}: target_tokens is {self.target_tokens:,}, less than the {budget:,} of the run itself.",
                fix="The target is the larger run that this one stands for.",
            )
        return {name: math.ceil(count * budget / self.target_tokens) for name, count in tokens.items()}

    def pools(
        self, taken: Mapping[str, float], tokens: Mapping[str, int], *, budget: int, least: int
    ) -> dict[str, int] | None:
        """To how many of its tokens each source is shrunk; `None` where all are whole.

        Args:
            taken: tokens that the run takes of each source that it uses, over all stages.
            tokens: training tokens of each source, where they are known.
            budget: tokens of the run.
            least: the smallest pool that makes sense: a sequence.

        Raises:
            AssayError: a source is not in the mix, has not the tokens that its pool needs, or the pool is too small.
        """
        if not self.pooled:
            return None
        if self.epochs:
            for name in self.epochs:
                if not taken.get(name):
                    raise AssayError(f"arm {self.name!r}: {name!r} is not in its mix, and cannot be repeated.")
            # The tokens taken come out of weights of 12 digits: what is left of a whole number is not one token more.
            pools = {name: math.ceil(round(taken[name] / count, 3)) for name, count in self.epochs.items()}
        else:
            pools = self.available({name: tokens[name] for name in taken}, budget)
        for name, pool in pools.items():
            self._check_pool(name, pool, tokens.get(name), taken[name], least)
        return pools

    def _check_pool(self, name: str, pool: int, whole: int | None, taken: float, least: int) -> None:
        if pool < least:
            raise AssayError(
                f"arm {self.name!r}: the pool of {name} would have {pool:,} tokens, less than one sequence of {least:,}.",
                fix="Repeat it less often, or raise the budget.",
            )
        if whole is not None and pool > whole:
            raise AssayError(
                f"arm {self.name!r}: it takes {taken:,.0f} tokens of {name}, which has {whole:,}: that is "
                f"{taken / whole:.3g} epochs already, and no pool of it makes fewer.",
                fix=f"Begin the ablation's `epochs` above {taken / whole:.3g}, or lower the budget.",
            )
