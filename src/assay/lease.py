"""Who may write into a folder: a lease that holds between machines that share nothing but a file system.

A lease is a file, and taking it is making the next one, which only one process can do: see `assay.epochs`. It is
taken from nobody, from somebody who gave it back, or from somebody who is gone. Nothing is decided by a lock of the
kernel, which NFS and Lustre may not pass on to other machines, nor by comparing the clocks of two machines:

- Its holder touches the file every `LeaseTimes.beat` seconds.
- Of a holder on this machine the kernel tells whether it lives.
- Of any other, whoever waits looks whether the file changes. Once it has not for `LeaseTimes.stale` seconds of the
  waiting process' own clock, the lease is taken over.
- A holder that was stopped, or cut off from the file system, finds that out before it writes again: `Lease.check`
  asks the file system wherever the lease was last known to be its own more than half of `stale` ago.

So a holder goes on writing for at most half of `stale` without having asked, and nobody takes over before all of it
is up. What is not protected is a single write that takes longer than the other half.
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

from assay.epochs import NOTHING, Epochs, Holder, Seen
from assay.errors import AssayError

log = logging.getLogger(__name__)

LOOKS = 60
"""Looks at a lease while it gets stale: one a second, at the usual 60 seconds."""

CLOCK_SECONDS = 60.0
"""How long a file system's clock is not asked again; two clocks part by some milliseconds in that time."""


class LeaseLost(BaseException):
    """Raised where somebody else has taken the lease over, or may have: nothing must be written any more.

    No `Exception`: whatever handles errors would write down that there was one.
    """


@dataclass(frozen=True, kw_only=True)
class LeaseTimes:
    """How often a holder shows that it lives, and how long its silence is borne; seconds.

    `ASSAY_LEASE_BEAT` and `ASSAY_LEASE_STALE` set them, alike for all processes that share a store.
    """

    beat: float = 10.0
    stale: float = 60.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.beat) and self.beat > 0):
            raise AssayError(f"ASSAY_LEASE_BEAT is {self.beat:g}.", fix="It is a number of seconds above 0.")
        if not (math.isfinite(self.stale) and self.stale > 3 * self.beat):
            raise AssayError(
                f"ASSAY_LEASE_STALE is {self.stale:g}, and ASSAY_LEASE_BEAT {self.beat:g}.",
                fix="The first is a number of seconds above 3 times the second: a beat or two may come late.",
            )

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> LeaseTimes:
        """The times that are set, and the usual ones where they are not.

        Raises:
            AssayError: one is no number, or they don't go together.
        """
        given = {}
        for name in ("beat", "stale"):
            variable = f"ASSAY_LEASE_{name.upper()}"
            if variable in environment:
                try:
                    given[name] = float(environment[variable])
                except ValueError:
                    raise AssayError(
                        f"{variable} is {environment[variable]!r}.", fix="It is a number of seconds."
                    ) from None
        return cls(**given)

    @property
    def patience(self) -> float:
        """Long enough to find that a holder on another machine is gone, and to take over from it."""
        return self.stale + 2 * self.beat


class Lease:
    """A lease that this process holds, and shows that it does, until it is released or lost.

    Attributes:
        holder: this process, as others see it.
    """

    def __init__(self, epochs: Epochs, epoch: int, holder: Holder, times: LeaseTimes, *, verified: float) -> None:
        self.holder = holder
        self._epochs, self._epoch, self._times = epochs, epoch, times
        self._verified = verified
        self._lost: str | None = None
        self._ended = threading.Event()
        self._lock = threading.Lock()
        # A thread does not survive a fork: no other process ever beats for this one.
        threading.Thread(target=self._beat, name="lease", daemon=True).start()

    def check(self) -> None:
        """Make sure that the lease is this process' own, before something is written. Mostly it costs nothing.

        Raises:
            LeaseLost: it is not; or that can't be told, since the file system gives errors.
        """
        if self._ended.is_set() or os.getpid() != self.holder.process.pid:
            raise LeaseLost(f"{self._epochs.folder}: this process does not hold its lease.")
        if self._lost is None and self._overdue:
            try:
                self._renew()
            except OSError as error:
                self._lost = f"{self._epochs.folder}: whose its lease is can't be read any more: {error.strerror}."
        if self._lost is not None:
            raise LeaseLost(self._lost)

    def release(self) -> None:
        """Give the lease back, to be taken at once; nothing where it was lost, or belongs to a parent process."""
        if self._ended.is_set() or os.getpid() != self.holder.process.pid:
            return
        self._ended.set()
        with self._lock:
            try:
                if self._lost is None and self._epochs.highest() == self._epoch:
                    self._epochs.give_back(self._epoch, self.holder)
            except OSError as error:
                # What it costs is a wait: on this machine until the process ends, on others until it is stale.
                log.warning("%s: its lease could not be given back: %s", self._epochs.folder, error)

    @property
    def _overdue(self) -> bool:
        return _seconds() - self._verified > self._times.stale / 2

    def _beat(self) -> None:
        while self._lost is None and not self._ended.wait(self._times.beat):
            with contextlib.suppress(OSError):  # `check` sees how long the last beat is ago, and asks again
                self._renew()

    def _renew(self) -> None:
        """Touch the file, then look whether it is still the last one.

        In this order, and with `_take_over` first making its file and then looking whether this one was touched, at
        least one of the two sees the other, however long either is stopped in between.
        """
        with self._lock:
            if self._lost is not None or self._ended.is_set():
                return
            began = _seconds()  # before anything that may hang
            if self._overdue:
                self._epochs.forget_cached(self._epoch, self.holder)
            if self._epochs.touch(self._epoch, self.holder) and self._epochs.highest() == self._epoch:
                self._verified = began
                return
            taker = self._epochs.look().holder
            self._lost = f"{self._epochs.folder}: its lease was taken over by {taker or 'somebody else'}."


def acquire(folder: Path, *, patience: float = 0.0) -> Lease | None:
    """Take the lease of a folder, if it is free or its holder is gone.

    Args:
        folder: any folder; it is made where it is missing.
        patience: seconds for which to watch a holder on another machine, at most; less than `LeaseTimes.patience`
            may be too little to find that it is gone. A holder on this machine is never waited for.

    Returns:
        The lease; ``None`` where somebody else has it.

    Raises:
        AssayError: the folder cannot be written, or the times that are set make no sense.
    """
    times, epochs = LeaseTimes.from_environment(), Epochs(folder)
    give_up = time.monotonic() + patience
    seen, since = None, 0.0
    try:
        while True:
            before = time.monotonic()
            now = epochs.look()
            if now != seen:
                # From after the first look to before the last: the silence was at least as long.
                seen, since = now, time.monotonic()
            if now.free or (not now.held_here and before - since >= times.stale):
                lease = _take_over(epochs, now, times)
                if lease is not None:
                    return lease
            elif now.held_here or before >= give_up:
                return None
            else:
                time.sleep(times.stale / LOOKS)
    except OSError as error:
        raise _unwritable(epochs, error) from error


@contextlib.contextmanager
def holding(folder: Path, *, patience: float = 0.0) -> Iterator[Lease | None]:
    """Hold the lease of a folder while the block lasts; yields ``None`` where somebody else has it.

    Args:
        folder: any folder.
        patience: as for `acquire`.
    """
    lease = acquire(folder, patience=patience)
    try:
        yield lease
    finally:
        if lease is not None:
            lease.release()


def looks_held(folder: Path) -> bool:
    """Whether somebody seems to hold the lease of a folder: a hint, by which nothing is ever taken over.

    For a holder on another machine it goes by the age of the lease's file, by the file system's own clock where it
    has one (NFS). Where every machine stamps files by its own (Lustre), it is as right as those clocks are.
    """
    epochs = Epochs(folder)
    seen = epochs.look()
    if seen.free or seen.held_here:
        return not seen.free
    # A time to come is no sign of life: a dead node whose clock was a year ahead would seem to live that long.
    return abs(_file_system_time(epochs.path) - seen.modified) < LeaseTimes.from_environment().stale


def _take_over(epochs: Epochs, old: Seen, times: LeaseTimes) -> Lease | None:
    """Make the next epoch; ``None`` where somebody else did, or the old one has changed since it was looked at."""
    epoch, holder, began = old.epoch + 1, Holder.me(), _seconds()
    if not epochs.create(epoch, holder):
        return None
    # Two races end here. A holder may have touched its file after it was looked at: see `Lease._renew`. And whoever
    # looked long ago may make an epoch anew that was made, followed and removed since: then a higher one is there,
    # and the one before it is not, since the older ones are removed first. Either way nothing was taken, and nothing
    # is given back: that would make the lease free, which somebody may hold.
    followed = epochs.read(old.epoch) if old.epoch else NOTHING
    if followed != old or epochs.highest() != epoch:
        epochs.file(epoch).unlink(missing_ok=True)
        return None
    epochs.clear(epoch)
    return Lease(epochs, epoch, holder, times, verified=began)


def _seconds() -> float:
    """A clock of this machine that goes on while it sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


_clocks: dict[int, tuple[float, float]] = {}
"""By device: when its clock was asked, and by how much it is ahead of this machine's clock since its start."""


def _file_system_time(folder: Path) -> float:
    """What the file system would stamp a file with now, in seconds since the epoch."""
    device, now = folder.stat().st_dev, _seconds()
    if device not in _clocks or now - _clocks[device][0] > CLOCK_SECONDS:
        try:
            with tempfile.TemporaryFile(dir=folder) as file:
                told = os.fstat(file.fileno()).st_mtime
        except OSError:  # it may only be read
            told = time.time()
        _clocks[device] = now, told - now
    return now + _clocks[device][1]


def _unwritable(epochs: Epochs, error: OSError) -> AssayError:
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return AssayError(f"{epochs.path}: the disk is full.", fix="Free some space and run the same command again.")
    return AssayError(
        f"{epochs.path}: the lease cannot be written: {error.strerror}.",
        fix="Whoever works on the store's runs has to be allowed to read and write its folders.",
    )
