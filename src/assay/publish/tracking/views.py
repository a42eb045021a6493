"""A sweep's report and workspace in W&B, as code: what is asked and found, effects, curves, mixes, runs.

Both are made by `wandb-workspaces` in a process of its own, which may take so much time and no more. Without a login
their specifications are written to disk, which is all that W&B would be sent.
"""

# ruff: noqa: SLF001  # the library has no public way to a specification, nor to a workspace that was saved before

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from assay.errors import AssayError
from assay.files import read_json, write_json
from assay.publish.tracking import sender
from assay.publish.tracking.content import LOOKS, STEP, clipped
from assay.structure import from_mapping, to_mapping

if TYPE_CHECKING:
    from assay.publish.report import Report
    from assay.settings import Tracking
    from assay.store import Store

TITLE = 128
"""The longest title of a report."""

CURVES = ("train/loss", "train/bits_per_byte", "train/lr", "train/grad_norm", "train/tokens_per_second")
INSTALL = "pip install 'assay[wandb]'"


def publish_views(store: Store, report: Report, *, settings: Tracking, save: bool) -> dict[str, Any]:
    """Make a sweep's report and workspace, and save them to the server or to disk.

    Args:
        store: the specifications go beside the page; where they are in W&B, into the sweep's folder.
        report: what is shown of the sweep.
        settings: project and entity.
        save: whether to save them to W&B, which needs a login; what was saved before is replaced there.

    Returns:
        `spec`, the file with both specifications, and, saved, their addresses `report` and `workspace`.

    Raises:
        AssayError: `wandb-workspaces` is not installed, or W&B did not take them in time.
    """
    told = store.sweep(report.sweep.name) / "wandb-views.json"
    try:
        known = read_json(told) if save else {}
    except (FileNotFoundError, AssayError):
        known = {}
    asked = {"asked": _asked(report), "settings": to_mapping(settings), "save": save, "known": known}
    seconds = sender.PATIENCE * settings.patience_seconds + sender.START
    try:
        done = subprocess.run(
            [sys.executable, "-m", "assay.publish.tracking.views"],
            input=json.dumps(asked),
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
            env=sender.environment(),
        )
    except subprocess.TimeoutExpired:
        raise AssayError(f"W&B did not take the report of {report.sweep.name} within {seconds:g} s.") from None
    if done.returncode:
        last = " ".join(done.stderr.strip().splitlines()[-1:])
        missing = "wandb_workspaces" in last
        raise AssayError(
            f"the report of {report.sweep.name} was not {'saved' if save else 'made'}: {last[:300]}",
            fix=INSTALL if missing else "`wandb login` says who you are; without --report nothing is saved there.",
        )
    made = json.loads(done.stdout)
    spec = store.reports / f"{report.sweep.name}.wandb.json"
    write_json(spec, made["specs"])
    if save:
        write_json(told, made["known"])
    return {"spec": spec, **made["addresses"]}


def _asked(report: Report) -> dict[str, Any]:
    """What the report says and shows, in plain values."""
    verdicts = {} if report.verdict is None else report.verdict.candidates
    voting = [(c.task, c.metric) for c in report.comparisons if c.role != "monitor"]
    shown = list(dict.fromkeys(voting or [(c.task, c.metric) for c in report.comparisons][:8]))
    looked = {(look.task, look.metric) for look in report.details.looks}
    sources = sorted({name for mix in report.mixes for name in mix.weights})
    return {
        "sweep": report.sweep.name,
        "group": clipped(report.sweep.name),
        "question": report.sweep.question,
        "decision": report.decision,
        "baseline": report.sweep.baseline,
        "verdicts": {name: [str(one.decision), *one.reasons] for name, one in verdicts.items()},
        "metrics": [f"eval/{task}/{metric}" for task, metric in shown],
        "looks": [f"{LOOKS}/{task}/{metric}" for task, metric in shown if (task, metric) in looked],
        "sources": sources,
    }


def _panels(asked: Mapping[str, Any], wr: Any) -> dict[str, list[Any]]:
    """Panels by section; curves of a mix are the mean of its seeds, with a band."""
    by_mix = {"groupby": "mix", "groupby_aggfunc": "mean", "groupby_rangefunc": "minmax"}
    losses = [f"train/loss_by_source/{name}" for name in asked["sources"]]
    return {
        "Verdict": [wr.MediaBrowser(media_keys=["plots/effects", "plots/subjects"], num_columns=1)],
        "Scores": [wr.BarPlot(title=key, metrics=[key], **by_mix) for key in asked["metrics"]],
        "Curves": [
            *(wr.LinePlot(title=key, x=STEP, y=[key], **by_mix) for key in (*CURVES, *losses)),
            *(wr.LinePlot(title=key, x=f"{LOOKS}/{STEP}", y=[key], **by_mix) for key in asked["looks"]),
        ],
        "Mixes": [wr.MediaBrowser(media_keys=["plots/mixes"], num_columns=1)],
    }


RUNS_OF = {"Verdict": ("compare", "gate"), "Scores": ("train",), "Curves": ("train",), "Mixes": ("gate",)}


def make_report(asked: Mapping[str, Any], entity: str, project: str, *, known_there: bool) -> Any:
    """The sweep's report: verdict first, then what it rests on.

    Args:
        asked: what it says and shows.
        entity: whose project.
        project: which.
        known_there: whether W&B may be asked for the project; otherwise its runs are those of the report's own.
    """
    wr = _library("reports.v2")

    found = [wr.H1(f"{asked['decision']}: {asked['sweep']}"), wr.P(asked["question"]), wr.TableOfContents()]
    for name, (decision, *reasons) in asked["verdicts"].items():
        found += [wr.H2(f"{name} against {asked['baseline']}: {decision}"), wr.UnorderedList(items=list(reasons))]
    for section, panels in _panels(asked, wr).items():
        runsets = [
            wr.Runset(
                entity=entity if known_there else "",
                project=project if known_there else "",
                name=kind,
                filters=f'Group == "{asked["group"]}" and JobType == "{kind}"',
            )
            for kind in RUNS_OF[section]
        ]
        found += [wr.H2(section), wr.PanelGrid(runsets=runsets, panels=panels)]
    title = clipped(f"{asked['sweep']}: {asked['decision']}", TITLE)
    return wr.Report(project=project, entity=entity, title=title, description=asked["question"], blocks=found)


def make_workspace(asked: Mapping[str, Any], entity: str, project: str) -> Any:
    """The sweep's workspace: the same panels over its trained runs, grouped by mix."""
    wr, ws = _library("reports.v2"), _library("workspaces")

    sections = [ws.Section(name=name, panels=panels, is_open=True) for name, panels in _panels(asked, wr).items()]
    return ws.Workspace(
        entity=entity,
        project=project,
        name=clipped(asked["sweep"]),
        sections=sections,
        settings=ws.WorkspaceSettings(x_axis=STEP),
        runset_settings=ws.RunsetSettings(filters=f'Group == "{asked["group"]}"'),
    )


def main() -> None:
    """Make, and save where it is asked for, the views that standard input describes."""
    from assay.settings import Tracking

    task = json.loads(sys.stdin.read())
    asked, known = task["asked"], task["known"]
    settings = from_mapping(Tracking, task["settings"], where="settings")
    with sender.answering() as answers:
        entity = settings.entity or (_own_entity() if task["save"] else "")
        report = make_report(asked, entity, settings.project, known_there=task["save"])
        workspace = make_workspace(asked, entity, settings.project)
        here = f"{entity}/{settings.project}"
        addresses = {}
        if task["save"]:
            if known.get("place") == here:
                report.id = known["report"]
                workspace._internal_id, workspace._internal_name = known["workspace"]
            report.save()
            workspace.save()
            addresses = {"report": report.url, "workspace": workspace.url}
            known = {
                "place": here,
                "report": report.id,
                "workspace": [workspace._internal_id, workspace._internal_name],
            }
        specs = {
            name: json.loads(model.model_dump_json(by_alias=True, exclude_none=True))
            for name, model in (("report", report._to_model()), ("workspace", workspace._to_model()))
        }
        answers.write(json.dumps({"specs": specs, "addresses": addresses, "known": known}))


def _library(part: str) -> Any:
    """A part of `wandb-workspaces`, whose names its types do not export."""
    return importlib.import_module(f"wandb_workspaces.{part}")


def _own_entity() -> str:
    import wandb

    return str(wandb.Api().default_entity or "")


if __name__ == "__main__":
    main()
