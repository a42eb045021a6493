"""Topics: planted topics are separated, results are deterministic, and no text becomes markup."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable, Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from assay.audit.explore import embeddings, topics
from assay.audit.explore.topics import TopicItem, TopicMap, TopicSettings
from assay.config.sources import Source
from assay.core.errors import AssayError
from assay.report import topic_map as map_page
from assay.report.by_topic import score_by_topic
from tests.cli.invoke import Said, caller

TOPICS = {
    "cooking": [
        "onion",
        "pepper",
        "simmer",
        "saucepan",
        "garlic",
        "recipe",
        "oven",
        "butter",
        "flour",
        "whisk",
        "boil",
        "salt",
    ],
    "sailing": [
        "mast",
        "anchor",
        "harbour",
        "tide",
        "rudder",
        "sail",
        "deck",
        "captain",
        "knot",
        "wind",
        "crew",
        "voyage",
    ],
    "algebra": [
        "ring",
        "field",
        "ideal",
        "module",
        "kernel",
        "lemma",
        "theorem",
        "proof",
        "group",
        "morphism",
        "tensor",
        "rank",
    ],
}
COMMON = ["the", "of", "and", "to", "in", "is", "that", "for"]
HOSTILE = (
    '<script>document.title="run"</script><img src=x onerror="document.title=1"></textarea><b>bold</b>',
    "\u202eright to left\u202c \x00 NUL \x1b[31m",
    "</script><script src=https://example.org/x.js></script> {{ 7*7 }}",
    "x" * 1_000_000,
    "   \n\n  ",
    "1 2 3",
)


def write(folder: Path, name: str, texts: Sequence[str], **fields: Any) -> Source:
    path = folder / f"{name}.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")
    return Source(name=name, files=(str(path),), domain="text", language="en", license="CC0-1.0", **fields)


def texts_of(topic: str, number: int) -> list[str]:
    draw = random.Random(topic)
    return [" ".join(draw.choices(TOPICS[topic], k=30) + draw.choices(COMMON, k=30)) for _ in range(number)]


def settings(**changes: Any) -> TopicSettings:
    return TopicSettings(**{"vectors": "svd", "dimensions": 16, "sample": 1000, "topics": 3, "seed": 0, **changes})


def found_in(sources: Sequence[Source], questions: Sequence[TopicItem] = (), **changes: Any) -> TopicMap:
    digests = {source.name: "0" * 64 for source in sources}
    return topics.find(sources, digests, settings(**changes), questions=questions)


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> list[Source]:
    folder = tmp_path_factory.mktemp("planted")
    return [write(folder, topic, texts_of(topic, 40)) for topic in TOPICS]


@pytest.mark.parametrize("kind", ["svd", "fasttext", "fasttext:skipgram"])
def test_planted_topics_are_separated(kind: str, planted: list[Source]) -> None:
    if kind != "svd":
        pytest.importorskip("fasttext")
    result = found_in(planted, vectors=kind)
    assert sorted(topic.main_source for topic in result.summary.topics) == sorted(TOPICS)
    for topic in result.summary.topics:
        assert (topic.documents, topic.fractions[topic.main_source], topic.lift) == (40, 1.0, pytest.approx(3.0))
        assert len(set(topic.terms) & set(TOPICS[topic.main_source])) >= 6
        assert {near.source for near in topic.examples} == {topic.main_source}
    assert result.summary.silhouette is not None
    assert result.summary.silhouette > 0.3


def test_the_same_input_and_seed_give_the_same_topics_and_positions(planted: list[Source]) -> None:
    first, second = found_in(planted, sample=60), found_in(planted[::-1], sample=60)
    assert first.summary == second.summary
    pd.testing.assert_frame_equal(first.documents, second.documents)
    other = found_in(planted, sample=60, seed=1)
    assert set(other.documents["where"]) != set(first.documents["where"])


def test_sources_are_sampled_equally_and_larger_ones_compensate_for_small_ones(
    tmp_path: Path,
) -> None:
    sources = [write(tmp_path, "small", texts_of("cooking", 5)), write(tmp_path, "large", texts_of("sailing", 100))]
    result = found_in(sources, sample=40)
    assert {name: part.sampled for name, part in result.summary.sources.items()} == {"small": 5, "large": 35}
    assert sum(topic.estimated for topic in result.summary.topics) == pytest.approx(105)


def test_items_are_assigned_to_their_topic(planted: list[Source]) -> None:
    items = [
        TopicItem(f"task_{topic}", f"hash {topic}", f"Which {words[0]} has {words[1]}?")
        for topic, words in TOPICS.items()
    ]
    result = found_in(planted, items)
    most = {topic.number: topic.main_source for topic in result.summary.topics}
    assert [f"task_{most[int(number)]}" for number in result.questions["topic"]] == list(result.questions["task"])
    assert [topic.questions for topic in result.summary.topics] == [1, 1, 1]


def test_defects_and_quality_are_reported_by_topic(tmp_path: Path) -> None:
    gutter = "\n".join(map(str, range(1, 60)))
    sources = [
        write(tmp_path, "listings", [f"{gutter}\n{text}" for text in texts_of("algebra", 20)]),
        write(tmp_path, "prose", texts_of("cooking", 20)),
    ]
    listings, prose = sorted(found_in(sources, topics=2).summary.topics, key=lambda topic: topic.main_source)
    assert (listings.defects["line_number_gutter"], prose.defects.get("line_number_gutter")) == (1.0, None)
    assert listings.quality.digits > 0.15 > prose.quality.digits == 0


def test_declared_detectors_count_by_topic_and_a_failing_one_is_counted(tmp_path: Path) -> None:
    sources = [write(tmp_path, "prose", [*texts_of("cooking", 20), "a second helping of onion and pepper " * 9])]
    declared = (
        {"name": "garlic", "pattern": "garlic", "reason": "a clove too many"},
        {
            "name": "ours",
            "function": "tests.audit.detectors.local_detectors:raises",
            "reason": "raises on one document",
        },
    )
    result = found_in(sources, topics=1, declared=declared, without=("near_empty",)).summary
    assert result.topics[0].defects["garlic"] > 0.5
    assert result.sources["prose"].failed == {"ours": 1}
    assert {"garlic", "ours"} <= set(result.detectors)
    assert "near_empty" not in result.detectors
    other = settings(declared=(declared[0] | {"pattern": "leek"},))
    assert (
        len({topics.identity({}, topic, None) for topic in (settings(), settings(declared=declared[:1]), other)}) == 3
    )


def test_extreme_documents_get_a_topic(tmp_path: Path) -> None:
    result = found_in([write(tmp_path, "hostile", HOSTILE * 3)])
    assert len(result.documents) == 3 * len(HOSTILE)
    assert np.isfinite(result.documents[["x", "y", "nearness", "compression"]].to_numpy()).all()


@pytest.mark.parametrize("texts", [["one document"], ["the same"] * 9, ["   "] * 4, ["a", "b"]])
def test_few_or_equal_documents_give_as_many_topics_as_they_can(tmp_path: Path, texts: list[str]) -> None:
    result = found_in([write(tmp_path, "few", texts)], topics=None)
    assert len(result.summary.topics) == len({text for text in texts if len(text.strip()) > 1} or {""})
    assert np.isfinite(result.documents[["x", "y"]].to_numpy()).all()


def test_sources_without_documents_are_rejected(tmp_path: Path) -> None:
    with pytest.raises(AssayError, match="have no document"):
        found_in([write(tmp_path, "empty", [])])


def test_unreadable_records_are_skipped_and_counted(tmp_path: Path) -> None:
    source = write(tmp_path, "broken", texts_of("cooking", 5))
    with (tmp_path / "broken.jsonl").open("ab") as file:
        file.write(b'{"text": "cut\n{"text": "\xff"}\n')
    assert found_in([source]).summary.sources["broken"].unread == 2


@pytest.mark.parametrize("field", ["sample", "topics", "dimensions"])
def test_settings_out_of_bounds_are_rejected_by_name(field: str) -> None:
    with pytest.raises(AssayError, match=f"`{field}` 0 is invalid"):
        settings(**{field: 0})


def lengths(texts: list[str]) -> list[list[float]]:
    return [[float(len(text)), 1.0] for text in texts]


def wrong(texts: list[str]) -> list[float]:
    return [0.0 for _ in texts]


def test_a_project_s_embedding_is_a_function_with_checked_results(planted: list[Source]) -> None:
    assert len(found_in(planted, vectors=f"{__name__}:lengths").documents) == 120
    with pytest.raises(AssayError, match="shape"):
        found_in(planted, vectors=f"{__name__}:wrong")
    for name in ("word2vec", "nowhere:f", ":f"):
        with pytest.raises(AssayError, match=f"vectors '{name}'"):
            embeddings.encoder(name, dimensions=2, seed=0)


def test_a_training_with_nan_is_repeated_at_a_lower_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    fasttext = pytest.importorskip("fasttext")
    train, rates = fasttext.train_unsupervised, []

    def fails_once(*given: Any, **options: Any) -> Any:
        rates.append(options["lr"])
        if len(rates) == 1:
            raise RuntimeError("Encountered NaN.")
        return train(*given, **options)

    monkeypatch.setattr(fasttext, "train_unsupervised", fails_once)
    rows = embeddings.encoder("fasttext", dimensions=8, seed=0).fit(texts_of("cooking", 20), lambda _share: None)
    assert rates == [0.05, 0.025]
    assert np.linalg.norm(rows, axis=1) == pytest.approx(np.ones(20), abs=1e-5)


def test_results_survive_a_round_trip_and_a_truncated_one_loads_as_none(tmp_path: Path, planted: list[Source]) -> None:
    result = found_in(planted, [TopicItem("task", "key", "a saucepan")])
    topics.save(tmp_path, "digest", result)
    again = topics.load(tmp_path, "digest")
    assert again is not None
    assert again.summary == result.summary
    assert again.questions.to_dict("list") == result.questions.to_dict("list")
    path = topics.folder(tmp_path) / "digest.parquet"
    path.write_bytes(path.read_bytes()[:-10])
    assert topics.load(tmp_path, "digest") is None


def test_scores_are_grouped_by_the_topic_of_the_item() -> None:
    rows = []
    for mix, right in {"base": (1, 0, 1), "new": (1, 1, 1)}.items():
        for seed in (0, 1):
            rows += [(mix, seed, "arc", "acc", f"q{i}:p", value, None, 1.0) for i, value in enumerate(right)]
            rows += [(mix, seed, "all", "acc", f"q{i}:p", value, "arc", 1.0) for i, value in enumerate(right)]
            rows.append((mix, seed, "validation/code", "bits_per_byte", "d:", 2.0 + (mix == "new"), None, 500.0))
    items = pd.DataFrame(rows, columns=["mix", "seed", "task", "metric", "item", "value", "group", "weight"])
    places = pd.DataFrame(
        [("arc", "q0", 1), ("arc", "q1", 1), ("arc", "q2", 2), ("validation/code", "d", 2)],
        columns=["task", "key", "topic"],
    )
    result = {(topic.topic, topic.metric): topic for topic in score_by_topic(items, places, ["base", "new"])}
    assert set(result) == {(1, "acc"), (2, "acc"), (2, "bits_per_byte")}
    base, new = result[1, "acc"].arms
    assert (result[1, "acc"].questions, base.value, new.value, new.difference) == (2, 0.5, 1.0, 0.5)
    # Differences 0 and 1: mean .5, SD .7071, standard error .5; t with one degree of freedom is 12.706.
    assert new.margin == pytest.approx(12.706 * 0.5, rel=1e-3)
    assert result[2, "bits_per_byte"].arms[1].difference == 1.0
    assert result[2, "bits_per_byte"].arms[1].margin is None
    assert score_by_topic(items.iloc[:0], places, ["base"]) == []


# --- the map


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))


@pytest.fixture(scope="module")
def hostile_map(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("map")
    sources = [write(folder, "hostile", HOSTILE), write(folder, "prose", texts_of("cooking", 30))]
    result = found_in(sources, [TopicItem("task", "key", HOSTILE[0])])
    path = folder / "map.html"
    path.write_text(map_page.render(result, title="hostile, prose"), encoding="utf-8")
    return path


def test_the_map_contains_text_of_documents_only_compressed(hostile_map: Path) -> None:
    page, tags = hostile_map.read_text(encoding="utf-8"), Tags()
    tags.feed(page)
    assert [attributes.get("type") for tag, attributes in tags.seen if tag == "script"] == ["text/plain", None]
    assert not [tag for tag, _ in tags.seen if tag in ("img", "iframe", "object", "link[href]")]
    assert not [name for _, attributes in tags.seen for name in attributes if name.startswith("on")]
    assert "onerror" not in page
    assert "example.org" not in page
    policy = next(attributes["content"] for tag, attributes in tags.seen if attributes.get("http-equiv"))
    assert policy is not None
    assert "unsafe-eval" not in policy
    assert "default-src 'none'" in policy


def test_the_map_opens_displays_text_as_text_and_filters_in_a_browser(hostile_map: Path) -> None:
    driver = pytest.importorskip("playwright.sync_api", reason="the map is driven with playwright")
    chromium = next((path for name in ("chromium", "google-chrome") if (path := shutil.which(name))), None)
    if chromium is None:
        pytest.skip("no chromium on PATH to open the map in")
    with driver.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        tab, messages = browser.new_page(viewport={"width": 1280, "height": 900}), []
        tab.on("console", lambda message: messages.append(message.text))
        tab.on("pageerror", lambda error: messages.append(str(error)))
        tab.on(
            "request",
            lambda request: messages.append(request.url) if not request.url.startswith(("file:", "data:")) else None,
        )
        tab.goto(hostile_map.as_uri())
        tab.wait_for_selector("html[data-map]", state="attached")
        assert tab.get_attribute("html", "data-map") == "ready"
        expression = "document.getElementById('map').dataset.shown"
        assert tab.evaluate(expression) == "36"
        tab.click("#filter label:has-text('prose')")
        assert tab.evaluate(expression) == "6"
        box = tab.query_selector("#map").bounding_box()
        # Mouse moves by the driver take 10 ms each; the page receives all of them at once.
        texts = tab.evaluate(
            """([left, top, width, height]) => {
              const map = document.getElementById("map"), texts = new Set();
              for (let y = top; y < top + height; y += 10) {
                for (let x = left; x < left + width; x += 10) {
                  map.dispatchEvent(new PointerEvent("pointermove", { clientX: x, clientY: y }));
                  texts.add(document.getElementById("detail").textContent);
                }
              }
              return [...texts];
            }""",
            [box["x"], box["y"], box["width"], box["height"]],
        )
        assert any("<script>document.title=" in text for text in texts)
        assert tab.title() == "Map: hostile, prose"
        assert not tab.query_selector_all("#detail *")
        assert messages == []
        browser.close()


# --- the command


@pytest.fixture
def assay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Said]:
    (tmp_path / "conf/source").mkdir(parents=True)
    for topic in TOPICS:
        write(tmp_path, topic, texts_of(topic, 30))
        (tmp_path / f"conf/source/{topic}.yaml").write_text(
            f"files: [{topic}.jsonl]\ndomain: text\nlanguage: en\nlicense: MIT\n"
        )
    monkeypatch.chdir(tmp_path)
    return caller(monkeypatch, capsys)


def test_the_command_reuses_its_stored_result(assay: Callable[..., Said], tmp_path: Path) -> None:
    options = ("audit", "topics", *TOPICS, "--topics", "3", "--map", "map.html")
    first = assay(*options, "--json").json
    assert {topic["main_source"] for topic in first["topics"]} == set(TOPICS)
    kept = tmp_path / "store/audits/topics" / f"{first['digest']}.json"
    before = kept.stat().st_mtime_ns
    assert assay(*options, "--json").json == first
    assert kept.stat().st_mtime_ns == before
    assert (tmp_path / "map.html").stat().st_size > 10_000
    printed = assay(*options).out
    assert "cooking 3.0x" in printed
    assert "map: map.html" in printed


def test_options_default_to_the_configuration(assay: Callable[..., Said], tmp_path: Path) -> None:
    (tmp_path / "conf/audit").mkdir()
    (tmp_path / "conf/audit/ours.yaml").write_text("detectors: [{name: leek, pattern: leek, reason: a leek}]\n")
    given = (
        "topics.vectors=tests.audit.explore.test_topics:lengths",
        "topics.sample=30",
        "topics.number=2",
    )
    reply = assay("audit", "topics", *TOPICS, *given, "--seed", "1", "--sample", "45", "--json").json
    assert {name: reply["settings"][name] for name in ("vectors", "sample", "topics", "seed", "dimensions")} == {
        "vectors": "tests.audit.explore.test_topics:lengths",
        "sample": 45,
        "topics": 2,
        "seed": 1,
        "dimensions": 64,
    }
    assert "leek" in reply["detectors"]
    refused = assay("audit", "topics", "topics.vector=svd")
    assert refused.code == 2
    assert "topics.vector" in refused.err


def test_an_unknown_source_is_reported_with_the_nearest_name(assay: Callable[..., Said]) -> None:
    refused = assay("audit", "topics", "coking")
    assert refused.code == 2
    assert "Did you mean 'cooking'?" in refused.err
