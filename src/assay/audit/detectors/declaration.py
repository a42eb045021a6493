"""Read the detectors that a project declares or excludes in `conf/audit/`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from assay.config.search_path import config_files, config_roots, project_root
from assay.core.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from assay.audit.detectors.registry import Detector

KEYS = {"detectors", "without"}


def declared_detectors() -> tuple[tuple[dict[str, Any], ...], tuple[str, ...]]:
    """Read every file of `conf/audit/`.

    A project's file replaces the packaged file of the same name.

    Returns:
        The declarations of detectors, and the names of excluded detectors.

    Raises:
        AssayError: a file cannot be read, or a declaration is malformed.
    """
    detectors: list[dict[str, Any]] = []
    without: list[str] = []
    read: set[str] = set()
    for root in config_roots(project_root()):
        for name, path in config_files(root / "conf" / "audit").items():
            if name in read:
                continue
            read.add(name)
            plain = _read(path)
            for declaration in plain.get("detectors") or []:
                _check(path, declaration, detectors)
                detectors.append(declaration)
            without += plain.get("without") or []
    return tuple(detectors), tuple(without)


def project_detectors() -> Sequence[Detector]:
    """Return the packaged and the declared detectors, without the excluded detectors."""
    from assay.audit.detectors.registry import detectors

    declared, without = declared_detectors()
    return detectors(declared, without=without)


def _read(path: Path) -> dict[str, Any]:
    from assay.config.yaml_file import read_yaml

    plain = read_yaml(path)
    if not set(plain) <= KEYS:
        raise ConfigError(
            f"{path} is invalid; expected a mapping with the keys `detectors` and `without`.",
            fix="Remove all other keys.",
        )
    for key in plain:
        if not isinstance(plain[key] or [], list):
            raise ConfigError(
                f"{path}: `{key}` is invalid; expected a list.", fix=f"Write the entries in brackets: `{key}: [...]`."
            )
    return plain


def _check(path: Path, declaration: Any, earlier: Sequence[dict[str, Any]]) -> None:
    if not isinstance(declaration, dict):
        raise ConfigError(
            f"{path}: the detector {declaration!r} is invalid; expected a mapping.",
            fix="Declare a detector with a name, and a pattern or a function.",
        )
    name = declaration.get("name")
    if name is not None and name in {detector.get("name") for detector in earlier}:
        raise ConfigError(f"{path}: two detectors have the name {name!r}.", fix="Rename one of the two detectors.")
