"""Read benchmarks from a local mirror only."""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from assay.core.errors import NotFound
from assay.evaluate.task_index import user_cache


def use_mirror(mirror: Path) -> None:
    """Restrict `datasets`, and therefore lm-eval, to a mirror in this process and its children.

    Call this function before importing `datasets` if possible, because the package reads the environment variables
    once. If `datasets` is already imported, as in a forked process, the function also sets the values that `datasets`
    and `huggingface_hub` derived from the variables. Both packages read these values at each use. Local JSON, CSV and
    Parquet files stay readable.

    `datasets` writes locks and prepared items next to its input. For a read-only mirror, such as a shared folder of a
    cluster, the function creates a folder of links to the mirror in the user's cache. `datasets` then writes into this
    folder.

    Args:
        mirror: a folder in the layout of the Hugging Face `datasets` cache.

    Raises:
        NotFound: the folder does not exist.
    """
    if not mirror.is_dir():
        raise NotFound(
            f"{mirror}: the mirror of the benchmarks does not exist.",
            fix="Create the mirror, or set `paths.benchmarks` to null to use the hub.",
        )
    folder = mirror.absolute() if os.access(mirror, os.W_OK) else _linked(mirror.absolute())
    os.environ.update(HF_DATASETS_CACHE=str(folder), HF_DATASETS_OFFLINE="1", HF_HUB_OFFLINE="1")
    derived: dict[str, dict[str, object]] = {
        "huggingface_hub.constants": {"HF_HUB_OFFLINE": True},
        "datasets.config": {"HF_DATASETS_CACHE": folder, "HF_HUB_OFFLINE": True, "HF_DATASETS_OFFLINE": True},
    }
    for module, values in derived.items():
        if module in sys.modules:
            for name, value in values.items():
                setattr(sys.modules[module], name, value)


@contextlib.contextmanager
def fresh_items(*, fresh: bool) -> Iterator[None]:
    """Process items again, if `fresh`, instead of reading the items that `datasets` cached in an earlier process.

    `datasets` finds cached items by the path of a data set, not by its content. After a change of the files under a
    path, `datasets` would read the items of the earlier files.
    """
    import datasets

    enabled = datasets.is_caching_enabled()
    if fresh:
        datasets.disable_caching()
    try:
        yield
    finally:
        if enabled:
            datasets.enable_caching()


def _linked(mirror: Path) -> Path:
    """Create a writable folder of links to the files of one version of the mirror."""
    files = sorted(path for path in mirror.rglob("*") if path.is_file())
    stamps = [f"{path} {path.stat().st_size} {path.stat().st_mtime_ns}" for path in files]
    folder = user_cache() / f"benchmarks-{hashlib.sha256(chr(10).join(stamps).encode()).hexdigest()[:16]}"
    for path in files:
        link = folder / path.relative_to(mirror)
        link.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            link.symlink_to(path)
    return folder
