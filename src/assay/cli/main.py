"""The application. Only this module converts errors to exit codes."""

from __future__ import annotations

import contextlib
import os
import sys
import traceback
from collections.abc import MutableMapping
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from assay import __version__
from assay.cli import (
    audit_group,
    compare_command,
    demo_command,
    doctor_command,
    gate_command,
    import_command,
    init_command,
    interim_command,
    mix_command,
    plan_command,
    register_command,
    share_command,
    source_command,
    suite_command,
    sweep_command,
    taint_command,
)
from assay.cli.command_group import examples
from assay.cli.console import errors, readable, visible
from assay.core.errors import AssayError

if TYPE_CHECKING:
    from typer._click.core import Context

COMMANDS = (
    "init", "doctor", "demo",
    "sources", "audit", "taint", "prepare",
    "mix",
    "plan", "submit", "status", "logs", "cancel", "retry", "why",
    "compare", "gate", "interim", "suite", "import", "register",
    "report", "serve", "sync",
)  # fmt: skip
"""The order of commands in the help, by panel: Project, Data, Mixes, Sweeps, Decide, Share."""
USAGE_ERROR = 2
INTERRUPTED = 130

HELP = """Decide whether a change to the data recipe of a language model is an improvement.

assay trains small proxy models on each mix, scores the models, compares every candidate mix with the baseline mix, and accepts
or rejects the change.

Commands for daily use:

- `plan`: print the runs that a sweep would train, reuse or refuse, and their cost
- `submit`: start the runs that a sweep still needs
- `status`: print progress, speed, time left and failures
- `gate`: print the verdict (ACCEPT, REJECT, INCONCLUSIVE or BLOCKED)
- `report`: write the sweep's page, one self-contained HTML file

Hydra overrides follow a command: `sweep=NAME proxy=20m budget.tokens=1e9`.
"""


class _Application(TyperGroup):
    def list_commands(self, ctx: Context) -> list[str]:
        """List commands in the order of the help, because typer lists single commands before groups."""
        del ctx
        return sorted(self.commands, key=COMMANDS.index)

    def _main_shell_completion(
        self, ctx_args: MutableMapping[str, Any], prog_name: str, complete_var: str | None = None
    ) -> None:
        """Complete with assay's classes, which replace the classes that typer registers before this call."""
        with contextlib.suppress(ImportError, AttributeError):  # another version of typer completes words without `=`
            from assay.cli.shell_script import register

            register()
        super()._main_shell_completion(ctx_args, prog_name, complete_var)


app = typer.Typer(
    name="assay",
    cls=_Application,
    help=HELP,
    epilog=examples("assay plan sweep=first", "assay gate sweep=first --json"),
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)


def _show_version(value: bool) -> None:  # noqa: FBT001  # typer's callback form
    if value:
        typer.echo(f"assay {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    del version


for module in (
    init_command,
    doctor_command,
    demo_command,
    source_command,
    audit_group,
    taint_command,
    mix_command,
    plan_command,
    sweep_command,
    compare_command,
    gate_command,
    interim_command,
    suite_command,
    import_command,
    register_command,
    share_command,
):
    module.register(app)


def main() -> None:
    """Run the command line; every error exits with 2, because 1 is the gate's REJECT."""
    with readable():
        _run()


def _run() -> None:
    try:
        app()
    except AssayError as error:
        _print_error(error.what, error.fix)
        sys.exit(USAGE_ERROR)
    except BrokenPipeError:
        # `assay status | head` closed the pipe; redirect stdout so that Python's own flush at exit raises nothing.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except OSError as error:
        _print_error(f"{error.filename}: {error.strerror}." if error.filename and error.strerror else str(error))
        sys.exit(USAGE_ERROR)
    except KeyboardInterrupt:
        errors.print("interrupted; submitted runs continue (`assay status`, `assay cancel`)")
        sys.exit(INTERRUPTED)
    except Exception as error:  # noqa: BLE001  # a crash must never be read as a verdict
        traceback.print_exc()
        _print_error(
            f"this is a bug in assay: {type(error).__name__}: {error}", "Report this bug. No verdict was reached."
        )
        sys.exit(USAGE_ERROR)


def _print_error(what: str, fix: str = "") -> None:
    from rich.markup import escape

    errors.print(f"[bold red]error:[/] {escape(visible(what))}", soft_wrap=True)
    if fix:
        errors.print(escape(visible(fix)), soft_wrap=True)
