"""Number and sizes of the documents of a source or a corpus."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from assay.config.sources import Source
from assay.core.errors import AssayError
from assay.corpus.manifest import read_manifest
from assay.corpus.source_reader import ReadOptions, documents

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Unit = Literal["tokens", "bytes"]


@dataclass(frozen=True, kw_only=True)
class DocumentSizes:
    """Number, median and maximum of the sizes of a source's documents."""

    documents: int
    median: int
    longest: int
    unit: Unit


def corpus_sizes(path: Path) -> DocumentSizes:
    """Measure the training and validation documents of a corpus, in tokens without the EOS token.

    The function reads the offsets of the corpus, 8 bytes per document.

    Raises:
        AssayError: the folder has no corpus, or one of another format.
    """
    import numpy as np

    manifest = read_manifest(path)
    parts = [
        np.diff(np.fromfile(path / f"{side}.offsets", dtype="<i8"))
        for side in ("train", "validation")
        if f"{side}.offsets" in manifest.files
    ]
    return _summary(np.concatenate(parts) - 1, "tokens")


def read_sizes(source: Source) -> DocumentSizes:
    """Read a source, and measure its documents in bytes of UTF-8. Skip unreadable records.

    Raises:
        AssayError: the source has no readable document, or a file has another format than declared.
    """
    import numpy as np

    errors: list[AssayError] = []
    sizes = [len(document.text.encode()) for document in documents(source, look=ReadOptions(unread=errors.append))]
    if errors and not sizes:
        raise errors[0]
    return _summary(np.array(sizes, dtype=np.int64), "bytes")


def _summary(sizes: NDArray[np.int64], unit: Unit) -> DocumentSizes:
    import numpy as np

    return DocumentSizes(
        documents=len(sizes),
        median=int(np.median(sizes)) if len(sizes) else 0,
        longest=int(sizes.max()) if len(sizes) else 0,
        unit=unit,
    )
