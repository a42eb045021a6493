"""Make command groups with a default command, and add examples to every help text."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer
from typer.core import TyperGroup

if TYPE_CHECKING:
    from collections.abc import Callable

    from typer._click.core import Context
    from typer._click.shell_completion import CompletionItem

HEADING = "Examples:"


class DefaultGroup(TyperGroup):
    """A group with a default command, its first one: `assay audit web` runs `assay audit scan web`."""

    def parse_args(self, ctx: Context, args: list[str]) -> list[str]:
        """Insert the first command's name, unless a subcommand or --help follows, or a bare group is completed."""
        first = args[0] if args else None
        bare = first is None and ctx.resilient_parsing
        if not bare and first not in self.commands and first not in ctx.help_option_names:
            args = [next(iter(self.commands)), *args]
        return super().parse_args(ctx, args)

    def shell_complete(self, ctx: Context, incomplete: str) -> list[CompletionItem]:
        """Complete the subcommands, and the arguments of the first command."""
        items = super().shell_complete(ctx, incomplete)
        name, command = next(iter(self.commands.items()))
        with command.make_context(name, [], parent=ctx, resilient_parsing=True) as child:
            argument = next((param for param in command.params if param.param_type_name == "argument"), None)
            if incomplete.startswith("-") or argument is None:
                return [*items, *command.shell_complete(child, incomplete)]
            return [*items, *argument.shell_complete(child, incomplete)]


def make_group(about: str, *, first: str, second: str, default: bool = True) -> typer.Typer:
    """Make a group of subcommands.

    Args:
        about: its help text.
        first: an example, as typed.
        second: another example.
        default: whether the group runs its first command if the user names no command.
    """
    group = typer.Typer(
        cls=DefaultGroup if default else TyperGroup,
        help=about,
        epilog=examples(first, second),
        no_args_is_help=not default,
        subcommand_metavar="[COMMAND] [ARGS]..." if default else None,
        rich_markup_mode="markdown",
    )
    group.callback()(_keep_group)
    return group


def _keep_group() -> None:
    """Prevent typer from replacing a group of one command by this command."""


def add_command(
    app: typer.Typer, function: Callable[..., object], name: str, *, first: str, second: str, panel: str | None = None
) -> None:
    """Add a command whose help ends with two examples.

    Args:
        app: the application or group.
        function: its docstring is the help text.
        name: as typed.
        first: an example, as typed.
        second: another example.
        panel: the heading of the application's help under which the command is listed.
    """
    app.command(name, epilog=examples(first, second), rich_help_panel=panel)(function)


def examples(first: str, second: str) -> str:
    """Format examples as an epilog, in Markdown."""
    return f"{HEADING}\n\n`{first}`\n\n`{second}`"
