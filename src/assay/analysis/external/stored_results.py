"""Store external results as `imports/<name>/results.parquet`, with their origin in `origin.json`.

The weights of the mixes, if the files contain them, are in `weights.parquet`.
"""

from __future__ import annotations

import datetime
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from assay.config.sources import check_name
from assay.core.errors import Damaged, NotFound, Refused, did_you_mean
from assay.core.files import exclusive, read_json, replacing, write_json
from assay.core.serde import from_record, to_mapping
from assay.store.runs import Store

if TYPE_CHECKING:
    import pandas as pd

    from assay.analysis.external.table import ExternalTable

RESULTS, ORIGIN, WEIGHTS = "results.parquet", "origin.json", "weights.parquet"


@dataclass(frozen=True, kw_only=True)
class Origin:
    """The origin and contents of external results."""

    name: str
    origins: tuple[str, ...]
    """Absolute paths of files, or `wandb://entity/project`."""
    when: str
    """Time of the import in UTC, in ISO 8601."""
    source: str
    """SHA-256 of the bytes that were read."""
    digest: str
    """SHA-256 of the rows. Equal results have equal digests, for any file."""
    rows: int
    mixes: tuple[str, ...]
    seeds: int
    """Number of distinct seeds over all mixes."""
    scales: tuple[str, ...]
    tasks: tuple[str, ...]
    metrics: tuple[str, ...]
    notes: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    """Sources whose weights are known for mixes of the results."""
    weights_digest: str = ""
    """SHA-256 of the weights; empty without weights."""


class StoredImport(NamedTuple):
    """The outcome of storing external results.

    Attributes:
        origin: the stored results' origin.
        state: whether the results are new, replaced other results, or were already stored.
    """

    origin: Origin
    state: Literal["imported", "replaced", "unchanged"]


def put(
    store: Store,
    name: str,
    table: ExternalTable,
    *,
    origins: Sequence[str],
    source: str,
    force: bool,
    now: datetime.datetime,
    weights: pd.DataFrame | None = None,
) -> StoredImport:
    """Store a table under a name, atomically.

    Args:
        store: the store.
        name: name for policies and commands.
        table: the rows.
        origins: the files or W&B projects from which the rows were read.
        source: SHA-256 of the bytes that were read.
        force: whether to replace other results of that name.
        now: current time with time zone.
        weights: one row per mix with `mix` and a column per source; None if unknown.

    Raises:
        AssayError: other results have this name, or the name is not a valid folder name.
    """
    check_name("import", name)
    folder = store.imports / name
    with exclusive(store.imports / f".{name}.lock", wait=True):
        before = origin_of(folder) if folder.exists() else None
        made = _origin(name, table, origins=origins, source=source, now=now, weights=weights)
        same = before is not None and (before.digest, before.weights_digest) == (made.digest, made.weights_digest)
        if before is not None and same and (folder / RESULTS).is_file():
            return StoredImport(before, "unchanged")
        if before is not None and not force:
            raise Refused(
                f"import {name!r} exists with other results: {before.rows:,} rows of {len(before.mixes)} mixes,"
                f" imported {before.when} from {', '.join(before.origins[:3])}.",
                fix="Add --force to replace these results, or choose another --name.",
            )
        with replacing(folder) as temporary:
            temporary.mkdir()
            table.frame.to_parquet(temporary / RESULTS, index=False)
            if weights is not None:
                weights.to_parquet(temporary / WEIGHTS, index=False)
            write_json(temporary / ORIGIN, to_mapping(made))
    return StoredImport(made, "replaced" if before is not None else "imported")


def _origin(
    name: str,
    table: ExternalTable,
    *,
    origins: Sequence[str],
    source: str,
    now: datetime.datetime,
    weights: pd.DataFrame | None,
) -> Origin:
    from assay.analysis.external.table import amount

    frame = table.frame

    def distinct(column: str) -> tuple[str, ...]:
        return tuple(sorted(frame[column].astype("str").unique()))

    return Origin(
        name=name,
        origins=tuple(origins),
        when=now.astimezone(datetime.UTC).isoformat(timespec="seconds"),
        source=source,
        digest=table.digest,
        rows=len(frame),
        mixes=distinct("mix"),
        seeds=frame["seed"].nunique(),
        scales=tuple(sorted(distinct("scale"), key=amount)),
        tasks=distinct("task"),
        metrics=distinct("metric"),
        notes=table.notes,
        sources=() if weights is None else tuple(column for column in weights.columns if column != "mix"),
        weights_digest="" if weights is None else hashlib.sha256(weights.to_csv(index=False).encode()).hexdigest(),
    )


def origin_of(folder: Path) -> Origin:
    """Read the origin record of external results.

    Raises:
        AssayError: the record is missing or damaged.
    """
    try:
        return from_record(Origin, read_json(folder / ORIGIN), where=str(folder / ORIGIN))
    except FileNotFoundError:
        raise Damaged(f"{folder}: its {ORIGIN} is missing.", fix="Delete the folder and import again.") from None


def listed(store: Store) -> list[Origin]:
    """List the external results of a store by name."""
    return [origin_of(path) for path in sorted(store.imports.glob("*/")) if not path.name.startswith(".")]


def load(store: Store, name: str) -> pd.DataFrame:
    """Load the rows of external results.

    Raises:
        AssayError: no results have this name, or their file is damaged.
    """
    import pandas as pd
    import pyarrow as pa

    path = require(store, name)
    try:
        return pd.read_parquet(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise Damaged(f"{path}: cannot be read: {error}", fix="Import the results again with --force.") from None


def load_weights(store: Store, name: str) -> pd.DataFrame | None:
    """Load the weights of the mixes of external results: one row per mix with `mix` and a column per source.

    Returns:
        The weights as fractions; None if the imported files contained none.

    Raises:
        AssayError: no results have this name, or their file is damaged.
    """
    import pandas as pd
    import pyarrow as pa

    path = require(store, name).parent / WEIGHTS
    if not path.is_file():
        return None
    try:
        return pd.read_parquet(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise Damaged(f"{path}: cannot be read: {error}", fix="Import the results again with --force.") from None


def require(store: Store, name: str) -> Path:
    """Return the path of the rows of external results.

    Raises:
        AssayError: no results have this name; the message suggests the nearest one.
    """
    path = store.imports / name / RESULTS
    if not path.is_file():
        known = [folder.name for folder in store.imports.glob("*/") if not folder.name.startswith(".")]
        raise NotFound(
            f"no import is named {name!r}. {did_you_mean(name, known)}",
            fix="Create it with `assay import FILE --name NAME`.",
        )
    return path
