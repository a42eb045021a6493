"""Compute bits per byte of held-out documents."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from assay.config.suite import VALIDATION
from assay.core.errors import Damaged, Refused

if TYPE_CHECKING:
    from numpy.typing import NDArray

Documents = Iterable[tuple[str, "Sequence[int] | NDArray[Any]", int]]
"""Documents as hash, token ids and bytes of text. The last id may be the end-of-text token."""

LEAST_BYTES = 1000
"""Minimum bytes per measured document if the split has enough documents. Fewer bytes would cover only a title."""

Window = tuple[list[int], list[int]]
"""Token ids of the context, and token ids to predict."""


class Decoder(Protocol):
    """An object that decodes ids, such as a tokenizer or a `corpus.encoder.TextEncoder`."""

    def decode(self, ids: list[int], /) -> str:
        """Decode token ids."""


@dataclass(frozen=True, kw_only=True)
class HeldOutDocument:
    """A held-out document or its beginning, split into windows of the model's context."""

    doc_hash: str
    bytes: int
    """Bytes of the text that the tokens determine."""
    lost: int = 0
    """Bytes of the document that the tokenizer loses; unknown for a beginning."""
    windows: tuple[Window, ...]


def open_documents(path: Path) -> Documents:
    """Read the held-out documents of a corpus, in order of hash."""
    from assay.corpus.shards import Corpus

    return Corpus.open(path).validation()


def read_split(source: str, documents: Documents, *, limit: int, lm: Any) -> list[HeldOutDocument]:
    """Truncate the documents of a split to a common length, with `limit` bytes in total.

    Documents differ more than passages of one document. Short beginnings of many documents therefore represent a source
    better than long texts of few documents. The beginnings have a common length, at least `LEAST_BYTES`, and add up to
    `limit`.

    Windows are those of lm-eval's perplexity: predictions do not overlap, the context of a window is the token before
    the window, and the last window gets as much further context as fits. Each token is predicted once, in one pass over
    the text. A sliding window would give each token more context, but would need several passes. The end-of-text token
    is the first context. It is never predicted, because it is not a byte of the text.

    Args:
        source: name of the source, for messages.
        documents: the split.
        limit: number of bytes of text.
        lm: lm-eval's model.

    Raises:
        AssayError: the split has no text.
    """
    candidates = list(itertools.islice(documents, max(1, limit // LEAST_BYTES)))
    longest = common_length([size for _, _, size in candidates], limit)
    chosen: list[HeldOutDocument] = []
    for doc_hash, tokens, size in candidates:
        ids = [int(token) for token in tokens]
        if ids and ids[-1] == lm.eot_token_id:
            ids.pop()
        if size <= longest:
            # A tokenizer may lose characters: their bytes were not predicted, so they must not count.
            kept, length = ids, min(size, len(lm.encoder.decode(ids).encode()))
            lost = size - length
        else:
            (kept, length), lost = cut_beginning(ids, longest, lm.encoder), 0
        if kept and length:
            windows = tuple(_windows(kept, lm))
            chosen.append(HeldOutDocument(doc_hash=doc_hash, bytes=length, lost=lost, windows=windows))
    if not chosen:
        raise Refused(
            f"source {source!r}: the validation split has no text to measure bits per byte on.",
            fix="Add documents, or set the suite's validation_bytes to 0.",
        )
    return chosen


def common_length(sizes: Sequence[int], limit: int) -> int:
    """Compute the length of truncated documents so that their sum is at most `limit` bytes.

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


def cut_beginning(ids: Sequence[int], limit: int, decoder: Decoder) -> tuple[list[int], int]:
    """Return the longest token prefix of whole characters with at most `limit` bytes.

    Returns:
        The prefix and its number of bytes.
    """
    low, high = (
        0,
        min(len(ids), limit),
    )  # a token has at least one byte, so only the first `limit` tokens of a book are decoded
    while low < high:
        middle = (low + high + 1) // 2
        # A split character decodes to U+FFFD, which is longer. Apart from it, further tokens never reduce the bytes.
        if len(decoder.decode(list(ids[:middle])).rstrip("\ufffd").encode()) <= limit:
            low = middle
        else:
            high = middle - 1
    # A token can end inside a character, which then decodes to U+FFFD. A character has at most 4 bytes, so at most 4
    # tokens.
    while low and decoder.decode(list(ids[:low])).endswith("\ufffd"):
        low -= 1
    return list(ids[:low]), len(decoder.decode(list(ids[:low])).encode())


def validation_rows(
    source: str, documents: Sequence[HeldOutDocument], lm: Any, *, progress: Callable[[int], None]
) -> list[dict[str, Any]]:
    """Score a split, with one row of `items.parquet` per document.

    Args:
        source: name of the source.
        documents: the split.
        lm: lm-eval's model.
        progress: called with the number of windows that were scored since the last call.

    Raises:
        AssayError: a loglikelihood is not finite.
    """
    windows = [(number, window) for number, document in enumerate(documents) for window in document.windows]
    bits = [0.0] * len(documents)
    for part in _parts(windows, 16 * int(lm.batch_size)):
        requests = [(None, given, predicted) for _, (given, predicted) in part]
        answers = lm._loglikelihood_tokens(requests, disable_tqdm=True)  # noqa: SLF001  # all lm-eval models define it, for text that is tokenized already
        for (number, _), (loglikelihood, _) in zip(part, answers, strict=True):
            bits[number] -= loglikelihood / math.log(2)
        progress(len(part))
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
        raise Damaged(
            f"task {task!r}: the model returns loglikelihoods that are not finite.",
            fix="Check whether the run diverged. Its weights may not be finite.",
        )
    return rows


def read_splits(
    corpora: Mapping[str, Path],
    *,
    limit: int,
    lm: Any,
    open_corpus: Callable[[Path], Documents] = open_documents,
) -> dict[str, list[HeldOutDocument]]:
    """Read the splits of all sources with `read_split`, by name."""
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
