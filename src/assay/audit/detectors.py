"""What an audit looks for in single documents, and how a team adds what it knows of.

A detector is a function of a document that says where the defect is, or nothing. A team's own are a regular expression in
YAML, or a function in Python that takes the text and gives the places::

    detectors:
      - {name: lorem, pattern: "(?i)lorem ipsum", reason: "filler text", severity: medium, clean: 0.001}
      - {name: shouting, function: "ours.checks:shouting", reason: "text in capitals", severity: low, clean: 0.01}
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from assay.audit import damage, frames, language, listings, repeats, secrets
from assay.audit.findings import Severity
from assay.audit.secrets import masked
from assay.audit.text import Detector, Hit, Span, Text
from assay.errors import AssayError
from assay.sources import check_name
from assay.structure import from_mapping

__all__ = ["BUILT_IN", "Declared", "Detector", "Hit", "Span", "Text", "detectors", "masked"]


@dataclass(frozen=True, kw_only=True)
class Declared:
    """A team's own detector as `conf/audit/*.yaml` has it: a `pattern`, or a `function`."""

    name: str
    reason: str
    severity: Severity = "medium"
    clean: float = 0.001
    version: int = 1
    pattern: str | None = None
    """A regular expression, over the text."""
    least: int = 1
    """Matches that a document has to have."""
    function: str | None = None
    """`module:name` of a function that takes the text and gives begin and end, in characters, of each place."""
    secret: bool = False

    def __post_init__(self) -> None:
        check_name("detector", self.name)
        if (self.pattern is None) == (self.function is None):
            raise AssayError(f"detector {self.name!r}: give exactly one of `pattern` and `function`.")
        if not 0 <= self.clean < 1:
            raise AssayError(f"detector {self.name!r}: clean is {self.clean}.", fix="It is a share: 0 to below 1.")

    def detector(self) -> Detector:
        """The detector, ready to look.

        Raises:
            AssayError: the pattern is none, or the function cannot be imported.
        """
        places = self._matching() if self.pattern is not None else self._imported()

        def look(text: Text) -> Hit | None:
            found = tuple(places(text.text))
            return Hit(spans=_in_bytes(text.text, found[:100])) if len(found) >= self.least and found else None

        return Detector(
            name=self.name,
            version=self.version,
            reason=self.reason,
            severity=self.severity,
            clean=self.clean,
            look=look,
            secret=self.secret,
        )

    def _matching(self) -> Callable[[str], Iterable[Span]]:
        try:
            compiled = re.compile(self.pattern or "")
        except re.error as error:
            raise AssayError(f"detector {self.name!r}: {self.pattern!r} is no regular expression: {error}.") from None
        if compiled.search(""):
            raise AssayError(
                f"detector {self.name!r}: {self.pattern!r} matches nothing at all, too, and so every document.",
                fix="Ask for one character at least: `+` for `*`.",
            )
        return lambda text: (match.span() for match in compiled.finditer(text))

    def _imported(self) -> Callable[[str], Iterable[Span]]:
        module, _, name = (self.function or "").partition(":")
        try:
            function: Callable[[str], Iterable[Span]] = getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError, ValueError) as error:
            raise AssayError(
                f"detector {self.name!r}: {self.function!r} cannot be imported: {error}.",
                fix="Write it as `module:function`, with the module where Python finds it.",
            ) from None
        return function


def _in_bytes(text: str, spans: Sequence[Span]) -> tuple[Span, ...]:
    return tuple((len(text[:start].encode()), len(text[:stop].encode())) for start, stop in spans)


def detectors(declared: Iterable[Mapping[str, Any]] = (), *, without: Iterable[str] = ()) -> list[Detector]:
    """The detectors of an audit: the built-in ones, and a team's own, which take the place of those of the same name.

    Raises:
        AssayError: a declaration is wrong, or `without` names none.
    """
    chosen = {detector.name: detector for detector in BUILT_IN}
    for body in declared:
        own = from_mapping(Declared, body, where=f"detector {body.get('name', '?')!r}")
        chosen[own.name] = own.detector()
    for name in without:
        if name not in chosen:
            raise AssayError(f"no detector is called {name!r}.", fix=f"There are {', '.join(sorted(chosen))}.")
        del chosen[name]
    return list(chosen.values())


# --- the built-in ones


def _make(
    name: str,
    severity: Severity,
    clean: float,
    look: Callable[[Text], Hit | None],
    reason: str,
    *,
    secret: bool = False,
    version: int = 1,
) -> Detector:
    return Detector(name=name, version=version, severity=severity, clean=clean, look=look, reason=reason, secret=secret)


BUILT_IN: tuple[Detector, ...] = (
    _make("line_number_gutter", "high", 0.001, listings.gutter, "an extractor took a listing's line numbers for text: the model learns to count", version=4),
    _make("repeated_lines", "medium", 0.01, repeats.lines, "a third or more of the text is lines that came before in it"),
    _make("repeated_ngrams", "low", 0.02, repeats.ngrams, "half or more of the words stand in ten-word sequences that came before"),
    _make("near_empty", "low", 0.02, damage.near_empty, "less than 40 bytes of text: nothing is learnt from it"),
    _make("huge", "low", 0.001, damage.huge, "5 MB or more in one document: a dump or a log, rarely a text"),
    _make("replacement_characters", "medium", 0.005, damage.replacement, "U+FFFD: bytes were read in the wrong charset and are lost"),
    _make("mojibake", "high", 0.005, damage.mojibake, "UTF-8 read as Latin-1 or Windows-1252 and written again"),
    _make("control_characters", "medium", 0.005, damage.controls, "NULs and other control characters: binary data, or a wrong charset"),
    _make("markup_left", "medium", 0.01, frames.markup, "HTML tags and entities are a twentieth or more of the text"),
    _make("lost_newlines", "high", 0.01, listings.lost_newlines, "code whose newlines were lost: it cannot be run, nor learnt from"),
    _make("lost_indentation", "high", 0.01, listings.lost_indentation, "code of which no line is indented though lines open blocks"),
    _make("truncated", "low", 0.01, damage.truncated, "the text ends in `read more` or the like: it was cut"),
    _make("table_of_contents", "low", 0.02, frames.contents, "lines of a table of contents, with dots and page numbers"),
    _make("pagination", "low", 0.02, frames.pagination, "page numbers and links to the next page", version=2),
    _make("navigation", "medium", 0.02, frames.navigation, "menus, cookie banners and footers of a web page"),
    _make("secrets", "high", 0.0005, secrets.keys, "keys and tokens that give access to something", version=2, secret=True),
    _make("email_addresses", "low", 0.05, secrets.addresses, "e-mail addresses of people", secret=True),
    _make("wrong_language", "medium", 0.01, language.wrong, "not the language that the source is said to be in"),
)  # fmt: skip
