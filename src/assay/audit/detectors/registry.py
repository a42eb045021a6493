"""Build the built-in detectors and the detectors that a project declares.

A detector is a function of a document that returns the matches of a defect, or None. A project declares a detector in
YAML, as a regular expression or as a Python function that takes the text and returns the matches::

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

from assay.audit.detectors import boilerplate, code_listings, encoding, language, repetition, secrets
from assay.audit.detectors.document import Detector, Hit, Span, Text
from assay.audit.detectors.secrets import masked
from assay.audit.findings import Severity
from assay.config.sources import check_name
from assay.core.errors import ConfigError, NotFound
from assay.core.serde import from_mapping

__all__ = ["BUILT_IN", "Detector", "DetectorDeclaration", "Hit", "Span", "Text", "detectors", "masked"]


@dataclass(frozen=True, kw_only=True)
class DetectorDeclaration:
    """A detector of a project, declared in `conf/audit/*.yaml` as a `pattern` or a `function`."""

    name: str
    reason: str
    severity: Severity = "medium"
    clean: float = 0.001
    version: int = 1
    pattern: str | None = None
    """A regular expression to search in the text."""
    least: int = 1
    """Minimum number of matches in a document for a hit."""
    function: str | None = None
    """`module:name` of a function that takes the text and returns start and end of each match, in characters."""
    secret: bool = False

    def __post_init__(self) -> None:
        check_name("detector", self.name)
        if (self.pattern is None) == (self.function is None):
            raise ConfigError(
                f"detector {self.name!r} is invalid; expected exactly one of `pattern` and `function`.",
                fix="Keep one of the two keys.",
            )
        if not 0 <= self.clean < 1:
            raise ConfigError(
                f"detector {self.name!r}: `clean` {self.clean} is invalid; expected 0 <= clean < 1.",
                fix="Set `clean` to a number of at least 0 and below 1.",
            )

    def detector(self) -> Detector:
        """Build the detector.

        Raises:
            AssayError: the pattern is invalid, or the function cannot be imported.
        """
        find_matches = self._compile_pattern() if self.pattern is not None else self._import_function()

        def detect(text: Text) -> Hit | None:
            spans = tuple(find_matches(text.text))
            return Hit(spans=_in_bytes(text.text, spans[:100])) if len(spans) >= self.least and spans else None

        return Detector(
            name=self.name,
            version=self.version,
            reason=self.reason,
            severity=self.severity,
            clean=self.clean,
            detect=detect,
            secret=self.secret,
        )

    def _compile_pattern(self) -> Callable[[str], Iterable[Span]]:
        try:
            compiled = re.compile(self.pattern or "")
        except re.error as error:
            raise ConfigError(
                f"detector {self.name!r}: `pattern` {self.pattern!r} is invalid: {error}.",
                fix="Write a regular expression of Python's `re` module.",
            ) from None
        if compiled.search(""):
            raise ConfigError(
                f"detector {self.name!r}: `pattern` {self.pattern!r} is invalid, because it matches the empty string "
                "and therefore every document.",
                fix="Require at least one character, such as `+` instead of `*`.",
            )
        return lambda text: (match.span() for match in compiled.finditer(text))

    def _import_function(self) -> Callable[[str], Iterable[Span]]:
        module, _, name = (self.function or "").partition(":")
        try:
            function: Callable[[str], Iterable[Span]] = getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError, ValueError) as error:
            raise ConfigError(
                f"detector {self.name!r}: {self.function!r} cannot be imported: {error}.",
                fix="Write `module:function`, and make sure that Python can import the module.",
            ) from None
        return function


def _in_bytes(text: str, spans: Sequence[Span]) -> tuple[Span, ...]:
    return tuple((len(text[:start].encode()), len(text[:stop].encode())) for start, stop in spans)


def detectors(declared: Iterable[Mapping[str, Any]] = (), *, without: Iterable[str] = ()) -> list[Detector]:
    """Return the built-in and the declared detectors.

    A declared detector replaces the built-in detector of the same name.

    Raises:
        AssayError: a declaration is invalid, or `without` has an unknown name.
    """
    chosen = {detector.name: detector for detector in BUILT_IN}
    for body in declared:
        declaration = from_mapping(DetectorDeclaration, body, where=f"detector {body.get('name', '?')!r}")
        chosen[declaration.name] = declaration.detector()
    for name in without:
        if name not in chosen:
            raise NotFound(f"detector {name!r} does not exist.", fix=f"Choose one of {', '.join(sorted(chosen))}.")
        del chosen[name]
    return list(chosen.values())


# --- built-in detectors


def _make(
    name: str,
    severity: Severity,
    clean: float,
    detect: Callable[[Text], Hit | None],
    reason: str,
    *,
    secret: bool = False,
    version: int = 1,
) -> Detector:
    return Detector(
        name=name, version=version, severity=severity, clean=clean, detect=detect, reason=reason, secret=secret
    )


BUILT_IN: tuple[Detector, ...] = (
    _make("line_number_gutter", "high", 0.001, code_listings.line_number_gutter, "line numbers of a code block in the text: the model learns to count", version=5),
    _make("repeated_lines", "medium", 0.01, repetition.lines, "a third or more of the text is repeated lines"),
    _make("repeated_ngrams", "low", 0.02, repetition.ngrams, "half or more of the words are in repeated ten-word sequences"),
    _make("near_empty", "low", 0.02, encoding.near_empty, "less than 40 bytes of text: the model learns nothing from it"),
    _make("huge", "low", 0.001, encoding.huge, "5 MB or more in one document: a dump or a log, rarely a text"),
    _make("replacement_characters", "medium", 0.005, encoding.replacement, "U+FFFD: bytes were decoded with the wrong charset and are lost"),
    _make("mojibake", "high", 0.005, encoding.mojibake, "UTF-8 decoded as Latin-1 or Windows-1252 and encoded again"),
    _make("control_characters", "medium", 0.005, encoding.controls, "NULs and other control characters: binary data, or a wrong charset"),
    _make("markup_left", "medium", 0.01, boilerplate.markup, "HTML tags and entities are a twentieth or more of the text"),
    _make("lost_newlines", "high", 0.01, code_listings.lost_newlines, "code without line ends: it can neither be run nor learned from"),
    _make("lost_indentation", "high", 0.01, code_listings.lost_indentation, "code without indentation whose lines open blocks"),
    _make("truncated", "low", 0.01, encoding.truncated, "the text ends in `read more` or similar: it was truncated"),
    _make("table_of_contents", "low", 0.02, boilerplate.contents, "lines of a table of contents, with dots and page numbers"),
    _make("pagination", "low", 0.02, boilerplate.pagination, "page numbers and links to the next page", version=2),
    _make("navigation", "medium", 0.02, boilerplate.navigation, "menus, cookie banners and footers of a web page"),
    _make("secrets", "high", 0.0005, secrets.keys, "API keys, access tokens and private keys", version=2, secret=True),
    _make("email_addresses", "low", 0.05, secrets.addresses, "e-mail addresses of persons", secret=True),
    _make("wrong_language", "medium", 0.01, language.wrong, "another language than the source declares"),
)  # fmt: skip
