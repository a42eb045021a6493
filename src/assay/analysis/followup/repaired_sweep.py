"""Derive the sweep that repeats a tainted sweep on repaired sources, for `assay plan repair`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assay.analysis.followup.sweep_file import format_derived_sweep, split_overrides, write_sweep_file
from assay.audit.taint import blocks
from assay.config.search_path import SWEEPS
from assay.config.study import Study
from assay.core.errors import NotFound, Refused
from assay.core.serde import json_shape
from assay.plan.workspace import Workspace

if TYPE_CHECKING:
    from assay.config.sweep import Sweep


@json_shape(omit=["space"])
@dataclass(frozen=True, kw_only=True)
class RepairedSweep:
    """A sweep on repaired sources.

    Attributes:
        name: name of the new sweep.
        repairs: the tainted sweep.
        file: file of the new sweep.
        sources: repaired sources, by defective source.
        mixes: mixes on repaired sources, by the replaced mix. The sweep keeps all other mixes and reuses their
            runs.
        command_overrides: overrides that commands on the new sweep still need.
        space: the study with the new sweep.
    """

    name: str
    repairs: str
    file: Path
    sources: dict[str, str]
    mixes: dict[str, str]
    command_overrides: tuple[str, ...]
    space: Workspace

    @property
    def sentences(self) -> tuple[str, ...]:
        """Description of the new sweep."""
        replaced = ", ".join(f"{old} replaced by {new}" for old, new in self.sources.items())
        return (f"{self.repairs} with {replaced}, at the same weights, in {', '.join(self.mixes)}.",)


def write_repaired_sweep(space: Workspace, overrides: Sequence[str], *, out: Path | None, force: bool) -> RepairedSweep:
    """Write the sweep with the same arms on repaired sources.

    Args:
        space: the study on this machine.
        overrides: the command's overrides, including `sweep=NAME`.
        out: the file (default: `sweeps/NAME_repaired.yaml` of the project).
        force: whether to replace an existing file.

    Raises:
        AssayError: the sweep has no tainted source, a source has no repaired version, the arms belong to an ablation, or the file
            exists.
    """
    sweep = space.study.require_sweep()
    if sweep.arms:
        raise Refused(
            f"sweep {sweep.name!r}: repair of an ablation is not supported, because its arms name sources.",
            fix="Replace the sources in the ablation's file by their repaired versions.",
        )
    sources = _repaired_sources(space, sweep)
    mixes = {mix: f"{mix}_repaired" for mix in sweep.mixes if set(space.mixes.source_names(mix)) & set(sources)}
    file = (
        out if out is not None else Path(space.study.paths.root) / SWEEPS / f"{sweep.name}_repaired.yaml"
    ).absolute()
    own = {
        "name": file.stem,
        "baseline": mixes.get(sweep.baseline, sweep.baseline),
        "candidates": [mixes.get(name, name) for name in sweep.candidates],
    }
    new_mixes = {
        new: {
            "base": mix,
            "edits": [
                {"replace": {"source": old, "by": by}}
                for old, by in sources.items()
                if old in space.mixes.source_names(mix)
            ],
        }
        for mix, new in mixes.items()
    }
    raw = space.study.raw
    study = Study.parse({**raw, "mix": {**raw["mix"], **new_mixes}, "sweep": {**raw["sweep"], **own}})
    base, kept, command_overrides = split_overrides(overrides)
    repaired = RepairedSweep(
        name=file.stem,
        repairs=sweep.name,
        file=file,
        sources=sources,
        mixes=mixes,
        command_overrides=command_overrides,
        space=Workspace(study),
    )
    text = format_derived_sweep(base, own, kept, raw=raw, about="\n".join(repaired.sentences), more={"mix": new_mixes})
    write_sweep_file(file, text, force=force)
    return repaired


def _repaired_sources(space: Workspace, sweep: Sweep) -> dict[str, str]:
    """Return the clean version of each tainted source of the sweep."""
    tainted = {taint.subject: taint for mix in sweep.mixes for taint in space.mixes.tainted(mix)}
    if not tainted:
        raise Refused(f"sweep {sweep.name!r} has no tainted source.", fix="List tainted sources with `assay taint`.")
    repaired = {name: _clean_source(space, name) for name in tainted}
    for name, by in repaired.items():
        if by is None:
            repairs = [source.name for source in space.study.sources.values() if source.repairs == name]
            raise NotFound(
                f"source {name!r}: {tainted[name].figures.get('detector', 'its audit record')} excludes it from training; "
                + (
                    f"its repaired version {', '.join(repairs)} is excluded as well."
                    if repairs
                    else f"no source declares `repairs: {name}`."
                ),
                fix=f"Drop documents that no rule repairs with `assay audit repair {name} --drop-unsure --force`, then audit the result."
                if repairs
                else f"Run `assay audit repair {name}`, or declare a repaired source with `repairs: {name}`.",
            )
    return {name: by for name, by in repaired.items() if by is not None}


def _clean_source(space: Workspace, name: str) -> str | None:
    """Return the newest usable source that repairs another source; None if there is none."""
    sources: Mapping[str, Any] = space.study.sources
    clean = [
        source
        for source in sources.values()
        if source.repairs == name
        and source.refusal is None
        and not blocks([(space.sources.source(source.name), space.sources.digest(source.name))], space.sources.taints)
    ]
    clean.sort(key=lambda source: (source.snapshot is not None, str(source.snapshot), source.name))
    return clean[-1].name if clean else None
