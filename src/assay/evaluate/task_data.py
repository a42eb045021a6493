"""The files behind task definitions: included definitions, Python functions and data sets, without importing lm-eval."""

from __future__ import annotations

import glob
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from assay.core.errors import Damaged
from assay.evaluate.task_index import FunctionName, parse_yaml

FILE_LOADERS = frozenset({"arrow", "csv", "json", "pandas", "parquet", "text", "xml"})
"""Values of `dataset_path` with which `datasets` reads local files."""


class TaskData(NamedTuple):
    """The data that the definitions of tasks read.

    Attributes:
        repositories: names of data sets on the hub, and addresses of remote files.
        files: local data files, as absolute paths.
        known: whether the definitions name all data. A task that is defined in Python may read any data set.
    """

    repositories: frozenset[str]
    files: tuple[Path, ...]
    known: bool


def task_data(definitions: Iterable[Path], root: Path) -> TaskData:
    """Return the data sets and files that the definitions of tasks and groups name.

    Args:
        definitions: YAML files of tasks and groups.
        root: folder from which relative data files start.

    Raises:
        Damaged: a definition cannot be read.
    """
    repositories: set[str] = set()
    files: set[Path] = set()
    known = True
    for definition in definitions:
        for config in _configs(read_definition(definition)):
            path = config.get("dataset_path")
            if "class" in config or config.get("custom_dataset") is not None or not isinstance(path, str):
                known = False
                continue
            options = config.get("dataset_kwargs") or {}
            local = list(_local_files(path, options, root))
            files.update(local)
            repositories.update(name for name in _strings(options.get("data_files")) if "://" in name)
            if not local and path not in FILE_LOADERS:
                repositories.add(path)
    return TaskData(frozenset(repositories), tuple(sorted(files)), known)


def read_definition(path: Path) -> dict[str, Any]:
    """Read a task definition with all files that it includes, as lm-eval merges them.

    Raises:
        Damaged: a file is missing, is not valid YAML, or includes itself.
    """
    merged: dict[str, Any] = {}
    for part in reversed(list(_with_includes(path))):
        merged |= part[1]
    return merged


def references(path: Path) -> Iterator[tuple[Path, Path]]:
    """Yield the files that a definition includes or whose functions it names, at any depth.

    Yields:
        The path as the definition writes it, and the file. lm-eval resolves relative paths from the folder of the
        definition. For a symbolic link, this is the folder of the link's target.
    """
    for place, config in _with_includes(path):
        if place != path:
            yield place, place.resolve()
        for name in _functions(config):
            module = Path(*name.split(".")[:-1]).with_suffix(".py") if "." in name else None
            if module is not None and (file := place.resolve().parent / module).is_file():
                yield place.parent / module, file.resolve()


def _with_includes(path: Path, above: tuple[Path, ...] = ()) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Yield a definition, then its included definitions. Earlier definitions take precedence."""
    try:
        config = dict(parse_yaml(path))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise Damaged(
            f"task definition {path}: {reason}.", fix="Correct the file, or the `include` that names the file."
        ) from error
    includes = config.pop("include", None) or []
    yield path, config
    for name in reversed(includes if isinstance(includes, list) else [includes]):
        included = path.resolve().parent / str(name)
        if included.resolve() in above or included.resolve() == path.resolve():
            raise Damaged(
                f"task definition {path}: the file includes itself through {name}.", fix="Remove the `include`."
            )
        yield from _with_includes(included, (*above, path.resolve()))


def _functions(value: Any) -> Iterator[FunctionName]:
    if isinstance(value, FunctionName):
        yield value
    elif isinstance(value, (list, dict)):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _functions(part)


def _configs(config: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield the configurations of tasks in a definition; members of a group override those of tasks."""
    if "group" not in config or "class" in config:
        yield config
        return
    pending = [config.get("task")]
    while pending:
        member = pending.pop()
        if isinstance(member, list):
            pending += member
        elif isinstance(member, dict):
            pending.append(member.get("task") if isinstance(member.get("task"), list) else None)
            if {"dataset_path", "dataset_kwargs", "custom_dataset"} & member.keys():
                yield member


def _local_files(dataset_path: str, options: Mapping[str, Any], root: Path) -> Iterator[Path]:
    """Yield the local files that `datasets.load_dataset` reads."""
    if dataset_path not in FILE_LOADERS:
        folder = root / dataset_path
        if folder.exists():
            yield from _below(folder)
        return
    folder = root / str(options.get("data_dir") or "")
    for pattern in _strings(options.get("data_files")):
        if "://" not in pattern:
            exact = folder / pattern
            matches = [exact]
            if not exact.exists():
                matches = [Path(name) for name in glob.glob(str(exact), recursive=True)]  # noqa: PTH207  # may be absolute
            yield from (match.absolute() for match in sorted(matches) if match.is_file())
    if options.get("data_dir") and not options.get("data_files"):
        yield from _below(folder)


def _below(path: Path) -> Iterator[Path]:
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    yield from (file.absolute() for file in files if file.is_file() and not file.name.startswith("."))


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, (list, dict)):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _strings(part)
