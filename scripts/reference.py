"""Write docs/reference/configuration.md and commands.md from the schema and the command line; `--check` compares only."""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import inspect
import itertools
import sys
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import typer
import yaml

from assay.cli.main import app
from assay.config import mixes
from assay.config.ablations import KINDS
from assay.config.study import Study

ROOT = Path(__file__).parents[1]
REFERENCE = ROOT / "docs" / "reference"


@dataclasses.dataclass(frozen=True)
class Section:
    """A table of the page: the keys that one dataclass accepts."""

    title: str
    kind: type
    file: str
    packaged: str = ""
    """Section of conf/config.yaml with the packaged defaults."""


GROUPS = ("proxy", "optim", "tokenizer", "suite", "policy", "cluster")
"""Sections of a study that are chosen by name: `proxy=NAME` reads conf/proxy/NAME.yaml."""
LEFT_OUT = {"history", "overridden", "raw", "sweep", "sources", "mixes", "stages", *GROUPS}
"""Fields of `Study` that are no section of conf/config.yaml, or have a place of their own on the page."""
UNITS = {
    "_seconds": "s", "_minutes": "min", "_hours": "h", "_gb": "GB", "_bytes": "bytes", "bytes_per_source": "bytes",
    "tokens": "tokens", "target_tokens": "tokens", "_steps": "steps", "fraction": "0 to 1", "alpha": "0 to 1",
    "warmup": "fraction of the steps", "nats": "nats per token",
}  # fmt: skip


def field_docs(kind: type) -> dict[str, str]:
    """Return the docstring below each field of a dataclass."""
    tree = ast.parse(inspect.getsource(inspect.getmodule(kind)))  # type: ignore[arg-type]  # the class is defined in a module
    body = next(node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == kind.__name__).body
    docs = {}
    for node, after in itertools.pairwise(body):
        if not isinstance(node, ast.AnnAssign) or not isinstance(node.target, ast.Name):
            continue
        if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
            docs[node.target.id] = " ".join(str(after.value.value).split())
    return docs


def part_of(kind: type, *path: str) -> type:
    """Return the dataclass below a field, through unions and containers: fields keep their place when a class is renamed."""
    for name in path:
        kind = dataclass_in(typing.get_type_hints(kind)[name])
    return kind


def dataclass_in(kind: Any) -> type:
    """Return the first dataclass among a type and its arguments."""
    if dataclasses.is_dataclass(kind):
        return typing.cast("type", kind)
    for argument in typing.get_args(kind):
        with contextlib.suppress(LookupError):
            return dataclass_in(argument)
    raise LookupError(f"{kind} has no dataclass")


def sections() -> Iterator[Section]:
    """Yield the tables of the page in their order."""
    source, mix, sweep = part_of(Study, "sources"), part_of(Study, "mixes"), part_of(Study, "sweep")
    for title, kind in {"source": source, **nested(source, "source")}.items():
        yield Section(title, kind, "conf/source/NAME.yaml")
    yield Section("mix", mix, "conf/mix/NAME.yaml")
    yield Section("mix.natural", part_of(mix, "natural"), "conf/mix/NAME.yaml")
    for edit in typing.get_args(mixes.Edit):
        yield Section(f"mix.edits[].{snake_case(edit.__name__)}", edit, "conf/mix/NAME.yaml")
    yield Section("a selection of sources", mixes.Selection, "conf/mix/NAME.yaml")
    yield Section("sweep", sweep, "sweeps/NAME.yaml, chosen with `sweep=NAME`")
    yield Section("sweep.arms[]", part_of(sweep, "arms"), "sweeps/NAME.yaml")
    for name, kind in KINDS.items():
        yield Section(f"sweep.ablation (kind: {name})", kind, "sweeps/NAME.yaml")
    for name in GROUPS:
        kind, file = part_of(Study, name), f"conf/{name}/NAME.yaml"
        yield Section(name, kind, f"{file}, chosen with `{name}=NAME`")
        for title, inner in nested(kind, name).items():
            yield Section(title, inner, file)
    yield Section("stages[]", part_of(Study, "stages"), "conf/config.yaml")
    for name in (field.name for field in dataclasses.fields(Study) if field.name not in LEFT_OUT):
        kind = part_of(Study, name)
        yield Section(name, kind, "conf/config.yaml", packaged=name)
        for title, inner in nested(kind, name).items():
            yield Section(title, inner, "conf/config.yaml")


def nested(kind: type, title: str) -> dict[str, type]:
    """Return the sections below a section, by title."""
    found: dict[str, type] = {}
    for name, hint in typing.get_type_hints(kind).items():
        with contextlib.suppress(LookupError):
            inner = dataclass_in(hint)
            many = typing.get_origin(hint) in (tuple, list)
            first = next((key for key, other in found.items() if other is inner), None)
            own = f"{title}.{name}{'[]' if many else ''}"
            if first is None:
                found[own] = inner
            else:
                found = {f"{key}, {own}" if key == first else key: value for key, value in found.items()}
    return found


def snake_case(name: str) -> str:
    """Return the key of a class of edits."""
    return name.removesuffix("Edit").lower()


def type_text(kind: Any) -> str:
    """Describe a type as the YAML that it is read from."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is Literal:
        return " \\| ".join(f"`{value}`" for value in arguments)
    if origin in (typing.Union, types.UnionType):
        return " or ".join("null" if part is type(None) else type_text(part) for part in arguments)
    if origin in (tuple, list):
        part = type_text(arguments[0])
        return "list of sections" if part.startswith("section") else f"list of {part}"
    if origin is dict:
        return f"mapping to {type_text(arguments[1])}"
    if dataclasses.is_dataclass(kind):
        return "section"
    return {str: "text", int: "integer", float: "number", bool: "true \\| false"}.get(
        kind, getattr(kind, "__name__", "value")
    )


def unit_of(name: str) -> str:
    """Return the unit of a key, by its name or the end of it."""
    if name == "decay":
        return "fraction of the steps"
    return next((unit for ending, unit in UNITS.items() if name.endswith(ending)), "")


def yaml_text(value: Any) -> str:
    """Write a plain value as YAML does."""
    return {True: "true", False: "false"}[value] if isinstance(value, bool) else str(value) or '""'


def default_text(field: dataclasses.Field[Any], packaged: dict[str, Any], *, named_by_file: bool) -> str:
    """Describe the default of a key."""
    if field.name in packaged:
        return f"`{yaml_text(packaged[field.name])}`" if packaged[field.name] is not None else "null"
    if field.default is not dataclasses.MISSING:
        plain = field.default
        if dataclasses.is_dataclass(plain):
            return "see its section"
        return "null" if plain is None else f"`{list(plain) if isinstance(plain, tuple) else yaml_text(plain)}`"
    if field.default_factory is not dataclasses.MISSING:
        made = field.default_factory()
        return "see its section" if dataclasses.is_dataclass(made) else f"`{made}`"
    return "the file's name" if field.name == "name" and named_by_file else "required"


def keys_of(kind: type) -> list[dataclasses.Field[Any]]:
    """Return the fields of a dataclass that can be set in YAML."""
    return [field for field in dataclasses.fields(kind) if field.init and not field.name.startswith("_")]


def configuration() -> str:
    """Return the page of every configuration key."""
    packaged = yaml.safe_load((ROOT / "conf" / "config.yaml").read_text(encoding="utf-8"))
    lines = [
        "# Configuration keys",
        "",
        "Generated by `scripts/reference.py` from the schema; do not edit. Override any key on the command line, as in any Hydra",
        "application: `assay plan sweep=first budget.tokens=2e6`. The default column shows the value of the packaged",
        "configuration, or of the schema if the packaged configuration does not set the key.",
        "",
        "Terms: an *arm* is one mix of a sweep, with any changes of the recipe. The *baseline* is the arm that the other arms, the",
        "*candidates*, are compared with. A *replicate* is one training run of an arm, with its own *seed*. A *pool* is the part of",
        "a source that a run trains on, if an arm shrinks the source. A run's *identity* is everything that determines its final",
        "weights. Runs of equal identity are trained once.",
    ]
    for section in sections():
        docs, hints = field_docs(section.kind), typing.get_type_hints(section.kind)
        about = " ".join((inspect.getdoc(section.kind) or "").split())
        lines += ["", f"## {section.title}", "", f"{about} File: {section.file}.", ""]
        lines += ["| key | type | default | unit | meaning |", "| --- | --- | --- | --- | --- |"]
        for field in keys_of(section.kind):
            default = default_text(
                field, packaged.get(section.packaged) or {}, named_by_file=section.title in {"source", "mix"}
            )
            row = (
                f"`{field.name}`",
                type_text(hints[field.name]),
                default,
                unit_of(field.name),
                docs.get(field.name, ""),
            )
            lines.append(f"| {' | '.join(row)} |")
    return "\n".join(lines) + "\n"


def walk_commands(command: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Yield the path and the command of every command below a group, in the order of `--help`."""
    for name, child in getattr(command, "commands", {}).items():
        yield from walk_commands(child, f"{path} {name}")
    if not hasattr(command, "commands"):
        yield path, command


def commands() -> str:
    """Return the page of every command."""
    root = typer.main.get_command(app)
    lines = ["# Commands", "", "Generated by `scripts/reference.py` from the CLI definitions; do not edit.", ""]
    lines += [
        "Hydra overrides (`KEY=VALUE`) follow a command's own arguments. A group without a command runs its first command:"
    ]
    lines += [
        "`assay plan sweep=first` runs `assay plan show sweep=first`. *External results* are scores that other tools measured."
    ]
    for path, command in walk_commands(root, "assay"):
        help_text = inspect.cleandoc(command.help or "").replace("\b", "")
        usage = " ".join([path, *(f"[{placeholder(p)}]" for p in command.params if p.param_type_name == "argument")])
        lines += [
            "",
            f"## {path}",
            "",
            *help_text.splitlines(),
            "",
            f"    {usage} [OPTIONS]",
            "",
            "| argument or option | meaning |",
        ]
        lines += [
            "| --- | --- |",
            *(f"| {names_of(p)} | {meaning_of(p)} |" for p in command.params if p.name != "help"),
        ]
        examples = [line.strip("`") for line in (command.epilog or "").split("\n\n") if line.startswith("`")]
        lines += ["", *(f"    {example}" for example in examples)]
    return "\n".join(lines) + "\n"


def names_of(parameter: Any) -> str:
    """Return how an argument or option is written."""
    if parameter.param_type_name == "argument":
        return f"`{placeholder(parameter)}`"
    flag = getattr(parameter, "is_flag", False)
    return f"`{', '.join(parameter.opts)}{'' if flag else f' {placeholder(parameter)}'}`"


def placeholder(parameter: Any) -> str:
    """Return the name of a value in upper case."""
    return str(parameter.metavar or parameter.name).upper().replace("|", " or ")


def meaning_of(parameter: Any) -> str:
    """Return the help text of an argument or option, with its default."""
    text = " ".join((parameter.help or "").split()).replace("|", "\\|")
    plain = parameter.default is None or parameter.default is False or callable(parameter.default)
    plain = plain or parameter.default in ((), [], "") or "default" in text
    return text if plain else f"{text} (default: {parameter.default})"


PAGES = {"configuration.md": configuration, "commands.md": commands}


def main() -> int:
    """Write both pages, or compare them with `--check`."""
    stale = [name for name, make in PAGES.items() if not _is_current(REFERENCE / name, make())]
    if "--check" in sys.argv:
        print("\n".join(f"docs/reference/{name} is out of date; run scripts/reference.py" for name in stale))
        return 1 if stale else 0
    for name in stale:
        (REFERENCE / name).write_text(PAGES[name](), encoding="utf-8")
        print(f"docs/reference/{name}")
    return 0


def _is_current(path: Path, text: str) -> bool:
    return path.exists() and path.read_text(encoding="utf-8") == text


if __name__ == "__main__":
    sys.exit(main())
