"""Review a git branch: changed mixes and sources, the sweeps that use them, and the verdicts."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from assay.core.errors import AssayError, ConfigError, Damaged, NotFound, Refused

if TYPE_CHECKING:
    from assay.analysis.gate import SweepVerdict
    from assay.config.diff import SweepChange
    from assay.config.study import Study
    from assay.plan.submitted_sweep import SubmittedSweep
    from assay.plan.workspace import Workspace
    from assay.report.pull_request import Review, SweepReview

FOLDERS = ("conf", "sweeps")


def review_branch(overrides: list[str], revision: str, progress: Callable[[str, float], None]) -> Review:
    """Detect the changes of a branch, and decide on the sweeps that the branch affects.

    Args:
        overrides: Hydra overrides for both revisions. With `sweep=NAME`, the function reviews only that sweep.
        revision: git revision to compare the branch with.
        progress: called with "sweeps" and the fraction of reviewed sweeps.

    Raises:
        AssayError: the project is not in a git work tree, the revision does not exist, or the configuration is invalid.
    """
    from assay.config.compose import compose, names
    from assay.config.diff import mixes_changed, sources_changed
    from assay.config.override import split_override, unquoted
    from assay.config.search_path import project_root
    from assay.core.git import Repository
    from assay.plan.workspace import Workspace
    from assay.report.pull_request import Review

    root = project_root()
    if overrides:
        compose(overrides, root=root)  # refuses invalid overrides, even if the branch changes nothing
    repository = Repository(root)
    base = repository.base(revision)
    empty = Review(revision=revision, base=base.short)
    if not repository.differs(base.commit, FOLDERS):
        return empty
    parsed = [split_override(override) for override in overrides]
    named = [unquoted((override.raw or "").strip()) for override in parsed if override.key == "sweep"]
    rest = [override.text for override in parsed if override.key != "sweep"]
    now = compose(rest, root=root)
    with tempfile.TemporaryDirectory(prefix="assay-base-") as folder:
        exported = repository.export(base.commit, FOLDERS, Path(folder))
        base_studies = _BaseStudies(Path(folder), root, rest)
        before = base_studies.study() if exported else None
        tokens = _tokens(Workspace(now))
        reviews = []
        sweeps = named or names("sweep", [root])
        for i, name in enumerate(sweeps):
            progress("sweeps", i / len(sweeps))
            reviews += _review_sweep(name, base_studies, compose([f"sweep={name}", *rest], root=root))
        progress("sweeps", 1.0)
    mixes = mixes_changed(before, now, tokens=tokens)
    return replace(
        empty,
        uncommitted=tuple(repository.uncommitted(FOLDERS)),
        mixes=mixes,
        sources=sources_changed(before, now) if before is not None else {},
        sweeps=tuple(reviews),
        only=named[0] if named else None,
        notes=tuple(base_studies.notes),
    )


class _BaseStudies:
    """The configuration at the revision with which the branch is compared."""

    def __init__(self, folder: Path, root: Path, overrides: list[str]) -> None:
        self.notes: list[str] = []
        self._folder = folder
        # Files, store and data stay in place. Only their declarations come from the revision.
        self._overrides = [*overrides, f"paths.root='{root}'"]

    def study(self, sweep: str | None = None) -> Study | None:
        """Compose a sweep's study at the revision; None if it did not exist or is invalid."""
        from assay.config.compose import compose, names

        if sweep is not None and sweep not in names("sweep", [self._folder]):
            return None
        try:
            return compose([*([f"sweep={sweep}"] if sweep else []), *self._overrides], root=self._folder)
        except ConfigError as error:
            what = f"sweep {sweep}" if sweep else "the configuration"
            self.notes.append(f"{what} is invalid at the base revision, so it counts as new: {error.what}")
            return None


def _review_sweep(name: str, base_studies: _BaseStudies, after: Study) -> list[SweepReview]:
    """Decide on the changed candidates of a sweep, and on a baseline edited in place."""
    from assay.analysis.verdict import apply_registration, decide_sweep
    from assay.config.diff import sweep_changed
    from assay.plan.submitted_sweep import read_submitted_sweep
    from assay.plan.workspace import Workspace
    from assay.report.pull_request import SweepReview

    before, space = base_studies.study(name), Workspace(after)
    tokens = _tokens(space)
    change = sweep_changed(before, after, tokens=tokens)
    if change is None:
        return []
    try:
        submitted = read_submitted_sweep(space.store, name, paths=after.raw["paths"])
        if submitted is not None and before is not None and not change.settings:
            change = _without_removed(change)
            if not change.candidates:
                return []
            proposed = _proposed(submitted, after)
            merged = _merged_arm(submitted, proposed)
            if merged is not None and _edits_baseline(change, after):
                return [_review_merged(change, submitted, after, merged)]
            space = proposed
        space, plan, standing = apply_registration(space)
        verdict = decide_sweep(space, plan, registration=standing)
    except AssayError as error:
        return [SweepReview(change=change, plan=None, verdict=None, problem=str(error).replace("\n", " "))]
    review = SweepReview(change=change, plan=plan, verdict=_about(verdict, change.candidates))
    edited = None if before is None else _edited_baseline(change, before, space, tokens)
    return [review] if edited is None else [review, _review_in_place(change, edited)]


def _without_removed(change: SweepChange) -> SweepChange:
    """Return the change without candidates whose mix was removed, because the submitted runs already decided them."""
    removed = {mix.mix for mix in change.mixes if mix.kind == "removed"}
    return replace(change, candidates=tuple(name for name in change.candidates if name not in removed))


def _edits_baseline(change: SweepChange, after: Study) -> bool:
    baseline = after.require_sweep().baseline
    return any(mix.mix == baseline and mix.kind == "changed" for mix in change.mixes)


def _proposed(submitted: SubmittedSweep, after: Study) -> Workspace:
    """Return the submitted sweep, including its overrides, with the mixes and sources of the branch."""
    from assay.config.study import Study
    from assay.plan.workspace import Workspace

    sections = {name: after.raw[name] for name in ("mix", "source", "policy", "suite", "taint")}
    sweep = submitted.study.raw["sweep"]
    declared = [name for name in sweep["candidates"] if name in after.mixes]
    if declared:
        kept = {*declared, sweep["baseline"]}
        arms = [arm for arm in sweep.get("arms") or () if arm["name"] in kept]
        sections["sweep"] = {**sweep, "candidates": declared, "arms": arms}
    return Workspace(Study.parse({**submitted.study.raw, **sections}))


def _merged_arm(submitted: SubmittedSweep, proposed: Workspace) -> str | None:
    """Return the submitted candidate that equals the branch's baseline; None if there is none."""
    sweep, frozen = submitted.study.require_sweep(), submitted.workspace()
    with contextlib.suppress(
        ConfigError, Damaged, NotFound, Refused
    ):  # the verdict on the branch's own runs reports the error
        spec = proposed.runs.spec(sweep.baseline, 0)
        return next((name for name in sweep.candidates if frozen.runs.spec(name, 0) == spec), None)
    return None


def _review_merged(change: SweepChange, submitted: SubmittedSweep, after: Study, merged: str) -> SweepReview:
    """Return the verdict on the submitted candidate that became the baseline."""
    from assay.analysis.verdict import apply_registration, decide_sweep
    from assay.plan.submitted_sweep import with_current_trust
    from assay.report.pull_request import SweepReview

    space, plan, standing = apply_registration(submitted.workspace(with_current_trust(submitted.study, after)))
    verdict = decide_sweep(space, plan, registration=standing)
    own_change = replace(change, candidates=(merged,))
    return SweepReview(change=own_change, plan=plan, verdict=_about(verdict, [merged]), merged=merged)


def _about(verdict: SweepVerdict, candidates: Iterable[str]) -> SweepVerdict:
    """Return the part of a verdict that is about some of its candidates and the baseline."""
    kept = {mix: verdict.candidates[mix] for mix in candidates}
    others = verdict.candidates.keys() - kept.keys()
    mixes = tuple(reason for reason in verdict.mixes if reason.subject not in others)
    return replace(verdict, candidates=kept, note=() if others else verdict.note, mixes=mixes)


def _edited_baseline(
    change: SweepChange, before: Study, space: Workspace, tokens: Mapping[str, int]
) -> Workspace | None:
    """Compose a study that compares an edited baseline with its previous version.

    A candidate is compared with its control, regardless of the candidate's previous version. A baseline has no control,
    so an edited baseline would be merged without a verdict.

    Returns:
        The study; None for an unedited baseline.
    """
    from assay.config.diff import previous_declaration
    from assay.config.study import Study
    from assay.plan.workspace import Workspace

    sweep = space.study.require_sweep()
    changed = any(mix.mix == sweep.baseline and mix.kind == "changed" and mix.before for mix in change.mixes)
    mix = previous_declaration(before, sweep.baseline, tokens) if changed else None
    if mix is None:
        return None
    raw, old_name = space.study.raw, f"{sweep.baseline}_before"
    study = Study.parse(
        {
            **raw,
            "mix": {**raw["mix"], old_name: mix},
            "sweep": {
                "name": sweep.name,
                "question": f"Does the edit improve {sweep.baseline}?",
                "baseline": old_name,
                "candidates": [sweep.baseline],
                "seeds": list(sweep.seeds),
            },
        }
    )
    return Workspace(
        replace(study, policy=space.study.policy),
        digests=space.sources.digests(space.mixes.prepared_sources),
        evaluation=space.runs.evaluation,
    )


def _review_in_place(change: SweepChange, space: Workspace) -> SweepReview:
    """Decide on an edited baseline against its previous version."""
    from assay.analysis.verdict import decide_sweep
    from assay.report.pull_request import SweepReview

    sweep = space.study.require_sweep()
    own_change = replace(
        change, candidates=sweep.candidates, mixes=tuple(m for m in change.mixes if m.mix in sweep.candidates)
    )
    try:
        plan = space.planner.plan()
        return SweepReview(
            change=own_change, plan=plan, verdict=decide_sweep(space, plan), in_place=sweep.candidates[0]
        )
    except AssayError as error:
        problem = str(error).replace("\n", " ")
        return SweepReview(change=own_change, plan=None, verdict=None, problem=problem, in_place=sweep.candidates[0])


def _tokens(space: Workspace) -> dict[str, int]:
    """Return the tokens of sources that have a corpus.

    The result is empty if the tokenizer depends on an absent sweep.
    """
    if space.study.sweep is None and not space.study.tokenizer.sources:
        return {}
    return space.sources.tokens(space.study.sources)
