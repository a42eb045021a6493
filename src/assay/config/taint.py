"""Define the conditions under which findings exclude a source from training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from assay.config.sources import Source
from assay.core.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class TaintRule:
    """Conditions under which a source may not be used for training."""

    severity: Literal["low", "medium", "high", "never"]
    """Minimum severity of an audit finding that blocks a source. With `never`, no finding blocks."""
    fraction: float
    """Minimum fraction of a source's documents that have the finding. A finding below this fraction does not block."""
    provenance: tuple[Literal["origin", "snapshot", "processing"], ...] = ()
    """Facts that each source must declare, in addition to license and clearance."""

    def __post_init__(self) -> None:
        if not 0 <= self.fraction <= 1:
            raise ConfigError(
                f"taint: `fraction` {self.fraction} is invalid; expected a fraction of documents from 0 to 1.",
                fix="Set `fraction` to a number from 0 to 1.",
            )

    def unstated(self, source: Source) -> list[str]:
        """Return the required facts that a source does not declare."""
        return [name for name in self.provenance if not getattr(source, name)]
