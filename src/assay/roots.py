"""Where `conf/` and `sweeps/` are: a team's own, found before the packaged ones; and the published models there."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from assay.errors import AssayError
from assay.references import Reference
from assay.structure import from_mapping

SWEEPS = "sweeps"


def packaged() -> Path:
    """The folder that holds the packaged `conf/` and `sweeps/`: inside a wheel, or the repository's own."""
    inside = Path(str(files("assay"))) / "packaged"
    return inside if inside.is_dir() else Path(__file__).parents[2]


def project_root(start: Path | None = None) -> Path:
    """The nearest folder upwards that has `conf/` or `sweeps/`; else where we are."""
    here = (start or Path.cwd()).resolve()
    for folder in (here, *here.parents):
        if (folder / "conf").is_dir() or (folder / SWEEPS).is_dir():
            return folder
    return here


def config_roots(root: Path) -> list[Path]:
    """Where `conf/` and `sweeps/` are looked for, the team's own first."""
    return list(dict.fromkeys([root, packaged()]))


def references(root: Path | None = None) -> list[Reference]:
    """The published models of `conf/reference/`, a team's own and the packaged; a team's takes the packaged one's place.

    Raises:
        AssayError: a file is not YAML, or not a reference.
    """
    import yaml

    found: dict[str, Reference] = {}
    for folder in config_roots((root or project_root()).resolve()):
        for path in sorted((folder / "conf" / "reference").glob("*.yaml")):
            try:
                plain = yaml.safe_load(path.read_text(encoding="utf-8"))
            except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
                raise AssayError(f"{path} cannot be read: {error}") from None
            found.setdefault(path.stem, from_mapping(Reference, plain, where=f"reference {path.stem!r}"))
    return list(found.values())
