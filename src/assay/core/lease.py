"""Ensure one writer per folder across machines that share only a file system.

A lease is a file. A process takes a lease by creating the file of the lease's next generation, which only one process
can do (see `assay.core.lease_files`). A process may do so in two cases: the folder has no lease, or the holder of the
lease released it or is gone. The protocol relies neither on synchronized clocks nor on kernel locks. NFS and Lustre may
not pass on kernel locks to other machines.

- The holder touches the lease file every `LeaseTimes.beat` seconds.
- The kernel reports whether a holder on the same machine is alive.
- For a holder on another machine, the waiting process polls the file. If the file has not changed for `LeaseTimes.stale`
  seconds of the waiting process's own clock, the waiting process takes the lease over.
- A holder that was suspended or disconnected from the file system detects this before its next write. `Lease.check`
  reads the file system if the lease was last verified more than half of `stale` ago.

A holder therefore writes for at most half of `stale` without verifying its lease. No other process takes the lease over
before all of `stale` has passed. Limit: a single write that takes longer than half of `stale` is not protected.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import math
import os
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from assay.core.errors import AssayError, ConfigError, Refused
from assay.core.lease_files import NO_LEASE, Holder, LeaseGenerations, LeaseState

log = logging.getLogger(__name__)

POLLS = 60
"""Number of polls until a lease is stale: one poll per second with the default of 60 seconds."""

CLOCK_SECONDS = 60.0
"""Seconds for which a file system's clock offset is cached. Two clocks drift by milliseconds in that time."""


class LeaseLost(BaseException):
    """Raised if another process has taken the lease over, or may have done so.

    The caller must stop writing. The class is not an `Exception`, because generic error handlers would record a failure
    in the folder.
    """


@dataclass(frozen=True, kw_only=True)
class LeaseTimes:
    """Heartbeat interval of a holder, and time until its lease is stale, in seconds.

    The environment variables `ASSAY_LEASE_BEAT` and `ASSAY_LEASE_STALE` set the values. All processes that share a
    store must use the same values.
    """

    beat: float = 10.0
    stale: float = 60.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.beat) and self.beat > 0):
            raise ConfigError(
                f"ASSAY_LEASE_BEAT: {self.beat:g} is invalid; expected a number of seconds above 0.",
                fix="Set ASSAY_LEASE_BEAT to a positive number, or unset it.",
            )
        if not (math.isfinite(self.stale) and self.stale > 3 * self.beat):
            raise ConfigError(
                f"ASSAY_LEASE_STALE: {self.stale:g} is invalid; expected more than 3 times ASSAY_LEASE_BEAT ({self.beat:g}).",
                fix="Increase ASSAY_LEASE_STALE. One or two heartbeats may arrive late.",
            )

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> LeaseTimes:
        """Read both times from the environment. Unset variables have their defaults.

        Raises:
            ConfigError: a value is not a number above 0, or `stale` is at most 3 times `beat`.
        """
        given = {}
        for name in ("beat", "stale"):
            variable = f"ASSAY_LEASE_{name.upper()}"
            if variable in environment:
                try:
                    given[name] = float(environment[variable])
                except ValueError:
                    raise ConfigError(
                        f"{variable}: {environment[variable]!r} is invalid; expected a number of seconds.",
                        fix=f"Set {variable} to a number, or unset it.",
                    ) from None
        return cls(**given)

    @property
    def patience(self) -> float:
        """Seconds that suffice to detect a dead holder on another machine and to take over."""
        return self.stale + 2 * self.beat


class Lease:
    """A lease that this process holds and renews in a thread, until release or loss.

    Attributes:
        holder: this process, as named in the lease file.
    """

    def __init__(
        self, generations: LeaseGenerations, generation: int, holder: Holder, times: LeaseTimes, *, verified: float
    ) -> None:
        self.holder = holder
        self._generations, self._generation, self._times = generations, generation, times
        self._verified = verified
        self._lost: str | None = None
        self._ended = threading.Event()
        self._lock = threading.Lock()
        # Threads do not survive a fork, so no child process renews this lease.
        threading.Thread(target=self._beat, name="lease", daemon=True).start()

    def check(self) -> None:
        """Verify before a write that this process still holds the lease, usually without I/O.

        Raises:
            LeaseLost: another process took the lease over, or errors of the file system prevent the check.
        """
        if self._ended.is_set() or os.getpid() != self.holder.process.pid:
            raise LeaseLost(f"{self._generations.folder}: this process does not hold its lease.")
        if self._lost is None and self._overdue:
            try:
                self._renew()
            except OSError as error:
                self._lost = f"{self._generations.folder}: its lease cannot be verified: {error.strerror}."
        if self._lost is not None:
            raise LeaseLost(self._lost)

    def release(self) -> None:
        """Release the lease for immediate reuse; do nothing for a lost or inherited lease."""
        if self._ended.is_set() or os.getpid() != self.holder.process.pid:
            return
        self._ended.set()
        with self._lock:
            try:
                if self._lost is None and self._generations.highest() == self._generation:
                    self._generations.release(self._generation, self.holder)
            except OSError as error:
                # Other processes wait longer: on this machine until the process ends, on other machines until the lease
                # is stale.
                log.warning("%s: its lease could not be released: %s", self._generations.folder, error)

    @property
    def _overdue(self) -> bool:
        return _seconds() - self._verified > self._times.stale / 2

    def _beat(self) -> None:
        while self._lost is None and not self._ended.wait(self._times.beat):
            with contextlib.suppress(OSError):  # if the last renewal is too old, `check` verifies the lease again
                self._renew()

    def _renew(self) -> None:
        """Touch the file, then check that its generation is still the highest generation.

        The order matters: `_take_over` first creates its file and then checks whether this file was touched. At least
        one of the two processes therefore detects the other process, for any suspension in between.
        """
        with self._lock:
            if self._lost is not None or self._ended.is_set():
                return
            began = _seconds()  # before any call that may hang
            if self._overdue:
                self._generations.refresh_listing(self._generation, self.holder)
            if (
                self._generations.touch(self._generation, self.holder)
                and self._generations.highest() == self._generation
            ):
                self._verified = began
                return
            taker = self._generations.current().holder
            self._lost = f"{self._generations.folder}: its lease was taken over by {taker or 'another process'}."


def acquire(folder: Path, *, patience: float = 0.0) -> Lease | None:
    """Take the lease of a folder if it is free or its holder is gone.

    Args:
        folder: any folder, which is created if missing.
        patience: maximum seconds to observe a holder on another machine. Less than `LeaseTimes.patience` may not
            suffice to detect that the holder is gone. The function never waits for a live holder on this machine.

    Returns:
        The lease; None if another process holds the lease.

    Raises:
        AssayError: the folder cannot be written, or the environment sets invalid times.
    """
    times, generations = LeaseTimes.from_environment(), LeaseGenerations(folder)
    give_up = time.monotonic() + patience
    seen, since = None, 0.0
    try:
        while True:
            before = time.monotonic()
            now = generations.current()
            if now != seen:
                # The time from after the first read to before the last read. The holder was silent for at least this
                # long.
                seen, since = now, time.monotonic()
            if now.free or (not now.held_here and before - since >= times.stale):
                lease = _take_over(generations, now, times)
                if lease is not None:
                    return lease
            elif now.held_here or before >= give_up:
                return None
            else:
                time.sleep(times.stale / POLLS)
    except OSError as error:
        raise _unwritable(generations, error) from error


@contextlib.contextmanager
def holding(folder: Path, *, patience: float = 0.0) -> Iterator[Lease | None]:
    """Hold the lease of a folder during the block; yield None if another process holds it.

    Args:
        folder: any folder.
        patience: see `acquire`.
    """
    lease = acquire(folder, patience=patience)
    try:
        yield lease
    finally:
        if lease is not None:
            lease.release()


def seems_held(folder: Path) -> bool:
    """Return whether a process seems to hold the lease of a folder.

    The result is a hint that never justifies a takeover. For a holder on another machine, the age of the lease file
    decides, by the clock of the file system if it has one (NFS). If each machine stamps files with its own clock
    (Lustre), the result is as accurate as these clocks.
    """
    generations = LeaseGenerations(folder)
    seen = generations.current()
    if seen.free or seen.held_here:
        return not seen.free
    # A time in the future is no sign of life. A dead node whose clock was a year ahead would otherwise seem alive for a
    # year.
    return abs(_file_system_time(generations.path) - seen.modified) < LeaseTimes.from_environment().stale


def _take_over(generations: LeaseGenerations, old: LeaseState, times: LeaseTimes) -> Lease | None:
    """Create the next generation; return None if another process did, or if the old lease changed."""
    generation, holder, began = old.generation + 1, Holder.current(), _seconds()
    if not generations.create(generation, holder):
        return None
    # Two races end here. First, the holder may have touched its file after the read: see `Lease._renew`. Second, a
    # process that read the lease long ago may recreate a generation that was created, succeeded and removed since the
    # read. A higher generation then exists, and the previous generation does not, because older generations are removed
    # first. In both cases no lease was taken, and the file is removed instead of released. A release would free a lease
    # that another process may hold.
    previous = generations.read(old.generation) if old.generation else NO_LEASE
    if previous != old or generations.highest() != generation:
        generations.file(generation).unlink(missing_ok=True)
        return None
    generations.remove_older(generation)
    return Lease(generations, generation, holder, times, verified=began)


def _seconds() -> float:
    """Return this machine's clock, which includes time in suspend."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


_clocks: dict[int, tuple[float, float]] = {}
"""Offsets of clocks by device: the time of the reading, and the offset from this machine's boot-time clock."""


def _file_system_time(folder: Path) -> float:
    """Return the current Unix time in seconds by the file system's clock."""
    device, now = folder.stat().st_dev, _seconds()
    if device not in _clocks or now - _clocks[device][0] > CLOCK_SECONDS:
        try:
            with tempfile.TemporaryFile(dir=folder) as file:
                stamp = os.fstat(file.fileno()).st_mtime
        except OSError:  # a read-only file system
            stamp = time.time()
        _clocks[device] = now, stamp - now
    return now + _clocks[device][1]


def _unwritable(generations: LeaseGenerations, error: OSError) -> AssayError:
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return Refused(f"{generations.path}: the disk is full.", fix="Free some space and run the same command again.")
    return Refused(
        f"{generations.path}: the lease cannot be written: {error.strerror}.",
        fix="Grant read and write permission for the store's folders to every account that works on its runs.",
    )
