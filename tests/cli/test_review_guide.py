"""What docs/how-to/review-in-pull-requests.md shows works: the workflow's step and the pre-commit hook, in a real repository."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.analysis.external.result_files import write
from tests.cli.test_gate_branch import LESS, Project

TOP = Path(__file__).parents[2]
GUIDE = TOP / "docs/how-to/review-in-pull-requests.md"


def blocks() -> list[dict]:
    """The YAML that the page shows."""
    parts = GUIDE.read_text(encoding="utf-8").split("```yaml\n")[1:]
    return [yaml.safe_load(part.partition("```")[0]) for part in parts]


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """A shell that finds this `assay`, a `gh` that writes down what it is told, and no configuration of git's."""
    programs = tmp_path / "programs"
    write(programs / "assay", f'#!/bin/sh\nexec {sys.executable} -m assay "$@"\n')
    write(programs / "gh", f'#!/bin/sh\nprintf "%s\\n" "$@" > {tmp_path}/gh.txt\n')
    for program in programs.iterdir():
        program.chmod(0o755)
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("GIT_", "ASSAY_"))}
    return {
        **inherited,
        "PATH": f"{programs}{os.pathsep}{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "GIT_CONFIG_GLOBAL": str(write(tmp_path / "gitconfig", "[user]\nname = T\nemail = t@example.org\n")),
        "PYTHONPATH": str(TOP / "src"),
    }


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A project whose branch changes a mix, as a clone sees it."""
    made = Project(tmp_path / "project", tmp_path / "project")
    made.git("update-ref", "refs/remotes/origin/main", "main")
    made.change(LESS)
    return made


@pytest.mark.parametrize(("more", "code", "head"), [(0.1, 1, "## REJECT"), (None, 3, "## INCONCLUSIVE")])
def test_the_workflows_step_comments_and_fails_with_the_verdict(
    project: Project, environment: dict[str, str], tmp_path: Path, *, more: float | None, code: int, head: str
) -> None:
    job = blocks()[0]["jobs"]["gate"]
    assert job["steps"][0]["with"]["fetch-depth"] == 0
    assert job["env"]["BASE"] == "origin/${{ github.base_ref }}"
    if more is not None:
        project.finish({"half": 0.0, "less_code": more})
    summary = tmp_path / "summary.md"
    given = {"BASE": "origin/main", "PULL_REQUEST": "7", "GITHUB_STEP_SUMMARY": str(summary)}
    script = write(tmp_path / "step.sh", job["steps"][1]["run"])
    # A step of `shell: bash` is run so, https://docs.github.com/actions/reference/workflow-syntax-for-github-actions.
    command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", str(script)]
    done = subprocess.run(command, cwd=project.root, env={**environment, **given}, capture_output=True, check=False)
    assert done.returncode == code, done.stderr
    assert summary.read_text().startswith(head)
    assert (project.root / "gate.md").read_text() == summary.read_text()
    told = (tmp_path / "gh.txt").read_text().splitlines()
    assert told == ["pr", "comment", "7", "--body-file", "gate.md", "--edit-last", "--create-if-none"]


def test_the_hook_lets_missing_runs_pass_and_stops_a_worse_recipe(
    project: Project, environment: dict[str, str], tmp_path: Path
) -> None:
    """pre-commit itself reads the manifest, clones its repository and runs the hook."""
    hooks = tmp_path / "hooks"
    hooks.mkdir()
    shutil.copy(TOP / ".pre-commit-hooks.yaml", hooks)
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "hooks"]):
        subprocess.run(["git", "-C", str(hooks), *command], check=True, env=environment)
    shown = blocks()[1]["repos"][0]["hooks"][0]["id"]

    def run() -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "pre_commit", "try-repo", str(hooks), shown, "--all-files"]
        given = {**environment, "PRE_COMMIT_HOME": str(tmp_path / "cache")}
        return subprocess.run(command, cwd=project.root, env=given, capture_output=True, text=True, check=False)

    missing = run()
    assert missing.returncode == 0, missing.stdout + missing.stderr
    assert "## INCONCLUSIVE: 1 mix changed since `origin/main`" in missing.stdout
    project.finish({"half": 0.0, "less_code": 0.1})
    worse = run()
    assert worse.returncode == 1
    assert "## REJECT" in worse.stdout
