"""Cluster a sample of documents into topics with terms, fractions, quality and defects.

The result is a function of the sources' content and the settings, and is stored under the digest of both::

    audits/topics/<digest>.json                the topics
                  <digest>.parquet             the sampled documents: topic, map coordinates, quality, defects
                  <digest>.questions.parquet   the items of the suite, each with its nearest topic
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from assay.audit.detectors.registry import Detector, detectors
from assay.audit.explore import map_layout
from assay.audit.explore.embeddings import Matrix, encoder
from assay.audit.explore.stratified import StepProgress, StratifiedDocument, StratifiedPart, draw_sample
from assay.audit.scan import quality
from assay.audit.scan.quality import Quality
from assay.core.errors import ConfigError, Damaged, NotFound
from assay.core.files import read_json, replacing, write_json
from assay.core.fingerprint import fingerprint
from assay.core.serde import from_record, to_mapping

if TYPE_CHECKING:
    import pandas as pd

    from assay.config.sources import Source

FORMAT = 2
TERMS, EXAMPLES, EXCERPT = 8, 3, 240
"""Number of terms and of examples per topic, and number of characters of an example."""
MOST_TOPICS = 60
WORD = r"(?u)\b\w{2,40}\b"
VOCABULARY = 50_000
"""Number of the most frequent words, from which terms are selected."""


@dataclass(frozen=True, kw_only=True)
class TopicSettings:
    """Settings of the topics of a sample."""

    vectors: str
    """Name of the embedding; see `assay.audit.explore.embeddings.encoder`."""
    dimensions: int
    sample: int
    """Number of documents over all sources, equally many per source where available."""
    topics: int | None
    """Number of topics; None derives it from the number of documents."""
    seed: int
    declared: tuple[dict[str, Any], ...] = ()
    """The project's detectors; see `assay.audit.detectors.registry`."""
    without: tuple[str, ...] = ()
    """Names of excluded detectors."""

    def __post_init__(self) -> None:
        for name, least in (("dimensions", 2), ("sample", 1), ("topics", 1), ("seed", 0)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ConfigError(
                    f"topics: `{name}` {value} is invalid; expected at least {least}.",
                    fix=f"Set `{name}` to {least} or more.",
                )

    @property
    def repeatable(self) -> bool:
        """Whether equal names imply equal embeddings. The code of a project's function may change."""
        return self.vectors.partition(":")[0] in ("svd", "fasttext")

    def detectors(self) -> list[Detector]:
        """Return the detectors that scan every document of the sample."""
        return detectors(self.declared, without=self.without)

    def number(self, documents: int) -> int:
        """Return the number of topics for a number of documents.

        The number is 2 for 64 documents, 15 for 3,500, 35 for 20,000, and at most `MOST_TOPICS`.
        """
        return self.topics or min(MOST_TOPICS, max(2, round(math.sqrt(documents) / 4)))


class TopicItem(NamedTuple):
    """An item of a suite, or a held-out document.

    Attributes:
        task: leaf task of lm-eval, or `validation/<source>`.
        key: `doc_hash` of the item in the store.
        text: question with its choices, or beginning of the document.
    """

    task: str
    key: str
    text: str


@dataclass(frozen=True, kw_only=True)
class TopicExample:
    """A document near the center of a topic."""

    source: str
    document: str
    where: str
    text: str
    """Beginning of the text. Untrusted: escape it in every output."""


@dataclass(frozen=True, kw_only=True)
class Topic:
    """A cluster of similar documents."""

    number: int
    """Number of the topic, from 1. Topic 1 has the most documents."""
    terms: tuple[str, ...]
    documents: int
    """Number of sampled documents."""
    estimated: float
    """Estimated number of documents in the sources, extrapolated from the sampled fraction of each source."""
    fractions: dict[str, float]
    """Fraction of each source's documents in the topic."""
    main_source: str
    """The source that has the largest fraction of its documents in the topic."""
    lift: float
    """Fraction of `main_source` divided by the mean fraction over sources.

    The lift is 1 if all sources have equal fractions, and the number of sources if only one source has the topic.
    """
    quality: Quality
    defects: dict[str, float]
    """Fraction of the topic's documents with hits of a detector, by name, the largest fraction first."""
    examples: tuple[TopicExample, ...]
    questions: int = 0
    """Number of items of the suite in the topic."""


@dataclass(frozen=True, kw_only=True)
class TopicSummary:
    """The topics of a sample, without the single documents."""

    settings: TopicSettings
    sources: dict[str, StratifiedPart]
    topics: tuple[Topic, ...]
    silhouette: float | None
    """Mean silhouette (Rousseeuw 1987) of up to 2,000 documents. Near 0, topics are not separated."""
    detectors: dict[str, int]
    """Versions of the detectors, by name."""
    format: int = FORMAT


class TopicMap(NamedTuple):
    """Topics with their documents and items.

    Attributes:
        summary: the topics.
        documents: one row per document: `source, document, where, topic, x, y, nearness, excerpt, defects` and the measures
            of `Quality`.
        questions: one row per item: `task, key, topic, x, y, nearness, excerpt`. `nearness` is the cosine to the center of
            the topic.
    """

    summary: TopicSummary
    documents: pd.DataFrame
    questions: pd.DataFrame


def identity(digests: Mapping[str, str], settings: TopicSettings, questions: str | None) -> str:
    """Return the digest under which a result is stored.

    Args:
        digests: digests of the sources, by name.
        settings: settings of the topics.
        questions: identity of the items that are assigned to topics.
    """
    versions = {detector.name: detector.version for detector in settings.detectors()}
    body = [FORMAT, dict(digests), to_mapping(settings), versions, questions]
    return fingerprint("topics", body)


def find(
    sources: Sequence[Source],
    digests: Mapping[str, str],
    settings: TopicSettings,
    *,
    questions: Sequence[TopicItem] = (),
    progress: StepProgress = lambda _step, _fraction: None,
) -> TopicMap:
    """Sample the sources' documents, and cluster them into topics.

    Memory holds the sample: the beginnings of `settings.sample` documents, and one vector per document.

    Args:
        sources: sources to sample, with accessible files.
        digests: digests of the sources, by name.
        settings: settings of the topics.
        questions: items to assign to topics.
        progress: called with the current step and its completed fraction.

    Raises:
        AssayError: the sources have no document, or the embedding fails.
    """
    embedding = encoder(settings.vectors, dimensions=settings.dimensions, seed=settings.seed)
    scanners = settings.detectors()
    kept, parts = draw_sample(
        sources, digests, detectors=scanners, sample=settings.sample, seed=settings.seed, progress=progress
    )
    if not kept:
        raise NotFound(
            "topics: the sources have no document.",
            fix="Name other sources, or check these sources with `assay audit`.",
        )
    texts = [document.text for document in kept]
    rows = embedding.fit(texts, lambda done: progress("vectors", done))
    progress("topics", 0.0)
    labels, centers = partition(rows, settings.number(len(kept)), settings.seed)
    places, hubs = map_layout.positions(rows, labels, centers, seed=settings.seed)
    nearness = (rows * centers[labels]).sum(axis=1) / np.maximum(np.linalg.norm(centers[labels], axis=1), 1e-9)
    terms = _terms(texts, labels, len(centers))
    progress("topics", 0.7)
    vectors = embedding.encode([item.text for item in questions]) if questions else None
    placed = _place(questions, vectors, centers, hubs, settings)
    items_in = Counter(placed["topic"].tolist())
    topics = tuple(
        _describe(
            number, [kept[i] for i in _nearest(labels, nearness, number)], terms[number], parts, items_in[number + 1]
        )
        for number in range(len(centers))
    )
    progress("topics", 1.0)
    summary = TopicSummary(
        settings=settings,
        sources=parts,
        topics=topics,
        silhouette=_silhouette(rows, labels, settings.seed),
        detectors={detector.name: detector.version for detector in scanners},
    )
    return TopicMap(summary, _table(kept, labels, places, nearness), placed)


# --- clustering


def partition(rows: Matrix, number: int, seed: int) -> tuple[np.ndarray, Matrix]:
    """Cluster documents with k-means.

    Returns:
        The label of each row, from 0 for the largest cluster, and the centers.
    """
    from sklearn.cluster import MiniBatchKMeans

    number = min(number, len(np.unique(rows.round(5), axis=0)))
    model = MiniBatchKMeans(number, random_state=seed, n_init=5, batch_size=4096)
    raw = model.fit_predict(rows)
    sizes = np.bincount(raw, minlength=number)
    order = sorted((i for i in range(number) if sizes[i]), key=lambda i: (-sizes[i], int(np.flatnonzero(raw == i)[0])))
    renumbered = np.full(number, -1)
    renumbered[order] = range(len(order))
    labels = renumbered[raw]
    centers = np.stack([rows[labels == i].mean(axis=0) for i in range(len(order))])
    return labels, centers.astype(np.float32)


def _terms(texts: Sequence[str], labels: np.ndarray, number: int) -> list[tuple[str, ...]]:
    """Select the words that distinguish each topic: class-based TF-IDF (Grootendorst, arXiv 2203.05794).

    A document counts once per word, so that no single document determines the terms. The square root of the frequency in
    the topic keeps common words from ranking first.
    """
    from scipy import sparse
    from sklearn.feature_extraction.text import CountVectorizer

    counter = CountVectorizer(
        binary=True, max_features=VOCABULARY, min_df=2 if len(texts) >= 50 else 1, token_pattern=WORD
    )
    try:
        table = counter.fit_transform(texts)
    except ValueError:  # no text has a word
        return [()] * number
    member = sparse.csr_matrix((np.ones(len(labels)), (labels, range(len(labels)))), shape=(number, len(labels)))
    counts = (member @ table).toarray().astype(np.float64)
    frequency = counts / np.maximum(1, counts.sum(axis=1, keepdims=True))
    scores = np.sqrt(frequency) * np.log1p(counts.sum() / number / np.maximum(1, counts.sum(axis=0)))
    names = counter.get_feature_names_out()
    return [tuple(str(names[i]) for i in np.argsort(-row, kind="stable")[:TERMS] if row[i] > 0) for row in scores]


def _nearest(labels: np.ndarray, nearness: np.ndarray, number: int) -> list[int]:
    """List the documents of a topic, with the nearest to its center first."""
    members = np.flatnonzero(labels == number)
    return [int(i) for i in members[np.argsort(-nearness[members], kind="stable")]]


def _describe(
    number: int,
    members: Sequence[StratifiedDocument],
    terms: tuple[str, ...],
    parts: Mapping[str, StratifiedPart],
    questions: int,
) -> Topic:
    counts = Counter(document.source for document in members)
    fractions = {name: counts[name] / part.sampled for name, part in parts.items() if part.sampled}
    main_source = max(fractions, key=lambda name: fractions[name])
    hits = Counter(name for document in members for name in document.defects)
    return Topic(
        number=number + 1,
        terms=terms,
        documents=len(members),
        estimated=sum(fraction * parts[name].documents for name, fraction in fractions.items()),
        fractions=fractions,
        main_source=main_source,
        lift=fractions[main_source] / (sum(fractions.values()) / len(fractions)),
        quality=quality.mean([document.quality for document in members]),
        defects={name: count / len(members) for name, count in hits.most_common()},
        examples=tuple(
            TopicExample(
                source=document.source, document=document.id, where=document.where, text=document.text[:EXCERPT]
            )
            for document in members[:EXAMPLES]
        ),
        questions=questions,
    )


def _silhouette(rows: Matrix, labels: np.ndarray, seed: int) -> float | None:
    from sklearn.metrics import silhouette_score

    if not 2 <= labels.max() + 1 < len(rows):
        return None
    chosen = np.random.default_rng(seed).permutation(len(rows))[:2000]
    if not 2 <= len(set(labels[chosen])) < len(chosen):
        return None
    return float(silhouette_score(rows[chosen], labels[chosen]))


def _table(
    kept: Sequence[StratifiedDocument], labels: np.ndarray, places: Matrix, nearness: np.ndarray
) -> pd.DataFrame:
    import pandas as pd

    records = [
        {
            "source": document.source,
            "document": document.id,
            "where": document.where,
            "excerpt": document.text[:EXCERPT],
            "defects": list(document.defects),
            **to_mapping(document.quality),
        }
        for document in kept
    ]
    return pd.DataFrame(records).assign(topic=labels + 1, x=places[:, 0], y=places[:, 1], nearness=nearness)


def _place(
    questions: Sequence[TopicItem], rows: Matrix | None, centers: Matrix, hubs: Matrix, settings: TopicSettings
) -> pd.DataFrame:
    """Assign items to the topic with the largest cosine, and place them near its center."""
    import pandas as pd

    table = pd.DataFrame(
        [(item.task, item.key, item.text[:EXCERPT]) for item in questions], columns=["task", "key", "excerpt"]
    )
    if rows is None:
        return table.assign(**{name: np.empty(0) for name in ("topic", "x", "y", "nearness")})
    unit = centers / np.maximum(np.linalg.norm(centers, axis=1, keepdims=True), 1e-9)
    cosine = rows @ unit.T
    nearest = cosine.argmax(axis=1)
    span = 0.02 * max(1e-3, float(np.ptp(hubs, axis=0).max()) if len(hubs) > 1 else 1.0)
    around = hubs[nearest] + np.random.default_rng(settings.seed).normal(0, span, (len(rows), 2))
    return table.assign(topic=nearest + 1, x=around[:, 0], y=around[:, 1], nearness=cosine.max(axis=1))


# --- the store


def folder(root: Path) -> Path:
    """Return the folder of a store's results."""
    return root / "audits" / "topics"


def save(root: Path, digest: str, result: TopicMap) -> None:
    """Write the tables of a topic map, then its JSON file.

    The order guarantees that the tables of a JSON file exist.
    """
    for name, table in ((f"{digest}.parquet", result.documents), (f"{digest}.questions.parquet", result.questions)):
        with replacing(folder(root) / name) as temporary:
            table.to_parquet(temporary, compression="zstd", index=False)
    write_json(folder(root) / f"{digest}.json", to_mapping(result.summary))


def load(root: Path, digest: str) -> TopicMap | None:
    """Load a result; return None if it is missing or incomplete."""
    import pandas as pd

    path = folder(root) / f"{digest}.json"
    try:
        summary = from_record(TopicSummary, read_json(path), where=str(path))
        tables = [pd.read_parquet(folder(root) / f"{digest}{kind}.parquet") for kind in ("", ".questions")]
    except (OSError, Damaged, ValueError):  # the file is missing or truncated: the caller computes the result again
        return None
    return TopicMap(summary, tables[0], tables[1])
