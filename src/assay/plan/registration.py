"""Register a sweep's policy and suite at its first submission, before results exist.

The error rate of a verdict holds only for rules that were chosen before the results were seen. The first submission
therefore records the rules. Every verdict of the sweep uses the recorded rules, even if the configuration changes
later::

    sweeps/<name>/registered.json       all registrations of the sweep, oldest first; the last registration applies

Before any result exists, a submission with other rules registers the new rules. Afterwards a change needs a reason, and
every verdict by the new rules is marked as changed after the results.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from assay.config.policy import Policy
from assay.config.reason import Code, Reason
from assay.config.suite import EvaluationSpec, Suite
from assay.core.errors import AssayError, ConfigError, Damaged, NotFound, Refused
from assay.core.files import exclusive, read_json, write_json
from assay.core.fingerprint import differences
from assay.core.serde import from_record, to_mapping

if TYPE_CHECKING:
    from pathlib import Path

    from assay.plan.plan import Plan
    from assay.plan.workspace import Workspace
    from assay.store.runs import Store

FILE = "registered.json"
LISTED = 6
"""Maximum number of keys, runs or arms that a sentence lists."""

State = Literal["pre-registered", "registered after the results", "changed after the results", "not pre-registered"]


@dataclass(frozen=True, kw_only=True)
class Rules:
    """The rules that determine a sweep's verdict."""

    policy: Policy
    """Requirements of the gate."""
    suite: str
    """Name of the suite. The suite's tasks are part of `evaluation`."""
    evaluation: EvaluationSpec
    """Evaluation of every run."""

    @classmethod
    def of(cls, workspace: Workspace) -> Rules:
        """Return the rules of the configuration."""
        study = workspace.study
        return cls(policy=study.policy, suite=study.suite.name, evaluation=workspace.runs.evaluation)

    def differences(self, later: Rules, *, additions: bool = False) -> tuple[str, ...]:
        """List the keys whose values differ in later rules, with both values.

        The comparison ignores names. It also ignores held-out splits that only one of the two rules measures, because
        the splits change with the arms of the sweep. A change of a source's text is a difference.

        Args:
            later: the later rules.
            additions: whether additional tasks without a vote are differences. Such tasks change no verdict.
        """
        before, after = self._plain(), later._plain()
        shared = before["suite"]["validation"].keys() & after["suite"]["validation"].keys()
        for plain in (before, after):
            splits = plain["suite"]["validation"]
            plain["suite"]["validation"] = {name: splits[name] for name in shared}
        if not additions:
            _drop_monitors(before["suite"], after["suite"], later.policy)
        return tuple(
            f"{difference.path} {_value(difference.left)} -> {_value(difference.right)}"
            for difference in differences(before, after)
        )

    def _plain(self) -> dict[str, Any]:
        policy: dict[str, Any] = to_mapping(self.policy)
        del policy["name"]
        return {"policy": policy, "suite": to_mapping(self.evaluation)}


def _drop_monitors(before: dict[str, Any], after: dict[str, Any], policy: Policy) -> None:
    """Remove from the later suite its additional tasks without a vote, and the data sets of these tasks."""
    known, every = {task["task"] for task in before["tasks"]}, after["tasks"]
    voting = policy.voting_tasks
    after["tasks"] = [
        task
        for task in every
        if task["task"] in known or any(f"{name}_".startswith(f"{task['task']}_") for name in voting)
    ]
    if len(after["tasks"]) == len(every):
        return
    sets = after["data_sets"] or {}
    after["data_sets"] = {name: sets[name] for name in sets if name in (before["data_sets"] or {})} or None
    if not known:  # without tasks, no data set was read
        after["datasets"] = before["datasets"]


@dataclass(frozen=True, kw_only=True)
class Registration:
    """A record of the rules of a sweep at one time."""

    at: float
    """Seconds since the epoch."""
    code: str
    """Digest of assay's code at the registration."""
    rules: Rules
    """The registered rules."""
    baseline: str
    """Baseline of the sweep."""
    candidates: tuple[str, ...]
    """Candidates of the sweep."""
    seeds: tuple[int, ...]
    """Seeds of the sweep."""
    runs: dict[str, str]
    """Fingerprints of the candidates' runs by label, such as `more_web s0`."""
    results: tuple[str, ...]
    """Labels of runs with scores at the time of registration. The runs belong to this or an earlier registration."""
    reason: str | None = None
    """Reason for a change after results existed; None without such a change."""

    @property
    def day(self) -> str:
        """Time of the registration in UTC, to the minute."""
        return datetime.datetime.fromtimestamp(self.at, datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")

    def adds(self, later: Registration) -> tuple[str, ...]:
        """List the arms and seeds that a later registration adds."""
        arms = [name for name in later.candidates if name not in self.candidates]
        return (*arms, *(f"seed {seed}" for seed in later.seeds if seed not in self.seeds))


@dataclass(frozen=True, kw_only=True)
class RegistrationState:
    """The relation of a verdict's rules to the registered rules."""

    state: State
    """State of the registration in one phrase, for display."""
    reasons: tuple[Reason, ...]
    """Reasons that explain the state, with dates and keys."""
    changed: tuple[str, ...] = ()
    """Keys in which the verdict's rules differ from the rules registered before the results."""
    configured: tuple[str, ...] = ()
    """Keys in which the configuration differs from the verdict's rules."""
    added: tuple[str, ...] = ()
    """Arms and seeds that were added after the first results."""
    at: float | None = None
    """Time of the registration in seconds since the epoch; None without a registration."""
    code: str | None = None
    """Digest of assay's code at the registration; None without a registration."""

    @property
    def marked(self) -> bool:
        """Whether every display of the decision must state that the rules changed."""
        return self.state == "changed after the results"


EXTERNAL = RegistrationState(
    state="not pre-registered",
    reasons=(Reason(code=Code.EXTERNAL_RESULTS),),
)
UNKNOWN = RegistrationState(
    state="not pre-registered",
    reasons=(Reason(code=Code.NOT_PREREGISTERED),),
)


def read(store: Store, sweep: str) -> tuple[Registration, ...]:
    """Read a sweep's registrations, oldest first; empty without registrations.

    A sweep has no registration if it was never submitted, or if an early version of assay submitted it.

    Raises:
        Damaged: the record cannot be read, and therefore the rules of the sweep are unknown.
    """
    path = _path(store, sweep)
    try:
        plain = read_json(path)
    except FileNotFoundError:
        return ()
    if not isinstance(plain, dict) or not isinstance(plain.get("registrations"), list) or not plain["registrations"]:
        raise Damaged(f"{path}: the file contains no registrations.", fix="Restore the file.")
    try:
        return tuple(from_record(Registration, entry, where=str(path)) for entry in plain["registrations"])
    except Damaged as error:
        raise Damaged(
            f"{error.what.rstrip('.')}. The registered rules of the sweep are unknown.",
            fix="Use the version of assay that registered the sweep, or remove the file. Verdicts are then marked as"
            " not pre-registered.",
        ) from error


def register(workspace: Workspace, plan: Plan, *, code: str, at: float, reason: str | None = None) -> None:
    """Register the rules of a sweep before its submission.

    The caller holds the sweep's lock. The function adds a registration if there is none, or if arms, held-out splits,
    seeds or rules changed. Changed rules require that no result exists, or that `reason` is given. Earlier
    registrations are kept.

    Args:
        workspace: the configured study.
        plan: the plan of its sweep.
        code: digest of assay's code.
        at: time in seconds since the epoch.
        reason: reason for a change after results existed.

    Raises:
        Refused: the rules differ from the registered rules, results exist, and no reason is given; or a reason is given and
            the rules do not differ.
    """
    if not plan.evaluation:  # every arm is refused or waits for tokens, so no run starts
        return
    store, sweep = workspace.store, plan.sweep
    known = read(store, sweep.name)
    runs = {run.label: run.fingerprint for run in plan.runs if run.mix in sweep.candidates and run.fingerprint}
    scored = _with_results(store, {**(known[-1].runs if known else {}), **runs})
    entry = Registration(
        at=at,
        code=code,
        rules=Rules.of(workspace),
        baseline=sweep.baseline,
        candidates=tuple(sweep.candidates),
        seeds=tuple(sweep.seeds),
        runs=runs,
        results=scored,
        reason=reason,
    )
    if known:
        changed = known[-1].rules.differences(entry.rules)
        if reason is not None and not changed:
            raise Refused(f"sweep {sweep.name!r}: the configured rules are registered already.", fix="Omit --again.")
        same_evaluation = known[-1].rules.evaluation.fingerprint == entry.rules.evaluation.fingerprint
        if not changed and same_evaluation and not known[-1].adds(entry):
            return
        if changed and scored and reason is None:
            raise _refusal(known[-1], sweep.name, changed)
    write_json(_path(store, sweep.name), {"registrations": [to_mapping(item) for item in (*known, entry)]})


def register_now(workspace: Workspace, plan: Plan, *, code: str, at: float, reason: str | None = None) -> None:
    """Register the rules of a sweep under its lock."""
    with exclusive(workspace.store.sweep(plan.sweep.name) / "lock", wait=True):
        register(workspace, plan, code=code, at=at, reason=reason)


def as_registered(
    workspace: Workspace, *, present: bool = False, configured: Workspace | None = None
) -> tuple[Workspace, RegistrationState]:
    """Apply the registered rules of a study's sweep to the study.

    Args:
        workspace: the study.
        present: whether to use the configured rules instead. The verdict then states that the rules changed.
        configured: the same runs under the configured policy and suite (default: `workspace`).

    Returns:
        The study under the rules of its verdict, and the state of the registration. The study is `workspace` itself if
        the rules do not differ.
    """
    now = configured or workspace
    known = read(workspace.store, workspace.study.require_sweep().name)
    if not known:
        return (now if present else workspace), UNKNOWN
    rules, problem = _configured(now, known[-1].rules)
    applied = rules if present else replace(known[-1].rules, policy=_policy_to_apply(known[-1].rules, rules))
    invalid = (f"suite invalid ({problem.what})",) if isinstance(problem, ConfigError) else ()
    state = _registration_state(known, applied, rules, invalid=invalid)
    own, problem = (rules, problem) if now is workspace else _configured(workspace, known[-1].rules)
    same = problem is None and applied.policy == own.policy and applied.evaluation == own.evaluation
    folder = (now if present else workspace).study.suite.include_path
    return (workspace if same else _with_rules(workspace, applied, folder)), state


def _configured(workspace: Workspace, registered: Rules) -> tuple[Rules, AssayError | None]:
    """Return the configured rules, and why their evaluation is unknown, if it is.

    For example, the text of a source is archived, or the suite's own task definitions are now invalid.
    """
    try:
        return Rules.of(workspace), None
    except (NotFound, ConfigError) as error:
        return replace(registered, policy=workspace.study.policy), error


def _registration_state(
    known: Sequence[Registration], applied: Rules, configured: Rules, *, invalid: tuple[str, ...] = ()
) -> RegistrationState:
    """Compare the applied rules with a sweep's registrations and with the configuration."""
    before = [entry for entry in known if not entry.results]
    first = before[-1] if before else known[0]
    changed = first.rules.differences(applied)
    unapplied = (*applied.differences(configured, additions=True), *invalid)
    added = first.adds(known[-1])
    if changed:
        state: State = "changed after the results"
        why = [entry.reason for entry in known if entry.reason]
        code, figures = Code.CHANGED_AFTER_RESULTS, {"day": first.day, "changed": changed, "why": why}
    elif before:
        state, code, figures = "pre-registered", Code.PREREGISTERED, {"day": first.day}
    else:
        state, code = "registered after the results", Code.REGISTERED_AFTER_RESULTS
        figures = {"day": first.day, "results": first.results}
    reasons = [Reason(code=code, figures=figures)]
    if added:
        reasons.append(Reason(code=Code.ARMS_ADDED, figures={"added": added}))
    if unapplied:
        reasons.append(Reason(code=Code.CONFIGURATION_DIFFERS, figures={"changed": unapplied}))
    return RegistrationState(
        state=state,
        reasons=tuple(reasons),
        changed=changed,
        configured=unapplied,
        added=added,
        at=known[-1].at,
        code=known[-1].code,
    )


def _with_rules(workspace: Workspace, rules: Rules, task_folder: str | None) -> Workspace:
    """Return the study with other rules, including their recorded evaluation."""
    spec = rules.evaluation
    suite = Suite(
        name=rules.suite,
        tasks=spec.tasks,
        batch_size=spec.batch_size,
        validation_bytes=spec.validation_bytes,
        include_path=task_folder if spec.task_files else None,
    )
    return workspace.with_rules(replace(workspace.study, policy=rules.policy, suite=suite), spec)


def _policy_to_apply(registered: Rules, configured: Rules) -> Policy:
    """Return the registered policy, or the configured policy if only its name changed."""
    same = replace(registered.policy, name=configured.policy.name) == configured.policy
    return configured.policy if same else registered.policy


def _refusal(current: Registration, sweep: str, changed: Sequence[str]) -> AssayError:
    return Refused(
        f"sweep {sweep!r}: the configured rules differ from those registered on {current.day}, and results exist:"
        f" {_list(changed)}. No job was submitted.",
        fix="Restore the configuration, or rename the sweep. `assay register --again REASON` registers the new rules; every"
        " verdict is then marked as changed after the results.",
    )


def _with_results(store: Store, runs: Mapping[str, str]) -> tuple[str, ...]:
    """Return the labels of the runs with scores of any evaluation."""
    return tuple(
        label for label, run in runs.items() if any((store.run(run).path / "evaluations").glob("*/scores.json"))
    )


def _path(store: Store, sweep: str) -> Path:
    return store.sweep(sweep) / FILE


def _value(value: Any) -> str:
    text = "unset" if value is None else str(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


def _list(names: Sequence[str]) -> str:
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + more
