"""How often a string stands in a source, and where."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from assay.audit.detectors import Hit
from assay.audit.examine import example
from assay.audit.findings import Example
from assay.corpus.read import Look, documents, size_of
from assay.errors import AssayError
from assay.sources import Source

EXAMPLES = 5


@dataclass(frozen=True, kw_only=True)
class Count:
    """How often a string stands in a source."""

    documents: int
    """That have it."""
    of: int
    occurrences: int
    examples: tuple[Example, ...]
    unread: int
    """Places that could not be read."""

    @property
    def share(self) -> float:
        """Share of the source's documents that have it."""
        return self.documents / max(1, self.of)


_SPACE = rb"(?:\s|\xc2\xa0)+"  # C2 A0 is a no-break space


def pattern(text: str, *, exact: bool) -> re.Pattern[bytes]:
    r"""What a text is found by: its words with any white space between them, or every character as it stands.

    >>> bool(pattern("1 2 3", exact=False).search(b"  1\n  2\n  3\n")), bool(pattern("1 2 3", exact=False).search(b"11 2 34"))
    (True, False)
    """
    if exact or not text.split():
        return re.compile(re.escape(text.encode()))
    words = [re.escape(word.encode()) for word in text.split()]
    # At its ends a word is whole: `1 2` is not in `11 23`. Between signs, as in `x = 1;`, there is nothing to be whole.
    begin = rb"(?<!\w)" if text.split(maxsplit=1)[0][0].isalnum() else b""
    end = rb"(?!\w)" if text.rsplit(maxsplit=1)[-1][-1].isalnum() else b""
    return re.compile(begin + _SPACE.join(words) + end)


def count(source: Source, text: str, *, progress: Callable[[float], None], exact: bool = False) -> Count:
    """Count an n-gram of words in a source; case matters.

    Args:
        source: where to look.
        text: what to look for.
        exact: whether spaces and line ends have to be those of the text, too.
        progress: told the share of the source that was read.
    """
    wanted, words = pattern(text, exact=exact), [text.encode()] if exact else text.encode().split()
    total, read = max(1, size_of(source)), 0
    unread: list[AssayError] = []

    def tell(size: int) -> None:
        nonlocal read
        read += size
        progress(min(0.99, read / total))

    having = occurrences = of = 0
    examples: list[Example] = []
    for document in documents(source, progress=tell, look=Look(unread=unread.append)):
        of += 1
        data = document.text.encode()
        if not all(word in data for word in words):  # 4 GB/s, where the pattern takes 90 MB/s
            continue
        spans = [found.span() for found in wanted.finditer(data)]
        if not spans:
            continue
        having += 1
        occurrences += len(spans)
        if len(examples) < EXAMPLES:
            examples.append(example(Hit(spans=(spans[0],)), document, data))
    progress(1.0)
    return Count(documents=having, of=of, occurrences=occurrences, examples=tuple(examples), unread=len(unread))
