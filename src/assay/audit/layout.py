"""Where documents lie on a map: alike clusters near each other, and the documents of each around its centre.

A t-SNE of all documents took 43 s for 3,522; one of 15 clusters' centres takes 0.2 s, and documents are put around
their own by its first two principal components. So distances between clusters say how alike they are, distances
within one say how its documents differ, and those between documents of different clusters say nothing more than that.
"""

from __future__ import annotations

import numpy as np

from assay.audit.vectors import Matrix

FEWEST = 5
"""Centres that t-SNE is used for; fewer are laid out by their principal components."""
REACH = 0.45
"""Of the way to the nearest other centre: how far the inner nine tenths of a cluster's documents go."""


def positions(rows: Matrix, labels: np.ndarray, centres: Matrix, *, seed: int) -> tuple[Matrix, Matrix]:
    """Two coordinates for each document and each centre; shapes (n, 2), (k, 2).

    Args:
        rows: vectors of the documents.
        labels: the cluster of each.
        centres: vectors of the clusters.
        seed: of t-SNE.
    """
    hubs = _spread(centres, seed)
    reach = REACH * _nearest(hubs)
    found = hubs[labels].copy()
    for number in range(len(centres)):
        mine = labels == number
        inner = _principal(rows[mine])
        radius = np.linalg.norm(inner, axis=1)
        usual = float(np.quantile(radius, 0.9)) if len(radius) else 0.0
        if usual > 0:
            # Outliers are drawn in, so that no document lies deep in another cluster.
            pulled = np.minimum(1.0, 1.6 * usual / np.maximum(radius, 1e-12))[:, None]
            found[mine] += inner * pulled * (reach[number] / usual)
    return found.astype(np.float32), hubs


def _spread(centres: Matrix, seed: int) -> Matrix:
    if len(centres) < FEWEST:
        return _principal(centres)
    from sklearn.manifold import TSNE

    perplexity = min(10.0, (len(centres) - 1) / 3)
    model = TSNE(2, perplexity=perplexity, init="random", random_state=seed, method="exact")
    found: Matrix = model.fit_transform(centres).astype(np.float32)
    return found / max(1e-9, float(np.abs(found).max()))


def _nearest(hubs: Matrix) -> Matrix:
    if len(hubs) < 2:
        return np.ones(len(hubs), np.float32)
    apart = np.linalg.norm(hubs[:, None] - hubs[None], axis=2)
    np.fill_diagonal(apart, np.inf)
    # Centres that coincide leave their documents no room; a little is given, so that they are seen.
    nearest: Matrix = np.maximum(apart.min(axis=1), 0.01).astype(np.float32)
    return nearest


def _principal(rows: Matrix) -> Matrix:
    """The first two principal components; where there are fewer, zeros. The sign is fixed: the largest loading is positive."""
    middle = rows - rows.mean(axis=0)
    _, vectors = np.linalg.eigh(middle.T.astype(np.float64) @ middle)
    main = vectors[:, ::-1][:, :2]
    main = main * np.sign(main[np.abs(main).argmax(axis=0), range(main.shape[1])])
    found = np.zeros((len(rows), 2), np.float32)
    found[:, : main.shape[1]] = middle @ main
    return found
