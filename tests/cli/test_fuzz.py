"""Broken configuration files: every command states the problem, and no verdict rests on a file that cannot be read.

The mutations are the same in every run. `make test` runs a part of them, `make fuzz` runs all of them with every command and
plans each configuration that is still valid.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from assay.cli.arguments import load_workspace
from assay.cli.plan_command import plan_mapping
from assay.config.compose import compose
from assay.core.errors import AssayError
from assay.plan.prepare import prepare_corpora
from assay.plan.workspace import Workspace
from assay.report.reason_text import to_json
from tests.cli.invoke import Said, caller
from tests.cli.test_commands import CONF, TEXTS
from tests.helpers.finished import finish
from tests.helpers.mutation import Mutation, mutations

Call = Callable[..., Said]
ALL = "ASSAY_FUZZ" in os.environ
SWEEP = CONF["sweeps/tiny.yaml"]
FILES = {
    **CONF,
    "conf/config.yaml": "taint: {severity: high, fraction: 0.0}\nbudget: {tokens: 5000}\ntraining: {interim_evaluations: [0.5]}\n"
    "stages: [{name: first, fraction: 0.5, mix: null, anneal: false}, {name: last, fraction: 0.5, mix: half, anneal: true}]\n",
    "conf/mix/natural.yaml": "natural: {sources: {domain: [prose, code]}, temperature: 2}\nedits:\n- drop: code\nmax_epochs: 4\n",
    "conf/mix/edited.yaml": "base: half\nedits:\n- replace: {source: code, by: prose, fraction: 0.5}\n- multiply: {code: 1.5}\n"
    "- only: {domain: [code, prose]}\n- scale: {code: 2}\n- set: {code: 0.2}\n- drop: [code]\n",
    "conf/optim/ours.yaml": "peak_lr: 6.0e-3\nschedule: wsd\nwarmup: 0.1\ndecay: 0.2\nfinal_lr: 0.0\nbeta1: 0.9\nbeta2: 0.95\n"
    "epsilon: 1.0e-8\nweight_decay: 0.1\ngradient_clip: 1.0\n",
    "conf/cluster/night.yaml": "executor: slurm\ncpus_per_worker: 1\ndevice: auto\nenvironment: {A: b}\ntimeout_hours: 1\n"
    "slurm:\n  partition: gpu\n  gpus_per_node: h100:1\n  exclude: [n1]\n  options: {exclusive: true, nice: 100}\n"
    "  retries: {node failed: 5}\n  setup: [module load x]\n  memory_gb: 4\n",
    "conf/suite/bytes.yaml": "name: bytes\ntasks: [{task: arc_easy, limit: 20}]\nbatch_size: 8\nvalidation_bytes: 2000\n",
    "conf/policy/prose.yaml": "primary: [{task: validation/prose, metric: bits_per_byte, better: lower}]\nalpha: 0.05\nmin_seeds: 3\n"
    "guardrails: [{task: validation/code, metric: bits_per_byte, better: lower, margin: 0.1}]\nrequire: any\n"
    "early_stopping: {stop: losers, interim_analyses: [0.5], alpha_fraction: 0.2, min_persistence: 0.0}\n"
    "average: {last: 2, every: 0.1}\n",
    "sweeps/tiny.yaml": SWEEP.replace("[less_code]", "[less_code, natural, edited]")
    + "mix: {half: {weights: {prose: 2, code: 1}, max_epochs: 9}}\n",
    "sweeps/parts.yaml": SWEEP.replace("name: tiny", "name: parts").replace(
        "candidates: [less_code], seeds: [0, 1, 2]",
        "seeds: [0, 1, 2], ablation: {kind: epochs, source: code, epochs: [1, 2], weight_decay: [0.1, 0.3]}",
    ),
    **{
        f"conf/source/{name}.yaml": f"files: [{name}.jsonl]\ndomain: {name}\nlanguage: en\nlicense: CC0-1.0\ntags: [a]\n"
        "clearance: {state: cleared, by: us, date: 2026-01-01}\nwaivers: []\n"
        for name in TEXTS
    },
}
"""A project that uses most kinds of declarations."""
CHOICES = {"cluster": "cluster=night", "optim": "optim=ours"}


def _write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    for name, text in TEXTS.items():
        lines = [json.dumps({"text": text.format(i) * 20 + str(i)}) for i in range(60)]
        (root / f"{name}.jsonl").write_text("\n".join(lines))
    return root


def _overrides(file: str) -> list[str]:
    """Return overrides that select a file."""
    group = Path(file).parent.name
    return [
        "sweep=parts" if file == "sweeps/parts.yaml" else "sweep=tiny",
        *([CHOICES[group]] if group in CHOICES else []),
    ]


def _restore(path: Path, text: str) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
    path.write_text(text)


def _check_message(error: AssayError, mutation: Mutation) -> None:
    """A message is short, and names no exception of Python's."""
    assert error.what, mutation.name
    assert len(str(error)) < 1500, mutation.name
    for word in (
        "Traceback",
        "KeyError",
        "TypeError",
        "ValueError",
        "AttributeError",
        "RecursionError",
        "object at 0x",
    ):
        assert word not in str(error), f"{mutation.name}: {error}"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _write(tmp_path_factory.mktemp("broad"), FILES)


def test_the_unbroken_project_is_valid(project: Path) -> None:
    for file in FILES:
        compose(_overrides(file), root=project)


@pytest.mark.parametrize("file", FILES)
def test_a_broken_file_yields_a_study_or_a_sentence(project: Path, file: str) -> None:
    """At least 16 mutations of each of 14 files, with all changes of the whole file over all files."""
    path, text = project / file, FILES[file]
    place = list(FILES).index(file)
    chosen = [m for i, m in enumerate(mutations(text, count=10, seed=place)) if i >= 28 or i % 5 == place % 5]
    assert len(chosen) >= 16
    for mutation in chosen:
        mutation.apply(path)
        try:
            compose(_overrides(file), root=project)
        except AssayError as error:
            _check_message(error, mutation)
        finally:
            _restore(path, text)


@pytest.mark.parametrize("file", FILES)
def test_a_broken_file_yields_a_plan_or_a_sentence(project: Path, file: str) -> None:
    path, text = project / file, FILES[file]
    place = list(FILES).index(file)
    for i, mutation in enumerate(mutations(text, count=40, seed=99)):
        if not ALL and i % 5 != place % 5:
            continue
        mutation.apply(path)
        try:
            to_json(plan_mapping(Workspace(compose(_overrides(file), root=project)).planner.plan()))
        except AssayError as error:
            _check_message(error, mutation)
        finally:
            _restore(path, text)


# --- verdicts


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose sweep is accepted: two mixes of three seeds, less code much better."""
    sources = {name: text for name, text in FILES.items() if name.startswith("conf/source/")}
    root = _write(tmp_path_factory.mktemp("done"), {**CONF, **sources})
    before = Path.cwd()
    os.chdir(root)
    try:
        space = load_workspace(["sweep=tiny"])
        prepare_corpora(space.sources, list(TEXTS))
        for mix in ("half", "less_code"):
            for seed in range(3):
                finish(space, mix, seed, bits={"prose": -0.5 if mix == "less_code" else 0.0})
    finally:
        os.chdir(before)
    return root


@pytest.fixture
def assay(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """The command line in a copy of the finished project."""
    monkeypatch.chdir(shutil.copytree(finished, tmp_path / "project"))
    return caller(monkeypatch, capsys)


def _runs(result: Said) -> set[str]:
    return {run["fingerprint"] for run in result.json["runs"]}


@pytest.mark.parametrize(
    "file", ["conf/policy/prose.yaml", "conf/mix/less_code.yaml", "conf/source/code.yaml", "sweeps/tiny.yaml"]
)
def test_no_verdict_rests_on_a_broken_file(assay: Call, file: str) -> None:
    """The gate refuses the file, or the file still means the same runs."""
    accepted = assay("gate", "sweep=tiny", "--json")
    assert accepted.json["verdict"] == "ACCEPT"
    runs, path, text = _runs(assay("plan", "sweep=tiny", "--json")), Path(file), Path(file).read_text()
    seen = set()
    for i, mutation in enumerate(mutations(text, count=4, seed=3)):
        if i < 28 and i % 7 != 2:
            continue
        mutation.apply(path)
        result = assay("gate", "sweep=tiny", "--json")
        assert "Traceback" not in result.err, mutation.name
        assert "bug in assay" not in result.err, mutation.name
        seen.add(result.code)
        if result.code in (0, 1):
            assert _runs(assay("plan", "sweep=tiny", "--json")) == runs, mutation.name
        elif result.code == 2:
            assert result.out == "", mutation.name
            assert "error:" in result.err, mutation.name
        _restore(path, text)
    assert 2 in seen


COMMANDS: tuple[tuple[str, ...], ...] = (
    ("doctor",), ("sources",), ("sources", "--stale", "2026-01-01"), ("audit", "scan"), ("audit", "status"), ("audit", "sample", "prose"),
    ("audit", "ngram", "grain", "prose"), ("audit", "topics"), ("audit", "repair", "prose"), ("taint",), ("prepare", "sweep=tiny"),
    ("mix", "show", "half"), ("mix", "diff", "half", "less_code"), ("plan", "sweep=tiny"), ("plan", "extend", "sweep=tiny"),
    ("plan", "repair", "sweep=tiny"), ("submit", "sweep=tiny", "cluster=debug"), ("status", "sweep=tiny"), ("cancel", "sweep=tiny"),
    ("retry", "sweep=tiny", "--failed"), ("compare", "sweep=tiny"), ("gate", "sweep=tiny"), ("interim", "sweep=tiny"),
    ("suite", "check", "sweep=tiny"), ("register", "sweep=tiny"), ("report", "sweep=tiny"), ("sync",), ("logs", "abc"), ("why", "a", "b"),
)  # fmt: skip
"""Every command that reads the configuration, except for `serve`, which runs until it is stopped."""
CONTENTS = {
    "cut": b"weights: {prose: 1",
    "binary": bytes(range(256)),
    "list": b"- a\n",
    "cycle": b"weights: &a {prose: *a}\n",
}


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_refuses_a_broken_file_and_wrong_overrides(assay: Call, command: tuple[str, ...]) -> None:
    path = Path("conf/mix/half.yaml")
    text = path.read_text()
    for name, content in CONTENTS.items():
        path.write_bytes(content)
        _check_refusal(assay(*command), f"{name} {command}")
    path.write_text(text)
    for override in (
        "+sweep=tiny",
        "~policy",
        "++proxy=tiny",
        "budget.tokens=[1",
        "mix.half.weights={code",
        "=5",
        "sweep=",
        "+a.b=${c}",
    ):
        _check_refusal(assay(*command, override), f"{override} {command}")


def _check_refusal(result: Said, what: str) -> None:
    assert result.code == 2, f"{what}: {result}"
    assert "Traceback" not in result.err, f"{what}: {result.err}"
    assert "bug in assay" not in result.err, f"{what}: {result.err}"
    assert "rror" in result.err, f"{what}: {result.err}"
    assert result.out == "", f"{what}: {result.out}"


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
@pytest.mark.parametrize(
    "file", ["conf/config.yaml", "conf/suite/bytes.yaml", "conf/tokenizer/small.yaml", "conf/proxy/tiny.yaml"]
)
def test_every_command_states_what_is_wrong_with_any_file(assay: Call, command: tuple[str, ...], file: str) -> None:
    path = Path(file)
    text = path.read_text() if path.exists() else "taint: {severity: high}\n"
    place = COMMANDS.index(command)
    for i, mutation in enumerate(mutations(text, count=10, seed=5)):
        if not ALL and i % len(COMMANDS) not in (place, place - 10):  # each mutation with at least one command
            continue
        _restore(path, text)
        mutation.apply(path)
        result = assay(*command)
        assert "Traceback" not in result.err, f"{mutation.name}: {result.err}"
        assert "bug in assay" not in result.err, f"{mutation.name}: {result.err}"
