"""Store the records of an audit that reveal defects without a detector.

The records are a sample, distributions and contrasts, stored with the version of the source. They are derived from the
files of the source. Contrasts also depend on the files of other sources. A user may delete the records, because the
next audit recreates them. ::

    audits/<source>/<digest>/kept.parquet          sample of documents; see `assay.audit.scan.kept_sample`
                             distributions.json    length, compression, symbol ratio; see `assay.audit.scan.distributions`
                             contrasts.json        contrasts with other sources; see `assay.audit.explore.contrasts`
                             bits/<run>.json       bits per byte of sampled documents under a run's model
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from assay.audit.explore.contrasts import FORMAT, Contrast, find, without_words
from assay.audit.findings import Findings
from assay.audit.scan import kept_sample
from assay.audit.scan.collector import DISTRIBUTIONS, SAMPLE
from assay.audit.scan.distributions import LEAST_BYTES, Distribution, Measure, finished, merged
from assay.config.sources import check_name
from assay.core.errors import Damaged
from assay.core.files import read_json, write_json
from assay.core.fingerprint import fingerprint
from assay.core.serde import from_record, to_mapping

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from assay.audit.scan.kept_sample import KeptSample

CONTRASTS = "contrasts.json"
TOKENIZED = 500_000
"""Maximum characters of a source for token contrasts. Tokenizers run at 1 to 2 MB/s, word hashing at 200 MB/s."""

_AGAIN = "Delete the file, and run `assay audit` again."


def folder(store: Path, source: str, digest: str) -> Path:
    """Return the folder of a version's records."""
    check_name("source", source)
    return store / "audits" / source / digest


def write_records(store: Path, source: str, digest: str, files: Sequence[Path]) -> None:
    """Merge the samples and distributions of a source's files, unless the records exist."""
    place = folder(store, source, digest)
    if (place / DISTRIBUTIONS).exists() and (place / SAMPLE).exists():
        return
    kept_sample.write(place / SAMPLE, kept_sample.merged(kept_sample.read(file / SAMPLE) for file in files))
    parts = [_distributions(file / DISTRIBUTIONS) for file in files]
    whole = {name: merged([part[name] for part in parts]) for name in (parts[0] if parts else {})}
    write_json(place / DISTRIBUTIONS, {name: to_mapping(distribution) for name, distribution in whole.items()})


def sample(store: Path, source: str, digest: str) -> KeptSample | None:
    """Read the sample of a version; return None without an audit."""
    with contextlib.suppress(OSError):
        return kept_sample.read(folder(store, source, digest) / SAMPLE)
    return None


def distributions(store: Path, source: str, digest: str) -> dict[Measure, Distribution]:
    """Read the distributions of a version, with bits per byte from the newest record of a run."""
    try:
        measured = _distributions(folder(store, source, digest) / DISTRIBUTIONS)
    except FileNotFoundError:
        return {}
    if (bits := read_bits(store, source, digest)) is not None:
        measured["bits"] = bits.distribution
    return measured


@dataclass(frozen=True, kw_only=True)
class ProxyBits:
    """Bits per byte of sampled documents under a proxy model."""

    run: str
    """Fingerprint of the run that trained the model."""
    by_place: dict[str, float]
    """Bits per byte by `where` of the document, which is its file and line."""
    distribution: Distribution


def read_bits(store: Path, source: str, digest: str, run: str | None = None) -> ProxyBits | None:
    """Read bits per byte of a version's sample under a run's model; None without a record.

    Args:
        store: folder that contains `audits/`.
        source: name of the source.
        digest: digest of the version.
        run: the run (default: the run of the newest record).
    """
    files = (folder(store, source, digest) / "bits").glob(f"{run or '*'}.json")
    newest = max(files, key=lambda path: path.stat().st_mtime, default=None)
    if newest is None:
        return None
    return from_record(ProxyBits, read_json(newest), where=str(newest), fix=_AGAIN)


def write_bits(store: Path, source: str, digest: str, run: str, by_place: Mapping[str, float]) -> ProxyBits:
    """Write the bits per byte of documents of a version's sample."""
    spread = Distribution(measure="bits")
    kept = sample(store, source, digest)
    for document in kept.documents if kept else ():
        if document.where in by_place and len(document.text) >= LEAST_BYTES:
            spread.add(by_place[document.where], document.as_document())
    bits = ProxyBits(run=run, by_place=dict(by_place), distribution=finished(spread))
    write_json(folder(store, source, digest) / "bits" / f"{run}.json", to_mapping(bits))
    return bits


def contrasts(store: Path, source: str, digest: str) -> list[Contrast]:
    """Read the contrasts of a version, with the highest contrast of each group first."""
    path = folder(store, source, digest) / CONTRASTS
    try:
        return [from_record(Contrast, record, where=str(path), fix=_AGAIN) for record in read_json(path)["contrasts"]]
    except FileNotFoundError:
        return []
    except (KeyError, TypeError):
        raise Damaged(f"{path}: the file has no contrasts.", fix=_AGAIN) from None


class TokenCutter:
    """Cuts texts into tokens, with a tokenizer that is loaded on first use."""

    def __init__(self, path: Path) -> None:
        """Refer to a tokenizer.

        Args:
            path: path of `tokenizer.json`, in a folder named by the tokenizer's identity.
        """
        self.identity, self._path = path.parent.name, path

    @functools.cached_property
    def _tokenizer(self) -> Any:
        from assay.corpus.tokenizer import load_tokenizer

        return load_tokenizer(self._path)[0]

    def hashes(self, text: str) -> NDArray[np.uint64]:
        """Hash each token."""
        ids = self._tokenizer.encode(text, add_special_tokens=False).ids
        return (np.array(ids, np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)

    def spans(self, text: str) -> list[tuple[int, int]]:
        """Return start and stop of each token, in bytes."""
        sizes = np.fromiter((len(character.encode()) for character in text), np.int64, len(text))
        at = np.concatenate([[0], np.cumsum(sizes)]).tolist()
        offsets = self._tokenizer.encode(text, add_special_tokens=False).offsets
        return [(at[start], at[stop]) for start, stop in offsets]


def contrast(
    store: Path,
    digests: Mapping[str, str],
    *,
    others: Sequence[str] = (),
    tokens: TokenCutter | None = None,
    repairs: Mapping[str, str | None] = {},  # read only
    progress: Callable[[float], None] = lambda _fraction: None,
) -> dict[str, list[Contrast]]:
    """Contrast sources with each other and with all audited sources; reuse current contrasts.

    Args:
        store: folder that contains `audits/`.
        digests: digests of the sources to report, by name.
        others: further sources to contrast them with, in their last audited version.
        tokens: cutter for token contrasts (default: word contrasts only).
        repairs: the source that each source repairs, if any.
        progress: called with the completed fraction.
    """
    known = {name: versions[-1] for name in others if (versions := Findings(store).digests(name))} | dict(digests)
    samples = {name: kept for name, digest in known.items() if (kept := sample(store, name, digest)) is not None}
    identity = fingerprint(
        "contrasts", [FORMAT, {name: known[name] for name in samples}, tokens.identity if tokens else None]
    )
    stale = [name for name in digests if _identity(folder(store, name, digests[name]) / CONTRASTS) != identity]
    if stale:
        contrasted = find(samples, wanted=stale, repairs=repairs, progress=lambda done: progress(done / 2))
        if tokens is not None:
            small = {name: kept_sample.merged([kept], TOKENIZED) for name, kept in samples.items()}
            by_token = find(
                small,
                wanted=stale,
                unit="token",
                cutter=tokens,
                repairs=repairs,
                progress=lambda done: progress(0.5 + done / 2),
            )
            contrasted += without_words(by_token, contrasted)
        for name in stale:
            rows = [to_mapping(item) for item in contrasted if item.source == name]
            write_json(folder(store, name, digests[name]) / CONTRASTS, {"identity": identity, "contrasts": rows})
        progress(1.0)
    return {name: contrasts(store, name, digest) for name, digest in digests.items()}


def _identity(path: Path) -> str | None:
    try:
        return str(read_json(path)["identity"])
    except (OSError, Damaged, KeyError, TypeError):
        return None


def _distributions(path: Path) -> dict[Measure, Distribution]:
    plain = read_json(path)
    if not isinstance(plain, dict):
        raise Damaged(f"{path}: the file has no distributions.", fix=_AGAIN)
    return {name: from_record(Distribution, record, where=str(path), fix=_AGAIN) for name, record in plain.items()}
