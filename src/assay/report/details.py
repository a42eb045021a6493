"""Define the details of a sweep's page that are not in the records of runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from assay.analysis.breakdowns import Ranks
    from assay.analysis.tokens_to_match import Matches
    from assay.config.references import ReferenceScore
    from assay.report.flips import Flips


@dataclass(frozen=True, kw_only=True)
class InterimScore:
    """One metric of one run at an intermediate checkpoint or at its end."""

    mix: str
    seed: int
    tokens: int
    task: str
    metric: str
    value: float


@dataclass(frozen=True, kw_only=True)
class FindingShown:
    """A defect that an audit detected in a source, as plain values."""

    source: str
    detector: str
    severity: str
    fraction: float | None
    """Fraction of the source's documents with the defect."""
    message: str
    tainting: bool = False
    """Whether the finding blocks training on the source."""


@dataclass(frozen=True, kw_only=True)
class Details:
    """All details of a page. The page omits sections without data."""

    interim_scores: tuple[InterimScore, ...] = ()
    """Scores of runs with interim evaluations, including final scores."""
    flips: tuple[Flips, ...] = ()
    matches: Matches | None = None
    published: tuple[ReferenceScore, ...] = ()
    """Scores of reference models with which the page compares the sweep."""
    bytes_per_token: Mapping[str, float] = field(default_factory=dict)
    """Mean bytes per token by source, to convert nats per token to bits per byte."""
    findings: tuple[FindingShown, ...] = ()
    ranks: Ranks | None = None
