"""Define the arms of a sweep: their changes of the recipe, and their controls."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from assay.config.recipe import Optimizer
from assay.core.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Arm:
    """Changes that one arm makes to the recipe of the study.

    The arm trains on the mix that has the arm's name.
    """

    name: str
    """Name of the arm, which is also the name of its mix."""
    about: str = ""
    """Description of the arm, in one line."""
    control: str | None = None
    """Arm that this arm is compared with. Null selects the sweep's baseline."""
    weight_decay: float | None = None
    """Weight decay of the arm. Null selects the optimizer's weight decay."""
    dropout: float = 0.0
    """Dropout: fraction of the activations that training sets to 0."""
    epochs: dict[str, float] = field(default_factory=dict, hash=False)
    """Number of epochs over the pool of each source, by source name. More epochs shrink the pool. The source's tokens in
    the run stay unchanged."""
    target_tokens: int | None = None
    """Tokens of a target run. The arm repeats a pool of each source as often as the target run repeats the whole
    source."""

    def __post_init__(self) -> None:
        where = f"arm {self.name!r}"
        if self.control == self.name:
            raise ConfigError(
                f"{where}: `control` {self.control!r} is invalid; expected another arm.", fix="Remove `control`."
            )
        if self.weight_decay is not None and not (math.isfinite(self.weight_decay) and self.weight_decay >= 0):
            raise ConfigError(
                f"{where}: `weight_decay` {self.weight_decay} is invalid; expected a finite number of at least 0.",
                fix="Set `weight_decay` to 0, a positive number or null.",
            )
        if not 0 <= self.dropout < 1:
            raise ConfigError(
                f"{where}: `dropout` {self.dropout} is invalid; expected a number of at least 0 and below 1.",
                fix="Set `dropout` to a number of at least 0 and below 1.",
            )
        for source, count in self.epochs.items():
            if not (math.isfinite(count) and count > 0):
                raise ConfigError(
                    f"{where}: `epochs` {count} of {source} is invalid; expected a finite number above 0.",
                    fix=f"Set `epochs` of {source} to a number above 0.",
                )
        if self.target_tokens is not None and self.target_tokens < 1:
            raise ConfigError(
                f"{where}: `target_tokens` {self.target_tokens} is invalid; expected at least 1.",
                fix="Set `target_tokens` to the tokens of the target run.",
            )
        if self.epochs and self.target_tokens is not None:
            raise ConfigError(
                f"{where}: `epochs` and `target_tokens` exclude each other, because both determine the pools.",
                fix="Remove `epochs` or `target_tokens`.",
            )

    @property
    def pooled(self) -> bool:
        """Whether the arm trains on parts of its sources."""
        return bool(self.epochs) or self.target_tokens is not None

    def optimizer(self, default: Optimizer) -> Optimizer:
        """Return the optimizer of the arm's runs, given the study's optimizer."""
        return default if self.weight_decay is None else replace(default, weight_decay=self.weight_decay)

    def available(self, tokens: Mapping[str, int], budget: int) -> dict[str, int]:
        """Return the number of tokens of each source to which a cap on epochs applies.

        With `target_tokens`, the result has the tokens of each pool. The cap applies to the target run, and this run
        has the same repetition. Otherwise the result has all tokens of each source, even if `epochs` shrinks the
        source. The arms of a comparison must take the same tokens of every source.

        Args:
            tokens: training tokens of each source.
            budget: tokens of the run.
        """
        if self.target_tokens is None:
            return dict(tokens)
        if self.target_tokens < budget:
            raise ConfigError(
                f"arm {self.name!r}: `target_tokens` {self.target_tokens:,} is invalid; expected at least the {budget:,} tokens"
                " of the run.",
                fix="Set `target_tokens` to the tokens of the target run.",
            )
        return {name: math.ceil(count * budget / self.target_tokens) for name, count in tokens.items()}

    def pools(
        self, taken: Mapping[str, float], tokens: Mapping[str, int], *, budget: int, least: int
    ) -> dict[str, int] | None:
        """Return the number of tokens of each source's pool; None if all sources are whole.

        Args:
            taken: tokens that the run takes of each source, over all stages.
            tokens: training tokens of each source, if known.
            budget: tokens of the run.
            least: minimum size of a pool in tokens: one sequence.

        Raises:
            ConfigError: a source is not in the mix or is smaller than its pool, or a pool is too small.
        """
        if not self.pooled:
            return None
        if self.epochs:
            for name in self.epochs:
                if not taken.get(name):
                    raise ConfigError(
                        f"arm {self.name!r}: epochs of {name!r} is invalid; expected a source of the arm's mix.",
                        fix=f"Remove {name!r} from `epochs`.",
                    )
            # `taken` derives from weights with 12 digits. Rounding prevents a remainder from adding a token.
            pools = {name: math.ceil(round(taken[name] / count, 3)) for name, count in self.epochs.items()}
        else:
            pools = self.available({name: tokens[name] for name in taken}, budget)
        for name, pool in pools.items():
            self._check_pool(name, pool, tokens.get(name), taken[name], least)
        return pools

    def _check_pool(self, name: str, pool: int, whole: int | None, taken: float, least: int) -> None:
        if pool < least:
            raise ConfigError(
                f"arm {self.name!r}: a pool of {pool:,} tokens of source {name!r} is invalid; expected at least"
                f" {least:,}, one sequence.",
                fix=f"Lower {'the number of epochs' if self.epochs else '`target_tokens`'}, or raise the budget.",
            )
        if whole is not None and pool > whole:
            raise ConfigError(
                f"arm {self.name!r}: a pool of {pool:,} tokens of {name} is invalid; expected at most the"
                f" {whole:,} tokens of the source. The run reads {taken:,.0f} tokens, or {taken / whole:.3g} epochs of the whole"
                " source.",
                fix=f"Start the ablation's `epochs` above {taken / whole:.3g}, or lower the budget.",
            )
