"""What sources are made of: a sample of their documents in clusters, with terms, shares, quality and defects.

The result is a function of the sources' content and the settings, and is kept under the digest of both::

    audits/clusters/<digest>.json                the clusters
                    <digest>.parquet             the sampled documents: cluster, place on the map, quality, defects
                    <digest>.questions.parquet   the suite's questions, each with the cluster nearest to it
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from assay.audit import layout, quality
from assay.audit.detectors import Detector, detectors
from assay.audit.quality import Quality
from assay.audit.strata import Kept, Part, gather
from assay.audit.vectors import Matrix, encoder
from assay.errors import AssayError
from assay.files import read_json, replacing, write_json
from assay.fingerprint import fingerprint
from assay.structure import from_mapping, to_mapping

if TYPE_CHECKING:
    import pandas as pd

    from assay.sources import Source

FORMAT = 1
TERMS, EXAMPLES, EXCERPT = 8, 3, 240
"""Kept of each cluster, and characters of an example."""
MOST_CLUSTERS = 60
WORD = r"(?u)\b\w{2,40}\b"
VOCABULARY = 50_000
"""Words that terms are chosen from, the most frequent."""

Tell = Callable[[str, float], None]
"""Told what is being done, and the share that is done."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How documents are clustered."""

    vectors: str
    """As `assay.audit.vectors.encoder` takes it."""
    dimensions: int
    sample: int
    """Documents, over all sources; each gives the same number as far as it has them."""
    clusters: int | None
    """``None`` to have their number follow from that of the documents."""
    seed: int
    declared: tuple[dict[str, Any], ...] = ()
    """A team's own detectors, which are counted like the others; see `assay.audit.detectors`."""
    without: tuple[str, ...] = ()
    """Detectors that are left out."""

    def __post_init__(self) -> None:
        for name, least in (("dimensions", 2), ("sample", 1), ("clusters", 1), ("seed", 0)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise AssayError(f"clusters: {name} is {value}; it is at least {least}.")

    @property
    def repeatable(self) -> bool:
        """Whether the name of the vectors says what they are; a team's own function may change behind its name."""
        return self.vectors.partition(":")[0] in ("svd", "fasttext")

    def detectors(self) -> list[Detector]:
        """What looks at every document of the sample."""
        return detectors(self.declared, without=self.without)

    def number(self, documents: int) -> int:
        """Of clusters: 2 for 64 documents, 15 for 3,500, 35 for 20,000, and `MOST_CLUSTERS` at most."""
        return self.clusters or min(MOST_CLUSTERS, max(2, round(math.sqrt(documents) / 4)))


class Question(NamedTuple):
    """A question of a suite, or a held-out document: what models are scored on.

    Attributes:
        task: lm-eval's leaf task, or `validation/<source>`.
        key: the `doc_hash` that the store's items have.
        text: of the question with its choices, or the document's beginning.
    """

    task: str
    key: str
    text: str


@dataclass(frozen=True, kw_only=True)
class Near:
    """A document near the middle of a cluster."""

    source: str
    document: str
    where: str
    text: str
    """Its beginning. Hostile: escape it wherever it is shown."""


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """Documents that are alike."""

    number: int
    """From 1, the one with the most documents first."""
    terms: tuple[str, ...]
    documents: int
    """Of the sample."""
    estimated: float
    """Of the sources: each sampled document stands for those of its source that were not."""
    shares: dict[str, float]
    """Of each source's documents, the share that is here."""
    most: str
    """The source with the largest share of its documents here."""
    lift: float
    """That share by the mean of all sources' shares: 1 where sources are alike, their number where no other is here."""
    quality: Quality
    defects: dict[str, float]
    """Share of the documents that a detector hits, by its name, the largest first."""
    examples: tuple[Near, ...]
    questions: int = 0


@dataclass(frozen=True, kw_only=True)
class Clusters:
    """All of it, but for the single documents."""

    settings: Settings
    sources: dict[str, Part]
    clusters: tuple[Cluster, ...]
    silhouette: float | None
    """Mean silhouette (Rousseeuw 1987) of up to 2,000 documents: near 0, clusters are cuts through a cloud."""
    detectors: dict[str, int]
    """What looked for defects, by name and version."""
    format: int = FORMAT


class Found(NamedTuple):
    """Clusters and the points in them.

    Attributes:
        clusters: what there is to say of each.
        documents: a row each: `source, document, where, cluster, x, y, nearness, excerpt, defects` and the measures of `Quality`.
        questions: a row each: `task, key, cluster, x, y, nearness, excerpt`; nearness is the cosine to the cluster's centre.
    """

    clusters: Clusters
    documents: pd.DataFrame
    questions: pd.DataFrame


def identity(digests: Mapping[str, str], settings: Settings, questions: str | None) -> str:
    """The digest under which a result is kept.

    Args:
        digests: of the sources, by name.
        settings: of the clusters.
        questions: identity of the questions that are placed among them.
    """
    found = {one.name: one.version for one in settings.detectors()}
    body = [FORMAT, dict(digests), to_mapping(settings), found, questions]
    return fingerprint("clusters", body)


def find(
    sources: Sequence[Source],
    digests: Mapping[str, str],
    settings: Settings,
    *,
    questions: Sequence[Question] = (),
    tell: Tell = lambda _what, _share: None,
) -> Found:
    """Sample the sources' documents, and cluster them.

    Memory is that of the sample: `settings.sample` beginnings of documents and one vector for each.

    Args:
        sources: to sample, with files that can be opened.
        digests: of each source, by name, as they are written down.
        settings: of the clusters.
        questions: to place among them.
        tell: told what is done.

    Raises:
        AssayError: the sources have no document, or the vectors cannot be made.
    """
    make = encoder(settings.vectors, dimensions=settings.dimensions, seed=settings.seed)
    looking = settings.detectors()
    kept, parts = gather(sources, digests, looking=looking, sample=settings.sample, seed=settings.seed, tell=tell)
    if not kept:
        raise AssayError(
            "clusters: the sources hold no document.", fix="Name others, or look at what `assay audit` says."
        )
    texts = [one.text for one in kept]
    rows = make.fit(texts, lambda share: tell("vectors", share))
    tell("clusters", 0.0)
    labels, centres = partition(rows, settings.number(len(kept)), settings.seed)
    places, hubs = layout.positions(rows, labels, centres, seed=settings.seed)
    nearness = (rows * centres[labels]).sum(axis=1) / np.maximum(np.linalg.norm(centres[labels], axis=1), 1e-9)
    terms = _terms(texts, labels, len(centres))
    tell("clusters", 0.7)
    asked = _place(
        questions, make.encode([one.text for one in questions]) if questions else None, centres, hubs, settings
    )
    counted = Counter(asked["cluster"].tolist())
    made = tuple(
        _describe(
            number, [kept[i] for i in _nearest(labels, nearness, number)], terms[number], parts, counted[number + 1]
        )
        for number in range(len(centres))
    )
    tell("clusters", 1.0)
    whole = Clusters(
        settings=settings,
        sources=parts,
        clusters=made,
        silhouette=_silhouette(rows, labels, settings.seed),
        detectors={one.name: one.version for one in looking},
    )
    return Found(whole, _table(kept, labels, places, nearness), asked)


# --- the clusters


def partition(rows: Matrix, number: int, seed: int) -> tuple[np.ndarray, Matrix]:
    """The cluster of each row, from 0 with the largest first, and the clusters' centres."""
    from sklearn.cluster import MiniBatchKMeans

    number = min(number, len(np.unique(rows.round(5), axis=0)))
    model = MiniBatchKMeans(number, random_state=seed, n_init=5, batch_size=4096)
    raw = model.fit_predict(rows)
    sizes = np.bincount(raw, minlength=number)
    order = sorted((i for i in range(number) if sizes[i]), key=lambda i: (-sizes[i], int(np.flatnonzero(raw == i)[0])))
    again = np.full(number, -1)
    again[order] = range(len(order))
    labels = again[raw]
    centres = np.stack([rows[labels == i].mean(axis=0) for i in range(len(order))])
    return labels, centres.astype(np.float32)


def _terms(texts: Sequence[str], labels: np.ndarray, number: int) -> list[tuple[str, ...]]:
    """The words that tell each cluster from the others: class-based TF-IDF (Grootendorst, arXiv 2203.05794).

    A document counts once for a word, so that none speaks for its cluster alone, and the frequency in the cluster is taken
    by its square root, which keeps the words of every text from the top.
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
    """A cluster's documents, those nearest to its centre first."""
    mine = np.flatnonzero(labels == number)
    return [int(i) for i in mine[np.argsort(-nearness[mine], kind="stable")]]


def _describe(
    number: int, mine: Sequence[Kept], terms: tuple[str, ...], parts: Mapping[str, Part], questions: int
) -> Cluster:
    counts = Counter(one.source for one in mine)
    shares = {name: counts[name] / part.sampled for name, part in parts.items() if part.sampled}
    most = max(shares, key=lambda name: shares[name])
    hits = Counter(name for one in mine for name in one.defects)
    return Cluster(
        number=number + 1,
        terms=terms,
        documents=len(mine),
        estimated=sum(share * parts[name].documents for name, share in shares.items()),
        shares=shares,
        most=most,
        lift=shares[most] / (sum(shares.values()) / len(shares)),
        quality=quality.mean([one.quality for one in mine]),
        defects={name: count / len(mine) for name, count in hits.most_common()},
        examples=tuple(
            Near(source=one.source, document=one.id, where=one.where, text=one.text[:EXCERPT])
            for one in mine[:EXAMPLES]
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


def _table(kept: Sequence[Kept], labels: np.ndarray, places: Matrix, nearness: np.ndarray) -> pd.DataFrame:
    import pandas as pd

    plain = [
        {
            "source": one.source,
            "document": one.id,
            "where": one.where,
            "excerpt": one.text[:EXCERPT],
            "defects": list(one.defects),
            **to_mapping(one.quality),
        }
        for one in kept
    ]
    return pd.DataFrame(plain).assign(cluster=labels + 1, x=places[:, 0], y=places[:, 1], nearness=nearness)


def _place(
    questions: Sequence[Question], rows: Matrix | None, centres: Matrix, hubs: Matrix, settings: Settings
) -> pd.DataFrame:
    """The questions in the cluster whose centre has the largest cosine; on the map around that centre, at random."""
    import pandas as pd

    table = pd.DataFrame(
        [(one.task, one.key, one.text[:EXCERPT]) for one in questions], columns=["task", "key", "excerpt"]
    )
    if rows is None:
        return table.assign(**{name: np.empty(0) for name in ("cluster", "x", "y", "nearness")})
    unit = centres / np.maximum(np.linalg.norm(centres, axis=1, keepdims=True), 1e-9)
    cosine = rows @ unit.T
    nearest = cosine.argmax(axis=1)
    span = 0.02 * max(1e-3, float(np.ptp(hubs, axis=0).max()) if len(hubs) > 1 else 1.0)
    around = hubs[nearest] + np.random.default_rng(settings.seed).normal(0, span, (len(rows), 2))
    return table.assign(cluster=nearest + 1, x=around[:, 0], y=around[:, 1], nearness=cosine.max(axis=1))


# --- the store


def folder(root: Path) -> Path:
    """Where the results of a store are."""
    return root / "audits" / "clusters"


def save(root: Path, digest: str, found: Found) -> None:
    """Write a result; the JSON last, so that what it speaks of is there."""
    for name, table in ((f"{digest}.parquet", found.documents), (f"{digest}.questions.parquet", found.questions)):
        with replacing(folder(root) / name) as temporary:
            table.to_parquet(temporary, compression="zstd", index=False)
    write_json(folder(root) / f"{digest}.json", to_mapping(found.clusters))


def load(root: Path, digest: str) -> Found | None:
    """A result, where it is there and whole."""
    import pandas as pd

    path = folder(root) / f"{digest}.json"
    try:
        clusters = from_mapping(Clusters, read_json(path), where=str(path))
        tables = [pd.read_parquet(folder(root) / f"{digest}{kind}.parquet") for kind in ("", ".questions")]
    except (OSError, AssayError, ValueError):  # not there, or cut: it is made again
        return None
    return Found(clusters, tables[0], tables[1])
