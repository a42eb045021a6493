"""What tests ask of reasons."""

from __future__ import annotations

from collections.abc import Iterable

from assay.config.reason import Code, Reason


def codes(reasons: Iterable[Reason]) -> list[Code]:
    """The codes of reasons, in order."""
    return [reason.code for reason in reasons]


def first(reasons: Iterable[Reason], code: Code) -> Reason:
    """The first reason of a code."""
    return next(reason for reason in reasons if reason.code is code)


def facts(reason: Reason) -> tuple[Code, str]:
    """The code and the name of a reason's subject."""
    return reason.code, reason.name


def all_codes(reasons: Iterable[Reason]) -> set[Code]:
    """The codes of reasons and of everything that they rest on."""
    return {code for reason in reasons for code in (reason.code, *all_codes(reason.causes))}
