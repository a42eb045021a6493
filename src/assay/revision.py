"""git, asked: what a project's configuration was at another revision, and what of it is not committed."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from assay.errors import AssayError, did_you_mean

REGULAR = ("100644", "100755")
"""Modes of plain files; links and submodules hold no configuration."""


@dataclass(frozen=True, kw_only=True)
class Base:
    """What a branch is compared with."""

    revision: str
    """As it was asked for: `origin/main`."""
    commit: str
    """Where the branch left it."""

    @property
    def short(self) -> str:
        """The commit as people write it."""
        return self.commit[:10]


class Repository:
    """The git repository that a project's folder is in."""

    def __init__(self, project: Path) -> None:
        """Find it.

        Args:
            project: the folder that holds `conf/` and `sweeps/`; it may be below the repository's root.

        Raises:
            AssayError: the folder is in no repository, git is missing, or it refuses to look.
        """
        self.project = project.resolve()
        self._prefix = self._text("rev-parse", "--show-prefix", problem=f"{project} is in no git work tree")

    def base(self, revision: str) -> Base:
        """Where the branch that is checked out left a revision.

        Raises:
            AssayError: there is no such revision, no commit yet, or nothing in common.
        """
        asked = ("rev-parse", "--verify", "--quiet", "--end-of-options")
        try:
            commit = self._text(*asked, f"{revision}^{{commit}}")
        except AssayError:
            known = self._text("for-each-ref", "--format=%(refname:short)", "refs/heads", "refs/remotes", "refs/tags")
            remote, slash, branch = revision.partition("/")
            fetch = f"Or fetch it: git fetch {remote} {branch}." if slash else "Or fetch it first."
            raise AssayError(
                f"--since {revision}: git knows no such revision. {did_you_mean(revision, known.splitlines())}",
                fix=fetch,
            ) from None
        self._text(*asked, "HEAD^{commit}", problem="nothing is committed here yet")
        shared = self._text(
            "merge-base", "HEAD", commit,
            problem=f"HEAD and {revision} have no commit in common",
            fix="In a shallow clone fetch the history: git fetch --unshallow, or `fetch-depth: 0` in a workflow.",
        )  # fmt: skip
        return Base(revision=revision, commit=shared)

    def export(self, commit: str, folders: Sequence[str], into: Path) -> list[Path]:
        """Write the files that some folders of the project had at a commit.

        Args:
            commit: which.
            folders: relative to the project.
            into: the folder that takes the project's place.

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
        """Whether the work tree's folders are others than at a commit; files that git does not know yet count."""
        found = self._bytes("diff", "--name-only", commit, "--", *folders)
        return bool(found.strip() or self.uncommitted(folders))

    def uncommitted(self, folders: Sequence[str]) -> list[str]:
        """Files of the project that are not as HEAD has them, or that it does not have."""
        # Names are relative to the repository's root, and an entry that was renamed is followed by its old name.
        entries = self._bytes("status", "--porcelain", "-z", "--no-renames", "--untracked-files=all", "--", *folders)
        return sorted(entry[3:].decode().removeprefix(self._prefix) for entry in entries.split(b"\0") if entry)

    def _blobs(self, names: list[str]) -> list[bytes]:
        if not names:
            return []
        answer = self._bytes("cat-file", "--batch", given="\n".join(names).encode())
        found, at = [], 0
        for _ in names:
            end = answer.index(b"\n", at)
            size = int(answer[at:end].split()[2])
            found.append(answer[end + 1 : end + 1 + size])
            at = end + size + 2
        return found

    def _text(self, *arguments: str, problem: str = "", fix: str = "") -> str:
        return self._bytes(*arguments, problem=problem, fix=fix).decode().strip()

    def _bytes(self, *arguments: str, given: bytes = b"", problem: str = "", fix: str = "") -> bytes:
        # A hook's git sets these for the repository that it works on; the project says which one is meant.
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
            raise AssayError("there is no git here.", fix="Install git, or put it on the PATH.") from None
        if done.returncode:
            said = done.stderr.decode(errors="replace").strip()[:300]
            what = problem or f"git {arguments[0]} failed"
            raise AssayError(f"{what}{': ' + said if said else '.'}", fix=fix)
        return done.stdout
