"""What touched a source: the corpora, runs and sweeps of a store that were made of one of its versions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from assay.corpus.manifest import Manifest, read_manifest
from assay.errors import AssayError
from assay.files import read_json
from assay.store import Store


@dataclass(frozen=True, kw_only=True)
class TouchedCorpus:
    """A corpus of a source."""

    identity: str
    digest: str
    """The version of the source that it was made of."""
    tokens: int


@dataclass(frozen=True, kw_only=True)
class TouchedRun:
    """A run that was trained, or is to be, on a corpus of a source."""

    fingerprint: str
    mix: str
    """What the sweep that first asked for it calls its mix."""
    seed: int
    state: str
    digest: str
    """The version of the source that it read."""
    share: float
    """Of its tokens."""


@dataclass(frozen=True, kw_only=True)
class TouchedSweep:
    """A sweep that has such runs."""

    name: str
    mixes: tuple[str, ...]
    """Its mixes that touched the source."""
    runs: int
    """Of them."""
    decision: str | None
    """Of the verdict that was written last; ``None`` where none was."""
    pages: tuple[str, ...]
    """Files that show it, below the store."""


@dataclass(frozen=True, kw_only=True)
class Touched:
    """All that touched a source."""

    source: str
    corpora: tuple[TouchedCorpus, ...]
    runs: tuple[TouchedRun, ...]
    sweeps: tuple[TouchedSweep, ...]


def touched(store: Store, source: str, digests: Collection[str] | None = None) -> Touched:
    """Look through a store for what was made of a source.

    Args:
        store: where to look.
        source: its name.
        digests: the versions that are meant, by whatever name they were used; left out, every version that was used by this name.
    """
    corpora = {
        identity: manifest
        for identity, manifest in _manifests(store)
        if (manifest.source == source if digests is None else manifest.source_digest in digests)
    }
    runs = tuple(_runs(store, corpora))
    return Touched(
        source=source,
        corpora=tuple(
            TouchedCorpus(identity=identity, digest=manifest.source_digest, tokens=manifest.tokens)
            for identity, manifest in sorted(corpora.items())
        ),
        runs=runs,
        sweeps=tuple(_sweeps(store, {run.fingerprint for run in runs})),
    )


def _manifests(store: Store) -> Iterator[tuple[str, Manifest]]:
    for path in sorted(store.corpora.glob("*/manifest.json")):
        try:
            yield path.parent.name, read_manifest(path.parent)
        except (AssayError, OSError, ValueError):
            continue  # half-written, or of another format: nothing was trained on it by this store's runs


def _runs(store: Store, corpora: dict[str, Manifest]) -> Iterator[TouchedRun]:
    for run in store.runs():
        try:
            spec, labels, state = run.spec(), run.labels(), run.status().state
        except (AssayError, OSError, ValueError, KeyError):
            continue  # a damaged record; `assay status` names it
        for name, identity in spec.corpora.items():
            if identity in corpora:
                given = sum(stage.weights.get(name, 0.0) * stage.steps for stage in spec.stages) / spec.steps
                yield TouchedRun(
                    fingerprint=run.fingerprint,
                    mix=str(labels.get("mix", "?")),
                    seed=spec.seed,
                    state=state,
                    digest=corpora[identity].source_digest,
                    share=given,
                )


def _sweeps(store: Store, runs: Collection[str]) -> Iterator[TouchedSweep]:
    root = store.root / "sweeps"
    for folder in sorted(path for path in root.glob("*") if path.is_dir()):
        wanted: dict[str, str] = {}
        for path in folder.glob("submissions/*/submission.json"):
            wanted |= {str(run.get("fingerprint")): str(run.get("mix")) for run in _mapping(path).get("runs", ())}
        mixes = Counter(mix for fingerprint, mix in wanted.items() if fingerprint in runs)
        if not mixes:
            continue
        pages = sorted(store.reports.glob(f"{folder.name}.*"))
        yield TouchedSweep(
            name=folder.name,
            mixes=tuple(sorted(mixes)),
            runs=mixes.total(),
            decision=_mapping(store.reports / f"{folder.name}.verdict.json").get("verdict"),
            pages=tuple(str(path.relative_to(store.root)) for path in pages),
        )


def _mapping(path: Path) -> dict[str, Any]:
    try:
        found = read_json(path)
    except (AssayError, OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
