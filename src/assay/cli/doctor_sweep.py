"""Checks of a sweep before its runs start: sources, tokenizer, benchmarks, tasks, plan, disk and W&B."""

from __future__ import annotations

import os
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import TYPE_CHECKING

from assay.cli.doctor_check import Check, attempt, failed
from assay.cli.doctor_machine import check_disk
from assay.core.errors import AssayError
from assay.report.formatting import count
from assay.report.reason_text import fix, label, text

if TYPE_CHECKING:
    from assay.config.reason import Reason
    from assay.plan.workspace import Workspace

AGAIN = "Correct the tokenizer, then run this command again."
HUB = "https://huggingface.co"
HUB_SECONDS = 5.0
"""Maximum seconds to wait for an answer of the hub."""


def check_sweep(space: Workspace, *, tokenizer: Check) -> Iterator[Check]:
    """Check everything that a run of the sweep needs. An error in one check does not prevent other checks.

    Args:
        space: the composed sweep.
        tokenizer: the result of `check_tokenizer`; runs cannot be planned without the tokenizer.
    """
    yield from _sources(space)
    yield attempt("benchmarks", lambda: _benchmarks(space))
    if tokenizer.status == "error":
        for name in ("tasks", "plan", "disk"):
            yield Check(name=name, value="not checked, because the tokenizer cannot be read", status="error", fix=AGAIN)
    else:
        yield from _tasks(space)
        yield attempt("plan", lambda: _plan(space))
        yield attempt("disk", lambda: check_disk(space.store.root, space.planner.plan().cost.disk_bytes))
    yield attempt("wandb login", lambda: _tracking(space))


def check_tokenizer(space: Workspace) -> Check:
    """Check that a declared tokenizer file can be read, and contains the token that ends a document."""
    declared = space.study.tokenizer
    if declared.file is None:
        return Check(name="tokenizer", value=f"{declared.name}: {declared.vocabulary} tokens, trained on the sources")
    return attempt("tokenizer", lambda: _tokenizer_file(space))


def _tokenizer_file(space: Workspace) -> Check:
    """Check the declared file, with a sample of each source of the sweep."""
    from assay.plan.tokenizer_check import check_tokenizer as check_file

    notes = check_file(space.sources, space.mixes.sweep_sources if space.study.sweep is not None else ())
    declared, end = space.study.tokenizer, space.sources.end_token
    value = f"{declared.name}: {space.runs.vocabulary} tokens, from {declared.file}"
    return Check(
        name="tokenizer",
        value="; ".join([value, *([f"documents end with {end.name!r}"] if end else []), *map(text, notes)]),
        status="warning" if notes else "ok",
        fix=" ".join(filter(None, map(fix, notes))),
    )


def _sources(space: Workspace) -> Iterator[Check]:
    sweep = space.study.require_sweep()
    try:
        names = sorted({name for mix in sweep.mixes for name in space.mixes.arm_sources(mix)})
    except AssayError as error:
        yield failed("sources", error)
        return
    for name in names:
        yield attempt(f"source {name}", lambda name=name: _source(space, name))  # type: ignore[misc]  # mypy cannot infer the default's type


def _source(space: Workspace, name: str) -> Check:
    reasons: list[Reason] = space.sources.refusals(name) or [*space.sources.blocks(name)]
    if not reasons:
        version = space.sources.digest(name)[:12]
        return Check(name=f"source {name}", value=f"cleared, {space.sources.source(name).license}, version {version}")
    advice = "; ".join(filter(None, map(fix, reasons)))
    return Check(
        name=f"source {name}",
        value="; ".join(map(text, reasons)),
        status="error",
        fix=advice or f"Correct conf/source/{name}.yaml.",
    )


def _benchmarks(space: Workspace) -> Check:
    """Check the origin of the data sets of the suite's tasks."""
    from assay.evaluate.mirror import OWN, mirror_digest

    suite, mirror = space.study.suite, space.study.paths.mirror
    if not suite.tasks:
        return Check(name="benchmarks", value=f"the suite {suite.name} has no tasks")
    if mirror is None:
        return _hub(space)
    digest = mirror_digest(mirror)
    version = "made by your team" if digest == OWN else f"digest {digest[:12]}"
    return Check(name="benchmarks", value=f"mirror {mirror}, {version}")


def _hub(space: Workspace) -> Check:
    """Check that the hub answers, unless all tasks are own tasks with local data."""
    needed = _hub_tasks(space)
    if not needed:
        return Check(name="benchmarks", value="local files of the tasks; the hub is not needed")
    tasks = ", ".join(needed)
    mirror = "Point paths.benchmarks at a mirror in the cache layout of `datasets`"
    endpoint = os.environ.get("HF_ENDPOINT", HUB)
    if problem := _unreachable(endpoint):
        return Check(
            name="benchmarks",
            value=f"the hub {endpoint} cannot be reached ({problem}); {tasks} can only come from the cache of `datasets`",
            status="warning",
            fix=f"{mirror}, or load the tasks once where the hub can be reached, with the same HF_HOME.",
        )
    value = f"Hugging Face hub, for {tasks}"
    if space.study.cluster.slurm is None:
        return Check(name="benchmarks", value=value)
    return Check(
        name="benchmarks",
        value=f"{value}; whether the compute nodes reach it is unknown",
        status="warning",
        fix=f"If they do not: {mirror[0].lower()}{mirror[1:]} on the shared file system, or share HF_HOME with the nodes"
        " (cluster.environment), whose cache this check has filled.",
    )


def _hub_tasks(space: Workspace) -> list[str]:
    """Return the tasks of the suite that read more than local files."""
    from assay.evaluate.task_identity import FILES, data_identity

    names = [task.task for task in space.study.suite.tasks]
    folder = space.runs.task_folder
    return [name for name in names if data_identity([name], mirror=None, tasks=folder).datasets != FILES]


def _unreachable(endpoint: str) -> str:
    """Return why the hub does not answer; empty if the hub answers with any HTTP status."""
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}:
        return "HF_HUB_OFFLINE is set"
    try:
        urllib.request.urlopen(urllib.request.Request(endpoint, method="HEAD"), timeout=HUB_SECONDS).close()  # noqa: S310  # the user's endpoint
    except urllib.error.HTTPError:
        return ""
    except (OSError, ValueError) as error:
        return str(getattr(error, "reason", error))
    return ""


def _tasks(space: Workspace) -> Iterator[Check]:
    """Load every task of the suite, with one check per task. For an invalid suite, return one failed check."""
    from assay.plan.suite_probe import probe_suite

    try:
        for task, probe, error in probe_suite(space):
            name = f"task {task}"
            if probe is None:
                assert error is not None, "a task has a probe or an error"
                yield failed(name, error)
                continue
            length = "" if probe.longest is None else f", longest input {probe.longest:,} tokens"
            omitted = f", {probe.left_out:,} that do not fit" if probe.left_out else ""
            yield Check(name=name, value=f"{count(probe.items, 'item')}{omitted}{length}")
    except AssayError as error:
        yield failed("tasks", error)


def _plan(space: Workspace) -> Check:
    plan = space.planner.plan()
    counts = {status: len(plan.of(status)) for status in ("todo", "running", "reuse", "refused", "later", "skipped")}
    value = ", ".join(f"{number} {status}" for status, number in counts.items() if number)
    if counts["refused"]:
        return Check(name="plan", value=value, status="error", fix="Read the reasons in `assay plan`.")
    value = "; ".join([value, *map(text, plan.warnings)])
    if any(label(reason) == "warning" for reason in plan.warnings):
        return Check(name="plan", value=value, status="warning", fix="Read the warnings in `assay plan`.")
    return Check(name="plan", value=value)


def _tracking(space: Workspace) -> Check:
    tracking = space.study.tracking
    name = "wandb login"
    if tracking.mode == "disabled":
        return Check(name=name, value="not needed: tracking is disabled")
    if tracking.mode == "offline":
        return Check(name=name, value="not needed: tracking is offline; `assay sync --send` uploads runs")
    from assay.report.wandb.login import require_login

    return Check(
        name=name, value=f"{require_login(tracking)}, project {tracking.entity or 'default'}/{tracking.project}"
    )
