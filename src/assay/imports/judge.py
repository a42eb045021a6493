"""The verdict on imported results, without a sweep; and the history that a sweep's verdict may rest on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from assay.imports import read, selection, shelf
from assay.registered import FROM_ELSEWHERE

if TYPE_CHECKING:
    import pandas as pd

    from assay.gate import SweepVerdict
    from assay.store import Store
    from assay.study import Study


class Judged(NamedTuple):
    """A verdict on imported results.

    Attributes:
        verdict: as for a sweep.
        notes: what was left out, in sentences.
    """

    verdict: SweepVerdict
    notes: tuple[str, ...]


def results(store: Store, name: str, *, root: Path) -> pd.DataFrame:
    """An import by its name, or a file by its path.

    Args:
        store: where imports are.
        name: of an import; or the path of a long table.
        root: the folder that relative paths begin in.

    Raises:
        AssayError: there is neither, or the file is not a long table.
    """
    path = Path(root, name).expanduser()
    if not (store.imports / name / shelf.RESULTS).is_file() and path.is_file():
        return read.read([path], read.Given.parse({}, None)).table.frame
    return shelf.load(store, name)


def require_history(study: Study, store: Store) -> None:
    """Refuse a history that is not there before anything is trained for a verdict that needs it.

    Raises:
        AssayError: the study names one, and it is neither an import nor a file.
    """
    if study.history is not None and not Path(study.paths.root, study.history).expanduser().is_file():
        shelf.require(store, study.history)


def history(study: Study, store: Store) -> pd.DataFrame | None:
    """The results of the past that the study names, each run's last checkpoint; ``None`` where it names none."""
    if study.history is None:
        return None
    found, _ = selection.last_checkpoints(results(store, study.history, root=Path(study.paths.root)))
    return found


def chosen(study: Study, store: Store, *, name: str, baseline: str, candidate: str | None) -> selection.Selected:
    """The arms of imported results that are judged, as `selection.select` has them."""
    return selection.select(results(store, name, root=Path.cwd()), study.policy, baseline=baseline, candidate=candidate)


def judge(study: Study, store: Store, *, name: str, baseline: str, candidate: str | None) -> Judged:
    """The verdict on imported results.

    Args:
        study: its policy judges, its history is passed on.
        store: where imports are.
        name: of the import, or the path of a long table.
        baseline: the mix to measure against.
        candidate: the only mix to judge; left out, every other one.

    Raises:
        AssayError: the results cannot be judged as they are.
    """
    from assay.gate import gate

    found = chosen(study, store, name=name, baseline=baseline, candidate=candidate)
    verdict = gate(
        found.frame,
        found.policy,
        baseline=baseline,
        candidates=found.candidates,
        **past(study, store),
    )
    return Judged(verdict.under(FROM_ELSEWHERE), found.notes)


def past(study: Study, store: Store) -> dict[str, Any]:
    """The gate's argument `history`, where the study names one."""
    found = history(study, store)
    return {} if found is None else {"history": found}
