"""The hash of a text decides whether it is held out, and each source holds out enough to measure."""

from __future__ import annotations

from assay.corpus.holdout import (
    LARGEST_FRACTION,
    LEAST_BYTES,
    LEAST_DOCUMENTS,
    document_hash,
    held_out_by_rank,
    is_held_out,
)


def hashed(count: int, size: int, *, first: int = 0) -> list[tuple[bytes, int]]:
    return [(document_hash(str(i).encode()), size) for i in range(first, first + count)]


def test_about_one_document_in_fifty_is_held_out() -> None:
    held = sum(is_held_out(digest) for digest, _ in hashed(20_000, 1))
    assert 340 < held < 460  # 400 expected, standard deviation 20


def test_the_side_of_a_document_never_changes() -> None:
    """A change would let new evaluations measure documents that older runs trained on."""
    assert document_hash(b"assay").hex() == "55565f0175459e77ff1114347ef8a00c"
    assert [i for i in range(300) if is_held_out(document_hash(str(i).encode()))] == [
        64,
        85,
        95,
        117,
        118,
        128,
        169,
        191,
        226,
        235,
        291,
    ]


def test_a_large_source_holds_out_nothing_by_rank() -> None:
    assert held_out_by_rank(hashed(5_000, 5_000)) == frozenset()


def test_a_large_source_is_recognized_early() -> None:
    read = 0

    def endless() -> object:
        nonlocal read
        while True:
            yield hashed(1, 50_000, first=read)[0]
            read += 1

    assert held_out_by_rank(endless()) == frozenset()  # type: ignore[arg-type]
    assert read < 5_000


def test_a_small_source_holds_out_the_minimum_within_its_largest_fraction() -> None:
    documents = hashed(150, 25_000)
    ranked = held_out_by_rank(documents)
    held = sum(is_held_out(digest) or digest in ranked for digest, _ in documents)
    assert ranked
    assert held <= 150 * LARGEST_FRACTION
    assert held * 25_000 >= LEAST_BYTES
    assert held <= LEAST_DOCUMENTS


def test_a_document_too_large_for_the_fraction_is_skipped() -> None:
    documents = sorted(item for item in hashed(200, 10_000) if not is_held_out(item[0]))
    second, *_ = documents[1]
    documents[1] = (second, 1_000_000)
    ranked = held_out_by_rank(documents)
    assert second not in ranked
    assert documents[2][0] in ranked


def test_of_two_documents_one_is_held_out() -> None:
    documents = [item for item in hashed(10, 100) if not is_held_out(item[0])][:2]
    assert held_out_by_rank(documents) == {min(digest for digest, _ in documents)}


def test_the_split_does_not_depend_on_the_order_of_documents() -> None:
    documents = hashed(120, 9_000)
    assert held_out_by_rank(documents) == held_out_by_rank(documents[::-1])
