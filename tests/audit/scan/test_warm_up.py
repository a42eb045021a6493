"""Compilation never happens within a detector's time limit."""

from __future__ import annotations

import subprocess
import sys

LOOK = """
import json, sys
from numba.core.dispatcher import Dispatcher
from assay.audit.detectors import gutter_features, gutter_rules, hex_addresses, line_numbers, shingles
from assay.audit.detectors.document import Text
from assay.audit.detectors.registry import detectors
from assay.audit.scan.warm_up import warm_up
from assay.config.sources import Source
from tests.audit.detectors.numbered_pages import FORMS, LISTINGS, PROSE

def compiled():
    parts = (gutter_features, gutter_rules, hex_addresses, line_numbers, shingles)
    loops = [loop for part in parts for loop in vars(part).values() if isinstance(loop, Dispatcher)]
    return {loop.py_func.__name__: len(loop.signatures) for loop in loops}

warm_up()
before = compiled()
texts = [FORMS[form](code, 1) for form in FORMS for code in LISTINGS.values()]
texts += [PROSE, PROSE * 50, "the same line again\\n" * 200, "\\x00\\x85\\x1b", "", "<p>" * 90, "0x1f\\n0x20\\n0x21\\n" * 9]
for language in ("en", "code"):
    source = Source(name="web", files=("none",), domain="web", language=language, license=None)
    for text in texts:
        for one in detectors():
            one.detect(Text(text, source))
assert compiled() == before, (before, compiled())
print(sum(before.values()))
"""


def test_warm_up_compiles_every_loop_of_the_detectors() -> None:
    """An interrupted compiler stays broken, and documents are skipped."""
    done = subprocess.run([sys.executable, "-c", LOOK], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 5
