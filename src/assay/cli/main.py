"""`assay`: the application, and the one place where errors become exit codes."""

from __future__ import annotations

import inspect
import os
import sys
import traceback
from typing import Annotated

import typer

from assay import __version__
from assay.cli import (
    audit,
    clusters,
    early,
    imports,
    mixes,
    project,
    register,
    repair,
    results,
    runs,
    samples,
    serve,
    sources,
    suite,
    taint,
)
from assay.cli.common import errors
from assay.cli.plain import readable
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


for module in (
    project,
    sources,
    audit,
    clusters,
    mixes,
    samples,
    taint,
    repair,
    runs,
    register,
    results,
    serve,
    early,
    suite,
    imports,
):
    module.register(app)
for command in app.registered_commands:  # whole first sentences: click would cut them to fit a line
    about = " ".join((inspect.getdoc(command.callback) or "").split("\n\n")[0].split())
    command.short_help = about.partition(". ")[0].removesuffix(".") + "."


def main() -> None:
    """Run the command line; whatever goes wrong exits with 2, since 1 is the gate's REJECT."""
    with readable():
        _run()


def _run() -> None:
    try:
        app()
    except AssayError as error:
        _tell(error.what, error.fix)
        sys.exit(USAGE_ERROR)
    except BrokenPipeError:
        # `assay status | head`: the reader has seen enough; point stdout elsewhere so that Python's own flush is quiet.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except OSError as error:
        _tell(f"{error.filename}: {error.strerror}." if error.filename and error.strerror else str(error))
        sys.exit(USAGE_ERROR)
    except KeyboardInterrupt:
        errors.print("interrupted; what was submitted goes on (`assay status`, `assay cancel`)")
        sys.exit(130)
    except Exception as error:  # noqa: BLE001  # the door: a crash must never be read as a verdict
        traceback.print_exc()
        _tell(f"this is a bug in assay: {type(error).__name__}: {error}", "Nothing was decided; please report it.")
        sys.exit(USAGE_ERROR)


def _tell(what: str, fix: str = "") -> None:
    errors.print(f"[bold red]error:[/] {_escaped(what)}", soft_wrap=True)
    if fix:
        errors.print(_escaped(fix), soft_wrap=True)


def _escaped(text: str) -> str:
    from rich.markup import escape

    return escape(text)
