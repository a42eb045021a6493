"""Shell completion of Hydra overrides: keys from the schema, values from the project's files and from the schema."""

from __future__ import annotations

import contextlib
import dataclasses
import types
from collections.abc import Callable, Iterator
from functools import wraps
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from assay.core.errors import ConfigError, Damaged, NotFound, Refused

PREFIXES = ("++", "+", "~", "")


def _quiet(complete: Callable[[str], list[str]]) -> Callable[[str], list[str]]:
    """Return no completions if the project's files are unreadable, because the shell would print a traceback."""

    @wraps(complete)
    def quiet(incomplete: str) -> list[str]:
        with contextlib.suppress(ConfigError, Damaged, NotFound, Refused, OSError):
            return complete(incomplete)
        return []

    return quiet


@_quiet
def complete_override(incomplete: str) -> list[str]:
    """Complete an override: `swe` to `sweep=`, `sweep=f` to `sweep=first`, `mix.` to the keys of each mix."""
    prefix = next(prefix for prefix in PREFIXES if incomplete.startswith(prefix))
    key, equals, value = incomplete.removeprefix(prefix).partition("=")
    if equals:
        return [f"{prefix}{key}={choice}" for choice in _values(key) if choice.startswith(value)]
    return [f"{prefix}{name}" for name in _keys(key) if name.startswith(key)]


@_quiet
def complete_source_or_override(incomplete: str) -> list[str]:
    """Complete the name of a source, or an override."""
    named = [name for name in _names("source") if name.startswith(incomplete)]
    return [*named, *complete_override(incomplete)]


@_quiet
def complete_mix(incomplete: str) -> list[str]:
    """Complete the name of a mix."""
    return [name for name in _names("mix") if name.startswith(incomplete)]


def _names(group: str) -> list[str]:
    from assay.config.compose import names
    from assay.config.search_path import config_roots, project_root

    roots = config_roots(project_root())
    own = names(group, roots[:1])
    # A project with sources and mixes of its own does not see the packaged ones.
    return own if own and group in ("source", "mix") else names(group, roots)


def _keys(key: str) -> Iterator[str]:
    """Yield the keys at the level of an incomplete key. Sections end with a dot, and other keys with `=`."""
    from assay.config.compose import CATALOGS, GROUPS

    if "." not in key:
        yield from (f"{group}=" for group in ("sweep", *GROUPS))
        yield from (f"{catalog}." for catalog in CATALOGS)
        yield from (f"{name}." for name in _sections() if name not in ("sweep", *GROUPS))
        return
    section, rest = key.split(".", 1)
    path = f"{section}."
    if section in CATALOGS:
        entry = _entry(section, rest)
        if entry is None:
            yield from (f"{path}{name}." for name in _names(section))
            return
        path, rest = f"{path}{entry}.", rest[len(entry) + 1 :]
    kind: Any = _sections(catalogs=True).get(section)
    while "." in rest and kind is not None:
        part, rest = rest.split(".", 1)
        kind, path = _section(_fields(kind).get(part)), f"{path}{part}."
    yield from (f"{path}{name}{'.' if _section(inner) else '='}" for name, inner in _fields(kind).items())


def _entry(catalog: str, rest: str) -> str | None:
    """Return the name of a source or mix at the beginning of a key; a name may contain dots."""
    return max((name for name in _names(catalog) if rest.startswith(f"{name}.")), key=len, default=None)


def _values(key: str) -> list[str]:
    """Return the known possible values of a key."""
    from assay.config.compose import CATALOGS, GROUPS

    if key in ("sweep", *GROUPS):
        return _names(key)
    if key in ("sweep.baseline", "stages.mix"):
        return _names("mix")
    section, _, rest = key.partition(".")
    if section in CATALOGS and (entry := _entry(section, rest)) is not None:
        rest = rest[len(entry) + 1 :]
    kind: Any = _sections(catalogs=True).get(section)
    *parents, last = rest.split(".")
    for part in parents:
        kind = _section(_fields(kind).get(part))
    return list(_choices(_fields(kind).get(last)))


def _sections(*, catalogs: bool = False) -> dict[str, Any]:
    """Return the dataclass of each section of the configuration; of a source and a mix on request."""
    from assay.config.mixes import MixDeclaration
    from assay.config.sources import Source
    from assay.config.study import Study

    sections = {name: kind for name, hint in get_type_hints(Study).items() if (kind := _section(hint)) is not None}
    return {**sections, "source": Source, "mix": MixDeclaration} if catalogs else sections


def _fields(kind: Any) -> dict[str, Any]:
    """Return the type of each field of a dataclass, except `name`, which is the file's name."""
    if kind is None:
        return {}
    hints = get_type_hints(kind)
    return {field.name: hints[field.name] for field in dataclasses.fields(kind) if field.name != "name"}


def _section(hint: Any) -> Any:
    """Return the dataclass of a type or optional type; ``None`` for other types."""
    kinds = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    return next((kind for kind in kinds if dataclasses.is_dataclass(kind)), None)


def _choices(hint: Any) -> Iterator[str]:
    """Yield the values of a type that has few possible values."""
    if hint is bool:
        yield from ("true", "false")
    elif get_origin(hint) is Literal:
        yield from map(str, get_args(hint))
    elif get_origin(hint) in (Union, types.UnionType):
        for kind in get_args(hint):
            yield from ("null",) if kind is type(None) else _choices(kind)
