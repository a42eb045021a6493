"""Completion in real interactive shells: what bash and zsh make of a typed line and the Tab key."""

from __future__ import annotations

import os
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import assay

SHOW_LINE, CLEAR_LINE = "\x18\x10", "\x15"
"""Keys that the tests bind to print the line, and that clear it."""
STARTUP = {
    "bash": """PS1='READY> '
bind 'set bell-style none'
bind 'set enable-bracketed-paste off'
bind -x '"\\C-x\\C-p": printf "\\n<<line:%s:end>>\\n" "$READLINE_LINE"'
source COMPLETION
""",
    "zsh": """PROMPT='READY> '
unset zle_bracketed_paste
autoload -Uz compinit; compinit -u
show_line() { print; print -r -- "<<line:${BUFFER}:end>>"; zle reset-prompt }
zle -N show_line; bindkey -e; bindkey '^X^P' show_line; bindkey '^U' kill-whole-line
source COMPLETION
""",
}
"""Start-up files; COMPLETION is the file that `assay --install-completion` writes."""
FILES = {
    "sweeps/first.yaml": "",
    "sweeps/second.yaml": "",
    "conf/mix/today.yaml": "{weights: {web: 1}}",
    "conf/mix/fineweb-2.1.yaml": "{weights: {web: 1}}",
    "conf/source/web.yaml": "{files: [web.txt], domain: web, language: en}",
    "conf/tokenizer/ours.yaml": "{vocabulary: 300}",
}
CASES = [
    ("assay pla", "assay plan "),
    ("assay plan sweep=f", "assay plan sweep=first "),
    ("assay plan sweep=first tokenizer=ou", "assay plan sweep=first tokenizer=ours "),
    ("assay plan show sweep=sec", "assay plan show sweep=second "),
    ("assay plan swe", "assay plan sweep="),
    ("assay plan sweep.see", "assay plan sweep.seeds="),
    ("assay plan sweep.baseline=fine", "assay plan sweep.baseline=fineweb-2.1 "),
    ("assay plan budget.tokens_", "assay plan budget.tokens_per_parameter="),
    ("assay plan mi", "assay plan mix."),
    ("assay plan mix.to", "assay plan mix.today."),
    ("assay plan mix.today.max", "assay plan mix.today.max_epochs="),
    ("assay plan mix.fineweb-2.1.wei", "assay plan mix.fineweb-2.1.weights="),
    ("assay plan source.web.clearance.st", "assay plan source.web.clearance.state="),
    ("assay plan source.web.clearance.state=bl", "assay plan source.web.clearance.state=blocked "),
    ("assay plan tracking.mode=on", "assay plan tracking.mode=online "),
    ("assay plan cluster.slurm.preemptible=t", "assay plan cluster.slurm.preemptible=true "),
    ("assay plan +mix.tod", "assay plan +mix.today."),
    ("assay audit we", "assay audit web "),
    ("assay mix show tod", "assay mix show today "),
    ("assay mix diff today fine", "assay mix diff today fineweb-2.1 "),
]
"""A typed line, and the line after the Tab key."""


class Shell:
    """An interactive shell on a terminal of its own."""

    def __init__(self, command: list[str], folder: Path, environment: dict[str, str]) -> None:
        """Start the shell."""
        self.pid, self.terminal = pty.fork()
        if self.pid == 0:
            os.chdir(folder)
            os.execvpe(command[0], command, environment)

    def send(self, text: str) -> None:
        """Type text."""
        os.write(self.terminal, text.encode())

    def read_until(self, pattern: str, *, seconds: float = 60) -> str:
        """Read until the output matches; a loaded machine needs seconds for each completion."""
        text, deadline = "", time.monotonic() + seconds
        while not re.search(pattern, text):
            left = deadline - time.monotonic()
            assert left > 0, f"the shell has not printed {pattern!r}: {text!r}"
            if select.select([self.terminal], [], [], left)[0]:
                text += os.read(self.terminal, 65536).decode(errors="replace")
        return text

    def line_after_tab(self, line: str) -> str:
        """Type a line and the Tab key, and return the line that the shell then has."""
        self.send(f"{line}\t{SHOW_LINE}")
        shown = self.read_until(r"<<line:.*:end>>")
        self.send(CLEAR_LINE)
        return re.findall(r"<<line:(.*):end>>", shown)[-1]

    def close(self) -> None:
        """End the shell."""
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        os.close(self.terminal)


@pytest.fixture(scope="module", params=["bash", "zsh"])
def shell(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    """An interactive shell in a project, with the completion that assay installs."""
    name = request.param
    program = shutil.which(name)
    if program is None:
        pytest.skip(f"{name} is not installed")
    folder = tmp_path_factory.mktemp(name)
    project, programs = folder / "project", folder / "programs"
    for path, text in FILES.items():
        (project / path).parent.mkdir(parents=True, exist_ok=True)
        (project / path).write_text(text)
    programs.mkdir()
    (programs / "assay").write_text(f"#!{sys.executable}\nfrom assay.cli.main import main\n\nmain()\n")
    (programs / "assay").chmod(0o755)
    environment = {
        **{key: value for key, value in os.environ.items() if not key.startswith("_")},
        "HOME": str(folder),
        "ZDOTDIR": str(folder),
        "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(Path(assay.__file__).parents[1]),
        "TERM": "xterm",
        "COLUMNS": "200",
    }
    script = subprocess.run(
        ["assay", "--show-completion", name],
        env={**environment, "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    (folder / "completion").write_text(script)
    startup = folder / {"bash": "startup", "zsh": ".zshrc"}[name]
    startup.write_text(STARTUP[name].replace("COMPLETION", str(folder / "completion")))
    arguments = {"bash": ["--noprofile", "--rcfile", str(startup), "-i"], "zsh": ["-i"]}[name]
    shell = Shell([program, *arguments], project, environment)
    try:
        shell.read_until("READY> ")
        yield shell
    finally:
        shell.close()


@pytest.mark.parametrize(("typed", "completed"), CASES)
def test_tab_completes_keys_and_values(shell: Shell, typed: str, completed: str) -> None:
    assert shell.line_after_tab(typed) == completed
