"""Runs that several processes train together: srun starts them all, the first says what they do next.

The first rank is the worker: it takes runs, holds their leases and writes their records. It tells the others of each
turn in a small file beside the worker's record, with what torchrun would have put into their environment. A rank that
dies takes its step along (`srun --kill-on-bad-exit`), and the job starts again from the last checkpoint.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from assay.errors import AssayError
from assay.files import read_json, write_json
from assay.structure import from_mapping, to_mapping

if TYPE_CHECKING:
    from assay.launch.children import Children
    from assay.launch.records import SubmissionDirectory, SubmittedRun

log = logging.getLogger(__name__)

POLL_SECONDS = 0.2


@dataclass(frozen=True, kw_only=True)
class Turn:
    """What the ranks of a job do now."""

    stamp: str
    """The job and how often it was started: what an earlier start left says nothing."""
    number: int
    run: str | None = None
    """Fingerprint of the run; ``None`` between two runs."""
    address: str = ""
    port: int = 0
    """Where its first rank is met."""
    over: bool = False
    """Whether there will be no further one."""


@dataclass(frozen=True, kw_only=True)
class Rank:
    """This process' place among those of its job, as SLURM's variables tell it."""

    rank: int
    world: int
    local: int
    stamp: str

    @classmethod
    def here(cls) -> Rank:
        """From the environment that srun gave."""
        return cls(
            rank=int(os.environ.get("SLURM_PROCID", "0")),
            world=int(os.environ.get("SLURM_NTASKS", "1")),
            local=int(os.environ.get("SLURM_LOCALID", "0")),
            stamp=f"{os.environ.get('SLURM_JOB_ID', '')}.{os.environ.get('SLURM_RESTART_COUNT', '0')}",
        )

    def environment(self, turn: Turn) -> dict[str, str]:
        """The variables that torchrun would set for a turn."""
        return {
            "MASTER_ADDR": turn.address,
            "MASTER_PORT": str(turn.port),
            "WORLD_SIZE": str(self.world),
            "RANK": str(self.rank),
            "LOCAL_RANK": str(self.local),
        }


class Leader:
    """The first rank's side: announces turns."""

    def __init__(self, path: Path, me: Rank) -> None:
        """Get ready.

        Args:
            path: the file that the others read.
            me: the first rank.
        """
        self._path = path
        self._me = me
        self._number = 0

    @contextlib.contextmanager
    def turn(self, run: SubmittedRun) -> Iterator[dict[str, str]]:
        """Have all ranks do a run; yields the first one's variables. Those that still are at it in the end are stopped."""
        self._number += 1
        turn = Turn(
            stamp=self._me.stamp,
            number=self._number,
            run=run.fingerprint,
            address=socket.gethostname(),
            port=_free_port(),
        )
        self._write(turn)
        try:
            yield self._me.environment(turn)
        finally:
            self._write(Turn(stamp=self._me.stamp, number=self._number))

    def end(self) -> None:
        """Let the other ranks end."""
        self._write(Turn(stamp=self._me.stamp, number=self._number, over=True))

    def _write(self, turn: Turn) -> None:
        write_json(self._path, to_mapping(turn))


def follow(
    directory: SubmissionDirectory, path: Path, me: Rank, *, children: Children, asked: Callable[[], bool]
) -> None:
    """Be one of the other ranks: do what the first one announces, until it says that it was the last.

    Args:
        directory: the submission.
        path: the file that the first rank writes.
        me: this rank.
        children: makes the run's process.
        asked: whether the job was asked to stop; the first rank hears of it too, and ends the turn.
    """
    runs = {run.fingerprint: run for run in directory.read().runs}
    done = 0
    while not asked():
        turn = _read(path, me)
        if turn is not None and turn.over:
            return
        if turn is None or turn.run is None or turn.number <= done:
            time.sleep(POLL_SECONDS)
            continue
        done = turn.number

        def stop(number: int = done) -> bool:
            now = _read(path, me)
            return now is None or now.run is None or now.number != number

        run = runs[turn.run]
        ended = children.help(directory, run, stop=stop, environment=me.environment(turn))
        if not (ended.code == 0 or ended.stopped):  # the first rank only finds that it has gone
            log.warning("rank %d of %s %s: %s", me.rank, run.label, run.fingerprint[:12], ended)


def _read(path: Path, me: Rank) -> Turn | None:
    """The present turn; ``None`` where the first rank of this start has not announced any."""
    with contextlib.suppress(FileNotFoundError, AssayError):
        turn = from_mapping(Turn, read_json(path), where=str(path))
        if turn.stamp == me.stamp:
            return turn
    return None


def _free_port() -> int:
    """A port that is free here now; somebody may take it before the first rank does, and the run is then tried again."""
    with socket.socket() as probe:
        probe.bind(("", 0))
        return int(probe.getsockname()[1])
