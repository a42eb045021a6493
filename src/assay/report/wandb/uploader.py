"""Run W&B's client in an uploader process, and provide a handle of the process.

A client that is slow, hangs or crashes delays the caller by at most the time limit. The process reads one line of JSON per
run, uploads several runs at a time, and writes one line of reply per run.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple

from assay.core.serde import from_record, to_mapping

if TYPE_CHECKING:
    from assay.config.settings import Tracking
    from assay.report.wandb.content import Content

AT_ONCE = 8
"""Number of runs that are uploaded concurrently.

The client sends most requests of a run one by one, so more threads help little. With 4, 8 and 16 threads, 40 runs took
33, 27 and 18 s, at 0.1 s per reply of the server."""

PATIENCE, START = 5.0, 30.0
"""The process is killed if no reply arrives for `PATIENCE` times the patience of the settings, plus `START` seconds."""

END_SECONDS = 10.0
"""Maximum seconds that the process may take to end after its input is closed."""

PLACES = {"WANDB_DATA_DIR": "data", "WANDB_CACHE_DIR": "cache", "WANDB_ARTIFACT_DIR": "artifacts"}
"""Folders that W&B's client would otherwise create in the user's home. The settings and keys there still apply."""

QUIET = {"WANDB_ERROR_REPORTING": "false"}
"""Variables that disable the telemetry of W&B's client. A value that the user sets takes precedence.

Telemetry is a tenth of the client's requests, and is still in flight when the process ends.
"""

SERVICE = "WANDB_SERVICE"
"""Variable in which W&B's client names the service process that it shares with child processes."""


class Reply(NamedTuple):
    """The result of uploading one run.

    Attributes:
        folder: name of the folder of an offline run; None in online mode.
        problem: why the run was not published; None after success.
        busy: whether another process publishes the run right now.
    """

    folder: str | None = None
    problem: str | None = None
    busy: bool = False


class NoResponse(Exception):  # noqa: N818  # it names the state of W&B
    """W&B's client sent no reply in time, or its process ended."""


class Uploader:
    """A handle of an uploader process."""

    def __init__(self, settings: Tracking, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._patience = PATIENCE * settings.patience_seconds + START
        self._replies: queue.Queue[tuple[int, Reply] | None] = queue.Queue()
        with (folder / "uploader.log").open("ab") as log:
            self._process = start("assay.report.wandb.uploader", log=log, folder=folder)
        threading.Thread(target=self._receive, name="replies of the W&B uploader", daemon=True).start()
        self._write({"settings": to_mapping(settings), "folder": str(folder)})

    def send(self, key: int, content: Content) -> None:
        """Send a run to the process. `receive` returns the reply.

        Raises:
            NoResponse: the process has ended.
        """
        self._write({"key": key, "content": to_mapping(content)})

    def receive(self) -> tuple[int, Reply]:
        """Return the key and the reply of the next run that the process has finished.

        Raises:
            NoResponse: no reply arrived in time, or the process has ended.
        """
        seconds = self._patience
        with contextlib.suppress(queue.Empty):
            reply = self._replies.get(timeout=seconds)
            if reply is not None:
                return reply
            raise NoResponse("W&B's client ended")
        raise NoResponse(f"W&B did not answer within {seconds:g} s")

    def close(self) -> None:
        """Close the process's input, and kill the process if it does not end in time."""
        end(self._process, END_SECONDS)

    def _write(self, value: Any) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(value) + "\n")
            self._process.stdin.flush()
        except OSError:
            raise NoResponse("W&B's client ended") from None

    def _receive(self) -> None:
        assert self._process.stdout is not None
        with contextlib.suppress(ValueError):  # the stream was closed
            for line in self._process.stdout:
                record = json.loads(line)
                self._replies.put((record.pop("key"), Reply(**record)))
        self._replies.put(None)


def environment() -> dict[str, str]:
    """Return the environment of a process that runs W&B's client.

    A client in this process or in its parent process has a service that child processes would share. The function
    removes the variable that names the service. The child process then starts its own service, which ends with the
    child process.
    """
    return QUIET | {name: value for name, value in os.environ.items() if name != SERVICE}


def start(module: str, *, log: IO[bytes], folder: Path) -> subprocess.Popen[str]:
    """Start a module that runs W&B's client in a separate session.

    The session allows `end` to kill all child processes of the module.
    """
    return subprocess.Popen(
        [sys.executable, "-m", module],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=log,
        text=True,
        start_new_session=True,
        env=environment() | {name: str((folder / place).absolute()) for name, place in PLACES.items()},
    )


def end(process: subprocess.Popen[str], seconds: float) -> bool:
    """Close a process's input; kill the process and its children after `seconds`.

    Returns:
        Whether the process ended by itself with exit code 0.
    """
    with contextlib.suppress(OSError):
        assert process.stdin is not None
        process.stdin.close()
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    if process.stdout is not None:
        process.stdout.close()
    return process.returncode == 0


@contextlib.contextmanager
def reply_stream() -> Iterator[IO[str]]:
    """Reserve standard output for replies, and redirect the client's output to standard error."""
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as replies:
        os.dup2(2, 1)
        yield replies


def main() -> None:
    """Upload the runs that arrive on standard input."""
    from assay.config.settings import Tracking
    from assay.report.wandb.client import RunBusyError, upload
    from assay.report.wandb.content import Content

    first = json.loads(sys.stdin.readline())
    settings, folder = from_record(Tracking, first["settings"], where="settings"), Path(first["folder"])
    writing = threading.Lock()

    def process(task: Mapping[str, Any]) -> None:
        result: dict[str, Any]
        try:
            content = from_record(Content, task["content"], where="content")
            result = {"folder": upload(content, settings, folder)}
        except RunBusyError:
            result = {"busy": True}
        # The only handler of all exceptions: every failure of W&B's client becomes a reply.
        except BaseException as error:  # noqa: BLE001  # some of the client's own are no Exception
            result = {"problem": f"{type(error).__name__}: {' '.join(str(error).split())[:400]}"}
        with writing:
            replies.write(json.dumps({"key": task["key"], **result}) + "\n")
            replies.flush()

    with reply_stream() as replies:
        with ThreadPoolExecutor(AT_ONCE) as pool:
            for line in sys.stdin:
                pool.submit(process, json.loads(line))
        sys.stderr.flush()
        # A normal exit would let the client wait for an unreachable server. All replies are written by now.
        os._exit(0)


if __name__ == "__main__":
    main()
