"""Route requests, and render pages from the run index and the project view."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from assay.core.errors import AssayError
from assay.core.log_tail import last_lines
from assay.report.site.run_index import RunIndex, RunRow, filter_runs
from assay.report.site.sweep_history import collect_history
from assay.report.site.topic_maps import TopicMaps
from assay.report.templating import digest, environment, file_text, library, packed_figures, policy
from assay.store.runs import ACTIVE

if TYPE_CHECKING:
    from assay.report.plots.base import Figure
    from assay.report.site.audit_pages import AuditPages
    from assay.report.site.summaries import ProjectView, SweepSummary, VerdictSummary
    from assay.store.runs import Store

PAGE = 200
"""Maximum number of rows on one page of a table. The CSV has all rows."""
HITS = 50
"""Maximum number of search hits of each kind on the page."""
TAIL = 200
"""Number of log lines on a run's page."""

Query = Mapping[str, str]

SORTS: dict[str, Callable[[RunRow], Any]] = {
    "run": lambda run: (run.mix, run.seed if run.seed is not None else -1),
    "state": lambda run: run.state,
    "sweep": lambda run: run.sweep,
    "tokens": lambda run: run.tokens,
    "speed": lambda run: run.speed,
    "time": lambda run: run.train_seconds + run.evaluate_seconds or None,
    "updated": lambda run: run.updated,
}
"""Sort keys of the run tables."""


@dataclass(frozen=True, kw_only=True)
class SiteResponse:
    """The response to a request."""

    body: str
    status: HTTPStatus = HTTPStatus.OK
    kind: str = "text/html"
    policy: str = ""
    """Content security policy of the page."""
    name: str = ""
    """File name of a download; empty for a page."""


class StoreSite:
    """The website of a store. The site never writes to the store."""

    def __init__(
        self, store: Store, project: ProjectView, index: RunIndex, *, title: str, audits: AuditPages | None = None
    ) -> None:
        """Create the site of a store.

        Args:
            store: the store.
            project: supplies sweeps, mixes, sources and verdicts.
            index: index of the store's runs.
            title: title of the site, which is the name of the project's folder.
            audits: the audit pages; None omits them.
        """
        self._store, self._project, self._index, self._title = store, project, index, title
        self._audits = audits
        self._maps = TopicMaps(store.root)

    def respond(self, parts: Sequence[str], query: Query) -> SiteResponse:
        """Return the page at a path.

        Args:
            parts: unquoted components of the path.
            query: parameters of the URL.
        """
        match parts:
            case []:
                return self._home()
            case ["sweeps", name]:
                return self._sweep(name, query)
            case ["sweeps", name, "runs.csv"]:
                return self._csv(self._runs_of(name), name)
            case ["sweeps", name, "page"]:
                return self._report(name)
            case ["runs"]:
                return self._runs(query)
            case ["runs.csv"]:
                return self._csv(list(self._index.runs().values()), "runs")
            case ["runs", fingerprint]:
                return self._run(fingerprint)
            case ["mixes"]:
                return self._show("mixes", "Mixes", catalog=self._project.catalog(), sweeps=self._project.sweeps())
            case ["mixes", name]:
                return self._mix(name)
            case ["sources"]:
                return self._show("sources", "Sources", catalog=self._project.catalog())
            case ["sources", name]:
                return self._source(name)
            case ["verdicts"]:
                return self._verdicts()
            case ["history"]:
                return self._history()
            case ["topics", digest]:
                return self._topic_map(digest)
            case ["search"]:
                return self._search(query.get("q", ""))
            case ["audits", *rest] if self._audits is not None:
                return self._audit(self._audits, rest, query)
        return self._not_found("This page does not exist.")

    # --- sweeps

    def _home(self) -> SiteResponse:
        runs, sweeps = self._index.runs(), self._project.sweeps()
        by_label: dict[str, list[RunRow]] = {}
        for run in runs.values():
            by_label.setdefault(run.sweep, []).append(run)
        rows = []
        for name in sorted({*sweeps, *by_label} - {""}):
            sweep = sweeps.get(name)
            members = self._members(sweep, runs) if sweep and sweep.members else by_label.get(name, [])
            updated = max((run.updated or 0.0 for run in members), default=0.0)
            states = Counter(run.state for run in members)
            rows.append((name, sweep, states, self._project.verdict(name)[0], updated))
        rows.sort(key=lambda row: (-row[4], row[0]))
        return self._show(
            "home", "Sweeps", rows=rows, runs=len(runs), states=Counter(run.state for run in runs.values())
        )

    def _sweep(self, name: str, query: Query) -> SiteResponse:
        sweep = self._project.sweeps().get(name)
        runs = self._runs_of(name)
        if sweep is None and not runs:
            return self._not_found(f"Sweep {name!r} does not exist.")
        verdict, current = self._project.verdict(name)
        planned = len(sweep.members) if sweep else 0
        return self._show(
            "sweep",
            name,
            name=name,
            sweep=sweep,
            verdict=verdict,
            current=current,
            never=max(0, planned - len(runs)),
            running=any(run.state in ACTIVE and self._store.run(run.fingerprint).claimed for run in runs),
            reload=verdict is None or not current,
            maps=self._maps.covering({source for run in runs for source in run.sources}),
            **_run_table(runs, query),
        )

    def _runs_of(self, name: str) -> list[RunRow]:
        """Return a sweep's existing runs: its members, or the runs with its label."""
        runs, sweep = self._index.runs(), self._project.sweeps().get(name)
        if sweep is not None and sweep.members:
            return self._members(sweep, runs)
        return [run for run in runs.values() if run.sweep == name]

    @staticmethod
    def _members(sweep: SweepSummary, runs: Mapping[str, RunRow]) -> list[RunRow]:
        return [runs[key] for member in sweep.members if (key := member.fingerprint) is not None and key in runs]

    def _report(self, name: str) -> SiteResponse:
        try:
            page = self._project.page(name)
        except AssayError as error:
            return self._not_found(str(error))
        if page is None:
            return self._show("rendering", name, name=name, reload=True)
        return _self_contained(page)

    # --- runs

    def _runs(self, query: Query) -> SiteResponse:
        return self._show("runs", "Runs", **_run_table(list(self._index.runs().values()), query))

    def _run(self, prefix: str) -> SiteResponse:
        runs = [run for key, run in self._index.runs().items() if key.startswith(prefix)]
        if len(runs) != 1:
            return self._not_found(f"{len(runs)} runs have a fingerprint that starts with {prefix!r}; expected 1.")
        from assay.report.collect import read_run
        from assay.report.plots.run_curves import plot_run

        run, record = runs[0], self._store.run(runs[0].fingerprint)
        folder = record.path / "evaluations"
        evaluations = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
        scores = {}
        for evaluation in evaluations:
            result = read_run(record, evaluation=evaluation)
            scores[evaluation] = result.scores or []
        result = read_run(record, evaluation="")
        spec = record.path / "spec.json"
        sweeps = [
            sweep
            for sweep in self._project.sweeps().values()
            if any(member.fingerprint == run.fingerprint for member in sweep.members)
        ]
        return self._show(
            "run",
            run.label,
            run=run,
            result=result,
            figures=plot_run(result.history),
            scores=scores,
            delivered=(result.delivered or {}).get("delivered") or {},
            requested=(result.delivered or {}).get("requested") or {},
            sweeps=sweeps,
            log=last_lines(record.log, TAIL),
            spec=spec.read_text(encoding="utf-8", errors="replace") if spec.exists() else "",
        )

    @staticmethod
    def _csv(runs: Sequence[RunRow], name: str) -> SiteResponse:
        out = io.StringIO()
        writer = csv.writer(out)
        writer.writerow(CSV)
        for run in runs:
            writer.writerow([_cell(getattr(run, column)) for column in CSV])
        safe = re.sub(r"[^A-Za-z0-9_.-]", "_", name)[:100]
        return SiteResponse(body=out.getvalue(), kind="text/csv", name=f"{safe}.csv")

    # --- mixes and sources

    def _mix(self, name: str) -> SiteResponse:
        catalog = self._project.catalog()
        if name not in catalog.mixes and name not in catalog.unresolved:
            return self._not_found(f"Mix {name!r} does not exist.")
        return self._show(
            "mix",
            name,
            name=name,
            mix=catalog.mixes.get(name),
            problem=catalog.unresolved.get(name, ""),
            sources=catalog.sources,
            sweeps=[sweep for sweep in self._project.sweeps().values() if name in sweep.mixes],
            **_run_table([run for run in self._index.runs().values() if run.mix == name], {}),
        )

    def _source(self, name: str) -> SiteResponse:
        catalog = self._project.catalog()
        if name not in catalog.sources:
            return self._not_found(f"Source {name!r} does not exist.")
        return self._show(
            "source",
            name,
            source=catalog.sources[name],
            mixes=[mix for mix in catalog.mixes.values() if name in mix.weights],
            maps=self._maps.covering([name]),
            **_run_table([run for run in self._index.runs().values() if name in run.sources], {}),
        )

    def _audit(self, audits: AuditPages, parts: Sequence[str], query: Query) -> SiteResponse:
        try:
            page = audits.page(parts, query)
        except AssayError as error:
            return self._not_found(str(error))
        if page is None:
            return self._not_found("This page does not exist.")
        return self._show(page.template, page.title, figures=page.figures, reload=page.reload, **page.values)

    def _topic_map(self, digest: str) -> SiteResponse:
        page = self._maps.page(digest)
        if page is None:
            return self._not_found("This topic map does not exist or is damaged.")
        return _self_contained(page)

    # --- across sweeps

    def _available_verdicts(self) -> list[VerdictSummary]:
        verdicts = (self._project.verdict(name)[0] for name in self._project.sweeps())
        return [verdict for verdict in verdicts if verdict is not None]

    def _verdicts(self) -> SiteResponse:
        verdicts = sorted(self._available_verdicts(), key=lambda verdict: -(verdict.when or 0))
        return self._show("verdicts", "Verdicts", verdicts=verdicts)

    def _history(self) -> SiteResponse:
        past = collect_history(self._project.sweeps(), self._available_verdicts())
        return self._show("history", "History", figures=past.figures, outcomes=past.outcomes, changes=past.changes)

    def _search(self, words: str) -> SiteResponse:
        catalog, wanted = self._project.catalog(), words.lower().split()

        def matches(*texts: str) -> bool:
            whole = " ".join(texts).lower()
            return bool(wanted) and all(word in whole for word in wanted)

        sweeps = [
            sweep for sweep in self._project.sweeps().values() if matches(sweep.name, sweep.question, *sweep.mixes)
        ]
        mixes = [name for name in (*catalog.mixes, *catalog.unresolved) if matches(name)]
        sources = [
            source
            for source in catalog.sources.values()
            if matches(source.name, source.domain, source.license or "", *source.tags)
        ]
        runs = filter_runs(self._index.runs().values(), words=words) if wanted else []
        return self._show(
            "search", "Search", q=words, sweeps=sweeps, mixes=mixes, sources=sources, hits=runs, HITS=HITS
        )

    # --- rendering

    def _not_found(self, message: str) -> SiteResponse:
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
    ) -> SiteResponse:
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
                section=template,
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
        return SiteResponse(body=body, status=status, policy=allowed)


CSV = (
    *("fingerprint", "sweep", "mix", "seed", "proxy", "state", "step", "steps", "tokens", "speed", "train_seconds"),
    *("evaluate_seconds", "started", "finished", "problem"),
)
"""Columns of the CSV of a run table."""


def _self_contained(page: str) -> SiteResponse:
    """Return a self-contained page under its own content security policy."""
    found = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page)
    return SiteResponse(body=page, policy=found[1].replace("&#39;", "'") if found else "")


def _cell(value: Any) -> Any:
    # A spreadsheet would evaluate text with these prefixes as a formula.
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r") else value


def _run_table(runs: Sequence[RunRow], query: Query) -> dict[str, Any]:
    """Return the template values of a run table.

    The values are the filtered and sorted rows of one page, and the page numbers.
    """
    states = Counter(run.state for run in runs)
    rows = filter_runs(runs, words=query.get("q", ""), state=query.get("state", ""))
    order = query.get("sort", "")
    key = SORTS.get(order.removeprefix("-"))
    if key is not None:
        present = [run for run in rows if key(run) is not None]
        # Rows without a value are last in either direction.
        rows = sorted(present, key=key, reverse=order.startswith("-")) + [run for run in rows if key(run) is None]
    try:
        page = max(1, int(query.get("page", "1")))
    except ValueError:
        page = 1
    pages = max(1, -(-len(rows) // PAGE))
    page = min(page, pages)
    return {
        "rows": rows[(page - 1) * PAGE : page * PAGE],
        "selected": len(rows),
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
