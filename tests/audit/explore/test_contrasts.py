"""Contrasts list phrases that are far more frequent in one source, snapshot or host, without a detector."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest

from assay.audit.engine import audit
from assay.audit.explore import records
from assay.audit.explore.contrasts import Contrast, find, scores, without_words
from assay.audit.findings import Findings
from assay.audit.scan import kept_sample
from assay.audit.scan.kept_sample import KeptSample, SampleBuilder, merged
from assay.audit.task import AuditSettings
from assay.config.sources import Source
from assay.corpus.source_reader import SourceDocument, source_digest

VOCABULARY = [
    f"{a}{b}" for a in ("ba", "ke", "li", "mo", "nu", "pa", "re", "so", "ti", "vu") for b in "abcdefghijklmnopqrst"
]


def prose(seed: str, words: int = 80) -> str:
    return " ".join(random.Random(seed).choices(VOCABULARY, k=words))


def sample(texts: list[str], name: str, **fields: str) -> KeptSample:
    builder = SampleBuilder()
    for place, text in enumerate(texts):
        builder.add(SourceDocument(text=text, id=f"{name}{place}", where=f"{name}.jsonl:{place + 1}", **fields))
    return builder.sample()


def test_a_phrase_of_one_source_is_the_first_contrast_and_a_single_one() -> None:
    gutter = " ".join(map(str, range(1, 40)))
    samples = {
        "crawl": sample([f"{prose(f'c{i}')}\n{gutter}\n{prose(f'd{i}')}" for i in range(40)], "crawl"),
        "books": sample([prose(f"b{i}") for i in range(40)], "books"),
        "web": sample([prose(f"w{i}") for i in range(40)], "web"),
    }
    result = find(samples)
    assert {item.source for item in result} == {"crawl"}
    first = result[0]
    assert (first.documents, first.of, first.elsewhere, first.of_elsewhere) == (40, 40, 0, 80)
    assert "1 2 3 4 5" in first.phrase
    assert first.ngrams == 37 + 35  # all three- and five-word n-grams of the line numbers
    assert len(result) == 1
    (start, stop), *_ = first.example.matches
    assert first.example.text[start:stop] == gutter


def test_repetition_within_a_document_counts_once() -> None:
    often = "buy cheap pills now " * 500
    samples = {
        "web": sample([often, *(prose(f"w{i}") for i in range(30))], "web"),
        "books": sample([prose(f"b{i}") for i in range(30)], "books"),
    }
    assert find(samples) == []


def test_a_host_and_a_snapshot_are_contrasted_with_the_rest_of_their_source() -> None:
    def page(i: int) -> SourceDocument:
        bad = i % 4 == 0
        text = f"{prose(f'p{i}')} accept all our cookies now {prose(f'q{i}')}" if bad else prose(f"p{i}", 160)
        host = "shop.example" if bad else "news.example"
        return SourceDocument(
            text=text, id=str(i), where=f"a:{i}", url=f"https://{host}/{i}", snapshot="2024" if bad else "2023"
        )

    builder = SampleBuilder()
    for i in range(120):
        builder.add(page(i))
    result = find({"web": builder.sample()})
    assert {(item.kind, item.group) for item in result} == {("host", "shop.example"), ("snapshot", "2024")}
    assert all(item.phrase == "accept all our cookies now" for item in result)


def test_a_contrast_names_the_source_with_the_second_largest_fraction() -> None:
    def with_phrase(name: str, having: int) -> KeptSample:
        texts = [prose(f"{name}{i}") + (" all rights are reserved by us" if i < having else "") for i in range(40)]
        return sample(texts, name)

    result = find({"a": with_phrase("a", 40), "b": with_phrase("b", 4), "c": with_phrase("c", 0)}, wanted=["a"])
    assert (result[0].nearest, result[0].nearest_rate) == ("b", 0.1)


def test_a_source_is_not_contrasted_with_the_source_that_it_repairs() -> None:
    whole = [f"{prose(f'c{i}')} one two three four five six" for i in range(40)]
    samples = {"crawl": sample(whole, "crawl"), "repaired": sample([prose(f"c{i}") for i in range(40)], "repaired")}
    assert find(samples)
    assert find(samples, repairs={"repaired": "crawl"}) == []


def test_scores_equal_those_of_the_paper() -> None:
    x, n, y, m = 30, 50, 10, 200
    prior = 20 * (x + y + 0.5) / (n + m + 1)
    delta = np.log((x + prior) / (n + 20 - x - prior)) - np.log((y + prior) / (m + 20 - y - prior))
    expected = delta / np.sqrt(1 / (x + prior) + 1 / (y + prior))
    assert scores(np.array([x]), n, np.array([y]), m)[0] == pytest.approx(expected)


@pytest.mark.parametrize(
    "texts", [[], [""], ["one"], ["\0" * 5000], ["x" * 10_000_000], ["\u202e\u0627\u0644 " * 400], [" \n" * 900]]
)
def test_unusual_texts_give_no_contrast(texts: list[str]) -> None:
    assert find({"odd": sample(texts, "odd"), "books": sample([prose("b")], "books")}) == []


def test_merged_samples_equal_the_sample_of_the_whole(tmp_path: Path) -> None:
    documents = [SourceDocument(text=prose(f"t{i}", 50), id=str(i), where=f"x:{i}") for i in range(400)]
    whole, parts = SampleBuilder(20_000), [SampleBuilder(20_000) for _ in range(3)]
    for i, document in enumerate(documents):
        whole.add(document)
        parts[i % 3].add(document)
    drawn, other = whole.sample(), merged([part.sample() for part in parts], 20_000)
    assert sum(len(item.text) for item in drawn.documents) <= 20_000
    assert {item.where for item in other.documents} <= {item.where for item in drawn.documents}
    assert len(other.documents) >= len(drawn.documents) - 1  # the bound is the ticket of the first dropped document
    places = [int(item.document) for item in drawn.documents]
    assert 120 < np.mean(places) < 280  # from the whole file, not from its beginning
    kept_sample.write(tmp_path / "kept.parquet", drawn)
    assert kept_sample.read(tmp_path / "kept.parquet") == drawn


def test_secrets_in_a_phrase_are_masked() -> None:
    key = "AKIA" + "Q3EGR7XWPLZ5T2MN"
    texts = [f"{prose(f'c{i}')} the access key is {key} for all" for i in range(30)]
    [item] = find({"web": sample(texts, "web"), "books": sample([prose(f"b{i}") for i in range(30)], "books")})
    assert key not in json.dumps([item.phrase, item.ngram, item.example.text])


def contrast_of(phrase: str, unit: str) -> Contrast:
    [item] = find(
        {
            "a": sample([f"{prose(f'a{i}')} {phrase}" for i in range(30)], "a"),
            "b": sample([prose(f"b{i}") for i in range(30)], "b"),
        },
        unit=unit,  # type: ignore[arg-type]  # a literal
    )
    return item


def test_token_contrasts_exclude_word_contrasts() -> None:
    words, same, other = (
        contrast_of(p, u) for p, u in (("one two three", "word"), ("one two three", "token"), ("x y z", "token"))
    )
    assert without_words([same, other], [words]) == [other]


def source(path: Path, name: str) -> Source:
    return Source(name=name, files=(str(path),), domain="web", language="en", license="MIT")


def test_a_later_audit_of_one_source_contrasts_it_with_earlier_samples(tmp_path: Path) -> None:
    paths = {}
    for name in ("crawl", "books", "empty"):
        texts = [prose(f"{name}{i}") + (" page down for more of this" if name == "crawl" else "") for i in range(30)]
        paths[name] = tmp_path / f"{name}.jsonl"
        paths[name].write_text("".join(json.dumps({"text": text}) + "\n" for text in texts if name != "empty"))
    store = tmp_path / "store"
    sources = {name: source(path, name) for name, path in paths.items()}
    digests = {name: source_digest(item, cache=store) for name, item in sources.items()}
    audit(
        {name: (item, digests[name]) for name, item in sources.items()},
        store=store,
        settings=AuditSettings(),
        workers=0,
    )
    result = records.contrast(store, {"crawl": digests["crawl"]}, others=["books", "empty"])
    assert [item.phrase for item in result["crawl"]] == ["page down for more of this"]
    assert result["crawl"] == records.contrasts(store, "crawl", digests["crawl"])
    assert records.contrast(store, {"empty": digests["empty"]}, others=["books"]) == {"empty": []}
    assert Findings(store).current("crawl", digests["crawl"]) == []  # a contrast is not a finding
