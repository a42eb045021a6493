"""Define the content of one W&B run as plain values, which processes exchange as JSON."""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from assay.config.settings import JobType
from assay.core.fingerprint import fingerprint
from assay.core.serde import to_mapping
from assay.report import formatting
from assay.report.model import finite

if TYPE_CHECKING:
    from assay.config.settings import Tracking

TAG, NAME, TITLE, NOTES = 64, 128, 64, 4000
"""Maximum characters of tags, names and alert titles that W&B accepts, and of readable notes."""

STEP = "tokens"
"""Name of the x axis of every curve."""

INTERIM = "interim"
"""Prefix of interim scores. Their x axis is `interim/tokens`, because W&B accepts no record for an earlier step."""

Level = Literal["INFO", "WARN", "ERROR"]


@dataclass(frozen=True, kw_only=True)
class WandbTable:
    """A table of a W&B run."""

    columns: tuple[str, ...]
    rows: list[list[Any]]
    """Rows of text, numbers, booleans or None. `{"run": id}` becomes the URL of that run."""


@dataclass(frozen=True, kw_only=True)
class Artifact:
    """A version of an input or output of a run, with or without its files."""

    name: str
    type: Literal["source", "corpus", "mix", "checkpoint", "evaluation", "comparison", "verdict"]
    description: str
    metadata: dict[str, Any]
    """Identity, digests and the names of the artifact's inputs. Equal metadata means the same version."""
    files: dict[str, str] = field(default_factory=dict)
    """Paths of files to upload, by their names in the artifact."""


@dataclass(frozen=True, kw_only=True)
class Alert:
    """A notification that W&B sends to users once."""

    title: str
    text: str
    level: Level

    @property
    def key(self) -> str:
        """Digest of the alert, which marker files record when the alert was raised."""
        return fingerprint("alert", to_mapping(self))[:16]


@dataclass(frozen=True, kw_only=True)
class Content:
    """One W&B run in plain values."""

    id: str
    name: str
    group: str
    job_type: JobType
    tags: tuple[str, ...]
    notes: str
    config: dict[str, Any]
    summary: dict[str, Any]
    history: list[tuple[int, dict[str, float]]] = field(default_factory=list)
    """Steps with their records."""
    tables: dict[str, WandbTable] = field(default_factory=dict)
    figures: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Plotly's `data` and `layout`."""
    uses: tuple[Artifact, ...] = ()
    makes: tuple[Artifact, ...] = ()
    alerts: tuple[Alert, ...] = ()
    sweep: str | None = None
    """Id of the W&B sweep (W&B's own feature) of the run; None without a W&B sweep."""
    failed: bool = False

    def digest(self, settings: Tracking) -> str:
        """Return the digest of the content and its destination."""
        return fingerprint("wandb", {**to_mapping(self), "to": [settings.entity, settings.project]})


def wandb_id(identity: str) -> str:
    """Return the W&B id for a fingerprint."""
    return identity[:32]


def cell(value: Any) -> Any:
    """Convert a value to a table cell: text, a finite number, a boolean or None."""
    if value is None or isinstance(value, (bool, int, str)):
        return value
    return finite(value)


def rows_of(records: Sequence[Any], columns: Sequence[str]) -> list[list[Any]]:
    """Return a row per record, from a mapping's values or an object's attributes."""
    return [
        [cell(record.get(column) if isinstance(record, Mapping) else getattr(record, column)) for column in columns]
        for record in records
    ]


def day(seconds: float | None) -> str:
    """Format a Unix time as a date prefix such as `261123`; `undated` for None."""
    return "undated" if not seconds else datetime.datetime.fromtimestamp(seconds, datetime.UTC).strftime("%y%m%d")


def tags(names: Sequence[str]) -> tuple[str, ...]:
    """Return the non-empty tags without duplicates, truncated to W&B's length."""
    return tuple(dict.fromkeys(clipped(name, TAG) for name in names if name))


def clipped(name: str, length: int = NAME) -> str:
    """Truncate a name to W&B's length.

    A digest of the full name keeps truncated names unique.
    """
    if len(name) <= length:
        return name
    return formatting.shortened(name, length - 9) + "-" + fingerprint("name", name)[:8]


def artifact_name(*parts: str) -> str:
    """Return a valid artifact name of ASCII letters, digits and `_.-`.

    A digest keeps changed names unique.

    >>> artifact_name("mix", "web_and_github")
    'mix-web_and_github'
    """
    whole = "-".join(parts)
    plain = re.sub(r"[^A-Za-z0-9_.-]", "-", whole)
    return whole if plain == whole and len(whole) <= NAME else f"{plain[: NAME - 9]}-{fingerprint('name', whole)[:8]}"


def noted(text: str) -> str:
    """Truncate notes to a readable length."""
    return text if len(text) <= NOTES else text[: NOTES - 1] + "\N{HORIZONTAL ELLIPSIS}"


def alert(title: str, text: str, level: Level) -> Alert:
    """Return an alert, truncated to W&B's lengths."""
    return Alert(title=clipped(title, TITLE), text=noted(text), level=level)
