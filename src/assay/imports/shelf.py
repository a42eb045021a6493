"""What was imported, in the store: `imports/<name>/results.parquet`, and `origin.json` for where it came from."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from assay.errors import AssayError, did_you_mean
from assay.files import exclusive, read_json, replacing, write_json
from assay.sources import check_name
from assay.store import Store
from assay.structure import from_mapping, to_mapping

if TYPE_CHECKING:
    import pandas as pd

    from assay.imports.table import Table

RESULTS, ORIGIN = "results.parquet", "origin.json"


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Where imported results came from, and what there is of them."""

    name: str
    origins: tuple[str, ...]
    """Files, absolute, or `wandb://entity/project`."""
    when: str
    """ISO 8601, UTC."""
    source: str
    """SHA-256 of what was read, as it was."""
    digest: str
    """SHA-256 of the rows: equal for equal results, whatever file they came in."""
    rows: int
    mixes: tuple[str, ...]
    seeds: int
    """Different ones, over all mixes."""
    scales: tuple[str, ...]
    tasks: tuple[str, ...]
    metrics: tuple[str, ...]
    notes: tuple[str, ...] = ()


class Put(NamedTuple):
    """What became of an import.

    Attributes:
        origin: what is there now.
        state: whether it is new, takes the place of another, or was there already.
    """

    origin: Origin
    state: Literal["imported", "replaced", "unchanged"]


def put(
    store: Store, name: str, table: Table, *, origins: Sequence[str], source: str, force: bool, now: datetime.datetime
) -> Put:
    """Keep a table under a name, whole or not at all.

    Args:
        store: where.
        name: what policies and commands call it.
        table: what was read.
        origins: where from.
        source: digest of what was read.
        force: whether other results of that name give way.
        now: the time, with its zone.

    Raises:
        AssayError: other results have this name, or the name cannot be a folder's.
    """
    check_name("import", name)
    folder = store.imports / name
    with exclusive(store.imports / f".{name}.lock", wait=True):
        before = origin_of(folder) if folder.exists() else None
        if before is not None and before.digest == table.digest and (folder / RESULTS).is_file():
            return Put(before, "unchanged")
        if before is not None and not force:
            raise AssayError(
                f"import {name!r} is there with other results: {before.rows:,} rows of {len(before.mixes)} mixes,"
                f" imported {before.when} from {', '.join(before.origins[:3])}.",
                fix="Add --force to put these in their place, or choose another --name.",
            )
        made = _origin(name, table, origins, source, now)
        with replacing(folder) as temporary:
            temporary.mkdir()
            table.frame.to_parquet(temporary / RESULTS, index=False)
            write_json(temporary / ORIGIN, to_mapping(made))
    return Put(made, "replaced" if before is not None else "imported")


def _origin(name: str, table: Table, origins: Sequence[str], source: str, now: datetime.datetime) -> Origin:
    from assay.imports.table import amount

    frame = table.frame

    def different(column: str) -> tuple[str, ...]:
        return tuple(sorted(frame[column].astype("str").unique()))

    return Origin(
        name=name,
        origins=tuple(origins),
        when=now.astimezone(datetime.UTC).isoformat(timespec="seconds"),
        source=source,
        digest=table.digest,
        rows=len(frame),
        mixes=different("mix"),
        seeds=frame["seed"].nunique(),
        scales=tuple(sorted(different("scale"), key=amount)),
        tasks=different("task"),
        metrics=different("metric"),
        notes=table.notes,
    )


def origin_of(folder: Path) -> Origin:
    """Where an import came from.

    Raises:
        AssayError: its record is not there, or is damaged.
    """
    try:
        return from_mapping(Origin, read_json(folder / ORIGIN), where=str(folder / ORIGIN))
    except FileNotFoundError:
        raise AssayError(f"{folder}: its {ORIGIN} is missing.", fix="Delete the folder and import again.") from None


def listed(store: Store) -> list[Origin]:
    """Every import of a store, by name."""
    return [origin_of(path) for path in sorted(store.imports.glob("*/")) if not path.name.startswith(".")]


def load(store: Store, name: str) -> pd.DataFrame:
    """The rows of an import.

    Raises:
        AssayError: there is none of this name, or its file is damaged.
    """
    import pandas as pd
    import pyarrow as pa

    path = require(store, name)
    try:
        return pd.read_parquet(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise AssayError(f"{path}: cannot be read: {error}", fix="Import it again with --force.") from None


def require(store: Store, name: str) -> Path:
    """Where the rows of an import are.

    Raises:
        AssayError: there is none of this name; the nearest is named.
    """
    path = store.imports / name / RESULTS
    if not path.is_file():
        known = [folder.name for folder in store.imports.glob("*/") if not folder.name.startswith(".")]
        raise AssayError(
            f"no import is called {name!r}. {did_you_mean(name, known)}",
            fix="`assay import FILE --name NAME` makes one.",
        )
    return path
