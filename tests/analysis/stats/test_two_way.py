"""The sparse two-way fit equals dense least squares for any pattern of missing and repeated cells."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from assay.analysis.stats.two_way import TwoWayLayout

Positions = tuple[NDArray[np.intp], NDArray[np.intp]]


def _dense(rows: NDArray[np.intp], columns: NDArray[np.intp], values: NDArray[np.float64]) -> tuple[np.ndarray, int]:
    layout = np.hstack([np.eye(rows.max() + 1)[rows], np.eye(columns.max() + 1)[columns]])
    fitted, _, rank, _ = np.linalg.lstsq(layout, values, rcond=None)
    return values - layout @ fitted, int(rank)


def _numbered(rows: np.ndarray, columns: np.ndarray) -> Positions:
    return np.unique(rows, return_inverse=True)[1], np.unique(columns, return_inverse=True)[1]


def _complete(rng: np.random.Generator) -> Positions:
    rows, columns = (at.ravel() for at in np.indices(tuple(rng.integers(1, 20, 2))))
    return _numbered(rows, columns)


def _missing(rng: np.random.Generator) -> Positions:
    rows, columns = _complete(rng)
    kept = rng.random(len(rows)) < rng.uniform(0.1, 0.9)
    kept[0] = True
    return _numbered(rows[kept], columns[kept])


def _repeated(rng: np.random.Generator) -> Positions:
    rows, columns = _missing(rng)
    again = rng.integers(0, len(rows), len(rows))
    return np.concatenate([rows, rows[again]]), np.concatenate([columns, columns[again]])


def _own_columns(rng: np.random.Generator) -> Positions:
    """Half of the rows share no column with another row."""
    rows, columns = _complete(rng)
    return _numbered(rows, np.where(rows % 2 == 0, columns, 1000 + 100 * rows + columns))


def _chain(rng: np.random.Generator) -> Positions:
    """Row i has columns i and i + 1, except where the chain breaks."""
    start = np.arange(rng.integers(2, 60))
    return _numbered(np.repeat(start, 2), (np.array([[0], [1]]) + start + start // 20).T.ravel())


@pytest.mark.parametrize("layout", [_complete, _missing, _repeated, _own_columns, _chain])
def test_residuals_and_rank_equal_dense_least_squares(layout: object) -> None:
    assert callable(layout)
    for draw in range(60):
        rng = np.random.default_rng(draw)
        rows, columns = layout(rng)
        values = rng.normal(0, 3, 1 + rows.max())[rows] + rng.normal(0, 2, 1 + columns.max())[columns]
        values += rng.normal(0, 0.1, len(rows))
        residuals, rank = _dense(rows, columns, values)
        fit = TwoWayLayout(rows, columns)
        assert fit.rank == rank
        assert fit.residuals(values) == pytest.approx(residuals, abs=1e-12)


def test_a_layout_of_thousands_of_rows_and_columns_needs_no_dense_matrix() -> None:
    """A chain of 50,000 rows would need a dense matrix of 40 GB."""
    start = np.arange(50_000)
    rows, columns = np.repeat(start, 2), (np.array([[0], [1]]) + start).T.ravel()
    effects = np.random.default_rng(0).normal(size=(2, 50_001))
    fit = TwoWayLayout(rows, columns)
    assert fit.rank == 100_000
    assert fit.residuals(effects[0, rows] + effects[1, columns]) == pytest.approx(0, abs=1e-9)
