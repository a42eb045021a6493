"""`assay plan --repair`: from a sweep that touched a defect to the sweep that redoes what matters, on repaired sources."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assay.cli.common import workspace
from assay.cli.derived import derived_text, split, write
from assay.errors import AssayError
from assay.roots import SWEEPS
from assay.study import Study
from assay.workspace import Workspace

if TYPE_CHECKING:
    from assay.plan import Sweep


@dataclass(frozen=True, kw_only=True)
class Mended:
    """A sweep on repaired sources.

    Attributes:
        name: its own.
        repairs: the sweep that touched the defects.
        file: where it was written.
        sources: the repaired source, by the one that has the defect.
        mixes: the mix on repaired sources, by the one it takes the place of; others stay, and their runs are reused.
        left: overrides that its commands still need.
        space: the study with it.
    """

    name: str
    repairs: str
    file: Path
    sources: dict[str, str]
    mixes: dict[str, str]
    left: tuple[str, ...]
    space: Workspace

    @property
    def sentences(self) -> tuple[str, ...]:
        """What it does."""
        told = ", ".join(f"{old} by {new}" for old, new in self.sources.items())
        return (f"{self.repairs} with {told}, at the same weights, in {', '.join(self.mixes)}.",)

    def to_mapping(self) -> dict[str, Any]:
        """Plain values for JSON."""
        plain = {name: value for name, value in vars(self).items() if name != "space"}
        return {**plain, "file": str(self.file)}


def mend(overrides: Sequence[str], *, out: Path | None, force: bool) -> Mended:
    """Write the sweep with the same arms on repaired sources.

    Args:
        overrides: as they were given, `sweep=NAME` among them.
        out: the file; left out, `sweeps/NAME_repaired.yaml` of the project.
        force: whether a file may be replaced.

    Raises:
        AssayError: nothing in the sweep is tainted, a source has no repaired version, or the arms are an ablation's;
            the file is there.
    """
    space = workspace(overrides)
    sweep = space.study.require_sweep()
    if sweep.arms:
        raise AssayError(
            f"sweep {sweep.name!r} is an ablation: its arms name sources that would have to change too.",
            fix="Write the repaired sources into the ablation's file by hand.",
        )
    sources = _repaired(space, sweep)
    mixes = {mix: f"{mix}_repaired" for mix in sweep.mixes if set(space.names(mix)) & set(sources)}
    file = (
        out if out is not None else Path(space.study.paths.root) / SWEEPS / f"{sweep.name}_repaired.yaml"
    ).absolute()
    own = {
        "name": file.stem,
        "baseline": mixes.get(sweep.baseline, sweep.baseline),
        "candidates": [mixes.get(name, name) for name in sweep.candidates],
    }
    made = {
        new: {
            "base": mix,
            "edits": [{"replace": {"source": old, "by": by}} for old, by in sources.items() if old in space.names(mix)],
        }
        for mix, new in mixes.items()
    }
    raw = space.study.raw
    study = Study.parse({**raw, "mix": {**raw["mix"], **made}, "sweep": {**raw["sweep"], **own}})
    chosen, kept, left = split(overrides)
    mended = Mended(
        name=file.stem, repairs=sweep.name, file=file, sources=sources, mixes=mixes, left=left, space=Workspace(study)
    )
    text = derived_text(chosen, own, kept, about="\n".join(mended.sentences), more={"mix": made})
    write(file, text, force=force)
    return mended


def _repaired(space: Workspace, sweep: Sweep) -> dict[str, str]:
    """The clean version of each tainted source of the sweep."""
    tainted = {taint.source: taint.sentence for mix in sweep.mixes for taint in space.tainted(mix)}
    if not tainted:
        raise AssayError(f"nothing in sweep {sweep.name!r} is tainted.", fix="`assay taint` lists what is.")
    found = {name: _clean(space, name) for name in tainted}
    for name, by in found.items():
        if by is None:
            tried = [one.name for one in space.study.sources.values() if one.repairs == name]
            raise AssayError(
                f"{tainted[name]}; "
                + (
                    f"{', '.join(tried)} repairs it, and is not clean either."
                    if tried
                    else "no clean source says that it repairs it."
                ),
                fix=f"`assay repair {name} --drop-unsure --force` leaves out what cannot be mended by rule; then audit it."
                if tried
                else f"`assay repair {name}` makes one, or declare yours with `repairs: {name}`.",
            )
    return {name: by for name, by in found.items() if by is not None}


def _clean(space: Workspace, name: str) -> str | None:
    """The source that repairs another, and may be trained on; the one with the newest snapshot, where there are several."""
    sources: Mapping[str, Any] = space.study.sources
    ways = [
        one
        for one in sources.values()
        if one.repairs == name
        and one.refusal is None
        and not space.taints.of(space.source(one.name), space.digest(one.name))
    ]
    ways.sort(key=lambda one: (one.snapshot is not None, str(one.snapshot), one.name))
    return ways[-1].name if ways else None
