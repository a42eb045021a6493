"""Detect page boilerplate: markup, tables of contents, pagination, menus and banners."""

from __future__ import annotations

import re

from assay.audit.detectors.document import Hit, Text

MOST = 20
"""Maximum number of reported matches per document."""
FEWEST_TAGS = 10
TAGS = 0.05
"""Minimum fraction of a document's bytes in tags and entities. Pages that teach HTML have a far smaller fraction."""
FEWEST_LINES = 5
"""Minimum number of lines of a table of contents."""
PHRASES = 4
"""Minimum number of different navigation phrases."""
BYTES_A_PHRASE = 600
"""Maximum mean bytes per navigation phrase: 100 words."""

_TAG = re.compile(
    rb"</?(?:div|span|td|tr|table|tbody|ul|ol|li|font|script|style|iframe|section|nav|br|p)\b[^<>\n]{0,300}/?>|&(?:nbsp|quot|lt|gt|amp|#\d{2,5});"
)
_CONTENTS = re.compile(rb"(?m)^[^\n]{3,100}?(?:\. ?){5,}[ \t]*\d{1,4}[ \t]*\r?$")
_PAGES = re.compile(
    rb"(?i)\bpage \d{1,4} of \d{1,4}\b|(?:\b1[\s|]+2[\s|]+3\b[\s\d|.]{0,80}(?:next|last|\xc2\xbb|\xe2\x80\xba))"
)
_NAVIGATION = re.compile(
    rb"(?i)skip to (?:main )?content|all rights reserved|privacy policy|terms of (?:use|service)|cookie (?:policy|settings|preferences)|accept (?:all )?cookies|sign (?:in|up)\b|log in\b|subscribe to our|follow us on|back to top|toggle navigation|share on (?:facebook|twitter)"
)


def markup(text: Text) -> Hit | None:
    """Detect text with a large fraction of HTML tags and entities."""
    if text.is_code or text.profile["markup"] < FEWEST_TAGS:
        return None
    if "closing tag" not in text.marks and text.data.count(b"&") < FEWEST_TAGS:
        return None
    spans = [match.span() for match in _TAG.finditer(text.data)]
    size = sum(stop - start for start, stop in spans)
    if len(spans) < FEWEST_TAGS or size < TAGS * len(text.data):
        return None
    return Hit(spans=tuple(spans[:MOST]), note=f"{len(spans)} tags")


def contents(text: Text) -> Hit | None:
    """Detect the lines of a table of contents."""
    if "dots" not in text.marks:
        return None
    spans = [match.span() for match in _CONTENTS.finditer(text.data)]
    return Hit(spans=tuple(spans[:MOST]), note=f"{len(spans)} lines") if len(spans) >= FEWEST_LINES else None


def pagination(text: Text) -> Hit | None:
    """Detect `page 3 of 12`, or page numbers with a link to the next page."""
    if "page of" not in text.marks and "pager" not in text.marks:
        return None
    spans = [match.span() for match in _PAGES.finditer(text.data)]
    return Hit(spans=tuple(spans[:MOST])) if spans else None


def navigation(text: Text) -> Hit | None:
    """Detect text with at least one distinct navigation phrase per 100 words."""
    if text.is_code or text.marks.get("navigation", 0) < PHRASES:
        return None
    phrases = [(match.span(), match[0].lower()) for match in _NAVIGATION.finditer(text.data)]
    if len({phrase for _, phrase in phrases}) < PHRASES or len(phrases) * BYTES_A_PHRASE < len(text.data):
        return None
    return Hit(spans=tuple(span for span, _ in phrases[:MOST]), note=f"{len(phrases)} phrases")
