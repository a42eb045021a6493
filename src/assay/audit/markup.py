"""What a page of HTML says, without being one: for reading beside what an extractor made of it.

Python's html.parser takes 10 s for 20 kB of `<a ` and 144 s for 80 kB (3.11.7), and originals are whatever a crawl brought
home. What is here goes over every character once, asks for nothing, and never fails.
"""

from __future__ import annotations

import html
import re

RAW = frozenset({"script", "style", "template", "iframe"})
"""What stands in these is no text; one that is never closed hides nothing."""
_CLOSES = {tag: re.compile(rf"</{tag}\b", re.IGNORECASE) for tag in RAW}
_BLOCKS = frozenset(
    """address article aside blockquote body br caption dd details dialog div dl dt fieldset figcaption figure footer form
    h1 h2 h3 h4 h5 h6 head header hr html legend li main nav ol option p pre section select summary table tbody textarea
    tfoot thead title tr ul""".split()  # noqa: SIM905  # fifty lines otherwise
)
_CELLS = frozenset({"td", "th"})
_NAME = re.compile(r"/?([a-zA-Z][a-zA-Z0-9:-]{0,40})")
_IN_TAG = re.compile(r"[>\"']")
_ENDLESS = re.compile(r"&#(?=[xX]?[0-9a-fA-F]{8})")
_SPACE = re.compile(r"[ \t\r\n\f]+")
_CHARSET = re.compile(rb"(?i)<meta[^<>]{0,300}?charset\s*=\s*[\"']?\s*([a-z0-9_:.-]{1,40})")
_ENCODINGS = re.compile(
    r"(?:utf-?(?:8|16(?:le|be)?)|us-ascii|ascii|latin-?1|iso-?8859-\d{1,2}|windows-\d{3,4}|cp\d{3,4}|koi8-[ru]|"
    r"shift_jis|sjis|euc-(?:jp|kr)|iso-2022-jp|gb(?:2312|k|18030)|big5|mac-?roman)\Z"
)
"""Those of text; Python knows others, such as `punycode`, that take hours over a megabyte."""
_MARKS = ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"))
_TAG = re.compile(r"(?i)<(?:!doctype html|html|head|body|div|p|table|pre|a|span|h[1-6])\b")


def is_markup(text: str) -> bool:
    """Whether a text seems to be HTML."""
    return _TAG.search(text[:20_000]) is not None


def decoded(data: bytes) -> tuple[str, str]:
    """Bytes as text, and the encoding they were taken for: by their mark, by what the page says, or else UTF-8."""
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            return data.decode(encoding, "replace"), encoding
    said = _CHARSET.search(data[:4096])
    name = said[1].decode("ascii").lower() if said else "utf-8"
    # A page cannot say in ASCII that it is UTF-16: what says so is UTF-8, as in browsers.
    if not _ENCODINGS.match(name) or name.startswith(("utf16", "utf-16")):
        name = "utf-8"
    try:
        return data.decode(name, "replace"), name
    except LookupError:
        return data.decode("utf-8", "replace"), "utf-8"


def as_text(page: str) -> str:
    """A page's text: blocks and rows in lines of their own, cells apart by a tab, `pre` as it is, scripts and styles left out."""
    out = _Lines()
    endless = set[str]()
    last = {quote: page.rfind(quote) for quote in "\"'>"}
    at = 0
    while at < len(page):
        start = page.find("<", at)
        out.text(page[at : start if start >= 0 else len(page)])
        if start < 0:
            break
        if page.startswith("<!--", start):
            end = page.find("-->", start + 4)
            at = end + 3 if end >= 0 else len(page)
            continue
        name = _NAME.match(page, start + 1)
        if name is None and not page.startswith(("<!", "<?", "</"), start):
            out.sign()
            at = start + 1
            continue
        if last[">"] < start:
            out.text(page[start:])
            break
        at = _end(page, start + 1, last)
        if name is not None:
            tag, closing = name[1].lower(), name[0].startswith("/")
            out.tag(tag, closing=closing)
            if tag in RAW and not closing and page[at - 2] != "/":
                closed = _CLOSES[tag].search(page, at) if tag not in endless else None
                if closed is None:
                    endless.add(tag)  # nor is any after it, and nobody looks again
                else:
                    at = closed.start()
    return out.whole()


def _end(page: str, at: int, last: dict[str, int]) -> int:
    """The place after a tag; a `>` in quotes does not end it, unless the quote never ends."""
    begun = at
    while (found := _IN_TAG.search(page, at)) is not None:
        if found[0] == ">":
            return found.end()
        if last[found[0]] <= found.start():
            break
        at = page.find(found[0], found.end()) + 1
    return max(begun, page.find(">", begun)) + 1


class _Lines:
    """Text as it is put together."""

    def __init__(self) -> None:
        self._parts: list[str] = []
        self._pre = 0

    def text(self, raw: str) -> None:
        if not raw:
            return
        # No character has a number of 8 digits, and Python takes a minute for megabytes of such that have thousands.
        said = html.unescape(_ENDLESS.sub("&amp;#", raw))
        if self._pre:
            self._parts.append(said)
            return
        said = _SPACE.sub(" ", said)
        if self._ends("\n", "\t", " "):
            said = said.lstrip(" ")
        if said:
            self._parts.append(said)

    def sign(self) -> None:
        """A `<` that begins no tag."""
        self._parts.append("<")

    def tag(self, name: str, *, closing: bool) -> None:
        if name in ("pre", "textarea"):
            self._pre = max(0, self._pre + (-1 if closing else 1))
        if name in _BLOCKS and not self._ends("\n"):
            self._parts.append("\n")
        elif name in _CELLS and not closing and not self._ends("\n"):
            self._parts.append("\t")

    def whole(self) -> str:
        lines = (line.rstrip(" \t") for line in "".join(self._parts).split("\n"))
        return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip("\n")

    def _ends(self, *marks: str) -> bool:
        return not self._parts or self._parts[-1].endswith(marks)
