"""The questions of the benchmarks as an index of their 13-word sequences, to find them in a source's documents."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from assay.audit import words
from assay.audit.examine import CONTAMINATED
from assay.files import replacing, write_json
from assay.fingerprint import fingerprint

QUESTION = ("question", "ctx", "goal", "query", "input", "prompt", "sentence")
"""Fields that hold a question, the likeliest first; answers alone are too short to be told from chance."""
SPLITS = ("test", "validation")
"""What models are scored on; what they may be shown is left out."""


def index(mirror: Path, folder: Path) -> Path:
    """Index the questions of a mirror of benchmarks, unless that is done.

    Args:
        mirror: a cache of `datasets`: folders of Arrow files, as `assay.evaluate.mirror` makes it.
        folder: where indices are kept.

    Returns:
        The folder of the index; its name tells which questions are in it.
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


def _read(mirror: Path, files: list[Path]) -> tuple[words.Hashes, words.Integers, list[str]]:
    names: list[str] = []
    grams, tasks = [np.empty(0, np.uint64)], [np.empty(0, np.int64)]
    for file in files:
        name = task_name(file.relative_to(mirror))
        if name not in names:
            names.append(name)
        for question in _questions(file):
            data = np.frombuffer(question.encode(), np.uint8)
            hashes, starts = np.empty(len(data) // 2 + 1, np.uint64), np.empty(len(data) // 2 + 1, np.int64)
            count = words.words(data, words.WORD, hashes, starts)
            found = words.ngrams(hashes[:count], CONTAMINATED)
            grams.append(found)
            tasks.append(np.full(len(found), names.index(name), np.int64))
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
    """What a set's questions are called.

    >>> task_name(Path("allenai___ai2_arc/ARC-Easy/0.0.0/1/ai2_arc-test.arrow"))
    'ai2_arc/ARC-Easy'
    >>> task_name(Path("Rowan___hellaswag/default/0.0.0/1/hellaswag-validation.arrow"))
    'hellaswag'
    """
    repository, config = path.parts[0].rpartition("___")[2], path.parts[1]
    return repository if config == "default" else f"{repository}/{config}"
