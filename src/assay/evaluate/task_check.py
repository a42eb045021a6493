"""Return the version of the installed lm-eval and its task names, without importing lm-eval."""

from __future__ import annotations

import difflib
import fnmatch
import importlib.metadata
from collections.abc import Iterable
from pathlib import Path

from assay.core.errors import AssayError, ConfigError, NotFound
from assay.evaluate.task_folder import add_task_folder
from assay.evaluate.task_index import TaskCatalog, load_catalog


def harness_version() -> str:
    """Return the name and version of the harness for an `EvaluationSpec`: `lm_eval 0.4.13`."""
    return f"lm_eval {importlib.metadata.version('lm_eval')}"


def check_tasks(names: Iterable[str], *, include_path: Path | None = None) -> None:
    """Raise an error for unknown tasks, and for two names that contain one task.

    Args:
        names: tasks, groups and tags of a suite.
        include_path: folder of the project's own task definitions.

    Raises:
        AssayError: a name is unknown (the message lists similar ones), or a task would be scored twice.
    """
    wanted = list(names)
    catalog = require_tasks(wanted, include_path=include_path)
    owner: dict[str, str] = {}
    for name in wanted:
        for leaf in catalog.leaves(name):
            if leaf in owner:
                raise ConfigError(
                    f"suite: {owner[leaf]!r} and {name!r} both contain {leaf!r}, which would be scored twice.",
                    fix=f"Keep one of {owner[leaf]!r} and {name!r}.",
                )
            owner[leaf] = name


def require_tasks(names: Iterable[str], *, include_path: Path | None = None) -> TaskCatalog:
    """Load the catalog of tasks, and check that the catalog has all given names.

    Args:
        names: tasks, groups and tags.
        include_path: folder of the project's own task definitions, in addition to those of the installed lm-eval.

    Raises:
        AssayError: a name is unknown, or `include_path` cannot be added (see `add_task_folder`).
    """
    wanted = list(names)
    catalog = _catalog(include_path, fresh=False)
    if any(name not in catalog for name in wanted):
        # An edited lm-eval may have additional tasks under the same version. Reading lm-eval again takes two seconds.
        catalog = _catalog(include_path, fresh=True)
    for name in wanted:
        if name not in catalog:
            raise _unknown(name, catalog, include_path)
    if include_path is not None:
        _require_members(catalog, wanted, include_path)
    return catalog


def _require_members(catalog: TaskCatalog, names: Iterable[str], include_path: Path) -> None:
    """Refuse a group of the folder that has an unknown task as a member."""
    for group, file in catalog.groups_of(names).items():
        if file.is_relative_to(include_path.absolute()):
            for member in catalog.members(group):
                if member not in catalog:
                    near = difflib.get_close_matches(member, catalog.names, n=1, cutoff=0.6)
                    raise ConfigError(
                        f"suite.include_path: {file} names the task {member!r}, which does not exist.",
                        fix=f"Write {near[0]!r}, or add the task." if near else "Add the task, or remove its name.",
                    )


def _unknown(name: str, catalog: TaskCatalog, include_path: Path | None) -> AssayError:
    """Describe why a name is not a task: the name is a pattern or a file, or is unknown."""
    if set("*?[") & set(name):
        matches = sorted(task for task in catalog.names if fnmatch.fnmatchcase(task, name))
        listed = ", ".join(matches[:4]) + (", ..." if len(matches) > 4 else "")  # enough to recognize
        group = name.rstrip("*_?") if name.rstrip("*_?") in catalog else None
        return ConfigError(
            f"suite: task {name!r} is a pattern, which matches {len(matches)} names"
            f"{f' ({listed})' if matches else ''}; expected the name of one task, group or tag.",
            fix=f"Use the group {group!r}, or list the tasks." if group else "List the tasks.",
        )
    if name.endswith((".yaml", ".yml")) or "/" in name:
        return ConfigError(
            f"suite: task {name!r} is a path; expected the name of a task, group or tag.",
            fix="Set `include_path` of the suite to the folder of the file, and `task` of the suite's entry to the value of `task` or"
            " `group` in the file.",
        )
    near = difflib.get_close_matches(name, catalog.names, n=4, cutoff=0.6)
    hint = f"Similar names: {', '.join(map(repr, near))}. " if near else ""
    own = "" if include_path else " For a task of your own, set `include_path` of the suite to the folder of its file."
    place = "" if include_path is None else f", and {include_path} defines none"
    return NotFound(
        f"suite: {harness_version()} has no task, group or tag {name!r}{place}.",
        fix=f"{hint}`lm_eval ls tasks` lists all {len(catalog.names)}.{own}",
    )


def _catalog(include_path: Path | None, *, fresh: bool) -> TaskCatalog:
    catalog = load_catalog(fresh=fresh)
    return catalog if include_path is None else add_task_folder(catalog, include_path)
