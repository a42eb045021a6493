"""Reading the benchmarks from a local mirror and from nowhere else."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from assay.errors import AssayError


def use_mirror(mirror: Path) -> None:
    """Make `datasets`, and so lm-eval, read a mirror in this process and in those that it starts.

    Called before `datasets` is imported if possible: it reads these variables once. Where it is imported already (a
    process that was forked from one with everything imported), the values that it and `huggingface_hub` took are
    set too; both look them up at each use.

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
    folder = mirror.absolute()
    os.environ.update(HF_DATASETS_CACHE=str(folder), HF_DATASETS_OFFLINE="1", HF_HUB_OFFLINE="1")
    taken: dict[str, dict[str, object]] = {
        "huggingface_hub.constants": {"HF_HUB_OFFLINE": True},
        "datasets.config": {"HF_DATASETS_CACHE": folder, "HF_HUB_OFFLINE": True, "HF_DATASETS_OFFLINE": True},
    }
    for module, values in taken.items():
        if module in sys.modules:
            for name, value in values.items():
                setattr(sys.modules[module], name, value)
