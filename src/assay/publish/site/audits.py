"""What audits found, for people who have to judge it: all sources, one source, a sample of it, a document beside its original.

Whatever a document says is a value for a template that escapes it, in pieces whose invisible characters are spelt out.
"""

from __future__ import annotations

import contextlib
import shlex
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assay.audit.findings import Findings
from assay.audit.judged import Judged, Log, newest, read, summary
from assay.errors import AssayError

if TYPE_CHECKING:
    from assay.audit.beside import Masking
    from assay.audit.contrasts import Contrast
    from assay.audit.detectors import Detector
    from assay.audit.extremes import Distribution, Extreme, Measure
    from assay.audit.findings import Audit, Example, Finding
    from assay.audit.taint import Taint
    from assay.publish.plots import Figure
    from assay.sources import Source
    from assay.workspace import Workspace

FRESH = 5.0
"""Seconds for which what is known of the sources serves everybody who asks."""
PATIENCE = 2.0
"""Seconds that an answer waits for it; hashing new files takes longer, and the page comes back then."""
PARTS = 12
"""Parts of a source that a finding lists."""
EXCERPT = 700
"""Characters of a document in a sample."""
LINE = 160
"""Characters of a phrase or of a document's beginning in a table."""
SAMPLE_BYTES = 64_000_000
"""Stored bytes that a sample in the browser reads: a second or two. `assay sample` reads all."""
COUNT = 20


@dataclass(frozen=True, kw_only=True)
class Standing:
    """How one source stands."""

    source: Source
    """Its files and originals as paths from here."""
    digest: str | None = None
    """Of the version that is there now; ``None`` where its files are not here."""
    problem: str = ""
    shown: str | None = None
    """The version whose findings are shown: the present one, or the last that was audited."""
    audit: Audit | None = None
    """The newest of that version."""
    findings: tuple[Finding, ...] = ()
    """Isolated hits last."""
    taints: tuple[Taint, ...] = ()
    waived: tuple[tuple[Taint, str], ...] = ()
    contrasts: tuple[Contrast, ...] = ()
    distributions: Mapping[Measure, Distribution] = field(default_factory=dict)
    log: Log = field(default_factory=lambda: Log(judgements=()))
    judged: Judged = field(default_factory=Judged)

    @property
    def open(self) -> tuple[Finding, ...]:
        """Findings that are more than isolated hits."""
        return tuple(one for one in self.findings if not one.isolated)

    @property
    def present(self) -> bool:
        """Whether what is shown is of the version that is there now."""
        return self.digest is not None and self.shown == self.digest

    @property
    def sampled(self) -> float | None:
        """Share of the version's documents that somebody judged."""
        return self.judged.documents / self.audit.documents if self.audit and self.audit.documents else None

    def tainting(self, detector: str) -> bool:
        """Whether this detector's finding keeps the source from being trained on."""
        return any(one.detector == detector for one in self.taints)


@dataclass(frozen=True, kw_only=True)
class Shown:
    """A page before it is made."""

    template: str
    title: str
    values: dict[str, Any]
    figures: Sequence[Figure] = ()
    reload: bool = False


def standing(space: Workspace, name: str, project: Path) -> Standing:
    """How a source stands; reads the store, the log and, where they changed, the source's files.

    Args:
        space: the project on this machine.
        name: the source's.
        project: the folder that has `audits/`.
    """
    from assay.audit import unknown

    source = located(space, name)
    digest, problem = None, ""
    try:
        digest = space.digest(name)
    except AssayError as error:
        problem = str(error).replace("\n", " ")
    kept = Findings(space.store.root)
    shown = digest
    if digest is None or space.taints.audited(digest) is None:
        shown = next(iter(reversed(kept.digests(name))), digest)
    log = read(project, name)
    if shown is None:
        return Standing(source=source, problem=problem, log=log, judged=summary(log.judgements, None))
    return Standing(
        source=source,
        digest=digest,
        problem=problem,
        shown=shown,
        audit=max(space.taints.audits(shown), key=lambda one: one.finished, default=None),
        findings=space.taints.findings(shown),
        taints=tuple(space.taints.of(source, shown)),
        waived=tuple(space.taints.waived(source, shown)),
        contrasts=tuple(unknown.contrasts(space.store.root, name, shown)),
        distributions=unknown.distributions(space.store.root, name, shown),
        log=log,
        judged=summary(log.judgements, shown),
    )


def located(space: Workspace, name: str) -> Source:
    """A source whose files and originals are paths from here."""
    source = space.source(name)
    if source.originals is None or "://" in source.originals:
        return source
    return replace(source, originals=str(space.study.paths.resolve(source.originals)))


class Audits:
    """The pages of audits; they read what is known anew every few seconds, and write nothing."""

    def __init__(
        self, space: Callable[[], Workspace], *, project: Path, detectors: Callable[[], Sequence[Detector]]
    ) -> None:
        """Pages of a project.

        Args:
            space: the project as it is configured at that moment.
            project: its folder, where judgements are kept.
            detectors: what audits look with; those of secrets decide what is masked.
        """
        self._space, self._project, self._detectors = space, project, detectors
        self._known: dict[str, Standing] = {}
        self._problem = ""
        self._looked = float("-inf")
        self._worker: threading.Thread | None = None
        self._lock = threading.Lock()

    def page(self, parts: Sequence[str], query: Mapping[str, str]) -> Shown | None:
        """The page under a path below `/audits`; ``None`` where there is none.

        Raises:
            AssayError: a source or a document cannot be shown, and why.
        """
        match parts:
            case []:
                return self._all(query.get("q", ""))
            case [name]:
                return self._source(name)
            case [name, "sample"]:
                return self._sample(name, query)
            case [name, "document"]:
                return self._document(name, query)
        return None

    # --- what is known

    def known(self) -> tuple[Mapping[str, Standing], bool]:
        """Every source by name, and whether that is all there is to know now."""
        with self._lock:
            if time.monotonic() - self._looked >= FRESH and (self._worker is None or not self._worker.is_alive()):
                self._worker = threading.Thread(target=self._look, name="audits", daemon=True)
                self._worker.start()
            worker = self._worker
        if worker is not None:
            worker.join(PATIENCE)
        return self._known, worker is None or not worker.is_alive()

    def _look(self) -> None:
        try:
            space = self._space()
            for name in sorted(space.study.sources):
                self._known = {**self._known, name: standing(space, name, self._project)}
            self._known = {name: one for name, one in self._known.items() if name in space.study.sources}
            self._problem = ""
        except AssayError as error:
            self._problem = str(error)
        self._looked = time.monotonic()

    def _of(self, name: str) -> Standing:
        known, _ = self.known()
        if name not in known:
            raise AssayError(self._problem or f"No source is called {name!r}, or it is still being looked at.")
        return known[name]

    def _masking(self, source: Source) -> Masking:
        from assay.audit.beside import masking

        return masking(source, self._detectors())

    # --- pages

    def _all(self, words: str) -> Shown:
        known, complete = self.known()
        found = [(one, finding) for one in known.values() for finding in one.findings if _has(finding, words)]
        values = {
            "standings": known,
            "problem": self._problem,
            "complete": complete,
            "words": words,
            "found": found if words.strip() else [],
        }
        return Shown(template="audits", title="Audits", values=values, reload=not complete)

    def _source(self, name: str) -> Shown:
        from assay.publish.site import spread

        one = self._of(name)
        mask = self._masking(one.source)
        shown = [(finding, [_example(example, mask) for example in finding.examples]) for finding in one.findings]
        values = {
            "one": one,
            "shown": shown,
            "PARTS": PARTS,
            "contrasts": [(each, _begun(each.phrase, mask)) for each in one.contrasts],
            "extremes": [
                (spread.TITLES[measure], found, list(_ends(found, mask)))
                for measure, found in one.distributions.items()
                if found.counts
            ],
        }
        others = [other for known, other in self._known.items() if known != name]
        return Shown(template="audit", title=f"Audit of {name}", values=values, figures=spread.figures(one, others))

    def _sample(self, name: str, query: Mapping[str, str]) -> Shown:
        from assay.audit.known import known
        from assay.audit.sample import BYS, MOST, sample

        one = self._of(name)
        count = min(MOST, max(1, _whole(query.get("n"), COUNT)))
        seed = _whole(query.get("seed"), 0)
        by = next((each for each in BYS if each == query.get("by")), BYS[0])
        before = known(self._space().store.root, name, one.digest, by)
        drawn = sample(one.source, count=count, by=by, seed=seed, known=before, most_bytes=SAMPLE_BYTES)
        mask = self._masking(one.source)
        words = newest(one.log.judgements)
        rows = [
            (each, excerpt(each.text, each.characters, mask), words.get(each.document, {})) for each in drawn.picked
        ]
        values = {"one": one, "drawn": drawn, "rows": rows, "BYS": BYS, "count_asked": count, "seed": seed}
        return Shown(template="audit_sample", title=f"Sample of {name}", values=values)

    def _document(self, name: str, query: Mapping[str, str]) -> Shown:
        from assay.audit.beside import beside, find, matches, seen
        from assay.audit.visible import pieces

        one, identity = self._of(name), query.get("id", "")
        document = find(one.source, identity, query.get("where"))
        hits = {
            finding.detector: (matches(document.text, example), example.note)
            for finding in one.findings
            for example in finding.examples
            if example.document == identity
        } | seen(one.source, document.text)
        ranks = {finding.detector: place for place, finding in enumerate(one.findings)}
        names = sorted(hits, key=lambda detector: (ranks.get(detector, len(ranks)), detector))
        chosen = next((each for each in names if each == query.get("finding")), names[0] if names else None)
        marks = hits[chosen][0] if chosen else ()
        both = beside(one.source, document, marks, mask=self._masking(one.source))
        values = {
            "one": one,
            "both": both,
            "hits": [(detector, hits[detector][1]) for detector in names],
            "severities": {finding.detector: finding.severity for finding in one.findings},
            "chosen": chosen,
            "extracted": pieces(both.document.text, both.matches),
            "original": pieces(both.original.text),
            "raw": pieces(both.original.source),
            "lines": [(line.kind, pieces(line.text)) for line in both.lines],
            "judgements": [each for each in reversed(one.log.judgements) if each.document == identity],
            "command": _command(name, identity, document.where),
        }
        return Shown(template="audit_document", title=f"{name}: {identity}", values=values)


def excerpt(text: str, characters: int, mask: Masking) -> list[Any]:
    """The beginning of a document as pieces, and what is not shown of it as one more.

    Args:
        text: what is kept of it.
        characters: that it has.
        mask: of secrets.
    """
    from assay.audit.visible import Piece, pieces

    shown = text[:EXCERPT]
    left = characters - len(shown)
    more = [Piece("cut", f"{left:,} characters are not shown")] if left > 0 else []
    return [*pieces(mask(shown)), *more]


def _example(example: Example, mask: Masking) -> tuple[Example, list[Any]]:
    from assay.audit.visible import pieces

    return example, pieces(mask(example.text), example.matches)


def _begun(text: str, mask: Masking) -> list[Any]:
    """A line of a text as pieces."""
    from assay.audit.visible import pieces

    line = mask(text)
    return pieces(line[:LINE] + ("…" if len(line) > LINE else ""))


def _ends(spread: Distribution, mask: Masking) -> Iterator[tuple[str, Extreme, list[Any]]]:
    for end, found in (("least", spread.lowest), ("most", spread.highest)):
        for one in found:
            yield end, one, _begun(one.text, mask)


def _has(finding: Finding, words: str) -> bool:
    """Whether every word is in what a finding says of itself."""
    wanted = words.lower().split()
    if not wanted:
        return False
    whole = " ".join(_said(finding)).lower()
    return all(word in whole for word in wanted)


def _said(finding: Finding) -> Iterator[str]:
    yield from (finding.source, finding.detector, finding.severity, finding.reason, finding.digest)
    for parts in finding.parts.values():
        yield from parts
    for example in finding.examples:
        yield from (example.document, example.where, example.text, example.note, example.url or "")


def _whole(text: str | None, otherwise: int) -> int:
    with contextlib.suppress(ValueError, TypeError):
        return int((text or "")[:12])
    return otherwise


def _command(source: str, document: str, where: str) -> str:
    """What to type to judge a document."""
    return shlex.join(["assay", "judge", source, document, "--where", where, "--verdict", "bad", "--by", "YOU"])
