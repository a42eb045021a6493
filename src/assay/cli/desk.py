"""Who answers for the site: what the project declares, what was submitted, and the verdicts, judged while people look."""

from __future__ import annotations

import contextlib
import copy
import logging
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assay import conclude
from assay.errors import AssayError
from assay.publish.site.values import CandidateJudged, Catalogue, Judged, Place, SweepKnown
from assay.roots import SWEEPS, config_roots
from assay.store import ENDED
from assay.study import Study
from assay.workspace import Workspace

if TYPE_CHECKING:
    from assay.gate import SweepVerdict
    from assay.mixes import Mix
    from assay.publish.site.index import Index, RunListed
    from assay.store import Store

log = logging.getLogger(__name__)

PAGES = 6
"""Pages that are kept; one has 3 MB."""
LOOK = 5.0
"""Seconds after which the project's files are looked at again."""
TRUST = ("licence", "clearance", "waivers", "snapshot", "origin", "processing")
"""What a source declares of whether it may be trained on; nothing of it is in a run's identity."""

Stand = tuple[int, int, int]
"""What a verdict was made of: the version of the project, the runs that had ended, and their times together."""


class LiveDesk:
    """Knows the project and its store. One thread reads and judges; everybody else is told what is known so far."""

    def __init__(self, root: Path, store: Store, index: Index, overrides: Sequence[str]) -> None:
        """A desk that knows nothing yet: `learn` first, then `start`.

        Args:
            root: the project's folder.
            store: its store.
            index: of the store's runs.
            overrides: of the configuration, for every sweep.
        """
        self._root, self._store, self._index, self._overrides = root, store, index, tuple(overrides)
        self._studies: dict[str, Study] = {}
        self._sweeps: dict[str, SweepKnown] = {}
        self._catalogue = Catalogue()
        self._here: Study | None = None
        self._version, self._seen = 0, 0
        self._judged: dict[str, tuple[Stand, Judged]] = {}
        self._pages: OrderedDict[str, tuple[Stand, str | AssayError]] = OrderedDict()
        self._wanted: OrderedDict[tuple[str, str], None] = OrderedDict()
        self._change = threading.Condition()

    # --- for the site

    def sweeps(self) -> Mapping[str, SweepKnown]:
        """All sweeps, by name."""
        return self._sweeps

    def space(self) -> Workspace:
        """The project as it is configured, without a sweep.

        Raises:
            AssayError: its configuration was not read yet.
        """
        if self._here is None:
            raise AssayError("the project's configuration is being read.")
        return Workspace(self._here)

    def catalogue(self) -> Catalogue:
        """All sources and mixes."""
        return self._catalogue

    def judged(self, sweep: str) -> tuple[Judged | None, bool]:
        """The last judgement of a sweep, and whether it is still of what there is."""
        stand, known = self._stand(sweep), self._judged.get(sweep)
        if stand is None:
            return None, True
        if known is not None and known[0] == stand:
            return known[1], True
        self._want("verdict", sweep)
        return (known[1] if known is not None else None), False

    def page(self, sweep: str) -> str | None:
        """The sweep's page as of now; ``None`` where it is not made yet.

        Raises:
            AssayError: it cannot be made, and why.
        """
        if sweep not in self._studies:
            problem = self._sweeps[sweep].problem if sweep in self._sweeps else ""
            raise AssayError(problem or f"no sweep is called {sweep!r} in this project.")
        stand, known = self._stand(sweep) or (self._version, 0, 0), self._pages.get(sweep)
        if known is not None and known[0] == stand:
            if isinstance(known[1], AssayError):
                raise known[1]
            return known[1]
        self._want("page", sweep)
        return None

    # --- the thread

    def start(self) -> None:
        """Judge from now on what has runs, the newest first."""
        for name in sorted(self._sweeps, key=lambda name: -(self._stand(name) or (0, 0, 0))[2]):
            self.judged(name)
        threading.Thread(target=self._work, name="desk", daemon=True).start()

    def learn(self, progress: Callable[[float], None] | None = None) -> None:
        """Read the project's configuration and the store's submissions."""
        from assay.cli.compose import compose, names

        roots = config_roots(self._root)
        here = compose(self._overrides, root=self._root)
        declared = [*names("sweep", [self._root]), *_submitted(self._store)]
        every = list(dict.fromkeys(declared or names("sweep", roots)))
        studies: dict[str, Study] = {}
        sweeps: dict[str, SweepKnown] = {}
        for place, name in enumerate(every):
            try:
                submitted = _as_submitted(self._store, name, here)
                study = submitted or compose([f"sweep={name}", *self._overrides], root=self._root)
                # Of which runs there are, what was submitted tells: a source that is blocked now would hide them.
                sweeps[name] = _known(Workspace(study), name, self._store)
                studies[name] = study if submitted is None else _trusting(study, here)
            except AssayError as error:
                sweeps[name] = SweepKnown(name=name, problem=str(error).replace("\n", " "))
            except Exception as error:  # one sweep that cannot be read hides no other
                log.warning("sweep %s", name, exc_info=True)
                sweeps[name] = SweepKnown(name=name, problem=f"{type(error).__name__}: {error}")
            if progress is not None:
                progress((place + 1) / len(every))
        catalogue = _catalogue(here, studies)
        with self._change:
            self._studies, self._sweeps, self._catalogue, self._here = studies, sweeps, catalogue, here
            self._version += 1
        self._seen = self._files()

    def _files(self) -> int:
        """A number that changes with the project's files and the store's submissions."""
        return sum(os.stat(path).st_mtime_ns for path in self._watched())  # noqa: PTH116  # a Path costs more than the call

    def _watched(self) -> Iterator[str]:
        for folder in (self._root / "conf", self._root / SWEEPS):
            for path, _, files in os.walk(folder):
                yield from (f"{path}/{file}" for file in files)
        yield from map(str, self._store.root.glob("sweeps/*/submissions"))
        yield from map(str, self._store.root.glob("sweeps/*/registered.json"))

    def _stand(self, sweep: str) -> Stand | None:
        """What a verdict would be made of now; ``None`` where no run has ended."""
        runs = self._of(sweep)
        ended = [run.changed for run in runs if run.state in ENDED or run.state == "trained"]
        return (self._version, len(ended), sum(ended)) if ended else None

    def _of(self, sweep: str) -> list[RunListed]:
        known, runs = self._sweeps.get(sweep), self._index.runs()
        if known is None:
            return []
        return [runs[key] for place in known.places if (key := place.fingerprint) is not None and key in runs]

    def _want(self, kind: str, sweep: str) -> None:
        if sweep in self._studies:
            with self._change:
                self._wanted[kind, sweep] = None
                self._change.notify()

    def _work(self) -> None:
        while True:
            with self._change:
                if not self._wanted:
                    self._change.wait(LOOK)
                task = self._wanted.popitem(last=False)[0] if self._wanted else None
            try:
                if self._files() != self._seen:
                    self.learn()
                if task is not None:
                    (self._judge if task[0] == "verdict" else self._make)(task[1])
            except Exception:  # the site goes on with what it knows
                log.exception("while reading the project or judging %s", task and task[1])

    def _judge(self, sweep: str) -> None:
        stand = self._stand(sweep)
        if stand is None or (sweep in self._judged and self._judged[sweep][0] == stand):
            return
        try:
            judged = _judge(Workspace(self._studies[sweep]), self._of(sweep))
        except AssayError as error:
            judged = Judged(sweep=sweep, decision="NOT JUDGED", problem=str(error).replace("\n", " "))
        self._judged[sweep] = (stand, judged)

    def _make(self, sweep: str) -> None:
        from assay.publish.page import render

        stand = self._stand(sweep) or (self._version, 0, 0)
        page: str | AssayError
        try:
            space, plan, standing = conclude.before_the_gate(Workspace(self._studies[sweep]))
            verdict = conclude.judge(space, plan, standing=standing)
            page = render(conclude.make_report(space, plan, verdict))
        except AssayError as error:
            page = error
        with self._change:
            self._pages[sweep] = (stand, page)
            self._pages.move_to_end(sweep)
            while len(self._pages) > PAGES:
                self._pages.popitem(last=False)


def _submitted(store: Store) -> list[str]:
    return sorted(path.parent.name for path in store.root.glob("sweeps/*/submissions"))


def _as_submitted(store: Store, name: str, here: Study) -> Study | None:
    """The study of a sweep's newest submission, on this machine's folders; ``None`` where it was never submitted."""
    from assay.launch.records import submissions

    for directory in reversed(submissions(store, name)):
        # One of another version of assay may not be read any more: what the project declares now is the next best.
        with contextlib.suppress(AssayError):
            raw: dict[str, Any] = copy.deepcopy(directory.read().study)
            return Study.parse({**raw, "paths": here.raw["paths"]})
    return None


def _trusting(study: Study, here: Study) -> Study:
    """A study under what the project says today of its sources, as `assay gate` judges.

    A clearance may have been taken back since it was submitted, and a sweep that was let train on a tainted source is
    blocked all the same.
    """
    now = here.raw.get("source") or {}
    sources = {name: _trusted_as(one, now.get(name)) for name, one in (study.raw.get("source") or {}).items()}
    return Study.parse({**study.raw, "taint": here.raw["taint"], "source": sources})


def _trusted_as(submitted: Mapping[str, Any], now: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """A source's declaration as it was submitted, with what is said today of whether it may be trained on."""
    if now is None:
        return submitted
    kept = {key: value for key, value in submitted.items() if key not in TRUST}
    return kept | {key: now[key] for key in TRUST if key in now}


def _created(store: Store, name: str) -> float | None:
    from assay.launch.records import submissions

    for directory in submissions(store, name):
        with contextlib.suppress(AssayError):
            return directory.read().created
    return None


def _known(space: Workspace, name: str, store: Store) -> SweepKnown:
    study = space.study
    sweep = study.require_sweep()
    places, problem = list[Place](), ""
    try:
        places += [Place(run.mix, run.seed, run.fingerprint) for run in space.outline().runs]
    except AssayError as error:
        problem = str(error).replace("\n", " ")
    return SweepKnown(
        name=name,
        question=sweep.question,
        baseline=sweep.baseline,
        candidates=sweep.candidates,
        seeds=sweep.seeds,
        proxy=study.proxy.name,
        tokens=space.budget,
        policy=study.policy.name,
        places=tuple(places),
        created=_created(store, name),
        problem=problem,
    )


def _catalogue(here: Study, studies: Mapping[str, Study]) -> Catalogue:
    from assay.mixes import resolve

    mixes: dict[str, Mix] = {}
    unresolved: dict[str, str] = {}
    sources = {**{name: one for study in studies.values() for name, one in study.sources.items()}, **here.sources}
    for study in (here, *studies.values()):
        for name in study.mixes:
            if name in mixes or name in unresolved:
                continue
            try:
                mixes[name] = resolve(name, study.mixes, study.sources)
            except AssayError as error:
                unresolved[name] = str(error).replace("\n", " ")
    return Catalogue(sources=sources, mixes=mixes, unresolved=unresolved)


def _judge(space: Workspace, runs: Sequence[RunListed]) -> Judged:
    space, plan, standing = conclude.before_the_gate(space)
    verdict = conclude.judge(space, plan, standing=standing)
    sweep = plan.sweep
    spec = next((run.spec for run in plan.runs if run.mix == sweep.baseline and run.spec is not None), None)
    from assay.publish.report import overall_weights

    return Judged(
        sweep=sweep.name,
        decision=str(verdict.decision).upper(),
        candidates=tuple(
            CandidateJudged(name, str(one.decision).upper(), tuple(one.reasons))
            for name, one in verdict.candidates.items()
        ),
        policy=verdict.policy,
        standing=standing.state,
        marked=standing.marked,
        when=max((run.finished for run in runs if run.finished), default=None),
        finished=len(plan.of("reuse")),
        runs=len(plan.runs),
        scale=f"proxy {space.study.proxy.name}, {space.budget:,} tokens, evaluation {plan.evaluation[:12]}",
        weights=overall_weights(spec) if spec is not None else {},
        scores=_scores(verdict),
    )


def _scores(verdict: SweepVerdict) -> dict[tuple[str, str], float]:
    from assay.publish.report import finite

    found = {}
    for one in verdict.candidates.values():
        for c in one.comparisons:
            mean = finite(c.baseline_mean)
            if mean is not None and c.baseline == verdict.baseline:
                found[c.task, c.metric] = mean
    return found
