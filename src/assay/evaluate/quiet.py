"""lm-eval without its bars and running commentary; what goes wrong still comes through."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
from collections.abc import Iterator
from typing import Any

_TALKATIVE = ("lm_eval", "datasets", "transformers", "accelerate")
_TRUNCATED = "exceeds model's maximum length"


class Commentary(logging.Handler):
    """Takes the harness's log: passes errors on, counts what matters, and drops the rest.

    Attributes:
        truncated: inputs that did not fit the model's context and lost their beginning.
    """

    def __init__(self) -> None:
        super().__init__(level=logging.WARNING)
        self.truncated = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Take one record."""
        if record.levelno >= logging.ERROR:
            logging.getLogger().handle(record)
        elif _TRUNCATED in record.getMessage():
            self.truncated += 1


@contextlib.contextmanager
def quietly() -> Iterator[Commentary]:
    """Run the harness without noise: no progress bars, no warnings for every request, no processes for bootstraps."""
    import datasets  # noqa: F401  # these two set up loggers of their own when they are imported, so they come first
    import transformers  # noqa: F401

    commentary = Commentary()
    with contextlib.ExitStack() as stack:
        for name in _TALKATIVE:
            stack.enter_context(_redirected(logging.getLogger(name), commentary))
        stack.enter_context(_no_bars())
        stack.enter_context(_environment("DISABLE_MULTIPROC", "1"))
        yield commentary


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
    """Disable every tqdm bar, also those that ask to be shown: lm-eval has no switch for some of its bars."""
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
