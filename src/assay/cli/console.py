"""Print to terminals and pipes of any encoding, print JSON, and print each warning once."""

from __future__ import annotations

import codecs
import contextlib
import io
import json
import logging
import os
import re
import sys
from collections.abc import Iterator
from typing import Any

from rich.console import Console, ConsoleDimensions

from assay.core.files import json_text

HANDLER = "assay.plain"
PLAIN = {
    **dict(zip("▁▂▃▄▅▆▇█░", "_.-=+*%#.", strict=True)),
    **dict(zip("│┼─●←→◂▸", "|+-o<><>", strict=True)),
    **dict(zip("−–—…·×≤≥", "---~.x<>", strict=True)),  # noqa: RUF001  # the signs themselves
}
"""Characters and their replacements of the same width, which keep tables aligned."""


@contextlib.contextmanager
def readable() -> Iterator[None]:
    """Replace characters that a stream cannot encode, and print each logged warning once, on standard error."""
    codecs.register_error(HANDLER, _replace_characters)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=HANDLER)
    log, handler = logging.getLogger("assay"), _WarningHandler()
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)


def visible(text: str) -> str:
    r"""Escape control characters, which could change the terminal. Line ends and tabs remain.

    >>> visible("a\x1b[31m\n")
    'a\\x1b[31m\n'
    """
    return re.sub(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", lambda character: f"\\x{ord(character[0]):02x}", text)


def print_json(value: Any) -> None:
    """Print plain values as JSON on standard output; not-a-number becomes null."""
    from assay.report.reason_text import to_json

    text = json_text(to_json(value))
    utf8 = (sys.stdout.encoding or "utf-8").lower().startswith("utf")
    sys.stdout.write(text if utf8 else ascii_json(text))


def ascii_json(text: str) -> str:
    r"""Escape everything in JSON that is not ASCII.

    >>> ascii_json('{"mix": "é"}')
    '{"mix": "\\u00e9"}'
    """
    return re.sub(r"[^\x00-\x7f]", lambda character: json.dumps(character[0])[1:-1], text)


def _replace_characters(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    characters = error.object[error.start : error.end]
    plain = (
        PLAIN.get(character) or character.encode("ascii", "backslashreplace").decode("ascii")
        for character in characters
    )
    return "".join(plain), error.end


class _WarningHandler(logging.Handler):
    """Prints each warning once: `status --watch` would repeat it every two seconds."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._seen: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        """Print the message, with its traceback only for an error, which is a bug in assay."""
        text = record.getMessage() if record.levelno < logging.ERROR else self.format(record)
        if text not in self._seen:
            self._seen.add(text)
            errors.print(f"warning: {visible(text)}", style="yellow", markup=False, soft_wrap=True)


PIPED = 80
"""Number of columns if standard output is not a terminal and COLUMNS is not set."""


class _Output(Console):
    """A console with its own terminal's width, or a fixed width in a pipe. rich uses the width of another stream."""

    @property  # type: ignore[misc]  # read-only here
    def size(self) -> ConsoleDimensions:
        """Return columns and lines."""
        if self.is_terminal or "COLUMNS" in os.environ:
            return super().size
        return ConsoleDimensions(PIPED, 25)


console = _Output(highlight=False)


errors = _Output(stderr=True, highlight=False)
