"""Clearance: nothing is trained on that nobody cleared."""

from __future__ import annotations

import pytest

from assay.errors import AssayError
from assay.sources import Clearance, Source


def source(**changes: object) -> Source:
    return Source(**{"name": "a", "files": ("x",), "domain": "web", "language": "en", "licence": "MIT", **changes})  # type: ignore[arg-type]


CLEARED = Clearance(state="cleared", by="the board")


def test_without_a_stated_licence_a_cleared_source_is_pending() -> None:
    assert source(licence=None, clearance=CLEARED).refusal == "source 'a' is pending: no licence is stated"


def test_a_cleared_source_with_a_licence_may_be_trained_on() -> None:
    assert source(clearance=CLEARED).refusal is None


def test_a_source_is_pending_until_somebody_decides() -> None:
    assert source().refusal == "source 'a' is pending: nobody has cleared it"


def test_a_blocked_source_says_by_whom_and_where_that_can_be_read() -> None:
    blocked = Clearance(state="blocked", by="legal", reference="T-1")
    assert source(clearance=blocked).refusal == "source 'a' is blocked by legal (T-1)"


def test_clearing_needs_a_name() -> None:
    with pytest.raises(AssayError, match="needs `by`"):
        Clearance(state="cleared")
