"""`assay gate --since`: the mixes that a branch changes, the sweeps that ask about them, and their verdicts."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from assay.cli.common import errors, print_json, progress_bars
from assay.errors import AssayError

if TYPE_CHECKING:
    from assay.changes import SweepChange
    from assay.publish.review import Review, SweepReview
    from assay.study import Study
    from assay.workspace import Workspace

FOLDERS = ("conf", "sweeps")

Since = Annotated[
    str | None,
    typer.Option(
        "--since", metavar="REVISION", help="Judge what this git branch changes against a revision: origin/main."
    ),
]
AllowInconclusive = Annotated[
    bool,
    typer.Option(
        "--allow-inconclusive", help="With --since: exit 0 where runs are missing; REJECT and BLOCKED still fail."
    ),
]


def refuse_mixed(revision: str | None, *, others: Sequence[str | None], allow_inconclusive: bool) -> None:
    """Refuse options that say two things at once.

    Args:
        revision: of --since.
        others: --results, --baseline and --candidate.
        allow_inconclusive: whether that was given.
    """
    if revision is not None and any(other is not None for other in others):
        raise AssayError(
            "--since finds what to judge by itself.", fix="Leave out --results, --baseline and --candidate."
        )
    if revision is None and allow_inconclusive:
        raise AssayError("--allow-inconclusive goes with --since.", fix="Leave it out.")


def review(overrides: Sequence[str] | None, revision: str, *, allow_inconclusive: bool, as_json: bool) -> NoReturn:
    """Print what a branch changes and its verdicts, and exit with the worst of them.

    Raises:
        AssayError: this is no git work tree, there is no such revision, or the configuration cannot be composed.
    """
    from assay.publish.review import branch

    with progress_bars(quiet=as_json) as tell:
        found = look(list(overrides or ()), revision, tell)
    if found.uncommitted and not as_json:
        errors.print(
            f"note: not committed, and judged as it lies in the work tree: {', '.join(found.uncommitted)}",
            style="yellow", markup=False,
        )  # fmt: skip
    if as_json:
        print_json(found.to_mapping())
    else:
        typer.echo(branch(found), nl=False)
    raise typer.Exit(0 if allow_inconclusive and found.exit_code == 3 else found.exit_code)


def look(overrides: list[str], revision: str, tell: Callable[[str, float], None]) -> Review:
    """What a branch changes, and what is known of it.

    Args:
        overrides: Hydra's, for both revisions; with `sweep=NAME` that sweep alone is looked at.
        revision: what the branch is compared with.
        tell: told the share of the sweeps that were looked at.
    """
    from assay.changes import mixes_changed, sources_changed
    from assay.cli.compose import compose, names
    from assay.publish.review import Review
    from assay.revision import Repository
    from assay.roots import project_root
    from assay.workspace import Workspace

    root = project_root()
    repository = Repository(root)
    base = repository.base(revision)
    nothing = Review(revision=revision, base=base.short)
    if not repository.differs(base.commit, FOLDERS):
        return nothing
    one = [override.removeprefix("sweep=") for override in overrides if override.startswith("sweep=")]
    rest = [override for override in overrides if not override.startswith("sweep=")]
    now = compose(rest, root=root)
    with tempfile.TemporaryDirectory(prefix="assay-base-") as folder:
        there = repository.export(base.commit, FOLDERS, Path(folder))
        then = _Then(Path(folder), root, rest)
        before = then.study() if there else None
        tokens = _tokens(Workspace(now))
        reviews = []
        sweeps = one or names("sweep", [root])
        for i, name in enumerate(sweeps):
            tell("sweeps", i / len(sweeps))
            reviews += _sweep(name, then, compose([f"sweep={name}", *rest], root=root))
        tell("sweeps", 1.0)
    mixes = mixes_changed(before, now, tokens=tokens)
    return replace(
        nothing,
        uncommitted=tuple(repository.uncommitted(FOLDERS)),
        mixes=mixes,
        sources=sources_changed(before, now) if before is not None else {},
        sweeps=tuple(reviews),
        only=one[0] if one else None,
        notes=tuple(then.notes),
    )


class _Then:
    """The configuration as it was."""

    def __init__(self, folder: Path, root: Path, overrides: list[str]) -> None:
        self.notes: list[str] = []
        self._folder = folder
        # Files, store and data are where they are now: only what is declared of them comes from then.
        self._overrides = [*overrides, f"paths.root='{root}'"]

    def study(self, sweep: str | None = None) -> Study | None:
        """A sweep's study as it was; None where it was not there, or could not be composed even then."""
        from assay.cli.compose import compose, names

        if sweep is not None and sweep not in names("sweep", [self._folder]):
            return None
        try:
            return compose([*([f"sweep={sweep}"] if sweep else []), *self._overrides], root=self._folder)
        except AssayError as error:
            what = f"sweep {sweep}" if sweep else "the configuration"
            self.notes.append(f"{what} could not be composed before, and counts as new: {error.what}")
            return None


def _sweep(name: str, then: _Then, after: Study) -> list[SweepReview]:
    """The verdict on what changed of a sweep, and on its baseline against itself where that was edited in place."""
    from assay import conclude
    from assay.changes import sweep_changed
    from assay.publish.review import SweepReview
    from assay.workspace import Workspace

    before, space = then.study(name), Workspace(after)
    tokens = _tokens(space)
    change = sweep_changed(before, after, tokens=tokens)
    if change is None:
        return []
    try:
        space, plan, standing = conclude.before_the_gate(space)
        verdict = conclude.judge(space, plan, standing=standing)
    except AssayError as error:
        return [SweepReview(change=change, plan=None, verdict=None, problem=str(error).replace("\n", " "))]
    kept = {one: verdict.candidates[one] for one in change.candidates}
    note = verdict.note if len(kept) == len(verdict.candidates) else ""
    found = SweepReview(change=change, plan=plan, verdict=replace(verdict, candidates=kept, note=note))
    edited = None if before is None else _edited(change, before, space, tokens)
    return [found] if edited is None else [found, _in_place(change, edited)]


def _edited(change: SweepChange, before: Study, space: Workspace, tokens: Mapping[str, int]) -> Workspace | None:
    """A study of a baseline that was edited in place, against what it was; None where it was not.

    A candidate is measured against its control, whatever it was before. A baseline is measured against nothing, so
    that an edit of it would be merged unseen.
    """
    from assay.changes import as_it_was
    from assay.study import Study
    from assay.workspace import Workspace

    sweep = space.study.require_sweep()
    changed = any(one.mix == sweep.baseline and one.kind == "changed" and one.before for one in change.mixes)
    mix = as_it_was(before, sweep.baseline, tokens) if changed else None
    if mix is None:
        return None
    raw, was = space.study.raw, f"{sweep.baseline}_before"
    study = Study.parse(
        {
            **raw,
            "mix": {**raw["mix"], was: mix},
            "sweep": {
                "name": sweep.name,
                "question": f"Is {sweep.baseline} better for the edit?",
                "baseline": was,
                "candidates": [sweep.baseline],
                "seeds": list(sweep.seeds),
            },
        }
    )
    return Workspace(replace(study, policy=space.study.policy), digests=space.digests, evaluation=space.evaluation)


def _in_place(change: SweepChange, space: Workspace) -> SweepReview:
    """The verdict on a baseline against what it was."""
    from assay import conclude
    from assay.publish.review import SweepReview

    sweep = space.study.require_sweep()
    mine = replace(
        change, candidates=sweep.candidates, mixes=tuple(m for m in change.mixes if m.mix in sweep.candidates)
    )
    try:
        plan = space.plan()
        return SweepReview(change=mine, plan=plan, verdict=conclude.judge(space, plan), in_place=sweep.candidates[0])
    except AssayError as error:
        problem = str(error).replace("\n", " ")
        return SweepReview(change=mine, plan=None, verdict=None, problem=problem, in_place=sweep.candidates[0])


def _tokens(space: Workspace) -> dict[str, int]:
    """Tokens of the sources whose corpus was made, where the tokenizer says which corpora are meant."""
    if space.study.sweep is None and not space.study.tokenizer.sources:
        return {}
    found: dict[str, int] = {}
    for name in space.study.sources:
        with contextlib.suppress(AssayError):  # its files are not here: weights in proportion to it are not shown
            found |= space.tokens_of([name])
    return found
