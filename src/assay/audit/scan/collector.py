"""Collect a sample and distributions of a file's documents during the scan."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from assay.audit.scan import kept_sample
from assay.audit.scan.distributions import FileDistributions, finished
from assay.core.files import write_json
from assay.core.serde import to_mapping

if TYPE_CHECKING:
    from assay.audit.detectors.document import Text
    from assay.audit.scan.kept_sample import KeptSample
    from assay.corpus.source_reader import SourceDocument

SAMPLE, DISTRIBUTIONS = "kept.parquet", "distributions.json"


class DocumentCollector:
    """Sample and distributions of one file, filled during the scan."""

    def __init__(self) -> None:
        """Start without documents."""
        self._builder, self._extremes = kept_sample.SampleBuilder(), FileDistributions()

    def add(self, document: SourceDocument, text: Text) -> None:
        """Add a document.

        Args:
            document: the document.
            text: the same document, with the features of detectors.
        """
        self._builder.add(document)
        self._extremes.add(document, text)

    def sample(self) -> KeptSample:
        """Return the sample so far."""
        return self._builder.sample()

    def write(self, folder: Path) -> None:
        """Write sample and distributions to the folder of the file's results."""
        kept_sample.write(folder / SAMPLE, self.sample())
        write_json(
            folder / DISTRIBUTIONS,
            {name: to_mapping(finished(spread)) for name, spread in self._extremes.distributions.items()},
        )
