"""Whether a source may still be trained on when a run's turn comes: what was decided since it was submitted counts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from assay.errors import AssayError
from assay.roots import config_roots
from assay.sources import Clearance
from assay.structure import from_mapping

if TYPE_CHECKING:
    from assay.sources import Source


def refusal_now(source: Source, root: Path, *, since: float) -> str | None:
    """Why a source may not be trained on any more, or ``None`` where it may.

    Args:
        source: as it was submitted.
        root: the project's folder. The source's file there counts if it was changed after the submission; what was
            submitted does otherwise, as it may have been cleared on the command line.
        since: when it was submitted, in seconds since the epoch.

    Raises:
        AssayError: the file was changed, and does not say any more who may use the source.
    """
    import yaml

    files = [folder / "conf" / "source" / f"{source.name}.yaml" for folder in config_roots(root)]
    path = next((file for file in files if file.is_file()), None)
    if path is None or path.stat().st_mtime <= since:
        return source.refusal
    try:
        plain = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise AssayError(f"{path} cannot be read: {error}", fix="Mend it, and submit again.") from None
    if not isinstance(plain, dict) or not isinstance(plain.get("licence"), str | None):
        raise AssayError(f"{path}: says nothing of a licence that could be read.", fix="Mend it, and submit again.")
    decided = from_mapping(Clearance, plain.get("clearance") or {"state": "pending"}, where=f"{path}: clearance")
    return replace(source, licence=plain.get("licence"), clearance=decided).refusal
