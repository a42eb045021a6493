"""`assay init`: create a project with a first sweep that runs without changes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from assay.cli.arguments import AsJson
from assay.cli.command_group import add_command
from assay.cli.console import console, print_json
from assay.core.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Iterator

CLUSTERS = ("local", "slurm")
"""Packaged cluster profiles that a project gets as files to adapt."""
VERSION = "@VERSION@"
"""Placeholder in a template for the digest of the source's generated text."""
SHOWN = 12
"""Number of digits of a version in a source's file."""


def register(app: typer.Typer) -> None:
    """Add the command of this module."""
    first, second = "assay init my_project", "assay init my_project --force"
    add_command(app, init, "init", panel="Project", first=first, second=second)


def init(
    folder: Annotated[Path, typer.Argument(help="Folder of the project; created if it does not exist.")] = Path(),
    *,
    force: Annotated[bool, typer.Option("--force", help="Overwrite existing files.")] = False,
    as_json: AsJson = False,
) -> None:
    """Create a project with its own `conf/` and `sweeps/`, which take precedence over the packaged files.

    The sweep `first` runs as created, on sample text.
    """
    files = {folder / path: text for path, text in _project_files()}
    existing = [str(path) for path in files if path.exists()]
    if existing and not force:
        more = f" and {len(existing) - 5} more" if len(existing) > 5 else ""
        raise Refused(
            f"{', '.join(existing[:5])}{more}: already exists. Nothing was written.",
            fix="Choose another folder, or add --force to overwrite.",
        )
    for path, text in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8", newline="\n")
    for name in (path.stem for path, text in files.items() if VERSION in text):
        _pin_clearance(folder, name)
    if as_json:
        print_json({"folder": folder, "files": list(files)})
        return
    for path in files:
        console.print(str(path), markup=False, soft_wrap=True)
    _print_next_steps(folder)


def _project_files() -> Iterator[tuple[str, str]]:
    """Yield the path and the content of each file, relative to the project."""
    from assay.config.search_path import packaged
    from assay.demo.sample_text import sample_files

    templates = Path(__file__).parent / "templates"
    for path in sorted(templates.rglob("*.*")):
        if path.is_file():
            yield path.relative_to(templates).as_posix(), path.read_text(encoding="utf-8")
    for name in CLUSTERS:
        path = packaged() / "conf" / "cluster" / f"{name}.yaml"
        yield f"conf/cluster/{name}.yaml", path.read_text(encoding="utf-8")
    yield from sample_files()


def _pin_clearance(folder: Path, name: str) -> None:
    """Restrict the clearance of a generated source to its generated text."""
    import yaml

    from assay.config.sources import Source
    from assay.core.serde import from_mapping
    from assay.corpus.source_reader import fresh_digest

    file = folder / "conf" / "source" / f"{name}.yaml"
    text = file.read_text(encoding="utf-8")
    plain = yaml.safe_load(text.replace(VERSION, "0" * SHOWN))
    source = from_mapping(Source, {"name": name, **plain}, where=str(file))
    digest = fresh_digest(replace(source, files=tuple(str((folder / path).absolute()) for path in source.files)))
    file.write_text(text.replace(VERSION, digest[:SHOWN]), encoding="utf-8", newline="\n")


def _print_next_steps(folder: Path) -> None:
    steps = (
        "The sweep `first` runs as created, on sample text:",
        *([] if folder == Path() else [f"     cd {folder}"]),
        "     assay plan sweep=first",
        "     assay submit sweep=first",
        "     assay gate sweep=first",
    )
    console.print("\n1. " + "\n".join(steps), markup=False, soft_wrap=True)
    for step in (
        "2. Declare your text: rename conf/source/my_source.yaml.example, and enter its files, license and clearance.",
        "3. Write your recipe in conf/mix/today.yaml, and what to compare with it in another file of conf/mix/.",
        (
            "4. Adapt conf/tokenizer/, conf/suite/, conf/policy/ and sweeps/first.yaml. Check them with"
            " `assay doctor sweep=first`."
        ),
    ):
        console.print(step, markup=False, soft_wrap=True)
