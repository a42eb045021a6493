"""Find `conf/` and `sweeps/`. The project's files precede the packaged files."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.resources import files
from pathlib import Path

from assay.config.references import Reference
from assay.config.sources import check_name
from assay.core.errors import ConfigError
from assay.core.serde import from_mapping

SWEEPS = "sweeps"
ENDINGS = (".yaml", ".yml")


def packaged() -> Path:
    """Return the folder of the packaged `conf/` and `sweeps/`, in the wheel or the repository."""
    inside = Path(str(files("assay"))) / "packaged"
    return inside if inside.is_dir() else Path(__file__).parents[3]


def find_project(start: Path | None = None) -> Path | None:
    """Return the nearest folder with `conf/` or `sweeps/`, upward from a start; ``None`` if there is none.

    The default start is the working directory.
    """
    origin = (start or Path.cwd()).resolve()
    for folder in (origin, *origin.parents):
        if (folder / "conf").is_dir() or (folder / SWEEPS).is_dir():
            return folder
    return None


def project_root(start: Path | None = None) -> Path:
    """Return the project's folder (see `find_project`), or the start itself outside a project."""
    return find_project(start) or (start or Path.cwd()).resolve()


def config_roots(root: Path) -> list[Path]:
    """Return the folders to search for `conf/` and `sweeps/`, with the project's folder first."""
    return list(dict.fromkeys([root, packaged()]))


def config_files(folder: Path) -> dict[str, Path]:
    """Return the configuration files of a folder by name, sorted; hidden files are skipped.

    Raises:
        ConfigError: two files have the same name, or the folder cannot be listed.
    """
    try:
        entries = sorted(folder.iterdir()) if folder.is_dir() else []
    except OSError as error:
        raise ConfigError(
            f"{folder} cannot be listed: {error.strerror}.", fix="Grant read permission on the folder."
        ) from None
    files: dict[str, Path] = {}
    for path in entries:
        if path.suffix not in ENDINGS or path.name.startswith(".") or path.is_dir():
            continue
        if path.stem in files:
            raise ConfigError(f"{files[path.stem]} and {path.name} have the same name.", fix="Remove one of them.")
        files[path.stem] = path
    return files


def check_file_name(kind: str, path: Path) -> None:
    """Refuse a file whose name is no valid name of its kind."""
    try:
        check_name(kind, path.stem)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error.what}", fix="Rename the file.") from None


def group_folder(root: Path, group: str) -> Path:
    """Return the folder of a group's files: `sweeps/` for `sweep` or `sweeps`, else `conf/GROUP/`."""
    if group == "sweep":
        return root / SWEEPS
    return root / group if group.partition("/")[0] == SWEEPS else root / "conf" / group


def find_config(roots: Iterable[Path], group: str, name: str) -> Path | None:
    """Return a group's file by name from the first root that has this file; ``None`` without such a file."""
    for root in roots:
        path = config_files(group_folder(root, group)).get(name)
        if path is not None:
            return path
    return None


def references(root: Path | None = None) -> list[Reference]:
    """Read the published models of `conf/reference/`.

    A project's file replaces the packaged file of the same name.

    Raises:
        ConfigError: a file is not YAML, or its content is not a reference.
    """
    from assay.config.yaml_file import read_yaml

    models: dict[str, Reference] = {}
    for folder in config_roots((root or project_root()).resolve()):
        for name, path in config_files(folder / "conf" / "reference").items():
            if name not in models:
                models[name] = from_mapping(Reference, read_yaml(path), where=f"reference {name!r}")
    return list(models.values())
