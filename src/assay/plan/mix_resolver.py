"""Resolve mixes and arms to sources, weights, and reasons why training is not allowed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Final

from assay.config.arms import Arm
from assay.config.mixes import Mix, cap_epochs, cap_of, counted_names, names_of, natural_names, resolve
from assay.config.reason import Code, Reason
from assay.core.errors import NotFound

if TYPE_CHECKING:
    from assay.config.study import Study
    from assay.plan.source_index import SourceIndex


class MixResolver:
    """The mixes of a study and the arms of its sweep, resolved against indexed sources."""

    def __init__(self, study: Study, sources: SourceIndex) -> None:
        """Resolve the mixes of a study with the digests and token counts of an index."""
        self.study: Final = study
        self.sources: Final = sources

    # --- mixes

    def source_names(self, mix: str) -> tuple[str, ...]:
        """Return the names of a mix's sources, which do not depend on token counts."""
        return names_of(mix, self.study.mixes, self.study.sources)

    def missing_counts(self, mix: str) -> bool:
        """Whether the weights of a mix depend on token counts that are not known yet."""
        counted = counted_names(mix, self.study.mixes, self.study.sources)
        return len(self.sources.tokens(counted)) < len(counted)

    def resolve(self, name: str) -> Mix:
        """Return a declared mix with its weights.

        Raises:
            ConfigError: the declaration is invalid, or natural proportions need sources that are not tokenized.
        """
        counted = counted_names(name, self.study.mixes, self.study.sources)
        # The weights are the same for any number of tokens of the others. Placeholders keep them free of rounding errors that
        # would depend on whether these sources are tokenized.
        others = dict.fromkeys(natural_names(name, self.study.mixes, self.study.sources), 1)
        tokens = {name: count for name, count in others.items() if name not in counted} | self.sources.tokens(counted)
        return resolve(name, self.study.mixes, self.study.sources, tokens=tokens)

    def weights(
        self,
        name: str,
        tokens: int,
        *,
        budget: int,
        taken: Mapping[str, float] | None = None,
        arm: str | None = None,
    ) -> dict[str, float]:
        """Return the weights of a mix under its cap on epochs.

        Args:
            name: the mix.
            tokens: tokens of the stage that trains on the mix.
            budget: tokens of the whole run.
            taken: tokens by source that earlier stages take.
            arm: the arm of the run (default: the arm with the mix's name).
        """
        mix = self.resolve(name)
        if mix.max_epochs is None:
            return mix.weights
        known = self.sources.tokens(mix.weights)
        unknown = [source for source in mix.weights if source not in known]
        if unknown:
            raise NotFound(
                f"mix {name!r}: max_epochs needs the tokens of {', '.join(unknown)}, which are not tokenized.",
                fix="Run `assay prepare` with the same arguments, or `assay submit`, which prepares the corpora.",
            )
        return cap_epochs(mix, tokens, self.arm(arm or name).available(known, budget), taken)

    # --- arms

    def arm(self, name: str) -> Arm:
        """Return an arm of the sweep.

        A mix without an entry in `arms` becomes an arm that changes only the mix.
        """
        return Arm(name=name) if self.study.sweep is None else self.study.sweep.arm(name)

    def arm_sources(self, arm: str) -> list[str]:
        """Return the sources that determine an arm's weights, from its stages and the tokenizer."""
        return sorted(self.trained_sources(arm) | set(self.sources.tokenizer.sources))

    def source_refusals(self, arm: str) -> list[Reason]:
        """Return why training may not use an arm's sources."""
        trained = self.arm_sources(arm)
        counted = self._needed_counts(self._stage_mixes(arm), [arm]).difference(trained)
        uncounted = counted.difference(
            self.sources.tokens(counted)
        )  # a source that is not trained on need not be cleared
        return [refusal for name in (*trained, *sorted(uncounted)) for refusal in self.sources.refusals(name)]

    def blocks(self, arm: str) -> tuple[Reason, ...]:
        """Return why an arm's sources may not be used: clearance, or unwaived defects."""
        return tuple(reason for name in self.arm_sources(arm) for reason in self.sources.blocks(name))

    def tainted(self, arm: str) -> list[Reason]:
        """Return the unwaived defects of an arm's sources, and finding records that cannot be read."""
        clearance = {Code.SOURCE_BLOCKED, Code.SOURCE_PENDING}
        return [reason for reason in self.blocks(arm) if reason.code not in clearance]

    def waiting(self, arm: str) -> Reason | None:
        """Return the reason why an arm's weights or pools are not known before tokenization; None if they are known."""
        names = self._needed_counts(self._stage_mixes(arm), [arm])
        unknown = sorted(names - self.sources.tokens(names).keys())
        if not unknown:
            return None
        figures = {"sources": unknown, "pools": self.arm(arm).pooled}
        return Reason(code=Code.WAITING_FOR_TOKENS, subject=arm, figures=figures)

    def _stage_mixes(self, arm: str) -> list[str]:
        return [stage.mix or arm for stage in self.study.stages]

    def trained_sources(self, arm: str) -> set[str]:
        """Return the sources that an arm trains on in any stage."""
        return {name for mix in self._stage_mixes(arm) for name in self.source_names(mix)}

    # --- the sweep

    @cached_property
    def sweep_mixes(self) -> tuple[str, ...]:
        """The mixes that the arms and stages of the sweep use."""
        fixed = (stage.mix for stage in self.study.stages if stage.mix is not None)
        return tuple(dict.fromkeys([*self.study.require_sweep().mixes, *fixed]))

    @cached_property
    def sweep_sources(self) -> tuple[str, ...]:
        """The sources of the tokenizer and of all permitted arms, and sources with `role: validation`.

        The sweep trains on these sources or evaluates on them.
        """
        arms = [arm for arm in self.study.require_sweep().mixes if not self.source_refusals(arm)]
        used = {name for arm in arms for name in self.trained_sources(arm)}
        return tuple(sorted(used | set(self.sources.tokenizer.sources) | set(self.validation_sources)))

    @cached_property
    def validation_sources(self) -> tuple[str, ...]:
        """Usable sources with `role: validation`."""
        return tuple(name for name in self._declared_for_validation if not self.sources.refusals(name))

    @cached_property
    def validation_refusals(self) -> dict[str, list[Reason]]:
        """Why sources with `role: validation` cannot be measured, by source."""
        refusals = {name: self.sources.refusals(name) for name in self._declared_for_validation}
        return {name: why for name, why in refusals.items() if why}

    @property
    def _declared_for_validation(self) -> list[str]:
        return [name for name, source in self.study.sources.items() if source.role == "validation"]

    @cached_property
    def prepared_sources(self) -> tuple[str, ...]:
        """Sources to tokenize: those of the sweep, and cleared sources whose token counts determine weights or pools."""
        return tuple(sorted({*self.sweep_sources, *self._cleared_counts()}))

    def untokenized(self) -> list[str]:
        """Return the cleared sources to tokenize before weights and pools are known."""
        cleared = self._cleared_counts()
        return sorted(cleared - self.sources.tokens(cleared).keys())

    def _cleared_counts(self) -> set[str]:
        names = self._needed_counts(self.sweep_mixes, self.study.require_sweep().mixes)
        return {name for name in names if self.sources.uncleared(name) is None}

    def _needed_counts(self, mixes: Iterable[str], arms: Iterable[str]) -> set[str]:
        """Return the sources whose token count determines weights of mixes or pools of arms."""
        mixes = tuple(mixes)
        natural = {name for mix in mixes for name in counted_names(mix, self.study.mixes, self.study.sources)}
        capped = {name for mix in mixes if cap_of(mix, self.study.mixes) is not None for name in self.source_names(mix)}
        return natural | capped | {name for arm in arms for name in self._pooled_sources(arm)}

    def _pooled_sources(self, name: str) -> set[str]:
        arm = self.arm(name)
        return set(arm.epochs) if arm.target_tokens is None else self.trained_sources(name)
