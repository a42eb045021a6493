"""What W&B is told of one run of its own, in plain values that go between processes as JSON."""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from assay.fingerprint import fingerprint
from assay.publish import words
from assay.publish.report import finite
from assay.structure import to_mapping

if TYPE_CHECKING:
    from assay.settings import Tracking

TAG, NAME, TITLE, NOTES = 64, 128, 64, 4000
"""The longest tags, names and titles of alerts that W&B takes; and the longest notes that anybody reads."""

STEP = "tokens"
"""The axis of every curve."""

LOOKS = "looks"
"""What scores by tokens begin with; their axis is `looks/tokens`, as W&B has no place for them at their own step."""

JobType = Literal["train", "eval", "prepare", "compare", "gate", "audit"]
Level = Literal["INFO", "WARN", "ERROR"]


@dataclass(frozen=True, kw_only=True)
class Table:
    """Rows for W&B."""

    columns: tuple[str, ...]
    rows: list[list[Any]]
    """Text, numbers, booleans and nothing; `{"run": id}` becomes the address of that run."""


@dataclass(frozen=True, kw_only=True)
class Artifact:
    """A version of a thing that runs take in or bring out: its record, and not necessarily its bytes."""

    name: str
    type: Literal["source", "corpus", "mix", "checkpoint", "evaluation", "comparison", "verdict"]
    description: str
    metadata: dict[str, Any]
    """Identity, digests, and the names of what it was made of; the same metadata is the same version."""
    files: dict[str, str] = field(default_factory=dict)
    """Paths of files to upload with it, by their names there."""


@dataclass(frozen=True, kw_only=True)
class Alert:
    """What somebody who does not look is to be told; once."""

    title: str
    text: str
    level: Level

    @property
    def key(self) -> str:
        """By which it is known to have been raised."""
        return fingerprint("alert", to_mapping(self))[:16]


@dataclass(frozen=True, kw_only=True)
class Content:
    """One run as W&B shows it, in plain values."""

    id: str
    name: str
    group: str
    job_type: JobType
    tags: tuple[str, ...]
    notes: str
    config: dict[str, Any]
    summary: dict[str, Any]
    history: list[tuple[int, dict[str, float]]] = field(default_factory=list)
    """Records by step."""
    tables: dict[str, Table] = field(default_factory=dict)
    figures: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Plotly's `data` and `layout`."""
    uses: tuple[Artifact, ...] = ()
    makes: tuple[Artifact, ...] = ()
    alerts: tuple[Alert, ...] = ()
    sweep: str | None = None
    """A sweep of W&B's own that the run belongs to."""
    failed: bool = False

    def digest(self, settings: Tracking) -> str:
        """Identity of all that is shown and of where it is shown."""
        return fingerprint("wandb", {**to_mapping(self), "to": [settings.entity, settings.project]})


def wandb_id(identity: str) -> str:
    """The id in W&B of what has this fingerprint."""
    return identity[:32]


def cell(value: Any) -> Any:
    """A table's cell: W&B takes text, numbers, booleans and nothing."""
    if value is None or isinstance(value, (bool, int, str)):
        return value
    return finite(value)


def rows_of(things: Sequence[Any], columns: Sequence[str]) -> list[list[Any]]:
    """A row for each thing, out of its attributes or, of a mapping, its values."""
    return [
        [cell(thing.get(column) if isinstance(thing, Mapping) else getattr(thing, column)) for column in columns]
        for thing in things
    ]


def day(seconds: float | None) -> str:
    """A date as names begin with it, `261123`; `undated` where there is none."""
    return "undated" if not seconds else datetime.datetime.fromtimestamp(seconds, datetime.UTC).strftime("%y%m%d")


def tags(names: Sequence[str]) -> tuple[str, ...]:
    """Each once, none too long for W&B."""
    return tuple(dict.fromkeys(clipped(name, TAG) for name in names if name))


def clipped(name: str, length: int = NAME) -> str:
    """A name that W&B takes; what is cut is told apart by a digest of the whole."""
    if len(name) <= length:
        return name
    return words.shortened(name, length - 9) + "-" + fingerprint("name", name)[:8]


def artifact_name(*parts: str) -> str:
    """A name that W&B takes for an artifact: it has only plain letters; what is changed is told apart by a digest.

    >>> artifact_name("mix", "web_and_github")
    'mix-web_and_github'
    """
    whole = "-".join(parts)
    plain = re.sub(r"[^A-Za-z0-9_.-]", "-", whole)
    return whole if plain == whole and len(whole) <= NAME else f"{plain[: NAME - 9]}-{fingerprint('name', whole)[:8]}"


def noted(text: str) -> str:
    """Notes of a length that is read."""
    return text if len(text) <= NOTES else text[: NOTES - 1] + "\N{HORIZONTAL ELLIPSIS}"


def alert(title: str, text: str, level: Level) -> Alert:
    """An alert that W&B takes."""
    return Alert(title=clipped(title, TITLE), text=noted(text), level=level)
