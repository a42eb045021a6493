from __future__ import annotations

import doctest
from pathlib import Path


def test_the_documented_calls_give_what_the_page_says() -> None:
    page = Path(__file__).parents[1] / "docs" / "api.md"
    found = doctest.testfile(str(page), module_relative=False, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert found.attempted > 10
    assert found.failed == 0
