"""What is far more frequent in one source, snapshot or host is found without anybody having thought of it."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest

from assay.audit import kept, unknown
from assay.audit.contrasts import Contrast, find, scores, without_words
from assay.audit.engine import audit
from assay.audit.findings import Findings
from assay.audit.kept import Keeper, Sample, merged
from assay.audit.task import Settings
from assay.corpus.read import Document, source_digest
from assay.sources import Source

VOCABULARY = [
    f"{a}{b}" for a in ("ba", "ke", "li", "mo", "nu", "pa", "re", "so", "ti", "vu") for b in "abcdefghijklmnopqrst"
]


def prose(seed: str, words: int = 80) -> str:
    return " ".join(random.Random(seed).choices(VOCABULARY, k=words))


def sample(texts: list[str], name: str, **fields: str) -> Sample:
    keeper = Keeper()
    for place, text in enumerate(texts):
        keeper.add(Document(text=text, id=f"{name}{place}", where=f"{name}.jsonl:{place + 1}", **fields))
    return keeper.sample()


def test_a_phrase_of_one_source_comes_first_and_in_one_row() -> None:
    gutter = " ".join(map(str, range(1, 40)))
    samples = {
        "crawl": sample([f"{prose(f'c{i}')}\n{gutter}\n{prose(f'd{i}')}" for i in range(40)], "crawl"),
        "books": sample([prose(f"b{i}") for i in range(40)], "books"),
        "web": sample([prose(f"w{i}") for i in range(40)], "web"),
    }
    found = find(samples)
    assert {one.source for one in found} == {"crawl"}
    first = found[0]
    assert (first.documents, first.of, first.elsewhere, first.of_elsewhere) == (40, 40, 0, 80)
    assert "1 2 3 4 5" in first.phrase
    assert first.ngrams == 37 + 35  # all three- and five-word n-grams of the gutter
    assert len(found) == 1
    (start, stop), *_ = first.example.matches
    assert first.example.text[start:stop] == gutter


def test_documents_count_and_not_how_often_one_repeats_itself() -> None:
    often = "buy cheap pills now " * 500
    samples = {
        "web": sample([often, *(prose(f"w{i}") for i in range(30))], "web"),
        "books": sample([prose(f"b{i}") for i in range(30)], "books"),
    }
    assert find(samples) == []


def test_a_host_and_a_snapshot_are_contrasted_with_the_rest_of_their_source() -> None:
    def page(i: int) -> Document:
        bad = i % 4 == 0
        text = f"{prose(f'p{i}')} accept all our cookies now {prose(f'q{i}')}" if bad else prose(f"p{i}", 160)
        host = "shop.example" if bad else "news.example"
        return Document(
            text=text, id=str(i), where=f"a:{i}", url=f"https://{host}/{i}", snapshot="2024" if bad else "2023"
        )

    keeper = Keeper()
    for i in range(120):
        keeper.add(page(i))
    found = find({"web": keeper.sample()})
    assert {(one.kind, one.group) for one in found} == {("host", "shop.example"), ("snapshot", "2024")}
    assert all(one.phrase == "accept all our cookies now" for one in found)


def test_the_source_that_has_it_next_is_named() -> None:
    def with_phrase(name: str, having: int) -> Sample:
        texts = [prose(f"{name}{i}") + (" all rights are reserved by us" if i < having else "") for i in range(40)]
        return sample(texts, name)

    found = find({"a": with_phrase("a", 40), "b": with_phrase("b", 4), "c": with_phrase("c", 0)}, wanted=["a"])
    assert (found[0].nearest, found[0].nearest_rate) == ("b", 0.1)


def test_a_source_is_not_contrasted_with_the_one_that_it_repairs() -> None:
    whole = [f"{prose(f'c{i}')} one two three four five six" for i in range(40)]
    samples = {"crawl": sample(whole, "crawl"), "mended": sample([prose(f"c{i}") for i in range(40)], "mended")}
    assert find(samples)
    assert find(samples, repairs={"mended": "crawl"}) == []


def test_scores_are_those_of_the_paper() -> None:
    x, n, y, m = 30, 50, 10, 200
    prior = 20 * (x + y + 0.5) / (n + m + 1)
    delta = np.log((x + prior) / (n + 20 - x - prior)) - np.log((y + prior) / (m + 20 - y - prior))
    expected = delta / np.sqrt(1 / (x + prior) + 1 / (y + prior))
    assert scores(np.array([x]), n, np.array([y]), m)[0] == pytest.approx(expected)


@pytest.mark.parametrize(
    "texts", [[], [""], ["one"], ["\0" * 5000], ["x" * 10_000_000], ["\u202e\u0627\u0644 " * 400], [" \n" * 900]]
)
def test_odd_texts_are_passed_over(texts: list[str]) -> None:
    assert find({"odd": sample(texts, "odd"), "books": sample([prose("b")], "books")}) == []


def test_a_sample_of_parts_is_the_sample_of_the_whole(tmp_path: Path) -> None:
    documents = [Document(text=prose(f"t{i}", 50), id=str(i), where=f"x:{i}") for i in range(400)]
    whole, parts = Keeper(20_000), [Keeper(20_000) for _ in range(3)]
    for i, document in enumerate(documents):
        whole.add(document)
        parts[i % 3].add(document)
    drawn, other = whole.sample(), merged([part.sample() for part in parts], 20_000)
    assert sum(len(one.text) for one in drawn.documents) <= 20_000
    assert {one.where for one in other.documents} <= {one.where for one in drawn.documents}
    assert len(other.documents) >= len(drawn.documents) - 1  # the bound is that of what was left out
    places = [int(one.document) for one in drawn.documents]
    assert 120 < np.mean(places) < 280  # from everywhere, not from the beginning
    kept.write(tmp_path / "kept.parquet", drawn)
    assert kept.read(tmp_path / "kept.parquet") == drawn


def test_secrets_in_a_phrase_are_masked() -> None:
    key = "AKIA" + "Q3EGR7XWPLZ5T2MN"
    texts = [f"{prose(f'c{i}')} the access key is {key} for all" for i in range(30)]
    [one] = find({"web": sample(texts, "web"), "books": sample([prose(f"b{i}") for i in range(30)], "books")})
    assert key not in json.dumps([one.phrase, one.ngram, one.example.text])


def contrast_of(phrase: str, unit: str) -> Contrast:
    [one] = find(
        {
            "a": sample([f"{prose(f'a{i}')} {phrase}" for i in range(30)], "a"),
            "b": sample([prose(f"b{i}") for i in range(30)], "b"),
        },
        unit=unit,  # type: ignore[arg-type]  # a literal
    )
    return one


def test_tokens_tell_only_what_words_do_not() -> None:
    words, same, other = (
        contrast_of(p, u) for p, u in (("one two three", "word"), ("one two three", "token"), ("x y z", "token"))
    )
    assert without_words([same, other], [words]) == [other]


def source(path: Path, name: str) -> Source:
    return Source(name=name, files=(str(path),), domain="web", language="en", licence="MIT")


def test_an_audit_keeps_what_contrasts_are_made_of_and_a_later_one_of_one_source_has_the_others(tmp_path: Path) -> None:
    paths = {}
    for name in ("crawl", "books", "empty"):
        texts = [prose(f"{name}{i}") + (" page down for more of this" if name == "crawl" else "") for i in range(30)]
        paths[name] = tmp_path / f"{name}.jsonl"
        paths[name].write_text("".join(json.dumps({"text": text}) + "\n" for text in texts if name != "empty"))
    store = tmp_path / "store"
    sources = {name: source(path, name) for name, path in paths.items()}
    digests = {name: source_digest(one, cache=store) for name, one in sources.items()}
    audit({name: (one, digests[name]) for name, one in sources.items()}, store=store, settings=Settings(), workers=0)
    found = unknown.contrast(store, {"crawl": digests["crawl"]}, others=["books", "empty"])
    assert [one.phrase for one in found["crawl"]] == ["page down for more of this"]
    assert found["crawl"] == unknown.contrasts(store, "crawl", digests["crawl"])
    assert unknown.contrast(store, {"empty": digests["empty"]}, others=["books"]) == {"empty": []}
    assert Findings(store).current("crawl", digests["crawl"]) == []  # a contrast is no finding
