"""What exists: sources of text, where they came from, and whether they may be used."""

from __future__ import annotations

import datetime
import re
from dataclasses import dataclass
from typing import Literal

from assay.errors import AssayError

ClearanceState = Literal["cleared", "pending", "blocked"]
Format = Literal["auto", "jsonl", "parquet", "text"]

NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,499}", re.IGNORECASE)
"""Names become folders, W&B tags and HTML: letters, digits, `_`, `.` and `-` only."""


def check_name(kind: str, name: str, *, made: str = "") -> None:
    """Refuse a name that could not be a file's name.

    Args:
        kind: of the thing.
        name: its name.
        made: characters that names of ours may have beside those that people choose from.

    Raises:
        AssayError: with the kind of thing, the name and what is allowed.
    """
    if not NAME.fullmatch(name[:1] + name[1:].translate(dict.fromkeys(map(ord, made), "-"))):
        raise AssayError(
            f"{kind} {name!r}: not a usable name.",
            fix="Use letters, digits, '_', '.' and '-', at most 500, beginning with a letter or digit.",
        )


@dataclass(frozen=True, kw_only=True)
class Clearance:
    """Whether a source may be trained on, and who says so."""

    state: ClearanceState
    by: str | None = None
    """The person or board that decided."""
    date: datetime.date | None = None
    """When. Not called `on`, which YAML reads as true."""
    reference: str | None = None
    """Where the decision can be read: a ticket, a licence file, a contract."""

    def __post_init__(self) -> None:
        if self.state == "cleared" and not self.by:
            raise AssayError("clearance: `cleared` needs `by`.", fix="Say who cleared the source, when and where.")


PENDING = Clearance(state="pending")

VERSION_DIGITS = 8
"""A waiver names at least so many digits of the version that it is for: no two versions share them by chance."""


@dataclass(frozen=True, kw_only=True)
class Waiver:
    """A named person's word that one version of a source may be trained on in spite of a defect."""

    detector: str
    """What found the defect."""
    version: str
    """The first digits of the source's digest, as the refusal shows them. A later version needs a waiver of its own."""
    by: str
    date: datetime.date
    reason: str

    def __post_init__(self) -> None:
        if not re.fullmatch(rf"[0-9a-f]{{{VERSION_DIGITS},64}}", self.version):
            raise AssayError(
                f"waiver of {self.detector}: version {self.version!r} is not the beginning of a source's digest.",
                fix=f"Give at least {VERSION_DIGITS} hexadecimal digits, in quotes, as `assay plan` shows them.",
            )
        for name, value in (("by", self.by), ("reason", self.reason)):
            if not value.strip():
                raise AssayError(f"waiver of {self.detector}: `{name}` is empty.", fix="Say who waives it, and why.")


@dataclass(frozen=True, kw_only=True)
class Source:
    """A named corpus: where its documents are, and what is known of them."""

    name: str
    files: tuple[str, ...]
    """Globs or fsspec URLs; compression is told from the name's ending."""
    format: Format = "auto"
    text_field: str = "text"
    """The field (JSONL) or column (Parquet) that holds the document's text."""
    domain: str
    language: str
    tags: tuple[str, ...] = ()
    snapshot: datetime.date | None = None
    """The day on which the text was taken from where it came from."""
    licence: str | None
    """An SPDX expression, such as `BSD-3-Clause` or `LicenseRef-our-contract`."""
    clearance: Clearance = PENDING
    originals: str | None = None
    """The folder or URL of the original (raw) documents."""
    origin: str | None = None
    """Where the text was taken from: a crawl and its filter, a dump's URL, a contract."""
    processing: str | None = None
    """What made these files of the originals, with its version: `resiliparse 0.15, dedup 3`."""
    description: str = ""
    repairs: str | None = None
    """The source of which this is a repaired version."""
    waivers: tuple[Waiver, ...] = ()
    """Defects that an audit found and that may stand, by who says so."""

    def __post_init__(self) -> None:
        check_name("source", self.name)
        if not self.files:
            raise AssayError(f"source {self.name!r}: `files` is empty.", fix="Give at least one path, glob or URL.")

    @property
    def effective_clearance(self) -> ClearanceState:
        """The clearance that counts: without a stated licence nothing is cleared."""
        if self.clearance.state == "cleared" and not self.licence:
            return "pending"
        return self.clearance.state

    @property
    def refusal(self) -> str | None:
        """Why the source may not be trained on, or ``None`` where it may."""
        state = self.effective_clearance
        if state == "cleared":
            return None
        if state == "blocked":
            who = f" by {self.clearance.by}" if self.clearance.by else ""
            where = f" ({self.clearance.reference})" if self.clearance.reference else ""
            return f"source {self.name!r} is blocked{who}{where}"
        reason = "no licence is stated" if not self.licence else "nobody has cleared it"
        return f"source {self.name!r} is pending: {reason}"
