"""Read configuration files as plain values. Names stay text, and every error names the file."""

from __future__ import annotations

import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from assay.core.errors import ConfigError

MAX_BYTES = 2_000_000
"""Maximum size of a file. A mix of 10,000 sources has 0.4 MB; PyYAML reads about 0.1 MB per second."""
MAX_DEPTH = 50
MAX_VALUES = 100_000
"""Maximum number of values after anchors are expanded."""
NAME_KEYS = frozenset(
    [
        "name",
        "baseline",
        "candidates",
        "base",
        "source",
        "sources",
        "by",
        "drop",
        "only",
        "mix",
        "control",
        "extends",
        "repairs",
        "tiers",
        "task",
        "metric",
        "domain",
        "tag",
        "tags",
        "language",
        "detector",
        "without",
        "scale",
        "proxy_scale",
    ]
)
"""Keys whose values are text or lists of text. There, `no`, `2013` and `1e5` are names."""
_NOT_TEXT = {f"tag:yaml.org,2002:{kind}" for kind in ("int", "float", "bool")}
_TEXT = "tag:yaml.org,2002:str"
_MERGE = "tag:yaml.org,2002:merge"


def read_text(path: Path) -> str:
    """Return the text of a configuration file, without a byte-order mark.

    Raises:
        ConfigError: the file is not a regular file, is too large, or is not UTF-8 text.
    """
    try:
        state = path.stat()
        if not stat.S_ISREG(state.st_mode):
            raise ConfigError(f"{path} is no regular file.", fix="Replace it by a YAML file.")
        if state.st_size > MAX_BYTES:
            raise ConfigError(
                f"{path}: a file of {state.st_size:,} bytes is too large; expected at most {MAX_BYTES:,} bytes.",
                fix="Split the file, or remove content that is not configuration.",
            )
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        what = "is a link that leads nowhere" if path.is_symlink() else f"cannot be read: {error.strerror}"
        raise ConfigError(f"{path} {what}.", fix="Restore the file, or remove it.") from None
    except UnicodeDecodeError:
        raise ConfigError(
            f"{path} cannot be read, because it is not UTF-8 text.", fix="Save the file as UTF-8 text."
        ) from None


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a configuration file as a mapping of plain values; an empty file is an empty mapping.

    Keys are text as written: `no`, `007` and `null` name a source. Values of `NAME_KEYS` are text, except for `null`.

    Raises:
        ConfigError: the file cannot be read, is not YAML, repeats a key, is not a mapping, or is nested too deeply.
    """
    return parse_yaml(read_text(path), path)


def parse_yaml(text: str, path: Path) -> dict[str, Any]:
    """Parse the text of a configuration file; see `read_yaml`."""
    loader = None
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None:
            return {}
        _Walk(path).check(node)
        value = loader.construct_document(node)
    except (yaml.YAMLError, ValueError) as error:  # a ValueError: a number of more than 4,300 digits
        raise ConfigError(
            f"{path} cannot be read, because it is not YAML: {_one_line(error)}", fix="Correct the file."
        ) from None
    except RecursionError:
        raise _too_deep(path) from None
    finally:
        if loader is not None:
            loader.dispose()
    if not isinstance(value, dict):
        raise ConfigError(
            f"{path} has no keys: a {type(value).__name__} is invalid; expected a mapping.",
            fix="Write `key: value` in each line.",
        )
    _check_types(value, path)
    return value


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader with the number syntax of YAML 1.2: no octal `010`, and no base-60 `16:00`."""

    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """Compose a node. Raise an error early if the document is nested too deeply."""
        self.depth += 1
        if self.depth > MAX_DEPTH + 1:
            raise RecursionError
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


_Loader.yaml_implicit_resolvers = {
    first: [
        (tag, pattern)
        for tag, pattern in resolvers
        if tag not in {"tag:yaml.org,2002:timestamp", "tag:yaml.org,2002:int", "tag:yaml.org,2002:float"}
    ]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:int",
    re.compile(r"[-+]?(?:0b[01_]+|0x[0-9a-fA-F_]+|0|[1-9][0-9_]*)\Z"),
    list("-+0123456789"),
)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(
        r"[-+]?(?:(?:0|[1-9][0-9_]*)\.[0-9_]*(?:[eE][-+]?[0-9]+)?|(?:0|[1-9][0-9_]*)[eE][-+]?[0-9]+"
        r"|\.[0-9][0-9_]*(?:[eE][-+]?[0-9]+)?|\.(?:inf|Inf|INF))\Z|\.(?:nan|NaN|NAN)\Z"
    ),
    list("-+0123456789."),
)


class _Walk:
    """A pass over the nodes of a document, which converts names to text and refuses invalid nodes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._sizes: dict[int, int] = {}
        self._open: set[int] = set()

    def check(self, node: yaml.Node, *, depth: int = 0, names: bool = False, inherited: bool = False) -> int:
        """Check a node and return the number of its values, with anchors expanded.

        Args:
            node: the node.
            depth: number of nodes above it.
            names: whether its text, or each text of its list, is a name.
            inherited: whether `names` also applies to the mappings in the node.
        """
        if names and isinstance(node, yaml.ScalarNode) and node.tag in _NOT_TEXT:
            node.tag = _TEXT
        if id(node) in self._open:
            raise ConfigError(f"{self._path}, line {_line(node)}: an anchor contains itself.", fix="Remove the alias.")
        if depth > MAX_DEPTH:
            raise _too_deep(self._path)
        if id(node) not in self._sizes:
            self._open.add(id(node))
            self._sizes[id(node)] = 1 + sum(self._children(node, depth + 1, names=names, inherited=inherited))
            self._open.discard(id(node))
        if self._sizes[id(node)] > MAX_VALUES:
            raise ConfigError(
                f"{self._path}: the file has too many values; expected at most {MAX_VALUES:,}.", fix="Split the file."
            )
        return self._sizes[id(node)]

    def _children(self, node: yaml.Node, depth: int, *, names: bool, inherited: bool) -> Iterator[int]:
        if isinstance(node, yaml.SequenceNode):
            for child in node.value:
                yield self.check(child, depth=depth, names=names, inherited=inherited)
        elif isinstance(node, yaml.MappingNode):
            seen: set[str] = set()
            for key, value in node.value:
                text = self._key(key)
                if text in seen and key.tag != _MERGE:
                    raise ConfigError(
                        f"{self._path}, line {_line(key)}: the key {text!r} is repeated.", fix="Keep one entry."
                    )
                seen.add(text)
                # `defaults` selects files by name: `- override /policy: 2013`.
                below = inherited or text == "defaults"
                yield self.check(value, depth=depth, names=below or text in NAME_KEYS, inherited=below)

    def _key(self, key: yaml.Node) -> str:
        if not isinstance(key, yaml.ScalarNode):
            raise ConfigError(f"{self._path}, line {_line(key)}: a key is not text.", fix="Write `key: value`.")
        if key.tag != _MERGE:
            key.tag = _TEXT
        return str(key.value)


def _check_types(value: Any, path: Path) -> None:
    """Refuse values that only YAML's tags make, such as `!!binary` and `!!set`."""
    if isinstance(value, dict):
        for item in value.values():
            _check_types(item, path)
    elif isinstance(value, list):
        for item in value:
            _check_types(item, path)
    elif not isinstance(value, str | int | float | bool | None):
        raise ConfigError(
            f"{path}: a value of type {type(value).__name__} is invalid; expected text, a number, true, false, null, a list"
            " or a mapping.",
            fix="Remove the tag, which begins with `!`.",
        )


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1


def _one_line(error: Exception) -> str:
    """Return a parser's message on one line, without the excerpt of the file."""
    problem, mark = getattr(error, "problem", None), getattr(error, "problem_mark", None)
    if problem is None or mark is None:
        return " ".join(str(error).split())
    return f"line {mark.line + 1}, column {mark.column + 1}: {problem}."


def _too_deep(path: Path) -> ConfigError:
    return ConfigError(f"{path} is nested too deeply; expected at most {MAX_DEPTH} levels.", fix="Reduce the nesting.")
