"""Coordinate the processes (ranks) that train a run together.

srun starts all ranks. Rank 0 is the worker: it selects runs, holds their leases and writes their records. Rank 0
announces each run (a turn) to the other ranks in a small file next to the worker's record, with the variables that
torchrun would set. If a rank dies, srun ends the whole step (`--kill-on-bad-exit`), and the job restarts from the last
checkpoint.
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

from assay.core.errors import Damaged
from assay.core.files import read_json, write_json
from assay.core.serde import from_record, to_mapping

if TYPE_CHECKING:
    from assay.launch.local.process_pool import RunProcesses
    from assay.store.submissions import SubmissionDirectory, SubmittedRun

log = logging.getLogger(__name__)

POLL_SECONDS = 0.2


@dataclass(frozen=True, kw_only=True)
class Turn:
    """Current assignment of the ranks of a job."""

    stamp: str
    """Job id and restart count. Ranks ignore the file of an earlier start."""
    number: int
    run: str | None = None
    """Fingerprint of the run; None between two runs."""
    address: str = ""
    port: int = 0
    """Port of rank 0."""
    over: bool = False
    """Whether the last turn has ended and the ranks must end."""


@dataclass(frozen=True, kw_only=True)
class Rank:
    """Rank of this process in its job, from SLURM's variables."""

    rank: int
    world: int
    local: int
    stamp: str

    @classmethod
    def from_environment(cls) -> Rank:
        """Read the rank from the variables that srun sets."""
        return cls(
            rank=int(os.environ.get("SLURM_PROCID", "0")),
            world=int(os.environ.get("SLURM_NTASKS", "1")),
            local=int(os.environ.get("SLURM_LOCALID", "0")),
            stamp=f"{os.environ.get('SLURM_JOB_ID', '')}.{os.environ.get('SLURM_RESTART_COUNT', '0')}",
        )

    def environment(self, turn: Turn) -> dict[str, str]:
        """Build the variables that torchrun would set for a turn."""
        return {
            "MASTER_ADDR": turn.address,
            "MASTER_PORT": str(turn.port),
            "WORLD_SIZE": str(self.world),
            "RANK": str(self.rank),
            "LOCAL_RANK": str(self.local),
        }


class Leader:
    """Rank 0, which announces turns to the other ranks."""

    def __init__(self, path: Path, me: Rank) -> None:
        """Prepare to announce turns.

        Args:
            path: file that the other ranks read.
            me: rank 0.
        """
        self._path = path
        self._me = me
        self._number = 0

    @contextlib.contextmanager
    def turn(self, run: SubmittedRun) -> Iterator[dict[str, str]]:
        """Announce a run to all ranks, and yield the variables of rank 0.

        At the end of the block, ranks that still train the run stop.
        """
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
        """Announce that there are no further turns."""
        self._write(Turn(stamp=self._me.stamp, number=self._number, over=True))

    def _write(self, turn: Turn) -> None:
        write_json(self._path, to_mapping(turn))


def follow_leader(
    directory: SubmissionDirectory, path: Path, me: Rank, *, children: RunProcesses, asked: Callable[[], bool]
) -> None:
    """Perform the turns that rank 0 announces, until the last turn.

    Args:
        directory: the submission.
        path: file that rank 0 writes.
        me: this rank, which is not rank 0.
        children: starts the process of a run.
        asked: returns whether the job must stop. Rank 0 receives the same signal and ends the turn.
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
            current = _read(path, me)
            return current is None or current.run is None or current.number != number

        run = runs[turn.run]
        ended = children.help(directory, run, stop=stop, environment=me.environment(turn))
        if not (ended.code == 0 or ended.stopped):  # rank 0 detects only that this rank ended
            log.warning("rank %d of %s %s: %s", me.rank, run.label, run.fingerprint[:12], ended)


def _read(path: Path, me: Rank) -> Turn | None:
    """Read the current turn; return None if rank 0 of this start announced no turn yet."""
    with contextlib.suppress(FileNotFoundError, Damaged):  # rank 0 replaces the file with every turn
        turn = from_record(Turn, read_json(path), where=str(path))
        if turn.stamp == me.stamp:
            return turn
    return None


def _free_port() -> int:
    """Return a free port of this node.

    If another process takes the port first, the run fails and is resubmitted.
    """
    with socket.socket() as probe:
        probe.bind(("", 0))
        return int(probe.getsockname()[1])
