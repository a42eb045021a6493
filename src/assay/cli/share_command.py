"""`assay report`, `serve`, `sync`: a sweep's page, the store as a site, and W&B."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from assay.cli.arguments import (
    AsJson,
    Current,
    Overrides,
    check_project,
    load_sweep,
    print_selection,
    selection_mapping,
)
from assay.cli.command_group import add_command
from assay.cli.console import console, errors, print_json
from assay.cli.gate_command import PolicyNow
from assay.cli.progress import progress_bars, spinner
from assay.core.errors import NotFound, Refused

if TYPE_CHECKING:
    from assay.plan.sweep_selection import SelectedSweep
    from assay.plan.workspace import Workspace
    from assay.report.model import Report
    from assay.report.publish import Synced
    from assay.store.runs import Store

PANEL = "Share"
PORT = 8765
POLL_SECONDS = 0.2
INCOMPLETE = 2
"""The exit code of a sync that could not publish everything."""


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    second = "assay report sweep=first --out first.html"
    add_command(app, report, "report", panel=PANEL, first="assay report sweep=first", second=second)
    add_command(app, serve, "serve", panel=PANEL, first="assay serve", second="assay serve --port 0 --json")
    second = "assay sync sweep=first --send --report"
    add_command(app, sync, "sync", panel=PANEL, first="assay sync sweep=first", second=second)


def report(
    overrides: Overrides = None,
    *,
    out: Annotated[
        Path | None, typer.Option("--out", help="HTML file to write (default: reports/SWEEP.html in the store).")
    ] = None,
    policy_now: PolicyNow = False,
    current: Current = False,
    as_json: AsJson = False,
) -> None:
    """Write the sweep's page as one self-contained HTML file.

    With --current, the default file is reports/SWEEP.current.html, and the page of the submitted runs is not
    overwritten. A sweep without any run has no page.
    """
    from assay.report.publish import write_page

    with spinner("writing the page", quiet=as_json):
        selected = load_sweep(overrides, current=current)
        space, page = _report_of(selected, policy_now=policy_now)
        _require_run(page, space.store)
        path = write_page(page, out or space.store.reports / f"{page.sweep.name}{'.current' * selected.current}.html")
    if as_json:
        print_json({"page": path, "bytes": path.stat().st_size, "submission": selection_mapping(selected)})
    else:
        print_selection(selected)
        console.print(str(path), markup=False, soft_wrap=True)


def _report_of(selected: SelectedSweep, *, policy_now: bool) -> tuple[Workspace, Report]:
    """Decide a sweep and assemble its report. The returned workspace has the policy and suite of the verdict."""
    from assay.analysis.verdict import decide_sweep, register_selection
    from assay.report.publish import make_report

    space, plan, standing = register_selection(selected, present=policy_now)
    return space, make_report(space, plan, decide_sweep(space, plan, registration=standing))


def _require_run(page: Report, store: Store) -> None:
    """Refuse a page without any run, which could replace a page with results."""
    if not any(run.result is not None for run in page.runs):
        raise NotFound(
            f"sweep {page.sweep.name!r}: the store {store.root} has no run of the sweep, so the sweep has no page.",
            fix="Start its runs with `assay submit` and the same arguments.",
        )


def sync(
    overrides: Overrides = None,
    *,
    send: Annotated[
        bool,
        typer.Option(
            "--send",
            help="Upload to the W&B server, even if tracking.mode is offline or disabled. Requires `wandb login`.",
        ),
    ] = False,
    again: Annotated[bool, typer.Option("--again", help="Also publish parts that are already published.")] = False,
    views: Annotated[
        bool,
        typer.Option(
            "--report", help="Save the sweep's report and workspace on the W&B server. Requires `wandb login`."
        ),
    ] = False,
    policy_now: PolicyNow = False,
    current: Current = False,
    as_json: AsJson = False,
) -> None:
    """Publish runs, evaluations, comparisons, the verdict and their inputs to W&B, unless already published.

    The command can be repeated at any time. If tracking.mode is offline, it writes W&B files to disk. Exits with 2 if a
    part was not published.
    """
    from assay.report.publish import publish, publish_views

    with spinner("comparing", quiet=as_json):
        page_overrides = [*(overrides or ()), *(["tracking.mode=online"] if send else [])]
        selected = load_sweep(page_overrides, current=current)
        if selected.other_runs:
            raise Refused(
                "--current: the current configuration has other runs than the submitted sweep, and would replace its verdict"
                " in W&B.",
                fix="Copy the sweep file, give the copy a new `name`, and publish that sweep.",
            )
        space, page = _report_of(selected, policy_now=policy_now)
    with progress_bars(quiet=as_json) as progress:
        synced = publish(space, page, again=again, progress=progress)
        saved = views and not synced.missing  # W&B would refuse a report on runs that it refused
        urls = publish_views(space, page, save=saved, progress=progress) if synced.folder or views else {}
    if as_json:
        print_json({**vars(synced), "views": urls, "submission": selection_mapping(selected)})
    else:
        print_selection(selected)
        _print_synced(synced, urls, saved=saved)
    if synced.problems:
        raise typer.Exit(INCOMPLETE)


def _print_synced(synced: Synced, urls: Mapping[str, Any], *, saved: bool) -> None:
    console.print(f"{synced.published} published to W&B ({synced.mode}): {synced.folder}", markup=False, soft_wrap=True)
    for name, url in urls.items():
        console.print(f"{name}: {url}", markup=False, soft_wrap=True)
    if urls and not saved:
        console.print(
            "Report and workspace were written to disk only: `assay sync --report` saves both to W&B.", markup=False
        )
    if synced.mode == "offline":
        console.print(
            "Written to disk only: `assay sync --send` uploads the files from a machine that reaches W&B.", markup=False
        )
    for problem in synced.problems:
        errors.print(f"W&B: {problem}", markup=False)
    if synced.missing:
        total = synced.missing + synced.published
        errors.print(
            f"{synced.missing} of {total} runs were not published. The store still has these runs: repeat this command.",
            markup=False,
        )


def serve(
    overrides: Overrides = None,
    *,
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, help="Port on 127.0.0.1; 0 selects a free port.")
    ] = PORT,
    as_json: AsJson = False,
) -> None:
    """Serve the whole store as a live site on this machine: sweeps, runs, mixes, sources and verdicts.

    The server writes nothing to the store. Ctrl-C stops the server.
    """
    from assay.audit.detectors.declaration import project_detectors
    from assay.config.compose import compose
    from assay.config.search_path import project_root
    from assay.report.site.audit_pages import AuditPages
    from assay.report.site.live_project import LiveProject
    from assay.report.site.run_index import RunIndex
    from assay.report.site.server import SiteServer
    from assay.report.site.views import StoreSite
    from assay.store.runs import Store

    check_project(overrides, needs_project=False)
    root = project_root()
    paths = compose(overrides or [], root=root).paths
    store = Store(paths.resolve(paths.store))
    index = RunIndex(store.root)
    project = LiveProject(root, store, index, overrides or [])
    audits = AuditPages(project.workspace, project=root, detectors=project_detectors)
    with SiteServer(StoreSite(store, project, index, title=root.name, audits=audits), port=port) as server:
        try:
            with progress_bars(quiet=as_json) as progress:
                project.load(lambda fraction: progress("sweeps", fraction))
            project.start()
            if as_json:
                typer.echo(json.dumps({"address": server.address, "port": server.server_port}))
            else:
                console.print(server.address, markup=False, soft_wrap=True)
                errors.print(f"serving the store {store.root}; Ctrl-C stops it", markup=False, soft_wrap=True)
            sys.stdout.flush()
            server.serve_forever(poll_interval=POLL_SECONDS)
        except KeyboardInterrupt:
            errors.print("stopped")
