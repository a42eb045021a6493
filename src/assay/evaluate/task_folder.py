"""A team's own lm-eval tasks: the folder that `suite.include_path` names, and the files that its definitions read.

Files outside of the folder are part of it, too: included definitions, modules of functions, and data files. A submission
copies all of them, in their places relative to the project root, so that later edits change no submitted evaluation::

    <store>/tasks/<digest>/    the project root of the frozen files
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import yaml

from assay.core.errors import ConfigError, Damaged
from assay.core.files import exclusive, replacing
from assay.evaluate.mirror import sha256_of
from assay.evaluate.task_data import read_definition, references, task_data
from assay.evaluate.task_index import TaskCatalog, parse_yaml, scan

IGNORED = frozenset({"__pycache__", ".ipynb_checkpoints", ".git", ".DS_Store"})
"""Names of files and folders that are not part of a task. Importing a `!function` creates `__pycache__`."""


class TaskFolder(NamedTuple):
    """The location of a project's own task definitions.

    Attributes:
        path: the folder, absolute.
        root: folder from which relative data files start, absolute: the project root, or its frozen copy.
    """

    path: Path
    root: Path


def digest_task_folder(folder: Path, *, root: Path | None = None) -> str:
    """Digest the names and bytes of task definitions and of all files that these definitions read.

    Args:
        folder: the folder.
        root: folder from which relative data files start (default: the folder's parent).

    Raises:
        ConfigError: there is no such folder, or a file cannot be read.
    """
    folder, root = folder.absolute(), (root or folder.parent).absolute()
    digests = [[path.relative_to(folder).as_posix(), _digest(path)] for path in _files(folder)]
    inside = hashlib.sha256(json.dumps(digests).encode()).hexdigest()
    # A place outside the folder is no part of the identity, only the name and the content.
    outside = sorted([place.name, _digest(file)] for place, file in _outside(folder, root).items())
    return hashlib.sha256(json.dumps([inside, outside]).encode()).hexdigest() if outside else inside


def freeze_task_folder(tasks: TaskFolder, target: Path) -> None:
    """Copy a folder of task definitions and the files that these read, unless the copy exists.

    Files outside of the project root keep their place; a change of them is refused when they are read.

    Args:
        tasks: the folder and its project root.
        target: folder of the copy, which becomes the project root of the frozen tasks.

    Raises:
        ConfigError: a file cannot be read.
    """
    with exclusive(target.with_name(f".{target.name}.lock"), wait=True):
        if target.is_dir():
            return
        with replacing(target) as copy:
            copy.mkdir()
            for path in _files(tasks.path):
                _copy(path, copy / _place(tasks) / path.relative_to(tasks.path))
            for place, file in _outside(tasks.path, tasks.root).items():
                if (below := _below(place, tasks.root)) is not None:
                    _copy(file, copy / below)


def frozen_task_folder(tasks: TaskFolder, frozen: Path) -> TaskFolder:
    """Return the frozen copy of a folder of task definitions; the original folder if no copy exists."""
    return TaskFolder(frozen / _place(tasks), frozen) if frozen.is_dir() else tasks


def _place(tasks: TaskFolder) -> Path:
    """Return a folder's path relative to the project root; a fixed name for a folder outside of the root."""
    return _below(tasks.path, tasks.root) or Path(".include_path")


def _below(path: Path, root: Path) -> Path | None:
    """Return a path relative to a folder, with or without resolving symbolic links; ``None`` if it is elsewhere."""
    for inner, outer in ((path, root), (path.resolve(), root.resolve())):
        if inner.is_relative_to(outer):
            return inner.relative_to(outer)
    return None


def _copy(path: Path, target: Path) -> None:
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, target)


def _outside(folder: Path, root: Path) -> dict[Path, Path]:
    """Return the files outside of a folder that its definitions use, without lm-eval's own files.

    Returns:
        Each file, by the place that the definition refers to.
    """
    places: dict[Path, Path] = {}
    for definition in (path for path in _files(folder) if path.suffix == ".yaml"):
        try:
            places |= {Path(os.path.normpath(place)): file for place, file in references(definition)}
            places |= {Path(os.path.normpath(file)): file.resolve() for file in task_data([definition], root).files}
        except Damaged:
            continue  # `add_task_folder` refuses it
    own = folder.resolve()
    return {
        place: file
        for place, file in sorted(places.items())
        if not file.is_relative_to(own)
        and not (place.is_relative_to(folder) and place.exists())
        and "lm_eval" not in file.parts
    }


def _digest(path: Path) -> str:
    try:
        return sha256_of(path)
    except OSError as error:
        raise ConfigError(
            f"suite.include_path: {path} cannot be read: {error.strerror}.", fix="Restore the file, or remove it."
        ) from error


def add_task_folder(catalog: TaskCatalog, folder: Path) -> TaskCatalog:
    """Add the tasks, groups and tags that a folder defines to a catalog.

    Raises:
        ConfigError: there is no such folder, it defines no task, a file is not valid YAML or includes a missing one, or
            a name is defined twice, in the folder or by the catalog.
    """
    folder = folder.absolute()
    files = _files(folder)
    for path in files:
        if path.suffix == ".yaml":
            _require_yaml(path)
    own = scan(folder)
    if not own.names:
        other = next((path for path in files if path.suffix == ".yml"), None)
        raise ConfigError(
            f"suite.include_path: the folder {folder} defines no task.",
            fix=f"Rename {other.name} to {other.stem}.yaml: lm-eval reads no other names."
            if other
            else "Add a file NAME.yaml with the key `task`, or set include_path to the folder that has one.",
        )
    for name, file in own.repeated.items():
        first = folder / _definitions(own)[name]
        raise ConfigError(
            f"suite.include_path: {first} and {folder / file} both define {name!r}.", fix="Rename one of them."
        )
    for name, file in _definitions(own).items():
        if name in catalog:
            other = catalog.root / _definitions(catalog)[name]
            raise ConfigError(
                f"suite.include_path: {folder / file} defines {name!r}, which {other} also defines.",
                fix="Rename the task, group or tag in your file.",
            )
    return replace(
        catalog,
        tasks=catalog.tasks | _absolute(own.tasks, folder),
        groups=catalog.groups | _absolute(own.groups, folder),
        tags=catalog.tags | own.tags,
    )


def _files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise ConfigError(
            f"suite.include_path: {folder} is a file; expected a folder."
            if folder.exists()
            else f"suite.include_path: the folder {folder} does not exist.",
            fix="Set include_path to a folder of lm-eval tasks, relative to the project root, or to null.",
        )
    files: list[Path] = []
    for parent, folders, names in os.walk(folder, onerror=_refuse_unreadable):
        folders[:] = [name for name in folders if name not in IGNORED]
        paths = [Path(parent, name) for name in names if name not in IGNORED]
        files += [path for path in paths if path.is_file() or not path.exists()]  # no pipe, but a dangling link
    return sorted(files, key=lambda path: path.relative_to(folder).as_posix())


def _refuse_unreadable(error: OSError) -> None:
    raise ConfigError(
        f"suite.include_path: {error.filename} cannot be read: {error.strerror}.",
        fix="Grant read permission on the path.",
    ) from error


def _require_yaml(path: Path) -> None:
    # lm-eval skips a file that it cannot parse, and would then report the file's task as unknown.
    try:
        parse_yaml(path)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"suite.include_path: {path} is not valid YAML: {reason}", fix="Correct the file.") from error
    try:
        read_definition(path)
    except Damaged as error:
        raise ConfigError(f"suite.include_path: {error.what}", fix=error.fix) from error


def _definitions(catalog: TaskCatalog) -> dict[str, str]:
    """Return the file that defines each name; for a tag, the file of its first task."""
    tags = {tag: catalog.tasks[names[0]] for tag, names in catalog.tags.items()}
    return tags | catalog.tasks | catalog.groups


def _absolute(files: Mapping[str, str], folder: Path) -> dict[str, str]:
    return {name: str(folder / file) for name, file in files.items()}
