"""Derive run specs, their labels and their evaluation from arms and seeds."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from assay.config.recipe import RunSpec, StageSpec, split_steps
from assay.config.suite import EvaluationSpec
from assay.core.errors import ConfigError, NotFound
from assay.evaluate.task_check import harness_version
from assay.evaluate.task_folder import TaskFolder, digest_task_folder
from assay.evaluate.task_identity import data_identity

if TYPE_CHECKING:
    from assay.config.study import Study
    from assay.plan.mix_resolver import MixResolver

WEIGHT_DIGITS = 12
"""Number of digits to which weights are rounded in the fingerprint. The order of additions then changes no run."""


class RunSpecs:
    """The runs that a study defines, and their evaluation."""

    def __init__(
        self,
        study: Study,
        mixes: MixResolver,
        *,
        evaluation: EvaluationSpec | None = None,
        recorded: Mapping[str, RunSpec] | None = None,
    ) -> None:
        """Derive runs from a study.

        Args:
            study: declares the proxy, budget, stages and suite.
            mixes: resolves the mixes of the study.
            evaluation: the frozen evaluation of every run (default: derived from the suite).
            recorded: specs of submitted runs by arm; these arms are not derived from the study.
        """
        self.study: Final = study
        self.mixes: Final = mixes
        self._evaluation = evaluation
        self.recorded: Final = dict(recorded or {})
        self._specs = dict(self.recorded)

    # --- size

    @cached_property
    def vocabulary(self) -> int:
        """Vocabulary size: as recorded, as declared, or the largest id in the tokenizer's file plus 1."""
        if self.recorded:
            return next(iter(self.recorded.values())).vocabulary
        declared = self.study.tokenizer
        if declared.vocabulary is not None:
            return declared.vocabulary
        file = self.mixes.sources.tokenizer_file
        assert file is not None, "a tokenizer declares a vocabulary or a file"
        return file.vocabulary

    @property
    def parameters(self) -> int:
        """Number of trainable parameters of the proxy."""
        return self.study.proxy.parameters(self.vocabulary)

    @property
    def flops_per_token(self) -> float:
        """Training FLOPs of the proxy per token."""
        return self.study.proxy.flops_per_token(self.vocabulary)

    @property
    def tokens_per_step(self) -> int:
        """Number of tokens of one optimizer step."""
        return self.study.batch.sequences * self.study.proxy.sequence_length

    @property
    def steps(self) -> int:
        """Number of optimizer steps of a run: the budget in whole steps."""
        budget = self.study.budget.resolve(self.parameters)
        if budget < self.tokens_per_step:
            raise ConfigError(
                f"budget: {budget:,} tokens is invalid; expected at least {self.tokens_per_step:,}, one optimizer step.",
                fix="Raise the key of `budget` that is set (`tokens` or `tokens_per_parameter`), or lower `batch.sequences`.",
            )
        return budget // self.tokens_per_step

    @property
    def budget(self) -> int:
        """Number of tokens of a run, in whole steps."""
        return self.steps * self.tokens_per_step

    # --- runs

    def spec(self, arm: str, seed: int) -> RunSpec:
        """Return the spec of one run, which determines the run's weights."""
        if arm not in self._specs:
            self._specs[arm] = self._first_spec(arm)
        return replace(self._specs[arm], seed=seed)

    def labels(self, arm: str, seed: int) -> dict[str, Any]:
        """Return the labels of a run, which are not part of its identity."""
        sweep = self.study.require_sweep()
        about = sweep.arm(arm).about
        return {
            "sweep": sweep.name,
            "mix": arm,
            "seed": seed,
            "role": "baseline" if arm == sweep.baseline else "candidate",
            "proxy": self.study.proxy.name,
            "parameters": self.parameters,
            **({"arm": about} if about else {}),
        }

    def available(self, arm: str, names: Iterable[str]) -> dict[str, int]:
        """Return the training tokens of each tokenized source for an arm, limited to its pool."""
        tokens = self.mixes.sources.tokens(names)
        if not self.mixes.arm(arm).pooled or self.mixes.waiting(arm):
            return tokens
        with contextlib.suppress(ConfigError, NotFound):  # pools are invalid, and `plan` reports why
            pools = self.spec(arm, 0).pools or {}
            return {name: pools.get(name, count) for name, count in tokens.items()}
        return tokens

    def _first_spec(self, arm: str) -> RunSpec:
        """Return the spec for seed 0. Specs for other seeds differ in the seed only."""
        study, sources, declared = self.study, self.mixes.sources, self.mixes.arm(arm)
        stages, taken = self._stages(arm)
        used = sorted({name for stage in stages for name in stage.weights})
        return RunSpec(
            model=study.proxy,
            vocabulary=self.vocabulary,
            tokenizer=sources.tokenizer_id,
            corpora={name: sources.corpus_id(name) for name in used},
            stages=stages,
            optimizer=declared.optimizer(study.optim),
            batch_sequences=study.batch.sequences,
            seed=0,
            pools=declared.pools(
                {name: taken[name] for name in used},
                sources.tokens(used) if declared.pooled else {},
                budget=self.budget,
                least=study.proxy.sequence_length,
            ),
            dropout=declared.dropout,
        )

    def _stages(self, arm: str) -> tuple[tuple[StageSpec, ...], dict[str, float]]:
        """Return the stages of an arm, and the tokens of each source over all stages."""
        stages, taken = [], dict.fromkeys(self.study.sources, 0.0)
        for stage, steps in zip(self.study.stages, split_steps(self.study.stages, self.steps), strict=True):
            tokens = steps * self.tokens_per_step
            weights = self.mixes.weights(stage.mix or arm, tokens, budget=self.budget, taken=taken, arm=arm)
            for name, weight in weights.items():
                taken[name] += weight * steps * self.tokens_per_step
            rounded = {name: round(weight, WEIGHT_DIGITS) for name, weight in weights.items()}
            stages.append(StageSpec(name=stage.name, weights=rounded, steps=steps, anneal=stage.anneal))
        return tuple(stages), taken

    # --- evaluation

    @cached_property
    def evaluation(self) -> EvaluationSpec:
        """The evaluation of every run of the sweep. All arms have the same evaluation."""
        if self._evaluation is not None:
            return self._evaluation
        suite, mirror, sources = self.study.suite, self.study.paths.mirror, self.mixes.sources
        held_out = self.mixes.sweep_sources if suite.validation_bytes else ()
        tasks = self.task_folder
        data = data_identity([task.task for task in suite.tasks], mirror=mirror, tasks=tasks)
        return EvaluationSpec(
            tasks=suite.tasks,
            batch_size=suite.batch_size,
            validation_bytes=suite.validation_bytes,
            validation={name: sources.corpus_id(name) for name in held_out},
            harness=harness_version(),
            datasets=data.datasets,
            encoding=sources.prompt_encoding,
            task_files=None if tasks is None else digest_task_folder(tasks.path, root=tasks.root),
            data_sets=data.data_sets,
        )

    @property
    def task_folder(self) -> TaskFolder | None:
        """The suite's own task definitions, in the project.

        Raises:
            ConfigError: the folder contains the store. Every run would then change the digest of the folder.
        """
        folder, paths = self.study.task_folder, self.study.paths
        if folder is None:
            return None
        if paths.resolve(paths.store).resolve().is_relative_to(folder.resolve()):
            raise ConfigError(
                f"suite.include_path: {folder} contains the store, which changes with every run.",
                fix="Set include_path to a folder that contains only task definitions and their data.",
            )
        return TaskFolder(folder, Path(paths.root).absolute())

    @property
    def evaluation_is_frozen(self) -> bool:
        """Whether a submission or registration fixed the evaluation, so that the suite's current files have no effect."""
        return self._evaluation is not None
