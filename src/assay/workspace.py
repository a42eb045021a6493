"""A study on this machine, and what its store already has: from these a sweep's plan is made."""

from __future__ import annotations

import contextlib
import statistics
from collections.abc import Mapping

from assay.errors import AssayError, did_you_mean
from assay.evaluate.harness import check_tasks
from assay.files import read_json, write_json
from assay.identities import Identities, Progress
from assay.mixes import epochs
from assay.plan import Known, Plan, Speed, make_plan
from assay.recipe import RunSpec
from assay.store import ACTIVE, ENDED, RunDirectory
from assay.suite import VALIDATION

__all__ = ["Progress", "Workspace"]


class Workspace(Identities):
    """A study, its store, and what is left to be done."""

    def plan(self, *, retry_failed: bool = False) -> Plan:
        """What the sweep still needs; nothing is started."""
        sweep = self.study.require_sweep()
        check_tasks([task.task for task in self.study.suite.tasks])
        self._check_policy()
        refusals = {mix: self.refusals(mix) for mix in sweep.mixes}
        waiting = {mix: reason for mix in sweep.mixes if not refusals[mix] and (reason := self.waiting(mix))}
        ready = [mix for mix in sweep.mixes if not refusals[mix] and mix not in waiting]
        specs = {(mix, seed): self.spec(mix, seed) for mix in ready for seed in sweep.seeds}
        evaluation = self.evaluation.fingerprint if specs else ""
        runs = {spec.fingerprint: self.store.run(spec.fingerprint) for spec in specs.values()}
        known = {key: _known(run, evaluation) for key, run in runs.items() if run.path.exists()}
        return make_plan(
            sweep,
            specs=specs,
            refusals=refusals,
            waiting=waiting,
            known=known,
            evaluation=evaluation,
            tokens=self.budget,
            speed=self.speed(),
            workers=self.study.cluster.width,
            retry_failed=retry_failed,
            warnings=self._warnings(specs),
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
            for name, count in epochs(taken, 1, self.tokens_of(taken)).items():
                if count > 4:  # up to about 4 epochs repeated text is nearly as good as fresh (arXiv 2305.16264)
                    found.append(f"{mix}: {name} is gone through {count:.1f} times; beyond 4 it teaches less.")
        return found

    def speed(self) -> Speed:
        """What a run of this proxy costs here, from runs in the store; by operations where only others ran."""
        mine = self.study.proxy.flops_per_token(self.vocabulary)
        same, other, evaluations = [], [], []
        for run in self.store.runs():
            status = run.status()
            if not status.tokens or not status.train_seconds:
                continue
            try:
                spec = run.spec()
            except AssayError:
                continue  # a damaged record of some other sweep is no reason not to plan this one
            rate = status.tokens / status.train_seconds
            flops = spec.model.flops_per_token(spec.vocabulary)
            if (spec.model, spec.vocabulary, spec.batch_sequences) == (
                self.study.proxy,
                self.vocabulary,
                self.study.batch.sequences,
            ):
                same.append(rate)
                if status.evaluate_seconds:
                    evaluations.append(status.evaluate_seconds)
            else:
                other.append(rate * flops / mine)
        evaluate = statistics.median(evaluations) if evaluations else None
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

    def remember_speed(self, tokens_per_second: float) -> None:
        """Keep how fast this machine trained the proxy for a moment, for plans made before the first run."""
        flops = self.study.proxy.flops_per_token(self.vocabulary)
        write_json(self.store.speed, {"tokens_per_second": tokens_per_second, "flops_per_token": flops})


def _known(run: RunDirectory, evaluation: str) -> Known:
    status = run.status()
    failure = f"{status.failure.kind}: {status.failure.message}" if status.failure else None
    claimed = run.claimed
    state = status.state
    if state in ACTIVE and not claimed:
        state = "queued"  # whoever worked on it is gone; it goes on from its last checkpoint
    return Known(
        state=state,
        claimed=claimed,
        trained=(run.model / "model.safetensors").exists(),
        evaluated=run.evaluated(evaluation),
        failure=failure if status.state in ENDED else None,
    )
