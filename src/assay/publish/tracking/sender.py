"""The process in which W&B's client runs, and the handle of it: it may be slow, hang or die, and costs its time limit.

It reads a line of JSON for each run to tell of, several at a time, and answers each with a line.
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

from assay.structure import from_mapping, to_mapping

if TYPE_CHECKING:
    from assay.publish.tracking.content import Content
    from assay.settings import Tracking

AT_ONCE = 8
"""Runs that are told of side by side. The client sends most of what a run waits for one by one, so that more help little:
40 runs took 33, 27 and 18 s with 4, 8 and 16 of them, where each answer took 0.1 s."""

PATIENCE, START = 5.0, 30.0
"""The process is ended after so many times the settings' patience without an answer, and some seconds for its start."""

END_SECONDS = 10.0
"""The longest that the process may take to end once it has nothing to do."""

PLACES = {"WANDB_DATA_DIR": "data", "WANDB_CACHE_DIR": "cache", "WANDB_ARTIFACT_DIR": "artifacts"}
"""What W&B's client would put into the user's home. Its settings and keys there stay in force."""

QUIET = {"WANDB_ERROR_REPORTING": "false"}
"""The client's reports on itself to its makers: a tenth of all its requests, and on their way when it is ended. Who sets
the variable is heeded."""

SERVICE = "WANDB_SERVICE"
"""Where W&B's client finds the service of the process that it was started by."""


class Answer(NamedTuple):
    """What became of one run.

    Attributes:
        folder: offline, where it was written.
        problem: why it was not told; None where it was.
        taken: whether somebody else tells of it at this moment.
    """

    folder: str | None = None
    problem: str | None = None
    taken: bool = False


class Silent(Exception):  # noqa: N818  # it says what W&B is
    """Nothing was heard of W&B's client in time."""


class Sender:
    """A process that tells W&B of runs."""

    def __init__(self, settings: Tracking, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._patience = PATIENCE * settings.patience_seconds + START
        self._answers: queue.Queue[tuple[int, Answer] | None] = queue.Queue()
        with (folder / "sender.log").open("ab") as log:
            self._process = start("assay.publish.tracking.sender", log=log, folder=folder)
        threading.Thread(target=self._listen, name="W&B's answers", daemon=True).start()
        self._write({"settings": to_mapping(settings), "folder": str(folder)})

    def ask(self, key: int, content: Content) -> None:
        """Have a run told of; the answer comes by `answer`."""
        self._write({"key": key, "content": to_mapping(content)})

    def answer(self) -> tuple[int, Answer]:
        """The next answer.

        Raises:
            Silent: none came in time, or the process is gone.
        """
        seconds = self._patience
        with contextlib.suppress(queue.Empty):
            found = self._answers.get(timeout=seconds)
            if found is not None:
                return found
            raise Silent("W&B's client ended")
        raise Silent(f"W&B did not answer within {seconds:g} s")

    def close(self) -> None:
        """Let it end, and see to it that it does."""
        end(self._process, END_SECONDS)

    def _write(self, value: Any) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(value) + "\n")
            self._process.stdin.flush()
        except OSError:
            raise Silent("W&B's client ended") from None

    def _listen(self) -> None:
        assert self._process.stdout is not None
        with contextlib.suppress(ValueError):  # it was closed
            for line in self._process.stdout:
                said = json.loads(line)
                self._answers.put((said.pop("key"), Answer(**said)))
        self._answers.put(None)


def environment() -> dict[str, str]:
    """What a process in which W&B's client runs is given.

    A client that is at work in this process, or that began it, has a service which those it starts would share; ours is
    its own, so that it ends with the process.
    """
    return QUIET | {name: value for name, value in os.environ.items() if name != SERVICE}


def start(module: str, *, log: IO[bytes], folder: Path) -> subprocess.Popen[str]:
    """Start a process that runs W&B's client, in a session of its own, so that it can be ended with all its children."""
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
    """Close a process's input, and end it and its children if it is still there after so many seconds.

    Returns:
        Whether it ended by itself, and well.
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
def answering() -> Iterator[IO[str]]:
    """Standard output for answers alone: what the client prints goes where errors go."""
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as answers:
        os.dup2(2, 1)
        yield answers


def main() -> None:
    """Tell W&B of the runs that standard input names."""
    from assay.publish.tracking.client import Taken, tell
    from assay.publish.tracking.content import Content
    from assay.settings import Tracking

    first = json.loads(sys.stdin.readline())
    settings, folder = from_mapping(Tracking, first["settings"], where="settings"), Path(first["folder"])
    writing = threading.Lock()

    def do(task: Mapping[str, Any]) -> None:
        said: dict[str, Any]
        try:
            content = from_mapping(Content, task["content"], where="content")
            said = {"folder": tell(content, settings, folder)}
        except Taken:
            said = {"taken": True}
        # The one place where any exception is caught: whatever W&B's client does is told to who asked.
        except BaseException as error:  # noqa: BLE001  # some of the client's own are no Exception
            said = {"problem": f"{type(error).__name__}: {' '.join(str(error).split())[:400]}"}
        with writing:
            answers.write(json.dumps({"key": task["key"], **said}) + "\n")
            answers.flush()

    with answering() as answers:
        with ThreadPoolExecutor(AT_ONCE) as pool:
            for line in sys.stdin:
                pool.submit(do, json.loads(line))
        sys.stderr.flush()
        # The client's own end would wait for a server that is not there; all that was told is told.
        os._exit(0)


if __name__ == "__main__":
    main()
