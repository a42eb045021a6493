"""Compute the layout of the topic map.

Similar topics are near each other, and documents are around the center of their topic. A t-SNE of 3,522 documents takes
43 s, and a t-SNE of 15 topic centers takes 0.2 s. Documents are placed around their center by the first two principal
components of the topic. Distances between topics show their similarity, and distances within a topic show how documents
differ. Distances between documents of different topics carry no further information.
"""

from __future__ import annotations

import numpy as np

from assay.audit.explore.embeddings import Matrix

FEWEST = 5
"""Minimum number of centers for t-SNE. Fewer centers are placed by their principal components."""
REACH = 0.45
"""Radius of the inner 90% of a topic's documents, as a fraction of the distance to the nearest center."""


def positions(rows: Matrix, labels: np.ndarray, centers: Matrix, *, seed: int) -> tuple[Matrix, Matrix]:
    """Compute map coordinates of documents and topic centers.

    Returns:
        Coordinates of the documents and of the centers; shapes (n, 2) and (k, 2).

    Args:
        rows: vectors of the documents; shape (n, dimensions).
        labels: topic of each document, from 0.
        centers: mean vectors of the topics; shape (k, dimensions).
        seed: seed of t-SNE.
    """
    hubs = _spread(centers, seed)
    reach = REACH * _nearest(hubs)
    points = hubs[labels].copy()
    for number in range(len(centers)):
        members = labels == number
        inner = _principal(rows[members])
        radius = np.linalg.norm(inner, axis=1)
        usual = float(np.quantile(radius, 0.9)) if len(radius) else 0.0
        if usual > 0:
            # Outliers are pulled in, so that no document lies deep in another topic.
            pulled = np.minimum(1.0, 1.6 * usual / np.maximum(radius, 1e-12))[:, None]
            points[members] += inner * pulled * (reach[number] / usual)
    return points.astype(np.float32), hubs


def _spread(centers: Matrix, seed: int) -> Matrix:
    if len(centers) < FEWEST:
        return _principal(centers)
    from sklearn.manifold import TSNE

    perplexity = min(10.0, (len(centers) - 1) / 3)
    model = TSNE(2, perplexity=perplexity, init="random", random_state=seed, method="exact")
    layout: Matrix = model.fit_transform(centers).astype(np.float32)
    return layout / max(1e-9, float(np.abs(layout).max()))


def _nearest(hubs: Matrix) -> Matrix:
    if len(hubs) < 2:
        return np.ones(len(hubs), np.float32)
    apart = np.linalg.norm(hubs[:, None] - hubs[None], axis=2)
    np.fill_diagonal(apart, np.inf)
    # A minimum distance keeps the documents of coinciding centers visible.
    nearest: Matrix = np.maximum(apart.min(axis=1), 0.01).astype(np.float32)
    return nearest


def _principal(rows: Matrix) -> Matrix:
    """Project on two principal components, padded with zeros; make the largest loading positive."""
    middle = rows - rows.mean(axis=0)
    _, vectors = np.linalg.eigh(middle.T.astype(np.float64) @ middle)
    main = vectors[:, ::-1][:, :2]
    main = main * np.sign(main[np.abs(main).argmax(axis=0), range(main.shape[1])])
    projected = np.zeros((len(rows), 2), np.float32)
    projected[:, : main.shape[1]] = middle @ main
    return projected
