"""What a page shows beyond the records of the runs: looks on the way, flipped questions, tokens to match, findings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from assay.curves import Matches
    from assay.effects import Ranks
    from assay.publish.flips import Flips
    from assay.references import ReferenceScore


@dataclass(frozen=True, kw_only=True)
class LookShown:
    """One metric of one run at one point of its training."""

    mix: str
    seed: int
    tokens: int
    task: str
    metric: str
    value: float


@dataclass(frozen=True, kw_only=True)
class FindingShown:
    """A defect that an audit found in a source, as plain values."""

    source: str
    detector: str
    severity: str
    share: float | None
    """Of the source's documents."""
    message: str
    tainting: bool = False
    """Whether it keeps the source from being trained on."""


@dataclass(frozen=True, kw_only=True)
class Details:
    """All of it; where nothing is known, nothing is shown."""

    looks: tuple[LookShown, ...] = ()
    """Of runs that were looked at more than once; the end is the last one."""
    flips: tuple[Flips, ...] = ()
    matches: Matches | None = None
    published: tuple[ReferenceScore, ...] = ()
    """Reference models' scores that the sweep's may be set beside."""
    bytes_per_token: Mapping[str, float] = field(default_factory=dict)
    """By source; turns nats a token into bits a byte."""
    findings: tuple[FindingShown, ...] = ()
    ranks: Ranks | None = None
