"""What was fixed before the results: a sweep's policy and suite, as they were when it was first submitted.

A verdict's error rate holds for a rule that was chosen before its results were seen. So the first submission writes the
rule down, and everything that judges the sweep judges by that, whatever the configuration says later::

    sweeps/<name>/registered.json       every registration of the sweep, the oldest first; the last one counts

Before any result exists, submitting again with another rule registers again. Afterwards it takes a reason, and every verdict
by the new rule says that it was changed after the results.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from assay.errors import AssayError
from assay.files import exclusive, read_json, write_json
from assay.fingerprint import differences
from assay.structure import from_mapping, to_mapping
from assay.suite import EvaluationSpec, Policy, Suite

if TYPE_CHECKING:
    from pathlib import Path

    from assay.plan import Plan
    from assay.store import Store
    from assay.workspace import Workspace

FILE = "registered.json"
SHOWN = 6
"""Keys, runs or arms that a sentence lists before it counts the rest."""

State = Literal["pre-registered", "registered after the results", "changed after the results", "not pre-registered"]


@dataclass(frozen=True, kw_only=True)
class Rules:
    """What a sweep is judged by."""

    policy: Policy
    suite: str
    """The suite's name; what it asks stands in the evaluation."""
    evaluation: EvaluationSpec

    @classmethod
    def of(cls, space: Workspace) -> Rules:
        """What the configuration says now."""
        return cls(policy=space.study.policy, suite=space.study.suite.name, evaluation=space.evaluation)

    def differences(self, later: Rules) -> tuple[str, ...]:
        """Every key by which another rule differs, with both values; names, and sources that only one measures, aside.

        Held-out splits come and go with the arms of the sweep. Text of one source that is another now is a difference.
        """
        before, after = self._plain(), later._plain()
        shared = before["suite"]["validation"].keys() & after["suite"]["validation"].keys()
        for plain in (before, after):
            splits = plain["suite"]["validation"]
            plain["suite"]["validation"] = {name: splits[name] for name in shared}
        return tuple(f"{d.path} {_value(d.left)} -> {_value(d.right)}" for d in differences(before, after))

    def _plain(self) -> dict[str, Any]:
        policy: dict[str, Any] = to_mapping(self.policy)
        del policy["name"]
        return {"policy": policy, "suite": to_mapping(self.evaluation)}


@dataclass(frozen=True, kw_only=True)
class Registration:
    """One time that a sweep's rule was fixed."""

    at: float
    """Seconds since the epoch."""
    code: str
    """Digest of assay's own code that wrote it."""
    rules: Rules
    baseline: str
    candidates: tuple[str, ...]
    seeds: tuple[int, ...]
    runs: dict[str, str]
    """The candidates' runs: fingerprints by label, such as `more_web s0`."""
    results: tuple[str, ...]
    """Which of them, and of those registered before, had been scored already."""
    reason: str | None = None
    """Why the rule was changed though results were there."""

    @property
    def day(self) -> str:
        """When, to the minute."""
        return datetime.datetime.fromtimestamp(self.at, datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")

    def adds(self, later: Registration) -> tuple[str, ...]:
        """Arms and seeds that a later one has and this one has not."""
        arms = [name for name in later.candidates if name not in self.candidates]
        return (*arms, *(f"seed {seed}" for seed in later.seeds if seed not in self.seeds))


@dataclass(frozen=True, kw_only=True)
class Standing:
    """How a verdict stands to what was registered.

    Attributes:
        state: in the words that people see.
        sentence: the same with dates, keys and what to do.
        changed: by which keys the rule that judges differs from the one that was fixed before the results.
        configured: by which keys the configuration differs from the rule that judges.
        added: arms and seeds that came after the first results.
        at: seconds since the epoch of the registration; None without one.
        code: digest of assay's code that registered; None without one.
    """

    state: State
    sentence: str
    changed: tuple[str, ...] = ()
    configured: tuple[str, ...] = ()
    added: tuple[str, ...] = ()
    at: float | None = None
    code: str | None = None

    @property
    def marked(self) -> bool:
        """Whether a decision must not be shown without saying so."""
        return self.state == "changed after the results"

    def to_mapping(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in vars(self).items()}


FROM_ELSEWHERE = Standing(
    state="not pre-registered",
    sentence="Not pre-registered: nothing shows that the policy was fixed before these results, which come from elsewhere.",
)
UNKNOWN = Standing(
    state="not pre-registered",
    sentence="Not pre-registered: nothing shows that policy and suite were fixed before the results.",
)


def read(store: Store, sweep: str) -> tuple[Registration, ...]:
    """A sweep's registrations, the oldest first; none where it was never submitted, or only by an assay that kept none.

    Raises:
        AssayError: the record is damaged; without it nobody knows what the sweep is to be judged by.
    """
    path = _path(store, sweep)
    try:
        plain = read_json(path)
    except FileNotFoundError:
        return ()
    if not isinstance(plain, dict) or not isinstance(plain.get("registrations"), list) or not plain["registrations"]:
        raise AssayError(f"{path} holds no registrations.", fix="Something other than assay wrote it; restore it.")
    try:
        return tuple(from_mapping(Registration, entry, where=str(path)) for entry in plain["registrations"])
    except AssayError as error:
        raise AssayError(
            f"{error.what.rstrip('.')}. So nobody knows by which rule the sweep is to be judged.",
            fix="Judge it with the version of assay that registered it; or move the file away: verdicts then say that nothing"
            " was registered.",
        ) from error


def register(space: Workspace, plan: Plan, *, code: str, at: float, reason: str | None = None) -> None:
    """Fix the rule of a sweep that is about to run; whoever calls holds the sweep's lock.

    Written where there is none yet, where arms, their held-out splits or seeds came or went, and where the rule is another and
    either no result exists or a reason is given. What was registered before is kept.

    Args:
        space: the study as it is configured.
        plan: its plan.
        code: digest of assay's own code.
        at: seconds since the epoch.
        reason: why the rule changes though results are there.

    Raises:
        AssayError: the rule is another than the registered one, results are there, and no reason is given; or a reason is
            given and nothing differs.
    """
    if not plan.evaluation:  # every arm is refused or waits for its tokens: nothing runs, so nothing is fixed
        return
    store, sweep = space.store, plan.sweep
    known = read(store, sweep.name)
    runs = {run.label: run.fingerprint for run in plan.runs if run.mix in sweep.candidates and run.fingerprint}
    seen = _with_results(store, {**(known[-1].runs if known else {}), **runs})
    entry = Registration(
        at=at,
        code=code,
        rules=Rules.of(space),
        baseline=sweep.baseline,
        candidates=tuple(sweep.candidates),
        seeds=tuple(sweep.seeds),
        runs=runs,
        results=seen,
        reason=reason,
    )
    if known:
        changed = known[-1].rules.differences(entry.rules)
        if reason is not None and not changed:
            raise AssayError(f"sweep {sweep.name!r} is registered as it is configured: there is nothing to change.")
        measured = known[-1].rules.evaluation.fingerprint == entry.rules.evaluation.fingerprint
        if not changed and measured and not known[-1].adds(entry):
            return
        if changed and seen and reason is None:
            raise _refusal(known[-1], sweep.name, changed)
    write_json(_path(store, sweep.name), {"registrations": [to_mapping(one) for one in (*known, entry)]})


def register_now(space: Workspace, plan: Plan, *, code: str, at: float, reason: str | None = None) -> None:
    """The same for those who do not hold the sweep's lock."""
    with exclusive(space.store.sweep(plan.sweep.name) / "lock", wait=True):
        register(space, plan, code=code, at=at, reason=reason)


def as_registered(space: Workspace, *, present: bool = False) -> tuple[Workspace, Standing]:
    """The study under the rule that its sweep is to be judged by, and how that stands to the results.

    Args:
        space: the study as it is configured.
        present: judge by the configuration all the same; the verdict then says so.

    Returns:
        The same object where the configuration says what was registered.
    """
    known = read(space.store, space.study.require_sweep().name)
    if not known:
        return space, UNKNOWN
    configured, whole = _configured(space, known[-1].rules)
    judged = configured if present else replace(known[-1].rules, policy=_named(known[-1].rules, configured))
    standing = _standing(known, judged, configured)
    same = whole and judged.policy == configured.policy and judged.evaluation == configured.evaluation
    return (space if same else _under(space, judged)), standing


def _configured(space: Workspace, registered: Rules) -> tuple[Rules, bool]:
    """What the configuration says now, and whether all of it is known: where text is gone, its evaluation is not."""
    try:
        return Rules.of(space), True
    except AssayError:
        return replace(registered, policy=space.study.policy), False


def _standing(known: Sequence[Registration], judged: Rules, configured: Rules) -> Standing:
    """How a rule stands to a sweep's registrations."""
    before = [entry for entry in known if not entry.results]
    first = before[-1] if before else known[0]
    changed, otherwise = first.rules.differences(judged), judged.differences(configured)
    added = first.adds(known[-1])
    if changed:
        reasons = [entry.reason for entry in known if entry.reason]
        state: State = "changed after the results"
        told = f"Changed after the results: {_some(changed)}, as registered on {first.day} and as judged"
        told += f" ({'; '.join(reasons)})." if reasons else "."
    elif before:
        state, told = "pre-registered", f"Pre-registered on {first.day}, before any result of a candidate."
    else:
        state = "registered after the results"
        told = f"Registered on {first.day}, when there were results of {_some(first.results)}."
    if added:
        told += f" Added since: {_some(added)}."
    if otherwise:
        told += (
            f" The configuration says otherwise now: {_some(otherwise)}. The verdict is by what was registered; --policy-now"
            " judges by the configuration."
        )
    return Standing(
        state=state,
        sentence=told,
        changed=changed,
        configured=otherwise,
        added=added,
        at=known[-1].at,
        code=known[-1].code,
    )


def _under(space: Workspace, rules: Rules) -> Workspace:
    """The study with another policy and suite; its evaluation is taken as it was."""
    spec = rules.evaluation
    suite = Suite(
        name=rules.suite,
        tasks=spec.tasks,
        batch_size=spec.batch_size,
        validation_bytes=spec.validation_bytes,
    )
    return space.judged_by(replace(space.study, policy=rules.policy, suite=suite), spec)


def _named(registered: Rules, configured: Rules) -> Policy:
    """The registered policy; under its present name where that is all that changed."""
    same = replace(registered.policy, name=configured.policy.name) == configured.policy
    return configured.policy if same else registered.policy


def _refusal(current: Registration, sweep: str, changed: Sequence[str]) -> AssayError:
    return AssayError(
        f"sweep {sweep!r}: {_some(changed)}, as registered on {current.day} and as configured, and results are there."
        " Nothing was submitted: a rule that is chosen after the results proves little.",
        fix="Put the configuration back, or give the sweep another name. `assay register --again REASON` changes the rule; every"
        " verdict then says so.",
    )


def _with_results(store: Store, runs: Mapping[str, str]) -> tuple[str, ...]:
    """Labels of the runs that were scored, by whatever evaluation."""
    return tuple(
        label for label, run in runs.items() if any((store.run(run).path / "evaluations").glob("*/scores.json"))
    )


def _path(store: Store, sweep: str) -> Path:
    return store.sweep(sweep) / FILE


def _value(value: Any) -> str:
    text = "unset" if value is None else str(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
