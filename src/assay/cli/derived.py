"""Sweeps that are made of other sweeps: their files, with what the command line changed written into them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from assay.cli.compose import GROUPS
from assay.errors import AssayError
from assay.files import write_text

HERE = ("paths.", "cluster.", "tracking.", "training.", "cluster=")
"""Overrides that say where and how something runs: they are the command's, and stay out of a sweep's file."""


def split(overrides: Sequence[str]) -> tuple[str, list[str], tuple[str, ...]]:
    """The sweep that was named, what its file has to say of the overrides, and what stays the command's."""
    left = tuple(one for one in overrides if one.startswith(HERE))
    kept = [one for one in overrides if one not in left and not one.startswith("sweep=")]
    return next(one.partition("=")[2] for one in overrides if one.startswith("sweep=")), kept, left


def write(file: Path, text: str, *, force: bool) -> None:
    """Put a sweep's file in place.

    Raises:
        AssayError: it is no YAML file, or there already and not to be replaced.
    """
    if file.suffix != ".yaml":
        raise AssayError(f"--out {file}: a sweep's file ends in .yaml.")
    if file.exists() and not force:
        raise AssayError(f"{file} is there already.", fix="Add --force to replace it, or name another with --out.")
    write_text(file, text)


def derived_text(
    base: str, own: Mapping[str, Any], overrides: Sequence[str], *, about: str, more: Mapping[str, Any] | None = None
) -> str:
    """The file of a sweep that is another one but for a few keys.

    Args:
        base: the sweep that it is made of, as Hydra finds it.
        own: keys of its `sweep` section.
        overrides: Hydra's, that the file says too; those of `own` win.
        about: what it is, in sentences, a line each.
        more: other sections that it adds to.

    Raises:
        AssayError: an override deletes something, which a file cannot.
    """
    import yaml

    defaults: list[Any] = [base]
    body: dict[str, Any] = dict(more or {})
    for key, value in _parsed(overrides):
        if key in GROUPS:
            defaults.append({f"override /{key}": value})
        else:
            _put(body, key, value)
    body["sweep"] = {**body.get("sweep", {}), **own}
    head = ["# @package _global_", *(f"# {line}" for line in about.splitlines())]
    shown = yaml.safe_dump({"defaults": [*defaults, "_self_"], **body}, sort_keys=False, allow_unicode=True, width=120)
    return "\n".join([*head, shown])


def _parsed(overrides: Sequence[str]) -> list[tuple[str, Any]]:
    from hydra.core.override_parser.overrides_parser import OverridesParser

    found = []
    for one in OverridesParser.create().parse_overrides(list(overrides)):
        if one.is_delete():
            raise AssayError(
                f"{one.input_line}: what an override takes away cannot be written into a sweep's file.",
                fix="Change the configuration itself, or write the sweep by hand.",
            )
        found.append((str(one.key_or_group), one.value()))
    return found


def _put(body: dict[str, Any], key: str, value: Any) -> None:
    """A value at a dotted place."""
    *parents, last = key.split(".")
    node = body
    for parent in parents:
        node = node.setdefault(parent, {})
    node[last] = _plain(value)


def _plain(value: Any) -> Any:
    """What Hydra's grammar made of it, as YAML has it: quoted strings lose their quotes."""
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_plain(one) for one in value]
    return value if isinstance(value, (int, float, bool, str)) or value is None else str(getattr(value, "text", value))
