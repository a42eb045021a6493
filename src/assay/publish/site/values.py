"""What the site shows beside the runs' own records, and who tells it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from assay.mixes import Mix
    from assay.sources import Source


class Place(NamedTuple):
    """A run's place in a sweep.

    Attributes:
        mix: its arm.
        seed: its replicate.
        fingerprint: its identity; None where it is not known yet.
    """

    mix: str
    seed: int
    fingerprint: str | None


@dataclass(frozen=True, kw_only=True)
class SweepKnown:
    """A sweep as it was submitted, or else as it is declared."""

    name: str
    question: str = ""
    baseline: str = ""
    candidates: tuple[str, ...] = ()
    seeds: tuple[int, ...] = ()
    proxy: str = ""
    tokens: int = 0
    """Budget of a run."""
    policy: str = ""
    places: tuple[Place, ...] = ()
    created: float | None = None
    """Seconds since the epoch of its first submission; ``None`` where it was never submitted."""
    problem: str = ""
    """Why it cannot be resolved on this machine."""

    @property
    def mixes(self) -> tuple[str, ...]:
        """The baseline, then the candidates."""
        return (self.baseline, *self.candidates) if self.baseline else ()


class CandidateJudged(NamedTuple):
    """What the gate says of one candidate.

    Attributes:
        name: the mix.
        decision: ACCEPT, REJECT, INCONCLUSIVE or BLOCKED.
        reasons: why, the most important first.
    """

    name: str
    decision: str
    reasons: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Judged:
    """What a sweep came to, as far as it is finished."""

    sweep: str
    decision: str
    """`NOT JUDGED` where nothing could be compared."""
    candidates: tuple[CandidateJudged, ...] = ()
    policy: str = ""
    standing: str = ""
    """How the rule stands to what was registered."""
    marked: bool = False
    """Whether that has to be said wherever the decision is."""
    when: float | None = None
    """Seconds since the epoch at which its last run ended."""
    finished: int = 0
    runs: int = 0
    scale: str = ""
    """Proxy, budget and evaluation: scores are comparable where these are the same."""
    weights: Mapping[str, float] = field(default_factory=dict)
    """The baseline's, by source."""
    scores: Mapping[tuple[str, str], float] = field(default_factory=dict)
    """The baseline's means by task and metric."""
    problem: str = ""
    """Why it could not be judged."""

    @property
    def settled(self) -> bool:
        """Whether every candidate was accepted or rejected."""
        return bool(self.candidates) and all(one.decision in ("ACCEPT", "REJECT") for one in self.candidates)


@dataclass(frozen=True, kw_only=True)
class Catalogue:
    """What is declared."""

    sources: Mapping[str, Source] = field(default_factory=dict)
    mixes: Mapping[str, Mix] = field(default_factory=dict)
    unresolved: Mapping[str, str] = field(default_factory=dict)
    """Mixes whose weights cannot be told, and why."""


class Desk(Protocol):
    """Who knows what is declared and judges what is finished; answers at once with what is known so far."""

    def sweeps(self) -> Mapping[str, SweepKnown]:
        """All sweeps, by name."""

    def catalogue(self) -> Catalogue:
        """All sources and mixes."""

    def judged(self, sweep: str) -> tuple[Judged | None, bool]:
        """The last judgement of a sweep, and whether nothing has changed since; if it has, another one is begun."""

    def page(self, sweep: str) -> str | None:
        """The sweep's page; ``None`` while it is being made.

        Raises:
            AssayError: it cannot be made, and why.
        """
