"""Tokens to match from a sweep's histories, only for text that both arms see for the first time."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from assay.analysis.tokens_to_match import match
from assay.cli.arguments import load_workspace
from assay.cli.main import app
from assay.config.recipe import RunSpec
from assay.config.study import Study
from assay.core.files import write_json
from assay.plan.prepare import prepare_corpora
from assay.plan.workspace import Workspace
from assay.report.terminal.extras import matches_view
from tests.helpers.finished import finish
from tests.helpers.tiny import write_sources

MakeStudy = Callable[..., Study]


def logged(space: Workspace, mix: str, seed: int, *, worth: float, epochs: float = 0.5) -> None:
    """Record a finished run whose tokens of code are worth `worth` times the baseline's."""
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


def test_tokens_worth_less_are_matched_by_fewer(tiny_study: MakeStudy) -> None:
    space = Workspace(tiny_study(sweep__candidates=["more_web"]))
    prepare_corpora(space.sources, space.mixes.sweep_sources)
    for seed in (0, 1):
        logged(space, "base", seed, worth=1.0)
        logged(space, "more_web", seed, worth=0.7)
    by_source = {pair.source: pair for pair in match(space.store, space.planner.plan()).found}
    assert set(by_source) == {"code", "web"}, "no loss of books was logged"
    assert by_source["code"].worth.ratio == pytest.approx(0.7, rel=0.03)
    assert by_source["code"].needed.bound == "more than"
    assert by_source["web"].worth.ratio == pytest.approx(1.0)
    assert by_source["code"].control_loss < by_source["code"].candidate_loss


def test_a_source_that_an_arm_repeats_is_excluded_with_a_note(tiny_study: MakeStudy) -> None:
    space = Workspace(tiny_study(sweep__candidates=["more_web"]))
    prepare_corpora(space.sources, space.mixes.sweep_sources)
    for seed in (0, 1):
        logged(space, "base", seed, worth=1.0)
        logged(space, "more_web", seed, worth=0.7, epochs=2.0)
    matches = match(space.store, space.planner.plan())
    assert [pair.source for pair in matches.found] == ["code"]
    assert matches.notes == (
        "web is excluded: more_web repeated it, so that its training loss is partly due to memorization.",
    )
    assert matches_view(matches)


def test_a_sweep_without_finished_runs_has_nothing_to_match(tiny_study: MakeStudy) -> None:
    space = Workspace(tiny_study())
    assert match(space.store, space.planner.plan()) == ((), ())


def test_compare_reports_tokens_to_match_with_the_option(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sources = write_sources(tmp_path / "data")
    clear = "clearance: {state: cleared, by: the tests}"
    files = {
        f"conf/source/{name}.yaml": f"{{files: [data/{path.name}], domain: {name}, language: en, license: MIT, {clear}}}"
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
    space = load_workspace(["sweep=tiny"])
    prepare_corpora(space.sources, space.mixes.sweep_sources)
    for seed in (0, 1):
        logged(space, "base", seed, worth=1.0)
        logged(space, "base-books", seed, worth=0.7)
    result = CliRunner().invoke(app, ["compare", "sweep=tiny", "--tokens-to-match"])
    assert result.exit_code == 0, result.output
    assert "needs" in result.output
    assert "more than" in result.output
    plain = CliRunner().invoke(app, ["compare", "sweep=tiny", "--tokens-to-match", "--json"])
    matched = {pair["source"]: pair for pair in json.loads(plain.stdout)["tokens_to_match"]}
    assert matched["code"]["worth"]["ratio"] == pytest.approx(0.7, rel=0.03)
    assert matched["code"]["needed"]["low"] is None
    assert json.loads(plain.stdout)["reference_models"] == []
