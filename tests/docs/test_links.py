"""Links between pages resolve, and every command line in the documentation parses."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer

from assay.cli.main import app
from tests.docs.pages import PAGES, ROOT, blocks

LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
INLINE = re.compile(r"`(assay [^`]*)`")
HISTORY = {ROOT / "docs" / "log.md", ROOT / "docs" / "decisions.md"}
"""Pages about the past, which may quote former command lines."""
ROOT_COMMAND: Any = typer.main.get_command(app)
NAMES = {str(page.relative_to(ROOT)): page for page in PAGES}


def anchors(page: Path) -> set[str]:
    """Return the anchors that GitHub gives to the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("name", NAMES)
def test_relative_links_and_anchors_resolve(name: str) -> None:
    page = NAMES[name]
    broken = []
    for link in LINK.findall(page.read_text(encoding="utf-8")):
        path, _, anchor = link.partition("#")
        if "://" in link:
            continue
        target = page if not path else (page.parent / path).resolve()
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert broken == []


def command_lines(page: Path) -> list[str]:
    """Return the command lines of a page: in code blocks, in indented blocks, and inline."""
    text = page.read_text(encoding="utf-8")
    shell = [block.text for block in blocks(page) if block.language in ("", "sh", "console", "yaml")]
    indented = "\n".join(re.findall(r"^ {4}(\S.*)$", text, re.MULTILINE))
    lines = "\n".join([*shell, indented]).replace("\\\n", " ").splitlines()
    found = [
        line.split("#")[0] if " #" in line else line for line in lines if re.search(r"(^|[ &$])assay [a-z-]", line)
    ]
    found = [re.sub(r"^.*?(?=\bassay [a-z-])", "", line) for line in found if not re.search(r"\w: .*\bassay ", line)]
    return [*found, *INLINE.findall(" ".join(text.split()))]


def parse(line: str) -> str | None:
    """Parse a command line down to its command; return what is wrong with it, if anything."""
    words = shlex.split(re.split(r" (?:>|\||\|\||&&|;)|;", line)[0])[1:]
    command = ROOT_COMMAND
    names = dict(getattr(command, "commands", {}))
    while words and names:
        name = words[0]
        if name in names:
            command, words = names[name], words[1:]
        elif command is ROOT_COMMAND:
            return f"no command {name!r}" if not name.startswith("-") else None
        else:
            command = next(iter(names.values()))  # a group runs its first command where none is named
        names = dict(getattr(command, "commands", {}))
    if names and command is not ROOT_COMMAND:
        command = next(iter(names.values()))
    options = {option for parameter in command.params for option in parameter.opts} | {"--help"}
    unknown = [word for word in words if re.match(r"--?[a-zA-Z]", word) and word.partition("=")[0] not in options]
    return f"no option {unknown} of {command.name}" if unknown else None


@pytest.mark.parametrize("name", [name for name, page in NAMES.items() if page not in HISTORY])
def test_command_lines_parse(name: str) -> None:
    wrong = {line: problem for line in command_lines(NAMES[name]) if (problem := parse(line)) is not None}
    assert wrong == {}


def test_wrong_command_lines_are_found() -> None:
    assert parse("assay judge web") == "no command 'judge'"
    assert parse("assay gate --since main") == "no option ['--since'] of sweep"
    assert parse("assay gate branch origin/main --allow-inconclusive > gate.md") is None
    assert parse("assay audit web --new --at-least high") is None
