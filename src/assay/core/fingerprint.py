"""Identify values by the SHA-256 of canonical JSON, and list differences of identities."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

SHORT = 12
"""Characters of a fingerprint in messages and tables. A million runs collide with a probability below 1/500."""


def canonical(value: Any) -> str:
    """Serialize a value to its unique canonical JSON text.

    The text has sorted keys, no spaces, the shortest floats that parse to the same value, and 1.0 as 1, as in RFC 8785.

    >>> canonical({"b": 1.0, "a": [0.1, None]})
    '{"a":[0.1,null],"b":1}'

    Raises:
        TypeError: the value or a part of it is not plain JSON; a float is NaN or infinite; or a key is not text.
    """
    return json.dumps(_plain(value, "$"), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def fingerprint(kind: str, value: Any) -> str:
    """Return the SHA-256 (64 hexadecimal digits) of a value and the name of its kind.

    The hash includes the kind, so that two types with equal fields never have the same identity.
    """
    return hashlib.sha256(f"{kind}\n{canonical(value)}".encode()).hexdigest()


class Difference(NamedTuple):
    """A difference between two identities at one path.

    Attributes:
        path: location, such as ``stages.0.weights.code``.
        left: the value in the first identity; None if the first identity has no value.
        right: the value in the second identity; None if the second identity has no value.
    """

    path: str
    left: Any
    right: Any


def differences(left: Any, right: Any, path: str = "") -> list[Difference]:
    """List all leaves at which two plain values differ, in order of path.

    >>> differences({"seed": 0, "mix": {"web": 1.0}}, {"seed": 1, "mix": {"web": 1.0}})
    [Difference(path='seed', left=0, right=1)]
    """
    if isinstance(left, Mapping) and isinstance(right, Mapping):
        keys = sorted({*left, *right})
        return [d for key in keys for d in differences(left.get(key), right.get(key), _join(path, key))]
    if _is_list(left) and _is_list(right):
        pairs = range(max(len(left), len(right)))
        return [d for i in pairs for d in differences(_at(left, i), _at(right, i), _join(path, str(i)))]
    same = left == right and isinstance(left, bool) == isinstance(right, bool)
    return [] if same else [Difference(path, left, right)]


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


def _at(values: Sequence[Any], index: int) -> Any:
    return values[index] if index < len(values) else None


def _plain(value: Any, path: str) -> Any:
    """Return the value with whole floats as integers.

    Raises:
        TypeError: the value has no canonical form.
    """
    if value is None or isinstance(value, (str, int)):  # the most frequent types first; a bool is an int
        return value
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                msg = f"{path}: the key {key!r} is a {type(key).__name__}; identity takes text keys only"
                raise TypeError(msg)
        return {key: _plain(inner, f"{path}.{key}") for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner, f"{path}[{i}]") for i, inner in enumerate(value)]
    if isinstance(value, float):
        if not math.isfinite(value):
            msg = f"{path} is {value}; identity takes finite numbers only"
            raise TypeError(msg)
        return int(value) if value.is_integer() else value
    msg = f"{path} is a {type(value).__name__}, which has no canonical form"
    raise TypeError(msg)
