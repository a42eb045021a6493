"""A sweep's report and workspace, built by `wandb-workspaces` and saved through W&B's real client."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from assay.config.settings import Tracking
from assay.core.errors import AssayError, Damaged
from assay.core.files import read_json
from assay.report.model import Report
from assay.report.wandb.views import publish_views
from assay.store.runs import Store
from tests.report import page_data
from tests.report.wandb import wandb_stub

SETTINGS = Tracking(mode="online", project="assay", entity="team", patience_seconds=10.0)


@pytest.fixture
def report() -> Report:
    return page_data.make(records=10)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    return Store(tmp_path / "store")


def texts(value: Any) -> str:
    return json.dumps(value)


def test_without_a_login_the_specifications_are_written_next_to_the_page(store: Store, report: Report) -> None:
    """They have the verdict, the baseline, and panels for all voting metrics and all curves."""
    made = publish_views(store, report, settings=replace(SETTINGS, entity=None), save=False)
    assert set(made) == {"spec"}
    assert made["spec"].parent == store.reports
    specs = read_json(made["spec"])
    report_text = texts(specs["report"])
    assert "cc_code_replace_github against web_and_github" in report_text
    assert "eval/validation/code_github/bits_per_byte" in report_text
    for panel in ("train/loss", "train/loss_by_source/books", "plots/effects", "plots/mixes"):
        assert panel in report_text
        assert panel in texts(specs["workspace"])


def test_saving_again_replaces_the_saved_views(store: Store, report: Report, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    with wandb_stub.serve() as (url, received):
        monkeypatch.setenv("WANDB_BASE_URL", url)
        first = publish_views(store, report, settings=SETTINGS, save=True)
        assert publish_views(store, report, settings=SETTINGS, save=True) == first
    assert received.unknown == []
    assert [(view["type"], view["displayName"]) for view in received.views] == [
        ("runs", f"code_replace: {report.decision}"),
        ("project-view", "code_replace"),
    ]
    assert first["report"].startswith(f"{url}/team/assay/reports/")
    assert 'JobType == \\"compare\\"' in received.views[0]["spec"] or "jobType" in received.views[0]["spec"]


def test_the_error_for_a_refusing_server_has_a_fix(
    store: Store, report: Report, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    with wandb_stub.serve(status=401) as (url, _):
        monkeypatch.setenv("WANDB_BASE_URL", url)
        with pytest.raises(AssayError, match="was not saved") as error:
            publish_views(store, report, settings=SETTINGS, save=True)
    assert "wandb login" in error.value.fix


def test_a_damaged_record_of_saved_views_is_an_error_and_nothing_is_saved_twice(store: Store, report: Report) -> None:
    record = store.sweep(report.sweep.name) / "wandb-views.json"
    record.parent.mkdir(parents=True)
    record.write_text("{")
    with pytest.raises(Damaged, match="wandb-views.json"):
        publish_views(store, report, settings=SETTINGS, save=True)
