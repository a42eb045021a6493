"""Records of an audited version: a damaged record is an error, and not read as a missing one."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from assay.audit.explore import records
from assay.core.errors import Damaged


@pytest.mark.parametrize("content", ["{", "[3]", '{"bits": 3}'])
def test_the_error_names_a_damaged_record(tmp_path: Path, content: str) -> None:
    version = (tmp_path, "web", "ab" * 32)
    assert records.contrasts(*version) == []
    assert records.distributions(*version) == {}
    assert records.read_bits(*version) is None
    folder = records.folder(*version)
    for name, read in (
        (records.CONTRASTS, records.contrasts),
        (records.DISTRIBUTIONS, records.distributions),
        ("bits/00.json", records.read_bits),
    ):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        with pytest.raises(Damaged, match=re.escape(str(path))) as error:
            read(*version)
        assert error.value.fix
        path.unlink()
