"""Bits per byte of any texts under a run's model: how surprising a proxy finds each document of a sample."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from assay.evaluate.quiet import quietly
from assay.evaluate.run import load_model

if TYPE_CHECKING:
    from assay.evaluate.validation import Documents

LIMIT = 100_000
"""Bytes of each source that are scored: the beginnings of 100 documents; a core takes 8 s with a model of 1M parameters."""


def bits_per_byte(
    model: Path,
    texts: Mapping[str, Sequence[tuple[str, str]]],
    *,
    batch_size: int,
    limit: int = LIMIT,
    device: str = "auto",
    tell: Callable[[str, float], None] = lambda _source, _share: None,
) -> dict[str, dict[str, float]]:
    """Bits per byte of the beginnings of documents, cut and scored as held-out documents are.

    Args:
        model: a run's folder with model and tokenizer.
        texts: key and text of each document, by source.
        batch_size: windows at a time.
        limit: bytes of each source.
        device: `auto` (a GPU where there is one), or as torch names it.
        tell: told the source and the share of it that is done.

    Returns:
        By source, by key; documents without text are left out.

    Raises:
        AssayError: there is no whole model, or it gives numbers that are not finite.
    """
    from assay.evaluate.validation import read_split, validation_rows

    found: dict[str, dict[str, float]] = {}
    with quietly():
        lm = load_model(model, batch_size=batch_size, device=device)
        for source, documents in texts.items():
            made: Documents = [
                (key, lm.tok_encode(text), len(text.encode())) for key, text in documents if text.strip()
            ]
            if not made:
                found[source] = {}
                continue
            split = read_split(source, made, limit=limit, lm=lm)
            total, done = sum(len(one.windows) for one in split), 0

            def passed(windows: int, source: str = source, total: int = total) -> None:
                nonlocal done
                done += windows
                tell(source, done / total)

            rows = validation_rows(source, split, lm, done=passed)
            found[source] = {row["doc_hash"]: row["bits_per_byte"] for row in rows}
    return found
