"""From the store to W&B: what it was told before, what is new, and the bounded time that telling it may take."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from assay.errors import AssayError
from assay.files import read_json, write_json
from assay.publish.collect import read_run
from assay.publish.tracking import sender
from assay.publish.tracking.comparisons import sweep_contents
from assay.publish.tracking.content import Content
from assay.publish.tracking.lineage import prepare_content
from assay.publish.tracking.outages import NOT_TRIED, in_words
from assay.publish.tracking.runs import evaluation_content, recipe_of, run_content
from assay.structure import from_mapping, to_mapping

if TYPE_CHECKING:
    from pathlib import Path

    from assay.publish.report import Report
    from assay.settings import Tracking
    from assay.store import RunDirectory, Store

log = logging.getLogger(__name__)

KEPT = "It is kept; `assay sync` tells it."
IN_A_ROW = 3
"""Runs that could not be told of, one after the other, after which no more is tried; the very first is enough."""

Progress = Callable[[float], None]
"""Told the share that is done."""


@dataclass(frozen=True, kw_only=True)
class Published:
    """What W&B was told of one of its runs; the marker file beside the record."""

    id: str
    """The run's id in W&B."""
    name: str
    content: str
    """Digest of what was told: where it is still the same, nothing is told again."""
    folder: str | None
    """The offline run in W&B's folder of the store."""
    sent: bool
    """Whether the server has it."""
    sweeps: tuple[str, ...] = ()
    alerts: tuple[str, ...] = ()
    """Those that were raised, by their keys: none is raised twice."""
    problem: str | None = None
    """Why it could not be written or sent."""


class Telling(NamedTuple):
    """One run of W&B's on its way there.

    Attributes:
        content: what is told.
        marker: the file that says what was told.
        sweeps: the studies it was told for.
    """

    content: Content
    marker: Path
    sweeps: tuple[str, ...]


def publish_run(
    store: Store, run: RunDirectory, *, sweep: str, evaluation: str, settings: Tracking
) -> Published | None:
    """Tell W&B of a run as it stands in the store, and of its evaluation: config, history by tokens, scores, mix.

    Args:
        store: where the run is; W&B's files go to its folder `wandb`.
        run: the run; finished, failed or half done.
        sweep: the study it is published for; the first one is its group in W&B, every one a tag.
        evaluation: identity of the evaluation whose scores are told.
        settings: mode, project and entity.

    Returns:
        What W&B knows now, or `None` where it is disabled. A failure of W&B raises nothing: it is logged, and stands
        in `Published.problem` and in the marker file beside the run's record.
    """
    if settings.mode == "disabled":
        return None
    tellings = run_tellings(store, run, sweep=sweep, evaluation=evaluation, settings=settings)
    told = publish(store, tellings, settings=settings)[0]
    if told.problem is not None:
        log.warning("W&B was not told of %s: %s %s", told.name, in_words(told.problem), KEPT)
    return told


def run_tellings(
    store: Store,
    run: RunDirectory,
    *,
    sweep: str,
    evaluation: str,
    settings: Tracking,
    versions: Mapping[str, int] | None = None,
) -> list[Telling]:
    """What W&B is to be told of a run: of its training, and where it is there, of its evaluation.

    Args:
        store: as for `publish_run`, as are the others.
        run: the run.
        sweep: the study.
        evaluation: identity of the evaluation.
        settings: mode, project and entity.
        versions: of each run's recipe, where they are known already.
    """
    result = read_run(run, evaluation=evaluation)
    before = read_marker(marker_of(run.path, "train"))
    sweeps = tuple(dict.fromkeys([*(before.sweeps if before else ()), sweep]))
    if versions is None:
        versions = recipe_versions(store, mix=result.labels.get("mix"))
    trained = run_content(
        store,
        run,
        result,
        sweeps=sweeps,
        evaluation=evaluation,
        settings=settings,
        version=versions.get(run.fingerprint, 1),
        name=before.name if before else None,
    )
    found = [Telling(trained, marker_of(run.path, "train"), sweeps)]
    if result.scores is not None:
        scored = evaluation_content(run, result, trained=trained, evaluation=evaluation)
        found.append(Telling(scored, marker_of(run.path, f"eval-{evaluation[:12]}"), sweeps))
    return found


def sweep_tellings(store: Store, report: Report, *, taints: Sequence[str] = ()) -> Iterator[Telling]:
    """What W&B is to be told of a sweep beside its runs.

    Args:
        store: the marker files are in the sweep's folder.
        report: what is shown of the sweep.
        taints: what makes its results untrustworthy, in sentences.
    """
    folder, sweeps = store.sweep(report.sweep.name), (report.sweep.name,)
    for content in (prepare_content(store, report), *sweep_contents(report, taints=taints)):
        yield Telling(content, marker_of(folder, f"{content.job_type}-{content.id[:12]}"), sweeps)


def marker_of(folder: Path, what: str) -> Path:
    """The file that says what W&B was told."""
    return folder / f"wandb-{what}.json"


def read_marker(marker: Path) -> Published | None:
    """What W&B was told before; `None` where the file is missing or damaged, which costs telling it once more."""
    try:
        return from_mapping(Published, read_json(marker), where=str(marker))
    except (OSError, AssayError):
        return None


def recipe_versions(store: Store, *, mix: Any = None) -> dict[str, int]:
    """The how-manieth recipe of its name each run has: other corpora or another trainer make a mix's second version.

    Args:
        store: whose runs are looked at, the oldest first.
        mix: only runs of this mix; left out, all.
    """
    found: dict[tuple[Any, ...], dict[str, None]] = {}
    versions = {}
    for run in sorted(store.runs(), key=lambda run: (_made(run), run.fingerprint)):
        # A damaged record of some other run is no reason not to tell of this one.
        with contextlib.suppress(OSError, AssayError, KeyError, TypeError, AttributeError):
            labels = run.labels()
            if mix is not None and labels.get("mix") != mix:
                continue
            spec = run.spec()
            recipes = found.setdefault((labels.get("mix"), labels.get("proxy"), spec.tokens), {})
            recipes.setdefault(recipe_of(spec))
            versions[run.fingerprint] = list(recipes).index(recipe_of(spec)) + 1
    return versions


def _made(run: RunDirectory) -> int:
    try:
        return (run.path / "spec.json").stat().st_mtime_ns
    except FileNotFoundError:
        return 0


def publish(
    store: Store,
    tellings: Sequence[Telling],
    *,
    settings: Tracking,
    again: bool = False,
    progress: Progress | None = None,
) -> list[Published]:
    """Tell W&B what is new of some runs; several at a time, in bounded time, and none twice.

    Args:
        store: W&B's files go to its folder `wandb`.
        tellings: what W&B is to know; what others use comes before them.
        settings: mode, project and entity.
        again: tell it whatever was told before.
        progress: told the share that is done.

    Returns:
        What W&B knows of each. Whatever W&B does raises nothing: it stands in `Published.problem`. Once W&B does not
        answer, nothing more is tried.
    """
    work = _Work(store, tellings, settings, progress or (lambda _: None))
    for place, telling in enumerate(tellings):
        before = read_marker(telling.marker)
        if before is not None and not again and _there(before, telling.content, settings, store.wandb):
            work.done[place] = before
    try:
        work.run()
    except OSError as error:  # the store's folder for W&B cannot be written
        work.give_up(f"{type(error).__name__}: {error}")
    return [work.done[place] for place in range(len(tellings))]


def _there(before: Published, content: Content, settings: Tracking, folder: Path) -> bool:
    if before.content != _digest(content, settings):
        return False
    return before.sent if settings.mode == "online" else bool(before.folder) and (folder / str(before.folder)).is_dir()


def _digest(content: Content, settings: Tracking) -> str:
    """Of what is to be known; alerts are told once, and bear none of it."""
    return replace(content, alerts=()).digest(settings)


class _Work:
    """Runs on their way to W&B."""

    def __init__(self, store: Store, tellings: Sequence[Telling], settings: Tracking, progress: Progress) -> None:
        self.store = store
        self.tellings = tellings
        self.settings = settings
        self.progress = progress
        self.done: dict[int, Published] = {}
        self.in_a_row = IN_A_ROW - 1  # the first failure ends it: W&B was never heard of

    def run(self) -> None:
        """Tell of all that is not done: first what others use, since W&B takes a thing's first run as its maker."""
        self.progress(len(self.done) / max(1, len(self.tellings)))
        left = [place for place in range(len(self.tellings)) if place not in self.done]
        if not left:
            return
        sending = sender.Sender(self.settings, self.store.wandb)
        try:
            for phase in _phases(left, self.tellings):
                self._tell(sending, phase)
        except sender.Silent as silent:
            self.give_up(str(silent))
        finally:
            sending.close()

    def _tell(self, sending: sender.Sender, places: list[int]) -> None:
        waiting, asked = list(reversed(places)), 0
        while waiting or asked:
            while waiting and asked < sender.AT_ONCE and self.in_a_row < IN_A_ROW:
                place = waiting.pop()
                sending.ask(place, self._new(place))
                asked += 1
            if not asked:
                return self.give_up(NOT_TRIED)
            place, answer = sending.answer()
            asked -= 1
            self.in_a_row = 0 if answer.problem is None else self.in_a_row + 1
            self._note(place, answer)
        return None

    def _new(self, place: int) -> Content:
        """What is to be told, without the alerts that were raised before."""
        telling = self.tellings[place]
        before = read_marker(telling.marker)
        raised = before.alerts if before else ()
        return replace(telling.content, alerts=tuple(a for a in telling.content.alerts if a.key not in raised))

    def _note(self, place: int, answer: sender.Answer) -> None:
        """Write down what became of a run."""
        telling, before = self.tellings[place], read_marker(self.tellings[place].marker)
        online = self.settings.mode == "online"
        told = answer.problem is None and not answer.taken
        raised = before.alerts if before else ()
        if told and online:  # what was written to disk has not reached anybody
            raised += tuple(a.key for a in self._new(place).alerts)
        self.done[place] = Published(
            id=telling.content.id,
            name=telling.content.name,
            content=_digest(telling.content, self.settings) if told else "",
            folder=answer.folder if told and not online else before.folder if before else None,
            sent=told and online,
            sweeps=telling.sweeps,
            alerts=raised,
            problem=answer.problem,
        )
        if not answer.taken:
            write_json(telling.marker, to_mapping(self.done[place]))
        self.progress(len(self.done) / len(self.tellings))

    def give_up(self, why: str) -> None:
        """Say of all that is left that it was not told; nothing is written down, so that it is told the next time."""
        for place, telling in enumerate(self.tellings):
            if place not in self.done:
                self.done[place] = Published(
                    id=telling.content.id,
                    name=telling.content.name,
                    content="",
                    folder=None,
                    sent=False,
                    sweeps=telling.sweeps,
                    problem=why,
                )
        self.progress(1.0)


_ORDER = {"prepare": 0, "train": 1, "eval": 2, "compare": 3, "gate": 4, "audit": 4}


def _phases(places: Sequence[int], tellings: Sequence[Telling]) -> list[list[int]]:
    """Runs that may be told of side by side, one group after the other."""
    groups: dict[int, list[int]] = {}
    for place in places:
        groups.setdefault(_ORDER[tellings[place].content.job_type], []).append(place)
    return [groups[order] for order in sorted(groups)]
