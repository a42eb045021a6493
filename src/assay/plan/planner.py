"""Plan a sweep: runs to reuse, runs to train, and refused runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from assay.config.mixes import epochs
from assay.config.one_arm_sources import one_arm_reasons
from assay.config.reason import Code, Reason
from assay.config.recipe import RunSpec
from assay.config.suite import VALIDATION
from assay.core.errors import AssayError, ConfigError, did_you_mean
from assay.evaluate.task_check import check_tasks
from assay.plan.mix_check import check_mixes
from assay.plan.plan import Plan, StoredRun, make_plan
from assay.plan.seed_stages import current_stages, held_runs, recorded, stages_of
from assay.plan.speed import estimate_speed
from assay.plan.tokenizer_check import check_tokenizer
from assay.store.runs import RunDirectory

if TYPE_CHECKING:
    from assay.plan.run_specs import RunSpecs
    from assay.store.runs import Store


class Planner:
    """The planner of a study's sweep."""

    def __init__(self, runs: RunSpecs, store: Store) -> None:
        """Plan the runs of a study against the records of a store."""
        self.study: Final = runs.study
        self.mixes: Final = runs.mixes
        self.runs: Final = runs
        self.store: Final = store

    def plan(self, *, retry_failed: bool = False) -> Plan:
        """Return the plan of the runs that the sweep still needs, without starting a run."""
        return self._plan(read_runs=True, retry_failed=retry_failed)

    def outline(self) -> Plan:
        """Plan the sweep as if no run had started.

        Use this function if the caller reads the state of each run itself. The function does not read run folders.
        Reading thousands of run folders takes half of the time of `plan`.
        """
        return self._plan(read_runs=False, retry_failed=False)

    def _plan(self, *, read_runs: bool, retry_failed: bool) -> Plan:
        sweep = self.study.require_sweep()
        if not self.runs.evaluation_is_frozen:
            check_tasks([task.task for task in self.study.suite.tasks], include_path=self.study.task_folder)
        self._check_policy()
        refusals = {mix: self.refusals(mix) for mix in sweep.mixes}
        unknown = [mix for mix in sweep.mixes if not refusals[mix] and mix not in self.runs.recorded]
        waiting = {mix: reason for mix in unknown if (reason := self.mixes.waiting(mix))}
        ready = [mix for mix in sweep.mixes if not refusals[mix] and mix not in waiting]
        specs = {(mix, seed): self.runs.spec(mix, seed) for mix in ready for seed in sweep.seeds}
        evaluation = self.runs.evaluation.fingerprint if specs else ""
        runs = [self.store.run(spec.fingerprint) for spec in specs.values()] if read_runs else []
        stages = stages_of(self.study.policy, sweep)
        current = current_stages(self.study.policy, sweep, specs, evaluation, recorded(self.store, sweep))
        plan = make_plan(
            sweep,
            specs=specs,
            refusals=refusals,
            waiting=waiting,
            known={run.fingerprint: _known(run, evaluation) for run in runs if run.path.is_dir()},
            evaluation=evaluation,
            tokens=self.runs.budget,
            speed=estimate_speed(self.runs, self.store),
            workers=self.study.cluster.width,
            retry_failed=retry_failed,
            tainted={mix: self.mixes.tainted(mix) for mix in sweep.mixes if not refusals[mix]},
            warnings=[
                *self._warnings(specs),
                *self._evidence_warnings(),
                *(check_mixes(self.mixes, {mix: specs[mix, sweep.seeds[0]] for mix in ready}) if read_runs else ()),
                *self._unscored_steps(specs.values() if read_runs else (), evaluation),
                *self._listing_notes(),
            ],
            average=self.study.policy.average,
            held={} if stages is None else held_runs(current, sweep, stages),
        )
        return replace(plan, warnings=(*self._check_tokenizer(plan), *plan.warnings)) if read_runs else plan

    def _check_tokenizer(self, plan: Plan) -> list[Reason]:
        """Check the tokenizer for the runs to train. Finished runs keep their results.

        Raises:
            AssayError: the tokenizer is refused, and runs are left to train.
        """
        try:
            return check_tokenizer(self.mixes.sources, self.mixes.sweep_sources)
        except AssayError as error:
            if plan.of("todo"):
                raise
            message = str(error).replace("\n", " ")
            return [Reason(code=Code.TOKENIZER_REFUSED, subject=self.study.tokenizer.name, figures={"error": message})]

    def refusals(self, arm: str) -> list[Reason]:
        """Return why an arm may not be trained: uncleared or missing sources, or invalid weights."""
        refusals = self.mixes.source_refusals(arm)
        if not refusals and arm not in self.runs.recorded and not self.mixes.waiting(arm):
            try:
                self.runs.spec(arm, 0)
            except AssayError as error:
                message = str(error).replace("\n", " ")
                refusals.append(Reason(code=Code.SPEC_INVALID, subject=arm, figures={"error": message}))
        return refusals

    def _check_policy(self) -> None:
        """Raise an error for a policy that needs metrics that the suite does not measure."""
        policy, suite = self.study.policy, self.study.suite
        names = {name for mix in self.mixes.sweep_mixes for name in self.mixes.source_names(mix)}
        held_out = {f"{VALIDATION}{name}" for name in names | set(self.mixes.validation_sources)}
        tasks = {task.task for task in suite.tasks}
        for name in policy.voting_tasks:
            known = held_out | tasks if suite.validation_bytes else tasks
            part = any(name.startswith(f"{task}_") for task in tasks)
            source = name.removeprefix(VALIDATION)
            if suite.validation_bytes and source in (refused := self.mixes.validation_refusals):
                why = "; ".join(str(reason.figures.get("error") or reason.code) for reason in refused[source])
                raise ConfigError(
                    f"policy {policy.name!r}: task {name!r} is invalid; source {source!r} cannot be measured: {why}.",
                    fix="Correct the declaration of the source, or select another policy.",
                )
            if name not in known and not part:
                raise ConfigError(
                    f"policy {policy.name!r}: task {name!r} is invalid; suite {suite.name!r} does not measure it for this"
                    f" sweep. {did_you_mean(name, known)}",
                    fix="Select another policy or suite with policy=NAME or suite=NAME.",
                )

    def _warnings(self, specs: Mapping[tuple[str, int], RunSpec]) -> list[Reason]:
        """Warn about arms that equal the baseline, and about sources with too many epochs."""
        warnings = []
        sweep, first = self.study.require_sweep(), self.study.require_sweep().seeds[0]
        for mix in sweep.mixes:
            spec = specs.get((mix, first))
            if spec is None:
                continue
            if mix != sweep.baseline and spec == specs.get((sweep.baseline, first)):
                figures = {"baseline": sweep.baseline}
                warnings.append(Reason(code=Code.SAME_AS_BASELINE, subject=mix, figures=figures))
            taken: dict[str, float] = {}
            for stage in spec.stages:
                for name, weight in stage.weights.items():
                    taken[name] = taken.get(name, 0.0) + weight * stage.steps * spec.tokens_per_step
            available = {**self.mixes.sources.tokens(taken), **(spec.pools or {})}
            for name, count in epochs(taken, 1, available).items():
                # Up to about 4 epochs, repeated text is nearly as good as fresh text (arXiv 2305.16264).
                if count > 4 and name not in self.mixes.arm(mix).epochs:
                    repeats = {"mix": mix, "epochs": count}
                    warnings.append(Reason(code=Code.MANY_EPOCHS, subject=name, figures=repeats))
        return warnings

    def _listing_notes(self) -> list[Reason]:
        """Warn about skipped files that the patterns of the sweep's sources match."""
        names = sorted({name for mix in self.mixes.sweep_mixes for name in self.mixes.source_names(mix)})
        return [note for name in names for note in self.mixes.sources.listing_notes(name)]

    def _evidence_warnings(self) -> list[Reason]:
        """Warn about metrics that depend on which arm trains on a source, and about sources that cannot be measured."""
        sweep = self.study.require_sweep()
        trained = {mix: self.mixes.trained_sources(mix) for mix in sweep.mixes}
        warnings = [
            reason
            for mix in sweep.candidates
            for reason in one_arm_reasons(self.study.policy, trained, sweep.control(mix), mix)
        ]
        if self.study.suite.validation_bytes:
            warnings += [
                Reason(code=Code.VALIDATION_SOURCE_UNUSED, subject=name, causes=tuple(why))
                for name, why in self.mixes.validation_refusals.items()
            ]
        return warnings

    def _unscored_steps(self, specs: Iterable[RunSpec], evaluation: str) -> list[Reason]:
        """Warn about missing interim evaluations of trained runs that can no longer be made.

        The intermediate weights of these runs no longer exist.
        """
        lacking: dict[str, int] = {}
        for spec in {spec.fingerprint: spec for spec in specs}.values() if self.study.interim_fractions else ():
            run = self.store.run(spec.fingerprint)
            if not run.trained:
                continue
            for step in spec.steps_at(self.study.interim_fractions):
                interim, fraction = run.interim(step), f"{step / spec.steps:.0%}"
                if not (interim.has_weights or interim.evaluated(evaluation)):
                    lacking[fraction] = lacking.get(fraction, 0) + 1
        if not lacking:
            return []
        figures = {"runs": lacking, "last": self.study.policy.average.last}
        return [Reason(code=Code.INTERIM_SCORES_LOST, figures=figures)]


def _known(run: RunDirectory, evaluation: str) -> StoredRun:
    status = run.status()
    evaluated = run.evaluated(evaluation)
    failure = f"{status.failure.kind}: {status.failure.message}" if status.failure else None
    claimed = not evaluated and run.claimed
    state = status.state
    if status.active and not claimed:
        state = "queued"  # no worker holds the run, which resumes from its last checkpoint
    return StoredRun(
        state=state,
        claimed=claimed,
        trained=evaluated or run.trained,
        evaluated=evaluated,
        failure=failure if status.ended else None,
    )
