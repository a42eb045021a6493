"""What stood around a page's text and was left in it: markup, tables of contents, pagers, menus and banners."""

from __future__ import annotations

import re

from assay.audit.text import Hit, Text

MOST = 20
"""Places of a document that are kept."""
FEWEST_TAGS = 10
TAGS = 0.05
"""Share of a document's bytes: pages that teach HTML show far fewer."""
FEWEST_LINES = 5
"""Of a table of contents."""
PHRASES = 4
"""Different ones of a page's frame."""
BYTES_A_PHRASE = 600
"""Of a document that is frame in good part: 100 words."""

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
    """Tags and entities that are a good part of the text."""
    if text.is_code or text.profile["markup"] < FEWEST_TAGS:
        return None
    if "closing tag" not in text.marks and text.data.count(b"&") < FEWEST_TAGS:
        return None
    found = [match.span() for match in _TAG.finditer(text.data)]
    size = sum(stop - start for start, stop in found)
    if len(found) < FEWEST_TAGS or size < TAGS * len(text.data):
        return None
    return Hit(spans=tuple(found[:MOST]), note=f"{len(found)} tags")


def contents(text: Text) -> Hit | None:
    """Lines of a table of contents."""
    if "dots" not in text.marks:
        return None
    found = [match.span() for match in _CONTENTS.finditer(text.data)]
    return Hit(spans=tuple(found[:MOST]), note=f"{len(found)} lines") if len(found) >= FEWEST_LINES else None


def pagination(text: Text) -> Hit | None:
    """`page 3 of 12`, or the numbers of pages and a link to the next one."""
    if "page of" not in text.marks and "pager" not in text.marks:
        return None
    found = [match.span() for match in _PAGES.finditer(text.data)]
    return Hit(spans=tuple(found[:MOST])) if found else None


def navigation(text: Text) -> Hit | None:
    """Different phrases of a page's frame, one in every 100 words at least."""
    if text.is_code or text.marks.get("navigation", 0) < PHRASES:
        return None
    found = [(match.span(), match[0].lower()) for match in _NAVIGATION.finditer(text.data)]
    if len({phrase for _, phrase in found}) < PHRASES or len(found) * BYTES_A_PHRASE < len(text.data):
        return None
    return Hit(spans=tuple(span for span, _ in found[:MOST]), note=f"{len(found)} phrases")
