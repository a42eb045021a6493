"""`assay plan --to-decide`: from an inconclusive sweep to the sweep that would decide it, as a file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assay import conclude, reasons
from assay.cli.common import workspace
from assay.cli.derived import derived_text, split, write
from assay.errors import AssayError
from assay.gate import Decision
from assay.roots import SWEEPS
from assay.study import Study
from assay.workspace import Workspace

if TYPE_CHECKING:
    from assay.gate import SweepVerdict, Verdict
    from assay.plan import Plan, Sweep


@dataclass(frozen=True, kw_only=True)
class Extended:
    """A sweep that would decide another.

    Attributes:
        name: its own.
        extends: the one that was inconclusive.
        file: where it was written.
        seeds: all of its replicates.
        added: those that are new.
        sentences: what is to be known of it.
        left: overrides that its commands still need.
        space: the study with it.
    """

    name: str
    extends: str
    file: Path
    seeds: tuple[int, ...]
    added: tuple[int, ...]
    sentences: tuple[str, ...]
    left: tuple[str, ...]
    space: Workspace

    def to_mapping(self) -> dict[str, Any]:
        """Plain values for JSON."""
        plain = {name: value for name, value in vars(self).items() if name != "space"}
        return {**plain, "file": str(self.file)}


def extend(overrides: Sequence[str], *, out: Path | None, force: bool) -> Extended:
    """Write the sweep with the same arms and as many more seeds as would decide.

    Args:
        overrides: as they were given, `sweep=NAME` among them.
        out: the file; left out, `sweeps/NAME_decide.yaml` of the project.
        force: whether a file may be replaced.

    Raises:
        AssayError: the sweep is decided, is not finished, or no number of seeds would decide it; the file is there.
    """
    space = workspace(overrides)
    sweep = space.study.require_sweep()
    judged, plan, standing = conclude.before_the_gate(space)
    _require_finished(plan)
    verdict = conclude.judge(judged, plan, standing=standing)
    more, sentences = _more(verdict, sweep)
    added = _next(sweep.seeds, more)
    root = space.study.paths.root
    file = (out if out is not None else Path(root) / SWEEPS / f"{sweep.name}_decide.yaml").absolute()
    name, seeds = file.stem, (*sweep.seeds, *added)
    body = {**space.study.raw["sweep"], "name": name, "extends": sweep.name, "seeds": list(seeds)}
    extended = Workspace(Study.parse({**space.study.raw, "sweep": body}))
    chosen, kept, left = split(overrides)
    write(file, sweep_text(chosen, name, seeds, kept, about=sentences[0]), force=force)
    again = conclude.after_a_look(extended.study.require_sweep())
    notes = [*sentences, again]
    if file.parent != (Path(root) / SWEEPS).absolute():
        notes.append(f"Commands find sweeps in {Path(root) / SWEEPS}/: move it there.")
    return Extended(
        name=name, extends=sweep.name, file=file, seeds=seeds, added=added, sentences=tuple(notes), left=left, space=extended
    )  # fmt: skip


def _require_finished(plan: Plan) -> None:
    """Refuse a sweep of which runs are still to come: they may decide it."""
    open_runs = [run.label for run in plan.runs if run.status in ("todo", "running")]
    if open_runs:
        shown = ", ".join(open_runs[:3]) + (", ..." if len(open_runs) > 3 else "")
        raise AssayError(
            f"sweep {plan.sweep.name!r} is not finished: {len(open_runs)} of its runs have no result yet ({shown}).",
            fix="`assay submit` with the same arguments runs them; they may decide it.",
        )


def _more(verdict: SweepVerdict, sweep: Sweep) -> tuple[int, list[str]]:
    """How many seeds to add, and why, in sentences."""
    waiting = [one for one in verdict.candidates.values() if one.decision == Decision.INCONCLUSIVE]
    if not waiting:
        said = ", ".join(f"{name} {one.decision}" for name, one in verdict.candidates.items())
        raise AssayError(f"sweep {sweep.name!r} is decided: {said}.", fix="There is nothing to add seeds for.")
    ways = {one.candidate: next((way for way in one.options if way.kind == "seeds"), None) for one in waiting}
    more = {one.candidate: way.seeds - _have(one) for one in waiting if (way := ways[one.candidate]) and way.seeds}
    hopeless = [one for one in waiting if one.candidate not in more]
    if not more:
        told = " ".join(f"{one.candidate}: {_otherwise(one)}" for one in hopeless)
        raise AssayError(f"no number of seeds up to 100 would decide sweep {sweep.name!r}.", fix=f"What might: {told}")
    name = max(more, key=lambda name: more[name])
    way = ways[name]
    assert way is not None, "it has a number of seeds"
    sentences = [f"{name}: {reasons.option(way)}"]
    sentences += [
        f"{one.candidate} stays undecided, whatever the seeds; what might decide it: {_otherwise(one)}"
        for one in hopeless
    ]
    return more[name], sentences


def _have(verdict: Verdict) -> int:
    """Seeds that both arms have of everything with a say."""
    return min((c.n_seeds for c in verdict.comparisons if c.role != "monitor"), default=0)


def _otherwise(verdict: Verdict) -> str:
    """What would decide instead of seeds."""
    found = [reasons.option(way) for way in verdict.options if way.kind != "seeds"]
    return " ".join(found) or "nothing that is known."


def _next(seeds: Sequence[int], more: int) -> tuple[int, ...]:
    """So many seeds that are not there yet, the next ones first."""
    first = max(seeds) + 1
    return tuple(range(first, first + more))


def sweep_text(base: str, name: str, seeds: Sequence[int], overrides: Sequence[str], *, about: str) -> str:
    """The file of a sweep that is another's with more seeds; what was overridden on the command line is written into it.

    Args:
        base: the sweep that it is made of, as Hydra finds it; ablations and all else stay its own.
        name: the new one's.
        seeds: all of its replicates.
        overrides: Hydra's, without those of `HERE`.
        about: why so many, in a sentence.

    Raises:
        AssayError: an override deletes something, which a file cannot.
    """
    note = f"{base} with more seeds, which were added after its verdict was seen: this is not a fresh test at the policy's error rate."
    own = {"name": name, "extends": base, "seeds": list(seeds)}
    kept = [
        one for one in overrides if not one.lstrip("+").startswith(("sweep.seeds=", "sweep.name=", "sweep.extends="))
    ]
    return derived_text(base, own, kept, about=f"{note}\n{about}")
