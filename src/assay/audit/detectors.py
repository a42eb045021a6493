"""What an audit looks for in single documents, and how a team adds what it knows of.

A detector is a function of a document that says where the defect is, or nothing. A team's own are a regular expression in
YAML, or a function in Python that takes the text and gives the places::

    detectors:
      - {name: lorem, pattern: "(?i)lorem ipsum", reason: "filler text", severity: medium, clean: 0.001}
      - {name: shouting, function: "ours.checks:shouting", reason: "text in capitals", severity: low, clean: 0.01}
"""

# ruff: noqa: RUF001  # Russian looks like Latin

from __future__ import annotations

import importlib
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from assay.audit import gutters, words
from assay.audit.findings import Severity
from assay.errors import AssayError
from assay.sources import Source, check_name
from assay.structure import from_mapping

Span = tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class Hit:
    """A defect in one document."""

    spans: tuple[Span, ...]
    """Where, in bytes of the UTF-8 text; the first is shown. Empty for the whole document."""
    note: str = ""
    """What it is, in a few words."""


class Text:
    """A document as detectors see it; what several of them need is made once."""

    def __init__(self, text: str, source: Source) -> None:
        self.text, self.source = text, source
        self.data = text.encode()

    @cached_property
    def bytes(self) -> words.Bytes:
        """The text in UTF-8."""
        return np.frombuffer(self.data, np.uint8)

    @cached_property
    def words(self) -> tuple[words.Hashes, words.Integers]:
        """A hash of each word, and where each begins."""
        room = len(self.data) // 2 + 1
        hashes, starts = np.empty(room, np.uint64), np.empty(room, np.int64)
        count = words.words(self.bytes, words.WORD, hashes, starts)
        return hashes[:count], starts[:count]

    @cached_property
    def profile(self) -> dict[str, int]:
        """Counts of what the text is made of; see `words.PROFILE`."""
        counts = np.zeros(len(words.PROFILE), np.int64)
        words.profile(self.bytes, gutters.SIGNS, counts)
        return dict(zip(words.PROFILE, counts.tolist(), strict=True))

    @property
    def is_code(self) -> bool:
        """Whether the source is said to be code."""
        return "code" in (self.source.domain, self.source.language)


@dataclass(frozen=True, kw_only=True)
class Detector:
    """One kind of defect, and how it is seen."""

    name: str
    version: int = 1
    reason: str
    severity: Severity
    clean: float
    """Share of documents that a clean source may have."""
    look: Callable[[Text], Hit | None]
    secret: bool = False
    """Whether what it finds must never be shown whole."""


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


def masked(text: str) -> str:
    """The text with secrets and e-mail addresses masked: as long as it was, with two characters to know each by.

    >>> masked("write to jane.doe@uni.edu")
    'write to ja**************'
    """
    for pattern in (_SHOWN_SECRET, _SHOWN_ADDRESS):
        text = pattern.sub(lambda match: match[0][:2] + "*" * (len(match[0]) - 2), text)
    return text


# --- the built-in ones


def _gutter(text: Text) -> Hit | None:
    runs = gutters.find(text.data)
    if not runs:
        return None
    longest = max(runs, key=lambda run: run[4])
    ordered = [longest, *(run for run in runs if run is not longest)]
    return Hit(spans=tuple(run[:2] for run in ordered), note=f"{longest[2]} to {longest[3]}")


def _repeated_lines(text: Text) -> Hit | None:
    """A third of a document in lines that came before (the bound of Gopher's filter, arXiv 2112.11446)."""
    if len(text.data) < 1000 or text.is_code:
        return None
    counts = Counter(text.data.split(b"\n"))
    again = sum((count - 1) * len(line) for line, count in counts.items() if count > 1 and len(line) >= 20)
    if again < 0.33 * len(text.data):
        return None
    line = max((line for line in counts if len(line) >= 20), key=lambda line: counts[line] * len(line))
    first = text.data.find(line)
    second = text.data.find(line, first + len(line))
    return Hit(spans=((first, first + len(line)), (second, second + len(line))), note=f"{counts[line]} times")


REPEATED = 10
"""Words of an n-gram that is not repeated by chance."""


def _repeated_ngrams(text: Text) -> Hit | None:
    hashes, starts = text.words
    if len(hashes) < 200:
        return None
    grams = words.ngrams(hashes, REPEATED)
    room = np.empty(1 << (2 * len(grams)).bit_length(), np.uint64)
    covered, first, stop = words.repeated(grams, room, REPEATED)
    if covered < 0.5 * len(hashes):
        return None
    place = (int(starts[first]), int(starts[stop]) if stop < len(starts) else len(text.data))
    return Hit(spans=(place,), note=f"{covered / len(hashes):.0%} of the words came before")


def _near_empty(text: Text) -> Hit | None:
    size = len(text.data.strip())
    return Hit(spans=(), note=f"{size} bytes") if size < 40 else None


def _huge(text: Text) -> Hit | None:
    return Hit(spans=(), note=f"{len(text.data):,} bytes") if len(text.data) >= 5_000_000 else None


def _replacement(text: Text) -> Hit | None:
    return _literal(text, b"\xef\xbf\xbd", 1)


def _literal(text: Text, mark: bytes, least: int) -> Hit | None:
    count = text.data.count(mark)
    if count < least:
        return None
    at = text.data.find(mark)
    return Hit(spans=((at, at + len(mark)),), note=f"{count} times")


_MOJIBAKE = re.compile(
    b"\xc3\x83\xc2[\x80-\xbf]|\xc3\x82\xc2[\x80-\xbf]|\xc3\xa2\xe2\x82\xac|\xc3\xaf\xc2\xbb\xc2\xbf|(?:\xc3[\x90\x91]\xc2[\x80-\xbf]){3}"
)
"""UTF-8 that was read as Latin-1 or Windows-1252 and written again: an e with an accent as two letters, quotes as three."""


_MOJIBAKE_MARKS = (
    b"\xc3\x83\xc2",
    b"\xc3\x82\xc2",
    b"\xc3\xa2\xe2\x82\xac",
    b"\xc3\xaf\xc2\xbb",
    b"\xc3\x90\xc2",
    b"\xc3\x91\xc2",
)


def _mojibake(text: Text) -> Hit | None:
    # Searching for literals passes 1 GB/s, the expression 25 MB/s.
    if text.data.isascii() or not any(mark in text.data for mark in _MOJIBAKE_MARKS):
        return None
    found = [match.span() for match in _MOJIBAKE.finditer(text.data)]
    return Hit(spans=tuple(found[:20]), note=f"{len(found)} times") if len(found) >= 2 else None


_CONTROLS = re.compile(b"[\x00-\x08\x0e-\x1a\x1c-\x1f]|\xc2[\x80-\x84\x86-\x9f]")


def _controls(text: Text) -> Hit | None:
    count = text.profile["controls"] + text.profile["late_controls"]
    if not count:
        return None
    found = _CONTROLS.search(text.data)
    return Hit(spans=(found.span(),) if found else (), note=f"{count} times")


_TAG = re.compile(
    rb"</?(?:div|span|td|tr|table|tbody|ul|ol|li|font|script|style|iframe|section|nav|br|p)\b[^<>\n]{0,300}/?>|&(?:nbsp|quot|lt|gt|amp|#\d{2,5});"
)


def _markup(text: Text) -> Hit | None:
    """Tags are a twentieth of the text: pages that teach HTML show far fewer."""
    if text.is_code or (b"</" not in text.data and text.data.count(b"&") < 10):
        return None
    found = [match.span() for match in _TAG.finditer(text.data)]
    size = sum(stop - start for start, stop in found)
    return (
        Hit(spans=tuple(found[:20]), note=f"{len(found)} tags")
        if len(found) >= 10 and size >= 0.05 * len(text.data)
        else None
    )


def _lost_newlines(text: Text) -> Hit | None:
    """Code whose newlines are gone: hundreds of bytes a line, full of code's signs, over the whole document."""
    counts, size = text.profile, len(text.data)
    if not text.is_code or size < 1000 or counts["signs"] < 0.05 * size or size < 400 * (counts["lines"] + 1):
        return None
    return Hit(spans=(), note=f"{size // max(1, counts['lines'])} bytes a line")


_OPENS = re.compile(rb"(?m)^[^\n#]*(?:[{(]|:)[ \t]*\r?\n(?=\S)")


def _lost_indentation(text: Text) -> Hit | None:
    """Code of which no line is indented, though lines open blocks."""
    counts = text.profile
    if not text.is_code or counts["lines"] < 20 or counts["indented"] > 0.02 * counts["lines"]:
        return None
    found = [match.span() for match in _OPENS.finditer(text.data)]
    return Hit(spans=tuple(found[:5]), note=f"{len(found)} blocks") if len(found) >= 0.08 * counts["lines"] else None


_CUT = re.compile(
    r"(?i)(?:\[(?:\.\.\.|…|truncated|read more)\]|(?:read|show|view|see) more\W{0,4}|continue reading\W{0,4}|\(truncated\))\s*\Z"
)


def _truncated(text: Text) -> Hit | None:
    found = _CUT.search(text.text[-60:])
    if not found:
        return None
    start = len(text.data) - len(text.text[-60:][found.start() :].encode())
    return Hit(spans=((start, len(text.data)),))


_CONTENTS = re.compile(rb"(?m)^[^\n]{3,100}?(?:\. ?){5,}[ \t]*\d{1,4}[ \t]*\r?$")
_PAGES = re.compile(
    rb"(?i)\bpage \d{1,4} of \d{1,4}\b|(?:\b1[\s|]+2[\s|]+3\b[\s\d|.]{0,80}(?:next|last|\xc2\xbb|\xe2\x80\xba))"
)


_PAGED = (b"1 2 3", b"1\n2\n3", b"1 | 2", b"1|2|3", b"1\t2\t3", b"1\n\n2")


def _contents(text: Text) -> Hit | None:
    if b"....." not in text.data and b". . ." not in text.data:
        return None
    found = [match.span() for match in _CONTENTS.finditer(text.data)]
    return Hit(spans=tuple(found[:20]), note=f"{len(found)} lines") if len(found) >= 5 else None


def _pagination(text: Text) -> Hit | None:
    numbered = b" of " in text.data and (b"age " in text.data or b"AGE " in text.data)
    if not numbered and not any(mark in text.data for mark in _PAGED):
        return None
    found = [match.span() for match in _PAGES.finditer(text.data)]
    return Hit(spans=tuple(found[:20])) if found else None


_NAVIGATION = re.compile(
    rb"(?i)skip to (?:main )?content|all rights reserved|privacy policy|terms of (?:use|service)|cookie (?:policy|settings|preferences)|accept (?:all )?cookies|sign (?:in|up)\b|log in\b|subscribe to our|follow us on|back to top|toggle navigation|share on (?:facebook|twitter)"
)


_NAVIGATION_MARKS = (
    *(b"skip to", b"all rights reserved", b"privacy policy", b"terms of", b"cookie", b"sign in", b"sign up", b"log in"),
    *(b"subscribe to", b"follow us", b"back to top", b"toggle nav", b"share on"),
)


def _navigation(text: Text) -> Hit | None:
    """Four different phrases of a page's frame, one in every 100 words at least."""
    lowered = b"" if text.is_code else text.data.lower()
    if sum(phrase in lowered for phrase in _NAVIGATION_MARKS) < 4:
        return None
    found = [(match.span(), match[0].lower()) for match in _NAVIGATION.finditer(text.data)]
    if len({phrase for _, phrase in found}) < 4 or len(found) * 600 < len(text.data):
        return None
    return Hit(spans=tuple(span for span, _ in found[:20]), note=f"{len(found)} phrases")


_SECRETS = re.compile(
    rb"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b|\bgh[pousr]_[A-Za-z0-9]{36}\b|\bxox[abprs]-[A-Za-z0-9-]{20,}|\bAIza[0-9A-Za-z_-]{35}\b|\bsk_live_[0-9a-zA-Z]{24,}|-----BEGIN (?:RSA |EC |OPENSSH |DSA )?PRIVATE KEY-----\s+[A-Za-z0-9+/=]{20}"
)
_SECRET_MARKS = (
    *(b"AKIA", b"ASIA", b"ghp_", b"gho_", b"ghu_", b"ghs_", b"ghr_"),
    *(b"xoxa-", b"xoxb-", b"xoxp-", b"xoxr-", b"xoxs-", b"AIza", b"sk_live_", b"PRIVATE KEY-----"),
)


def _secrets(text: Text) -> Hit | None:
    if not any(mark in text.data for mark in _SECRET_MARKS):
        return None
    found = [match.span() for match in _SECRETS.finditer(text.data)]
    return Hit(spans=tuple(found[:20]), note=f"{len(found)}") if found else None


_ADDRESS = re.compile(rb"@[A-Za-z0-9-]{2,}(?:\.[A-Za-z0-9-]+)*\.[A-Za-z]{2,}\b")
_LOCAL = re.compile(rb"[A-Za-z0-9._%+-]+\Z")
_NOBODY = (b"@example.", b"@localhost", b".example", b"@domain.", b"@test.", b"@host.")


def _addresses(text: Text) -> Hit | None:
    found = []
    for match in _ADDRESS.finditer(text.data):
        local = _LOCAL.search(text.data, max(0, match.start() - 64), match.start())
        if local and not any(mark in match[0].lower() for mark in _NOBODY):
            found.append((local.start(), match.end()))
    return Hit(spans=tuple(found[:20]), note=f"{len(found)}") if found else None


_SHOWN_SECRET = re.compile(_SECRETS.pattern.decode("ascii"))
_SHOWN_ADDRESS = re.compile("[A-Za-z0-9._%+-]{1,64}" + _ADDRESS.pattern.decode("ascii"))

_STOP = {
    "en": [
        "the",
        "of",
        "and",
        "to",
        "in",
        "is",
        "that",
        "for",
        "it",
        "with",
        "as",
        "was",
        "on",
        "are",
        "be",
        "this",
        "by",
        "from",
        "at",
        "or",
    ],
    "de": [
        "der",
        "die",
        "und",
        "das",
        "ist",
        "nicht",
        "ein",
        "eine",
        "zu",
        "den",
        "von",
        "mit",
        "sich",
        "auf",
        "für",
        "dem",
        "im",
        "des",
        "auch",
    ],
    "fr": [
        "le",
        "la",
        "les",
        "et",
        "des",
        "est",
        "que",
        "une",
        "dans",
        "pour",
        "pas",
        "qui",
        "sur",
        "avec",
        "au",
        "du",
        "par",
        "ce",
        "il",
    ],
    "es": [
        "el",
        "la",
        "los",
        "que",
        "y",
        "en",
        "un",
        "una",
        "del",
        "las",
        "por",
        "con",
        "para",
        "es",
        "se",
        "no",
        "como",
        "su",
        "al",
    ],
    "it": [
        "il",
        "di",
        "che",
        "la",
        "e",
        "un",
        "una",
        "per",
        "non",
        "sono",
        "con",
        "del",
        "le",
        "della",
        "si",
        "da",
        "in",
        "è",
        "al",
    ],
    "pt": [
        "o",
        "de",
        "que",
        "e",
        "do",
        "da",
        "em",
        "um",
        "para",
        "com",
        "não",
        "uma",
        "os",
        "no",
        "se",
        "na",
        "por",
        "mais",
        "as",
    ],
    "nl": [
        "de",
        "het",
        "een",
        "van",
        "en",
        "in",
        "is",
        "dat",
        "op",
        "te",
        "zijn",
        "met",
        "voor",
        "niet",
        "aan",
        "er",
        "om",
        "ook",
        "als",
    ],
    "pl": [
        "i",
        "w",
        "na",
        "z",
        "do",
        "się",
        "nie",
        "że",
        "jest",
        "o",
        "to",
        "jak",
        "po",
        "co",
        "za",
        "od",
        "ale",
        "przez",
        "jego",
    ],
    "ru": [
        "и",
        "в",
        "не",
        "на",
        "что",
        "с",
        "по",
        "как",
        "это",
        "он",
        "к",
        "но",
        "из",
        "у",
        "за",
        "от",
        "для",
        "же",
        "бы",
    ],
}


def _language(text: Text) -> Hit | None:
    """Stop words of another language outnumber the source's own threefold, or letters are of another script."""
    own = text.source.language.lower()[:2]
    if own not in _STOP or text.is_code:
        return None
    part = text.text[:2000]
    if own != "ru" and not part.isascii():
        letters = sum(map(str.isalpha, part))
        if letters >= 200 and sum(character > "\u036f" and character.isalpha() for character in part) > 0.5 * letters:
            return Hit(spans=(), note="another script")
    found = Counter(part.lower().split())
    counts = {name: sum(found[word] for word in stop) for name, stop in _STOP.items()}
    other = max(counts, key=lambda name: counts[name])
    total = sum(found.values())
    if other != own and total >= 60 and counts[other] >= 0.12 * total and counts[other] > 3 * counts[own]:
        return Hit(spans=(), note=f"looks like {other}")
    return None


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
    _make("line_number_gutter", "high", 0.001, _gutter, "an extractor took a listing's line numbers for text: the model learns to count", version=3),
    _make("repeated_lines", "medium", 0.01, _repeated_lines, "a third or more of the text is lines that came before in it"),
    _make("repeated_ngrams", "low", 0.02, _repeated_ngrams, "half or more of the words stand in ten-word sequences that came before"),
    _make("near_empty", "low", 0.02, _near_empty, "less than 40 bytes of text: nothing is learnt from it"),
    _make("huge", "low", 0.001, _huge, "5 MB or more in one document: a dump or a log, rarely a text"),
    _make("replacement_characters", "medium", 0.005, _replacement, "U+FFFD: bytes were read in the wrong charset and are lost"),
    _make("mojibake", "high", 0.005, _mojibake, "UTF-8 read as Latin-1 or Windows-1252 and written again"),
    _make("control_characters", "medium", 0.005, _controls, "NULs and other control characters: binary data, or a wrong charset"),
    _make("markup_left", "medium", 0.01, _markup, "HTML tags and entities are a twentieth or more of the text"),
    _make("lost_newlines", "high", 0.01, _lost_newlines, "code whose newlines were lost: it cannot be run, nor learnt from"),
    _make("lost_indentation", "high", 0.01, _lost_indentation, "code of which no line is indented though lines open blocks"),
    _make("truncated", "low", 0.01, _truncated, "the text ends in `read more` or the like: it was cut"),
    _make("table_of_contents", "low", 0.02, _contents, "lines of a table of contents, with dots and page numbers"),
    _make("pagination", "low", 0.02, _pagination, "page numbers and links to the next page"),
    _make("navigation", "medium", 0.02, _navigation, "menus, cookie banners and footers of a web page"),
    _make("secrets", "high", 0.0005, _secrets, "keys and tokens that give access to something", secret=True),
    _make("email_addresses", "low", 0.05, _addresses, "e-mail addresses of people", secret=True),
    _make("wrong_language", "medium", 0.01, _language, "not the language that the source is said to be in"),
)  # fmt: skip
