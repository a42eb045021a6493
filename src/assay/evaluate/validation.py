"""Bits per byte of the sources' held-out documents."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from assay.errors import AssayError
from assay.suite import VALIDATION

if TYPE_CHECKING:
    from numpy.typing import NDArray

Documents = Iterable[tuple[str, "Sequence[int] | NDArray[Any]", int]]
"""Hash, token ids (the end-of-text token may be their last), and bytes of text."""

LEAST_BYTES = 1000
"""Of a document, where its split has more documents than can be measured: less would be its title."""

Window = tuple[list[int], list[int]]
"""Token ids that are given, and those that are to be predicted."""


class Tokenizer(Protocol):
    """What is needed of a tokenizer: how much text some ids are."""

    def decode(self, ids: Sequence[int], *, skip_special_tokens: bool, clean_up_tokenization_spaces: bool) -> str:
        """The text of token ids."""


@dataclass(frozen=True, kw_only=True)
class Document:
    """A held-out document, or its beginning, cut into windows of the model's context."""

    doc_hash: str
    bytes: int
    windows: tuple[Window, ...]


def open_documents(path: Path) -> Documents:
    """The held-out documents of a corpus, in its order."""
    from assay.corpus.shards import Corpus

    return Corpus.open(path).validation()


def read_split(source: str, documents: Documents, *, limit: int, lm: Any) -> list[Document]:
    """`limit` bytes of a split: the beginnings of as many documents as there are, each up to the same length.

    Documents differ more than passages of one document do, so that much of few says less of a source than little of
    many. The common length is what makes the beginnings add up to `limit`, and at least `LEAST_BYTES`.

    The text is cut into windows as lm-eval cuts it for a perplexity: no two overlap in what they predict, each is
    given the token before it, and the last one as much of what comes before as fits. Each token is predicted once,
    so that this costs one pass over the text; a sliding window would give every token more context and cost several.
    The end-of-text token is given at the start and not predicted: it is no byte of the text.

    Args:
        source: its name, for errors.
        documents: the split.
        limit: bytes of text.
        lm: the harness's model.

    Raises:
        AssayError: the split has no text.
    """
    candidates = list(itertools.islice(documents, max(1, limit // LEAST_BYTES)))
    longest = common_length([size for _, _, size in candidates], limit)
    chosen: list[Document] = []
    for doc_hash, tokens, size in candidates:
        ids = [int(token) for token in tokens]
        if ids and ids[-1] == lm.eot_token_id:
            ids.pop()
        kept, length = (ids, size) if size <= longest else beginning(ids, longest, lm.tokenizer)
        if kept and length:
            chosen.append(Document(doc_hash=doc_hash, bytes=length, windows=tuple(_windows(kept, lm))))
    if not chosen:
        raise AssayError(
            f"source {source!r}: its validation split has no text to measure bits per byte on.",
            fix="Give it more documents, or set the suite's validation_bytes to 0.",
        )
    return chosen


def common_length(sizes: Sequence[int], limit: int) -> int:
    """The length to which documents are cut so that together they are at most `limit` bytes.

    >>> common_length([10, 50, 90], 100)
    45
    >>> common_length([10, 20], 100)
    100
    """
    left, many = limit, len(sizes)
    for size in sorted(sizes):
        if size * many > left:
            return left // many
        left, many = left - size, many - 1
    return limit


def beginning(ids: Sequence[int], limit: int, tokenizer: Tokenizer) -> tuple[list[int], int]:
    """The longest run of tokens from the start that is at most `limit` bytes of whole characters; and its bytes."""
    low, high = 0, min(len(ids), limit)  # a token is a byte or more; so a book need not be decoded to cut a page off it
    while low < high:
        middle = (low + high + 1) // 2
        # A character that is cut in two reads as U+FFFD, longer than itself; without it more tokens are never fewer bytes.
        if len(_text(ids[:middle], tokenizer).rstrip("\ufffd").encode()) <= limit:
            low = middle
        else:
            high = middle - 1
    # A token can end inside a character, which then reads as U+FFFD; a character is at most 4 bytes, so 4 tokens.
    while low and _text(ids[:low], tokenizer).endswith("\ufffd"):
        low -= 1
    return list(ids[:low]), _size(ids[:low], tokenizer)


def validation_rows(
    source: str, documents: Sequence[Document], lm: Any, *, done: Callable[[int], None]
) -> list[dict[str, Any]]:
    """Score a split: one row a document, as `items.parquet` has them.

    Args:
        source: its name.
        documents: the split.
        lm: the harness's model.
        done: told how many windows were scored.

    Raises:
        AssayError: a loglikelihood is not finite.
    """
    windows = [(number, window) for number, document in enumerate(documents) for window in document.windows]
    bits = [0.0] * len(documents)
    for part in _parts(windows, 16 * int(lm.batch_size)):
        requests = [(None, given, predicted) for _, (given, predicted) in part]
        answers = lm._loglikelihood_tokens(requests, disable_tqdm=True)  # noqa: SLF001  # every harness model defines it: the door for text that is tokens already
        for (number, _), (loglikelihood, _) in zip(part, answers, strict=True):
            bits[number] -= loglikelihood / math.log(2)
        done(len(part))
    task = VALIDATION + source
    rows = [
        {
            "task": task,
            "group": task,
            "doc_id": number,
            "doc_hash": document.doc_hash,
            "prompt_hash": "",
            "bits_per_byte": total / document.bytes,
            "bits": total,
            "bytes": document.bytes,
            "metrics": {},
        }
        for number, (document, total) in enumerate(zip(documents, bits, strict=True))
    ]
    if not all(math.isfinite(total) for total in bits):
        raise AssayError(
            f"task {task!r}: the model gives loglikelihoods that are not finite.",
            fix="Its weights are broken; see whether the run diverged.",
        )
    return rows


def read_splits(
    corpora: Mapping[str, Path],
    *,
    limit: int,
    lm: Any,
    open_corpus: Callable[[Path], Documents] = open_documents,
) -> dict[str, list[Document]]:
    """The beginnings of all sources' splits, by name."""
    return {
        source: read_split(source, open_corpus(path), limit=limit, lm=lm) for source, path in sorted(corpora.items())
    }


def _windows(ids: list[int], lm: Any) -> Iterator[Window]:
    from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

    windows = get_rolling_token_windows(
        token_list=ids, prefix_token=lm.prefix_token_id, max_seq_len=lm.max_length, context_len=1
    )
    for window in windows:
        given, predicted = make_disjoint_window(window)
        yield list(given), list(predicted)


def _parts(windows: list[tuple[int, Window]], size: int) -> Iterator[list[tuple[int, Window]]]:
    for start in range(0, len(windows), size):
        yield windows[start : start + size]


def _size(ids: Sequence[int], tokenizer: Tokenizer) -> int:
    return len(_text(ids, tokenizer).encode())


def _text(ids: Sequence[int], tokenizer: Tokenizer) -> str:
    return tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
