"""The files of sweeps that derive from other sweeps: what they compose to is what the command line composed to."""

from __future__ import annotations

from pathlib import Path

import pytest

from assay.analysis.followup.sweep_file import format_derived_sweep, split_overrides
from assay.config.compose import compose
from assay.config.study import Study
from tests.cli.test_commands import CONF

SOURCE = "{files: [a.jsonl], domain: web, language: en, license: CC0-1.0, clearance: {state: cleared, by: us}}"


@pytest.mark.parametrize(
    "overrides",
    [
        ["mix.half.weights.2.1-web=3"],
        ["mix.half.weights={2.1-web: 1}", "mix.half.weights.2.1-web=2"],
        ["mix.half.weights={code: 2, 2.1-web: 1}", "++mix.half.max_epochs=3"],
        ["++mix.half.weights.code=5", "source.2.1-web.clearance.by='2013'"],
        ["policy=007", "budget.tokens=6144", "sweep.seeds=[4,5]"],
        ["++mix.1e5={base: half, edits: [{drop: code}]}", "sweep.candidates=[1e5]"],
    ],
)
def test_a_derived_sweep_composes_to_what_its_overrides_composed_to(tmp_path: Path, overrides: list[str]) -> None:
    files = {
        **CONF,
        "conf/source/prose.yaml": SOURCE,
        "conf/source/code.yaml": SOURCE,
        "conf/source/2.1-web.yaml": SOURCE,
        "conf/policy/007.yaml": CONF["conf/policy/prose.yaml"].replace("name: prose, ", ""),
        "conf/mix/half.yaml": "{weights: {prose: 1, code: 1, 2.1-web: 0.5}}",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    study = compose(["sweep=tiny", *overrides], root=tmp_path)
    base, kept, command = split_overrides(["sweep='tiny'", *overrides, "tracking.mode=offline"])
    assert (base, kept, command) == ("tiny", overrides, ("tracking.mode=offline",))
    text = format_derived_sweep(base, {"name": "next"}, kept, raw=study.raw, about="A test.")
    (tmp_path / "sweeps/next.yaml").write_text(text)
    derived = compose(["sweep=next"], root=tmp_path)
    assert _content(derived) == _content(study)


def _content(study: Study) -> tuple[object, ...]:
    """Return what both studies must share: everything but the name of the sweep and the files of the keys."""
    sweep = study.require_sweep()
    return study.mixes, study.sources, study.policy, study.budget, sweep.seeds, sweep.mixes
