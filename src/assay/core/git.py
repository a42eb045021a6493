"""Query git for a project's configuration at another revision, and for uncommitted changes."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from assay.core.errors import NotFound, Refused, did_you_mean

REGULAR = ("100644", "100755")
"""Modes of regular files. Links and submodules contain no configuration."""


@dataclass(frozen=True, kw_only=True)
class Base:
    """The merge base of a branch."""

    revision: str
    """The revision as the caller named it, such as `origin/main`."""
    commit: str
    """The last commit that HEAD and the revision share."""

    @property
    def short(self) -> str:
        """The abbreviated commit."""
        return self.commit[:10]


class Repository:
    """The git repository that contains a project's folder."""

    def __init__(self, project: Path) -> None:
        """Locate the repository.

        Args:
            project: the folder that contains `conf/` and `sweeps/`. It may be below the repository's root.

        Raises:
            AssayError: the folder is in no repository, git is missing, or git refuses access.
        """
        self.project = project.resolve()
        self._prefix = self._text("rev-parse", "--show-prefix", problem=f"{project} is in no git work tree")

    def base(self, revision: str) -> Base:
        """Return the merge base of HEAD and a revision.

        Raises:
            AssayError: the revision does not exist, there is no commit yet, or HEAD and the revision share no commit.
        """
        verify = ("rev-parse", "--verify", "--quiet", "--end-of-options")
        try:
            commit = self._text(*verify, f"{revision}^{{commit}}")
        except Refused:
            known = self._text("for-each-ref", "--format=%(refname:short)", "refs/heads", "refs/remotes", "refs/tags")
            remote, slash, branch = revision.partition("/")
            fetch = (
                f"Fetch the branch: git fetch {remote} {branch}."
                if slash
                else "Name another revision, or fetch this one."
            )
            raise NotFound(
                f"revision {revision!r}: no branch, tag or commit of this repository has this name. {did_you_mean(revision, known.splitlines())}",
                fix=fetch,
            ) from None
        self._text(*verify, "HEAD^{commit}", problem="nothing is committed here yet")
        shared = self._text(
            "merge-base", "HEAD", commit,
            problem=f"HEAD and {revision} have no commit in common",
            fix="In a shallow clone fetch the history: git fetch --unshallow, or `fetch-depth: 0` in a workflow.",
        )  # fmt: skip
        return Base(revision=revision, commit=shared)

    def export(self, commit: str, folders: Sequence[str], into: Path) -> list[Path]:
        """Write the files of some folders as they were at a commit.

        Args:
            commit: the commit.
            folders: folders, relative to the project.
            into: the folder that replaces the project's folder.

        Returns:
            The files, relative to the project.
        """
        listed = self._bytes(
            "ls-tree", "-r", "-z", "--full-tree", commit, "--", *(f"{self._prefix}{folder}" for folder in folders)
        )
        files: dict[Path, str] = {}
        for entry in listed.split(b"\0"):
            fields, _, path = entry.partition(b"\t")
            if path and fields.split()[0].decode() in REGULAR:
                files[Path(path.decode().removeprefix(self._prefix))] = fields.split()[2].decode()
        contents = self._blobs(list(files.values()))
        for file, content in zip(files, contents, strict=True):
            (into / file).parent.mkdir(parents=True, exist_ok=True)
            (into / file).write_bytes(content)
        return list(files)

    def differs(self, commit: str, folders: Sequence[str]) -> bool:
        """Return whether folders of the work tree differ from a commit.

        Untracked files count as differences.
        """
        changed = self._bytes("diff", "--name-only", commit, "--", *folders)
        return bool(changed.strip() or self.uncommitted(folders))

    def uncommitted(self, folders: Sequence[str]) -> list[str]:
        """List the project's files that differ from HEAD or are untracked."""
        # Names are relative to the root of the repository. Without --no-renames, git prints the old name after a
        # renamed entry.
        entries = self._bytes("status", "--porcelain", "-z", "--no-renames", "--untracked-files=all", "--", *folders)
        return sorted(entry[3:].decode().removeprefix(self._prefix) for entry in entries.split(b"\0") if entry)

    def _blobs(self, names: list[str]) -> list[bytes]:
        if not names:
            return []
        output = self._bytes("cat-file", "--batch", given="\n".join(names).encode())
        contents, at = [], 0
        for _ in names:
            end = output.index(b"\n", at)
            size = int(output[at:end].split()[2])
            contents.append(output[end + 1 : end + 1 + size])
            at = end + size + 2
        return contents

    def _text(self, *arguments: str, problem: str = "", fix: str = "") -> str:
        return self._bytes(*arguments, problem=problem, fix=fix).decode().strip()

    def _bytes(self, *arguments: str, given: bytes = b"", problem: str = "", fix: str = "") -> bytes:
        # Git sets these variables in the process of a hook, for the hook's own repository. That may be another
        # repository.
        environment = {name: value for name, value in os.environ.items() if name not in ("GIT_DIR", "GIT_WORK_TREE")}
        try:
            done = subprocess.run(
                ["git", "-C", str(self.project), *arguments],
                input=given,
                capture_output=True,
                check=False,
                env={**environment, "LC_ALL": "C", "GIT_OPTIONAL_LOCKS": "0"},
            )
        except FileNotFoundError:
            raise NotFound("git is not installed.", fix="Install git, or add it to the PATH.") from None
        if done.returncode:
            output = done.stderr.decode(errors="replace").strip()[:300]
            what = problem or f"git {arguments[0]} failed"
            raise Refused(f"{what}{': ' + output if output else '.'}", fix=fix)
        return done.stdout
