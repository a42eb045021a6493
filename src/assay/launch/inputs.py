"""Provide the inputs of a run, its corpora and tokenizer, as they were at the submission."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from assay.core.errors import AssayError, NotFound, Refused

if TYPE_CHECKING:
    from assay.config.recipe import RunSpec
    from assay.plan.prepare import Progress
    from assay.plan.workspace import Workspace
    from assay.store.runs import Store


def corpora_folders(workspace: Workspace, wanted: Mapping[str, str], *, progress: Progress) -> dict[str, Path]:
    """Return the folder of each corpus, and build missing corpora.

    The sources of an existing corpus are not read, so they may have changed or disappeared. Only the required corpora
    are built. A broken source therefore affects no other run.

    Args:
        workspace: the study, with the digests of its sources at the submission.
        wanted: identities of the corpora, by source.
        progress: called with the name and the completed fraction of each build.

    Raises:
        AssayError: a corpus is missing, and its source has changed or cannot be read.
    """
    from assay.plan.prepare import prepare_corpora
    from assay.plan.workspace import Workspace

    folders = {name: workspace.store.corpora / identity for name, identity in wanted.items()}
    missing = sorted(name for name, folder in folders.items() if not made(folder))
    now = Workspace(workspace.study)
    for name in missing:
        if now.sources.digest(name) != workspace.sources.digest(name):
            raise _changed(f"source {name!r}: its files")
    new = prepare_corpora(workspace.sources, missing, progress=progress) if missing else {}
    for name, folder in new.items():
        if folder != folders[name]:
            raise _changed(f"source {name!r}: its tokenizer or assay itself")
    return folders


def tokenizer_folder(workspace: Workspace, identity: str, *, progress: Progress) -> Path:
    """Return the folder of a tokenizer, and build the tokenizer if it is missing.

    Raises:
        AssayError: the tokenizer is missing, and its inputs have changed or cannot be read.
    """
    from assay.plan.prepare import prepare_corpora

    folder = workspace.store.tokenizers / identity
    if not folder.exists():
        prepare_corpora(workspace.sources, (), progress=progress)
        if workspace.sources.tokenizer_folder != folder:
            raise _changed("the tokenizer: its input")
    return folder


def all_there(store: Store, spec: RunSpec) -> bool:
    """Return whether all inputs of a run exist."""
    folders = [store.corpora / identity for identity in spec.corpora.values()]
    return (store.tokenizers / spec.tokenizer).exists() and all(map(made, folders))


def made(folder: Path) -> bool:
    """Return whether a corpus exists."""
    from assay.corpus.manifest import read_manifest

    try:
        read_manifest(folder)
    except NotFound:
        return False
    return True


def _changed(what: str) -> AssayError:
    return Refused(
        f"{what} changed after the submission.", fix="Submit the sweep again. The changed input defines new runs."
    )
