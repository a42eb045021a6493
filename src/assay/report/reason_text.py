"""Render reasons as sentences, for the terminal, the page, Markdown, W&B and JSON."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from assay.config.reason import Code, Reason
from assay.core import serde
from assay.report import (
    aggregate_sentences,
    design_sentences,
    interim_sentences,
    option_sentences,
    plan_sentences,
    summary_sentences,
    verdict_sentences,
)

if TYPE_CHECKING:
    from assay.report.reason_phrases import Render, RenderWithCauses

_MODULES = (
    verdict_sentences,
    aggregate_sentences,
    summary_sentences,
    option_sentences,
    interim_sentences,
    plan_sentences,
    design_sentences,
)
SENTENCES: Mapping[Code, Render] = {code: render for module in _MODULES for code, render in module.SENTENCES.items()}
WITH_CAUSES: Mapping[Code, RenderWithCauses] = {
    code: render for module in _MODULES for code, render in module.WITH_CAUSES.items()
}
"""Codes whose sentences contain the sentences of their causes."""


def text(reason: Reason) -> str:
    """Render a reason as a sentence."""
    if reason.code in SENTENCES:
        return SENTENCES[reason.code](reason)
    # The user can act on the reason of an unfinished run, so the sentence includes the fix.
    render = with_fix if reason.code is Code.NOT_FINISHED else text
    return WITH_CAUSES[reason.code](reason, [render(cause).rstrip(".") for cause in reason.causes])


def texts(reasons: Iterable[Reason]) -> list[str]:
    """Render reasons, one sentence each."""
    return [text(reason) for reason in reasons]


def fix(reason: Reason) -> str:
    """Render the fix of a reason; return an empty text without a known fix."""
    render = plan_sentences.FIXES.get(reason.code)
    return "" if render is None else render(reason)


def label(reason: Reason) -> str:
    """Return `note` for a setting that is probably intended, else `warning`."""
    return "note" if reason.code in plan_sentences.NOTES else "warning"


def with_fix(reason: Reason) -> str:
    """Render a reason, followed by its fix."""
    advice = fix(reason)
    return f"{text(reason).rstrip('.')}. {advice}" if advice else text(reason)


def scope_text(scope: Iterable[Reason]) -> str:
    """Render the scope of a verdict on one line."""
    return " ".join(texts(scope))


def paragraph(reasons: Iterable[Reason]) -> str:
    """Render reasons as consecutive sentences."""
    return " ".join(texts(reasons))


def to_json(value: Any) -> Any:
    """Convert a value to plain values for JSON, and reasons to fields, text and fix."""
    return serde.to_json(value, {Reason: _with_text})


def _with_text(reason: Reason) -> dict[str, Any]:
    return vars(reason) | {"text": text(reason)} | ({"fix": advice} if (advice := fix(reason)) else {})
