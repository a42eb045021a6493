"""What a run reads: the corpora and the tokenizer that its spec names, as they were when it was submitted."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from assay.errors import AssayError

if TYPE_CHECKING:
    from assay.recipe import RunSpec
    from assay.store import Store
    from assay.workspace import Progress, Workspace


def corpora_folders(workspace: Workspace, wanted: Mapping[str, str], *, progress: Progress) -> dict[str, Path]:
    """The folder of each corpus; those that are missing are made.

    Where one is there, nobody asks what has become of the text that it was made of. And no more are made than are
    wanted, so that a broken source stops as little as it can.

    Args:
        workspace: the study, with its sources' digests as they were when it was submitted.
        wanted: the corpora's identities, by source.
        progress: told what is made.

    Raises:
        AssayError: a corpus is missing, and its source has changed or cannot be read.
    """
    from assay.workspace import Workspace

    folders = {name: workspace.store.corpora / identity for name, identity in wanted.items()}
    missing = sorted(name for name, folder in folders.items() if not made(folder))
    now = Workspace(workspace.study)
    for name in missing:
        if now.digest(name) != workspace.digest(name):
            raise _changed(f"source {name!r}: its files")
    new = workspace.prepare(missing, progress=progress) if missing else {}
    for name, folder in new.items():
        if folder != folders[name]:
            raise _changed(f"source {name!r}: its tokenizer or assay itself")
    return folders


def tokenizer_folder(workspace: Workspace, identity: str, *, progress: Progress) -> Path:
    """The folder of a tokenizer, made where it is missing.

    Raises:
        AssayError: it is missing, and what it is made of has changed or cannot be read.
    """
    folder = workspace.store.tokenizers / identity
    if not folder.exists():
        workspace.prepare((), progress=progress)
        if workspace.tokenizer_folder() != folder:
            raise _changed("the tokenizer: what it is made of")
    return folder


def all_there(store: Store, spec: RunSpec) -> bool:
    """Whether all that a run reads is made."""
    folders = [store.corpora / identity for identity in spec.corpora.values()]
    return (store.tokenizers / spec.tokenizer).exists() and all(map(made, folders))


def made(folder: Path) -> bool:
    """Whether a corpus is there."""
    from assay.corpus.manifest import read_manifest

    try:
        read_manifest(folder)
    except AssayError:
        return False
    return True


def _changed(what: str) -> AssayError:
    return AssayError(f"{what} changed after this was submitted.", fix="Submit again: what changed makes other runs.")
