"""Compose the parts that resolve and plan a study on this machine."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from assay.core.errors import ConfigError
from assay.plan.mix_resolver import MixResolver
from assay.plan.planner import Planner
from assay.plan.run_specs import RunSpecs
from assay.plan.source_index import SourceIndex
from assay.store.runs import Store

if TYPE_CHECKING:
    from pathlib import Path

    from assay.config.recipe import RunSpec
    from assay.config.study import Study
    from assay.config.suite import EvaluationSpec


class Workspace:
    """A study with its store, and the objects that derive all other values from both.

    Attributes:
        study: the composed configuration.
        store: the records that the study reads and writes.
        sources: text, corpora, tokenizer and taints.
        mixes: weights of mixes and arms.
        runs: specs and evaluation of the runs.
        planner: plans the remaining runs.
    """

    def __init__(
        self,
        study: Study,
        *,
        digests: Mapping[str, str] | None = None,
        evaluation: EvaluationSpec | None = None,
        specs: Mapping[str, RunSpec] | None = None,
    ) -> None:
        """Compose a study from the current configuration or from a submission.

        Args:
            study: the composed configuration.
            digests: frozen digests by source (default: computed from the files).
            evaluation: the frozen evaluation of every run (default: derived from the suite).
            specs: recorded specs of submitted runs by arm (default: derived from the study).
        """
        self.study: Final = study
        self.store: Final = Store(_store_folder(study))
        self.sources: Final = SourceIndex(study, self.store, digests=digests, tokenizer_id=_tokenizer_of(specs))
        self.mixes: Final = MixResolver(study, self.sources)
        self.runs: Final = RunSpecs(study, self.mixes, evaluation=evaluation, recorded=specs)
        self.planner: Final = Planner(self.runs, self.store)

    def with_rules(self, study: Study, evaluation: EvaluationSpec) -> Workspace:
        """Return the same sources and store with the policy and suite of another study.

        The evaluation is fixed.
        """
        return Workspace(study, digests=self.sources.known_digests, evaluation=evaluation, specs=self.runs.recorded)


def _store_folder(study: Study) -> Path:
    """Return the folder of the store, which may not exist yet.

    Raises:
        ConfigError: the path is, or is below, a file.
    """
    folder = study.paths.resolve(study.paths.store)
    file = None
    with contextlib.suppress(OSError):  # a folder that cannot be read; the first access reports it
        file = next((path for path in (folder, *folder.parents) if path.exists() and not path.is_dir()), None)
    if file is not None:
        raise ConfigError(
            f"paths.store: {folder} is invalid; expected a folder, but {file} is a file.",
            fix="Set `paths.store` in conf/config.yaml, or the environment variable ASSAY_STORE, to a folder.",
        )
    return folder


def _tokenizer_of(specs: Mapping[str, RunSpec] | None) -> str | None:
    """Return the identity of the tokenizer of recorded runs, which all arms of a sweep share."""
    return next((spec.tokenizer for spec in (specs or {}).values()), None)
