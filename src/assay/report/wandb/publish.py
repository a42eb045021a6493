"""Publish to W&B what changed in the store, in bounded time."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from assay.core.errors import Damaged
from assay.core.files import read_json, write_json
from assay.core.serde import from_record, to_mapping
from assay.report.collect import read_run
from assay.report.wandb import uploader
from assay.report.wandb.comparisons import sweep_contents
from assay.report.wandb.content import Content
from assay.report.wandb.errors import NOT_TRIED, explain_problem
from assay.report.wandb.lineage import prepare_content
from assay.report.wandb.runs import evaluation_content, recipe_of, run_content

if TYPE_CHECKING:
    from pathlib import Path

    from assay.config.reason import Reason
    from assay.config.settings import Tracking
    from assay.report.model import Report
    from assay.store.runs import RunDirectory, Store

log = logging.getLogger(__name__)

RETRY = "The store has it; `assay sync` publishes it."
CONSECUTIVE_FAILURES = 3
"""Number of consecutive failed runs after which the upload stops. Before the first answer of W&B, one failure suffices."""

Progress = Callable[[float], None]
"""Function that receives the completed fraction of the publications, from 0 to 1."""


@dataclass(frozen=True, kw_only=True)
class Published:
    """The published state of one W&B run: the marker file next to the record."""

    id: str
    """The run's id in W&B."""
    name: str
    content: str
    """Digest of the published content. Unchanged content is not published again."""
    folder: str | None
    """Name of the offline run in W&B's folder of the store; None in online mode."""
    sent: bool
    """Whether the W&B server has the run."""
    sweeps: tuple[str, ...] = ()
    alerts: tuple[str, ...] = ()
    """Keys of the raised alerts, so that no alert is raised twice."""
    problem: str | None = None
    """Reason why the run could not be written or sent."""


class Publication(NamedTuple):
    """One W&B run to be published.

    Attributes:
        content: the content to publish.
        marker: the file that records the published content.
        sweeps: the sweeps that the run was published for.
    """

    content: Content
    marker: Path
    sweeps: tuple[str, ...]


def publish_run(
    store: Store, run: RunDirectory, *, sweep: str, evaluation: str, settings: Tracking
) -> Published | None:
    """Publish a run and its evaluation to W&B: config, history by tokens, scores, delivered mix.

    Args:
        store: the run's store. Its folder `wandb` receives W&B's files.
        run: the run, in any state.
        sweep: the sweep that the run is published for. In W&B, the first sweep becomes the group of the run, and every sweep
            becomes a tag.
        evaluation: identity of the evaluation whose scores are published.
        settings: mode, project and entity.

    Returns:
        The published state, or `None` if W&B is disabled. A failure of W&B raises no error. The function logs the failure and
        records it in `Published.problem` and in the marker file next to the run's record.
    """
    if settings.mode == "disabled":
        return None
    publications = run_publications(store, run, sweep=sweep, evaluation=evaluation, settings=settings)
    published = publish(store, publications, settings=settings)[0]
    if published.problem is not None:
        log.warning("W&B did not get %s: %s %s", published.name, explain_problem(published.problem), RETRY)
    return published


def run_publications(
    store: Store,
    run: RunDirectory,
    *,
    sweep: str,
    evaluation: str,
    settings: Tracking,
    versions: Mapping[str, int] | None = None,
) -> list[Publication]:
    """Return the W&B runs of a run: the training and, if it exists, the evaluation.

    Args:
        store: the run's store.
        run: the run, in any state.
        sweep: the sweep that the run is published for.
        evaluation: identity of the evaluation.
        settings: mode, project and entity.
        versions: recipe version by run (default: the function reads the store).
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
    publications = [Publication(trained, marker_of(run.path, "train"), sweeps)]
    if result.scores is not None:
        scored = evaluation_content(run, result, trained=trained, evaluation=evaluation)
        publications.append(Publication(scored, marker_of(run.path, f"eval-{evaluation[:12]}"), sweeps))
    return publications


def sweep_publications(store: Store, report: Report, *, taints: Sequence[Reason] = ()) -> Iterator[Publication]:
    """Yield the W&B runs to publish for a sweep in addition to its training runs.

    Args:
        store: the store. The folder of the sweep contains the marker files.
        report: the sweep's report.
        taints: reasons not to trust the results.
    """
    folder, sweeps = store.sweep(report.sweep.name), (report.sweep.name,)
    for content in (prepare_content(store, report), *sweep_contents(report, taints=taints)):
        yield Publication(content, marker_of(folder, f"{content.job_type}-{content.id[:12]}"), sweeps)


def marker_of(folder: Path, kind: str) -> Path:
    """Return the path of the marker file, which records the published content."""
    return folder / f"wandb-{kind}.json"


def read_marker(marker: Path) -> Published | None:
    """Read a marker file; return None if the file is missing or damaged.

    Without a marker, the content is published once more.
    """
    try:
        return from_record(Published, read_json(marker), where=str(marker))
    except (OSError, Damaged):
        return None


def recipe_versions(store: Store, *, mix: Any = None) -> dict[str, int]:
    """Number the recipes of each mix, proxy and budget, and return each run's number.

    Numbers start at the oldest recipe. New corpora or a new trainer version make another recipe under the same name:
    its second version.

    Args:
        store: the runs.
        mix: only runs of this mix (default: all runs).
    """
    recipes_by_name: dict[tuple[Any, ...], dict[str, None]] = {}
    versions = {}
    for run in sorted(store.runs(), key=lambda run: (_creation_time(run), run.fingerprint)):
        # A damaged record of another run must not prevent this publication.
        with contextlib.suppress(OSError, Damaged, KeyError, TypeError, AttributeError):
            labels = run.labels()
            if mix is not None and labels.get("mix") != mix:
                continue
            spec = run.spec()
            recipes = recipes_by_name.setdefault((labels.get("mix"), labels.get("proxy"), spec.tokens), {})
            recipes.setdefault(recipe_of(spec))
            versions[run.fingerprint] = list(recipes).index(recipe_of(spec)) + 1
    return versions


def _creation_time(run: RunDirectory) -> int:
    try:
        return (run.path / "spec.json").stat().st_mtime_ns
    except FileNotFoundError:
        return 0


def publish(
    store: Store,
    publications: Sequence[Publication],
    *,
    settings: Tracking,
    again: bool = False,
    progress: Progress | None = None,
) -> list[Published]:
    """Publish the new content of W&B runs, several at a time, in bounded time.

    Args:
        store: the store, whose folder `wandb` receives W&B's files.
        publications: the W&B runs. A run follows the runs whose artifacts it uses.
        settings: mode, project and entity.
        again: whether to republish content that was published before.
        progress: called with the completed fraction.

    Returns:
        The published state of each W&B run. A failure of W&B raises no error, but is recorded in `Published.problem`. After
        W&B fails to answer, the function publishes no further run.
    """
    work = _Upload(store, publications, settings, progress or (lambda _: None))
    for place, publication in enumerate(publications):
        before = read_marker(publication.marker)
        if before is not None and not again and _is_current(before, publication.content, settings, store.wandb):
            work.done[place] = before
    try:
        work.run()
    except OSError as error:  # W&B's folder of the store is not writable
        work.give_up(f"{type(error).__name__}: {error}")
    return [work.done[place] for place in range(len(publications))]


def _is_current(before: Published, content: Content, settings: Tracking, folder: Path) -> bool:
    if before.content != _digest(content, settings):
        return False
    return before.sent if settings.mode == "online" else bool(before.folder) and (folder / str(before.folder)).is_dir()


def _digest(content: Content, settings: Tracking) -> str:
    """Return the digest of a content without its alerts, which are raised only once."""
    return replace(content, alerts=()).digest(settings)


class _Upload:
    """The upload of some publications."""

    def __init__(
        self, store: Store, publications: Sequence[Publication], settings: Tracking, progress: Progress
    ) -> None:
        self.store = store
        self.publications = publications
        self.settings = settings
        self.progress = progress
        self.done: dict[int, Published] = {}
        self.failures = CONSECUTIVE_FAILURES - 1  # before W&B's first answer, a single failure ends the upload

    def run(self) -> None:
        """Publish all remaining content, producers of artifacts first.

        W&B takes the first run that names an artifact as the producer of the artifact.
        """
        self.progress(len(self.done) / max(1, len(self.publications)))
        left = [place for place in range(len(self.publications)) if place not in self.done]
        if not left:
            return
        process = uploader.Uploader(self.settings, self.store.wandb)
        try:
            for phase in _phases(left, self.publications):
                self._run_phase(process, phase)
        except uploader.NoResponse as error:
            self.give_up(str(error))
        finally:
            process.close()

    def _run_phase(self, process: uploader.Uploader, places: list[int]) -> None:
        waiting, pending = list(reversed(places)), 0
        while waiting or pending:
            while waiting and pending < uploader.AT_ONCE and self.failures < CONSECUTIVE_FAILURES:
                place = waiting.pop()
                process.send(place, self._new_content(place))
                pending += 1
            if not pending:
                return self.give_up(NOT_TRIED)
            place, reply = process.receive()
            pending -= 1
            self.failures = 0 if reply.problem is None else self.failures + 1
            self._record(place, reply)
        return None

    def _new_content(self, place: int) -> Content:
        """Return the content without the alerts that were raised before."""
        publication = self.publications[place]
        before = read_marker(publication.marker)
        raised = before.alerts if before else ()
        return replace(publication.content, alerts=tuple(a for a in publication.content.alerts if a.key not in raised))

    def _record(self, place: int, reply: uploader.Reply) -> None:
        """Write the marker file of a publication."""
        publication, before = self.publications[place], read_marker(self.publications[place].marker)
        online = self.settings.mode == "online"
        succeeded = reply.problem is None and not reply.busy
        raised = before.alerts if before else ()
        if succeeded and online:  # an alert in an offline run has reached no user
            raised += tuple(a.key for a in self._new_content(place).alerts)
        self.done[place] = Published(
            id=publication.content.id,
            name=publication.content.name,
            content=_digest(publication.content, self.settings) if succeeded else "",
            folder=reply.folder if succeeded and not online else before.folder if before else None,
            sent=succeeded and online,
            sweeps=publication.sweeps,
            alerts=raised,
            problem=reply.problem,
        )
        if not reply.busy:
            write_json(publication.marker, to_mapping(self.done[place]))
        self.progress(len(self.done) / len(self.publications))

    def give_up(self, problem: str) -> None:
        """Record all remaining runs as unpublished.

        No marker is written, so that the next call tries these runs.
        """
        for place, publication in enumerate(self.publications):
            if place not in self.done:
                self.done[place] = Published(
                    id=publication.content.id,
                    name=publication.content.name,
                    content="",
                    folder=None,
                    sent=False,
                    sweeps=publication.sweeps,
                    problem=problem,
                )
        self.progress(1.0)


_ORDER = {"prepare": 0, "train": 1, "eval": 2, "compare": 3, "gate": 4, "audit": 4}


def _phases(places: Sequence[int], publications: Sequence[Publication]) -> list[list[int]]:
    """Group runs that may be uploaded concurrently, in the order of the groups."""
    groups: dict[int, list[int]] = {}
    for place in places:
        groups.setdefault(_ORDER[publications[place].content.job_type], []).append(place)
    return [groups[order] for order in sorted(groups)]
