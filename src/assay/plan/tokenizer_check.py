"""Check a user's tokenizer: end-of-text token, unused settings, and lost text."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from assay.config.reason import Code, Reason
from assay.core.errors import NotFound
from assay.corpus.manifest import read_manifest
from assay.corpus.round_trip import RoundTrip, check_loss, measure_source

if TYPE_CHECKING:
    from assay.plan.source_index import SourceIndex


def check_tokenizer(sources: SourceIndex, names: Iterable[str]) -> list[Reason]:
    """Check the tokenizer that a study declares as a file, with the text of its sources.

    The corpus of a tokenized source contains a measurement of the lost text. For other sources, the function measures
    the beginning of the source if the tokenizer alters a probe text of many scripts.

    Args:
        sources: the indexed sources.
        names: sources that are or will be tokenized.

    Returns:
        Reasons for the unused settings of the file, and for sources that lose text within the declared limit. The
        result is empty for a tokenizer that assay trains, because such a tokenizer restores every text.

    Raises:
        AssayError: the end-of-text token is unknown, or a source cannot be read or loses more text than the limit.
    """
    file = sources.tokenizer_file
    if file is None:
        return []
    reasons = []
    if file.changes:
        adjusted = {"changes": file.changes, "template": file.template, "end": file.end.name}
        reasons.append(Reason(code=Code.TOKENIZER_ADJUSTED, subject=file.spec.name, figures=adjusted))
    for name in names:
        measured = _loss(sources, name)
        check_loss(name, measured, file.spec.max_lost_fraction)
        if measured.lost:
            lost = {"fraction": measured.fraction, "example": measured.example, "bytes": measured.bytes}
            reasons.append(Reason(code=Code.TOKENIZER_LOSES_TEXT, subject=name, figures=lost))
    return reasons


def _loss(sources: SourceIndex, name: str) -> RoundTrip:
    folder = sources.corpus_folder(name)
    tokenized = folder.exists()
    if tokenized:
        manifest = read_manifest(folder)
        if manifest.validation_lost_bytes is not None:
            return RoundTrip(manifest.validation_bytes, manifest.validation_lost_bytes)
    if not sources.tokenizer_alters_text:
        return RoundTrip(0, 0)
    assert sources.encoder is not None, "only a declared file alters text"
    try:
        return measure_source(sources.encoder, sources.source(name))
    except NotFound:
        if tokenized:  # by an earlier version, and its text was archived since; evaluations count its lost bytes
            return RoundTrip(0, 0)
        raise
