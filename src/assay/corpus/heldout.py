"""Which documents are held out for validation: decided by the hash of a document's text.

A document is held out where its hash is among the lowest 2% of all hashes, so that the same text falls on the same
side in every source. A source too small to be measured on that holds out more, by rank of hash: until it has 32
documents and 100 kB, within 10% of its text. These few may be trained on where another source has the same text.

There is no upper bound on the 2%: it would depend on what else a source holds, and a text could again be trained on in
one source and measured in another. Who measures takes as much of the split as is wanted.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

SHARE = 0.02
LEAST_DOCUMENTS = 32
"""Documents differ: with fewer, the interval of a difference in bits per byte says more of them than of the mixes."""
LEAST_BYTES = 100_000
LARGEST_SHARE = 0.1
SALT = "assay held out 1"
RULE = [SALT, SHARE, LEAST_DOCUMENTS, LEAST_BYTES, LARGEST_SHARE]
"""Everything that decides it; part of a corpus' identity."""
HASH_BYTES = 16


def document_hash(text: bytes) -> bytes:
    """16 bytes that stand for a document's text."""
    return hashlib.blake2b(text, digest_size=HASH_BYTES, person=SALT.encode()).digest()


def is_held_out(digest: bytes) -> bool:
    """Whether the hash alone holds the document out, in whichever source it turns up."""
    return int.from_bytes(digest[:8], "big") < SHARE * 2**64


def held_out_by_rank(documents: Iterable[tuple[bytes, int]]) -> frozenset[bytes]:
    """The further documents of a small source that are held out.

    Args:
        documents: hash and bytes of each document of the source; read no further than it takes to see that the
            hashes alone hold out enough.

    Returns:
        Their hashes; empty for all but small sources. At least one where no hash holds a document out.
    """
    sizes: dict[bytes, int] = {}
    held = held_bytes = 0
    for digest, size in documents:
        held_bytes += size if is_held_out(digest) else 0
        held += is_held_out(digest) and digest not in sizes
        sizes[digest] = sizes.get(digest, 0) + size
        if held >= LEAST_DOCUMENTS and held_bytes >= LEAST_BYTES:
            return frozenset()
    room = LARGEST_SHARE * sum(sizes.values())
    chosen = set()
    for digest in sorted(digest for digest in sizes if not is_held_out(digest)):
        if held >= LEAST_DOCUMENTS and held_bytes >= LEAST_BYTES:
            break
        if held == 0 or held_bytes + sizes[digest] <= room:
            chosen.add(digest)
            held, held_bytes = held + 1, held_bytes + sizes[digest]
    return frozenset(chosen)
