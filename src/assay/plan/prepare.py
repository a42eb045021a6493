"""Make the tokenizer and the corpora of a study."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from assay.core.errors import Refused
from assay.corpus.build import prepare
from assay.corpus.tokenizer import make_tokenizer

if TYPE_CHECKING:
    from assay.plan.source_index import SourceIndex

Progress = Callable[[str, float], None]
"""Function that receives the name of a source, or `tokenizer`, and its completed fraction."""


def prepare_corpora(sources: SourceIndex, names: Iterable[str], *, progress: Progress | None = None) -> dict[str, Path]:
    """Make the missing corpora, and the tokenizer if it is missing.

    Args:
        sources: the indexed sources.
        names: sources to tokenize. Without names, only the tokenizer is made.
        progress: called with the name of a source, or `tokenizer`, and its completed fraction.

    Returns:
        The folder of each corpus, by source.

    Raises:
        AssayError: a source is not cleared, cannot be read, or changed since its digest was computed.
    """

    def report(name: str) -> Callable[[float], None] | None:
        return None if progress is None else lambda fraction: progress(name, fraction)

    names = tuple(names)
    for name in {*names, *sources.tokenizer.sources}:
        source = sources.source(name)
        if sources.uncleared(name) is not None:
            covered = f"covers only version {source.clearance.version}; expected the current version"
            problem = covered if source.refusal is None else f"is {source.effective_clearance}; expected cleared"
            raise Refused(
                f"source {name!r}: clearance {problem}.",
                fix="Clear the source in its file, or remove it from the mixes of the sweep.",
            )
    make_tokenizer(
        sources.tokenizer,
        {name: sources.source(name) for name in sources.tokenizer.sources},
        sources.tokenizer_id,
        sources.store.tokenizers,
        digests=sources.digests(sources.tokenizer.sources),
        progress=report("tokenizer"),
    )
    for name in names:
        prepare(
            sources.source(name),
            digest=sources.digest(name),
            tokenizer=sources.tokenizer_folder,
            identity=sources.corpus_id(name),
            folder=sources.store.corpora,
            max_lost_fraction=sources.tokenizer.max_lost_fraction,
            progress=report(name),
        )
        sources.record_digest(name)
    return {name: sources.corpus_folder(name) for name in names}
