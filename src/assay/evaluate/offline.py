"""Reading the benchmarks from a local mirror and from nowhere else."""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
from pathlib import Path

from assay.errors import AssayError
from assay.evaluate.catalogue import user_cache


def use_mirror(mirror: Path) -> None:
    """Make `datasets`, and so lm-eval, read a mirror in this process and in those that it starts.

    Called before `datasets` is imported if possible: it reads these variables once. Where it is imported already (a
    process that was forked from one with everything imported), the values that it and `huggingface_hub` took are
    set too; both look them up at each use.

    `datasets` writes locks and prepared questions beside what it reads. For a mirror that cannot be written, such as a
    shared folder of a cluster, they go into a folder of links to it in the user's cache.

    Args:
        mirror: a folder in the layout of Hugging Face's datasets cache.

    Raises:
        AssayError: there is no such folder.
    """
    if not mirror.is_dir():
        raise AssayError(
            f"{mirror}: no mirror of the benchmarks is here.",
            fix="Make one, or leave `paths.benchmarks` empty to use the hub.",
        )
    folder = mirror.absolute() if os.access(mirror, os.W_OK) else _linked(mirror.absolute())
    os.environ.update(HF_DATASETS_CACHE=str(folder), HF_DATASETS_OFFLINE="1", HF_HUB_OFFLINE="1")
    taken: dict[str, dict[str, object]] = {
        "huggingface_hub.constants": {"HF_HUB_OFFLINE": True},
        "datasets.config": {"HF_DATASETS_CACHE": folder, "HF_HUB_OFFLINE": True, "HF_DATASETS_OFFLINE": True},
    }
    for module, values in taken.items():
        if module in sys.modules:
            for name, value in values.items():
                setattr(sys.modules[module], name, value)


def _linked(mirror: Path) -> Path:
    """A writable folder with a link to each of the mirror's files; another one once any of them changes."""
    files = sorted(path for path in mirror.rglob("*") if path.is_file())
    stamps = [f"{path} {path.stat().st_size} {path.stat().st_mtime_ns}" for path in files]
    folder = user_cache() / f"benchmarks-{hashlib.sha256(chr(10).join(stamps).encode()).hexdigest()[:16]}"
    for path in files:
        link = folder / path.relative_to(mirror)
        link.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            link.symlink_to(path)
    return folder
