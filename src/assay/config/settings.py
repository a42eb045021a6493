"""Define settings of paths, topics and W&B, which are not part of a run's identity."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from assay.core.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Paths:
    """Folders. Relative paths start at the project root."""

    root: str
    """Project root: the folder that contains conf/ and sweeps/. Every command sets this key."""
    store: str
    """Folder of runs, corpora and pages (default: the environment variable `ASSAY_STORE`, else `store`)."""
    data: str
    """Folder of the text and benchmarks that `assay demo` fetches, and of repaired sources."""
    benchmarks: str | None
    """Folder with a local mirror of the benchmarks' data sets. `auto` is `data/benchmarks` if this folder exists, otherwise null.
    Null loads the data sets from the Hugging Face hub."""

    def resolve(self, path: str) -> Path:
        """Return the absolute path of a path that is relative to the project root."""
        return Path(self.root, path).absolute()

    @property
    def mirror(self) -> Path | None:
        """The local mirror of the benchmarks; None if no mirror is configured."""
        return None if self.benchmarks is None else self.resolve(self.benchmarks)


@dataclass(frozen=True, kw_only=True)
class TopicDefaults:
    """Default options of `assay audit topics`."""

    vectors: str = "svd"
    """Embedding of documents: `svd`, `fasttext`, `fasttext:skipgram`, or a function as `module:function`."""
    dimensions: int = 64
    """Number of dimensions of the document vectors."""
    sample: int = 20_000
    """Total number of sampled documents, divided equally among the sources."""
    number: int | None = None
    """Number of topics. Null derives the number of topics from the number of documents."""
    seed: int = 0
    """Seed of the sample and the topics."""


JobType = Literal["train", "eval", "prepare", "compare", "gate", "audit"]
"""Kinds of the W&B runs that assay writes."""


@dataclass(frozen=True, kw_only=True)
class Tracking:
    """Logging to Weights & Biases."""

    mode: Literal["offline", "online", "disabled"]
    """`online` logs runs while they train, `offline` writes files for `assay sync`, `disabled` writes nothing."""
    project: str
    """W&B project."""
    entity: str | None
    """W&B user or team. Null uses the default of your W&B login."""
    sweep: str | None = None
    """Id of the W&B sweep (`wandb sweep`) that the runs belong to. The id is the last part of the W&B sweep's URL."""
    upload_weights: bool = False
    """Whether to upload the final weights of each run."""
    patience_seconds: float = 20.0
    """Maximum wait for a response of W&B. All uploads of a run together may take twice this time. Training never waits."""

    def __post_init__(self) -> None:
        if not self.patience_seconds > 0:
            raise ConfigError(
                f"tracking.patience_seconds {self.patience_seconds} is invalid; expected a number above 0.",
                fix="Set `patience_seconds` to a number above 0.",
            )
        if self.sweep is not None and (not self.sweep or "/" in self.sweep):
            raise ConfigError(
                f"tracking.sweep {self.sweep!r} is invalid; expected the id of a W&B sweep.",
                fix="Use the last part of the sweep's URL: `abc123` of entity/project/abc123.",
            )
