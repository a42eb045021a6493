"""Looks at imported results: a table with several tokens for a run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from assay.errors import AssayError, did_you_mean
from assay.imports import judge, selection

if TYPE_CHECKING:
    from assay.early import Look
    from assay.store import Store
    from assay.study import Study


def looks_of(
    study: Study, store: Store, *, name: str, baseline: str, candidate: str | None, budget: float | None = None
) -> list[Look]:
    """Look at imported results, as `assay.early.look` does.

    Args:
        study: its policy judges, its history is passed on.
        store: where imports are.
        name: of the import, or the path of a long table.
        baseline: the mix to measure against.
        candidate: the only mix to look at; left out, every other one at the scale.
        budget: tokens of a whole run; left out, the most that the baseline has.

    Raises:
        AssayError: the results cannot be judged as they are.
    """
    from assay.early import look

    policy = selection.with_labels(study.policy)
    frame = selection.at_proxy(judge.results(store, name, root=Path.cwd()), policy)
    mixes = [str(mix) for mix in frame["mix"].unique()]
    for mix in (baseline, *(() if candidate is None else (candidate,))):
        if mix not in mixes:
            raise AssayError(f"no mix is called {mix!r} there. {did_you_mean(mix, mixes)}")
    names = [mix for mix in mixes if mix != baseline] if candidate is None else [candidate]
    if not names:
        raise AssayError(f"there is no mix besides {baseline!r}: nothing to look at.")
    for one in names:
        selection.require_same_questions(frame, baseline=baseline, candidate=one)
    whole = budget if budget is not None else float(frame.loc[frame["mix"] == baseline, "tokens"].max())
    past = None if study.history is None else judge.results(store, study.history, root=Path(study.paths.root))
    return [look(frame, policy, baseline=baseline, candidate=one, budget_tokens=whole, history=past) for one in names]
