"""Declare sources: location, provenance, clearance and waivers."""

from __future__ import annotations

import datetime
import re
from dataclasses import dataclass
from typing import Literal

from assay.config.reason import Code, Reason
from assay.core.errors import ConfigError

ClearanceState = Literal["cleared", "pending", "blocked"]
Format = Literal["auto", "jsonl", "parquet", "arrow", "text"]
SourceRole = Literal["training", "validation"]

NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,499}", re.IGNORECASE)
"""Pattern of names, which become folders, W&B tags and HTML. Valid are letters, digits, `_`, `.` and `-`."""


def check_name(kind: str, name: str, *, extra: str = "") -> None:
    """Raise an error for a name that is not a valid file name.

    Args:
        kind: kind of the named object, for the message.
        name: the name to check.
        extra: additional valid characters, for names that assay generates.

    Raises:
        ConfigError: the name is invalid.
    """
    if not NAME.fullmatch(name[:1] + name[1:].translate(dict.fromkeys(map(ord, extra), "-"))):
        raise ConfigError(
            f"{kind}: name {name!r} is invalid; expected at most 500 letters, digits, '_', '.' and '-', with a letter or digit"
            " first.",
            fix=f"Rename the {kind}.",
        )


VERSION_DIGITS = 8
"""Minimum number of digits of a version; two versions with the same digits are improbable."""


def check_version(where: str, version: str) -> None:
    """Refuse a version that is not the beginning of a digest.

    Raises:
        ConfigError: the version is too short or not hexadecimal.
    """
    if not re.fullmatch(rf"[0-9a-f]{{{VERSION_DIGITS},64}}", version):
        raise ConfigError(
            f"{where}: `version` {version!r} is invalid; expected the first {VERSION_DIGITS} to 64 hexadecimal digits of the"
            " source's digest.",
            fix="Copy the digits from `assay plan`, in quotes.",
        )


@dataclass(frozen=True, kw_only=True)
class Clearance:
    """Decision whether a source may be used for training."""

    state: ClearanceState
    """`cleared` permits training on the source. `pending` and `blocked` forbid it."""
    by: str | None = None
    """Person or board that decided. Required if `state` is `cleared`."""
    date: datetime.date | None = None
    """Date of the decision."""
    reference: str | None = None
    """Document with the decision, such as a ticket, a license file or a contract."""
    version: str | None = None
    """The only version that `cleared` covers: the first 8 or more digits of the source's digest. Other versions are
    pending."""

    def __post_init__(self) -> None:
        if self.version is not None:
            check_version("clearance", self.version)
        if self.state == "cleared" and not self.by:
            raise ConfigError(
                "clearance: state `cleared` is invalid without `by`; expected the person or board that decided.",
                fix="Name that person or board in `by`.",
            )


PENDING = Clearance(state="pending")
"""Clearance of a source that declares no clearance."""


@dataclass(frozen=True, kw_only=True)
class Waiver:
    """Acceptance of one defect in one version of a source by a named person."""

    detector: str
    """Detector that reported the defect."""
    version: str
    """First 8 to 64 digits of the source's digest, as `assay plan` prints it. A later version of the source needs a new waiver."""
    by: str
    """Person who accepts the defect."""
    date: datetime.date
    """Date of the waiver."""
    reason: str
    """Reason why training on the defect is acceptable."""

    def __post_init__(self) -> None:
        check_version(f"waiver of {self.detector}", self.version)
        for name, value in (("by", self.by), ("reason", self.reason)):
            if not value.strip():
                raise ConfigError(
                    f"waiver of {self.detector}: `{name}` is empty; expected text.",
                    fix="Name the person who accepts the defect in `by`, and the reason in `reason`.",
                )


@dataclass(frozen=True, kw_only=True)
class Source:
    """A named set of documents: their location, and facts about them."""

    name: str
    """Name of the source in mixes and commands. The name also determines the order of the documents."""
    files: tuple[str, ...]
    """Paths, globs or fsspec URLs of the files. Globs skip hidden and temporary files; a listed path is always read."""
    format: Format = "auto"
    """Format of the files. `auto` uses the file extension, or the content if a file has no known extension."""
    text_field: str = "text"
    """Field (JSONL) or column (Parquet, Arrow) that contains the text of a document. A dot selects a nested field."""
    separator: str | None = None
    """Text between two documents of a plain text file, such as `"\\n%%\\n"`. Without it, each file is one document."""
    domain: str
    """Kind of text, such as `web` or `code`. Edits of mixes and breakdowns select sources by domain."""
    role: SourceRole = "training"
    """Use of the source. No mix may train on a source with the role `validation`. Every run is scored on the held-out
    documents of such a source (task `validation/NAME`). This metric measures all mixes equally, so it may be primary."""
    language: str
    """Language of the text, such as `en`, or the value `code` for program code. The audit reports documents in another
    language, if its language detector supports the declared language."""
    tags: tuple[str, ...] = ()
    """Labels of your choice. Edits of mixes and the site select sources by tag."""
    snapshot: datetime.date | None = None
    """Date on which the text was collected."""
    license: str | None
    """License of the text as an SPDX expression, such as `BSD-3-Clause` or `LicenseRef-our-contract`. A source without
    a license (null) is pending."""
    clearance: Clearance = PENDING
    """Decision whether the source may be used for training."""
    originals: str | None = None
    """Folder or URL of the original (raw) documents."""
    origin: str | None = None
    """Origin of the text, such as a crawl and its filter, the URL of a dump, or a contract."""
    processing: str | None = None
    """Programs and versions that made the files from the originals, such as `resiliparse 0.15, dedup 3`."""
    description: str = ""
    """Description that pages show."""
    repairs: str | None = None
    """Name of the original source, if this source is a repaired version."""
    waivers: tuple[Waiver, ...] = ()
    """Waivers. Each waiver accepts one defect in one version of the source."""

    def __post_init__(self) -> None:
        check_name("source", self.name)
        if not self.files:
            raise ConfigError(
                f"source {self.name!r}: `files` is empty; expected at least one path, glob or URL.",
                fix="Add a path, glob or URL to `files`.",
            )
        for file in self.files:
            if not file.strip() or "\0" in file:
                raise ConfigError(
                    f"source {self.name!r}: `files` contains {file!r}; expected a path, glob or URL.",
                    fix="Remove this entry.",
                )
        if self.separator is not None and (not self.separator or self.format not in ("auto", "text")):
            problem = f"requires plain text, not {self.format}" if self.separator else "is empty"
            raise ConfigError(
                f"source {self.name!r}: `separator` {problem}.",
                fix="Remove `separator`, or set `separator` to the text between documents.",
            )

    @property
    def effective_clearance(self) -> ClearanceState:
        """The effective clearance. A cleared source without a license counts as pending."""
        if self.clearance.state == "cleared" and not self.license:
            return "pending"
        return self.clearance.state

    @property
    def refusal(self) -> Reason | None:
        """The reason why training may not use the source; None if training may use it."""
        state = self.effective_clearance
        if state == "cleared":
            return None
        if state == "blocked":
            figures = {"by": self.clearance.by, "reference": self.clearance.reference}
            return Reason(code=Code.SOURCE_BLOCKED, subject=self.name, figures=figures)
        return Reason(code=Code.SOURCE_PENDING, subject=self.name, figures={"license": self.license})

    def refuse(self, digest: str | None) -> Reason | None:
        """Return the reason why a version of the source may not be used for training, or ``None`` if it may.

        Args:
            digest: digest of the version; ``None`` if the digest is unknown because the files are missing.
        """
        covered = self.clearance.version
        if self.refusal is not None or covered is None or digest is None or digest.startswith(covered):
            return self.refusal
        figures = {"license": self.license, "covered": covered, "digest": digest}
        return Reason(code=Code.SOURCE_PENDING, subject=self.name, figures=figures)
