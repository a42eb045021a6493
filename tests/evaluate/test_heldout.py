from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from assay.core.errors import AssayError
from assay.evaluate.heldout import common_length, cut_beginning, read_split, validation_rows
from assay.evaluate.scores import split_score

TEXTS = [
    "The mill stood where the river bent. " * 80,
    "def area(width, height):\n    return width * height\n",
    "Ein Käfer läuft über die Straße: 東京は晴れ 🙂. " * 12,
]


def documents(lm: Any, texts: Sequence[str]) -> Iterator[tuple[str, Any, int]]:
    """Yield texts like a corpus: with the end-of-text token at the end of each document."""
    for number, text in enumerate(texts):
        ids = [*lm.tokenizer(text, add_special_tokens=False)["input_ids"], lm.eot_token_id]
        yield f"{number:032x}", np.array(ids, dtype=np.uint16), len(text.encode())


def measure(lm: Any, texts: Sequence[str], limit: int) -> list[dict[str, Any]]:
    return validation_rows(
        "books", read_split("books", documents(lm, texts), limit=limit, lm=lm), lm, progress=lambda _: None
    )


def test_bits_equal_those_of_lm_eval(lm: Any) -> None:
    from lm_eval.api.instance import Instance

    rows = measure(lm, TEXTS, 10_000)
    requests = [Instance("loglikelihood_rolling", {}, (text,), number) for number, text in enumerate(TEXTS)]
    expected = [-answer / math.log(2) for answer in lm.loglikelihood_rolling(requests, disable_tqdm=True)]
    # Other batches change the last digits of float32.
    assert [row["bits"] for row in rows] == pytest.approx(expected, rel=1e-5)
    assert [row["bytes"] for row in rows] == [len(text.encode()) for text in TEXTS]
    assert [row["bits_per_byte"] for row in rows] == [row["bits"] / row["bytes"] for row in rows]


def test_every_token_is_predicted_once_with_its_predecessor_as_context(lm: Any) -> None:
    (document,) = read_split("books", documents(lm, TEXTS[:1]), limit=10_000, lm=lm)
    ids = lm.tokenizer(TEXTS[0], add_special_tokens=False)["input_ids"]
    assert len(ids) > 3 * lm.max_length
    assert [token for _, predicted in document.windows for token in predicted] == ids
    before = [lm.eot_token_id, *ids]
    start = 0
    for given_ids, predicted in document.windows:
        assert given_ids[-1] == before[start]
        assert len(given_ids) + len(predicted) <= lm.max_length + 1
        start += len(predicted)


def test_a_limit_covers_the_beginnings_of_all_documents_and_short_ones_completely(lm: Any) -> None:
    limit = 3_100
    rows = measure(lm, TEXTS, limit)
    short = len(TEXTS[1].encode())
    assert [row["doc_hash"] for row in rows] == [f"{number:032x}" for number in range(3)]
    assert rows[1]["bytes"] == short
    longest = max(row["bytes"] for row in rows)
    assert longest == max(rows[0]["bytes"], rows[2]["bytes"]) <= limit
    # Documents are cut at whole tokens and characters, a few bytes before the common length.
    assert limit - 64 <= sum(row["bytes"] for row in rows) <= limit


def test_a_large_split_contributes_a_thousand_bytes_per_document(lm: Any) -> None:
    rows = measure(lm, [f"{number} {TEXTS[0]}" for number in range(20)], 5_000)
    assert [row["doc_hash"] for row in rows] == [f"{number:032x}" for number in range(5)]
    assert all(950 <= row["bytes"] <= 1_000 for row in rows)


@given(st.lists(st.integers(0, 1_000), min_size=1), st.integers(0, 5_000))
def test_the_common_length_uses_the_limit_to_within_a_byte_per_document(sizes: list[int], limit: int) -> None:
    length = common_length(sizes, limit)
    spent = sum(min(size, length) for size in sizes)
    assert spent <= limit
    assert spent == sum(sizes) or limit - spent < len(sizes)


@settings(max_examples=60, deadline=None)
@given(text=st.text(min_size=1, max_size=200), limit=st.integers(0, 300))
@example(text="\x80", limit=2)
def test_a_beginning_has_whole_characters_within_the_limit(lm: Any, text: str, limit: int) -> None:
    if "\ufffd" in text:  # looks like a split character; such a text may be cut slightly earlier
        return
    ids = lm.tokenizer(text, add_special_tokens=False)["input_ids"]
    kept, size = cut_beginning(ids, limit, lm.tokenizer)
    assert ids[: len(kept)] == kept
    assert size <= limit
    assert text.encode()[:size].decode() == lm.tokenizer.decode(kept)
    if len(text.encode()) <= limit:
        assert kept == ids


def test_a_split_without_text_is_refused(lm: Any) -> None:
    with pytest.raises(AssayError, match="source 'books': the validation split has no text"):
        read_split("books", iter([("0" * 32, [lm.eot_token_id], 0)]), limit=100, lm=lm)


def test_a_model_without_finite_loglikelihoods_is_refused(lm: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    split = read_split("books", documents(lm, TEXTS[1:2]), limit=100, lm=lm)
    monkeypatch.setattr(lm, "_loglikelihood_tokens", lambda requests, **_: [(math.nan, False)] * len(requests))
    with pytest.raises(
        AssayError, match="task 'validation/books': the model returns loglikelihoods that are not finite"
    ):
        validation_rows("books", split, lm, progress=lambda _: None)


def test_a_split_has_the_ratio_of_bits_to_bytes_with_its_standard_error() -> None:
    bits, sizes = np.array([12.0, 30.0, 55.0, 8.0]), np.array([10, 20, 40, 5])
    rows = [{"bits": float(b), "bytes": int(size)} for b, size in zip(bits, sizes, strict=True)]
    score = split_score("validation/books", rows)
    assert score["value"] == pytest.approx(105 / 75)
    assert (score["n"], score["chance"], score["metric"]) == (4, None, "bits_per_byte")
    # An independent delta method, with the covariance matrix of the two means.
    spread = np.cov(bits, sizes) / 4
    slope = np.array([1 / sizes.mean(), -bits.mean() / sizes.mean() ** 2])
    assert score["stderr"] == pytest.approx(math.sqrt(slope @ spread @ slope))
    assert split_score("validation/books", rows[:1])["stderr"] is None
