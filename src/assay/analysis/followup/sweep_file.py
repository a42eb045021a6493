"""Write the files of sweeps that derive from other sweeps, with the command line's overrides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from assay.config.compose import GROUPS
from assay.config.override import REPLACED, Override, matches, merge, split_key, split_override, unquoted
from assay.config.search_path import ENDINGS
from assay.core.errors import ConfigError, Refused
from assay.core.files import write_text

COMMAND_ONLY = ("paths.", "cluster.", "tracking.", "training.", "cluster=")
"""Prefixes of overrides that set where and how a command runs. They do not belong in a sweep's file."""


def split_overrides(overrides: Sequence[str]) -> tuple[str, list[str], tuple[str, ...]]:
    """Split overrides into the sweep's name, file overrides and command overrides."""
    command = tuple(override for override in overrides if override.startswith(COMMAND_ONLY))
    kept = [override for override in overrides if override not in command and not override.startswith("sweep=")]
    name = next(override.partition("=")[2] for override in overrides if override.startswith("sweep="))
    return unquoted(name), kept, command


def write_sweep_file(file: Path, text: str, *, force: bool) -> None:
    """Write a sweep's file.

    Raises:
        AssayError: the name does not end in .yaml, or the file exists and `force` is false.
    """
    if file.suffix not in ENDINGS:
        raise ConfigError(
            f"--out: {file} is invalid; expected a file name that ends in .yaml.",
            fix="Add the ending .yaml to the file name.",
        )
    if file.exists() and not force:
        raise Refused(
            f"{file} already exists.", fix="Add --force to replace the file, or pass another file with --out."
        )
    write_text(file, text)


def format_derived_sweep(
    base: str,
    own: Mapping[str, Any],
    overrides: Sequence[str],
    *,
    raw: Mapping[str, Any],
    about: str,
    more: Mapping[str, Any] | None = None,
) -> str:
    """Return the YAML text of a sweep that changes a few keys of another sweep.

    Args:
        base: Hydra name of the original sweep.
        own: keys of the new `sweep` section.
        overrides: Hydra overrides to write into the file; the keys of `own` take precedence.
        raw: plain values of the study, with the overrides applied.
        about: description for the head of the file, one sentence per line.
        more: additional sections.

    Raises:
        AssayError: an override deletes a key, which a sweep file cannot express.
    """
    import yaml

    defaults: list[Any] = [base]
    body: dict[str, Any] = {key: dict(value) for key, value in (more or {}).items()}
    for text in overrides:
        override = split_override(text)
        if override.action == "delete":
            raise Refused(
                f"override {text} is invalid; expected an override that sets a key, because a sweep file cannot delete one.",
                fix="Delete the key in the configuration, or write the sweep file yourself.",
            )
        if override.key in GROUPS:
            defaults.append({f"override /{override.key}": unquoted(override.raw or "")})
        else:
            _put(body, override, raw)
    body["sweep"] = {**body.get("sweep", {}), **own}
    head = ["# @package _global_", *(f"# {line}" for line in about.splitlines())]
    content = yaml.safe_dump(
        {"defaults": [*defaults, "_self_"], **body}, sort_keys=False, allow_unicode=True, width=120
    )
    return "\n".join([*head, content])


def _put(body: dict[str, Any], override: Override, raw: Mapping[str, Any]) -> None:
    """Set the value of an override in the content of a sweep file."""
    path = split_key(raw, override.key)
    if matches(path[:3], REPLACED):  # the weights in a sweep file replace all others
        path = path[:3]
        value = raw[path[0]][path[1]][path[2]]
    else:
        value = override.value
    node = body
    for parent in path[:-1]:
        node = node.setdefault(parent, {})
    node[path[-1]] = merge(node.get(path[-1]), value, path)
