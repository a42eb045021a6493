"""Which lm-eval this is, and whether it knows a task: answers that need no import of it."""

from __future__ import annotations

import difflib
import importlib.metadata
from collections.abc import Iterable

from assay.errors import AssayError
from assay.evaluate.catalogue import Catalogue, load_catalogue


def harness_version() -> str:
    """The harness and its version, as an `EvaluationSpec` has it: `lm_eval 0.4.13`."""
    return f"lm_eval {importlib.metadata.version('lm_eval')}"


def check_tasks(names: Iterable[str]) -> None:
    """Refuse tasks that lm-eval does not know, and two names that stand for the same task.

    Args:
        names: tasks, groups and tags as a suite has them.

    Raises:
        AssayError: a name is unknown (the nearest known ones are given), or a task would be scored twice.
    """
    wanted = list(names)
    catalogue = known(wanted)
    owner: dict[str, str] = {}
    for name in wanted:
        for leaf in catalogue.leaves(name):
            if leaf in owner:
                raise AssayError(
                    f"suite: {leaf!r} is in {owner[leaf]!r} and in {name!r}, and would be scored twice.",
                    fix=f"Keep one of {owner[leaf]!r} and {name!r}.",
                )
            owner[leaf] = name


def known(names: Iterable[str]) -> Catalogue:
    """The catalogue of the installed lm-eval, once it has all these names.

    Raises:
        AssayError: it lacks one.
    """
    wanted = list(names)
    catalogue = load_catalogue()
    if any(name not in catalogue for name in wanted):
        # An edited lm-eval may have gained tasks under the same version; two seconds buy certainty.
        catalogue = load_catalogue(fresh=True)
    for name in wanted:
        if name not in catalogue:
            near = difflib.get_close_matches(name, catalogue.names, n=4, cutoff=0.6)
            hint = f"Did you mean {', '.join(map(repr, near))}? " if near else ""
            raise AssayError(
                f"suite: {harness_version()} has no task, group or tag {name!r}.",
                fix=f"{hint}`lm_eval ls tasks` lists all {len(catalogue.names)}.",
            )
    return catalogue
