"""Publish a sweep's verdict as page, Markdown, JSON and W&B runs."""

from __future__ import annotations

import contextlib
import datetime
import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assay.analysis.verdict import apply_registration, decide_sweep
from assay.audit.taint import taints
from assay.core.errors import ConfigError, Damaged, NotFound
from assay.core.files import json_text, write_text
from assay.report import headline
from assay.report.reason_text import to_json

if TYPE_CHECKING:
    from assay.analysis.comparison import Comparison
    from assay.analysis.gate import SweepVerdict
    from assay.config.mixes import Mix
    from assay.config.reason import Reason
    from assay.config.references import ReferenceScore
    from assay.plan.plan import Plan
    from assay.plan.prepare import Progress
    from assay.plan.workspace import Workspace
    from assay.report.details import FindingShown
    from assay.report.model import Report


log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Synced:
    """The outcome of publishing to W&B."""

    published: int
    """Number of runs and verdicts in W&B's folder, including those that were published before."""
    mode: str
    folder: Path | None
    """Folder of the offline runs; None if W&B is disabled."""
    missing: int = 0
    """Number of unpublished runs and verdicts. The next publication tries them again."""
    problems: tuple[str, ...] = ()
    """Errors that prevented writing or uploading."""


@dataclass(frozen=True, kw_only=True)
class Concluded:
    """A sweep's verdict and the files that contain it."""

    verdict: SweepVerdict
    page: Path
    markdown: Path
    json: Path
    wandb: Synced


def conclude(
    space: Workspace, plan: Plan, *, notes: Sequence[Reason] = (), progress: Progress | None = None
) -> Concluded:
    """Decide on a sweep's finished runs, and publish the verdict.

    The store's `reports/` receives `<sweep>.verdict.json` (the output of `assay gate --json`), `<sweep>.md` (the output
    of `assay gate --markdown`) and the page `<sweep>.html`. W&B follows. Failed and unfinished runs do not prevent a
    verdict, which lists them as missing.

    Args:
        space: the study on this machine.
        plan: plan of the sweep, which was made after the last run ended.
        notes: reasons that the verdict shows next to the state of its registration.
        progress: called with the name of a step and its completed fraction.

    Returns:
        The verdict and the files. Errors of W&B are in `Concluded.wandb.problems`.
    """
    update = progress or _ignore_progress
    sweep, folder = plan.sweep.name, space.store.reports
    update("verdict", 0.0)
    space, plan, standing = apply_registration(space, plan=plan)
    verdict = decide_sweep(space, plan, registration=replace(standing, reasons=(*standing.reasons, *notes)))
    record = folder / f"{sweep}.verdict.json"
    write_text(record, json_text(verdict_mapping(plan, verdict)))  # first, so that later errors cannot lose the verdict
    update("verdict", 1.0)
    update("page", 0.0)
    report = make_report(space, plan, verdict)
    markdown = write_markdown(report, folder / f"{sweep}.md")
    page = write_page(report, folder / f"{sweep}.html")
    update("page", 1.0)
    synced = _publish_or_log(space, report, update)
    return Concluded(verdict=verdict, page=page, markdown=markdown, json=record, wandb=synced)


def make_report(space: Workspace, plan: Plan, verdict: SweepVerdict | None) -> Report:
    """Read and assemble the report of a sweep."""
    from assay.report.assemble import make_report as build
    from assay.report.collect import read_details, read_runs, versions

    runs = read_runs(space.store, [r.fingerprint for r in plan.runs if r.fingerprint], evaluation=plan.evaluation)
    return build(
        sweep=plan.sweep,
        plan=plan,
        mixes=_mixes(space, plan),
        sources=space.study.sources,
        tokens=space.sources.tokens(space.mixes.sweep_sources),
        budget=space.runs.budget,
        runs=runs,
        verdict=verdict,
        evaluation=space.runs.evaluation if plan.evaluation else None,
        policy=space.study.policy,
        made=datetime.datetime.now(datetime.UTC),
        versions=versions(),
        details=read_details(
            space.store,
            plan,
            published=_published(space, verdict),
            bytes_per_token=space.sources.bytes_per_token(space.mixes.sweep_sources),
            findings=_findings(space),
            runs=runs,
            comparisons=_comparisons(verdict),
        ),
    )


def _findings(space: Workspace) -> list[FindingShown]:
    """Return the findings of audits in the sweep's sources, without isolated hits."""
    from assay.report.details import FindingShown

    findings = []
    for name in space.mixes.sweep_sources:
        with contextlib.suppress(NotFound, Damaged):  # the plan reports missing sources, and the gate damaged findings
            findings += [
                FindingShown(
                    source=name,
                    detector=finding.detector,
                    severity=finding.severity,
                    fraction=finding.fraction,
                    message=finding.reason,
                    tainting=taints(space.study.taint, finding),
                )
                for finding in space.sources.taints.open(space.sources.digest(name))
            ]
    return findings


def _published(space: Workspace, verdict: SweepVerdict | None) -> list[ReferenceScore]:
    """Return the scores of reference models that are comparable with the sweep's scores."""
    from assay.config.references import comparable
    from assay.config.search_path import references

    if verdict is None:
        return []
    measured = {(c.task, c.metric) for c in _comparisons(verdict)}
    return comparable(references(Path(space.study.paths.root)), space.study.suite.tasks, measured)


def _mixes(space: Workspace, plan: Plan) -> dict[str, Mix]:
    mixes = {}
    for name in plan.sweep.mixes:
        # The weights may be unknown yet. The reasons of the plan's runs state the missing data.
        with contextlib.suppress(ConfigError, NotFound):
            mixes[name] = space.mixes.resolve(name)
    return mixes


def write_page(report: Report, path: Path) -> Path:
    """Write a sweep's page as one self-contained HTML file, and return its path."""
    from assay.report.page import render

    write_text(path, render(report))
    return path


def write_markdown(report: Report, path: Path) -> Path:
    """Write a sweep's report for a pull request, and return its path."""
    from assay.report.markdown import render

    write_text(path, render(report))
    return path


def publish(
    space: Workspace,
    report: Report,
    *,
    taints: Sequence[Reason] = (),
    again: bool = False,
    progress: Progress | None = None,
) -> Synced:
    """Publish a sweep's ended runs, comparisons and verdict to W&B, unless W&B already has them.

    A failure to publish a run raises no error and is recorded in `Synced.problems`. The upload stops after
    `wandb.publish.CONSECUTIVE_FAILURES` failures in a row, or after one failure if W&B has not answered yet.

    Args:
        space: the study on this machine.
        report: the sweep's report.
        taints: reasons not to trust the results of the sweep, in addition to the reasons for which the gate blocks the
            sweep. W&B shows an alert.
        again: whether to republish content that W&B already has.
        progress: called with the name of a step and its finished fraction.
    """
    update, settings, store = progress or _ignore_progress, space.study.tracking, space.store
    if settings.mode == "disabled":
        return Synced(published=0, mode="disabled", folder=None)
    from assay.report import wandb

    plan, problems, publications = report.plan, list[str](), list[wandb.Publication]()
    update("W&B", 0.0)
    versions = wandb.recipe_versions(store)
    for run in report.runs:
        if run.fingerprint is None or run.result is None or not run.result.status.ended:
            continue
        try:
            publications += wandb.run_publications(
                store,
                store.run(run.fingerprint),
                sweep=plan.sweep.name,
                evaluation=plan.evaluation,
                settings=settings,
                versions=versions,
            )
        except (Damaged, OSError) as error:
            problems.append(f"{run.label}: {error}")
    if publications:
        all_taints = tuple(dict.fromkeys([*taints, *_blocks(report)]))
        publications += wandb.sweep_publications(store, report, taints=all_taints)
    outcomes = wandb.publish(
        store,
        publications,
        settings=settings,
        again=again,
        progress=lambda fraction: update("W&B", min(fraction, 0.999)),
    )
    update("W&B", 1.0)
    unpublished = [outcome.problem for outcome in outcomes if outcome.problem is not None]
    counts = Counter(wandb.explain_problem(problem) for problem in unpublished if problem != wandb.NOT_TRIED)
    problems += [f"{error} ({count} runs)" if count > 1 else error for error, count in counts.items()]
    return Synced(
        published=len(outcomes) - len(unpublished),
        mode=settings.mode,
        folder=store.wandb,
        missing=len(unpublished),
        problems=tuple(problems),
    )


def _blocks(report: Report) -> list[Reason]:
    """Return the reasons for which the gate blocks candidates of a sweep."""
    verdicts = {} if report.verdict is None else report.verdict.candidates
    return [reason for verdict in verdicts.values() if verdict.decision == "BLOCKED" for reason in verdict.reasons]


def _comparisons(verdict: SweepVerdict | None) -> list[Comparison]:
    candidates = {} if verdict is None else verdict.candidates
    return [comparison for candidate in candidates.values() for comparison in candidate.comparisons]


def publish_views(space: Workspace, report: Report, *, save: bool, progress: Progress | None = None) -> dict[str, Any]:
    """Build the sweep's W&B report and workspace, and save both.

    The function saves them to W&B, which needs a login, or next to the page.

    Returns:
        URLs and paths of the views; empty if `wandb-workspaces` is not installed and `save` is false.
    """
    from importlib.util import find_spec

    from assay.report.wandb.views import publish_views as build_views

    if not save and find_spec("wandb_workspaces") is None:
        return {}
    update = progress or _ignore_progress
    update("report", 0.0)
    places = build_views(space.store, report, settings=space.study.tracking, save=save)
    update("report", 1.0)
    return places


def _publish_or_log(space: Workspace, report: Report, update: Progress) -> Synced:
    """Publish to W&B, and log any error.

    The verdict is on disk and does not depend on W&B.
    """
    try:
        return publish(space, report, progress=update)
    except Exception as error:
        log.exception("cannot publish %s to W&B", report.sweep.name)
        problem = f"{type(error).__name__}: {error}"
        mode = space.study.tracking.mode
        return Synced(published=0, mode=mode, folder=space.store.wandb, problems=(problem,))


def _ignore_progress(step: str, fraction: float) -> None:
    """Discard progress updates."""


def verdict_mapping(plan: Plan, verdict: SweepVerdict) -> dict[str, Any]:
    """Return a sweep's verdict as plain values for JSON."""
    return {"sweep": plan.sweep.name, "headline": headline.candidates(verdict), **to_json(verdict)}
