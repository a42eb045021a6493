"""Call SLURM's commands with a timeout, and classify errors as temporary or permanent."""

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

from assay.core.errors import NotFound, SchedulerError

log = logging.getLogger(__name__)

FIRST_WAIT_SECONDS = 1.0
LONGEST_WAIT_SECONDS = 30.0


class Unreachable(SchedulerError):  # noqa: N818  # its base is an error
    """Temporary failure: SLURM did not answer in any attempt.

    SLURM may have executed the command nevertheless, because an answer can be lost.
    """


class Rejected(SchedulerError):  # noqa: N818  # as above
    """Permanent failure: SLURM rejected the command. The message quotes SLURM's message."""


_TEMPORARY = re.compile(
    r"unable to contact slurm controller"  # the controller restarts; the client has retried for a MessageTimeout
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
    r"|could not establish a configuration source",  # no local slurm.conf, and the server that provides it does not answer
    re.IGNORECASE,
)
"""SLURM's messages for temporary failures, from its sources of versions 20.11 to 26.05."""

_INPUTS = re.compile(r"(?:SLURM|SBATCH|SALLOC|SRUN|SACCT|SQUEUE|SINFO|SCONTROL|SCANCEL)_")
_KEPT = {"SLURM_CONF", "SLURM_CONF_SERVER", "SLURM_JWT"}
"""Variables that select the cluster and the user. submitit's `clean_env` drops the first, which sbatch needs."""


def clean_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Remove the variables of an enclosing job, which SLURM's commands would read as options."""
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
    """Run a SLURM command and return its output.

    Args:
        command: the program and its arguments.
        timeout: seconds for one attempt. Afterwards the command and its child processes are killed.
        attempts: maximum number of attempts if SLURM does not answer. More than one attempt is safe only for commands
            that may be repeated. An sbatch without an answer may have submitted its job.
        environment: variables in addition to the caller's.
        sleep: function that waits between attempts.
        chance: function that returns a value between 0 and 1. It spreads the waits, so that a thousand jobs do not
            repeat their queries at the same moment.

    Raises:
        Unreachable: SLURM did not answer in time, or reported a temporary failure, in every attempt.
        Rejected: SLURM rejected the command.
        NotFound: this machine has no such program.
    """
    for attempt in range(1, attempts + 1):
        try:
            return _run_once(command, timeout, environment or {})
        except Unreachable as error:
            if attempt == attempts:
                raise
            wait = min(LONGEST_WAIT_SECONDS, FIRST_WAIT_SECONDS * 2 ** (attempt - 1)) * (0.5 + chance())
            log.info("%s Retrying in %.1f s (%d of %d).", error.what, wait, attempt + 1, attempts)
            sleep(wait)
    raise ValueError(f"attempts: {attempts} is invalid; expected at least 1")


def _run_once(command: Sequence[str], timeout: float, environment: Mapping[str, str]) -> str:
    program = os.path.basename(command[0])  # noqa: PTH119  # a name on PATH
    # A job starts with sbatch's environment, and the job's own programs may need the user's locale.
    locale = {} if program == "sbatch" else {"LC_ALL": "C"}
    # Files instead of pipes: a cluster's wrapper script may leave a process behind, which keeps a pipe open and blocks
    # its reader.
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
            raise NotFound(
                f"SLURM is not available on this machine: {program} is not on the PATH.",
                fix="Use cluster=local, or run this command on a login node.",
            ) from None
        status = _wait(process, timeout)
        output, message = _text(out), _message(_text(err))
    if status is None:
        raise Unreachable(f"{program} did not answer within {timeout:g} s.", fix=_FIX)
    if status == 0:
        if message:
            log.debug("%s: %s", program, message)
        return output
    message = message or _message(output) or f"exit code {status}"
    if _TEMPORARY.search(message):
        raise Unreachable(f"{program}: {message}.", fix=_FIX)
    raise Rejected(f"{program}: {message}.")


_FIX = "Check the controller with `scontrol ping`, and repeat the command later; nothing is lost."


def _wait(process: subprocess.Popen[bytes], timeout: float) -> int | None:
    """Return the exit status; None if the timeout expired and the process was killed."""
    try:
        return process.wait(timeout)
    except subprocess.TimeoutExpired:
        return None
    finally:
        if process.returncode is None:  # a timeout, or Ctrl-C, which does not reach the process in its own session
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode("utf-8", errors="replace")


def _message(text: str) -> str:
    """Join the error lines of a command into one line, without the program name before each line."""
    lines = [re.sub(r"^\w+: (?:(?:error|fatal): )?", "", line.strip()) for line in text.splitlines()]
    return "; ".join(dict.fromkeys(line.rstrip(".") for line in lines if line))
