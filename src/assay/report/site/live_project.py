"""Keep a live view of a project: declarations, submitted sweeps, and verdicts.

A background thread computes the verdicts.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from assay.analysis.verdict import apply_registration, decide_sweep
from assay.config.search_path import SWEEPS, config_roots
from assay.core.errors import AssayError, Damaged, NotFound
from assay.plan.submitted_sweep import read_submitted_sweep, with_current_trust
from assay.plan.workspace import Workspace
from assay.report import headline
from assay.report.publish import make_report
from assay.report.reason_text import texts
from assay.report.site.summaries import CandidateSummary, DataCatalog, SweepMember, SweepSummary, VerdictSummary
from assay.store.runs import ENDED

if TYPE_CHECKING:
    from assay.analysis.gate import SweepVerdict
    from assay.config.mixes import Mix
    from assay.config.study import Study
    from assay.plan.submitted_sweep import SubmittedSweep
    from assay.report.site.run_index import RunIndex, RunRow
    from assay.store.runs import Store

log = logging.getLogger(__name__)

PAGES = 6
"""Maximum number of cached reports, of about 3 MB each."""
POLL = 5.0
"""Seconds between checks of the project's files."""

InputVersion = tuple[int, int, int]
"""Version of a verdict's inputs: version of the project, number of ended runs, and sum of the runs' change times."""


class LiveProject:
    """View of a project and its store.

    One background thread loads the project and decides on its sweeps. All methods return the state computed so far.
    """

    def __init__(self, root: Path, store: Store, index: RunIndex, overrides: Sequence[str]) -> None:
        """Create an empty view. Call `load`, then `start`.

        Args:
            root: the project's folder.
            store: the project's store.
            index: index of the store's runs.
            overrides: configuration overrides for every sweep.
        """
        self._root, self._store, self._index, self._overrides = root, store, index, tuple(overrides)
        # A workspace caches findings and token counts, so every verdict reads a new one.
        self._spaces: dict[str, Callable[[], Workspace]] = {}
        self._sweeps: dict[str, SweepSummary] = {}
        self._catalog = DataCatalog()
        self._study: Study | None = None
        self._version, self._seen = 0, 0
        self._verdicts: dict[str, tuple[InputVersion, VerdictSummary]] = {}
        self._pages: OrderedDict[str, tuple[InputVersion, str | AssayError]] = OrderedDict()
        self._queue: OrderedDict[tuple[str, str], None] = OrderedDict()
        self._change = threading.Condition()

    # --- interface of the site

    def sweeps(self) -> Mapping[str, SweepSummary]:
        """Return all sweeps by name."""
        return self._sweeps

    def workspace(self) -> Workspace:
        """Return the workspace of the current configuration, without a sweep.

        Raises:
            NotFound: the configuration is not loaded yet.
        """
        if self._study is None:
            raise NotFound("The project's configuration is being loaded.", fix="Reload the page.")
        return Workspace(self._study)

    def catalog(self) -> DataCatalog:
        """Return all sources and mixes."""
        return self._catalog

    def verdict(self, sweep: str) -> tuple[VerdictSummary | None, bool]:
        """Return a sweep's latest verdict, and whether the verdict is current.

        If the verdict is outdated, the method queues a new decision.
        """
        version, cached = self._input_version(sweep), self._verdicts.get(sweep)
        if version is None:
            return None, True
        if cached is not None and cached[0] == version:
            return cached[1], True
        self._enqueue("verdict", sweep)
        return (cached[1] if cached is not None else None), False

    def page(self, sweep: str) -> str | None:
        """Return the sweep's current report as HTML; None while the report is being rendered.

        Raises:
            AssayError: the report cannot be rendered.
        """
        if sweep not in self._spaces:
            problem = self._sweeps[sweep].problem if sweep in self._sweeps else ""
            raise NotFound(problem or f"Sweep {sweep!r} is not declared in this project.")
        version, cached = self._input_version(sweep) or (self._version, 0, 0), self._pages.get(sweep)
        if cached is not None and cached[0] == version:
            if isinstance(cached[1], AssayError):
                raise cached[1]
            return cached[1]
        self._enqueue("page", sweep)
        return None

    # --- background thread

    def start(self) -> None:
        """Start the thread that evaluates all sweeps with runs, the newest sweep first."""
        for name in sorted(self._sweeps, key=lambda name: -(self._input_version(name) or (0, 0, 0))[2]):
            self.verdict(name)
        threading.Thread(target=self._work, name="live-project", daemon=True).start()

    def load(self, progress: Callable[[float], None] | None = None) -> None:
        """Load the project's configuration and the store's submissions.

        Args:
            progress: called with the completed fraction.
        """
        from assay.config.compose import compose, names

        roots = config_roots(self._root)
        current = compose(self._overrides, root=self._root)
        declared = [*names("sweep", [self._root]), *_submitted_names(self._store)]
        every = list(dict.fromkeys(declared or names("sweep", roots)))
        spaces: dict[str, Callable[[], Workspace]] = {}
        studies: dict[str, Study] = {}
        sweeps: dict[str, SweepSummary] = {}
        for place, name in enumerate(every):
            try:
                submitted = _submitted(self._store, name, current)
                if submitted is None:
                    study = compose([f"sweep={name}", *self._overrides], root=self._root)
                    make, summarized = partial(Workspace, study), Workspace(study)
                else:
                    study = with_current_trust(submitted.study, current)
                    # The submission defines the runs. The current configuration may block a source and would then hide
                    # the runs.
                    make, summarized = partial(submitted.workspace, study), submitted.workspace()
                sweeps[name] = _summarize(summarized, name, self._store)
                spaces[name], studies[name] = make, study
            except AssayError as error:
                sweeps[name] = SweepSummary(name=name, problem=str(error).replace("\n", " "))
            except Exception as error:  # an unreadable sweep must not hide other sweeps
                log.warning("sweep %s", name, exc_info=True)
                sweeps[name] = SweepSummary(name=name, problem=f"{type(error).__name__}: {error}")
            if progress is not None:
                progress((place + 1) / len(every))
        catalog = _catalog(current, studies)
        with self._change:
            self._spaces, self._sweeps, self._catalog, self._study = spaces, sweeps, catalog, current
            self._version += 1
        self._seen = self._files()

    def _files(self) -> int:
        """Return a number that changes with the project's files and the store's submissions."""
        return sum(os.stat(path).st_mtime_ns for path in self._watched())  # noqa: PTH116  # a Path costs more than the call

    def _watched(self) -> Iterator[str]:
        for folder in (self._root / "conf", self._root / SWEEPS):
            for path, _, files in os.walk(folder):
                yield from (f"{path}/{file}" for file in files)
        yield from map(str, self._store.root.glob("sweeps/*/submissions"))
        yield from map(str, self._store.root.glob("sweeps/*/registered.json"))

    def _input_version(self, sweep: str) -> InputVersion | None:
        """Return the version of a verdict's current inputs; None if no run has ended."""
        runs = self._runs(sweep)
        ended = [run.changed for run in runs if run.state in ENDED or run.state == "trained"]
        return (self._version, len(ended), sum(ended)) if ended else None

    def _runs(self, sweep: str) -> list[RunRow]:
        summary, runs = self._sweeps.get(sweep), self._index.runs()
        if summary is None:
            return []
        return [runs[key] for member in summary.members if (key := member.fingerprint) is not None and key in runs]

    def _enqueue(self, kind: str, sweep: str) -> None:
        if sweep in self._spaces:
            with self._change:
                self._queue[kind, sweep] = None
                self._change.notify()

    def _work(self) -> None:
        while True:
            with self._change:
                if not self._queue:
                    self._change.wait(POLL)
                task = self._queue.popitem(last=False)[0] if self._queue else None
            try:
                if self._files() != self._seen:
                    self.load()
                if task is not None:
                    (self._evaluate if task[0] == "verdict" else self._render)(task[1])
            except Exception:  # the site continues with the previous state
                log.exception("while loading the project or evaluating %s", task and task[1])

    def _evaluate(self, sweep: str) -> None:
        version = self._input_version(sweep)
        if version is None or (sweep in self._verdicts and self._verdicts[sweep][0] == version):
            return
        try:
            verdict = _evaluate(self._spaces[sweep](), self._runs(sweep))
        except AssayError as error:
            verdict = VerdictSummary(sweep=sweep, decision="NO VERDICT", problem=str(error).replace("\n", " "))
        self._verdicts[sweep] = (version, verdict)

    def _render(self, sweep: str) -> None:
        from assay.report.page import render

        version = self._input_version(sweep) or (self._version, 0, 0)
        page: str | AssayError
        try:
            space, plan, standing = apply_registration(self._spaces[sweep]())
            verdict = decide_sweep(space, plan, registration=standing)
            page = render(make_report(space, plan, verdict))
        except AssayError as error:
            page = error
        with self._change:
            self._pages[sweep] = (version, page)
            self._pages.move_to_end(sweep)
            while len(self._pages) > PAGES:
                self._pages.popitem(last=False)


def _submitted_names(store: Store) -> list[str]:
    return sorted(path.parent.name for path in store.root.glob("sweeps/*/submissions"))


def _submitted(store: Store, name: str, current: Study) -> SubmittedSweep | None:
    """Read a sweep as submitted, with this machine's folders."""
    # A submission of another assay version may be unreadable; the current declaration then replaces it.
    with contextlib.suppress(Damaged):
        return read_submitted_sweep(store, name, paths=current.raw["paths"])
    return None


def _created(store: Store, name: str) -> float | None:
    from assay.store.submissions import submissions

    return next((directory.read().created for directory in submissions(store, name)), None)


def _summarize(space: Workspace, name: str, store: Store) -> SweepSummary:
    study = space.study
    sweep = study.require_sweep()
    members, problem = list[SweepMember](), ""
    try:
        members += [SweepMember(run.mix, run.seed, run.fingerprint) for run in space.planner.outline().runs]
    except AssayError as error:
        problem = str(error).replace("\n", " ")
    return SweepSummary(
        name=name,
        question=sweep.question,
        baseline=sweep.baseline,
        candidates=sweep.candidates,
        seeds=sweep.seeds,
        proxy=study.proxy.name,
        tokens=space.runs.budget,
        policy=study.policy.name,
        members=tuple(members),
        created=_created(store, name),
        problem=problem,
    )


def _catalog(current: Study, studies: Mapping[str, Study]) -> DataCatalog:
    from assay.config.mixes import resolve

    mixes: dict[str, Mix] = {}
    unresolved: dict[str, str] = {}
    sources = {
        **{name: source for study in studies.values() for name, source in study.sources.items()},
        **current.sources,
    }
    for study in (current, *studies.values()):
        for name in study.mixes:
            if name in mixes or name in unresolved:
                continue
            try:
                mixes[name] = resolve(name, study.mixes, study.sources)
            except AssayError as error:
                unresolved[name] = str(error).replace("\n", " ")
    return DataCatalog(sources=sources, mixes=mixes, unresolved=unresolved)


def _evaluate(space: Workspace, runs: Sequence[RunRow]) -> VerdictSummary:
    space, plan, standing = apply_registration(space)
    verdict = decide_sweep(space, plan, registration=standing)
    sweep = plan.sweep
    spec = next((run.spec for run in plan.runs if run.mix == sweep.baseline and run.spec is not None), None)
    from assay.report.model import overall_weights

    return VerdictSummary(
        sweep=sweep.name,
        decision=str(verdict.decision).upper(),
        headline=headline.candidates(verdict),
        candidates=tuple(
            CandidateSummary(name, str(one.decision).upper(), tuple(texts(one.reasons)))
            for name, one in verdict.candidates.items()
        ),
        policy=verdict.policy,
        registration=standing.state,
        marked=standing.marked,
        when=max((run.finished for run in runs if run.finished), default=None),
        finished=len(plan.of("reuse")),
        runs=len(plan.runs),
        scale=f"proxy {space.study.proxy.name}, {space.runs.budget:,} tokens, evaluation {plan.evaluation[:12]}",
        weights=overall_weights(spec) if spec is not None else {},
        scores=_scores(verdict),
    )


def _scores(verdict: SweepVerdict) -> dict[tuple[str, str], float]:
    from assay.report.model import finite

    scores = {}
    for candidate in verdict.candidates.values():
        for comparison in candidate.comparisons:
            mean = finite(comparison.baseline_mean)
            if mean is not None and comparison.baseline == verdict.baseline:
                scores[comparison.task, comparison.metric] = mean
    return scores
