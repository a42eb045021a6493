"""Write a compared design as a sweep (`assay plan designs --write`)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assay.analysis.followup.sweep_file import format_derived_sweep, split_overrides, write_sweep_file
from assay.config.compose import compose, names
from assay.config.search_path import SWEEPS, config_roots
from assay.config.sources import check_name
from assay.config.study import Study
from assay.core.errors import ConfigError, NotFound, Refused

if TYPE_CHECKING:
    from assay.analysis.design_table import ComparedDesigns, Design


@dataclass(frozen=True, kw_only=True)
class DesignSweep:
    """A sweep that was written from a design.

    Attributes:
        name: name of the new sweep.
        row: row of the design in the table.
        file: file of the new sweep.
        extends: the sweep whose finished candidates the design reuses with more seeds; None otherwise.
        command_overrides: overrides that commands on the new sweep still need.
    """

    name: str
    row: int
    file: Path
    extends: str | None
    command_overrides: tuple[str, ...]


def find_design(compared: ComparedDesigns, row: int) -> Design:
    """Return the design of a row.

    Raises:
        NotFound: the table has no such row.
    """
    designs = compared.table.designs
    if not 1 <= row <= len(designs):
        raise NotFound(
            f"--choose: row {row} is invalid; expected a row from 1 to {len(designs)}.",
            fix="Choose the number of a row of the table.",
        )
    return designs[row - 1]


def check_new_sweep(compared: ComparedDesigns, name: str) -> Path:
    """Return the file of a new sweep.

    Raises:
        ConfigError: the name is invalid.
        Refused: a sweep or file of this name exists.
    """
    check_name("sweep", name)
    root = Path(compared.space.study.paths.root)
    file = (root / SWEEPS / f"{name}.yaml").absolute()
    if name in names("sweep", config_roots(root)) or file.exists():
        raise Refused(f"--write: a sweep {name!r} exists already.", fix="Choose an unused name.")
    return file


def write_design(compared: ComparedDesigns, design: Design, *, name: str) -> DesignSweep:
    """Write a design as a sweep file of the project, with the overrides of the command.

    Args:
        compared: the table.
        design: a design of the table.
        name: name of the new sweep.

    Raises:
        AssayError: the name is taken or invalid, or no sweep file can express the design.
    """
    file, sweep = check_new_sweep(compared, name), compared.space.study.require_sweep()
    if design.coupling == "separate":
        raise Refused(
            f"--choose: row {design.row} has separate seeds, but a sweep shares its seeds among all arms.",
            fix="Choose a row with shared seeds.",
        )
    if design.decides == "mean":
        raise Refused(
            f"--choose: row {design.row} decides by the mean of the primary metrics, but policy"
            f" {compared.space.study.policy.name!r} decides by each metric.",
            fix="Choose a row that decides by each metric, or select a policy that names the mean.",
        )
    if design.n_candidates > len(sweep.candidates):
        raise Refused(
            f"--choose: row {design.row} has {design.n_candidates} candidates, but sweep {sweep.name!r} declares only"
            f" {len(sweep.candidates)}.",
            fix="Declare the other mixes, and add them to `candidates` of the sweep.",
        )
    selected = compared.overrides_by_scale[design.scale]
    study = compose(list(selected), root=Path(compared.space.study.paths.root))
    base, kept, command_overrides = split_overrides(selected)
    own: dict[str, Any] = {"name": name, "seeds": list(design.seeds)}
    if not sweep.arms:
        own["candidates"] = list(sweep.candidates[: design.n_candidates])
    extends = sweep.name if design.reused_candidates and set(design.seeds) - set(sweep.seeds) else None
    own |= {"extends": extends} if extends else {}
    Study.parse({**study.raw, "sweep": {**study.raw["sweep"], **own}})  # an invalid sweep must not be written
    about = f"Design {design.row} of `assay plan designs sweep={sweep.name}`."
    text = format_derived_sweep(base, own, kept, raw=study.raw, about=about)
    write_sweep_file(file, text, force=False)
    return DesignSweep(name=name, row=design.row, file=file, extends=extends, command_overrides=command_overrides)


def require_both(write: str | None, choose: int | None) -> None:
    """Raise an error if only one of the options --write and --choose is given."""
    if (write is None) != (choose is None):
        given, missing = ("--write", "--choose") if choose is None else ("--choose", "--write")
        raise ConfigError(
            f"{given} is given without {missing}; expected both or neither.",
            fix="Give both, such as `--write NEW_SWEEP --choose 2`.",
        )
