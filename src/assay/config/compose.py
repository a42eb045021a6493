"""Compose `conf/`, `sweeps/` and overrides into a `Study`.

The project's `conf/` and `sweeps/` precede the packaged folders. Its `conf/config.yaml` is merged over the packaged
file. Sources and mixes are catalogs: every file of `conf/source/` and `conf/mix/` is available under its name, and
overrides reach each of its fields (`source.books.clearance.state=blocked`). `hydra_source` and `override` are the only
other modules that use Hydra's objects.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assay.config.override import Override, apply, split_override, unquoted
from assay.config.search_path import (
    SWEEPS,
    check_file_name,
    config_files,
    config_roots,
    find_config,
    group_folder,
    packaged,
    project_root,
)
from assay.config.study import Study
from assay.core.errors import ConfigError, did_you_mean, shortened

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from assay.config.hydra_source import ConfigFiles

CATALOGS = ("source", "mix")
GROUPS = ("proxy", "optim", "tokenizer", "suite", "policy", "cluster")
COMMAND_LINE = "the command line"
AUTO = "auto"
"""Value of `paths.benchmarks` for the project's mirror if it exists, otherwise the hub."""


def names(group: str, roots: Iterable[Path]) -> list[str]:
    """Return the names of a group's files in all roots, sorted."""
    return sorted({name for root in roots for name in config_files(group_folder(root, group))})


def compose(overrides: Sequence[str], *, root: Path | None = None) -> Study:
    """Compose a study from overrides.

    Args:
        overrides: Hydra overrides, including `sweep=NAME`.
        root: the project's folder (default: derived from the working directory).

    Raises:
        ConfigError: a name or key is unknown (the message names the nearest valid name), a value has the wrong type, or
            a file is not YAML.
    """
    from assay.config.hydra_source import ConfigFiles, take_files

    root = (root or project_root()).resolve()
    roots = config_roots(root)
    parsed = [split_override(override) for override in overrides]
    choices = _choices(parsed, roots)
    files = ConfigFiles(
        roots, catalogs=_catalogs(roots, choices.get("sweep")), groups=GROUPS, sweep=choices.get("sweep")
    )
    plain = _unresolved(_compose([f"{key}='{name}'" for key, name in choices.items() if key != "sweep"], files))
    origins = take_files(plain, CATALOGS)
    if SWEEPS in plain:
        raise ConfigError(
            f"{SWEEPS}/{choices['sweep']}.yaml is invalid; expected `# @package _global_` as its first line, and a section `sweep`.",
            fix="Add the line, as in the sweep file that `assay init` writes.",
        )
    if isinstance(plain.get("paths"), dict):  # else the schema refuses it
        plain["paths"]["root"] = str(root).replace("${", "\\${")
    for override in parsed:
        if override.key not in choices:
            path = apply(plain, override)
            _note_origin(origins, path, override)
    plain["overridden"] = [
        {"catalog": catalog, "name": name, "files": files}
        for (catalog, name), files in sorted(origins.items())
        if len(set(files.values())) > 1
    ]
    try:
        study = Study.parse(_with_mirror(_resolved(plain)))
    except ConfigError as error:
        declared = _declared_in(error.what, plain, origins, files)
        raise ConfigError(error.what, fix=" ".join(filter(None, (error.fix, declared)))) from None
    if "sweep" in choices and study.sweep is not None:
        _check_sweep_name(study.sweep.name, choices["sweep"], parsed, roots)
    return study


def _declared_in(
    what: str, plain: Mapping[str, Any], origins: Mapping[tuple[str, str], Mapping[str, str]], files: ConfigFiles
) -> str:
    """Return which file declares the section with which a message begins; empty if the message names no section."""
    match = re.match(r"(\w+)(?: '([^']*)')?(?=[\s:,.]|$)", what)
    section, name = (match[1], match[2]) if match else ("", None)
    if name is not None and (entry := origins.get((section, name))):
        return f"{section} {name!r} is declared in {' and '.join(dict.fromkeys(entry.values()))}."
    body = plain.get(section)
    if section in (*GROUPS, "sweep") and isinstance(body, Mapping):
        path = files.find(f"{SWEEPS if section == 'sweep' else section}/{body.get('name')}")
        return "" if path is None else f"{section} {body['name']!r} is declared in {files.shown(path)}."
    return f"`{section}` is declared in conf/config.yaml, unless the sweep's file declares it." if body else ""


def _check_sweep_name(name: str, file: str, overrides: Sequence[Override], roots: Sequence[Path]) -> None:
    """Refuse a sweep that has the name of another file: both would share runs, page and verdict."""
    if name == file:
        return
    if any(override.key == "sweep.name" for override in overrides):
        if name in names("sweep", roots):
            raise ConfigError(
                f"sweep.name={name} is invalid: {SWEEPS}/{name}.yaml is another sweep.", fix="Choose an unused name."
            )
        return
    raise ConfigError(
        f"{SWEEPS}/{file}.yaml: name {name!r} is invalid; expected the name of the file, {file!r}. Two sweeps with one name"
        " would replace each other's page and verdict.",
        fix=f"Set `name: {file}`, or rename the file to {name}.yaml.",
    )


def _choices(overrides: Sequence[Override], roots: Sequence[Path]) -> dict[str, str]:
    """Return the names that overrides select, by group; `sweep` is one of the groups."""
    choices: dict[str, str] = {}
    for override in overrides:
        key = override.key
        if key not in ("sweep", *GROUPS):
            continue
        if override.action != "set":
            raise ConfigError(
                f"override {override.text!r} is invalid; `{key}` is selected without a prefix.",
                fix=f"Write `{key}=NAME`.",
            )
        name = unquoted((override.raw or "").strip())
        path = find_config(roots, key, name)
        if path is None:
            raise ConfigError(f"no {key} is called {name!r}. {did_you_mean(name, names(key, roots))}")
        check_file_name(key, path)
        if key in choices:
            raise ConfigError(f"{key}: {choices[key]} and {name} exclude each other.", fix=f"Keep one {key}=NAME.")
        choices[key] = name
    return choices


def _catalogs(roots: Sequence[Path], sweep: str | None) -> dict[str, Sequence[Path]]:
    """Return the folders with the sources and mixes.

    A project with its own files gets only its own files, so that selections by domain or tag match only its text. The
    packaged files belong to the demonstration. The demonstration's sweep and projects without own files get the
    packaged files.
    """
    own = roots[:1]
    packaged_sweep = sweep is not None and sweep not in names("sweep", own)
    return {group: own if names(group, own) and not packaged_sweep else roots for group in CATALOGS}


def _compose(choices: list[str], files: ConfigFiles) -> DictConfig:
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    from assay.config.hydra_source import PRIMARY, serve

    GlobalHydra.instance().clear()
    try:
        with serve(files), initialize_config_dir(str(packaged() / "conf"), version_base="1.3"):
            return _named(hydra_compose(PRIMARY, overrides=choices, return_hydra_config=True))
    except (HydraException, OmegaConfBaseException, AssertionError, ValueError, RecursionError) as error:
        # Hydra answers some defaults lists with bare ValueErrors and assertions.
        raise ConfigError(_explain(error)) from None


def _named(config: DictConfig) -> DictConfig:
    """Set the name of each group's choice to its file name, unless the file contains a name."""
    from omegaconf import OmegaConf, open_dict

    chosen = config.hydra.runtime.choices
    with open_dict(config):
        del config["hydra"]
        for group in GROUPS:
            if group in chosen and OmegaConf.is_dict(config.get(group)) and "name" not in config[group]:
                config[group]["name"] = chosen[group]
    return config


def _unresolved(config: DictConfig) -> dict[str, Any]:
    """Return a composed configuration as plain values, with its interpolations as text."""
    from omegaconf import OmegaConf

    return dict(OmegaConf.to_container(config, resolve=False))  # type: ignore[arg-type]  # a DictConfig gives a dict


def _resolved(plain: dict[str, Any]) -> dict[str, Any]:
    """Resolve the interpolations of a configuration."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        resolved = OmegaConf.to_container(OmegaConf.create(plain), resolve=True, throw_on_missing=True)
    except (OmegaConfBaseException, ValueError, RecursionError) as error:
        raise ConfigError(_explain(error)) from None
    return dict(resolved)  # type: ignore[arg-type]  # as above


def _with_mirror(plain: dict[str, Any]) -> dict[str, Any]:
    """Replace `paths.benchmarks: auto` by the project's mirror if it exists, otherwise by null, which is the hub.

    A submission freezes the resulting value. A mirror that is made later therefore changes no submitted sweep.
    """
    paths = plain.get("paths")
    if not isinstance(paths, dict) or paths.get("benchmarks") != AUTO:
        return plain
    mirror = Path(str(paths.get("root")), str(paths.get("data")), "benchmarks")
    return {**plain, "paths": {**paths, "benchmarks": str(mirror) if mirror.is_dir() else None}}


def _note_origin(origins: dict[tuple[str, str], dict[str, str]], path: tuple[str, ...], override: Override) -> None:
    """Record which keys of a source or mix the command line sets."""
    if path[0] not in CATALOGS or len(path) < 2:
        return
    entry = origins.setdefault((path[0], path[1]), {})
    value = override.value if len(path) == 2 and override.raw is not None else None
    keys = list(value) if isinstance(value, dict) else [".".join(path[2:])] if len(path) > 2 else []
    for key in keys:
        entry[key] = COMMAND_LINE


def _explain(error: Exception) -> str:
    """Shorten Hydra's message to one line."""
    if isinstance(error, RecursionError) or isinstance(error.__cause__, RecursionError):
        return "configuration: interpolations `${...}` or `defaults` refer to each other in a cycle, or values are nested too deeply."
    lines = [str(part) for part in (error, error.__cause__) if part is not None and str(part).strip()]
    place = re.search(r"full_key: (\S+)", "\n".join(lines))
    noise = r"(?s)\s*(full_key[:=]|object_type[:=]|reference_type[:=]|Config search path:).*"
    parts = [" ".join(re.sub(noise, "", line).split()) for line in lines]
    text = re.sub(r"\w+ raised while (resolving interpolation|composing config):", "", "; ".join(dict.fromkeys(parts)))
    where = f"{place[1]}: " if place and place[1] not in text else ""
    return f"configuration: {where}{shortened(' '.join(text.split()), 500)}"
