"""What a sweep comes to: the verdict, and those who see it: a page, Markdown for a pull request, W&B.

Nothing here needs a terminal, so that a job on a cluster can do it when the last run has ended and nobody looks.
"""

from __future__ import annotations

import contextlib
import datetime
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from assay.errors import AssayError
from assay.files import json_text, write_text
from assay.registered import as_registered
from assay.store import ENDED

if TYPE_CHECKING:
    from assay.advice import Setting
    from assay.gate import SweepVerdict
    from assay.mixes import Mix
    from assay.plan import Plan, Sweep
    from assay.publish.details import FindingShown
    from assay.publish.report import Report
    from assay.references import ReferenceScore
    from assay.registered import Standing
    from assay.results import Results
    from assay.workspace import Progress, Workspace

log = logging.getLogger(__name__)

LOOKED_AGAIN = "from 5% to 9 or 10% in simulations"
"""Of three and five seeds, then as many as these seemed to need (benchmarks/foresight.py)."""


@dataclass(frozen=True, kw_only=True)
class Synced:
    """What W&B was told."""

    published: int
    """Runs and verdicts that are in W&B's folder, or there already."""
    mode: str
    folder: Path | None
    """Where the offline runs are; ``None`` where W&B is disabled."""
    missing: int = 0
    """Those that are not there yet: telling again tells them."""
    problems: tuple[str, ...] = ()
    """Why something could not be written or sent."""


@dataclass(frozen=True, kw_only=True)
class Concluded:
    """A sweep's verdict and where it was put."""

    verdict: SweepVerdict
    page: Path
    markdown: Path
    json: Path
    wandb: Synced


def conclude(space: Workspace, plan: Plan, *, progress: Progress | None = None) -> Concluded:
    """Judge a sweep by what is finished, and put the verdict where people and machines find it.

    Under the store's `reports/`: `<sweep>.verdict.json` as `assay gate --json` prints it, `<sweep>.md` as
    `assay gate --markdown` does, and the page `<sweep>.html`; then W&B. Runs that failed or are not done yet are
    named in the verdict, and stop nothing.

    Args:
        space: the study on this machine.
        plan: its plan, made after the last run ended.
        progress: told what is made and which share of it is done.

    Returns:
        The verdict and the files. Whatever W&B does stands in `Concluded.wandb.problems`.
    """
    tell = progress or _nobody
    sweep, folder = plan.sweep.name, space.store.reports
    tell("verdict", 0.0)
    space, plan, standing = before_the_gate(space, plan=plan)
    verdict = judge(space, plan, standing=standing)
    record = folder / f"{sweep}.verdict.json"
    write_text(record, json_text(verdict_mapping(plan, verdict)))  # first: it is there, whatever befalls the rest
    tell("verdict", 1.0)
    tell("page", 0.0)
    report = make_report(space, plan, verdict)
    markdown = write_markdown(report, folder / f"{sweep}.md")
    page = write_page(report, folder / f"{sweep}.html")
    tell("page", 1.0)
    return Concluded(verdict=verdict, page=page, markdown=markdown, json=record, wandb=_told(space, report, tell))


class Case(NamedTuple):
    """A sweep before the gate.

    Attributes:
        space: the study, under the rule that judges.
        plan: its plan by that rule's evaluation.
        standing: how the rule stands to what was fixed before the results.
    """

    space: Workspace
    plan: Plan
    standing: Standing


def before_the_gate(space: Workspace, *, present: bool = False, plan: Plan | None = None) -> Case:
    """A study under the policy and the suite that its sweep was registered with.

    Args:
        space: the study as it is configured.
        present: judge by the configuration, whatever was registered.
        plan: its plan by the configuration, where it was made already.
    """
    judged, standing = as_registered(space, present=present)
    return Case(judged, plan if plan is not None and judged is space else judged.plan(), standing)


def judge(
    space: Workspace, plan: Plan, *, candidate: str | None = None, standing: Standing | None = None
) -> SweepVerdict:
    """The verdict on a sweep, from what its store has, by the policy of the study.

    Args:
        space: the study on this machine; `before_the_gate` puts it under the rule that was registered.
        plan: its plan; what is finished is judged, what is not is said to be missing.
        candidate: the only one to judge; left out, all of them.
        standing: how the rule stands to what was registered; the verdict says it.

    Raises:
        AssayError: the sweep has no such candidate.
    """
    from assay.results import collect

    sweep = plan.sweep
    if candidate is not None:
        sweep.check_candidate(candidate)
    results = collect(space.store, plan)
    groups: dict[str, list[str]] = {}
    for name in sweep.candidates if candidate is None else [candidate]:
        groups.setdefault(sweep.control(name), []).append(name)
    blocked = _blocked(space)
    setting = _setting(space, plan)
    verdicts = [
        _against(space, results, control, names, blocked=blocked, setting=setting) for control, names in groups.items()
    ]
    verdict = verdicts[0] if len(verdicts) == 1 else _together(space, verdicts)
    if sweep.extends is not None:
        verdict = replace(verdict, note=" ".join(part for part in (verdict.note, after_a_look(sweep)) if part))
    verdict = replace(_with_stops(space, verdict, results.missing), missing=results.missing)
    return verdict if standing is None else verdict.under(standing)


def _against(
    space: Workspace,
    results: Results,
    control: str,
    names: Sequence[str],
    *,
    blocked: Mapping[str, Sequence[str]],
    setting: Setting,
) -> SweepVerdict:
    """The verdict on the candidates that have one control."""
    from assay.gate import gate
    from assay.imports.judge import past
    from assay.imports.selection import for_policy

    return gate(
        *for_policy(results.scores, space.study.policy, proxy=space.study.proxy.name, parameters=space.parameters),
        baseline=control,
        candidates=names,
        items=results.items,
        missing=results.missing,
        **past(space.study, space.store),
        blocked={name: blocked[name] for name in names if name in blocked},
        setting=setting,
    )


def after_a_look(sweep: Sweep) -> str:
    """What it means for the error rate that seeds were added to a sweep once its verdict was seen."""
    return (
        f"Seeds were added to {sweep.extends} after its verdict was seen: this is not a fresh test at the policy's error rate."
        f" Adding seeds where nothing was decided raises wrong verdicts on changes without effect {LOOKED_AGAIN}."
    )


def _setting(space: Workspace, plan: Plan) -> Setting:
    """What a run costs here, and what other runs of the store, and the history, show of larger ones."""
    import pandas as pd

    from assay.advice import Setting
    from assay.imports.judge import history
    from assay.imports.selection import for_policy
    from assay.past import past_runs, past_scores

    speed, judged = space.speed(), {run.fingerprint for run in plan.runs}
    seconds = None
    if speed.tokens_per_second is not None:
        seconds = space.budget / speed.tokens_per_second + (speed.evaluate_seconds or 0.0)
    others = [one for one in past_runs(space, evaluation=plan.evaluation) if one.run.fingerprint not in judged]
    scores, policy = past_scores(others), space.study.policy
    mine = scores["scale"] == space.parameters
    named, _ = for_policy(scores[mine], policy, proxy=space.study.proxy.name, parameters=space.parameters)
    tables = [t for t in (named, scores[~mine], history(space.study, space.store)) if t is not None and not t.empty]
    return Setting(tokens=space.budget, seconds=seconds, past=pd.concat(tables, ignore_index=True) if tables else None)


def _with_stops(space: Workspace, verdict: SweepVerdict, missing: Mapping[str, Sequence[str]]) -> SweepVerdict:
    """The verdict where candidates were stopped early: what the look said that stopped them, unless they were trained to the end."""
    from assay import stopped
    from assay.gate import Decision

    found = dict(verdict.candidates)
    for name, one in verdict.candidates.items():
        stop = stopped.read(space.store, space.study.require_sweep().name, name)
        if stop is None or name not in missing:
            continue
        said = (stop.sentence, *stop.reasons)
        if one.decision == Decision.BLOCKED:
            found[name] = replace(one, reasons=(*one.reasons, *said))
            continue
        decision = Decision.REJECT if stop.outcome == "loser" else Decision.ACCEPT
        scope = f"about {stop.tokens:,.0f} tokens, {stop.share:.0%} of the budget, where it was stopped"
        found[name] = replace(one, decision=decision, reasons=said, needed=(), options=(), scope=scope)
    return replace(verdict, candidates=found)


def _together(space: Workspace, verdicts: Sequence[SweepVerdict]) -> SweepVerdict:
    """The verdict on candidates that have several controls, in the sweep's order."""
    sweep, policy = space.study.require_sweep(), space.study.policy
    found = {name: one for verdict in verdicts for name, one in verdict.candidates.items()}
    ordered = {name: found[name] for name in sweep.candidates if name in found}
    note = (
        f"{len(ordered)} candidates were judged, each against its own of {len(verdicts)} controls and with an error rate "
        f"of {policy.alpha:.0%}: were none of them any different, {len(ordered) * policy.alpha:.2g} wrong verdicts were to "
        "be expected."
    )
    return replace(verdicts[0], baseline=sweep.baseline, candidates=ordered, note=note)


def _blocked(space: Workspace) -> dict[str, list[str]]:
    """Reasons why a mix may not be judged: it, or what it is compared with, touched a source that is not cleared or has a defect."""
    sweep, sources = space.study.require_sweep(), space.study.sources

    def refusals(mix: str) -> list[str]:
        uncleared = [reason for name in space.touched(mix) if (reason := sources[name].refusal) is not None]
        return [*uncleared, *(f"{taint.sentence}." for taint in space.tainted(mix))]

    def shared(control: str) -> list[str]:
        return [f"baseline {control}: {reason}" for reason in refusals(control)]

    found = {mix: [*refusals(mix), *shared(sweep.control(mix))] for mix in sweep.candidates}
    return {mix: reasons for mix, reasons in found.items() if reasons}


def verdict_mapping(plan: Plan, verdict: SweepVerdict) -> dict[str, Any]:
    """A sweep's verdict as plain values, for machines."""
    return {"sweep": plan.sweep.name, **verdict.to_mapping()}


def make_report(space: Workspace, plan: Plan, verdict: SweepVerdict | None) -> Report:
    """All that is shown of a sweep."""
    from assay.publish.assemble import make_report as build
    from assay.publish.collect import read_details, read_runs, versions

    runs = read_runs(space.store, [r.fingerprint for r in plan.runs if r.fingerprint], evaluation=plan.evaluation)
    return build(
        sweep=plan.sweep,
        plan=plan,
        mixes=_mixes(space, plan),
        sources=space.study.sources,
        tokens=space.tokens,
        budget=space.budget,
        runs=runs,
        verdict=verdict,
        evaluation=space.evaluation if plan.evaluation else None,
        policy=space.study.policy,
        made=datetime.datetime.now(datetime.UTC),
        versions=versions(),
        details=read_details(
            space.store,
            plan,
            published=_published(space, verdict),
            bytes_per_token=space.bytes_per_token,
            findings=_findings(space),
            runs=runs,
            comparisons=[c for one in verdict.candidates.values() for c in one.comparisons] if verdict else (),
        ),
    )


def _findings(space: Workspace) -> list[FindingShown]:
    """What audits found in the sweep's sources, isolated hits aside."""
    from assay.publish.details import FindingShown

    found = []
    for name in space.sources:
        with contextlib.suppress(AssayError):  # not there: the plan says so
            found += [
                FindingShown(
                    source=name,
                    detector=finding.detector,
                    severity=finding.severity,
                    share=finding.share,
                    message=finding.reason,
                    tainting=space.study.taint.taints(finding),
                )
                for finding in space.taints.open(space.digest(name))
            ]
    return found


def _published(space: Workspace, verdict: SweepVerdict | None) -> list[ReferenceScore]:
    """Reference models' scores that may stand beside the sweep's."""
    from assay.references import comparable
    from assay.roots import references

    if verdict is None:
        return []
    measured = {(c.task, c.metric) for one in verdict.candidates.values() for c in one.comparisons}
    return comparable(references(Path(space.study.paths.root)), space.study.suite.tasks, measured)


def _mixes(space: Workspace, plan: Plan) -> dict[str, Mix]:
    found = {}
    for name in plan.sweep.mixes:
        with contextlib.suppress(AssayError):  # its weights are not known yet; the plan's runs say what they wait for
            found[name] = space.mix(name)
    return found


def write_page(report: Report, path: Path) -> Path:
    """Write a sweep's page, one self-contained HTML file; returns where."""
    from assay.publish.page import render

    write_text(path, render(report))
    return path


def write_markdown(report: Report, path: Path) -> Path:
    """Write what a pull request shows of a sweep; returns where."""
    from assay.publish.markdown import render

    write_text(path, render(report))
    return path


def publish(
    space: Workspace,
    report: Report,
    *,
    taints: Sequence[str] = (),
    again: bool = False,
    progress: Progress | None = None,
) -> Synced:
    """Publish every run of a sweep that has ended, its comparisons and its verdict to W&B; what is there is left alone.

    A run that cannot be published is told in `Synced.problems`, and keeps no other from it.

    Args:
        space: the study on this machine.
        report: what is shown of the sweep.
        taints: what makes its results untrustworthy, in sentences, beside why the gate blocks it; it is an alert.
        again: publish what is there, too.
        progress: told what is made and which share of it is done.
    """
    tell, settings, store = progress or _nobody, space.study.tracking, space.store
    if settings.mode == "disabled":
        return Synced(published=0, mode="disabled", folder=None)
    from assay.publish import tracking

    plan, problems, tellings = report.plan, list[str](), list[tracking.Telling]()
    tell("W&B", 0.0)
    versions = tracking.recipe_versions(store)
    for run in report.runs:
        if run.fingerprint is None or run.result is None or run.state not in ENDED:
            continue
        try:
            tellings += tracking.run_tellings(
                store,
                store.run(run.fingerprint),
                sweep=plan.sweep.name,
                evaluation=plan.evaluation,
                settings=settings,
                versions=versions,
            )
        except (AssayError, OSError) as error:  # its record is damaged
            problems.append(f"{run.label}: {error}")
    if tellings:
        tellings += tracking.sweep_tellings(store, report, taints=tuple(dict.fromkeys([*taints, *_blocks(report)])))
    told = tracking.publish(
        store, tellings, settings=settings, again=again, progress=lambda share: tell("W&B", min(share, 0.999))
    )
    tell("W&B", 1.0)
    failed = Counter(tracking.in_words(one.problem) for one in told if one.problem not in (None, tracking.NOT_TRIED))
    problems += [f"{why} ({count} runs)" if count > 1 else why for why, count in failed.items()]
    missing = sum(one.problem is not None for one in told)
    return Synced(
        published=len(told) - missing,
        mode=settings.mode,
        folder=store.wandb,
        missing=missing,
        problems=tuple(problems),
    )


def _blocks(report: Report) -> list[str]:
    """Why the gate blocks candidates of a sweep."""
    verdicts = {} if report.verdict is None else report.verdict.candidates
    return [reason for one in verdicts.values() if one.decision == "BLOCKED" for reason in one.reasons]


def publish_views(space: Workspace, report: Report, *, save: bool, progress: Progress | None = None) -> dict[str, Any]:
    """Make the sweep's report and workspace for W&B: saved there, which needs a login, or written beside the page.

    Returns:
        Where they are; empty where `wandb-workspaces` is not installed and they were not asked for.
    """
    from importlib.util import find_spec

    from assay.publish.tracking.views import publish_views as make

    if not save and find_spec("wandb_workspaces") is None:
        return {}
    tell = progress or _nobody
    tell("report", 0.0)
    made = make(space.store, report, settings=space.study.tracking, save=save)
    tell("report", 1.0)
    return made


def _told(space: Workspace, report: Report, tell: Progress) -> Synced:
    try:
        return publish(space, report, progress=tell)
    # The verdict stands, and is on disk: whatever becomes of W&B, its client or its folder, is told beside it.
    except Exception as error:
        log.exception("W&B was not told of %s", report.sweep.name)
        problem = f"{type(error).__name__}: {error}"
        mode = space.study.tracking.mode
        return Synced(published=0, mode=mode, folder=space.store.wandb, problems=(problem,))


def _nobody(what: str, share: float) -> None:
    """Progress that nobody looks at."""
