"""Every command's help ends with two examples, and the examples work in the project that `assay init` writes."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from assay.cli.arguments import load_workspace
from assay.cli.command_group import HEADING
from assay.cli.main import COMMANDS, app
from tests.audit.finding_files import put_finding
from tests.cli.invoke import Said, caller
from tests.helpers.first_project import write_first_project

PARSED_ONLY = {
    "assay demo": "takes minutes and downloads texts; tests/demo covers it",
    "assay demo sweep=code_replace --json": "takes minutes and downloads texts; tests/demo covers it",
    "assay doctor cluster=slurm --json": "requires SLURM",
    "assay submit sweep=first cluster=slurm": "requires SLURM",
    "assay import wandb://team/mixes --field mix=recipe.name --name wandb_runs": "requires a W&B server",
    "assay sync sweep=first --send --report": "requires a W&B server",
    "assay serve": "runs until it is interrupted; tests/cli/test_share_command.py covers it",
    "assay serve --port 0 --json": "runs until it is interrupted; tests/cli/test_share_command.py covers it",
}
"""Examples that are parsed but not run, with the reason."""
VERDICT_CODES = {0, 1, 3, 4}
EXIT_CODES = {"gate": VERDICT_CODES, "audit": {0, 1}}
"""Exit codes that report a result; every other command exits with 0."""
RUNS = {"3f9c1a": 0, "7be204": 1}
"""The fingerprints in examples, and the seeds of the runs that they stand for."""


def commands(command: Any = None, path: str = "assay") -> Iterator[tuple[str, Any]]:
    """Yield the path and the click command of every group and command."""
    command = typer.main.get_command(app) if command is None else command
    yield path, command
    for name, child in getattr(command, "commands", {}).items():
        yield from commands(child, f"{path} {name}")


ALL = dict(commands())


def examples_of(command: Any) -> list[str]:
    heading, *examples = command.epilog.split("\n\n")
    assert heading == HEADING
    return [example.strip("`") for example in examples]


EXAMPLES = list(dict.fromkeys(example for command in ALL.values() for example in examples_of(command)))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("first") / "project"
    write_first_project(root)
    return root


@pytest.fixture
def assay(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Said]:
    """The command line in a copy of the project."""
    monkeypatch.chdir(shutil.copytree(finished, tmp_path / "project"))
    return caller(monkeypatch, capsys)


def prepare_defect(assay: Callable[..., Said]) -> None:
    put_finding(load_workspace([]), "my_web")
    assert assay("audit", "repair", "my_web").code == 0


def prepare_branch(assay: Callable[..., Said]) -> None:
    del assay
    identity = ("-c", "user.name=T", "-c", "user.email=t@example.org")
    Path(".gitignore").write_text("store/\ndata/\n")
    for arguments in (["init", "-q"], ["add", "-A"], [*identity, "commit", "-q", "-m", "base"]):
        subprocess.run(["git", *arguments], check=True)
    subprocess.run(["git", "update-ref", "refs/remotes/origin/main", "HEAD"], check=True)
    Path("conf/mix/more_code.yaml").write_text("{base: today, edits: [{scale: {my_code: 3}}]}")
    subprocess.run(["git", *identity, "commit", "-q", "-a", "-m", "change"], check=True)


PREPARATIONS = {"assay plan repair": prepare_defect, "assay gate branch": prepare_branch}


@pytest.mark.parametrize("path", ALL)
def test_every_help_text_ends_with_two_examples_of_the_command(path: str) -> None:
    first, second = examples_of(ALL[path])
    assert first != second
    assert all(example.startswith("assay ") for example in (first, second))
    shown = CliRunner().invoke(app, [*path.split()[1:], "--help"], env={"COLUMNS": "200", "TERMINAL_WIDTH": "200"})
    assert shown.exit_code == 0
    assert [line.strip() for line in shown.output.splitlines() if line.strip()][-3:] == [HEADING, first, second]


@pytest.mark.parametrize("path", ALL)
def test_every_command_has_json_and_every_option_a_help_text(path: str) -> None:
    command = ALL[path]
    options = {name for parameter in command.params for name in parameter.opts}
    assert hasattr(command, "commands") or "--json" in options
    assert all(parameter.help for parameter in command.params)
    assert command.help


@pytest.mark.parametrize("path", ALL)
def test_examples_show_the_command_that_they_belong_to(path: str) -> None:
    for example in examples_of(ALL[path]):
        _, command = parse(shlex.split(example)[1:])
        assert command.startswith(path)


def parse(arguments: list[str]) -> tuple[Any, str]:
    """Parse arguments down to a command without running it; return its parameters and path."""
    command = typer.main.get_command(app)
    context: Any = command.make_context("assay", list(arguments))
    while hasattr(context.command, "commands"):
        rest = [*context._protected_args, *context.args]
        if not rest:
            break
        name, child, rest = context.command.resolve_command(context, rest)
        context = child.make_context(name, rest, parent=context)
    return context.params, context.command_path


@pytest.mark.parametrize("example", EXAMPLES)
def test_examples_work(assay: Callable[..., Said], example: str) -> None:
    arguments = shlex.split(example)[1:]
    _, command = parse(arguments)
    if example in PARSED_ONLY:
        return
    for prefix, prepare in PREPARATIONS.items():
        if example.startswith(prefix):
            prepare(assay)
    space = load_workspace(["sweep=first"])
    arguments = [space.runs.spec("today", RUNS[word]).fingerprint[:12] if word in RUNS else word for word in arguments]
    if command == "assay audit scan":
        arguments += ["--workers", "0"]  # worker processes would compile the detectors' loops again
    said = assay(*arguments)
    assert said.code in EXIT_CODES.get(arguments[0], {0}), said.err
    assert "error:" not in said.err


def test_the_list_of_examples_that_are_only_parsed_is_current() -> None:
    assert set(PARSED_ONLY) <= set(EXAMPLES)


def test_the_help_groups_all_commands_into_panels_and_leads_with_the_daily_ones() -> None:
    root = ALL["assay"]
    assert list(root.list_commands(None)) == list(COMMANDS)
    panels = [root.commands[name].rich_help_panel for name in COMMANDS]
    assert list(dict.fromkeys(panels)) == ["Project", "Data", "Mixes", "Sweeps", "Decide", "Share"]
    assert panels == sorted(panels, key=list(dict.fromkeys(panels)).index), "commands of a panel are listed together"
    shown = CliRunner().invoke(app, ["--help"]).output
    daily = [shown.index(f"{name}: ") for name in ("plan", "submit", "status", "gate", "report")]
    assert daily == sorted(daily)
    assert daily[-1] < shown.index("Options")


@pytest.mark.parametrize(
    ("short", "full"),
    [
        ("audit", "assay audit scan"),
        ("audit web cluster=slurm", "assay audit scan"),
        ("audit --workers 0 web", "assay audit scan"),
        ("audit ngram text", "assay audit ngram"),
        ("plan sweep=first", "assay plan show"),
        ("plan extend sweep=first", "assay plan extend"),
        ("gate", "assay gate sweep"),
        ("import team.csv", "assay import add"),
    ],
)
def test_a_group_runs_its_first_command_where_none_is_named(short: str, full: str) -> None:
    assert parse(short.split())[1] == full
