"""Broken configuration files: values of wrong types, cut and binary content, cycles, and links that lead nowhere."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import yaml

VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 3.5, 10**30, float("inf"), float("-inf"), float("nan"), "", " ", "text", "x" * 5000, "../../up",
    "a\nb", "größe \N{PILE OF POO}", "${nowhere}", "${sweep}", "${oc.env:ASSAY_NO_SUCH_VARIABLE}", "${oc.env:", "${unknown:1}", "???",
    "{{x}}", "%s", "<script>", "no", "2013", "007", "1e5", [], [None], [[]], ["a", 1, None], {}, {"": 1}, {"a": {"b": {"c": []}}},
    {"_target_": "os.system"}, [{"name": "a"}, {"name": "a"}],
)  # fmt: skip
"""Values that stand for any value of a file."""


class Mutation(NamedTuple):
    """A broken version of a file.

    Attributes:
        name: what was done, for messages.
        apply: breaks the file in place.
    """

    name: str
    apply: Callable[[Path], None]


def mutations(text: str, *, count: int, seed: int) -> Iterator[Mutation]:
    """Yield broken versions of a YAML file, the same ones for the same seed.

    Args:
        text: content of the file.
        count: number of random changes of values; the changes of the whole file precede them.
        seed: seed of the random changes.
    """
    yield from _WHOLE
    choose = random.Random(seed)
    head = "\n".join(line for line in text.splitlines() if line.startswith("#"))
    for number in range(count):
        kind = choose.choice([_replaced, _replaced, _replaced, _removed, _added, _renamed, _wrapped])
        plain = yaml.safe_load(text)
        name = kind(plain, choose)
        yield Mutation(f"{number}: {name}", _writer(f"{head}\n{_dumped(plain)}".encode("utf-8", "surrogatepass")))
    for number in range(max(2, count // 8)):
        data = bytearray(text.encode())
        for _ in range(choose.randint(1, 4)):
            data[choose.randrange(len(data))] = choose.randrange(256)
        yield Mutation(f"{number}: other bytes", _writer(bytes(data)))


def _dumped(plain: Any) -> str:
    return yaml.safe_dump(plain, sort_keys=False, allow_unicode=True)


def _writer(content: bytes) -> Callable[[Path], None]:
    return lambda path: _write(path, content)


def _write(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def _replace_by(make: Callable[[Path], None]) -> Callable[[Path], None]:
    def apply(path: Path) -> None:
        path.unlink()
        make(path)

    return apply


def _changed(change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    return lambda path: _write(path, change(path.read_bytes()))


_WHOLE = (
    Mutation("missing", Path.unlink),
    Mutation("empty", _writer(b"")),
    Mutation("null", _writer(b"null\n")),
    Mutation("only a comment", _writer(b"# nothing\n")),
    Mutation("a list", _writer(b"- a\n- b\n")),
    Mutation("a number", _writer(b"7\n")),
    Mutation("a cut", _changed(lambda data: data[: len(data) // 2])),
    Mutation("an open bracket", _changed(lambda data: data + b"\nmore: [1, 2\n")),
    Mutation("a repeated key", _changed(lambda data: data + b"\nzz: 1\nzz: 2\n")),
    Mutation("binary", _writer(bytes(range(256)) * 8)),
    Mutation("an image", _writer(b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR")),
    Mutation("gzip", _writer(b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03")),
    Mutation("UTF-16", _changed(lambda data: data.decode().encode("utf-16"))),
    Mutation("a byte-order mark", _changed(lambda data: b"\xef\xbb\xbf" + data)),
    Mutation("Windows line ends", _changed(lambda data: data.replace(b"\n", b"\r\n"))),
    Mutation("tabs", _changed(lambda data: b"\tx: 1\n" + data)),
    Mutation("huge", _writer(b"# " + b"x" * 3_000_000 + b"\n")),
    Mutation("deep", _writer(b"a: " + b"[" * 3000 + b"]" * 3000)),
    Mutation("a cycle of anchors", _writer(b"a: &a {b: *a}\n")),
    Mutation("a cycle of interpolations", _changed(lambda data: data + b"\nname: ${name}\n")),
    Mutation("many documents", _changed(lambda data: data + b"\n---\na: 1\n")),
    Mutation("a Python object", _writer(b"a: !!python/object/apply:os.system [exit]\n")),
    Mutation("a merge conflict", _changed(lambda data: b"<<<<<<< HEAD\n" + data + b"\n=======\n>>>>>>> other\n")),
    Mutation("a link that leads nowhere", _replace_by(lambda path: path.symlink_to("no-such-file"))),
    Mutation("a link to itself", _replace_by(lambda path: path.symlink_to(path.name))),
    Mutation("a link to a device", _replace_by(lambda path: path.symlink_to("/dev/zero"))),
    Mutation("a folder", _replace_by(Path.mkdir)),
    Mutation("a pipe", _replace_by(os.mkfifo)),
)
"""Changes of the whole file."""


def _places(plain: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """List the paths of all values of a document."""
    items = plain.items() if isinstance(plain, dict) else enumerate(plain) if isinstance(plain, list) else ()
    return [place for key, value in items for place in ((*path, key), *_places(value, (*path, key)))]


def _pick(plain: Any, choose: random.Random) -> tuple[Any, Any, str]:
    """Return a container, a key in it, and the path as text."""
    place = choose.choice(_places(plain))
    node = plain
    for key in place[:-1]:
        node = node[key]
    return node, place[-1], ".".join(map(str, place))


def _replaced(plain: Any, choose: random.Random) -> str:
    node, key, name = _pick(plain, choose)
    node[key] = choose.choice(VALUES)
    return f"{name} = {node[key]!r:.60}"


def _removed(plain: Any, choose: random.Random) -> str:
    node, key, name = _pick(plain, choose)
    del node[key]
    return f"without {name}"


def _added(plain: Any, choose: random.Random) -> str:
    node, _, name = _pick(plain, choose)
    if isinstance(node, dict):
        node[choose.choice(["unknown", "", "name", "weights", "base", "defaults", "a.b", "_target_", "sweep"])] = (
            choose.choice(VALUES)
        )
    else:
        node.append(choose.choice(VALUES))
    return f"more next to {name}"


def _renamed(plain: Any, choose: random.Random) -> str:
    node, key, name = _pick(plain, choose)
    if isinstance(node, dict):
        node[choose.choice([f"{key}s", 7, None, True, 1.5, ""])] = node.pop(key)
    return f"{name} renamed"


def _wrapped(plain: Any, choose: random.Random) -> str:
    node, key, name = _pick(plain, choose)
    node[key] = choose.choice([[node[key]], {"value": node[key]}, {key: node[key]}, str(node[key])])
    return f"{name} wrapped"
