"""Parse overrides of the command line with Hydra's grammar, and apply them to plain values.

Hydra's own grammar reads only identifiers in keys, so it cannot reach the source `fineweb-2.1` or the mix `007`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Literal

from assay.config.yaml_file import MAX_DEPTH, NAME_KEYS
from assay.core.errors import ConfigError, did_you_mean, shortened

Action = Literal["set", "add", "force", "delete"]
FREE = (
    ("cluster", "environment"),
    ("cluster", "slurm", "options"),
    ("cluster", "slurm", "retries"),
    ("mix", "*", "weights"),
)
"""Sections with keys that users choose; `*` is any name."""
REPLACED = (("mix", "*", "weights"),)
"""Paths of mappings that a new mapping replaces. New values are merged into all other mappings."""
_PREFIXES: tuple[tuple[str, Action], ...] = (("++", "force"), ("+", "add"), ("~", "delete"))
_MISSING = object()


@dataclass(frozen=True, kw_only=True)
class Override:
    """An override of the command line."""

    text: str
    """The override as written."""
    action: Action
    """`set` changes an existing key, `add` (`+`) adds a key, `force` (`++`) does either, `delete` (`~`) removes a
    key."""
    key: str
    """Dotted key."""
    raw: str | None
    """Text of the value; None if there is none."""

    @property
    def value(self) -> Any:
        """The plain value.

        Raises:
            ConfigError: the text is not exactly one value in Hydra's grammar.
        """
        return _parse_value(self.raw or "", self, names=self.key.rpartition(".")[2] in NAME_KEYS)


def split_override(text: str) -> Override:
    """Split an override into its prefix, key and value.

    Raises:
        ConfigError: the text is not `key=value` with at most one prefix.
    """
    action: Action = "set"
    rest = text
    for prefix, kind in _PREFIXES:
        if text.startswith(prefix):
            action, rest = kind, text.removeprefix(prefix)
            break
    key, equals, raw = rest.partition("=")
    valid = key and not key.startswith(("-", "+", "~", ".")) and not set(key) & set(" /@:,[]{}()'\"$\n\t")
    if not valid or key.endswith(".") or not (equals or action == "delete"):
        raise ConfigError(
            f"override {_short(text)} is invalid; expected `key=value`, such as `sweep=NAME`.",
            fix="Write the override as `key=value`.",
        )
    return Override(text=text, action=action, key=key, raw=raw if equals else None)


def unquoted(raw: str) -> str:
    """Return a name of the command line without quotes around it."""
    return raw[1:-1] if len(raw) > 1 and raw[0] == raw[-1] and raw[0] in "'\"" else raw


def apply(config: dict[str, Any], override: Override) -> tuple[str, ...]:
    """Apply an override to a configuration in place, and return its path.

    Raises:
        ConfigError: the key does not exist (with the nearest valid key), exists already (`+`), or the value is invalid.
    """
    path = split_key(config, override.key)
    value = override.value if override.raw is not None else None
    if override.action == "delete":
        _delete(config, path, value, override)
    else:
        if override.action == "set":
            _require_key(config, path)
        elif override.action == "add":
            _require_new(config, path, value, override)
        parent = _parent(config, path, override)
        old, last = _get(parent, path[-1]), path[-1]
        strict = override.action == "set"
        merged = merge(old, value, path, strict=strict) if isinstance(value, Mapping) else value
        parent[int(last) if isinstance(parent, list) else last] = merged
    return path


def merge(old: Any, new: Any, path: tuple[str, ...] = (), *, strict: bool = False) -> Any:
    """Merge a mapping into an old mapping. Replace values that are not mappings, and mappings in `REPLACED`.

    Args:
        old: the present value.
        new: the new value.
        path: keys that lead to the value.
        strict: whether to refuse new keys, except in the sections of `FREE`.

    Raises:
        ConfigError: a key is new.
    """
    if not isinstance(old, Mapping) or not isinstance(new, Mapping) or matches(path, REPLACED):
        return new
    for key in new:
        if strict and key not in old and not matches(path, FREE):
            raise ConfigError(f"configuration: no key is called {'.'.join((*path, key))!r}. {did_you_mean(key, old)}")
    merged = {key: merge(old[key], value, (*path, key), strict=strict) for key, value in new.items() if key in old}
    return {**old, **new, **merged}


def matches(path: tuple[str, ...], patterns: tuple[tuple[str, ...], ...]) -> bool:
    """Report whether a path is one of the patterns."""
    return any(
        len(path) == len(pattern) and all(part in ("*", key) for part, key in zip(pattern, path, strict=True))
        for pattern in patterns
    )


def split_key(config: Any, key: str) -> tuple[str, ...]:
    """Split a dotted key into single keys. An existing single key may contain dots, such as `fineweb-2.1`.

    The longest existing key takes precedence. Below a section in `FREE`, the rest of the text is one key.
    """
    path: list[str] = []
    node, parts = config, key.split(".")
    while parts:
        length = 1
        if isinstance(node, Mapping):
            length = next((n for n in range(len(parts), 0, -1) if ".".join(parts[:n]) in node), 1)
        if matches(tuple(path), FREE) and not (isinstance(node, Mapping) and ".".join(parts[:length]) in node):
            length = len(parts)
        path.append(".".join(parts[:length]))
        node, parts = _get(node, path[-1]), parts[length:]
    return tuple(path)


def _get(node: Any, key: str) -> Any:
    """Return the value of a key, or `_MISSING`."""
    if isinstance(node, Mapping):
        return node.get(key, _MISSING)
    if isinstance(node, list) and key.isdecimal() and int(key) < len(node):
        return node[int(key)]
    return _MISSING


def _require_key(config: Any, path: tuple[str, ...]) -> None:
    node = config
    for i, key in enumerate(path):
        if (inner := _get(node, key)) is _MISSING:
            where = ".".join(path[: i + 1])
            if node is None:
                parent = path[i - 1] if i else ""
                fix = "Add `sweep=NAME`." if path[:i] == ("sweep",) else f"Set `{'.'.join(path[:i])}` to a mapping."
                raise ConfigError(f"configuration: {where!r} cannot be set, because {parent!r} is null.", fix=fix)
            if matches(path[:i], FREE):
                raise ConfigError(
                    f"configuration: {'.'.join(path[:i])} has no key {key!r}.\nAdd a new key with a plus sign: +{where}=VALUE."
                )
            known = list(node) if isinstance(node, Mapping) else []
            raise ConfigError(f"configuration: no key is called {where!r}. {did_you_mean(key, map(str, known))}")
        node = inner


def _require_new(config: Any, path: tuple[str, ...], value: Any, override: Override) -> None:
    node = config
    for key in path:
        node = _get(node, key)
    if node is not _MISSING and node is not None and not isinstance(value, Mapping | list):
        raise ConfigError(
            f"override {_short(override.text)} is invalid: {override.key!r} exists; `+` adds a new key.",
            fix=f"Remove the plus sign: `{override.text.removeprefix('+')}`.",
        )


def _parent(config: dict[str, Any], path: tuple[str, ...], override: Override) -> Any:
    """Return the mapping or list that holds the last key of a path; missing mappings are created."""
    node: Any = config
    for i, key in enumerate(path[:-1]):
        inner = _get(node, key)
        if inner is _MISSING or inner is None:
            inner = {}
            _hold(node, key, override)[key] = inner
        if not isinstance(inner, Mapping | list):
            raise ConfigError(
                f"override {_short(override.text)} is invalid: {'.'.join(path[: i + 1])!r} is {shortened(repr(inner))}; expected a mapping.",
                fix="Remove the last part of the key.",
            )
        node = inner
    if isinstance(node, list) and _get(node, path[-1]) is _MISSING:
        raise ConfigError(
            f"override {_short(override.text)} is invalid: the list has {len(node)} values and no index {path[-1]!r}.",
            fix="Give the whole list.",
        )
    return node


def _hold(node: Any, key: str, override: Override) -> dict[str, Any]:
    if not isinstance(node, dict):
        raise ConfigError(
            f"override {_short(override.text)} is invalid: a list has no key {key!r}.", fix="Give the whole list."
        )
    return node


def _delete(config: dict[str, Any], path: tuple[str, ...], value: Any, override: Override) -> None:
    _require_key(config, path)
    parent = _parent(config, path, override)
    old = _get(parent, path[-1])
    if override.raw is not None and value != old:
        raise ConfigError(
            f"override {_short(override.text)} is invalid: the current value of {override.key!r} is {shortened(repr(old))}.",
            fix=f"Write `~{override.key}`.",
        )
    del parent[int(path[-1]) if isinstance(parent, list) else path[-1]]


# --- values


def _parse_value(raw: str, override: Override, *, names: bool) -> Any:
    """Parse a value by Hydra's grammar.

    Args:
        raw: text of the value; empty for empty text.
        override: the override, for messages.
        names: whether the value is a name or a list of names, such as `2013`.
    """
    from hydra.core.override_parser.overrides_visitor import HydraErrorListener
    from hydra.errors import HydraException
    from hydra.grammar.gen.OverrideParser import OverrideParser

    if not raw:
        return ""
    listener = HydraErrorListener()
    antlr: Any = import_module("hydra.grammar.gen.OverrideLexer")  # generated code without types
    lexer: Any = antlr.OverrideLexer(antlr.InputStream(f"key={raw}"))
    parser: Any = OverrideParser(antlr.CommonTokenStream(lexer))
    for part in (lexer, parser):
        part.removeErrorListeners()
        part.addErrorListener(listener)
    try:
        return _plain(_visitor().visit(parser.override().value()), override, names=names)
    except (HydraException, AssertionError, ValueError, RecursionError):
        raise _invalid(override) from None


def _visitor() -> Any:
    """Return Hydra's visitor of values, changed so that keys are text as written and are not repeated."""
    from hydra.core.override_parser.overrides_parser import create_functions
    from hydra.core.override_parser.overrides_visitor import HydraOverrideVisitor
    from hydra.core.override_parser.types import Sweep

    class _Visitor(HydraOverrideVisitor):
        in_function = False

        def visitDictKey(self, ctx: Any) -> str:  # noqa: N802  # ANTLR's name
            return str(ctx.getText()).strip()

        def visitDictContainer(self, ctx: Any) -> dict[str, Any]:  # noqa: N802  # as above
            pairs = [self.visitDictKeyValuePair(ctx.getChild(i)) for i in range(1, ctx.getChildCount() - 1, 2)]
            keys = [key for key, _ in pairs]
            if len(set(keys)) < len(keys):
                repeated = next(key for key in keys if keys.count(key) > 1)
                raise ConfigError(f"override: the key {repeated!r} is repeated.", fix="Keep one of the entries.")
            return dict(pairs)

        def visitPrimitive(self, ctx: Any) -> Any:  # noqa: N802  # as above
            value = self._createPrimitive(ctx)
            return value if self.in_function else _Scalar(value=value, text=str(ctx.getText()).strip())

        def visitFunction(self, ctx: Any) -> Any:  # noqa: N802  # as above
            self.in_function = True
            value = super().visitFunction(ctx)
            self.in_function = False
            return value if isinstance(value, Sweep | list | dict) else _Scalar(value=value, text=str(value))

    return _Visitor(create_functions())


@dataclass(frozen=True)
class _Scalar:
    value: Any
    text: str


def _plain(value: Any, override: Override, *, names: bool, depth: int = 0) -> Any:
    """Convert a value of Hydra's parser to plain values."""
    if depth > MAX_DEPTH:
        raise _invalid(override)
    if isinstance(value, dict):
        return {key: _plain(item, override, names=key in NAME_KEYS, depth=depth + 1) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item, override, names=names, depth=depth + 1) for item in value]
    if not isinstance(value, _Scalar):
        raise ConfigError(
            f"override {_short(override.text)} is invalid: the key has several values; expected one value.",
            fix="Put a list into brackets, as in `sweep.seeds=[0,1]`, or text with a comma into quotes.",
        )
    quoted = hasattr(value.value, "quote")
    if quoted:
        return value.value.text
    return value.text if names and isinstance(value.value, int | float) else value.value


def _invalid(override: Override) -> ConfigError:
    return ConfigError(
        f"override {_short(override.text)} is invalid: {_short(override.raw or '')} is no value; expected a number, text, [a, b] or {{a: 1}}.",
        fix="Put text with other characters into quotes: KEY=\"'TEXT'\".",
    )


def _short(text: str) -> str:
    """Return a text in quotes, shortened to fit into a message."""
    return repr(shortened(text))
