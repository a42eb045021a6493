"""Index the names of lm-eval's tasks and the files that define them.

lm-eval's own index parses 14,000 YAML files, which takes half a minute. This module reads only the top-level keys with
names, groups and tags, and does not import lm-eval. This takes about two seconds, once for each version of lm-eval.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from assay.core.errors import Damaged, NotFound
from assay.core.files import read_json, write_json

_FORMAT = 1
_KEY = re.compile(r"""^["']?(task|group|tag|class|include)["']?[ \t]*:(.*(?:\n(?:[ \t#-].*)?)*)""", re.MULTILINE)
_PLAIN = re.compile(r"[\w./-]*[A-Za-z_][\w./-]*")


@dataclass(frozen=True, kw_only=True)
class TaskCatalog:
    """Every task, group and tag of lm-eval."""

    root: Path
    """lm-eval's folder of tasks."""
    tasks: dict[str, str]
    """The file that defines each task, as a path relative to `root` or an absolute path."""
    groups: dict[str, str]
    """The file that defines each group, in the form of `tasks`."""
    tags: dict[str, tuple[str, ...]]
    """The tasks with each tag."""
    repeated: dict[str, str] = field(default_factory=dict)
    """Files with a second definition of a task or group, which lm-eval ignores. Empty if read from the cache."""

    def __contains__(self, name: str) -> bool:
        return name in self.tasks or name in self.groups or name in self.tags

    @property
    def names(self) -> frozenset[str]:
        """All names that lm-eval accepts as a task."""
        return frozenset({*self.tasks, *self.groups, *self.tags})

    def leaves(self, name: str) -> list[str]:
        """Resolve a name to its task, or to all members of its group or tag at any depth."""
        return sorted({leaf for leaf in self._reach([name]) if leaf in self.tasks and leaf not in self.groups})

    def folders(self, names: Iterable[str]) -> list[Path]:
        """List the folders that define the named tasks and all their members.

        No folder is inside another, because lm-eval reads folders recursively.
        """
        folders = {file.parent for file in self.files(names)}
        return sorted(folder for folder in folders if not folders.intersection(folder.parents))

    def files(self, names: Iterable[str]) -> list[Path]:
        """List the files that define these tasks, groups, and all their members."""
        reached = self._reach(names)
        files = {self.groups.get(name) or self.tasks.get(name) for name in reached}
        return sorted(self.root / file for file in files if file)

    def groups_of(self, names: Iterable[str]) -> dict[str, Path]:
        """Return the groups that these names are or contain, with the files that define them."""
        return {name: self.root / self.groups[name] for name in self._reach(names) if name in self.groups}

    def members(self, group: str) -> list[str]:
        """List the names that a group's `task` list consists of, without tasks and groups that it defines itself."""
        tasks = parse_yaml(self.root / self.groups[group]).get("task")
        return [name for name in (tasks if isinstance(tasks, list) else [tasks]) if isinstance(name, str)]

    def _reach(self, names: Iterable[str]) -> set[str]:
        """Add all names that the given names refer to through groups and tags."""
        pending, reached = list(names), set[str]()
        while pending:
            name = pending.pop()
            if name in reached:
                continue
            reached.add(name)
            if name in self.groups:
                pending.extend(_members(parse_yaml(self.root / self.groups[name]).get("task")))
            else:
                pending.extend(self.tags.get(name, ()))
        return reached


def load_catalog(*, fresh: bool = False, root: Path | None = None) -> TaskCatalog:
    """Load the catalog of the installed lm-eval, from the user's cache if possible.

    Args:
        fresh: whether to ignore the cache, because an edited lm-eval may have further names.
        root: the folder of tasks (default: that of the installed lm-eval).

    Raises:
        AssayError: lm-eval is not installed.
    """
    root = root or _installed()
    stamp = {"format": _FORMAT, "root": str(root), "version": importlib.metadata.version("lm_eval")}
    folder = hashlib.sha256(str(root).encode()).hexdigest()[:8]  # each environment of the machine has its own file
    cache = user_cache() / f"lm_eval-{stamp['version']}-{folder}-tasks.json"
    if not fresh and (kept := _read_cache(cache, stamp)) is not None:
        return TaskCatalog(
            root=root,
            tasks=kept["tasks"],
            groups=kept["groups"],
            tags={tag: tuple(names) for tag, names in kept["tags"].items()},
        )
    catalog = scan(root)
    try:
        write_json(cache, {**stamp, "tasks": catalog.tasks, "groups": catalog.groups, "tags": catalog.tags})
    except OSError:
        # Without a writable cache, each call takes two seconds.
        return catalog
    return catalog


def scan(root: Path) -> TaskCatalog:
    """Read the names of all task definitions in a folder.

    If two files define a name, the first file by path counts, as in lm-eval.
    """
    names = _Names()
    heads: dict[Path, dict[str, Any]] = {}
    for path in sorted(_yaml_files(root), key=lambda path: path.as_posix()):
        names.add(_head(path, heads, ()), path.relative_to(root).as_posix())
    return TaskCatalog(
        root=root,
        tasks=names.tasks,
        groups=names.groups,
        tags={tag: tuple(members) for tag, members in names.tags.items()},
        repeated=names.repeated,
    )


def _installed() -> Path:
    # Importing lm-eval takes seconds, so the function does not import it.
    spec = importlib.util.find_spec("lm_eval")
    if spec is None or not spec.submodule_search_locations:
        raise NotFound("lm-eval is not installed.", fix="Install assay with its dependencies: `pip install assay`.")
    return Path(next(iter(spec.submodule_search_locations))) / "tasks"


@dataclass
class _Names:
    tasks: dict[str, str] = field(default_factory=dict)
    groups: dict[str, str] = field(default_factory=dict)
    tags: dict[str, list[str]] = field(default_factory=dict)
    repeated: dict[str, str] = field(default_factory=dict)

    def add(self, head: dict[str, Any], file: str) -> None:
        """Add the names that a file defines. A template that other files include defines none."""
        if "group" in head and "class" not in head:
            group = str(head["group"])
            if self.groups.setdefault(group, file) != file:
                self.repeated[group] = file
            return
        name = head.get("task")
        if not isinstance(name, str):
            return
        if name in self.tasks:
            self.repeated[name] = file
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
    """Read the keys of a file that contain names. The file's keys override included keys, as in lm-eval."""
    path = Path(os.path.normpath(path))
    if path in heads:
        return heads[path]
    try:
        text = path.read_text(encoding="utf-8")
        own = {match[1]: _value(match[2]) for match in _KEY.finditer(text)}
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return {}  # lm-eval skips unreadable files, too
    merged: dict[str, Any] = {}
    includes = own.pop("include", None) or []
    for name in includes if isinstance(includes, list) else [includes]:
        if path not in above:
            merged.update(_head(path.parent / str(name), heads, (*above, path)))
    heads[path] = merged | own
    return heads[path]


def _value(text: str) -> Any:
    """Parse the value of a key. Most values are a plain word, which needs no parser."""
    plain = text.strip()
    return plain if _PLAIN.fullmatch(plain) else yaml.load(f"key:{text}\n", Loader=_Loader)["key"]  # noqa: S506  # a safe loader that also reads lm-eval's !function as text


def parse_yaml(path: Path) -> dict[str, Any]:
    """Parse a task definition, without resolving its functions and included files."""
    config: Any = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)  # noqa: S506  # as above
    return config if isinstance(config, dict) else {}


def _members(tasks: Any) -> Iterable[str]:
    """List the names in a group's `task` list, at any depth."""
    for member in tasks if isinstance(tasks, list) else [tasks]:
        if isinstance(member, str):
            yield member
        elif isinstance(member, dict):
            yield from (str(member[key]) for key in ("group", "task") if isinstance(member.get(key), str))
            if isinstance(member.get("task"), list):
                yield from _members(member["task"])


class FunctionName(str):
    """The name of a Python function in a task definition: `!function utils.prompt`."""

    __slots__ = ()


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]  # the C loader if it is built
    """Plain YAML, with lm-eval's `!function` read as text."""


_Loader.add_constructor("!function", lambda loader, node: FunctionName(loader.construct_scalar(node)))


def user_cache() -> Path:
    """Return the folder of assay's caches in the user's account."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "assay"


def _read_cache(path: Path, stamp: dict[str, Any]) -> dict[str, Any] | None:
    """Read the cached catalog of this installation of lm-eval, if it exists."""
    try:
        kept: dict[str, Any] = read_json(path)
    except (Damaged, OSError):
        return None
    return kept if {key: kept.get(key) for key in stamp} == stamp else None
