"""Define suites: the tasks on which runs are scored."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from assay.core.errors import ConfigError
from assay.core.fingerprint import fingerprint
from assay.core.serde import to_mapping

VALIDATION = "validation/"
"""Prefix of a task that measures bits per byte of a source's held-out split: `validation/books`."""

Role = Literal["primary", "guardrail", "monitor"]


@dataclass(frozen=True, kw_only=True)
class SuiteTask:
    """An lm-eval task, group or tag, by name."""

    task: str
    """Name of an lm-eval task, group or tag."""
    num_fewshot: int = 0
    """Number of few-shot examples."""
    limit: int | None = None
    """Number of items to score in each task or subtask (default: all items). The sample is fixed and spread evenly."""
    chance: float | None = None
    """Chance level of accuracy (default: the score of random choices on the items, or of one constant answer if this
    score is higher)."""

    def __post_init__(self) -> None:
        if self.num_fewshot < 0 or (self.limit is not None and self.limit < 1):
            raise ConfigError(
                f"task {self.task!r}: `num_fewshot` {self.num_fewshot} or `limit` {self.limit} is invalid;"
                " expected `num_fewshot` of at least 0 and `limit` of at least 1.",
                fix="Set `num_fewshot` to 0 or more, and `limit` to 1 or more or to null.",
            )


@dataclass(frozen=True, kw_only=True)
class Suite:
    """The tasks that a run is scored on."""

    name: str
    """Name of the suite."""
    tasks: tuple[SuiteTask, ...]
    """Tasks to score."""
    batch_size: int
    """Prompts per batch. A new batch size requires new evaluations, because it changes the last digits of
    loglikelihoods."""
    validation_bytes: int
    """Bytes of each source's held-out documents on which bits per byte are measured. 0 disables the measurement."""
    include_path: str | None = None
    """Folder of your own lm-eval tasks (YAML files and the Python files of their `!function`s), relative to the project
    root. A change of any file in the folder, or of a file that the tasks include or read, requires new evaluations. Paths of
    data files are also relative to the project root. A submission uses a copy of all these files."""

    def __post_init__(self) -> None:
        names = [task.task for task in self.tasks]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ConfigError(
                f"suite {self.name!r}: tasks {', '.join(twice)} are duplicates; expected distinct tasks.",
                fix="Keep one entry for each task.",
            )
        if self.batch_size < 1 or self.validation_bytes < 0:
            raise ConfigError(
                f"suite {self.name!r}: `batch_size` {self.batch_size} or `validation_bytes` {self.validation_bytes} is invalid;"
                " expected `batch_size` of at least 1 and `validation_bytes` of at least 0.",
                fix="Set `batch_size` to 1 or more, and `validation_bytes` to 0 or more.",
            )


@dataclass(frozen=True, kw_only=True)
class EvaluationSpec:
    """Everything that determines the scores of a run, except the run's own identity."""

    tasks: tuple[SuiteTask, ...]
    """Tasks to score."""
    batch_size: int
    """Requests per batch of the evaluation."""
    validation_bytes: int
    """Bytes of each source's validation split on which bits per byte are measured."""
    validation: dict[str, str]
    """Identity of each measured corpus, by source. All arms of a sweep are measured on these validation splits."""
    harness: str
    """Name and version of the harness, such as `lm_eval 0.4.13`. The version fixes the definitions of lm-eval's
    tasks."""
    datasets: str
    """Identity of the benchmarks' data: the digest of the local mirror, `own mirror` (a mirror without a manifest),
    `files` (the tasks read local files only), or `hub`."""
    task_files: str | None = None
    """Digest of the files in the suite's `include_path` and of all files that they read; None without
    `include_path`."""
    data_sets: dict[str, str] | None = None
    """Digests of the data sets that the tasks read and the mirror's manifest does not list; None if there are none."""
    encoding: int | None = None
    """Version of the encoding of prompts and held-out text; None if every version encodes these texts as in
    training."""

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the fields, 64 hexadecimal digits. `chance` is excluded because it affects no score."""
        plain = to_mapping(self)
        for task in plain["tasks"]:
            del task["chance"]
        # Evaluations without these fields have the same fingerprints as in earlier versions.
        for name in ("task_files", "data_sets", "encoding"):
            if plain[name] is None:
                del plain[name]
        return fingerprint("evaluation", plain)
