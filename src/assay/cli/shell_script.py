"""Complete words that contain `=` in the shell. typer's own classes support only words without `=`.

bash splits the line at the characters of `COMP_WORDBREAKS`, which contains `=` and `:`. `assay plan sweep=fi` becomes the words
`assay`, `plan`, `sweep`, `=` and `fi`, and bash replaces only `fi`. zsh does not split.
"""

from __future__ import annotations

import os
import shlex
from typing import TYPE_CHECKING

from typer._click.shell_completion import add_completion_class, split_arg_string
from typer._completion_classes import BashComplete, ZshComplete

if TYPE_CHECKING:
    from typer._click.shell_completion import CompletionItem

BREAKS = frozenset("=:")
OPEN = ("=", ".", "/")
"""Last characters of incomplete completions, after which the shell must add no space."""
BASH_SCRIPT = """
%(complete_func)s() {
    local IFS=$'\\n'
    COMPREPLY=( $( env COMP_WORDS="${COMP_WORDS[*]}" COMP_CWORD=$COMP_CWORD %(autocomplete_var)s=complete_bash $1 ) )
    case "${COMPREPLY[0]}" in *[=./]) compopt -o nospace 2>/dev/null ;; esac
    return 0
}

complete -o default -F %(complete_func)s %(prog_name)s
"""


def register() -> None:
    """Replace typer's classes for bash and zsh, and its script for bash."""
    from typer import _completion_shared

    add_completion_class(Bash, "bash")
    add_completion_class(Zsh, "zsh")
    _completion_shared._completion_scripts["bash"] = BASH_SCRIPT  # noqa: SLF001  # typer has no other way to replace it


class Bash(BashComplete):
    """Completion in bash, which splits words at `=`."""

    _kept = ""
    """Beginning of the word, which bash keeps because bash splits the word after it."""

    def get_completion_args(self) -> tuple[list[str], str]:
        """Return the complete words after the program, and the word to complete."""
        words = split_arg_string(os.environ["COMP_WORDS"])
        number = int(os.environ["COMP_CWORD"])
        current = words[number] if number < len(words) else ""
        whole = _joined([*words[:number], current])
        incomplete = whole.pop()
        # After a break character, bash starts the word that it replaces.
        self._kept = incomplete if set(current) <= BREAKS else incomplete.removesuffix(current)
        return whole[1:], incomplete

    def format_completion(self, item: CompletionItem) -> str:
        """Return the part of a completion that replaces bash's word."""
        return str(item.value).removeprefix(self._kept)


def _joined(words: list[str]) -> list[str]:
    """Join the words that bash splits at break characters.

    >>> _joined(["assay", "plan", "sweep", "=", "fi"])
    ['assay', 'plan', 'sweep=fi']
    >>> _joined(["assay", "plan", ""])
    ['assay', 'plan', '']
    """
    joined: list[str] = []
    for word in words:
        after_break = bool(joined) and joined[-1][-1:] in BREAKS and word != ""
        if joined and (after_break or (word and set(word) <= BREAKS)):
            joined[-1] += word
        else:
            joined.append(word)
    return joined


class Zsh(ZshComplete):
    """Completion in zsh, without a space after a key or section."""

    def complete(self) -> str:
        """Return the shell code that adds the completions."""
        items = self.get_completions(*self.get_completion_args())
        if not items or any(item.help for item in items):
            return str(super().complete())
        values = [str(item.value) for item in items]
        ends = {
            "": [value for value in values if value.endswith(OPEN)],
            " ": [v for v in values if not v.endswith(OPEN)],
        }
        return "; ".join(
            f"compadd -Q -S {shlex.quote(end)} -- {shlex.join(chosen)}" for end, chosen in ends.items() if chosen
        )
