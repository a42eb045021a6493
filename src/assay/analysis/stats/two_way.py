"""Fit a two-way layout with missing cells by least squares, without a dense matrix."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


class TwoWayLayout:
    """The positions of observations in rows and columns of a two-way layout.

    The model of an observation is the effect of its row plus the effect of its column. The fit subtracts row means and
    solves the remaining equations of the columns (Searle 1971, Linear Models, section 7.1). These equations are sparse.
    If there are more columns than rows, rows and columns are swapped.

    Attributes:
        rank: rank of the model: rows plus columns minus connected parts. Two parts share no row and no column.
    """

    def __init__(self, rows: NDArray[np.intp], columns: NDArray[np.intp]) -> None:
        """Find the connected parts of a layout.

        Args:
            rows: (observations,) row of each observation; each number from 0 to the maximum occurs.
            columns: (observations,) column of each observation, likewise numbered.
        """
        from scipy.sparse import coo_array
        from scipy.sparse.csgraph import connected_components

        if columns.max() > rows.max():
            rows, columns = columns, rows
        self._rows, self._columns = rows, columns
        self._sizes = np.bincount(rows), np.bincount(columns)
        n_rows, n_columns = map(len, self._sizes)
        n_nodes = n_rows + n_columns
        edges = coo_array((np.ones(len(rows)), (rows, n_rows + columns)), shape=(n_nodes, n_nodes))
        n_parts, part = connected_components(edges.tocsr(), directed=False)
        self.rank = n_nodes - int(n_parts)
        # Effects of columns are relative to the first column of their part.
        self._free = np.delete(np.arange(n_columns), np.unique(part[n_rows:], return_index=True)[1])

    def residuals(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the residuals of the least-squares fit, in the order of the observations.

        Args:
            values: (observations,) finite values.
        """
        centered = self._minus_row_means(values)
        if not len(self._free):
            return centered
        effects = np.zeros(len(self._sizes[1]))
        sums = np.bincount(self._columns, centered).astype(float)
        effects[self._free] = self._solve(sums[self._free])
        return self._minus_row_means(centered - effects[self._columns])

    def _minus_row_means(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        return values - (np.bincount(self._rows, values) / self._sizes[0])[self._rows]

    def _solve(self, sums: NDArray[np.float64]) -> NDArray[np.float64]:
        """Solve the equations of the free columns for column sums of values without row means."""
        from scipy.sparse import coo_array, diags_array
        from scipy.sparse.linalg import splu

        in_rows, in_columns = self._sizes
        shape = (len(in_rows), len(in_columns))
        # Repeated cells add up.
        cells = coo_array((np.ones(len(self._rows)), (self._rows, self._columns)), shape=shape).tocsc()[:, self._free]
        weighted = diags_array(1 / in_rows) @ cells
        left = diags_array(in_columns[self._free].astype(float)) - cells.T @ weighted
        solution: NDArray[np.float64] = splu(left.tocsc(), permc_spec="MMD_AT_PLUS_A").solve(sums)
        return solution
