"""Getting ready to look: machine code is compiled before any clock runs.

The loops over bytes are compiled when they are first called: 10 s of a core, once for each version of assay on a machine, and
0.4 s where that is kept. Inside a detector's time that would be a document passed over; and the compiler, interrupted, is of
no use any more.
"""

from __future__ import annotations

from assay.audit import words
from assay.audit.detectors import detectors
from assay.audit.text import Text
from assay.sources import Source

LISTING = "".join(f"{number} int f(int x) {{ return x + {number}; }}\n" for number in range(60))
PROSE = "This line, with some words and a sign for the next one\x85, stands here again and again.\n" * 60
"""Between them they take every detector to its loop."""


def get_ready() -> None:
    """Have every loop compiled, or read what was compiled before."""
    for kind, plain in (("code", LISTING), ("en", PROSE)):
        text = Text(plain, Source(name="ready", files=("none",), domain="web", language=kind, licence=None))
        for one in detectors():
            one.look(text)
        least = words.signature(words.ngrams(text.words[0], words.SHINGLE), words.BINS)
        words.bands(least, words.BANDS, words.ROWS)
