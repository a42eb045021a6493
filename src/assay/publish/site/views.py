"""The site's pages: what is asked in, HTML out; they are made of what the index and the desk know at that moment."""

from __future__ import annotations

import csv
import datetime
import io
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from assay.errors import AssayError
from assay.publish.site.history import history
from assay.publish.site.index import Index, RunListed, matching
from assay.publish.site.maps import Maps
from assay.publish.templating import digest, environment, file_text, library, packed_figures, policy
from assay.tails import last_lines

if TYPE_CHECKING:
    from assay.publish.plots import Figure
    from assay.publish.site.audits import Audits
    from assay.publish.site.values import Desk, SweepKnown
    from assay.store import Store

PAGE = 200
"""Rows of a table that one answer has; the rest is behind links, and all of it in the CSV."""
FOUND = 50
"""Hits of each kind that a search shows."""
TAIL = 200
"""Lines of its log that a run's page shows."""

Query = Mapping[str, str]

SORTS: dict[str, Callable[[RunListed], Any]] = {
    "run": lambda run: (run.mix, run.seed if run.seed is not None else -1),
    "state": lambda run: run.state,
    "sweep": lambda run: run.sweep,
    "tokens": lambda run: run.tokens,
    "speed": lambda run: run.speed,
    "time": lambda run: run.train_seconds + run.evaluate_seconds or None,
    "updated": lambda run: run.updated,
}
"""What runs can be sorted by."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a request gets."""

    body: str
    status: HTTPStatus = HTTPStatus.OK
    kind: str = "text/html"
    policy: str = ""
    """Its content security policy."""
    name: str = ""
    """Of the file that it is saved as."""


class Site:
    """A store as pages."""

    def __init__(self, store: Store, desk: Desk, index: Index, *, title: str, audits: Audits | None = None) -> None:
        """A site of a store.

        Args:
            store: what is shown; nothing is written there.
            desk: who knows the sweeps and judges them.
            index: of the store's runs.
            title: what the site calls itself; the project's folder.
            audits: pages of what audits found; left out, there are none.
        """
        self._store, self._desk, self._index, self._title = store, desk, index, title
        self._audits = audits
        self._maps = Maps(store.root)

    def answer(self, parts: Sequence[str], query: Query) -> Answer:
        """The page under a path.

        Args:
            parts: of the path, unquoted.
            query: after the question mark.
        """
        match parts:
            case []:
                return self._home()
            case ["sweeps", name]:
                return self._sweep(name, query)
            case ["sweeps", name, "runs.csv"]:
                return self._csv(self._of(name), name)
            case ["sweeps", name, "page"]:
                return self._report(name)
            case ["runs"]:
                return self._runs(query)
            case ["runs.csv"]:
                return self._csv(list(self._index.runs().values()), "runs")
            case ["runs", fingerprint]:
                return self._run(fingerprint)
            case ["mixes"]:
                return self._show("mixes", "Mixes", catalogue=self._desk.catalogue(), sweeps=self._desk.sweeps())
            case ["mixes", name]:
                return self._mix(name)
            case ["sources"]:
                return self._show("sources", "Sources", catalogue=self._desk.catalogue())
            case ["sources", name]:
                return self._source(name)
            case ["verdicts"]:
                return self._verdicts()
            case ["history"]:
                return self._history()
            case ["clusters", digest]:
                return self._map(digest)
            case ["search"]:
                return self._search(query.get("q", ""))
            case ["audits", *rest] if self._audits is not None:
                return self._audit(self._audits, rest, query)
        return self._missing("There is no such page.")

    # --- sweeps

    def _home(self) -> Answer:
        runs, sweeps = self._index.runs(), self._desk.sweeps()
        by_label: dict[str, list[RunListed]] = {}
        for run in runs.values():
            by_label.setdefault(run.sweep, []).append(run)
        rows = []
        for name in sorted({*sweeps, *by_label} - {""}):
            known = sweeps.get(name)
            own = self._runs_of(known, runs) if known and known.places else by_label.get(name, [])
            heard = max((run.updated or 0.0 for run in own), default=0.0)
            rows.append((name, known, Counter(run.state for run in own), self._desk.judged(name)[0], heard))
        rows.sort(key=lambda row: (-row[4], row[0]))
        return self._show(
            "home", "Sweeps", rows=rows, runs=len(runs), states=Counter(run.state for run in runs.values()), now=_now()
        )

    def _sweep(self, name: str, query: Query) -> Answer:
        known = self._desk.sweeps().get(name)
        runs = self._of(name)
        if known is None and not runs:
            return self._missing(f"No sweep is called {name!r}.")
        judged, current = self._desk.judged(name)
        planned = len(known.places) if known else 0
        return self._show(
            "sweep",
            name,
            name=name,
            known=known,
            judged=judged,
            current=current,
            never=max(0, planned - len(runs)),
            reload=judged is None or not current,
            maps=self._maps.of({source for run in runs for source in run.sources}),
            **_listed(runs, query),
        )

    def _of(self, name: str) -> list[RunListed]:
        """A sweep's runs that there are: those it asks for, or where that is not known, those made for it."""
        runs, known = self._index.runs(), self._desk.sweeps().get(name)
        if known is not None and known.places:
            return self._runs_of(known, runs)
        return [run for run in runs.values() if run.sweep == name]

    @staticmethod
    def _runs_of(known: SweepKnown, runs: Mapping[str, RunListed]) -> list[RunListed]:
        return [runs[key] for place in known.places if (key := place.fingerprint) is not None and key in runs]

    def _report(self, name: str) -> Answer:
        try:
            page = self._desk.page(name)
        except AssayError as error:
            return self._missing(str(error))
        if page is None:
            return self._show("making", name, name=name, reload=True)
        return _whole(page)

    # --- runs

    def _runs(self, query: Query) -> Answer:
        return self._show("runs", "Runs", **_listed(list(self._index.runs().values()), query))

    def _run(self, prefix: str) -> Answer:
        runs = self._index.runs()
        found = [run for key, run in runs.items() if key.startswith(prefix)]
        if len(found) != 1:
            return self._missing(f"{len(found)} runs' fingerprints begin with {prefix!r}.")
        from assay.publish.collect import read_run

        run, record = found[0], self._store.run(found[0].fingerprint)
        folder = record.path / "evaluations"
        evaluations = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
        scores = {}
        for one in evaluations:
            result = read_run(record, evaluation=one)
            scores[one] = result.scores or []
        result = read_run(record, evaluation="")
        spec = record.path / "spec.json"
        return self._show(
            "run",
            run.label,
            run=run,
            result=result,
            scores=scores,
            delivered=(result.delivered or {}).get("delivered") or {},
            requested=(result.delivered or {}).get("requested") or {},
            sweeps=[s for s in self._desk.sweeps().values() if any(p.fingerprint == run.fingerprint for p in s.places)],
            log=last_lines(record.log, TAIL),
            spec=spec.read_text(encoding="utf-8", errors="replace") if spec.exists() else "",
            now=_now(),
        )

    @staticmethod
    def _csv(runs: Sequence[RunListed], name: str) -> Answer:
        out = io.StringIO()
        writer = csv.writer(out)
        writer.writerow(CSV)
        for run in runs:
            writer.writerow([_cell(getattr(run, column)) for column in CSV])
        safe = re.sub(r"[^A-Za-z0-9_.-]", "_", name)[:100]
        return Answer(body=out.getvalue(), kind="text/csv", name=f"{safe}.csv")

    # --- what is declared

    def _mix(self, name: str) -> Answer:
        catalogue = self._desk.catalogue()
        if name not in catalogue.mixes and name not in catalogue.unresolved:
            return self._missing(f"No mix is called {name!r}.")
        return self._show(
            "mix",
            name,
            name=name,
            mix=catalogue.mixes.get(name),
            problem=catalogue.unresolved.get(name, ""),
            sources=catalogue.sources,
            sweeps=[sweep for sweep in self._desk.sweeps().values() if name in sweep.mixes],
            **_listed([run for run in self._index.runs().values() if run.mix == name], {}),
        )

    def _source(self, name: str) -> Answer:
        catalogue = self._desk.catalogue()
        if name not in catalogue.sources:
            return self._missing(f"No source is called {name!r}.")
        return self._show(
            "source",
            name,
            source=catalogue.sources[name],
            mixes=[mix for mix in catalogue.mixes.values() if name in mix.weights],
            maps=self._maps.of([name]),
            **_listed([run for run in self._index.runs().values() if name in run.sources], {}),
        )

    def _audit(self, audits: Audits, parts: Sequence[str], query: Query) -> Answer:
        try:
            shown = audits.page(parts, query)
        except AssayError as error:
            return self._missing(str(error))
        if shown is None:
            return self._missing("There is no such page.")
        return self._show(shown.template, shown.title, figures=shown.figures, reload=shown.reload, **shown.values)

    def _map(self, digest: str) -> Answer:
        page = self._maps.page(digest)
        return self._missing("There is no such map of clusters, or it is damaged.") if page is None else _whole(page)

    # --- across sweeps

    def _verdicts(self) -> Answer:
        judged = [one for name in self._desk.sweeps() if (one := self._desk.judged(name)[0]) is not None]
        judged.sort(key=lambda one: -(one.when or 0))
        return self._show("verdicts", "Verdicts", judged=judged, sweeps=self._desk.sweeps())

    def _history(self) -> Answer:
        sweeps = self._desk.sweeps()
        judged = [one for name in sweeps if (one := self._desk.judged(name)[0]) is not None]
        past = history(sweeps, judged)
        return self._show("history", "Across sweeps", figures=past.figures, questions=past.questions, moves=past.moves)

    def _search(self, words: str) -> Answer:
        catalogue, wanted = self._desk.catalogue(), words.lower().split()

        def has(*texts: str) -> bool:
            whole = " ".join(texts).lower()
            return bool(wanted) and all(word in whole for word in wanted)

        sweeps = [one for one in self._desk.sweeps().values() if has(one.name, one.question, *one.mixes)]
        mixes = [name for name in (*catalogue.mixes, *catalogue.unresolved) if has(name)]
        sources = [one for one in catalogue.sources.values() if has(one.name, one.domain, one.licence or "", *one.tags)]
        runs = matching(self._index.runs().values(), words=words) if wanted else []
        return self._show(
            "search", "Search", q=words, sweeps=sweeps, mixes=mixes, sources=sources, hits=runs, FOUND=FOUND
        )

    # --- making pages

    def _missing(self, message: str) -> Answer:
        return self._show("missing", "Not found", message=message, status=HTTPStatus.NOT_FOUND)

    def _show(
        self,
        template: str,
        title: str,
        *,
        figures: Sequence[Figure] = (),
        status: HTTPStatus = HTTPStatus.OK,
        reload: bool = False,
        **values: Any,
    ) -> Answer:
        script = file_text("page.js")
        plotly = library() if figures else None
        allowed = policy(scripts=[digest(script), *([plotly.digest] if plotly else [])], forms=True)
        body = (
            environment()
            .get_template(f"site/{template}.html")
            .render(
                **{"q": "", **values},
                page_title=title,
                site=self._title,
                with_audits=self._audits is not None,
                here=template,
                figures=figures,
                data=packed_figures(figures) if figures else "",
                library=plotly.packed if plotly else "",
                looks={},
                style=file_text("page.css"),
                script=script,
                policy=allowed,
                reload=reload,
            )
        )
        return Answer(body=body, status=status, policy=allowed)


CSV = (
    *("fingerprint", "sweep", "mix", "seed", "proxy", "state", "step", "steps", "tokens", "speed", "train_seconds"),
    *("evaluate_seconds", "started", "finished", "problem"),
)
"""Columns of a list of runs that is saved."""


def _whole(page: str) -> Answer:
    """A page that opens from disk as well, under the policy that it states itself."""
    found = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page)
    return Answer(body=page, policy=found[1].replace("&#39;", "'") if found else "")


def _cell(value: Any) -> Any:
    # A spreadsheet would run text that begins so as a formula.
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r") else value


def _listed(runs: Sequence[RunListed], query: Query) -> dict[str, Any]:
    """One page of a table of runs: filtered, sorted, with what leads to the others."""
    states = Counter(run.state for run in runs)
    found = matching(runs, words=query.get("q", ""), state=query.get("state", ""))
    order = query.get("sort", "")
    key = SORTS.get(order.removeprefix("-"))
    if key is not None:
        known = [run for run in found if key(run) is not None]
        # Whatever the direction, what has no value stands last.
        found = sorted(known, key=key, reverse=order.startswith("-")) + [run for run in found if key(run) is None]
    try:
        page = max(1, int(query.get("page", "1")))
    except ValueError:
        page = 1
    pages = max(1, -(-len(found) // PAGE))
    page = min(page, pages)
    return {
        "rows": found[(page - 1) * PAGE : page * PAGE],
        "found": len(found),
        "total": len(runs),
        "states": states,
        "page": page,
        "pages": pages,
        "order": order,
        "words": query.get("q", ""),
        "state": query.get("state", ""),
        "spent": sum(run.train_seconds + run.evaluate_seconds for run in runs),
        "speed": sum(run.speed or 0.0 for run in runs if run.state == "training"),
    }


def _now() -> float:
    return datetime.datetime.now(datetime.UTC).timestamp()
