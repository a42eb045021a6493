"""Render the audit pages of the site: sources, samples, and documents next to their originals.

Document text is untrusted. Templates escape all values, and receive the text in pieces that spell out invisible
characters.
"""

from __future__ import annotations

import contextlib
import shlex
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assay.audit.findings import Findings
from assay.audit.review.annotations import newest, read, summary
from assay.core.errors import AssayError, NotFound
from assay.report.site.audit_state import AuditState

if TYPE_CHECKING:
    from assay.audit.detectors.registry import Detector
    from assay.audit.findings import Example, Finding
    from assay.audit.review.sample import ReviewSample
    from assay.audit.review.side_by_side import Masking
    from assay.audit.scan.distributions import Distribution, Extreme
    from assay.config.sources import Source
    from assay.plan.workspace import Workspace
    from assay.report.plots.base import Figure

FRESH = 5.0
"""Seconds for which the audit states are cached."""
PATIENCE = 2.0
"""Seconds that a request waits for the audit states. If hashing of new files takes longer, the page reloads."""
PARTS = 12
"""Maximum number of a source's parts in the list of a finding."""
EXCERPT = 700
"""Maximum characters of a document in a sample."""
LINE = 160
"""Maximum characters of a phrase, or of the beginning of a document, in a table."""
SAMPLE_BYTES = 64_000_000
"""Stored bytes that a sample on the site reads within one to two seconds. `assay audit sample` reads all bytes."""
COUNT = 20


@dataclass(frozen=True, kw_only=True)
class AuditPage:
    """Template and values of a page before rendering."""

    template: str
    title: str
    values: dict[str, Any]
    figures: Sequence[Figure] = ()
    reload: bool = False


def read_audit_state(space: Workspace, name: str, project: Path) -> AuditState:
    """Read a source's audit state from the store, the annotation log and changed files.

    Args:
        space: the workspace on this machine.
        name: the source's name.
        project: the folder that contains `audits/`.
    """
    from assay.audit.explore import records

    source = _resolve_source(space, name)
    digest, problem = None, ""
    try:
        digest = space.sources.digest(name)
    except AssayError as error:
        problem = str(error).replace("\n", " ")
    findings = Findings(space.store.root)
    shown = digest
    if digest is None or space.sources.taints.audited(digest) is None:
        shown = next(iter(reversed(findings.digests(name))), digest)
    log = read(project, name)
    if shown is None:
        return AuditState(source=source, problem=problem, log=log, annotations=summary(log.annotations, None))
    return AuditState(
        source=source,
        digest=digest,
        problem=problem,
        shown=shown,
        audit=max(space.sources.taints.audits(shown), key=lambda audit: audit.finished, default=None),
        findings=space.sources.taints.findings(shown),
        taints=space.sources.taints.of(source, shown),
        waived=tuple(space.sources.taints.waived(source, shown)),
        contrasts=tuple(records.contrasts(space.store.root, name, shown)),
        distributions=records.distributions(space.store.root, name, shown),
        log=log,
        annotations=summary(log.annotations, shown),
    )


def _resolve_source(space: Workspace, name: str) -> Source:
    """Return a source with an absolute path to its originals."""
    source = space.sources.source(name)
    if source.originals is None or "://" in source.originals:
        return source
    return replace(source, originals=str(space.study.paths.resolve(source.originals)))


class AuditPages:
    """The read-only audit pages. A background thread refreshes the audit states every few seconds."""

    def __init__(
        self, space: Callable[[], Workspace], *, project: Path, detectors: Callable[[], Sequence[Detector]]
    ) -> None:
        """Create the audit pages of a project.

        Args:
            space: returns the workspace of the current configuration.
            project: the project's folder, which contains the annotations.
            detectors: returns the configured detectors. The pages mask matches of the secret detectors.
        """
        self._space, self._project, self._detectors = space, project, detectors
        self._states: dict[str, AuditState] = {}
        self._problem = ""
        self._refreshed = float("-inf")
        self._worker: threading.Thread | None = None
        self._lock = threading.Lock()

    def page(self, parts: Sequence[str], query: Mapping[str, str]) -> AuditPage | None:
        """Return the page at a path below `/audits`; None for an unknown path.

        Raises:
            AssayError: a source or a document cannot be shown.
        """
        match parts:
            case []:
                return self._overview(query.get("q", ""))
            case [name]:
                return self._source(name)
            case [name, "sample"]:
                return self._sample(name, query)
            case [name, "document"]:
                return self._document(name, query)
        return None

    # --- audit states

    def states(self) -> tuple[Mapping[str, AuditState], bool]:
        """Return every source's state by name, and whether the refresh has finished."""
        with self._lock:
            if time.monotonic() - self._refreshed >= FRESH and (self._worker is None or not self._worker.is_alive()):
                self._worker = threading.Thread(target=self._refresh, name="audits", daemon=True)
                self._worker.start()
            worker = self._worker
        if worker is not None:
            worker.join(PATIENCE)
        return self._states, worker is None or not worker.is_alive()

    def _refresh(self) -> None:
        try:
            space = self._space()
            for name in sorted(space.study.sources):
                self._states = {**self._states, name: read_audit_state(space, name, self._project)}
            self._states = {name: state for name, state in self._states.items() if name in space.study.sources}
            self._problem = ""
        except AssayError as error:
            self._problem = str(error)
        self._refreshed = time.monotonic()

    def _state(self, name: str) -> AuditState:
        states, _ = self.states()
        if name not in states:
            raise NotFound(
                self._problem or f"Source {name!r} is not declared, or its files are still being read.",
                fix="Declare the source, or reload the page.",
            )
        return states[name]

    def _masking(self, source: Source) -> Masking:
        from assay.audit.review.side_by_side import masking

        return masking(source, self._detectors())

    # --- pages

    def _overview(self, words: str) -> AuditPage:
        states, complete = self.states()
        hits = [(state, finding) for state in states.values() for finding in state.findings if _matches(finding, words)]
        values = {
            "states": states,
            "problem": self._problem,
            "complete": complete,
            "words": words,
            "hits": hits if words.strip() else [],
        }
        return AuditPage(template="audits", title="Audits", values=values, reload=not complete)

    def _source(self, name: str) -> AuditPage:
        from assay.report.site import distribution_plots

        state = self._state(name)
        mask = self._masking(state.source)
        findings = [(finding, [_mark(example, mask) for example in finding.examples]) for finding in state.findings]
        values = {
            "one": state,
            "findings": findings,
            "PARTS": PARTS,
            "contrasts": [(contrast, _first_line(contrast.phrase, mask)) for contrast in state.contrasts],
            "extremes": [
                (distribution_plots.TITLES[measure], distribution, list(_extremes(distribution, mask)))
                for measure, distribution in state.distributions.items()
                if distribution.counts
            ],
        }
        others = [other for source, other in self._states.items() if source != name]
        figures = distribution_plots.make_figures(state, others)
        return AuditPage(template="audit", title=f"Audit of {name}", values=values, figures=figures)

    def _sample(self, name: str, query: Mapping[str, str]) -> AuditPage:
        from assay.audit.review.sample import BYS, MOST, sample
        from assay.audit.review.strata_labels import read_strata

        state = self._state(name)
        count = min(MOST, max(1, _parse_integer(query.get("n"), COUNT)))
        seed = _parse_integer(query.get("seed"), 0)
        by = next((stratum for stratum in BYS if stratum == query.get("by")), BYS[0])
        labels = read_strata(self._space().store.root, name, state.digest, by)
        drawn = sample(state.source, count=count, by=by, seed=seed, strata=labels, most_bytes=SAMPLE_BYTES)
        values = {
            "one": state,
            "drawn": drawn,
            "rows": sample_rows(drawn, state, self._masking(state.source)),
            "BYS": BYS,
            "count_requested": count,
            "seed": seed,
        }
        return AuditPage(template="audit_sample", title=f"Sample of {name}", values=values)

    def _document(self, name: str, query: Mapping[str, str]) -> AuditPage:
        from assay.audit.review.safe_text import pieces
        from assay.audit.review.side_by_side import align, detect_defects, find, matches

        state, identity = self._state(name), query.get("id", "")
        document = find(state.source, identity, query.get("where"))
        hits = {
            finding.detector: (matches(document.text, example), example.note)
            for finding in state.findings
            for example in finding.examples
            if example.document == identity
        } | detect_defects(state.source, document.text)
        ranks = {finding.detector: rank for rank, finding in enumerate(state.findings)}
        names = sorted(hits, key=lambda detector: (ranks.get(detector, len(ranks)), detector))
        chosen = next((detector for detector in names if detector == query.get("finding")), names[0] if names else None)
        marks = hits[chosen][0] if chosen else ()
        both = align(state.source, document, marks, mask=self._masking(state.source))
        values = {
            "one": state,
            "both": both,
            "hits": [(detector, hits[detector][1]) for detector in names],
            "severities": {finding.detector: finding.severity for finding in state.findings},
            "chosen": chosen,
            "extracted": pieces(both.document.text, both.matches),
            "original": pieces(both.original.text),
            "raw": pieces(both.original.source),
            "lines": [(line.kind, pieces(line.text)) for line in both.lines],
            "annotations": [entry for entry in reversed(state.log.annotations) if entry.document == identity],
            "command": _annotate_command(name, identity, document.where),
        }
        return AuditPage(template="audit_document", title=f"{name}: {identity}", values=values)


def sample_rows(
    drawn: ReviewSample, state: AuditState, mask: Masking
) -> list[tuple[Any, list[Any], Mapping[str, Any]]]:
    """Return each drawn document with its excerpt and each person's latest annotation."""
    annotations = newest(state.log.annotations)
    return [
        (document, _excerpt(document.text, document.characters, mask), annotations.get(document.document, {}))
        for document in drawn.picked
    ]


def _excerpt(text: str, characters: int, mask: Masking) -> list[Any]:
    """Return the beginning of a document as display pieces.

    The last piece states the number of omitted characters.

    Args:
        text: the stored part of the document.
        characters: length of the whole document.
        mask: masks secrets.
    """
    from assay.audit.review.safe_text import Piece, pieces

    shown = text[:EXCERPT]
    omitted = characters - len(shown)
    rest = [Piece("cut", f"{omitted:,} characters are not shown")] if omitted > 0 else []
    return [*pieces(mask(shown)), *rest]


def _mark(example: Example, mask: Masking) -> tuple[Example, list[Any]]:
    from assay.audit.review.safe_text import pieces

    return example, pieces(mask(example.text), example.matches)


def _first_line(text: str, mask: Masking) -> list[Any]:
    """Return the beginning of a text as pieces."""
    from assay.audit.review.safe_text import pieces

    line = mask(text)
    return pieces(line[:LINE] + ("…" if len(line) > LINE else ""))


def _extremes(distribution: Distribution, mask: Masking) -> Iterator[tuple[str, Extreme, list[Any]]]:
    for end, extremes in (("lowest", distribution.lowest), ("highest", distribution.highest)):
        for extreme in extremes:
            yield end, extreme, _first_line(extreme.text, mask)


def _matches(finding: Finding, words: str) -> bool:
    """Return whether a finding contains every word."""
    wanted = words.lower().split()
    if not wanted:
        return False
    whole = " ".join(_texts(finding)).lower()
    return all(word in whole for word in wanted)


def _texts(finding: Finding) -> Iterator[str]:
    yield from (finding.source, finding.detector, finding.severity, finding.reason, finding.digest)
    for parts in finding.parts.values():
        yield from parts
    for example in finding.examples:
        yield from (example.document, example.where, example.text, example.note, example.url or "")


def _parse_integer(text: str | None, default: int) -> int:
    with contextlib.suppress(ValueError, TypeError):
        return int((text or "")[:12])
    return default


def _annotate_command(source: str, document: str, where: str) -> str:
    """Return the shell command that annotates a document."""
    options = ["--where", where, "--label", "bad", "--by", "YOU"]
    return shlex.join(["assay", "audit", "annotate", source, document, *options])
