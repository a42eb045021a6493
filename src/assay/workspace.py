"""A study on this machine, and what its store already has: from these a sweep's plan is made."""

from __future__ import annotations

import contextlib
import itertools
import statistics
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from assay.errors import AssayError, did_you_mean
from assay.evaluate.harness import check_tasks
from assay.files import read_json, write_json
from assay.identities import Identities, Progress
from assay.mixes import epochs
from assay.plan import Known, Plan, Speed, make_plan
from assay.recipe import RunSpec
from assay.store import ACTIVE, ENDED, RunDirectory, Status
from assay.suite import VALIDATION

if TYPE_CHECKING:
    from assay.study import Study
    from assay.suite import EvaluationSpec

__all__ = ["Progress", "Workspace"]


SAMPLE = 50
"""Runs of one proxy that its speed is taken from; the newest, since machines change."""
LOOKED_AT = 300
"""Runs of any proxy that are looked at for them: 0.1 s, however many thousands the store has."""


class Workspace(Identities):
    """A study, its store, and what is left to be done."""

    def judged_by(self, study: Study, evaluation: EvaluationSpec) -> Workspace:
        """The same sources and store under a study with another policy and suite, and an evaluation that is fixed."""
        return Workspace(study, digests=self._digests, evaluation=evaluation)

    def plan(self, *, retry_failed: bool = False) -> Plan:
        """What the sweep still needs; nothing is started."""
        return self._plan(look=True, retry_failed=retry_failed)

    def outline(self) -> Plan:
        """The sweep's runs as if none had ever been begun, for those who then look themselves where each one stands.

        It costs no look at their folders: the other half of the work of `plan`, where there are thousands.
        """
        return self._plan(look=False, retry_failed=False)

    def _plan(self, *, look: bool, retry_failed: bool) -> Plan:
        sweep = self.study.require_sweep()
        check_tasks([task.task for task in self.study.suite.tasks])
        self._check_policy()
        refusals = {mix: self.refusals(mix) for mix in sweep.mixes}
        waiting = {mix: reason for mix in sweep.mixes if not refusals[mix] and (reason := self.waiting(mix))}
        ready = [mix for mix in sweep.mixes if not refusals[mix] and mix not in waiting]
        specs = {(mix, seed): self.spec(mix, seed) for mix in ready for seed in sweep.seeds}
        evaluation = self.evaluation.fingerprint if specs else ""
        runs = [self.store.run(spec.fingerprint) for spec in specs.values()] if look else []
        return make_plan(
            sweep,
            specs=specs,
            refusals=refusals,
            waiting=waiting,
            known={run.fingerprint: _known(run, evaluation) for run in runs if run.path.is_dir()},
            evaluation=evaluation,
            tokens=self.budget,
            speed=self.speed(),
            workers=self.study.cluster.width,
            retry_failed=retry_failed,
            tainted={mix: [(t.sentence, t.fix) for t in self.tainted(mix)] for mix in sweep.mixes if not refusals[mix]},
            warnings=[*self._warnings(specs), *self._unseen(specs.values() if look else (), evaluation)],
            average=self.study.policy.average,
        )

    def refusals(self, mix: str) -> list[str]:
        """Why a mix may not be trained: sources that are not cleared or not there, weights that cannot be met."""
        found = self._source_refusals(mix)
        if not found and not self.waiting(mix):
            try:
                self.spec(mix, 0)
            except AssayError as error:
                found.append(str(error).replace("\n", " "))
        return found

    def _check_policy(self) -> None:
        """Refuse a policy that asks for what the suite never measures, before anything is trained for it."""
        policy, suite = self.study.policy, self.study.suite
        held_out = {f"{VALIDATION}{name}" for mix in self._mixes_used for name in self.names(mix)}
        tasks = {task.task for task in suite.tasks}
        for criterion in (*policy.primary, *policy.guardrails):
            known = held_out | tasks if suite.validation_bytes else tasks
            part = any(criterion.task.startswith(f"{task}_") for task in tasks)
            if criterion.task not in known and not part:
                raise AssayError(
                    f"policy {policy.name!r} asks for {criterion.task}, which suite {suite.name!r} does not measure "
                    f"for this sweep. {did_you_mean(criterion.task, known)}",
                    fix="Choose another policy or suite: policy=NAME, suite=NAME.",
                )

    def _warnings(self, specs: Mapping[tuple[str, int], RunSpec]) -> list[str]:
        found = []
        sweep, first = self.study.require_sweep(), self.study.require_sweep().seeds[0]
        for mix in sweep.mixes:
            spec = specs.get((mix, first))
            if spec is None:
                continue
            if mix != sweep.baseline and spec == specs.get((sweep.baseline, first)):
                found.append(f"{mix} ends with the weights of {sweep.baseline}: its runs are the baseline's own.")
            taken: dict[str, float] = {}
            for stage in spec.stages:
                for name, weight in stage.weights.items():
                    taken[name] = taken.get(name, 0.0) + weight * stage.steps * spec.tokens_per_step
            available = {**self.tokens_of(taken), **(spec.pools or {})}
            for name, count in epochs(taken, 1, available).items():
                # Up to about 4 epochs repeated text is nearly as good as fresh (arXiv 2305.16264).
                if count > 4 and name not in self.arm(mix).epochs:
                    found.append(f"{mix}: {name} is gone through {count:.1f} times; beyond 4 it teaches less.")
        return found

    def _unseen(self, specs: Iterable[RunSpec], evaluation: str) -> list[str]:
        """In words, the looks that nobody can take any more: their runs are trained, and what they were on the way is gone."""
        lacking: dict[str, int] = {}
        for spec in {spec.fingerprint: spec for spec in specs}.values() if self.study.looks else ():
            run = self.store.run(spec.fingerprint)
            if not (run.model / "model.safetensors").exists():
                continue
            for step in spec.steps_at(self.study.looks):
                look, share = run.look(step), f"{step / spec.steps:.0%}"
                if not (look.kept or look.evaluated(evaluation)):
                    lacking[share] = lacking.get(share, 0) + 1
        if not lacking:
            return []
        last = self.study.policy.average.last
        means = (
            f" The policy averages the last {last} checkpoints, and leaves runs out that lack one." if last > 1 else ""
        )
        counts = ", ".join(f"{count} lack the look at {share}" for share, count in lacking.items())
        again = "To have them trained again, move their folders out of the store."
        return [
            f"Runs that were trained without being looked at have only their final scores: {counts}.{means} {again}"
        ]

    def speed(self) -> Speed:
        """What a run of this proxy costs here, from the newest runs of the store; by operations where only others ran."""
        mine = self.study.proxy.flops_per_token(self.vocabulary)
        shape = (self.study.proxy, self.vocabulary, self.study.batch.sequences)
        same, other, evaluations = [], [], []
        for status, spec in itertools.islice(self._measured(), LOOKED_AT):
            rate = status.tokens / status.train_seconds
            if (spec.model, spec.vocabulary, spec.batch_sequences) == shape:
                same.append(rate)
                if status.evaluate_seconds:
                    evaluations.append(status.evaluate_seconds / (1 + len(self.store.run(spec.fingerprint).looks())))
            else:
                other.append(rate * spec.model.flops_per_token(spec.vocabulary) / mine)
            if len(same) == SAMPLE:
                break
        evaluate = statistics.median(evaluations) * (1 + len(self.study.looks)) if evaluations else None
        if same:
            return Speed(statistics.median(same), evaluate, f"measured on {len(same)} runs of this proxy")
        if other:
            return Speed(
                statistics.median(other), evaluate, f"scaled by operations from {len(other)} runs of other proxies"
            )
        with contextlib.suppress(FileNotFoundError, AssayError):
            tried = read_json(self.store.speed)
            rate = tried["tokens_per_second"] * tried["flops_per_token"] / mine
            return Speed(rate, None, "measured by `assay doctor`, without evaluation")
        return Speed(None, None, "no run has been measured in this store yet")

    def _measured(self) -> Iterator[tuple[Status, RunSpec]]:
        """Runs whose training was timed, the newest first."""
        for run in self.store.newest():
            status = run.status()
            if status.tokens and status.train_seconds:
                # A damaged record of some other sweep is no reason not to plan this one.
                with contextlib.suppress(FileNotFoundError, AssayError, KeyError, TypeError):
                    yield status, run.spec()

    def finished(self) -> Iterator[tuple[RunDirectory, RunSpec]]:
        """The newest runs of the store that trained to their end, of any sweep and proxy."""
        for status, spec in itertools.islice(self._measured(), LOOKED_AT):
            if status.state == "done":
                yield self.store.run(spec.fingerprint), spec

    def alike(self, spec: RunSpec) -> bool:
        """Whether a run's noise is what the study's runs will have: the same proxy, budget and optimiser.

        Weight decay may differ, as between the arms of an ablation.
        """
        mine = (self.study.proxy, self.vocabulary, self.study.batch.sequences, self.steps, self.study.optim)
        optimiser = replace(spec.optimiser, weight_decay=self.study.optim.weight_decay)
        return mine == (spec.model, spec.vocabulary, spec.batch_sequences, spec.steps, optimiser)

    def remember_speed(self, tokens_per_second: float) -> None:
        """Keep how fast this machine trained the proxy for a moment, for plans made before the first run."""
        flops = self.study.proxy.flops_per_token(self.vocabulary)
        write_json(self.store.speed, {"tokens_per_second": tokens_per_second, "flops_per_token": flops})


def _known(run: RunDirectory, evaluation: str) -> Known:
    status = run.status()
    evaluated = run.evaluated(evaluation)
    failure = f"{status.failure.kind}: {status.failure.message}" if status.failure else None
    claimed = not evaluated and run.claimed
    state = status.state
    if state in ACTIVE and not claimed:
        state = "queued"  # whoever worked on it is gone; it goes on from its last checkpoint
    return Known(
        state=state,
        claimed=claimed,
        trained=evaluated or (run.model / "model.safetensors").exists(),
        evaluated=evaluated,
        failure=failure if status.state in ENDED else None,
    )
