"""Suppress lm-eval's progress bars and warnings, but pass on its errors."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
from collections.abc import Iterator
from typing import Any

_LOGGERS = ("lm_eval", "datasets", "transformers", "accelerate")
_TRUNCATED = "exceeds model's maximum length"


class HarnessLog(logging.Handler):
    """Log handler that passes on errors, counts truncated inputs, and drops everything else.

    Attributes:
        truncated: number of inputs that exceeded the model's context and lost their beginning.
    """

    def __init__(self) -> None:
        super().__init__(level=logging.WARNING)
        self.truncated = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Pass on errors, count truncated inputs, and drop other records."""
        if record.levelno >= logging.ERROR:
            logging.getLogger().handle(record)
        elif _TRUNCATED in record.getMessage():
            self.truncated += 1


@contextlib.contextmanager
def capture_harness_log() -> Iterator[HarnessLog]:
    """Run lm-eval without progress bars, warnings per request, and bootstrap processes."""
    import datasets  # noqa: F401  # both packages configure their loggers at import, so import them first
    import transformers  # noqa: F401

    harness_log = HarnessLog()
    with contextlib.ExitStack() as stack:
        for name in _LOGGERS:
            stack.enter_context(_redirected(logging.getLogger(name), harness_log))
        stack.enter_context(_no_bars())
        stack.enter_context(_environment("DISABLE_MULTIPROC", "1"))
        yield harness_log


@contextlib.contextmanager
def _redirected(logger: logging.Logger, handler: logging.Handler) -> Iterator[None]:
    handlers, level, propagate = logger.handlers[:], logger.level, logger.propagate
    logger.handlers, logger.propagate = [handler], False
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.handlers, logger.propagate = handlers, propagate
        logger.setLevel(level)


@contextlib.contextmanager
def _no_bars() -> Iterator[None]:
    """Disable all tqdm bars, including those that lm-eval cannot disable."""
    from tqdm.std import tqdm  # type: ignore[import-untyped]

    shown = tqdm.__init__

    @functools.wraps(shown)
    def hidden(self: Any, *args: Any, **kwargs: Any) -> None:
        shown(self, *args, **{**kwargs, "disable": True})

    tqdm.__init__ = hidden
    try:
        yield
    finally:
        tqdm.__init__ = shown


@contextlib.contextmanager
def _environment(name: str, value: str) -> Iterator[None]:
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before
