"""From conf/, sweeps/ and overrides to a `Study`. Hydra's objects stop here.

A team's own `conf/` and `sweeps/` are found before the packaged ones. Sources and mixes are catalogues: every file
of `conf/source/` and `conf/mix/` is there under its name, and any field can be overridden like any other
(`source.books.clearance.state=blocked`).
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assay.errors import AssayError, did_you_mean
from assay.roots import SWEEPS, config_roots, packaged, project_root
from assay.study import Study

if TYPE_CHECKING:
    from omegaconf import DictConfig

CATALOGUES = ("source", "mix")
GROUPS = ("proxy", "optim", "tokenizer", "suite", "policy", "cluster")
FREE = ("cluster.environment.", "cluster.slurm.options.", "cluster.slurm.retries.")
"""Where keys are not assay's to name."""


def names(group: str, roots: Iterable[Path]) -> list[str]:
    """The names of a group's files, whichever folder they are in."""
    folder = SWEEPS if group == "sweep" else f"conf/{group}"
    found = {path.stem for root in roots for path in (root / folder).glob("*.yaml")}
    return sorted(found)


def compose(overrides: Sequence[str], *, root: Path | None = None) -> Study:
    """The study that the overrides ask for.

    Args:
        overrides: Hydra overrides, `sweep=NAME` among them.
        root: the project's folder; found from the working directory if left out.

    Raises:
        AssayError: a name or key is unknown (with the nearest valid one), a value has the wrong type, a file is
            not YAML.
    """
    root = (root or project_root()).resolve()
    roots = config_roots(root)
    choices = _check_choices(overrides, roots)
    sweep = [f"+{SWEEPS}={choices['sweep']}"] if "sweep" in choices else []
    rest = [override for override in overrides if not override.startswith("sweep=")]
    config = _compose(
        [*_catalogues(roots, choices.get("sweep")), *sweep, f"paths.root='{_quoted(root)}'", *rest], roots
    )
    plain = _plain(config)
    if SWEEPS in plain:
        raise AssayError(
            f"{SWEEPS}/{choices['sweep']}.yaml does not begin with `# @package _global_`, or is empty.",
            fix="`assay init` writes one to begin from.",
        )
    return Study.parse(plain)


def _check_choices(overrides: Sequence[str], roots: Sequence[Path]) -> dict[str, str]:
    choices: dict[str, str] = {}
    for override in overrides:
        if override.startswith("-") or "=" not in override.lstrip("~+"):
            if override.startswith("~"):
                continue
            raise AssayError(f"{override!r} is not an override.", fix="Write it as `key=value`, such as `sweep=NAME`.")
        key, value = override.split("=", 1)
        if key in ("sweep", *GROUPS):
            known = names(key, roots)
            if value not in known:
                raise AssayError(f"no {key} is called {value!r}. {did_you_mean(value, known)}")
            if key in choices:
                raise AssayError(f"{key} is given twice: {choices[key]} and {value}.")
            choices[key] = value
    return choices


def _catalogues(roots: Sequence[Path], sweep: str | None) -> list[str]:
    """Every source and mix. A project with its own has them alone: by domain or tag it means its own text.

    The packaged ones are the demonstration's, and are there for its sweep and for projects that have none yet.
    """
    own = roots[:1]
    packaged_sweep = sweep is not None and sweep not in names("sweep", own)
    chosen = {group: own if names(group, own) and not packaged_sweep else roots for group in CATALOGUES}
    return [f"+{group}@{group}.{name}={name}" for group in CATALOGUES for name in names(group, chosen[group])]


def _compose(overrides: list[str], roots: Sequence[Path]) -> DictConfig:
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    GlobalHydra.instance().clear()
    try:
        with _found_in(roots), initialize_config_dir(str(packaged() / "conf"), version_base="1.3"):
            return _named(hydra_compose("config", overrides=overrides, return_hydra_config=True))
    except (HydraException, OmegaConfBaseException) as error:
        raise AssayError(_explain(error)) from None
    except YAMLError as error:
        raise AssayError(f"a configuration file is not YAML: {error}") from None


def _named(config: DictConfig) -> DictConfig:
    """The configuration, where what was chosen of a group has its file's name unless it gives itself another."""
    from omegaconf import OmegaConf, open_dict

    chosen = config.hydra.runtime.choices
    with open_dict(config):
        del config["hydra"]
        for group in GROUPS:
            if group in chosen and OmegaConf.is_dict(config.get(group)) and "name" not in config[group]:
                config[group]["name"] = chosen[group]
    return config


@contextlib.contextmanager
def _found_in(roots: Sequence[Path]) -> Iterator[None]:
    """Have Hydra look into these roots, the first one first.

    Each root gives two entries: its `conf/` holds the groups, and the root itself holds `sweeps/`, a group of its own.
    Hydra's own `hydra.searchpath` can only append, and a team's files have to come before the packaged ones.
    """
    from hydra.core.config_search_path import ConfigSearchPath
    from hydra.core.plugins import Plugins
    from hydra.plugins.search_path_plugin import SearchPathPlugin

    class Roots(SearchPathPlugin):
        def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
            for root in reversed(roots):
                for folder in (root, root / "conf"):
                    if folder.is_dir():
                        search_path.prepend("assay", f"file://{folder}")

    plugins = Plugins.instance()
    plugins.register(Roots)
    try:
        yield
    finally:
        plugins.plugin_type_to_subclass_list[SearchPathPlugin].remove(Roots)


def _quoted(path: Path | str) -> str:
    return str(path).replace("\\", "\\\\").replace("'", "\\'")


def _plain(config: DictConfig) -> dict[str, Any]:
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        plain = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        raise AssayError(_explain(error)) from None
    return {str(key): value for key, value in plain.items()}  # type: ignore[union-attr]  # a DictConfig gives a dict


def _explain(error: Exception) -> str:
    """Hydra's message in one screen, with the nearest valid name where a key is unknown."""
    lines = [str(part).strip() for part in (error, error.__cause__) if part is not None]
    text = "\n".join(dict.fromkeys(lines))
    unknown = re.search(r"Key '([^']+)' is not in struct", text)
    place = re.search(r"full_key: (\S+)", text)
    if unknown:
        node = getattr(error.__cause__ or error, "parent_node", None)
        known = [str(key) for key in node] if node is not None else []
        where = place[1] if place else unknown[1]
        if where.startswith(FREE):
            return f"configuration: {where.rpartition('.')[0]} has no {unknown[1]!r} yet: names that you choose take a plus, as in +{where}=VALUE."
        return f"configuration: no key is called {where!r}. {did_you_mean(unknown[1], known)}"
    return f"configuration: {text}"
