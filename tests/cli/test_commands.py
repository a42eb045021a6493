"""The commands, as people and machines call them: what they print, what they exit with, what they leave alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

TEXTS = {
    "prose": "The river ran past the mill and the miller counted sacks of grain number {}. ",
    "code": "x{} = f(y) + 1\n",
}
SWEEP = """# @package _global_
defaults: [override /proxy: tiny, override /suite: bytes, override /tokenizer: small, override /policy: prose]
sweep: {name: tiny, question: "Less code?", baseline: half, candidates: [less_code], seeds: [0, 1, 2]}
budget: {tokens: 3072}
batch: {sequences: 4, micro: 4}
tracking: {mode: disabled}
"""
CONF = {
    "conf/proxy/tiny.yaml": "{name: tiny, hidden_size: 16, intermediate_size: 32, layers: 1, heads: 2, kv_heads: 1, "
    "tie_embeddings: true, rope_theta: 10000, sequence_length: 64}",
    "conf/suite/bytes.yaml": "{name: bytes, tasks: [], batch_size: 8, validation_bytes: 2000}",
    "conf/tokenizer/small.yaml": "{name: small, vocabulary: 300}",
    "conf/policy/prose.yaml": "{name: prose, primary: [{task: validation/prose, metric: bits_per_byte, better: lower}], "
    "alpha: 0.05, min_seeds: 3}",
    "conf/mix/half.yaml": "{weights: {prose: 1, code: 1}}",
    "conf/mix/less_code.yaml": "{base: half, edits: [{scale: {code: 0.5}}]}",
    "sweeps/tiny.yaml": SWEEP,
}


HEAVY = [
    "torch",
    "transformers",
    "lm_eval",
    "datasets",
    "wandb",
    "plotly",
    "pandas",
    "numpy",
    "scipy",
    "pyarrow",
    "numba",
]
CONCLUDE = """
import sys
from assay.cli.arguments import load_workspace
from assay.report.publish import conclude
space = load_workspace(sys.argv[1:])
conclude(space, space.planner.plan())
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A team's project with two small sources."""
    root = tmp_path_factory.mktemp("team")
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
    return root


def assay(project: Path, *arguments: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "assay", *arguments]
    return subprocess.run(
        command,
        cwd=project,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env={**os.environ, **(env or {})},
    )


def of_json(result: subprocess.CompletedProcess[str]) -> dict:
    assert result.stdout, result.stderr
    return json.loads(result.stdout)


def test_help_names_every_command() -> None:
    result = assay(Path.cwd(), "--help")
    assert result.returncode == 0
    for command in (
        "plan",
        "submit",
        "status",
        "cancel",
        "logs",
        "why",
        "compare",
        "gate",
        "report",
        "doctor",
        "demo",
        "init",
    ):
        assert f" {command} " in result.stdout


def test_a_sweep_goes_from_its_file_to_a_verdict_and_is_reused(project: Path) -> None:
    before = of_json(assay(project, "plan", "sweep=tiny", "--json"))
    assert [run["status"] for run in before["runs"]] == ["todo"] * 6
    assert not list(project.glob("store/runs/*")), "a plan starts nothing"

    sent = of_json(assay(project, "submit", "sweep=tiny", "cluster=debug", "--json"))
    assert sent["sent"] == 6
    after = of_json(assay(project, "plan", "sweep=tiny", "--json"))
    assert {run["status"] for run in after["runs"]} == {"reuse"}
    assert [run["fingerprint"] for run in after["runs"]] == [run["fingerprint"] for run in before["runs"]]
    again = of_json(assay(project, "submit", "sweep=tiny", "cluster=debug", "--json"))
    assert again["sent"] == 0

    result = assay(project, "gate", "sweep=tiny", "--json")
    verdict = of_json(result)
    assert result.returncode == {"ACCEPT": 0, "REJECT": 1, "INCONCLUSIVE": 3}[verdict["verdict"]]
    judged = verdict["candidates"]["less_code"]
    assert judged["reasons"]
    fields = {
        "task",
        "metric",
        "role",
        "effect",
        "ci_low",
        "ci_high",
        "p",
        "p_adjusted",
        "n_seeds",
        "n_items",
        "signal",
    }
    assert all(fields <= set(comparison) for comparison in judged["comparisons"])
    assert {c["task"] for c in judged["comparisons"]} == {"validation/prose", "validation/code"}
    assert {c["n_seeds"] for c in judged["comparisons"]} == {3}

    page = of_json(assay(project, "report", "sweep=tiny", "--json"))
    assert Path(page["page"]).read_text().lower().startswith("<!doctype html>")
    markdown = assay(project, "gate", "sweep=tiny", "--markdown")
    assert verdict["verdict"] in markdown.stdout
    status = of_json(assay(project, "status", "sweep=tiny", "--json"))
    assert status["complete"] is True

    # What a cluster's last job puts into the reports is what the commands print.
    command = [sys.executable, "-c", CONCLUDE, "sweep=tiny"]
    subprocess.run(command, cwd=project, check=True, capture_output=True)
    assert (project / "store/reports/tiny.verdict.json").read_text() == result.stdout
    written = (project / "store/reports/tiny.md").read_text()
    assert written.partition("<sub>")[0] == markdown.stdout.partition("<sub>")[0], "but for when it was made"

    first, second = (run["fingerprint"] for run in after["runs"][:2])
    assert of_json(assay(project, "why", first, second, "--json")) == [{"path": "seed", "left": 0, "right": 1}]
    logs = assay(project, "logs", first[:10])
    assert logs.returncode == 2
    assert "debug executor" in logs.stderr


def test_a_new_evaluation_retrains_nothing(project: Path) -> None:
    assay(project, "submit", "sweep=tiny", "cluster=debug")  # trains what no test before this one has
    changed = of_json(assay(project, "plan", "sweep=tiny", "suite.validation_bytes=1000", "--json"))
    assert [[reason["code"] for reason in run["reasons"]] for run in changed["runs"]] == [["evaluation_missing"]] * len(
        changed["runs"]
    )
    assert changed["cost"]["tokens"] == 0


def test_a_source_that_loses_its_clearance_blocks_plan_and_gate(project: Path) -> None:
    blocked = ["sweep=tiny", "source.code.clearance.state=blocked"]
    plan = of_json(assay(project, "plan", *blocked, "--json"))
    assert {run["status"] for run in plan["runs"]} == {"refused"}
    reason = plan["runs"][0]["reasons"][0]
    assert (reason["code"], reason["subject"]) == ("source_blocked", "code")
    result = assay(project, "gate", *blocked, "--json")
    assert result.returncode == 4
    assert of_json(result)["verdict"] == "BLOCKED"
    assert assay(project, "submit", *blocked).returncode == 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["plan"], "sweep: no sweep is selected"),
        (["plan", "sweep=tinny"], "Did you mean 'tiny'?"),
        (["plan", "sweep=tiny", "mix.half.weights.prose=-1"], "weight -1.0 of 'prose' is invalid"),
        (["plan", "sweep=tiny", "mix.half.weights={prsoe: 1}"], "Did you mean 'prose'?"),
        (["plan", "sweep=tiny", "budget.tokens=10"], "one optimizer step"),
        (["plan", "sweep=tiny", "suite.tasks=[{task: hellaswg}]"], "hellaswag"),
        (["why", "ffff", "eeee"], "no run's fingerprint begins"),
        (["gate", "sweep=tiny", "--candidate", "les_code"], "Did you mean 'less_code'?"),
        (
            [
                "gate",
                "sweep=tiny",
                "--policy-now",
                "policy.primary=[{task: validation/pros, metric: bits_per_byte, better: lower}]",
            ],
            "validation/pros",
        ),
        (["mix", "show", "haf", "sweep=tiny"], "Did you mean 'half'?"),
        (["logs", "zzzz"], "no run's fingerprint begins"),
    ],
)
def test_an_error_names_the_thing_exits_with_2_and_shows_no_traceback(
    project: Path, arguments: list[str], message: str
) -> None:
    result = assay(project, *arguments)
    said = " ".join(result.stderr.split())
    assert message in said
    assert result.returncode == 2
    assert "Traceback" not in result.stderr
    assert len(result.stderr.splitlines()) < 24, "an error fits one screen"


def test_a_plan_of_many_runs_is_summed_up_by_mix(project: Path) -> None:
    seeds = list(range(30, 60))
    result = assay(project, "plan", "sweep=tiny", f"sweep.seeds={seeds}".replace(" ", ""))
    lines = [line.split() for line in result.stdout.splitlines() if line]
    assert ["half", "30", "todo", "never", "run"] in lines
    assert ["less_code", "30", "todo", "never", "run"] in lines
    assert sum(line[0] in ("half", "less_code") for line in lines) == 2
    status = assay(project, "status", "sweep=tiny", f"sweep.seeds={seeds}".replace(" ", ""), "--current")
    assert "60 queued" in status.stdout


def test_looking_at_a_sweep_loads_nothing_that_trains_or_compares(project: Path) -> None:
    code = (
        "import sys\nfrom assay.cli.main import app\nsys.argv = ['assay', 'status', 'sweep=tiny']\n"
        f"try: app()\nexcept SystemExit: pass\nprint([name for name in {HEAVY} if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=project, capture_output=True, text=True, check=True)
    assert result.stdout.splitlines()[0].startswith("tiny: 6 runs")
    assert result.stdout.splitlines()[-1] == "[]"


def test_a_source_without_files_is_refused_and_named(project: Path) -> None:
    plan = of_json(assay(project, "plan", "sweep=tiny", "source.code.files=[gone/*.jsonl]", "--json"))
    assert plan["runs"][0]["status"] == "refused"
    assert plan["runs"][0]["reasons"][0]["code"] == "source_unavailable"
    assert "gone/*.jsonl" in plan["runs"][0]["reasons"][0]["text"]


def test_diff_shows_what_an_edit_does_to_every_weight(project: Path) -> None:
    found = of_json(assay(project, "mix", "diff", "half", "less_code", "sweep=tiny", "--json"))
    assert {row["source"]: row["weight"] for row in found["less_code"]} == pytest.approx(
        {"prose": 2 / 3, "code": 1 / 3}
    )
    table = assay(project, "mix", "diff", "half", "less_code", "sweep=tiny", env={"COLUMNS": "80"}).stdout
    assert max(len(line) for line in table.splitlines()) <= 80
    assert "+0.1667" in table


def test_init_writes_a_project_that_plans_and_never_writes_over_one(tmp_path: Path) -> None:
    assert assay(tmp_path, "init", "mine").returncode == 0
    again = assay(tmp_path, "init", "mine")
    assert again.returncode == 2
    assert "Nothing was written" in again.stderr
    plan = of_json(assay(tmp_path / "mine", "plan", "sweep=first", "--json"))
    assert {run["status"] for run in plan["runs"]} == {"todo"}  # of generated sample text, which is cleared
