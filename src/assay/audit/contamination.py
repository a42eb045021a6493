"""Index the 13-word sequences of benchmark items, to detect the items in a source's documents."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from assay.audit.detectors import shingles
from assay.audit.scan.scan_file import CONTAMINATED
from assay.core.files import replacing, write_json
from assay.core.fingerprint import fingerprint

QUESTION = ("question", "ctx", "goal", "query", "input", "prompt", "sentence")
"""Columns that hold an item's question, by priority. Answers alone are too short and match by chance."""
SPLITS = ("test", "validation")
"""Dataset splits that benchmarks score models on. Training splits are not indexed."""


def index(mirror: Path, folder: Path) -> Path:
    """Index the items of a benchmark mirror, unless the index exists.

    Args:
        mirror: cache of the `datasets` package (folders of Arrow files), as `assay.evaluate.mirror` writes it.
        folder: parent folder of the indexes.

    Returns:
        The folder of the index. Its name contains a fingerprint of the indexed files.
    """
    files = sorted(file for file in mirror.rglob("*.arrow") if any(f"-{split}" in file.name for split in SPLITS))
    identity = fingerprint("questions", [[str(file.relative_to(mirror)), file.stat().st_size] for file in files])
    path = folder / f"questions-{identity[:16]}"
    if not path.exists():
        grams, tasks, names = _read(mirror, files)
        with replacing(path) as temporary:
            temporary.mkdir(parents=True)
            np.save(temporary / "grams.npy", grams, allow_pickle=False)
            np.save(temporary / "task.npy", tasks, allow_pickle=False)
            write_json(temporary / "names.json", names)
    return path


def _read(mirror: Path, files: list[Path]) -> tuple[shingles.Hashes, shingles.Integers, list[str]]:
    names: list[str] = []
    grams, tasks = [np.empty(0, np.uint64)], [np.empty(0, np.int64)]
    for file in files:
        name = task_name(file.relative_to(mirror))
        if name not in names:
            names.append(name)
        for question in _questions(file):
            data = np.frombuffer(question.encode(), np.uint8)
            hashes, starts = np.empty(len(data) // 2 + 1, np.uint64), np.empty(len(data) // 2 + 1, np.int64)
            count = shingles.words(data, shingles.WORD, hashes, starts)
            item_grams = shingles.ngrams(hashes[:count], CONTAMINATED)
            grams.append(item_grams)
            tasks.append(np.full(len(item_grams), names.index(name), np.int64))
    unique, first = np.unique(np.concatenate(grams), return_index=True)
    return unique, np.concatenate(tasks)[first], names


def _questions(file: Path) -> Iterator[str]:
    import pyarrow as pa

    with pa.memory_map(str(file)) as source:
        table: Any = pa.ipc.open_stream(source).read_all()
        field = next((name for name in QUESTION if name in table.column_names), None)
        if field is not None:
            yield from (text for text in table.column(field).to_pylist() if isinstance(text, str) and text)


def task_name(path: Path) -> str:
    """Return the task name of a dataset file.

    >>> task_name(Path("allenai___ai2_arc/ARC-Easy/0.0.0/1/ai2_arc-test.arrow"))
    'ai2_arc/ARC-Easy'
    >>> task_name(Path("Rowan___hellaswag/default/0.0.0/1/hellaswag-validation.arrow"))
    'hellaswag'
    """
    repository, config = path.parts[0].rpartition("___")[2], path.parts[1]
    return repository if config == "default" else f"{repository}/{config}"
