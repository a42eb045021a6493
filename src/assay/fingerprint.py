"""Identity: canonical JSON to SHA-256, and what makes two identities differ."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

SHORT = 12
"""Characters of a fingerprint that people read; ambiguity among a million runs has odds below 1 in 500."""


def canonical(value: Any) -> str:
    """One text for one value: sorted keys, no spaces, shortest round-trip floats, 1.0 as 1 (as RFC 8785 has it).

    >>> canonical({"b": 1.0, "a": [0.1, None]})
    '{"a":[0.1,null],"b":1}'

    Raises:
        TypeError: the value, or one inside it, is not plain JSON; a float is NaN or infinite; a key is not text.
    """
    return json.dumps(_plain(value, "$"), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def fingerprint(kind: str, value: Any) -> str:
    """The SHA-256 (64 hexadecimal digits) of a value under the name of its kind.

    The kind is part of what is hashed, so that two types with equal fields never share an identity.
    """
    return hashlib.sha256(f"{kind}\n{canonical(value)}".encode()).hexdigest()


class Difference(NamedTuple):
    """One place where two identities differ.

    Attributes:
        path: where, as ``stages.0.weights.code``.
        left: the value there in the first, or ``None`` where it has none.
        right: the same of the second.
    """

    path: str
    left: Any
    right: Any


def differences(left: Any, right: Any, path: str = "") -> list[Difference]:
    """Every leaf at which two plain values differ, in order of path.

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
    """The value with whole floats as integers; refuses what has no canonical form."""
    if value is None or isinstance(value, (str, int)):  # most of what there is, and asked fastest; a bool is an int
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
