"""One attempt at one run, from its spec to its scores, in the process that belongs to it."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import faulthandler
import io
import logging
import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from multiprocessing.connection import wait
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assay.errors import AssayError
from assay.launch.clearance import refusal_now
from assay.launch.inputs import all_there, corpora_folders, tokenizer_folder
from assay.launch.records import SubmissionDirectory, trained
from assay.launch.snapshot import CODE
from assay.lease import LeaseLost, LeaseTimes
from assay.processes import this_host
from assay.store import ACTIVE, Failure
from assay.study import Study

if TYPE_CHECKING:
    from assay.launch.records import Submission
    from assay.recipe import RunSpec
    from assay.store import Measured, RunDirectory, Status
    from assay.workspace import Workspace

log = logging.getLogger(__name__)

FAILED, BUSY, STOPPED = 1, 75, 76
"""Exit codes: the run's status tells why; another process has the run; it was asked to stop and gave the run back."""

FINAL = frozenset({"failed", "diverged"})
"""What is left alone until somebody submits again, which puts it back to `queued`."""

TEAM = ("MASTER_ADDR", "MASTER_PORT", "WORLD_SIZE", "RANK", "LOCAL_RANK")
"""What torchrun, or whatever starts several processes for one run, tells each of them; a run of one process has none."""

LONGEST_MESSAGE = 600
WAIT_SECONDS = 0.5


class StopAsked(BaseException):
    """Raised where the process was asked to stop and is in a stretch that is simply done again.

    No `Exception`: nothing but the process itself is meant to catch it.
    """


class Stop:
    """Whether this process was asked to stop. Training is asked after each step; everything else ends at once."""

    def __init__(self) -> None:
        self.asked = False
        self._at_once = True

    def __call__(self) -> bool:
        """Whether to stop."""
        return self.asked

    def listen(self) -> None:
        """Take SIGTERM as asking to stop, from now on; one that came since the process was forked counts.

        What else a job is sent goes to its worker too, who passes it on as SIGTERM where it means to stop.
        """
        signal.signal(signal.SIGTERM, self._note)
        signal.signal(signal.SIGUSR2, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})  # see `assay.launch.preload`

    def _note(self, number: int, frame: Any) -> None:
        del number, frame
        first, self.asked = not self.asked, True
        # Once: SLURM sends it, then the worker does, and what the first one has begun to write down gets written.
        if self._at_once and first:
            raise StopAsked

    @contextlib.contextmanager
    def after_a_step(self) -> Iterator[None]:
        """A stretch that asks by itself."""
        self._at_once = False
        try:
            yield
        finally:
            self._at_once = True
        if self.asked:
            raise StopAsked


def attempt_in_child(folder: str, fingerprint: str, environment: Mapping[str, str]) -> None:
    """Do a run in this process, which was made for it, and exit.

    Args:
        folder: the submission's folder.
        fingerprint: which run.
        environment: variables of this process alone; those of CUDA are read when it is first used.
    """
    stop = Stop()
    try:
        stop.listen()
        _join(environment)
        end_with_parent()
        directory = SubmissionDirectory(Path(folder))
        run = directory.store.run(fingerprint)
        # The lease is this process's, not the worker's: it is held exactly as long as something writes here. One of
        # a node that died is waited for until it is stale, so that the next attempt goes on by itself.
        with run.claim(LeaseTimes.from_environment().patience) as lease:
            if lease is None:
                sys.exit(BUSY)
            called_off = directory.cancellation
            if called_off is not None and called_off.covers(fingerprint):
                sys.exit(STOPPED)
            if run.status().state in FINAL:
                sys.exit(BUSY)  # another worker came first, and it failed
            with _printing_to(run.log):
                _attempt(directory, run, stop)
    except StopAsked:
        sys.exit(STOPPED)
    except LeaseLost as lost:
        log.warning("%s Nothing more is written here.", lost)
        sys.exit(BUSY)


def help_in_child(folder: str, fingerprint: str, environment: Mapping[str, str]) -> None:
    """Be one of the further ranks that train a run, in this process, which was made for it; the first rank writes.

    Args:
        folder: the submission's folder.
        fingerprint: which run.
        environment: torchrun's variables.
    """
    from assay.workspace import Workspace

    stop = Stop()
    try:
        stop.listen()
        _join(environment)
        end_with_parent()
        log_to_stderr()
        directory = SubmissionDirectory(Path(folder))
        submission, run = directory.read(), directory.store.run(fingerprint)
        if trained(run):
            return
        spec, study = run.spec(), Study.parse(submission.study)
        while not all_there(directory.store, spec):
            time.sleep(WAIT_SECONDS)  # the first rank makes them
        with stop.after_a_step():
            _train(Workspace(study, digests=submission.digests, evaluation=submission.evaluation), spec, run, stop)
    except StopAsked:
        sys.exit(STOPPED)


def _join(environment: Mapping[str, str]) -> None:
    """Take this process' own variables, and no place in a team that a submitter's terminal may have been in."""
    _leave()
    os.environ.update(environment)


def _leave() -> None:
    for name in TEAM:
        os.environ.pop(name, None)


def _attempt(directory: SubmissionDirectory, run: RunDirectory, stop: Stop) -> None:
    with _told(directory, run):
        try:
            _perform(directory.read(), run, stop)
        except StopAsked:
            log.info("asked to stop")
            _give_back(run)
            raise
        except Exception as error:  # noqa: BLE001  # the run's door: whatever it was, it is recorded
            run.check()
            record_failure(run, error)
            sys.exit(FAILED)


def attempt_here(directory: SubmissionDirectory, fingerprint: str) -> None:
    """Do a run in the caller's process, for debugging; exceptions are recorded and go through."""
    run = directory.store.run(fingerprint)
    with run.claim() as lease:
        if lease is None:
            return
        with _told(directory, run):
            try:
                _perform(directory.read(), run, Stop())
            except KeyboardInterrupt:
                _give_back(run)
                raise
            except Exception as error:
                record_failure(run, error)
                raise


def _perform(submission: Submission, run: RunDirectory, stop: Stop) -> None:
    from assay.workspace import Workspace

    evaluation = submission.evaluation
    if run.evaluated(evaluation.fingerprint):
        return
    # Sources are what they were when this was submitted, whatever became of their files.
    workspace = Workspace(Study.parse(submission.study), digests=submission.digests, evaluation=evaluation)
    spec, before = run.spec(), run.status()
    run.update(
        state="preparing",
        steps=spec.steps,
        attempt=before.attempt + 1,
        started=before.started or time.time(),
        finished=None,
        failure=None,
        job=submission.id,
        code=os.environ.get(CODE) or None,
    )
    if not trained(run):
        _refuse_unfit(workspace, spec, since=submission.created)
        corpora_folders(workspace, spec.corpora, progress=_Teller(run.check))
        status = _train_and_look(workspace, submission, run, stop)
        if status.state in FINAL:
            _name_log(run, status)
            return
    _leave()  # however many have trained it, one evaluates
    # Looks first: a run whose final weights are scored is done, and nobody comes back to it.
    _score_looks(workspace, submission, run)
    _evaluate(workspace, submission, run, run)
    run.update(state="done", finished=time.time())


def _refuse_unfit(workspace: Workspace, spec: RunSpec, *, since: float) -> None:
    """What was found in a source, or decided about it, after the run was submitted stops it, too.

    Raises:
        AssayError: a source is not cleared, or has a defect that nobody has waived.
    """
    root = Path(workspace.study.paths.root)
    for name in spec.corpora:
        source = workspace.source(name)
        if (refusal := refusal_now(source, root, since=since)) is not None:
            raise AssayError(f"{refusal}.", fix="Submit again once it is cleared, or leave it out of the mix.")
        if taints := workspace.taints.of(source, workspace.digest(name)):
            raise AssayError(f"{taints[0].sentence}.", fix=taints[0].fix)


def _train_and_look(workspace: Workspace, submission: Submission, run: RunDirectory, stop: Stop) -> Status:
    """Train a run to its end, and score it at each look on the way, while training waits.

    The wait costs no more than scoring later would, and others see the scores while the run trains. Where several
    processes train a run, all would wait for the one that scores: their looks are scored at the end.
    """
    spec, alone = run.spec(), int(os.environ.get("WORLD_SIZE", "1")) == 1
    while True:
        if alone:
            _score_looks(workspace, submission, run)
        with stop.after_a_step():
            status = _train(workspace, spec, run, stop)
        if status.state != "evaluating":
            return status


def _score_looks(workspace: Workspace, submission: Submission, run: RunDirectory) -> None:
    """Score what was looked at and is not scored yet, also by an attempt that was killed; then its weights may go.

    Looks that this study does not take are somebody else's: they are scored where nobody has done so.
    """
    study, evaluation = workspace.study, submission.evaluation.fingerprint
    mine = run.spec().steps_at(study.looks)
    for look in run.looks():
        if not look.kept or (look.step not in mine and look.evaluations()):
            continue
        if not look.evaluated(evaluation):
            log.info("the look after step %d is scored", look.step)
            _evaluate(workspace, submission, run, look)
        if not study.training.keep_looks:
            look.drop()


def _train(workspace: Workspace, spec: RunSpec, run: RunDirectory, stop: Stop) -> Status:
    from assay.corpus.shards import Corpus
    from assay.train.loop import train

    def should_stop() -> bool:
        run.check()  # after each step, before any of it is written
        return stop()

    study = workspace.study
    manifests = {name: Corpus.open(workspace.store.corpora / key).manifest for name, key in spec.corpora.items()}
    tokenizer = tokenizer_folder(workspace, spec.tokenizer, progress=_Teller(run.check))
    run.check()
    return train(
        spec,
        run,
        workspace.reader(spec),
        tokenizer=tokenizer,
        settings=replace(
            study.training,
            device=study.cluster.device,
            threads=study.cluster.cpus_per_worker,
            micro_batch=study.batch.micro,
            looks=study.looks,
        ),
        should_stop=should_stop,
        bytes_per_token={name: manifest.bytes / manifest.tokens for name, manifest in manifests.items()},
    )


def _evaluate(workspace: Workspace, submission: Submission, run: RunDirectory, record: Measured) -> None:
    """Score the final weights of a run, or those of a look at it."""
    from assay.evaluate.run import evaluate

    tell = _Teller(run.check)
    corpora = corpora_folders(workspace, submission.evaluation.validation, progress=tell)
    spent, began = run.status().evaluate_seconds, time.monotonic()
    run.update(state="evaluating")
    try:
        evaluate(
            record,
            submission.evaluation,
            corpora,
            mirror=workspace.mirror,
            device=workspace.study.cluster.device,
            progress=tell,
        )
    finally:
        spent += time.monotonic() - began
        run.update(evaluate_seconds=spent)


@contextlib.contextmanager
def _told(directory: SubmissionDirectory, run: RunDirectory) -> Iterator[None]:
    """Have W&B told of the attempt, and of what the run came to; whatever W&B does costs the run nothing."""
    from assay.publish.tracking.live import told

    try:
        submission = directory.read()
        tracking = Study.parse(submission.study).tracking
    except (AssayError, OSError):  # the attempt meets it, too, and writes it down
        yield
        return
    evaluation = submission.evaluation.fingerprint
    with told(directory.store, run, sweep=submission.sweep, evaluation=evaluation, settings=tracking):
        yield


def record_failure(run: RunDirectory, error: Exception) -> None:
    """Put an exception's trace into the log, and its class and last line into the run's status."""
    traceback.print_exception(error)
    sys.stderr.flush()
    text = " ".join(str(error).split()) or type(error).__name__
    if len(text) > LONGEST_MESSAGE:
        text = text[: LONGEST_MESSAGE - 3] + "..."
    printed = str(run.log) if run.log.exists() else None
    run.update(state="failed", finished=time.time(), failure=Failure(kind=_kind(error), message=text, log=printed))


def _kind(error: Exception) -> str:
    """A short class to group failures by; torch says in words that there was no memory."""
    name, text = type(error).__name__, str(error)
    if isinstance(error, MemoryError) or name == "OutOfMemoryError" or "can't allocate memory" in text:
        return "out of memory"
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return "disk full"
    return "error" if isinstance(error, AssayError) else name


def _name_log(run: RunDirectory, status: Status) -> None:
    """Say in a failure that training has recorded where its log is."""
    if status.failure is not None and status.failure.log is None and run.log.exists():
        run.update(failure=replace(status.failure, log=str(run.log)))


def _give_back(run: RunDirectory) -> None:
    """Leave a run for whoever goes on with it; what it has come to by itself stands."""
    if run.status().state in ACTIVE:
        run.update(state="trained" if trained(run) else "queued")


class _Teller:
    """Progress in the log: the beginning of each thing that is not there yet, and its end.

    Args:
        check: called each time before it is told; what it raises ends the work.
    """

    def __init__(self, check: Callable[[], None]) -> None:
        self._check = check
        self._begun: set[str] = set()

    def __call__(self, what: str, share: float) -> None:
        """Tell of a thing, and the share of it that is done."""
        self._check()
        if share < 1 and what not in self._begun:
            self._begun.add(what)
            log.info("%s: begun", what)
        elif share >= 1 and what in self._begun:
            self._begun.remove(what)
            log.info("%s: done", what)


def end_with_parent() -> None:
    """Be killed when the worker is gone, however it went, so that no copy writes on behind a second one's back.

    The kernel tells when the server that forked this process ends; the worker's end shows as the end of its pipe.
    """
    # prctl(2): PR_SET_PDEATHSIG is 1.
    if ctypes.CDLL(None, use_errno=True).prctl(1, signal.SIGKILL, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    parent = multiprocessing.parent_process()
    assert parent is not None, "made by multiprocessing"

    def watch() -> None:
        wait([parent.sentinel])
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, name="end with parent", daemon=True).start()


@contextlib.contextmanager
def _printing_to(path: Path) -> Iterator[None]:
    """Send everything this process prints to a file, C libraries' words and a crash's trace included.

    The file is in the run's folder: once the run is somebody else's, it goes where it went before.
    """
    before = os.dup(2)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    _print_on(handle)
    os.close(handle)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(line_buffering=True, errors="backslashreplace")
    faulthandler.enable(file=2)
    log_to_stderr()
    log.info("--- attempt on %s, process %d", this_host(), os.getpid())
    try:
        yield
    except LeaseLost:
        _print_on(before)
        raise
    finally:
        os.close(before)


def _print_on(handle: int) -> None:
    for number in (1, 2):
        os.dup2(handle, number)


def log_to_stderr() -> None:
    """Have log records printed: assay's own, and the warnings of others."""
    logging.basicConfig(format="%(asctime)s %(name)s: %(message)s", level=logging.WARNING, force=True)
    logging.getLogger("assay").setLevel(logging.INFO)
