"""Provide the configuration files of project and package to Hydra as one source."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.object_type import ObjectType
from hydra.core.plugins import Plugins
from hydra.plugins.config_source import ConfigLoadError, ConfigResult, ConfigSource
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from assay.config.mixes import check_declaration
from assay.config.override import merge
from assay.config.search_path import (
    SWEEPS,
    check_file_name,
    config_files,
    find_config,
    group_folder,
    packaged,
)
from assay.config.yaml_file import parse_yaml, read_text
from assay.core.errors import ConfigError, did_you_mean, shortened

if TYPE_CHECKING:
    from omegaconf import DictConfig

PRIMARY = "assay"
"""Name of the primary configuration, which `ConfigFiles` merges from the files `conf/config.yaml`."""
CATALOG = "assay_catalog"
"""Name of the configuration with the sources and mixes."""
FILES = "__files__"
"""Additional key of a source or mix that records the file of each key. `take_files` removes this key."""


class ConfigFiles:
    """The files that a command reads."""

    def __init__(
        self,
        roots: Sequence[Path],
        *,
        catalogs: Mapping[str, Sequence[Path]],
        groups: Sequence[str],
        sweep: str | None,
    ) -> None:
        """Store the arguments without reading files.

        Args:
            roots: folders with `conf/` and `sweeps/`, the project's first.
            catalogs: folders to search for each catalog (`source`, `mix`).
            groups: groups with one choice each.
            sweep: name of the sweep, if any.
        """
        self._roots = roots
        self._catalogs = catalogs
        self._groups = groups
        self._sweep = sweep

    def load(self, name: str) -> tuple[dict[str, Any], dict[str, str | None]] | None:
        """Return the content and the header of a configuration by Hydra's name, or ``None``."""
        if name == PRIMARY:
            return self._primary(), {"package": None}
        if name == CATALOG:
            return self._catalog(), {"package": "_global_"}
        path = self.find(name)
        if path is None:
            return None
        text = read_text(path)
        body, group = parse_yaml(text, path), name.rpartition("/")[0]
        self._check_defaults(body.get("defaults", []), path)
        if group in self._catalogs:
            return self._entry(group, body, path), {"package": None}
        header = _header(text)
        if group in self._groups and header["package"] is None:
            body = {"name": path.stem, **body}  # a file that is based on another one does not inherit its name
        return self._marked(body, path), header

    def find(self, name: str) -> Path | None:
        """Return the file of a configuration by Hydra's name, such as `policy/default`, or ``None``."""
        group, _, stem = name.rpartition("/")
        return find_config(self._roots, group, stem) if group else None

    def is_group(self, name: str) -> bool:
        """Report whether a folder of configurations has this name."""
        return any(group_folder(root, name).is_dir() for root in self._roots)

    def names(self, group: str) -> list[str]:
        """Return the names in a group."""
        return sorted({name for root in self._roots for name in config_files(group_folder(root, group))})

    def _primary(self) -> dict[str, Any]:
        """Merge the project's `conf/config.yaml` over the packaged one."""
        base_path = packaged() / "conf" / "config.yaml"
        base = parse_yaml(read_text(base_path), base_path)
        defaults, body = base.pop("defaults"), self._marked(base, base_path)
        own = find_config(self._roots[:1], "", "config")
        if own is not None and own != base_path:
            plain = parse_yaml(read_text(own), own)
            defaults = self._merged_defaults(defaults, plain.pop("defaults", []), own)
            known = {*base, *self._groups, *self._catalogs, "hydra"}
            for key in plain:
                if key not in known:
                    raise ConfigError(f"{own}: no section is called {key!r}. {did_you_mean(key, known)}")
            body = merge(body, self._marked(plain, own))
        place = defaults.index("_self_") if "_self_" in defaults else len(defaults)
        defaults = [*defaults[:place], CATALOG, *defaults[place:]]
        if self._sweep is not None:
            defaults.append({SWEEPS: self._sweep})
        return {"defaults": defaults, **body}

    def _merged_defaults(self, base: list[Any], own: Any, path: Path) -> list[Any]:
        """Replace the choices of groups in a defaults list by those of the project."""
        if not isinstance(own, list):
            raise ConfigError(
                f"{path}: `defaults` is a {type(own).__name__}; expected a list.",
                fix="Write for example `defaults: [proxy: 1m]`.",
            )
        merged = list(base)
        for entry in own:
            if entry == "_self_":
                continue
            if not isinstance(entry, dict) or len(entry) != 1:
                raise ConfigError(
                    f"{path}: the default {entry!r} is invalid; expected GROUP: NAME.",
                    fix="Write for example `proxy: 1m`.",
                )
            ((key, name),) = entry.items()
            group = key.removeprefix("override").strip().removeprefix("/")
            if group not in self._groups or not isinstance(name, str):
                raise ConfigError(
                    f"{path}: the default `{key}: {name}` is invalid; expected the name of a file in one of"
                    f" {', '.join(self._groups)}. {did_you_mean(group, self._groups)}"
                )
            self._require_choice(group, name, path)
            merged = [{group: name} if isinstance(item, dict) and group in item else item for item in merged]
        return merged

    def _check_defaults(self, defaults: Any, path: Path) -> None:
        """Refuse defaults lists on which Hydra fails with an assertion, and names of files that do not exist."""
        if not isinstance(defaults, list):
            raise ConfigError(
                f"{path}: `defaults` is a {type(defaults).__name__}; expected a list.",
                fix="Write for example `defaults: [override /proxy: 1m]`.",
            )
        for entry in defaults:
            if isinstance(entry, dict) and len(entry) == 1:
                ((key, value),) = entry.items()
                values = value if isinstance(value, list) else [value]
                valid = key.strip() and all(isinstance(name, str) and name for name in values if name is not None)
                group = key.removeprefix("override").strip().removeprefix("/")
                if valid and group in self._groups and isinstance(value, str):
                    self._require_choice(group, value, path)
            else:
                valid = isinstance(entry, str) and entry
            if not valid:
                raise ConfigError(
                    f"{path}: the default {shortened(repr(entry))} is invalid; expected a name, or GROUP: NAME.",
                    fix="Write for example `override /proxy: 1m`.",
                )

    def _require_choice(self, group: str, name: str, path: Path) -> None:
        if find_config(self._roots, group, name) is None:
            raise ConfigError(f"{path}: no {group} is called {name!r}. {did_you_mean(name, self.names(group))}")

    def _catalog(self) -> dict[str, Any]:
        """Return every source and mix under its name."""
        catalog: dict[str, Any] = {group: {} for group in self._catalogs}
        defaults: list[Any] = ["_self_"]
        for group, roots in self._catalogs.items():
            paths: dict[str, Path] = {}
            for root in roots:
                paths = {**config_files(group_folder(root, group)), **paths}
            for name, path in sorted(paths.items()):
                check_file_name(group, path)
                body = parse_yaml(read_text(path), path)
                self._check_defaults(body.get("defaults", []), path)
                if "defaults" not in body:
                    catalog[group][name] = self._entry(group, body, path)
                elif "." in name:
                    raise ConfigError(
                        f"{path}: the file name contains a dot; expected none, because the file has the key `defaults`.",
                        fix="Rename the file.",
                    )
                else:  # Hydra composes a file that is based on another one
                    defaults.append({f"/{group}@_global_.{group}.{name}": name})
        return {"defaults": defaults, **catalog}

    def _entry(self, group: str, body: dict[str, Any], path: Path) -> dict[str, Any]:
        """Prepare the content of a source's or mix's file."""
        if group == "mix":
            check_declaration(self.shown(path), body)
        keys = {key: self.shown(path) for key in body if key != "defaults"}
        return {**(_pairs(body, path) if group == "mix" else body), FILES: keys}

    def _marked(self, body: dict[str, Any], path: Path) -> dict[str, Any]:
        """Prepare the sources and mixes in the content of another file."""
        marked = dict(body)
        for group in self._catalogs:
            entries = body.get(group)
            if entries is None:
                continue
            if not isinstance(entries, dict):
                raise ConfigError(
                    f"{path}: `{group}` is a {type(entries).__name__}; expected a mapping by name.",
                    fix="Write the keys of each entry below its name.",
                )
            marked[group] = {
                name: self._entry(group, entry, path) if isinstance(entry, dict) else entry
                for name, entry in entries.items()
            }
        return marked

    def shown(self, path: Path) -> str:
        """Return a file's path as messages show it, relative to its root."""
        for root in self._roots:
            if path.is_relative_to(root):
                prefix = "" if root == self._roots[0] else "packaged "
                return f"{prefix}{path.relative_to(root).as_posix()}"
        return str(path)


@contextmanager
def serve(files: ConfigFiles) -> Iterator[None]:
    """Make Hydra read these files first."""
    from hydra._internal.sources_registry import SourcesRegistry

    class _Source(ConfigSource):
        @staticmethod
        def scheme() -> str:
            return "assay"

        def load_config(self, config_path: str) -> ConfigResult:
            loaded = files.load(config_path)
            if loaded is None:
                raise ConfigLoadError(f"no configuration is called {config_path!r}")
            body, header = loaded
            return ConfigResult(provider="assay", path="assay://", config=_config(body, config_path), header=header)

        def available(self) -> bool:
            return True

        def is_group(self, config_path: str) -> bool:
            return bool(config_path) and files.is_group(config_path)

        def is_config(self, config_path: str) -> bool:
            return config_path in {PRIMARY, CATALOG} or files.find(config_path) is not None

        def list(self, config_path: str, results_filter: ObjectType | None) -> list[str]:
            del results_filter
            return files.names(config_path)

    class _First(SearchPathPlugin):
        def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
            search_path.prepend("assay", "assay://")

    # Hydra keeps classes in registries and makes the instances itself, so the files reach it through a closure.
    SourcesRegistry.instance().types["assay"] = _Source
    plugins = Plugins.instance()
    plugins.register(_First)
    try:
        yield
    finally:
        plugins.plugin_type_to_subclass_list[SearchPathPlugin].remove(_First)


def take_files(plain: dict[str, Any], catalogs: Sequence[str]) -> dict[tuple[str, str], dict[str, str]]:
    """Remove the marks of `ConfigFiles` from a composed configuration, in place.

    Returns:
        The file of each key, by catalog and name.
    """
    files: dict[tuple[str, str], dict[str, str]] = {}
    for group in catalogs:
        for name, entry in (plain.get(group) or {}).items():
            if isinstance(entry, dict):
                files[group, name] = entry.pop(FILES, {})
                if isinstance(weights := entry.get("weights"), list) and group == "mix":
                    entry["weights"] = dict(weights)
    return files


def _pairs(body: dict[str, Any], path: Path) -> dict[str, Any]:
    """Write `weights` as a list of pairs, because Hydra merges mappings and replaces lists."""
    weights = body.get("weights")
    if isinstance(weights, list):
        raise ConfigError(
            f"{path}: `weights` is a list; expected a mapping.",
            fix="Write for example `weights: {web: 0.8, code: 0.2}`.",
        )
    return {**body, "weights": [list(pair) for pair in weights.items()]} if isinstance(weights, dict) else body


def _header(text: str) -> dict[str, str | None]:
    """Return the package that a comment at the head of a file declares: `# @package _global_`."""
    for line in text.splitlines():
        if line.strip() and not line.startswith("#"):
            break
        if match := re.fullmatch(r"#\s*@package\s+(\S+)\s*", line):
            return {"package": match[1]}
    return {"package": None}


def _config(body: dict[str, Any], name: str) -> DictConfig:
    try:
        return OmegaConf.create(body)
    except OmegaConfBaseException as error:
        raise ConfigError(f"configuration {name!r}: {' '.join(str(error).split())}") from None
