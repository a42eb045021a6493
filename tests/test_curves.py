"""Tokens to match out of a sweep's histories: only of text that both arms see for the first time."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from assay.cli.common import workspace
from assay.cli.main import app
from assay.curves import match
from assay.files import write_json
from assay.publish.beside import matches_view
from assay.recipe import RunSpec
from assay.study import Study
from assay.workspace import Workspace
from tests.finished import finish
from tests.tiny import write_sources

MakeStudy = Callable[..., Study]


def logged(space: Workspace, mix: str, seed: int, *, worth: float, epochs: float = 0.5) -> None:
    """Record a finished run whose every token of code is worth so many of the baseline's."""
    run = finish(space, mix, seed)
    spec = run.spec()
    write_json(
        run.path / "delivered.json", {"delivered": {name: delivered(spec, name, epochs) for name in spec.corpora}}
    )
    lines = []
    for step in range(1, 61):
        loss = 1 + 3 * (worth * (1 + 0.02 * seed) * (step - 0.5)) ** -0.3
        lines.append({"step": step, "tokens": 256 * step, "loss_by_source": {"code": loss, "web": 2.0 - 0.01 * step}})
    run.metrics.write_text("".join(json.dumps(line) + "\n" for line in [*lines[:50], *lines[40:]]))


def delivered(spec: RunSpec, name: str, epochs: float) -> dict[str, Any]:
    sequences = round(spec.stages[0].weights[name] * spec.steps * spec.batch_sequences)
    return {"sequences": sequences, "epochs": epochs if name == "web" else 0.5}


def test_a_candidate_whose_tokens_are_worth_less_is_matched_by_fewer(tiny_study: MakeStudy) -> None:
    space = Workspace(tiny_study(sweep__candidates=["more_web"]))
    space.prepare()
    for seed in (0, 1):
        logged(space, "base", seed, worth=1.0)
        logged(space, "more_web", seed, worth=0.7)
    found = {one.source: one for one in match(space.store, space.plan()).found}
    assert set(found) == {"code", "web"}, "books have no curve: nothing was logged of them"
    assert found["code"].worth.ratio == pytest.approx(0.7, rel=0.03)
    assert found["code"].needed.bound == "more than"
    assert found["web"].worth.ratio == pytest.approx(1.0)
    assert found["code"].control_loss < found["code"].candidate_loss


def test_a_source_that_an_arm_repeats_is_left_out_and_said_to_be(tiny_study: MakeStudy) -> None:
    space = Workspace(tiny_study(sweep__candidates=["more_web"]))
    space.prepare()
    for seed in (0, 1):
        logged(space, "base", seed, worth=1.0)
        logged(space, "more_web", seed, worth=0.7, epochs=2.0)
    matches = match(space.store, space.plan())
    assert [one.source for one in matches.found] == ["code"]
    assert matches.notes == (
        "web is left out: more_web went through it more than once, and its training loss is partly memory.",
    )
    assert matches_view(matches)


def test_a_sweep_without_finished_runs_has_nothing_to_match(tiny_study: MakeStudy) -> None:
    space = Workspace(tiny_study())
    assert match(space.store, space.plan()) == ((), ())


def test_compare_shows_tokens_to_match_when_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sources = write_sources(tmp_path / "data")
    clear = "clearance: {state: cleared, by: the tests}"
    files = {
        f"conf/source/{name}.yaml": f"{{files: [data/{path.name}], domain: {name}, language: en, licence: MIT, {clear}}}"
        for name, path in sources.items()
    }
    files |= {
        "conf/mix/base.yaml": "{weights: {code: 2, web: 2, books: 1}}",
        "conf/suite/bytes.yaml": "{name: bytes, tasks: [], batch_size: 8, validation_bytes: 2000}",
        "conf/tokenizer/small.yaml": "{name: small, vocabulary: 300}",
        "conf/policy/code.yaml": "{name: code, alpha: 0.05, min_seeds: 2, "
        "primary: [{task: validation/code, metric: bits_per_byte, better: lower}]}",
        "sweeps/tiny.yaml": "# @package _global_\n"
        "defaults: [override /suite: bytes, override /tokenizer: small, override /policy: code]\n"
        "sweep: {name: tiny, baseline: base, seeds: [0, 1], ablation: {kind: leave_one_out, sources: [books]}}\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    space = workspace(["sweep=tiny"])
    space.prepare()
    for seed in (0, 1):
        logged(space, "base", seed, worth=1.0)
        logged(space, "base-books", seed, worth=0.7)
    shown = CliRunner().invoke(app, ["compare", "sweep=tiny", "--tokens-to-match"])
    assert shown.exit_code == 0, shown.output
    assert "needs" in shown.output
    assert "more than" in shown.output
    plain = CliRunner().invoke(app, ["compare", "sweep=tiny", "--tokens-to-match", "--json"])
    matched = {one["source"]: one for one in json.loads(plain.stdout)["tokens_to_match"]}
    assert matched["code"]["worth"]["ratio"] == pytest.approx(0.7, rel=0.03)
    assert matched["code"]["needed"]["low"] is None
    assert json.loads(plain.stdout)["reference_models"] == []
