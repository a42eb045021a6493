"""Decide on external results without a sweep, and load the history for verdicts on sweeps."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from assay.analysis.external import reading, selection, stored_results
from assay.plan.registration import EXTERNAL

if TYPE_CHECKING:
    import pandas as pd

    from assay.analysis.gate import SweepVerdict
    from assay.config.study import Study
    from assay.store.runs import Store


class ExternalVerdict(NamedTuple):
    """A verdict on external results.

    Attributes:
        verdict: the verdict, in the same form as a verdict on a sweep.
        notes: sentences on the excluded rows.
    """

    verdict: SweepVerdict
    notes: tuple[str, ...]


class LoadedResults(NamedTuple):
    """External results as imported.

    Attributes:
        frame: the rows, in the units of their files.
        notes: sentences of the import on excluded or converted rows.
    """

    frame: pd.DataFrame
    notes: tuple[str, ...]


def load(store: Store, name: str, *, root: Path) -> LoadedResults:
    """Load external results by name, or a long table by path, with the notes of the import.

    Args:
        store: the store of the external results.
        name: name of the results, or path of a long table.
        root: the folder of relative paths.

    Raises:
        AssayError: neither exists, or the file is not a long table.
    """
    path = Path(root, name).expanduser()
    if not (store.imports / name / stored_results.RESULTS).is_file() and path.is_file():
        table = reading.read([path], reading.RunLabels.parse({}, None)).table
        return LoadedResults(table.frame, table.notes)
    return LoadedResults(stored_results.load(store, name), stored_results.origin_of(store.imports / name).notes)


def results(store: Store, name: str, *, root: Path) -> pd.DataFrame:
    """Load the rows of external results, as `load` does."""
    return load(store, name, root=root).frame


def require_history(study: Study, store: Store) -> None:
    """Raise an error for a missing history before training starts.

    Raises:
        AssayError: the study names a history that is neither stored nor a file.
    """
    if study.history is not None and not Path(study.paths.root, study.history).expanduser().is_file():
        stored_results.require(store, study.history)


def history(study: Study, store: Store) -> pd.DataFrame | None:
    """Load each run's last checkpoint from the study's history; None if the study names no history."""
    if study.history is None:
        return None
    last, _ = selection.last_checkpoints(results(store, study.history, root=Path(study.paths.root)))
    return last


def chosen(study: Study, store: Store, *, name: str, baseline: str, candidate: str | None) -> selection.Selected:
    """Select the arms of external results to compare, as `selection.select` does, with the notes of the import."""
    loaded = load(store, name, root=Path.cwd())
    selected = selection.select(loaded.frame, study.policy, baseline=baseline, candidate=candidate)
    return selected._replace(notes=(*loaded.notes, *selected.notes))


def decide(study: Study, store: Store, *, name: str, baseline: str, candidate: str | None) -> ExternalVerdict:
    """Return the gate's verdict on external results.

    Args:
        study: the study, which provides policy and history.
        store: the store of the external results.
        name: name of the results, or path of a long table.
        baseline: the mix to compare with.
        candidate: the only candidate; None for every other mix.

    Raises:
        AssayError: the results are invalid.
    """
    from assay.analysis.gate import gate
    from assay.analysis.seed_stages import gate_external

    selected = chosen(study, store, name=name, baseline=baseline, candidate=candidate)
    decide_on = gate if selected.policy.sequential_seeds is None else gate_external
    verdict = decide_on(
        selected.frame,
        selected.policy,
        baseline=baseline,
        candidates=selected.candidates,
        n_candidates=selected.n_candidates,
        **past(study, store),
    )
    return ExternalVerdict(verdict.with_registration(EXTERNAL), selected.notes)


def past(study: Study, store: Store) -> dict[str, Any]:
    """Return the study's history as keyword arguments of the gate; empty if the study names no history."""
    table = history(study, store)
    return {} if table is None else {"history": table}
