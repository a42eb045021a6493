"""Build a sweep's report and workspace in W&B: question, verdicts, effects, curves, mixes, runs.

`wandb-workspaces` builds both views in a separate process with a time limit. Without a login, their specifications are
written to disk, as the same JSON that W&B would receive.
"""

# ruff: noqa: SLF001  # the library has no public access to a specification or to the id of a saved workspace

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from assay.config.aggregate import is_aggregate
from assay.core.errors import Refused
from assay.core.files import read_json, write_json
from assay.core.serde import from_record, to_mapping
from assay.report.reason_text import texts
from assay.report.wandb import uploader
from assay.report.wandb.content import INTERIM, STEP, clipped

if TYPE_CHECKING:
    from assay.config.settings import Tracking
    from assay.report.model import Report
    from assay.store.runs import Store

TITLE = 128
"""Maximum characters of the title of a report."""

CURVES = ("train/loss", "train/bits_per_byte", "train/lr", "train/grad_norm", "train/tokens_per_second")
INSTALL = "pip install 'assay[wandb]'"


def publish_views(store: Store, report: Report, *, settings: Tracking, save: bool) -> dict[str, Any]:
    """Build a sweep's report and workspace, and save them to the server or to disk.

    Args:
        store: the store. The specifications are written next to the page, and the ids of saved views to the sweep's
            folder.
        report: the sweep's report.
        settings: project and entity.
        save: whether to save both views to W&B, which needs a login. Saving replaces the previous version in W&B.

    Returns:
        `spec`, the path of the file with both specifications; for saved views, also their URLs `report` and
        `workspace`.

    Raises:
        AssayError: `wandb-workspaces` is not installed, or W&B did not accept the views in time.
    """
    record = store.sweep(report.sweep.name) / "wandb-views.json"
    try:
        saved = read_json(record) if save else {}
    except FileNotFoundError:
        saved = {}
    task = {"view": _view_content(report), "settings": to_mapping(settings), "save": save, "saved": saved}
    seconds = uploader.PATIENCE * settings.patience_seconds + uploader.START
    try:
        done = subprocess.run(
            [sys.executable, "-m", "assay.report.wandb.views"],
            input=json.dumps(task),
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
            env=uploader.environment(),
        )
    except subprocess.TimeoutExpired:
        raise Refused(
            f"W&B did not accept the report of {report.sweep.name} within {seconds:g} s.", fix="Run the command again."
        ) from None
    if done.returncode:
        last = " ".join(done.stderr.strip().splitlines()[-1:])
        missing = "wandb_workspaces" in last
        raise Refused(
            f"the report of {report.sweep.name} was not {'saved' if save else 'made'}: {last[:300]}",
            fix=INSTALL if missing else "Run `wandb login`, or omit --report to save nothing to W&B.",
        )
    made = json.loads(done.stdout)
    spec = store.reports / f"{report.sweep.name}.wandb.json"
    write_json(spec, made["specs"])
    if save:
        write_json(record, made["saved"])
    return {"spec": spec, **made["addresses"]}


def _view_content(report: Report) -> dict[str, Any]:
    """Return the content of both views in plain values."""
    verdicts = {} if report.verdict is None else report.verdict.candidates
    # The score of an aggregate is not logged, but the scores of its tasks are.
    voting = [
        (c.task, c.metric)
        for c in report.comparisons
        if (c.role != "monitor" or c.part_of) and not is_aggregate(c.task)
    ]
    shown = list(dict.fromkeys(voting or [(c.task, c.metric) for c in report.comparisons][:8]))
    interim = {(score.task, score.metric) for score in report.details.interim_scores}
    sources = sorted({name for mix in report.mixes for name in mix.weights})
    return {
        "sweep": report.sweep.name,
        "group": clipped(report.sweep.name),
        "question": report.sweep.question,
        "decision": report.decision,
        "baseline": report.sweep.baseline,
        "verdicts": {name: [str(verdict.decision), *texts(verdict.reasons)] for name, verdict in verdicts.items()},
        "metrics": [f"eval/{task}/{metric}" for task, metric in shown],
        "interim": [f"{INTERIM}/{task}/{metric}" for task, metric in shown if (task, metric) in interim],
        "sources": sources,
    }


def _panels(view: Mapping[str, Any], wr: Any) -> dict[str, list[Any]]:
    """Return panels by section. A mix's curve is the mean of its seeds with a band."""
    by_mix = {"groupby": "mix", "groupby_aggfunc": "mean", "groupby_rangefunc": "minmax"}
    losses = [f"train/loss_by_source/{name}" for name in view["sources"]]
    return {
        "Verdict": [wr.MediaBrowser(media_keys=["plots/effects", "plots/subjects"], num_columns=1)],
        "Scores": [wr.BarPlot(title=key, metrics=[key], **by_mix) for key in view["metrics"]],
        "Curves": [
            *(wr.LinePlot(title=key, x=STEP, y=[key], **by_mix) for key in (*CURVES, *losses)),
            *(wr.LinePlot(title=key, x=f"{INTERIM}/{STEP}", y=[key], **by_mix) for key in view["interim"]),
        ],
        "Mixes": [wr.MediaBrowser(media_keys=["plots/mixes"], num_columns=1)],
    }


RUNS_OF = {"Verdict": ("compare", "gate"), "Scores": ("train",), "Curves": ("train",), "Mixes": ("gate",)}


def make_report(view: Mapping[str, Any], entity: str, project: str, *, online: bool) -> Any:
    """Build the sweep's report in W&B: the verdict, then the evidence.

    Args:
        view: the content of the report.
        entity: owner of the W&B project.
        project: the W&B project.
        online: whether the library may query W&B for the project. Otherwise run sets name no project, and W&B uses the
            project of the report.
    """
    wr = _library("reports.v2")

    blocks = [wr.H1(f"{view['decision']}: {view['sweep']}"), wr.P(view["question"]), wr.TableOfContents()]
    for name, (decision, *reasons) in view["verdicts"].items():
        blocks += [wr.H2(f"{name} against {view['baseline']}: {decision}"), wr.UnorderedList(items=list(reasons))]
    for section, panels in _panels(view, wr).items():
        runsets = [
            wr.Runset(
                entity=entity if online else "",
                project=project if online else "",
                name=kind,
                filters=f'Group == "{view["group"]}" and JobType == "{kind}"',
            )
            for kind in RUNS_OF[section]
        ]
        blocks += [wr.H2(section), wr.PanelGrid(runsets=runsets, panels=panels)]
    title = clipped(f"{view['sweep']}: {view['decision']}", TITLE)
    return wr.Report(project=project, entity=entity, title=title, description=view["question"], blocks=blocks)


def make_workspace(view: Mapping[str, Any], entity: str, project: str) -> Any:
    """Build the sweep's workspace: the report's panels over its trained runs, grouped by mix."""
    wr, ws = _library("reports.v2"), _library("workspaces")

    sections = [ws.Section(name=name, panels=panels, is_open=True) for name, panels in _panels(view, wr).items()]
    return ws.Workspace(
        entity=entity,
        project=project,
        name=clipped(view["sweep"]),
        sections=sections,
        settings=ws.WorkspaceSettings(x_axis=STEP),
        runset_settings=ws.RunsetSettings(filters=f'Group == "{view["group"]}"'),
    )


def main() -> None:
    """Build the views that standard input describes, and save them to W&B if requested."""
    from assay.config.settings import Tracking

    task = json.loads(sys.stdin.read())
    view, saved = task["view"], task["saved"]
    settings = from_record(Tracking, task["settings"], where="settings")
    with uploader.reply_stream() as replies:
        entity = settings.entity or (_own_entity() if task["save"] else "")
        report = make_report(view, entity, settings.project, online=task["save"])
        workspace = make_workspace(view, entity, settings.project)
        place = f"{entity}/{settings.project}"
        addresses = {}
        if task["save"]:
            if saved.get("place") == place:
                report.id = saved["report"]
                workspace._internal_id, workspace._internal_name = saved["workspace"]
            report.save()
            workspace.save()
            addresses = {"report": report.url, "workspace": workspace.url}
            saved = {
                "place": place,
                "report": report.id,
                "workspace": [workspace._internal_id, workspace._internal_name],
            }
        specs = {
            name: json.loads(model.model_dump_json(by_alias=True, exclude_none=True))
            for name, model in (("report", report._to_model()), ("workspace", workspace._to_model()))
        }
        replies.write(json.dumps({"specs": specs, "addresses": addresses, "saved": saved}))


def _library(part: str) -> Any:
    """Import a module of `wandb-workspaces`, whose type stubs do not export its names."""
    return importlib.import_module(f"wandb_workspaces.{part}")


def _own_entity() -> str:
    import wandb

    return str(wandb.Api().default_entity or "")


if __name__ == "__main__":
    main()
