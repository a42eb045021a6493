from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from statsmodels.stats.multitest import multipletests

from assay.analysis.stats.multiplicity import benjamini_hochberg, holm


@pytest.mark.parametrize(("adjust", "method"), [(holm, "holm"), (benjamini_hochberg, "fdr_bh")])
def test_adjusted_p_values_equal_statsmodels(adjust: Callable[[list[float]], list[float]], method: str) -> None:
    rng = np.random.default_rng(9)
    for p in (
        [0.025, 0.01, 0.5, 0.02],
        [1.0],
        [0.2, 0.2, 0.2],
        rng.random(40).tolist(),
        (rng.random(40) ** 6).tolist(),
    ):
        assert adjust(p) == pytest.approx(multipletests(p, method=method)[1], abs=1e-12)


def test_a_nan_is_no_member_of_the_family() -> None:
    adjusted = holm([math.nan, 0.01, math.nan, 0.04])
    assert adjusted[1::2] == pytest.approx([0.02, 0.04])
    assert math.isnan(adjusted[0])
    assert math.isnan(adjusted[2])
    assert holm([]) == []
    assert math.isnan(benjamini_hochberg([math.nan])[0])


@given(st.lists(st.floats(0, 1), max_size=8))
def test_adjustment_never_lowers_a_p_value(p: list[float]) -> None:
    for raw, strict, lenient in zip(p, holm(p), benjamini_hochberg(p), strict=True):
        assert raw - 1e-12 <= lenient <= strict + 1e-12
