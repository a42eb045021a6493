"""Manage the files of a lease, with one file per generation.

    <folder>/lease/<generation>.json

Each new holder starts a generation, and the highest generation is valid. The file of the highest generation names the
holder. The previous file stays until the next change. `assay.core.lease` defines when a process may create the next
generation.
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

from assay.core.errors import Damaged
from assay.core.processes import ProcessIdentity
from assay.core.serde import from_record, to_mapping

NO_LINKS = frozenset({errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP})
"""Errors of `link` on file systems without hard links."""


@dataclass(frozen=True, kw_only=True)
class Holder:
    """The holder of a lease, as recorded in the lease file."""

    token: str
    """Random text that is unique for each acquisition."""
    process: ProcessIdentity
    job: str | None
    """SLURM's id of the holder's job, such as ``1234``, or ``1234_7`` in an array; None outside a job."""
    released: bool = False
    """Whether the holder released the lease."""

    def __str__(self) -> str:
        job = f", job {self.job}" if self.job else ""
        return f"process {self.process.pid} on {self.process.host}{job}"

    @classmethod
    def current(cls, environment: Mapping[str, str] = os.environ) -> Holder:
        """Describe this process, with a new token."""
        array, task = environment.get("SLURM_ARRAY_JOB_ID"), environment.get("SLURM_ARRAY_TASK_ID")
        job = f"{array}_{task}" if array and task else environment.get("SLURM_JOB_ID")
        return cls(token=secrets.token_hex(8), process=ProcessIdentity.of(os.getpid()), job=job)


class LeaseState(NamedTuple):
    """The state of a lease at one moment.

    The state equals an earlier state if no process has touched the file since.

    Attributes:
        generation: the highest generation; 0 if there is no generation.
        holder: the file's content; None if the file is damaged or not completely written.
        stamp: inode, size, and modification time in nanoseconds by the clock that stamps the file.
    """

    generation: int
    holder: Holder | None
    stamp: tuple[int, int, int]

    @property
    def free(self) -> bool:
        """Whether a process can take the lease: no holder, released, or dead on this machine."""
        if self.generation == 0:
            return True
        return self.holder is not None and (self.holder.released or self.holder.process.alive is False)

    @property
    def held_here(self) -> bool:
        """Whether the holder of the lease is alive and on this machine."""
        return self.holder is not None and not self.holder.released and self.holder.process.alive is True

    @property
    def modified(self) -> float:
        """Time of the last touch in Unix seconds, by the clock that stamps the file."""
        return self.stamp[2] / 1e9


NO_LEASE = LeaseState(0, None, (0, 0, 0))
"""The state of a folder that never had a lease."""


class LeaseGenerations:
    """The lease files of one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "lease"

    def file(self, generation: int) -> Path:
        """Return the path of a generation's file, which may not exist."""
        return self.path / f"{generation}.json"

    def highest(self) -> int:
        """Return the highest generation; 0 without a generation."""
        return max((int(match[1]) for name in self._names() if (match := _GENERATION.fullmatch(name))), default=0)

    def current(self) -> LeaseState:
        """Read the current state of the lease."""
        while generation := self.highest():
            if (state := self.read(generation)) is not None:  # otherwise a higher generation replaced this generation
                return state
        return NO_LEASE

    def read(self, generation: int) -> LeaseState | None:
        """Read the file of a generation; return None if the file does not exist."""
        try:
            # Opening the file makes NFS ask the server, which a bare `stat` does not: close-to-open consistency,
            # nfs(5).
            with self.file(generation).open("rb") as file:
                stat, text = os.fstat(file.fileno()), file.read()
        except FileNotFoundError:
            return None
        return LeaseState(generation, _parse(text), (stat.st_ino, stat.st_size, stat.st_mtime_ns))

    def last_touch(self, job: str) -> float | None:
        """Return when a job last touched or released the lease, in Unix seconds; None if no file names the job."""
        states = [self.read(int(match[1])) for name in self._names() if (match := _GENERATION.fullmatch(name))]
        times = [s.modified for s in states if s is not None and s.holder is not None and s.holder.job == job]
        return max(times, default=None)

    def touch(self, generation: int, holder: Holder) -> bool:
        """Update the modification time of a generation's file.

        Returns:
            Whether the file exists and belongs to the holder.
        """
        try:
            with self.file(generation).open("rb") as file:
                recorded = _parse(file.read())
                if recorded is None or recorded.token != holder.token:
                    return False
                os.utime(file.fileno())
        except OSError as error:
            if error.errno in {errno.ENOENT, errno.ESTALE}:  # ESTALE: NFS reports a file that was removed
                return False
            raise
        return True

    def create(self, generation: int, holder: Holder) -> bool:
        """Create the complete file of a generation unless it exists.

        Creating a link is atomic on every file system and from every machine. A newly opened file is empty for a
        moment. No file is synced to disk, because a machine that crashes loses only its own lease.

        Returns:
            Whether this call created the file.
        """
        text, temporary = _text(holder), self._temporary(generation, holder)
        self.path.mkdir(parents=True, exist_ok=True)
        try:
            temporary.write_bytes(text)
            os.link(temporary, self.file(generation))
        except FileExistsError:
            # If a reply was lost, NFS repeats the request, and the server then reports an existing file: open(2),
            # O_EXCL.
            with contextlib.suppress(FileNotFoundError):
                return temporary.stat().st_nlink == 2
            return False
        except FileNotFoundError:
            return False  # the process that took the lease removed the unfinished files of other processes
        except OSError as error:
            if error.errno not in NO_LINKS:
                raise
            try:
                with self.file(generation).open("xb") as file:
                    file.write(text)
            except FileExistsError:
                return False
        finally:
            temporary.unlink(missing_ok=True)
        return True

    def release(self, generation: int, holder: Holder) -> None:
        """Replace the file of a generation by a file that marks the lease as released."""
        temporary = self._temporary(generation, holder)
        try:
            temporary.write_bytes(_text(replace(holder, released=True)))
            with contextlib.suppress(FileNotFoundError):  # the next holder removed the file
                temporary.replace(self.file(generation))
        finally:
            temporary.unlink(missing_ok=True)

    def remove_older(self, generation: int) -> None:
        """Remove generations before the previous one, and the unfinished files of other processes."""
        for name in self._names():
            file, unfinished = _GENERATION.fullmatch(name), _UNFINISHED.fullmatch(name)
            if (file and int(file[1]) < generation - 1) or (unfinished and int(unfinished[1]) <= generation):
                (self.path / name).unlink(missing_ok=True)

    def refresh_listing(self, generation: int, holder: Holder) -> None:
        """Make NFS list the folder again.

        A local change to the folder reveals the changes of other machines. Otherwise, names come from a cache that may
        be a minute old (`acdirmax`, nfs(5)).
        """
        temporary = self._temporary(generation, holder)
        temporary.touch()
        temporary.unlink(missing_ok=True)

    def _names(self) -> list[str]:
        with contextlib.suppress(FileNotFoundError):
            return [path.name for path in self.path.iterdir()]
        return []

    def _temporary(self, generation: int, holder: Holder) -> Path:
        return self.path / f".{generation}.{holder.token}.tmp"


_GENERATION = re.compile(r"([1-9]\d*)\.json")
_UNFINISHED = re.compile(r"\.(\d+)\.\w+\.tmp")


def _text(holder: Holder) -> bytes:
    return (json.dumps(to_mapping(holder)) + "\n").encode()


def _parse(text: bytes) -> Holder | None:
    try:
        plain = json.loads(text)
        return from_record(Holder, plain, where="lease") if isinstance(plain, dict) else None
    except (ValueError, Damaged):
        return None
