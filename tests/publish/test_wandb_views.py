"""A sweep's report and workspace in W&B, made by `wandb-workspaces` and saved through W&B's real client."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import shown
import wandb_stub

from assay.errors import AssayError
from assay.files import read_json
from assay.publish.report import Report
from assay.publish.tracking.views import publish_views
from assay.settings import Tracking
from assay.store import Store

SETTINGS = Tracking(mode="online", project="assay", entity="team", patience_seconds=10.0)


@pytest.fixture
def report() -> Report:
    return shown.make(records=10)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    return Store(tmp_path / "store")


def texts(value: Any) -> str:
    return json.dumps(value)


def test_without_a_login_the_specifications_are_written_beside_the_page(store: Store, report: Report) -> None:
    """They have the verdict, the baseline, and a panel for every metric that votes and every curve."""
    made = publish_views(store, report, settings=replace(SETTINGS, entity=None), save=False)
    assert set(made) == {"spec"}
    assert made["spec"].parent == store.reports
    specs = read_json(made["spec"])
    told = texts(specs["report"])
    assert "cc_code_replace_github against web_and_github" in told
    assert "eval/validation/code_github/bits_per_byte" in told
    for panel in ("train/loss", "train/loss_by_source/books", "plots/effects", "plots/mixes"):
        assert panel in told
        assert panel in texts(specs["workspace"])


def test_saved_again_they_take_the_place_of_what_was_saved(
    store: Store, report: Report, monkeypatch: pytest.MonkeyPatch
) -> None:
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


def test_a_server_that_refuses_is_told_with_what_to_do(
    store: Store, report: Report, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    with wandb_stub.serve(status=401) as (url, _):
        monkeypatch.setenv("WANDB_BASE_URL", url)
        with pytest.raises(AssayError, match="was not saved") as error:
            publish_views(store, report, settings=SETTINGS, save=True)
    assert "wandb login" in error.value.fix
