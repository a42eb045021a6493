"""Compile the detectors' loops before the time limits of detectors apply.

Numba compiles the loops over bytes on their first call. Compilation takes 10 s on one core, once per version of assay
and machine. Loading from the cache takes 0.4 s. During a scan, compilation would exceed a detector's time, and an
interrupt breaks the compiler.
"""

from __future__ import annotations

from assay.audit.detectors import shingles
from assay.audit.detectors.document import Text
from assay.audit.detectors.registry import detectors
from assay.config.sources import Source

LISTING = "".join(f"{number} int f(int x) {{ return x + {number}; }}\n" for number in range(60))
PROSE = "This line, with some words and a sign for the next one\x85, stands here again and again.\n" * 60
"""Two texts that together reach the compiled loop of every detector."""


def warm_up() -> None:
    """Compile every loop, or load it from the cache."""
    for kind, plain in (("code", LISTING), ("en", PROSE)):
        text = Text(plain, Source(name="ready", files=("none",), domain="web", language=kind, license=None))
        for detector in detectors():
            detector.detect(text)
        least = shingles.signature(shingles.ngrams(text.words[0], shingles.SHINGLE), shingles.BINS)
        shingles.bands(least, shingles.BANDS, shingles.ROWS)
