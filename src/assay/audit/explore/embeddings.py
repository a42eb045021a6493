"""Embed documents without a neural network.

`svd` hashes words, weights them by TF-IDF and keeps the directions of largest variance (latent semantic analysis).
`fasttext` trains vectors of words and subwords on the documents and averages the vectors. Any other embedding is a
function of the project, named as `module:function`.
"""

from __future__ import annotations

import importlib
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from assay.core.errors import ConfigError, NotFound, Refused

Matrix = NDArray[np.float32]

CHARACTERS = 10_000
"""Number of embedded characters, from the beginning of a document. The limit suffices for a topic and bounds books."""
BATCH = 1000
"""Number of documents per batch."""
WORDS = 1 << 16
"""Number of columns of the hashed words. Words in the same column count as equal."""
ATTEMPTS = 3
PASSES = 20_000_000
"""Minimum number of training bytes of fastText over all epochs. Small samples need many epochs."""
LOWER = 0.5
"""Factor on the learning rate after a training that gave NaN."""

EncoderProgress = Callable[[float], None]
"""Function that receives the completed fraction."""


class Encoder(Protocol):
    """Interface of an embedding of texts."""

    def fit(self, texts: Sequence[str], progress: EncoderProgress) -> Matrix:
        """Fit the embedding to documents, and return one vector per document.

        Vectors have length 1, or are zero for texts without words.
        """

    def encode(self, texts: Sequence[str]) -> Matrix:
        """Embed further texts."""


def encoder(name: str, *, dimensions: int, seed: int) -> Encoder:
    """Create an encoder by name.

    Args:
        name: `svd`, `fasttext` (cbow), `fasttext:skipgram`, or a function `module:function` that takes a list of texts
            and returns an array with one row per text.
        dimensions: dimensions of the vectors; ignored for functions.
        seed: seed of all randomness.

    Raises:
        AssayError: the name is unknown, or the package is not installed.
    """
    if name == "svd":
        return _Svd(dimensions, seed)
    if name in ("fasttext", "fasttext:cbow", "fasttext:skipgram"):
        return _FastText("skipgram" if name.endswith("skipgram") else "cbow", dimensions)
    return _FunctionEncoder(name)


class _Svd:
    """Hashing, TF-IDF and truncated SVD (Deerwester et al. 1990; Halko et al., arXiv 0909.4061)."""

    def __init__(self, dimensions: int, seed: int) -> None:
        from sklearn.feature_extraction.text import HashingVectorizer, TfidfTransformer

        self._dimensions, self._seed = dimensions, seed
        self._hashing = HashingVectorizer(n_features=WORDS, alternate_sign=False, norm=None, dtype=np.float32)
        self._weights = TfidfTransformer(sublinear_tf=True)
        self._directions: Any = None

    def fit(self, texts: Sequence[str], progress: EncoderProgress) -> Matrix:
        from scipy import sparse
        from sklearn.decomposition import TruncatedSVD

        parts = []
        for done, batch in _batches(texts):
            parts.append(self._hashing.transform(batch))
            progress(0.7 * done)
        table = self._weights.fit_transform(sparse.vstack(parts, format="csr"))
        # The rank is below the number of documents.
        self._directions = TruncatedSVD(min(self._dimensions, max(1, table.shape[0] - 1)), random_state=self._seed)
        with np.errstate(invalid="ignore", divide="ignore"):  # explained variance of equal documents
            rows = self._directions.fit_transform(table)
        progress(1.0)
        return _unit(rows)

    def encode(self, texts: Sequence[str]) -> Matrix:
        parts = [
            self._directions.transform(self._weights.transform(self._hashing.transform(batch)))
            for _, batch in _batches(texts)
        ]
        return _unit(np.concatenate(parts))


class _FastText:
    """fastText vectors of words and subwords (arXiv 1607.04606), averaged over a text."""

    def __init__(self, model: str, dimensions: int) -> None:
        try:
            import fasttext
        except ImportError as error:
            raise NotFound(
                "fastText is not installed.", fix="Run `pip install 'assay[fasttext]'`, or choose --vectors svd."
            ) from error
        self._fasttext, self._model, self._dimensions = fasttext, model, dimensions
        self._trained: Any = None
        self._mean = np.zeros(dimensions, np.float32)

    def fit(self, texts: Sequence[str], progress: EncoderProgress) -> Matrix:
        with tempfile.TemporaryDirectory(prefix="assay-vectors-") as folder:
            file = Path(folder) / "texts"
            with file.open("w", encoding="utf-8") as lines:
                for _, batch in _batches(texts):
                    lines.writelines(text + "\n" for text in batch)
            rate = 0.05
            for _ in range(ATTEMPTS):
                if self._train(file, rate):
                    break
                rate *= LOWER
            else:
                raise Refused(
                    f"fastText returned NaN in each of {ATTEMPTS} trainings, the last at a learning rate of {rate / LOWER:g}.",
                    fix="Choose --vectors svd.",
                )
        progress(0.8)
        rows = self._averages(texts)
        # The common component carries no information and hides differences (arXiv 1702.01417).
        self._mean = rows.mean(axis=0) if len(rows) > 1 else self._mean
        progress(1.0)
        return _unit(rows - self._mean)

    def _train(self, file: Path, rate: float) -> bool:
        """Train, and return whether all vectors are finite."""
        try:
            self._trained = self._fasttext.train_unsupervised(
                str(file),
                model=self._model,
                dim=self._dimensions,
                lr=rate,
                epoch=max(1, min(50, PASSES // max(1, file.stat().st_size))),
                minCount=2 if file.stat().st_size > 100_000 else 1,
                bucket=100_000,  # 26 MB of subwords in 64 dimensions; the default takes 512 MB
                thread=1,  # more threads make the order of updates and the result random; the seed is fixed
                verbose=0,
            )
        except RuntimeError as error:
            if "NaN" in str(error):
                return False
            raise
        except ValueError as error:
            raise Refused(f"fastText: {error}.", fix="Choose --vectors svd, which needs fewer words.") from error
        return bool(np.isfinite(self._trained.get_input_matrix()).all())

    def encode(self, texts: Sequence[str]) -> Matrix:
        return _unit(self._averages(texts) - self._mean)

    def _averages(self, texts: Sequence[str]) -> Matrix:
        return np.stack([self._trained.get_sentence_vector(text) for _, batch in _batches(texts) for text in batch])


class _FunctionEncoder:
    """Embedding by a function of the project."""

    def __init__(self, name: str) -> None:
        module, _, function = name.partition(":")
        try:
            self._function: Callable[[list[str]], Any] = getattr(importlib.import_module(module), function)
        except (ImportError, AttributeError, ValueError) as error:
            raise ConfigError(
                f"vectors {name!r}: {error}.",
                fix="Choose svd, fasttext, fasttext:skipgram, or a function as module:function.",
            ) from None
        self._name = name

    def fit(self, texts: Sequence[str], progress: EncoderProgress) -> Matrix:
        parts = []
        for done, batch in _batches(texts):
            parts.append(self._rows(batch))
            progress(done)
        return _unit(np.concatenate(parts))

    def encode(self, texts: Sequence[str]) -> Matrix:
        return _unit(np.concatenate([self._rows(batch) for _, batch in _batches(texts)]))

    def _rows(self, batch: list[str]) -> Matrix:
        rows = np.asarray(self._function(batch), np.float32)
        if rows.ndim != 2 or len(rows) != len(batch) or not np.isfinite(rows).all():
            raise ConfigError(
                f"vectors {self._name!r}: array of shape {rows.shape} is invalid; expected {len(batch)} rows of finite numbers.",
                fix="Return one row per text from the function.",
            )
        return rows


def _batches(texts: Sequence[str]) -> Iterator[tuple[float, list[str]]]:
    """Yield batches of truncated single-line texts, each with the completed fraction."""
    for start in range(0, len(texts), BATCH):
        batch = [" ".join(text[:CHARACTERS].replace("\0", " ").split()) for text in texts[start : start + BATCH]]
        yield min(1.0, (start + BATCH) / len(texts)), batch


def _unit(rows: Any) -> Matrix:
    """Normalize rows to length 1; keep zero rows.

    Euclidean distance then depends on the angle only.
    """
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    unit: Matrix = np.divide(rows, lengths, out=np.zeros_like(rows), where=lengths > 0).astype(np.float32)
    return unit
