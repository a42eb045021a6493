"""`assay`: the application, and the one place where errors become exit codes."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from assay import __version__
from assay.cli import mixes, project, results, runs
from assay.cli.common import errors
from assay.errors import AssayError

USAGE_ERROR = 2

app = typer.Typer(
    name="assay",
    help=(
        "Tell whether a change to the data recipe of a language model is an improvement: train small proxy models on "
        "each mix, score them, compare them with the baseline mix, and accept or reject the change."
    ),
    epilog=(
        "Hydra overrides follow a command: assay plan sweep=code_replace proxy=20m budget.tokens=1e9. "
        "Exit codes of gate: 0 ACCEPT, 1 REJECT, 2 an error, 3 INCONCLUSIVE, 4 BLOCKED."
    ),
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
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


for module in (project, mixes, runs, results):
    module.register(app)


def main() -> None:
    """Run the command line; an `AssayError` is printed without a traceback and exits with 2."""
    try:
        app()
    except AssayError as error:
        errors.print(f"[bold red]error:[/] {_escaped(error.what)}", soft_wrap=True)
        if error.fix:
            errors.print(_escaped(error.fix), soft_wrap=True)
        sys.exit(USAGE_ERROR)
    except BrokenPipeError:
        # `assay status | head`: the reader has seen enough; point stdout elsewhere so that Python's own flush is quiet.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except KeyboardInterrupt:
        errors.print("interrupted; what was submitted goes on (`assay status`, `assay cancel`)")
        sys.exit(130)


def _escaped(text: str) -> str:
    from rich.markup import escape

    return escape(text)
