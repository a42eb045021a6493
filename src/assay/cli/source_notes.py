"""Print notes on the files and documents of sources."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from assay.cli.console import console
from assay.report.formatting import NOTHING, amount, byte_count

if TYPE_CHECKING:
    from assay.config.reason import Reason
    from assay.corpus.document_sizes import DocumentSizes


def print_notes(notes: Iterable[Reason]) -> None:
    """Print notes as warnings, one per line, with their fixes."""
    from assay.report.reason_text import with_fix

    for note in notes:
        console.print(f"warning: {with_fix(note)}", style="yellow", markup=False)


def size_cells(sizes: DocumentSizes | None) -> tuple[str, str, str]:
    """Return the number, median and maximum of document sizes as cells of a table."""
    if sizes is None:
        return NOTHING, NOTHING, NOTHING
    if sizes.unit == "bytes":
        return amount(sizes.documents), byte_count(sizes.median), byte_count(sizes.longest)
    return amount(sizes.documents), f"{amount(sizes.median)} tokens", f"{amount(sizes.longest)} tokens"
