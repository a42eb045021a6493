"""Documents as vectors: alike texts near each other, without a neural network.

`svd` hashes words, weighs them by TF-IDF and keeps the directions in which documents differ most (latent semantic
analysis). `fasttext` learns vectors of words and their parts on the documents themselves and averages them. Any other
embedding is a function of a team's own, named as `module:function`.
"""

from __future__ import annotations

import importlib
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from assay.errors import AssayError

Matrix = NDArray[np.float32]

CHARACTERS = 10_000
"""Of a document, from its beginning: what it is about shows early, and a book must not take the time of a shelf."""
BATCH = 1000
"""Documents at once."""
WORDS = 1 << 16
"""Columns that words are hashed into; words that share one are taken for the same."""
ATTEMPTS = 3
PASSES = 20_000_000
"""Bytes that fastText goes through at least, over and over if there are fewer: little text teaches it nothing in one pass."""
LOWER = 0.5
"""A training that met NaN is tried again at this share of its learning rate."""

Tell = Callable[[float], None]
"""Told the share that is done."""


class Encoder(Protocol):
    """What turns texts into vectors."""

    def fit(self, texts: Sequence[str], tell: Tell) -> Matrix:
        """Learn from documents what there is to learn, and give their vectors: a row each, of length 1 or all zeros."""

    def encode(self, texts: Sequence[str]) -> Matrix:
        """The vectors of other texts."""


def encoder(name: str, *, dimensions: int, seed: int) -> Encoder:
    """The encoder of that name.

    Args:
        name: `svd`, `fasttext` (cbow), `fasttext:skipgram`, or a function as `module:function` that takes a list of
            texts and gives an array with a row for each.
        dimensions: of the vectors; a team's own function has those that it has.
        seed: of all that is random.

    Raises:
        AssayError: there is none of that name, or its package is missing.
    """
    if name == "svd":
        return _Svd(dimensions, seed)
    if name in ("fasttext", "fasttext:cbow", "fasttext:skipgram"):
        return _FastText("skipgram" if name.endswith("skipgram") else "cbow", dimensions)
    return _Own(name)


class _Svd:
    """Hashing, TF-IDF, truncated SVD (Deerwester et al. 1990; the randomised one of Halko et al., arXiv 0909.4061)."""

    def __init__(self, dimensions: int, seed: int) -> None:
        from sklearn.feature_extraction.text import HashingVectorizer, TfidfTransformer

        self._dimensions, self._seed = dimensions, seed
        self._hashing = HashingVectorizer(n_features=WORDS, alternate_sign=False, norm=None, dtype=np.float32)
        self._weights = TfidfTransformer(sublinear_tf=True)
        self._directions: Any = None

    def fit(self, texts: Sequence[str], tell: Tell) -> Matrix:
        from scipy import sparse
        from sklearn.decomposition import TruncatedSVD

        parts = []
        for done, batch in _batches(texts):
            parts.append(self._hashing.transform(batch))
            tell(0.7 * done)
        table = self._weights.fit_transform(sparse.vstack(parts, format="csr"))
        # There are no more directions than documents, and no variance to explain in one of them.
        self._directions = TruncatedSVD(min(self._dimensions, max(1, table.shape[0] - 1)), random_state=self._seed)
        with np.errstate(invalid="ignore", divide="ignore"):  # the share explained of documents that do not differ
            found = self._directions.fit_transform(table)
        tell(1.0)
        return _unit(found)

    def encode(self, texts: Sequence[str]) -> Matrix:
        parts = [
            self._directions.transform(self._weights.transform(self._hashing.transform(batch)))
            for _, batch in _batches(texts)
        ]
        return _unit(np.concatenate(parts))


class _FastText:
    """fastText's vectors of words and of their parts (arXiv 1607.04606), averaged over a text."""

    def __init__(self, model: str, dimensions: int) -> None:
        try:
            import fasttext
        except ImportError as error:
            raise AssayError(
                "fastText is not installed.", fix="pip install 'assay[fasttext]', or choose --vectors svd."
            ) from error
        self._fasttext, self._model, self._dimensions = fasttext, model, dimensions
        self._trained: Any = None
        self._middle = np.zeros(dimensions, np.float32)

    def fit(self, texts: Sequence[str], tell: Tell) -> Matrix:
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
                raise AssayError(
                    f"fastText met NaN in each of {ATTEMPTS} trainings, the last at a learning rate of {rate / LOWER:g}.",
                    fix="Choose --vectors svd.",
                )
        tell(0.8)
        rows = self._averages(texts)
        # What all averages share says nothing of any, and hides the rest (arXiv 1702.01417).
        self._middle = rows.mean(axis=0) if len(rows) > 1 else self._middle
        tell(1.0)
        return _unit(rows - self._middle)

    def _train(self, file: Path, rate: float) -> bool:
        """Train; whether there is something in the vectors but NaN."""
        try:
            self._trained = self._fasttext.train_unsupervised(
                str(file),
                model=self._model,
                dim=self._dimensions,
                lr=rate,
                epoch=max(1, min(50, PASSES // max(1, file.stat().st_size))),
                minCount=2 if file.stat().st_size > 100_000 else 1,
                bucket=100_000,  # 26 MB of parts of words in 64 dimensions, where the default would take 512
                thread=1,  # with more, the order of updates is left to chance, and the result with it; its seed is fixed
                verbose=0,
            )
        except RuntimeError as error:
            if "NaN" in str(error):
                return False
            raise
        except ValueError as error:
            raise AssayError(
                f"fastText: {error}.", fix="The documents have too few words: choose --vectors svd."
            ) from error
        return bool(np.isfinite(self._trained.get_input_matrix()).all())

    def encode(self, texts: Sequence[str]) -> Matrix:
        return _unit(self._averages(texts) - self._middle)

    def _averages(self, texts: Sequence[str]) -> Matrix:
        return np.stack([self._trained.get_sentence_vector(text) for _, batch in _batches(texts) for text in batch])


class _Own:
    """A team's own function."""

    def __init__(self, name: str) -> None:
        module, _, function = name.partition(":")
        try:
            self._function: Callable[[list[str]], Any] = getattr(importlib.import_module(module), function)
        except (ImportError, AttributeError, ValueError) as error:
            raise AssayError(
                f"vectors {name!r}: {error}.",
                fix="Choose svd, fasttext or fasttext:skipgram, or write your own as module:function.",
            ) from None
        self._name = name

    def fit(self, texts: Sequence[str], tell: Tell) -> Matrix:
        parts = []
        for done, batch in _batches(texts):
            parts.append(self._rows(batch))
            tell(done)
        return _unit(np.concatenate(parts))

    def encode(self, texts: Sequence[str]) -> Matrix:
        return _unit(np.concatenate([self._rows(batch) for _, batch in _batches(texts)]))

    def _rows(self, batch: list[str]) -> Matrix:
        rows = np.asarray(self._function(batch), np.float32)
        if rows.ndim != 2 or len(rows) != len(batch) or not np.isfinite(rows).all():
            raise AssayError(
                f"vectors {self._name!r}: gave an array of shape {rows.shape} for {len(batch)} texts, or one with NaN.",
                fix="It has to give one row of finite numbers for each text.",
            )
        return rows


def _batches(texts: Sequence[str]) -> Iterator[tuple[float, list[str]]]:
    """Texts by the batch, each one line of the characters that count; and the share that is done with it."""
    for start in range(0, len(texts), BATCH):
        batch = [" ".join(text[:CHARACTERS].replace("\0", " ").split()) for text in texts[start : start + BATCH]]
        yield min(1.0, (start + BATCH) / len(texts)), batch


def _unit(rows: Any) -> Matrix:
    """Rows of length 1, so that Euclidean distance goes by the angle; a text without a word stays at the origin."""
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    unit: Matrix = np.divide(rows, lengths, out=np.zeros_like(rows), where=lengths > 0).astype(np.float32)
    return unit
