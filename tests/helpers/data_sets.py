"""Data sets in a mirror of a team: the cache layout of `datasets`, without assay's manifest."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def write_data_set(
    mirror: Path, repository: str, splits: Mapping[str, Sequence[Mapping[str, Any]]], *, config: str = "default"
) -> Path:
    """Write a data set as `datasets` caches it, and return the folder of its files."""
    import pyarrow as pa
    from datasets import Dataset

    name = repository.rpartition("/")[2]
    target = mirror / repository.replace("/", "___") / config / "0.0.0" / ("a" * 40)
    target.mkdir(parents=True, exist_ok=True)
    tables = {split: Dataset.from_list([*rows]) for split, rows in splits.items()}
    features = next(iter(tables.values())).features
    for split, table in tables.items():
        schema = features.arrow_schema
        with (
            pa.OSFile(str(target / f"{name}-{split}.arrow"), "wb") as file,
            pa.ipc.new_stream(file, schema) as stream,
        ):
            stream.write_table(table.data.table.cast(schema))
    info = {
        "builder_name": "parquet",
        "dataset_name": name,
        "config_name": config,
        "version": {"version_str": "0.0.0", "major": 0, "minor": 0, "patch": 0},
        "features": features.to_dict(),
        "splits": {
            split: {"name": split, "num_bytes": 1, "num_examples": len(table), "dataset_name": name}
            for split, table in tables.items()
        },
    }
    (target / "dataset_info.json").write_text(json.dumps(info))
    return target


def science_items(number: int, *, seed: int = 0) -> list[dict[str, str]]:
    """Items in the form of SciQ, which lm-eval's task `sciq` reads."""
    return [
        {
            "question": f"What is {n} plus {seed}?",
            "distractor1": str(n + seed + 1),
            "distractor2": str(n + seed + 2),
            "distractor3": str(n + seed + 3),
            "correct_answer": str(n + seed),
            "support": "",
        }
        for n in range(number)
    ]


def write_science(mirror: Path, *, items: int = 6, seed: int = 0) -> Path:
    """Write a small SciQ: the items that are scored, and as many examples."""
    splits = {"train": science_items(items, seed=100), "test": science_items(items, seed=seed)}
    return write_data_set(mirror, "allenai/sciq", {**splits, "validation": science_items(items, seed=200)})
