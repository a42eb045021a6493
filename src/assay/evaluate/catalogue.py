"""The names of lm-eval's tasks, and the files that define them, without importing or parsing all of it.

lm-eval's own index parses its 14,000 YAML files, which takes half a minute. Names, groups and tags stand in
top-level keys, so reading those alone is enough: about two seconds, once for each version of lm-eval.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from assay.errors import AssayError
from assay.files import read_json, write_json

_FORMAT = 1
_KEY = re.compile(r"""^["']?(task|group|tag|class|include)["']?[ \t]*:(.*(?:\n(?:[ \t#-].*)?)*)""", re.MULTILINE)
_PLAIN = re.compile(r"[\w./-]*[A-Za-z_][\w./-]*")


@dataclass(frozen=True, kw_only=True)
class Catalogue:
    """Every task, group and tag of lm-eval."""

    root: Path
    """lm-eval's folder of tasks."""
    tasks: dict[str, str]
    """The file that defines each task, relative to `root`."""
    groups: dict[str, str]
    """The same of each group."""
    tags: dict[str, tuple[str, ...]]
    """The tasks that bear each tag."""

    def __contains__(self, name: str) -> bool:
        return name in self.tasks or name in self.groups or name in self.tags

    @property
    def names(self) -> frozenset[str]:
        """All that lm-eval would accept as a task."""
        return frozenset({*self.tasks, *self.groups, *self.tags})

    def leaves(self, name: str) -> list[str]:
        """The tasks that a name stands for: itself, or what its group or tag holds at any depth."""
        return sorted({leaf for leaf in self._reach([name]) if leaf in self.tasks and leaf not in self.groups})

    def folders(self, names: Iterable[str]) -> list[Path]:
        """The folders that lm-eval has to read to know these tasks and everything they are made of.

        No folder lies inside another, since lm-eval reads folders with what is below them.
        """
        reached = self._reach(names)
        files = {self.groups.get(name) or self.tasks.get(name) for name in reached}
        folders = {(self.root / file).parent for file in files if file}
        return sorted(folder for folder in folders if not folders.intersection(folder.parents))

    def _reach(self, names: Iterable[str]) -> set[str]:
        """The names, and all names that they lead to through groups and tags."""
        pending, reached = list(names), set[str]()
        while pending:
            name = pending.pop()
            if name in reached:
                continue
            reached.add(name)
            if name in self.groups:
                pending.extend(_members(_load(self.root / self.groups[name]).get("task")))
            else:
                pending.extend(self.tags.get(name, ()))
        return reached


def load_catalogue(*, fresh: bool = False, root: Path | None = None) -> Catalogue:
    """The catalogue of the installed lm-eval, from the user's cache if it is there.

    Args:
        fresh: read the files again, for a name that an edited lm-eval may have gained.
        root: the folder of tasks, where it is another than the installed lm-eval's.

    Raises:
        AssayError: lm-eval is not installed.
    """
    root = root or _installed()
    stamp = {"format": _FORMAT, "root": str(root), "version": importlib.metadata.version("lm_eval")}
    cache = user_cache() / f"lm_eval-{stamp['version']}-tasks.json"
    if not fresh and (kept := _read_cache(cache, stamp)) is not None:
        return Catalogue(
            root=root,
            tasks=kept["tasks"],
            groups=kept["groups"],
            tags={tag: tuple(names) for tag, names in kept["tags"].items()},
        )
    catalogue = scan(root)
    try:
        write_json(cache, {**stamp, "tasks": catalogue.tasks, "groups": catalogue.groups, "tags": catalogue.tags})
    except OSError:
        # Only a convenience: a home folder that cannot be written costs two seconds each time.
        return catalogue
    return catalogue


def scan(root: Path) -> Catalogue:
    """Read the names out of a folder of task definitions.

    Where a name is defined twice, the first file by path has it, as in lm-eval.
    """
    found = _Names()
    heads: dict[Path, dict[str, Any]] = {}
    for path in sorted(_yaml_files(root), key=lambda path: path.as_posix()):
        found.add(_head(path, heads, ()), path.relative_to(root).as_posix())
    return Catalogue(
        root=root,
        tasks=found.tasks,
        groups=found.groups,
        tags={tag: tuple(names) for tag, names in found.tags.items()},
    )


def _installed() -> Path:
    # Found without importing it: that takes seconds.
    spec = importlib.util.find_spec("lm_eval")
    if spec is None or not spec.submodule_search_locations:
        raise AssayError("lm-eval is not installed.", fix="Install assay with its dependencies: `pip install assay`.")
    return Path(next(iter(spec.submodule_search_locations))) / "tasks"


@dataclass
class _Names:
    tasks: dict[str, str] = field(default_factory=dict)
    groups: dict[str, str] = field(default_factory=dict)
    tags: dict[str, list[str]] = field(default_factory=dict)

    def add(self, head: dict[str, Any], file: str) -> None:
        """Enter one file's names; files that define nothing (templates to include) are passed over."""
        if "group" in head and "class" not in head:
            self.groups.setdefault(str(head["group"]), file)
            return
        name = head.get("task")
        if not isinstance(name, str) or name in self.tasks:
            return
        self.tasks[name] = file
        tags = head.get("tag") or []
        for tag in tags if isinstance(tags, list) else [tags]:
            self.tags.setdefault(str(tag), []).append(name)


def _yaml_files(root: Path) -> Iterable[Path]:
    for folder, folders, files in os.walk(root):
        folders[:] = [name for name in folders if name not in {"__pycache__", ".ipynb_checkpoints"}]
        yield from (Path(folder, name) for name in files if name.endswith(".yaml"))


def _head(path: Path, heads: dict[Path, dict[str, Any]], above: tuple[Path, ...]) -> dict[str, Any]:
    """The keys of a file that bear names; what it includes comes first and its own keys win, as in lm-eval."""
    path = Path(os.path.normpath(path))
    if path in heads:
        return heads[path]
    try:
        text = path.read_text(encoding="utf-8")
        own = {match[1]: _value(match[2]) for match in _KEY.finditer(text)}
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return {}  # lm-eval passes over files that it cannot read, too
    merged: dict[str, Any] = {}
    includes = own.pop("include", None) or []
    for name in includes if isinstance(includes, list) else [includes]:
        if path not in above:
            merged.update(_head(path.parent / str(name), heads, (*above, path)))
    heads[path] = merged | own
    return heads[path]


def _value(text: str) -> Any:
    """The value of one key; most are a plain word, which needs no parser."""
    plain = text.strip()
    return plain if _PLAIN.fullmatch(plain) else yaml.load(f"key:{text}\n", Loader=_Loader)["key"]  # noqa: S506  # a safe loader that also reads lm-eval's !function as text


def _load(path: Path) -> dict[str, Any]:
    config: Any = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)  # noqa: S506  # as above
    return config if isinstance(config, dict) else {}


def _members(tasks: Any) -> Iterable[str]:
    """The names that a group's `task` list refers to, at any depth."""
    for member in tasks if isinstance(tasks, list) else [tasks]:
        if isinstance(member, str):
            yield member
        elif isinstance(member, dict):
            yield from (str(member[key]) for key in ("group", "task") if isinstance(member.get(key), str))
            if isinstance(member.get("task"), list):
                yield from _members(member["task"])


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]  # the C one where it is built
    """Plain YAML, with lm-eval's `!function` read as text."""


_Loader.add_constructor("!function", lambda loader, node: loader.construct_scalar(node))


def user_cache() -> Path:
    """Where things are kept that can be made again at any time."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "assay"


def _read_cache(path: Path, stamp: dict[str, Any]) -> dict[str, Any] | None:
    """What was kept for this very lm-eval, if anything."""
    try:
        kept: dict[str, Any] = read_json(path)
    except (AssayError, OSError):
        return None
    return kept if {key: kept.get(key) for key in stamp} == stamp else None
