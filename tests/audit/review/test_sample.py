"""Samples for review: stratified, deterministic, in one pass with bounded memory."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from assay.audit.review.sample import DRAWN, PREVIEW, STRATA, sample
from assay.audit.review.strata_labels import read_strata
from assay.config.sources import Source
from assay.core.errors import AssayError


def make(folder: Path, *files: list[dict[str, object]]) -> Source:
    folder.mkdir(parents=True, exist_ok=True)
    for place, records in enumerate(files):
        lines = "".join(json.dumps(record) + "\n" for record in records)
        (folder / f"{place}.jsonl").write_text(lines, encoding="utf-8")
    return Source(name="crawl", files=(f"{folder}/*.jsonl",), domain="web", language="en", license=None)


def test_a_sample_has_every_decile_of_the_length_and_the_extremes(tmp_path: Path) -> None:
    source = make(tmp_path, [{"id": str(i), "text": "x" * (i + 1)} for i in range(1000)])
    drawn = sample(source, count=20, by="length")
    tenths = Counter((document.characters - 1) // 100 for document in drawn.picked)
    assert tenths == dict.fromkeys(range(10), 2)
    few = sample(source, count=12, by="length", seed=3).picked
    assert {0, 9} <= {
        tenth for tenth, n in Counter((document.characters - 1) // 100 for document in few).items() if n == 2
    }


def test_a_rare_host_is_sampled_like_a_frequent_one(tmp_path: Path) -> None:
    records: list[dict[str, object]] = [
        {"id": f"a{i}", "text": "x", "url": "https://big.example/x"} for i in range(990)
    ]
    records += [{"id": f"b{i}", "text": "x", "url": "https://rare.example/x"} for i in range(2)]
    records += [{"id": "c", "text": "x"}, {"id": "d", "text": "x", "url": "http://["}]
    drawn = sample(make(tmp_path, records), count=6, by="host")
    assert Counter(document.stratum for document in drawn.picked) == {
        "big.example": 2,
        "rare.example": 2,
        "(no host)": 2,
    }
    assert drawn.strata == {"big.example": 990, "rare.example": 2, "(no host)": 2}


def test_with_more_hosts_than_documents_hosts_of_all_sizes_are_sampled(tmp_path: Path) -> None:
    records: list[dict[str, object]] = [
        {"text": "x", "url": f"https://h{host:03}.example/"} for host in range(100) for _ in range(100 - host)
    ]
    source = make(tmp_path, records)
    for seed in range(3):
        places = [int(document.stratum[1:4]) for document in sample(source, count=10, by="host", seed=seed).picked]
        assert [place // 10 for place in places] == list(range(10))


def test_a_seed_draws_the_same_documents_in_any_folder(tmp_path: Path) -> None:
    records: list[dict[str, object]] = [{"text": f"text {i} " * (i % 7), "snapshot": str(i % 3)} for i in range(1, 400)]
    here, there = make(tmp_path / "here", records), make(tmp_path / "there", records)
    for by in ("length", "compression", "snapshot", "random"):
        texts = [
            [document.text for document in sample(source, count=9, by=by, seed=1).picked] for source in (here, there)
        ]  # type: ignore[arg-type]  # a literal of a loop
        assert texts[0] == texts[1]
    other = [document.text for document in sample(here, count=9, by="random", seed=2).picked]
    assert other != texts[0]


def test_memory_is_bounded_by_the_kept_documents(tmp_path: Path) -> None:
    records: list[dict[str, object]] = [
        {"text": "y" * 3000 if i == 7 else f"x{i}", "url": f"https://h{i}.example/"} for i in range(DRAWN + 500)
    ]
    source = make(tmp_path, records)
    lengths = sample(source, count=10, by="length")
    assert (lengths.documents, sum(lengths.strata.values())) == (DRAWN + 500, DRAWN)
    hosts = sample(source, count=10, by="host")
    assert len(hosts.strata) == STRATA + 1
    assert sum(hosts.strata.values()) == DRAWN + 500
    longest = max(sample(source, count=100, by="length").picked, key=lambda document: document.characters)
    assert len(longest.text) <= PREVIEW


def test_a_bounded_sample_is_marked_and_reads_files_in_seeded_order(tmp_path: Path) -> None:
    files: list[list[dict[str, object]]] = [[{"text": f"{f} " * 500} for _ in range(200)] for f in range(12)]
    source = make(tmp_path, *files)
    firsts = set()
    for seed in range(6):
        drawn = sample(source, count=5, by="random", seed=seed, most_bytes=100_000)
        assert not drawn.whole
        assert drawn.documents < 12 * 200
        firsts.add(drawn.picked[0].text[:2])
    assert len(firsts) > 1
    assert sample(source, count=5, by="random", most_bytes=10**9).whole


def test_unreadable_records_are_skipped_and_an_empty_source_gives_an_empty_sample(tmp_path: Path) -> None:
    source = make(tmp_path, [{"text": "one"}], [])
    with (tmp_path / "0.jsonl").open("ab") as handle:
        handle.write(b'\xff\n{"text": 5}\n{"te')
    assert [document.text for document in sample(source, count=5, by="length").picked] == ["one"]
    empty = make(tmp_path / "empty", [])
    assert sample(empty, count=5, by="length").picked == ()


@pytest.mark.parametrize("count", [0, 101])
def test_the_size_of_a_sample_is_bounded(tmp_path: Path, count: int) -> None:
    with pytest.raises(AssayError, match="1 to 100"):
        sample(make(tmp_path, [{"text": "x"}]), count=count, by="length")


def test_precomputed_deciles_contain_only_documents_with_a_value(tmp_path: Path) -> None:
    source = make(tmp_path, [{"id": str(i), "text": f"text {i}"} for i in range(300)])
    bits: dict[str, str | float] = {f"{tmp_path}/0.jsonl:{i + 1}": 1 + i / 100 for i in range(0, 300, 3)}
    drawn = sample(source, count=10, by="bits", strata=bits)
    assert [round((document.measured or 0) * 100 - 100) // 30 for document in drawn.picked] == list(range(10))
    assert sum(drawn.strata.values()) == 100


def test_a_sample_by_topic_has_documents_of_each_topic(tmp_path: Path) -> None:
    source = make(tmp_path, [{"id": str(i), "text": f"text {i}"} for i in range(100)])
    topics: dict[str, str | float] = {f"{tmp_path}/0.jsonl:{i + 1}": "2: b" if i < 3 else "1: a" for i in range(100)}
    drawn = sample(source, count=4, by="topic", strata=topics)
    assert Counter(document.stratum for document in drawn.picked) == {"1: a": 2, "2: b": 2}
    with pytest.raises(AssayError, match="expected `strata`"):
        sample(source, count=4, by="topic")


def test_the_last_decile_of_quality_has_the_most_deviating_documents(tmp_path: Path) -> None:
    usual = [
        "\n".join(f"The {a}th day was colder than the {b}th, and it rained." for b in range(a, a + 20))
        for a in range(95)
    ]
    odd = ["0123456789 " * 100, "{}[]();=+ " * 90, "same line here\n" * 70, "z", "ﷺ" * 5000]
    drawn = sample(make(tmp_path, [{"text": text} for text in usual + odd]), count=100, by="quality")
    last = [document for document in drawn.picked if document.stratum.startswith("quality 10/10")]
    assert {document.text[:5] for document in last} >= {text[:5] for text in odd}


def test_missing_topics_and_bits_name_the_command_to_run(tmp_path: Path) -> None:
    with pytest.raises(AssayError, match="assay audit topics"):
        read_strata(tmp_path, "crawl", "0" * 64, "topic")
    with pytest.raises(AssayError, match="assay audit crawl --proxy"):
        read_strata(tmp_path, "crawl", "0" * 64, "bits")
    assert read_strata(tmp_path, "crawl", "0" * 64, "length") is None
