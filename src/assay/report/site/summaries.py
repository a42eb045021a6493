"""Define summaries of sweeps and verdicts for the site, and the interface that supplies them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from assay.config.mixes import Mix
    from assay.config.sources import Source


class SweepMember(NamedTuple):
    """A run that a sweep requires.

    Attributes:
        mix: name of the arm.
        seed: seed of the replicate.
        fingerprint: fingerprint of the run; None while the run is unresolved.
    """

    mix: str
    seed: int
    fingerprint: str | None


@dataclass(frozen=True, kw_only=True)
class SweepSummary:
    """A sweep as submitted, or as declared if it was never submitted."""

    name: str
    question: str = ""
    baseline: str = ""
    candidates: tuple[str, ...] = ()
    seeds: tuple[int, ...] = ()
    proxy: str = ""
    tokens: int = 0
    """Number of tokens of each run."""
    policy: str = ""
    members: tuple[SweepMember, ...] = ()
    created: float | None = None
    """Time of the first submission in seconds since the epoch; None if never submitted."""
    problem: str = ""
    """Reason why the sweep cannot be resolved on this machine."""

    @property
    def mixes(self) -> tuple[str, ...]:
        """The baseline, then the candidates."""
        return (self.baseline, *self.candidates) if self.baseline else ()


class CandidateSummary(NamedTuple):
    """The gate's decision on one candidate.

    Attributes:
        name: the mix.
        decision: ACCEPT, REJECT, INCONCLUSIVE or BLOCKED.
        reasons: the reasons as text, the most important first.
    """

    name: str
    decision: str
    reasons: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class VerdictSummary:
    """The verdict on a sweep from its finished runs."""

    sweep: str
    decision: str
    """Decision on the sweep; `NO VERDICT` if no comparison was possible."""
    headline: str = ""
    """Candidates of each decision; empty for a single candidate."""
    candidates: tuple[CandidateSummary, ...] = ()
    policy: str = ""
    registration: str = ""
    """Relation of the verdict's rules to the registered rules."""
    marked: bool = False
    """Whether every display of the decision must state the registration."""
    when: float | None = None
    """End of the last run in seconds since the epoch."""
    finished: int = 0
    runs: int = 0
    scale: str = ""
    """Proxy, token budget and evaluation. Scores are comparable only within one scale."""
    weights: Mapping[str, float] = field(default_factory=dict)
    """Weights of the baseline by source."""
    scores: Mapping[tuple[str, str], float] = field(default_factory=dict)
    """Mean scores of the baseline by task and metric."""
    problem: str = ""
    """Reason why there is no verdict; empty with a verdict."""

    @property
    def decided(self) -> bool:
        """Whether every candidate was accepted or rejected."""
        return bool(self.candidates) and all(
            candidate.decision in ("ACCEPT", "REJECT") for candidate in self.candidates
        )


@dataclass(frozen=True, kw_only=True)
class DataCatalog:
    """Sources and mixes that the project declares."""

    sources: Mapping[str, Source] = field(default_factory=dict)
    mixes: Mapping[str, Mix] = field(default_factory=dict)
    unresolved: Mapping[str, str] = field(default_factory=dict)
    """Error text of each mix whose weights cannot be resolved."""


class ProjectView(Protocol):
    """A read-only view of a project. Methods return the state computed so far, without waiting."""

    def sweeps(self) -> Mapping[str, SweepSummary]:
        """Return all sweeps by name."""

    def catalog(self) -> DataCatalog:
        """Return all sources and mixes."""

    def verdict(self, sweep: str) -> tuple[VerdictSummary | None, bool]:
        """Return a sweep's latest verdict, and whether the verdict is current.

        The view recomputes an outdated verdict.
        """

    def page(self, sweep: str) -> str | None:
        """Return the sweep's report as HTML; None while the report is being rendered.

        Raises:
            AssayError: the report cannot be rendered.
        """
