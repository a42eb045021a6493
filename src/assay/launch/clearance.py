"""Return a source's current clearance at the start of a run.

The result includes decisions since the submission.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from assay.config.search_path import config_roots, find_config
from assay.config.sources import Clearance
from assay.core.errors import ConfigError
from assay.core.serde import from_mapping

if TYPE_CHECKING:
    from assay.config.sources import Source


def source_now(source: Source, root: Path, *, since: float) -> Source:
    """Return a source with its current license and clearance.

    Args:
        source: the source as it was submitted.
        root: folder of the project. The project's file of the source applies if it was changed after the submission.
            Otherwise the submitted source applies, because a command-line override may have cleared it.
        since: time of the submission, in seconds since the Unix epoch.

    Raises:
        AssayError: the changed file has no valid license or clearance.
    """
    from assay.config.yaml_file import read_yaml

    path = find_config(config_roots(root), "source", source.name)
    if path is None or (path.exists() and path.stat().st_mtime <= since):
        return source
    try:
        plain = read_yaml(path)
    except ConfigError as error:
        raise ConfigError(error.what, fix="Correct the file, then submit the sweep again.") from None
    if not isinstance(plain.get("license"), str | None):
        raise ConfigError(
            f"{path}: license is missing or invalid; expected an SPDX identifier or null.",
            fix="Correct the file, then submit the sweep again.",
        )
    decided = from_mapping(Clearance, plain.get("clearance") or {"state": "pending"}, where=f"{path}: clearance")
    return replace(source, license=plain.get("license"), clearance=decided)
