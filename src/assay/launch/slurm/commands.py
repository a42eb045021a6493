"""Calling SLURM's commands: never for ever, and failures told apart by what can be done about them."""

from __future__ import annotations

import contextlib
import logging
import os
import random
import re
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from typing import IO

from assay.errors import AssayError

log = logging.getLogger(__name__)

FIRST_WAIT_SECONDS = 1.0
LONGEST_WAIT_SECONDS = 30.0


class SlurmError(AssayError):
    """One of SLURM's commands failed."""


class Unreachable(SlurmError):  # noqa: N818  # its base says that it is an error
    """SLURM did not answer, in all attempts: it may later.

    What was asked of it may have been done all the same: an answer can be lost.
    """


class Refused(SlurmError):  # noqa: N818  # as above
    """SLURM said no, in its own words; asking again changes nothing."""


_PASSES = re.compile(
    r"unable to contact slurm controller"  # the controller restarts; clients have tried for a MessageTimeout by then
    r"|socket timed out on send/recv"
    r"|connection (?:refused|reset|timed out)"
    r"|communication connection failure"
    r"|message (?:send|receive) failure"
    r"|zero bytes were transmitted or received"
    r"|resource temporarily unavailable"
    r"|slurm temporarily unable to accept job"
    r"|rate limit exceeded"
    r"|controller (?:is )?in standby mode"
    r"|unable to connect to database"
    r"|could not establish a configuration source",  # no slurm.conf here, and who would send it does not answer
    re.IGNORECASE,
)
"""What SLURM says when it would have answered a little later; from its sources, 20.11 to 26.05."""

_INPUTS = re.compile(r"(?:SLURM|SBATCH|SALLOC|SRUN|SACCT|SQUEUE|SINFO|SCONTROL|SCANCEL)_")
_KEPT = {"SLURM_CONF", "SLURM_CONF_SERVER", "SLURM_JWT"}
"""Which cluster, and who one is there; submitit's `clean_env` drops the first, and sbatch then finds no cluster."""


def clean_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """An environment without what an enclosing job says about itself: SLURM's commands would take that for options."""
    return {name: value for name, value in environment.items() if name in _KEPT or not _INPUTS.match(name)}


def run(
    command: Sequence[str],
    *,
    timeout: float,
    attempts: int = 1,
    environment: Mapping[str, str] | None = None,
    sleep: Callable[[float], None] = time.sleep,
    chance: Callable[[], float] = random.random,
) -> str:
    """Run one of SLURM's commands and return what it prints.

    Args:
        command: the program and its arguments.
        timeout: seconds for one attempt; then it is killed, with all that it started.
        attempts: how often it is tried where SLURM does not answer. More than one is for commands that may be done
            twice: an sbatch without an answer may have submitted its job.
        environment: variables beside the caller's.
        sleep: waits between attempts.
        chance: between 0 and 1; spreads the waits, so that a thousand jobs don't all ask at the same moment again.

    Raises:
        Unreachable: SLURM did not answer in time, or said that it cannot just now, in every attempt.
        Refused: it said no.
        AssayError: there is no such program on this machine.
    """
    for attempt in range(1, attempts + 1):
        try:
            return _run_once(command, timeout, environment or {})
        except Unreachable as error:
            if attempt == attempts:
                raise
            wait = min(LONGEST_WAIT_SECONDS, FIRST_WAIT_SECONDS * 2 ** (attempt - 1)) * (0.5 + chance())
            log.info("%s Trying again in %.1f s (%d of %d).", error.what, wait, attempt + 1, attempts)
            sleep(wait)
    raise ValueError(f"attempts={attempts} is below 1")


def _run_once(command: Sequence[str], timeout: float, environment: Mapping[str, str]) -> str:
    program = os.path.basename(command[0])  # noqa: PTH119  # a name, found on PATH
    # A job starts with sbatch's environment, and its own programs may need the user's locale.
    locale = {} if program == "sbatch" else {"LC_ALL": "C"}
    # Files, not pipes: a process that a site's wrapper leaves behind keeps a pipe open, and its reader waiting.
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                env=clean_environment(os.environ) | locale | dict(environment),
                start_new_session=True,
            )
        except FileNotFoundError:
            raise AssayError(
                f"no SLURM on this machine: {program} is not on PATH.",
                fix="Use cluster=local here, or run this on a login node.",
            ) from None
        status = _wait(process, timeout)
        printed, said = _text(out), _words(_text(err))
    if status is None:
        raise Unreachable(f"{program} gave no answer within {timeout:g} s.", fix=_FIX)
    if status == 0:
        if said:
            log.debug("%s: %s", program, said)
        return printed
    said = said or _words(printed) or f"it ended with exit code {status}"
    if _PASSES.search(said):
        raise Unreachable(f"{program}: {said}.", fix=_FIX)
    raise Refused(f"{program}: {said}.")


_FIX = "`scontrol ping` tells whether the controller is up; nothing is lost by running the same command again later."


def _wait(process: subprocess.Popen[bytes], timeout: float) -> int | None:
    """The exit status; ``None`` where it took too long, and had to be killed."""
    try:
        return process.wait(timeout)
    except subprocess.TimeoutExpired:
        return None
    finally:
        if process.returncode is None:  # too slow, or Ctrl-C, which the process doesn't get in its own session
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode("utf-8", errors="replace")


def _words(text: str) -> str:
    """What a command says of a failure, on one line and without its own name before each part."""
    lines = [re.sub(r"^\w+: (?:(?:error|fatal): )?", "", line.strip()) for line in text.splitlines()]
    return "; ".join(dict.fromkeys(line.rstrip(".") for line in lines if line))
