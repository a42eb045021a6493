"""Stores with half-written runs, and runs of other versions: what can be read is shown, the rest is named, and no verdict rests on it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from assay.cli.arguments import load_workspace
from assay.cli.console import ascii_json
from assay.plan.prepare import prepare_corpora
from tests.audit.finding_files import put_finding
from tests.cli.invoke import Said, caller
from tests.cli.test_commands import CONF, TEXTS
from tests.helpers.finished import finish

SWEEP = "sweep=tiny"
MIXES = ("half", "less_code")
Call = Callable[..., Said]
Doctor = Callable[[Path], object]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose sweep is done: two mixes of three seeds, less code a little better."""
    root = tmp_path_factory.mktemp("done")
    for name, text in CONF.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    (root / "conf/source").mkdir()
    for name, text in TEXTS.items():
        lines = [json.dumps({"text": text.format(i) * 20 + str(i)}) for i in range(60)]
        (root / f"{name}.jsonl").write_text("\n".join(lines))
        (root / f"conf/source/{name}.yaml").write_text(
            f"{{files: [{name}.jsonl], domain: {name}, language: en, license: CC0-1.0, "
            "clearance: {state: cleared, by: the tests}}"
        )
    before = Path.cwd()
    os.chdir(root)
    try:
        space = load_workspace([SWEEP])
        prepare_corpora(space.sources, space.mixes.untokenized() or list(TEXTS))
        for mix in MIXES:
            for seed in range(3):
                run = finish(space, mix, seed, bits={"prose": -0.5 if mix == "less_code" else 0.0})
                run.metrics.write_text("".join(json.dumps(_logged(step)) + "\n" for step in range(1, 13)))
    finally:
        os.chdir(before)
    return root


def _logged(step: int) -> dict[str, Any]:
    loss = 9 - step / 10
    return {"step": step, "tokens": 256 * step, "loss": loss, "loss_by_source": {"prose": loss, "code": loss}}


@pytest.fixture
def assay(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """The command line in a copy of the project."""
    monkeypatch.chdir(shutil.copytree(finished, tmp_path / "project"))
    return caller(monkeypatch, capsys)


def run() -> Path:
    """The folder of the candidate's run of seed 1."""
    folders = (path.parent for path in Path("store/runs").glob("*/spec.json"))
    return next(folder for folder in folders if labels(folder) == {"mix": "less_code", "seed": 1})


def labels(folder: Path) -> dict[str, Any]:
    told = json.loads((folder / "spec.json").read_text())["labels"]
    return {key: told[key] for key in ("mix", "seed")}


def file(name: str) -> Callable[[Path], Path]:
    """A file of a run; `scores.json` and `items.parquet` of its evaluation."""
    inner = {"scores.json", "items.parquet"}
    return lambda folder: next(folder.glob(f"evaluations/*/{name}")) if name in inner else folder / name


def becomes(name: str, content: bytes) -> Doctor:
    return lambda folder: file(name)(folder).write_bytes(content)


def cut(name: str) -> Doctor:
    return lambda folder: os.truncate(file(name)(folder), file(name)(folder).stat().st_size // 2)


def changed(name: str, change: Callable[[Any], object]) -> Doctor:
    def doctor(folder: Path) -> None:
        path = file(name)(folder)
        plain = json.loads(path.read_text())
        change(plain)
        path.write_text(json.dumps(plain) + "\n")

    return doctor


UNREADABLE: dict[str, Doctor] = {
    "spec missing": lambda folder: (folder / "spec.json").unlink(),
    "spec empty": becomes("spec.json", b""),
    "spec cut": cut("spec.json"),
    "spec a list": becomes("spec.json", b"[]\n"),
    "spec of a later version": changed("spec.json", lambda plain: plain["spec"].update(told_later=1)),
    "spec of an older version": changed("spec.json", lambda plain: plain["spec"].pop("optimizer")),
    "scores empty": becomes("scores.json", b'{"scores": []}\n'),
    "scores without a value": changed("scores.json", lambda plain: plain["scores"][0].pop("value")),
    "scores in words": changed("scores.json", lambda plain: plain["scores"][0].update(value="high")),
    "questions are junk": becomes("items.parquet", b"PAR1" + bytes(500) + b"PAR1"),
    "delivered empty": becomes("delivered.json", b""),
    "delivered a number": becomes("delivered.json", b'{"delivered": {"prose": 3}}\n'),
    "delivered missing": lambda folder: (folder / "delivered.json").unlink(),
}
CUT: dict[str, Doctor] = {
    "scores cut": cut("scores.json"),
    "questions cut": cut("items.parquet"),
    "nothing in the folder": lambda folder: (shutil.rmtree(folder), folder.mkdir()),
    "a file in its place": lambda folder: (shutil.rmtree(folder), folder.write_text("x")),
}
"""As a kill leaves it: the run is to do."""
HARMLESS: dict[str, Doctor] = {
    "no labels": changed("spec.json", lambda plain: plain.pop("labels")),
    "labels a list": changed("spec.json", lambda plain: plain.update(labels=[1])),
    "status cut": cut("status.json"),
    "status a list": becomes("status.json", b"[]\n"),
    "status of a later version": changed("status.json", lambda plain: plain.update(told_later=1)),
    "status a folder": lambda folder: ((folder / "status.json").unlink(), (folder / "status.json").mkdir()),
    "scores with more": changed("scores.json", lambda plain: [one.update(told_later=1) for one in plain["scores"]]),
    "history junk": becomes("metrics.jsonl", b'\xff\n[1]\n3\n{"step": 2}\n{"step": "x", "loss": null}\n'),
    "history missing": lambda folder: (folder / "metrics.jsonl").unlink(),
    "a folder without anything beside": lambda folder: (folder.parent / "ffff").mkdir(),
    "a file beside": lambda folder: (folder.parent / "ffff").write_text("x"),
    "a copy beside": lambda folder: shutil.copytree(folder, folder.parent / "ffff"),
}
READ_ONLY = (
    ("status", SWEEP),
    ("plan", SWEEP),
    ("compare", SWEEP, "--tokens-to-match"),
    ("gate", SWEEP, "--markdown"),
    ("report", SWEEP),
    ("interim", SWEEP),
    ("taint", "prose"),
)


@pytest.mark.parametrize("command", READ_ONLY, ids=" ".join)
def test_every_command_that_reads_shows_the_rest(assay: Call, command: tuple[str, ...]) -> None:
    """Six runs, each damaged in another way, and what is no run beside them."""
    damages = [
        UNREADABLE["spec of an older version"],
        UNREADABLE["questions are junk"],
        UNREADABLE["delivered a number"],
        CUT["nothing in the folder"],
        lambda folder: (HARMLESS["no labels"](folder), HARMLESS["history junk"](folder)),
        lambda folder: (HARMLESS["status a folder"](folder), HARMLESS["a file beside"](folder)),
    ]
    for folder, damage in zip(sorted(Path("store/runs").iterdir()), damages, strict=True):
        damage(folder)
    Path("store/runs/eeee").mkdir()
    said = assay(*command)
    assert said.code == (3 if command[0] == "gate" else 0), said.err
    assert "half" in said.out or "tiny" in said.out


@pytest.mark.parametrize("case", UNREADABLE)
def test_a_run_that_cannot_be_read_is_in_no_verdict_and_is_named_once(assay: Call, case: str) -> None:
    UNREADABLE[case](run())
    verdict = assay("gate", SWEEP, "--json")
    assert verdict.code == 3, "two of the three seeds that the policy asks for"
    (missing,) = verdict.json["missing"]["less_code"]
    assert (missing["code"], missing["figures"]["seeds"]) == ("missing_runs", [1])
    assert missing["causes"][0]["code"] in {"record_unreadable", "delivered_unknown"}
    assert sum(reason["causes"].count(missing) for reason in verdict.json["candidates"]["less_code"]["reasons"]) == 1


def test_compare_names_what_is_in_none_of_its_figures_once(assay: Call) -> None:
    for folder in [path for path in Path("store/runs").iterdir() if labels(path)["seed"] == 1]:
        (folder / "spec.json").write_text("[]\n")
    told = "list is invalid; expected a mapping. Move the folder away"
    assert " ".join(assay("compare", SWEEP).out.split()).count(told) == 2, "a file of each"
    assert {
        mix: why[0]["text"].endswith(told) for mix, why in assay("compare", SWEEP, "--json").json["missing"].items()
    } == {
        "half": True,
        "less_code": True,
    }


def test_a_verdict_on_the_runs_that_are_left_says_which_are_not(assay: Call) -> None:
    changed("spec.json", lambda plain: plain["spec"].update(told_later=1))(run())
    judged = assay("gate", SWEEP, "policy.min_seeds=2", "--json").json["candidates"]["less_code"]
    assert judged["verdict"] == "ACCEPT"
    (excluded,) = (reason for reason in judged["reasons"] if reason["code"] == "runs_excluded")
    assert excluded["causes"][0]["figures"]["seeds"] == [1]
    (unreadable,) = excluded["causes"][0]["causes"]
    assert unreadable["code"] == "record_unreadable"
    assert "Move the folder away" in unreadable["figures"]["error"]


@pytest.mark.parametrize("case", CUT)
def test_a_run_that_was_cut_is_to_do(assay: Call, case: str) -> None:
    CUT[case](run())
    verdict = assay("gate", SWEEP, "--json")
    assert verdict.code == 3
    missing = verdict.json["missing"]["less_code"][0]
    assert missing["figures"]["seeds"] == [1]
    assert (missing["causes"][0]["code"], missing["causes"][0]["subject"]) == ("not_finished", "todo")


@pytest.mark.parametrize("case", HARMLESS)
def test_what_bears_no_result_changes_no_verdict(assay: Call, case: str) -> None:
    HARMLESS[case](run())
    verdict = assay("gate", SWEEP, "--json")
    assert verdict.code == 0
    assert verdict.json["missing"] == {}
    assert {c["n_seeds"] for c in verdict.json["candidates"]["less_code"]["comparisons"]} == {3}


@pytest.mark.parametrize(
    "content",
    ["", "[]", '{"id": "20260101T000000-000000", "sweep": "tiny"}', '{"told": "later"}'],
    ids=["empty", "a list", "an older version's", "a later version's"],
)
def test_a_submission_of_another_version_is_passed_over_and_said_once(assay: Call, content: str) -> None:
    folder = Path("store/sweeps/tiny/submissions/20260101T000000-000000")
    folder.mkdir(parents=True)
    (folder / "submission.json").write_text(content)
    said = assay("status", SWEEP)
    assert "6 done" in said.out
    assert said.err.count("assay skips the submission") == 1
    assert "submission.json" in said.err


@pytest.mark.parametrize("file", ["findings", "audits"])
def test_what_an_audit_found_and_nobody_can_read_blocks(assay: Call, file: str) -> None:
    """A finding that a cut hides is no reason to accept what it taints."""
    put_finding(load_workspace([]), "prose")
    (record,) = Path("store/audits").glob(f"prose/*/{file}/*.json")
    record.write_text(record.read_text()[:60])
    blocked = assay("gate", SWEEP, "--json")
    assert blocked.code == 4
    reason = blocked.json["candidates"]["less_code"]["reasons"][0]
    assert (reason["code"], reason["subject"]) == ("findings_unreadable", "prose")
    assert str(record) in reason["figures"]["error"]
    assert assay("plan", SWEEP).code == 0
    listed = assay("sources")
    assert listed.code == 0
    assert "cannot be read" in listed.out


@pytest.mark.parametrize("command", ["status", "gate"])
def test_a_terminal_that_knows_only_ascii_is_shown_plain_signs_and_charts(assay: Call, command: str) -> None:
    """Neither a minus sign nor a chart, nor what a run's failure says, stops a command."""
    failure = {"kind": "ValueError", "message": "größer als 1 \N{MULTIPLICATION SIGN} 😀", "log": None}
    for folder in Path("store/runs").iterdir():
        changed("status.json", lambda plain: plain.update(failure={**failure, "kind": "damaged record"}))(folder)
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "COLUMNS": "80"}
    done = subprocess.run(
        [sys.executable, "-m", "assay", command, SWEEP], capture_output=True, env=environment, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    text = done.stdout.decode("ascii")
    assert (r"gr\xf6\xdfer als 1 x \U0001f600" in text) == (command == "status")
    chart = r"[#%*+=\-._]{10} \d" if command == "status" else r"\| +o  "
    assert re.search(chart, text), text


def test_json_means_the_same_where_only_ascii_can_be_written() -> None:
    value = {"größe": "1 · 😀"}
    text = ascii_json(json.dumps(value, ensure_ascii=False))
    assert text.isascii()
    assert json.loads(text) == value
