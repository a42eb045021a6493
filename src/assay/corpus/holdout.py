"""Select the validation split: the hash of a document's text decides whether it is held out.

A document is held out if its hash is among the lowest 2% of all possible hashes, so that the same text is on the same
side in every source. If 2% of a source is too little for an evaluation, the source holds out further documents in order
of hash until the split has 32 documents and 100 kB, but at most 10% of its text. If another source has the same text as
one of these further documents, that source may train on it.

The split of 2% has no upper bound in bytes. A bound would depend on the rest of the source. One source could then train
on a text that another source holds out. Evaluations read only as much of the split as they need.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

FRACTION = 0.02
LEAST_DOCUMENTS = 32
"""Minimum number of held-out documents. With fewer, an interval reflects the documents more than the mixes."""
LEAST_BYTES = 100_000
LARGEST_FRACTION = 0.1
SALT = "assay held out 1"
RULE = [SALT, FRACTION, LEAST_DOCUMENTS, LEAST_BYTES, LARGEST_FRACTION]
"""All parameters of the split. They are part of a corpus's identity."""
HASH_BYTES = 16


def document_hash(text: bytes) -> bytes:
    """Hash a document's text to 16 bytes."""
    return hashlib.blake2b(text, digest_size=HASH_BYTES, person=SALT.encode()).digest()


def is_held_out(digest: bytes) -> bool:
    """Return whether the hash alone decides that every source holds the document out."""
    return int.from_bytes(digest[:8], "big") < FRACTION * 2**64


def held_out_by_rank(documents: Iterable[tuple[bytes, int]]) -> frozenset[bytes]:
    """Select the further documents that a small source holds out.

    Args:
        documents: hash and bytes of each document of the source. The function stops reading when the hashes alone hold
            out enough documents.

    Returns:
        Hashes of the further documents: none for large sources, at least one if no document is held out by its hash
        alone.
    """
    sizes: dict[bytes, int] = {}
    held = held_bytes = 0
    for digest, size in documents:
        held_bytes += size if is_held_out(digest) else 0
        held += is_held_out(digest) and digest not in sizes
        sizes[digest] = sizes.get(digest, 0) + size
        if held >= LEAST_DOCUMENTS and held_bytes >= LEAST_BYTES:
            return frozenset()
    room = LARGEST_FRACTION * sum(sizes.values())
    chosen = set()
    for digest in sorted(digest for digest in sizes if not is_held_out(digest)):
        if held >= LEAST_DOCUMENTS and held_bytes >= LEAST_BYTES:
            break
        if held == 0 or held_bytes + sizes[digest] <= room:
            chosen.add(digest)
            held, held_bytes = held + 1, held_bytes + sizes[digest]
    return frozenset(chosen)
