"""Output where little can be shown: terminals and pipes whose encoding lacks our signs, and warnings, each once."""

from __future__ import annotations

import codecs
import contextlib
import io
import json
import logging
import re
import sys
from collections.abc import Iterator

HANDLER = "assay.plain"
PLAIN = {
    **dict(zip("▁▂▃▄▅▆▇█░", "_.-=+*%#.", strict=True)),
    **dict(zip("│┼─●←→◂▸", "|+-o<><>", strict=True)),
    **dict(zip("−–—…·×≤≥", "---~.x<>", strict=True)),  # noqa: RUF001  # the signs themselves
}
"""Our signs and what stands for them, of the same width, so that tables stay tables."""


@contextlib.contextmanager
def readable() -> Iterator[None]:
    """While the block lasts, no sign stops a command, and what the parts warn of is told once, on standard error."""
    codecs.register_error(HANDLER, _replaced)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=HANDLER)
    log, told = logging.getLogger("assay"), _Told()
    log.addHandler(told)
    try:
        yield
    finally:
        log.removeHandler(told)


def ascii_json(text: str) -> str:
    r"""JSON with its escapes for all that is not ASCII; it means the same.

    >>> ascii_json('{"mix": "é"}')
    '{"mix": "\\u00e9"}'
    """
    return re.sub(r"[^\x00-\x7f]", lambda sign: json.dumps(sign[0])[1:-1], text)


def _replaced(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    signs = error.object[error.start : error.end]
    plain = (PLAIN.get(sign) or sign.encode("ascii", "backslashreplace").decode("ascii") for sign in signs)
    return "".join(plain), error.end


class _Told(logging.Handler):
    """Prints a warning the first time that it comes: `status --watch` looks, and would warn, every two seconds."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._seen: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        """Print it; the traceback only of an error, which is a bug of ours."""
        from assay.cli.common import errors

        text = record.getMessage() if record.levelno < logging.ERROR else self.format(record)
        if text not in self._seen:
            self._seen.add(text)
            errors.print(f"warning: {text}", style="yellow", markup=False, soft_wrap=True)
