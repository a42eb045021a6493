"""Nothing is compiled inside a detector's time."""

from __future__ import annotations

import subprocess
import sys

LOOK = """
import json, sys
from numba.core.dispatcher import Dispatcher
from assay.audit import addresses, gutters, words
from assay.audit.detectors import detectors
from assay.audit.ready import get_ready
from assay.audit.text import Text
from assay.sources import Source
from tests.audit.listings import FORMS, LISTINGS, PROSE

def compiled():
    loops = [loop for part in (addresses, gutters, words) for loop in vars(part).values() if isinstance(loop, Dispatcher)]
    return {loop.py_func.__name__: len(loop.signatures) for loop in loops}

get_ready()
before = compiled()
texts = [FORMS[form](code, 1) for form in FORMS for code in LISTINGS.values()]
texts += [PROSE, PROSE * 50, "the same line again\\n" * 200, "\\x00\\x85\\x1b", "", "<p>" * 90, "0x1f\\n0x20\\n0x21\\n" * 9]
for language in ("en", "code"):
    source = Source(name="web", files=("none",), domain="web", language=language, licence=None)
    for text in texts:
        for one in detectors():
            one.look(Text(text, source))
assert compiled() == before, (before, compiled())
print(sum(before.values()))
"""


def test_every_loop_that_detectors_need_is_compiled_when_they_begin() -> None:
    """Interrupted by a detector's clock, the compiler is broken for good, and documents are passed over."""
    done = subprocess.run([sys.executable, "-c", LOOK], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 5
