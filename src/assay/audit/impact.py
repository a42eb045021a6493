"""List the corpora, runs and sweeps of a store that used a version of a source."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from assay.core.errors import Damaged, NotFound
from assay.core.files import read_json
from assay.corpus.manifest import Manifest, read_manifest
from assay.store.runs import Store

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class UsedCorpus:
    """A corpus that was tokenized from a source."""

    identity: str
    digest: str
    """Digest of the source version in the corpus."""
    tokens: int


@dataclass(frozen=True, kw_only=True)
class UsedRun:
    """A finished or planned run that trains on a corpus of a source."""

    fingerprint: str
    mix: str
    """Name of the mix in the sweep that first requested the run."""
    seed: int
    state: str
    digest: str
    """Digest of the source version that the run reads."""
    fraction: float
    """Fraction of the run's tokens from the source."""


@dataclass(frozen=True, kw_only=True)
class UsedSweep:
    """A sweep with runs that train on a source."""

    name: str
    mixes: tuple[str, ...]
    """Mixes of the runs that train on the source."""
    runs: int
    """Number of runs that train on the source."""
    decision: str | None
    """Decision of the newest verdict; None without a verdict."""
    pages: tuple[str, ...]
    """Report files of the sweep, relative to the store."""


@dataclass(frozen=True, kw_only=True)
class SourceDependents:
    """Corpora, runs and sweeps that used a source."""

    source: str
    corpora: tuple[UsedCorpus, ...]
    runs: tuple[UsedRun, ...]
    sweeps: tuple[UsedSweep, ...]


def find_dependents(store: Store, source: str, digests: Collection[str] | None = None) -> SourceDependents:
    """List the corpora, runs and sweeps of a store that used a source.

    Args:
        store: store to search.
        source: name of the source.
        digests: digests of the versions, under any source name (default: all versions used under this source name).
    """
    corpora = {
        identity: manifest
        for identity, manifest in _manifests(store)
        if (manifest.source == source if digests is None else manifest.source_digest in digests)
    }
    runs = tuple(_runs(store, corpora))
    return SourceDependents(
        source=source,
        corpora=tuple(
            UsedCorpus(identity=identity, digest=manifest.source_digest, tokens=manifest.tokens)
            for identity, manifest in sorted(corpora.items())
        ),
        runs=runs,
        sweeps=tuple(_sweeps(store, {run.fingerprint for run in runs})),
    )


def _manifests(store: Store) -> Iterator[tuple[str, Manifest]]:
    for path in sorted(store.corpora.glob("*/manifest.json")):
        try:
            yield path.parent.name, read_manifest(path.parent)
        except NotFound:  # removed in the meantime
            continue
        except (Damaged, OSError) as error:
            log.warning("Skipping the runs on a corpus: %s", error)


def _runs(store: Store, corpora: dict[str, Manifest]) -> Iterator[UsedRun]:
    for run in store.runs():
        try:
            spec, labels, state = run.spec(), run.labels(), run.status().state
        except (Damaged, OSError) as error:
            log.warning("Skipping a run: %s", error)
            continue
        for name, identity in spec.corpora.items():
            if identity in corpora:
                fraction = sum(stage.weights.get(name, 0.0) * stage.steps for stage in spec.stages) / spec.steps
                yield UsedRun(
                    fingerprint=run.fingerprint,
                    mix=str(labels.get("mix", "?")),
                    seed=spec.seed,
                    state=state,
                    digest=corpora[identity].source_digest,
                    fraction=fraction,
                )


def _sweeps(store: Store, runs: Collection[str]) -> Iterator[UsedSweep]:
    root = store.root / "sweeps"
    for folder in sorted(path for path in root.glob("*") if path.is_dir()):
        submitted: dict[str, str] = {}
        for path in folder.glob("submissions/*/submission.json"):
            submitted |= {str(run.get("fingerprint")): str(run.get("mix")) for run in _mapping(path).get("runs", ())}
        mixes = Counter(mix for fingerprint, mix in submitted.items() if fingerprint in runs)
        if not mixes:
            continue
        pages = sorted(store.reports.glob(f"{folder.name}.*"))
        yield UsedSweep(
            name=folder.name,
            mixes=tuple(sorted(mixes)),
            runs=mixes.total(),
            decision=_mapping(store.reports / f"{folder.name}.verdict.json").get("verdict"),
            pages=tuple(str(path.relative_to(store.root)) for path in pages),
        )


def _mapping(path: Path) -> dict[str, Any]:
    try:
        content = read_json(path)
    except (Damaged, OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
