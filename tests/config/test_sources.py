"""Clearance: nothing is trained on that nobody cleared."""

from __future__ import annotations

import pytest

from assay.config.reason import Code, Reason
from assay.config.sources import Clearance, ClearanceState, Source
from assay.core.errors import AssayError, ConfigError


def source(**changes: object) -> Source:
    return Source(**{"name": "a", "files": ("x",), "domain": "web", "language": "en", "license": "MIT", **changes})  # type: ignore[arg-type]


CLEARED = Clearance(state="cleared", by="the board")


def test_a_cleared_source_without_a_license_is_pending() -> None:
    assert source(license=None, clearance=CLEARED).refusal == Reason(
        code=Code.SOURCE_PENDING, subject="a", figures={"license": None}
    )


def test_a_cleared_source_with_a_license_may_be_used_for_training() -> None:
    assert source(clearance=CLEARED).refusal is None


def test_a_source_without_a_decision_is_pending() -> None:
    refusal = source().refusal
    assert refusal is not None
    assert refusal.code is Code.SOURCE_PENDING
    assert refusal.figures["license"]


def test_a_blocked_source_reports_who_decided_and_the_reference() -> None:
    blocked = Clearance(state="blocked", by="legal", reference="T-1")
    assert source(clearance=blocked).refusal == Reason(
        code=Code.SOURCE_BLOCKED, subject="a", figures={"by": "legal", "reference": "T-1"}
    )


def test_a_clearance_needs_a_name() -> None:
    with pytest.raises(AssayError, match="`cleared` is invalid without `by`"):
        Clearance(state="cleared")


@pytest.mark.parametrize(
    ("digest", "refused"),
    [("8b2fad5168c3" + "0" * 52, False), ("8b2fad5168c4" + "0" * 52, True), (None, False)],
    ids=["covered", "another version", "files are missing"],
)
def test_a_clearance_can_cover_one_version_of_the_text(digest: str | None, refused: bool) -> None:
    clearance = Clearance(state="cleared", by="A. Person", version="8b2fad5168c3")
    refusal = source(clearance=clearance).refuse(digest)
    assert (refusal is not None) == refused
    if refusal is not None:
        assert refusal.code is Code.SOURCE_PENDING
        assert refusal.figures["covered"] == "8b2fad5168c3"


@pytest.mark.parametrize("state", ["pending", "blocked"])
def test_a_version_clears_nothing_by_itself(state: ClearanceState) -> None:
    pinned = source(clearance=Clearance(state=state, version="8b2fad5168c3"))
    assert pinned.refusal is not None
    assert pinned.refuse("8b2fad5168c3" + "0" * 52) == pinned.refusal


@pytest.mark.parametrize("version", ["", "8b2fad5", "8B2FAD5168C3", "latest", "0" * 65])
def test_a_version_is_the_beginning_of_a_digest(version: str) -> None:
    with pytest.raises(ConfigError, match="version"):
        Clearance(state="cleared", by="A. Person", version=version)
