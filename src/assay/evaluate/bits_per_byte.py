"""Measure bits per byte of any documents under the model of a run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from assay.evaluate.evaluation import load_model
from assay.evaluate.log_filter import capture_harness_log

if TYPE_CHECKING:
    from assay.evaluate.heldout import Documents

LIMIT = 100_000
"""Scored bytes per source: the beginnings of 100 documents. Scoring takes 8 s on one core with 1M parameters."""


def bits_per_byte(
    model: Path,
    texts: Mapping[str, Sequence[tuple[str, str]]],
    *,
    batch_size: int,
    limit: int = LIMIT,
    device: str = "auto",
    progress: Callable[[str, float], None] = lambda _source, _fraction: None,
) -> dict[str, dict[str, float]]:
    """Measure bits per byte of the beginnings of documents.

    Documents are truncated and scored like held-out documents.

    Args:
        model: folder of a run's model and tokenizer.
        texts: key and text of each document, by source.
        batch_size: number of windows per batch.
        limit: number of scored bytes per source.
        device: `auto` (a GPU if available), or a torch device.
        progress: called with the source and its completed fraction.

    Returns:
        Bits per byte by source and key, without documents that have no text.

    Raises:
        AssayError: the model is incomplete, or its loglikelihoods are not finite.
    """
    from assay.evaluate.heldout import read_split, validation_rows

    scores: dict[str, dict[str, float]] = {}
    with capture_harness_log():
        lm = load_model(model, batch_size=batch_size, device=device)
        for source, documents in texts.items():
            tokenized: Documents = [
                (key, lm.tok_encode(text), len(text.encode())) for key, text in documents if text.strip()
            ]
            if not tokenized:
                scores[source] = {}
                continue
            split = read_split(source, tokenized, limit=limit, lm=lm)
            total, done = sum(len(document.windows) for document in split), 0

            def add(windows: int, source: str = source, total: int = total) -> None:
                nonlocal done
                done += windows
                progress(source, done / total)

            rows = validation_rows(source, split, lm, progress=add)
            scores[source] = {row["doc_hash"]: row["bits_per_byte"] for row in rows}
    return scores
