"""What audits keep beside their findings, for defects that no detector looks for: a sample, distributions, contrasts.

They lie with the version of the source that they are of, are derived from its files alone (contrasts from those of the
other sources, too), and may be deleted: the next audit makes them again. ::

    audits/<source>/<digest>/kept.parquet          a sample of its documents; see `assay.audit.kept`
                             distributions.json    of length, compression and signs; see `assay.audit.extremes`
                             contrasts.json        with the other sources; see `assay.audit.contrasts`
                             bits/<run>.json       bits per byte of documents of the sample under a run's model
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from assay.audit import kept
from assay.audit.contrasts import FORMAT, Contrast, find, without_words
from assay.audit.extremes import LEAST_BYTES, Distribution, Extremes, Measure, finished, merged
from assay.audit.findings import Findings
from assay.errors import AssayError
from assay.files import read_json, write_json
from assay.fingerprint import fingerprint
from assay.sources import check_name
from assay.structure import from_mapping, to_mapping

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from assay.audit.kept import Sample
    from assay.audit.text import Text
    from assay.corpus.read import Document

SAMPLE, DISTRIBUTIONS, CONTRASTS = "kept.parquet", "distributions.json", "contrasts.json"
TOKENISED = 500_000
"""Characters of a source whose tokens are contrasted: tokenizers pass 1 to 2 MB/s, words 200."""


class Seen:
    """What is kept of one file, in the pass over its documents."""

    def __init__(self) -> None:
        """Nothing was seen yet."""
        self._keeper, self._extremes = kept.Keeper(), Extremes()

    def add(self, document: Document, text: Text) -> None:
        """Look at a document, which is `text` as well."""
        self._keeper.add(document)
        self._extremes.add(document, text)

    def sample(self) -> Sample:
        """The documents that are kept."""
        return self._keeper.sample()

    def write(self, folder: Path) -> None:
        """Put it into the folder of the file's results."""
        kept.write(folder / SAMPLE, self.sample())
        write_json(
            folder / DISTRIBUTIONS, {name: to_mapping(finished(one)) for name, one in self._extremes.found.items()}
        )


def folder(store: Path, source: str, digest: str) -> Path:
    """Where what is kept of a version lies."""
    check_name("source", source)
    return store / "audits" / source / digest


def gather(store: Path, source: str, digest: str, files: Sequence[Path]) -> None:
    """Make a source's sample and distributions of those of its files, unless they are there."""
    place = folder(store, source, digest)
    if (place / DISTRIBUTIONS).exists() and (place / SAMPLE).exists():
        return
    kept.write(place / SAMPLE, kept.merged(kept.read(each / SAMPLE) for each in files))
    parts = [_distributions(each / DISTRIBUTIONS) for each in files]
    whole = {name: merged([part[name] for part in parts]) for name in (parts[0] if parts else {})}
    write_json(place / DISTRIBUTIONS, {name: to_mapping(one) for name, one in whole.items()})


def sample(store: Path, source: str, digest: str) -> Sample | None:
    """The sample of a version, where an audit kept one."""
    with contextlib.suppress(OSError):
        return kept.read(folder(store, source, digest) / SAMPLE)
    return None


def distributions(store: Path, source: str, digest: str) -> dict[Measure, Distribution]:
    """The distributions of a version; none where no audit made them. Those of bits are of the run that was last asked."""
    try:
        found = _distributions(folder(store, source, digest) / DISTRIBUTIONS)
    except (OSError, AssayError):
        return {}
    if (bits := proxied(store, source, digest)) is not None:
        found["bits"] = bits.distribution
    return found


@dataclass(frozen=True, kw_only=True)
class Bits:
    """Bits per byte of documents of a sample."""

    run: str
    """Fingerprint of the run whose model it was."""
    by_place: dict[str, float]
    """By `where` of the document."""
    distribution: Distribution


def proxied(store: Path, source: str, digest: str, run: str | None = None) -> Bits | None:
    """Bits per byte of a version's sample under a run's model, or the one that was last asked; ``None`` where none was."""
    files = (folder(store, source, digest) / "bits").glob(f"{run or '*'}.json")
    newest = max(files, key=lambda path: path.stat().st_mtime, default=None)
    if newest is None:
        return None
    try:
        return from_mapping(Bits, read_json(newest), where=str(newest))
    except (OSError, AssayError):
        return None


def keep_bits(store: Path, source: str, digest: str, run: str, by_place: Mapping[str, float]) -> Bits:
    """Write down bits per byte of documents of a version's sample."""
    spread = Distribution(measure="bits")
    kept_ones = sample(store, source, digest)
    for one in kept_ones.documents if kept_ones else ():
        if one.where in by_place and len(one.text) >= LEAST_BYTES:
            spread.add(by_place[one.where], one.as_document())
    made = Bits(run=run, by_place=dict(by_place), distribution=finished(spread))
    write_json(folder(store, source, digest) / "bits" / f"{run}.json", to_mapping(made))
    return made


def contrasts(store: Path, source: str, digest: str) -> list[Contrast]:
    """The contrasts of a version as they were last made; the highest of each group first."""
    path = folder(store, source, digest) / CONTRASTS
    try:
        return [from_mapping(Contrast, one, where=str(path)) for one in read_json(path)["contrasts"]]
    except (OSError, AssayError, KeyError, TypeError):
        return []


class Tokens:
    """A tokenizer that cuts texts for contrasts; opened when it is first asked."""

    def __init__(self, path: Path) -> None:
        """A tokenizer.

        Args:
            path: of its `tokenizer.json`, in a folder that is called by its identity.
        """
        self.identity, self._path = path.parent.name, path

    @functools.cached_property
    def _tokenizer(self) -> Any:
        from tokenizers import Tokenizer

        return Tokenizer.from_file(str(self._path))

    def hashes(self, text: str) -> NDArray[np.uint64]:
        """A hash of each token."""
        ids = self._tokenizer.encode(text, add_special_tokens=False).ids
        return (np.array(ids, np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)

    def spans(self, text: str) -> list[tuple[int, int]]:
        """Where each token begins and stops, in bytes."""
        sizes = np.fromiter((len(character.encode()) for character in text), np.int64, len(text))
        at = np.concatenate([[0], np.cumsum(sizes)]).tolist()
        offsets = self._tokenizer.encode(text, add_special_tokens=False).offsets
        return [(at[start], at[stop]) for start, stop in offsets]


def contrast(
    store: Path,
    digests: Mapping[str, str],
    *,
    others: Sequence[str] = (),
    tokens: Tokens | None = None,
    repairs: Mapping[str, str | None] = {},  # read only
    tell: Callable[[float], None] = lambda _share: None,
) -> dict[str, list[Contrast]]:
    """Contrast sources with each other and with all others that were ever audited; what is there already is not made again.

    Args:
        store: the folder in which `audits/` is.
        digests: of the sources to tell of, by name.
        others: sources to contrast them with besides, in the version that was audited last.
        tokens: for contrasts of tokens, if there is a tokenizer.
        repairs: the source that each repairs, if any.
        tell: told the share that is done.
    """
    known = {name: versions[-1] for name in others if (versions := Findings(store).digests(name))} | dict(digests)
    samples = {name: one for name, digest in known.items() if (one := sample(store, name, digest)) is not None}
    identity = fingerprint(
        "contrasts", [FORMAT, {name: known[name] for name in samples}, tokens.identity if tokens else None]
    )
    stale = [name for name in digests if _identity(folder(store, name, digests[name]) / CONTRASTS) != identity]
    if stale:
        found = find(samples, wanted=stale, repairs=repairs, tell=lambda share: tell(share / 2))
        if tokens is not None:
            small = {name: kept.merged([one], TOKENISED) for name, one in samples.items()}
            by_token = find(
                small,
                wanted=stale,
                unit="token",
                cutter=tokens,
                repairs=repairs,
                tell=lambda share: tell(0.5 + share / 2),
            )
            found += without_words(by_token, found)
        for name in stale:
            mine = [to_mapping(one) for one in found if one.source == name]
            write_json(folder(store, name, digests[name]) / CONTRASTS, {"identity": identity, "contrasts": mine})
        tell(1.0)
    return {name: contrasts(store, name, digest) for name, digest in digests.items()}


def _identity(path: Path) -> str | None:
    try:
        return str(read_json(path)["identity"])
    except (OSError, AssayError, KeyError, TypeError):
        return None


def _distributions(path: Path) -> dict[Measure, Distribution]:
    found: dict[Measure, Distribution] = {
        name: from_mapping(Distribution, one, where=str(path)) for name, one in read_json(path).items()
    }
    return found
