"""A lease as it lies on disk: a file for each time it changed hands, of which the last one counts.

    <folder>/lease/<epoch>.json

The file of the highest epoch says whose the lease is; the one before it stays until the next change. What they mean,
and when somebody may make the next one, stands in `assay.lease`.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from assay.errors import AssayError
from assay.processes import ProcessIdentity
from assay.structure import from_mapping, to_mapping

NO_LINKS = frozenset({errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP})
"""What `link` gives on file systems that have no hard links."""


@dataclass(frozen=True, kw_only=True)
class Holder:
    """Whose a lease is: what its file says."""

    token: str
    """Different for each lease that ever was."""
    process: ProcessIdentity
    job: str | None
    """SLURM's name of the job that it is part of, such as ``1234`` or, in an array, ``1234_7``."""
    released: bool = False
    """Whether it was given back."""

    def __str__(self) -> str:
        job = f", job {self.job}" if self.job else ""
        return f"process {self.process.pid} on {self.process.host}{job}"

    @classmethod
    def me(cls, environment: Mapping[str, str] = os.environ) -> Holder:
        """This process, with a token of its own."""
        array, task = environment.get("SLURM_ARRAY_JOB_ID"), environment.get("SLURM_ARRAY_TASK_ID")
        job = f"{array}_{task}" if array and task else environment.get("SLURM_JOB_ID")
        return cls(token=secrets.token_hex(8), process=ProcessIdentity.of(os.getpid()), job=job)


class Seen(NamedTuple):
    """A lease at one moment; equal to what was seen before as long as nobody has touched it.

    Attributes:
        epoch: the highest; 0 where there is none.
        holder: what its file says; ``None`` where that is damaged, or not fully written yet.
        stamp: its inode, size, and time of modification in nanoseconds by whichever clock.
    """

    epoch: int
    holder: Holder | None
    stamp: tuple[int, int, int]

    @property
    def free(self) -> bool:
        """Whether nobody has it: there is none, it was given back, or its holder was on this machine and is dead."""
        if self.epoch == 0:
            return True
        return self.holder is not None and (self.holder.released or self.holder.process.alive is False)

    @property
    def held_here(self) -> bool:
        """Whether its holder lives, on this machine."""
        return self.holder is not None and not self.holder.released and self.holder.process.alive is True

    @property
    def modified(self) -> float:
        """When it was last touched, in seconds since the epoch by whichever clock."""
        return self.stamp[2] / 1e9


NOTHING = Seen(0, None, (0, 0, 0))
"""What is seen where there never was a lease."""


class Epochs:
    """The files of one folder's lease."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "lease"

    def file(self, epoch: int) -> Path:
        """The file of an epoch, whether it exists or not."""
        return self.path / f"{epoch}.json"

    def highest(self) -> int:
        """The last epoch that there is; 0 for none."""
        return max((int(match[1]) for name in self._names() if (match := _EPOCH.fullmatch(name))), default=0)

    def look(self) -> Seen:
        """The lease as it is now."""
        while epoch := self.highest():
            if (seen := self.read(epoch)) is not None:  # else a higher one came, and this one was removed
                return seen
        return NOTHING

    def read(self, epoch: int) -> Seen | None:
        """An epoch's file; ``None`` where there is none."""
        try:
            # Opening has NFS ask the server, as a bare `stat` does not: close-to-open consistency, nfs(5).
            with self.file(epoch).open("rb") as file:
                stat, text = os.fstat(file.fileno()), file.read()
        except FileNotFoundError:
            return None
        return Seen(epoch, _parse(text), (stat.st_ino, stat.st_size, stat.st_mtime_ns))

    def touch(self, epoch: int, holder: Holder) -> bool:
        """Change the time of modification of an epoch's file; returns whether it is there and the holder's."""
        try:
            with self.file(epoch).open("rb") as file:
                found = _parse(file.read())
                if found is None or found.token != holder.token:
                    return False
                os.utime(file.fileno())
        except OSError as error:
            if error.errno in {errno.ENOENT, errno.ESTALE}:  # ESTALE: NFS' word for a file that is removed by now
                return False
            raise
        return True

    def create(self, epoch: int, holder: Holder) -> bool:
        """Make an epoch's file, whole, unless there is one; returns whether it was made.

        A link is made or not, on every file system and from whichever machine; a file that is opened to be made is
        empty for a moment. Nothing is synced: what a machine loses when it goes down was a lease of its own.
        """
        text, temporary = _text(holder), self._temporary(epoch, holder)
        self.path.mkdir(parents=True, exist_ok=True)
        try:
            temporary.write_bytes(text)
            os.link(temporary, self.file(epoch))
        except FileExistsError:
            # NFS repeats a request whose answer was lost, and is then told that the file exists: open(2), O_EXCL.
            with contextlib.suppress(FileNotFoundError):
                return temporary.stat().st_nlink == 2
            return False
        except FileNotFoundError:
            return False  # whoever got it meanwhile has removed what others had begun
        except OSError as error:
            if error.errno not in NO_LINKS:
                raise
            try:
                with self.file(epoch).open("xb") as file:
                    file.write(text)
            except FileExistsError:
                return False
        finally:
            temporary.unlink(missing_ok=True)
        return True

    def give_back(self, epoch: int, holder: Holder) -> None:
        """Put the word that the lease is given back in place of an epoch's file."""
        temporary = self._temporary(epoch, holder)
        try:
            temporary.write_bytes(_text(replace(holder, released=True)))
            with contextlib.suppress(FileNotFoundError):  # removed by whoever has the lease by now
                temporary.replace(self.file(epoch))
        finally:
            temporary.unlink(missing_ok=True)

    def clear(self, epoch: int) -> None:
        """Remove what is older than the epoch before this one, and what others had begun to write."""
        for name in self._names():
            file, begun = _EPOCH.fullmatch(name), _BEGUN.fullmatch(name)
            if (file and int(file[1]) < epoch - 1) or (begun and int(begun[1]) <= epoch):
                (self.path / name).unlink(missing_ok=True)

    def forget_cached(self, epoch: int, holder: Holder) -> None:
        """Have NFS list the folder anew: a change of its own shows it that others made some in between.

        Otherwise names come from a cache of up to a minute (`acdirmax`, nfs(5)).
        """
        temporary = self._temporary(epoch, holder)
        temporary.touch()
        temporary.unlink(missing_ok=True)

    def _names(self) -> list[str]:
        with contextlib.suppress(FileNotFoundError):
            return [path.name for path in self.path.iterdir()]
        return []

    def _temporary(self, epoch: int, holder: Holder) -> Path:
        return self.path / f".{epoch}.{holder.token}.tmp"


_EPOCH = re.compile(r"([1-9]\d*)\.json")
_BEGUN = re.compile(r"\.(\d+)\.\w+\.tmp")


def _text(holder: Holder) -> bytes:
    return (json.dumps(to_mapping(holder)) + "\n").encode()


def _parse(text: bytes) -> Holder | None:
    try:
        said = json.loads(text)
        return from_mapping(Holder, said, where="lease") if isinstance(said, dict) else None
    except (ValueError, AssayError):
        return None
