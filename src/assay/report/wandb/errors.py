"""Explain errors of W&B's client, whose own messages name its internal parts."""

from __future__ import annotations

import re

NOT_TRIED = "not tried, since W&B did not accept earlier runs"
"""Problem of a run that was never sent, because the upload of an earlier run failed."""

_CAUSES = (
    (r"No API key configured", "no API key is configured; run `wandb login`."),
    (
        r"AuthenticationError|\berror 40[13]\b|HTTP 40[13]\b",
        "the API key is refused; run `wandb login` with a valid key.",
    ),
    (r"\berror 5\d\d\b|HTTP 5\d\d\b", "the server fails (HTTP 5xx)."),
    (
        r"connection refused|no such host|server misbehaving|unreachable|x509|tls:",
        "the server cannot be reached; set WANDB_BASE_URL to its address.",
    ),
    (r"deadline exceeded|did not answer|[Tt]imed? ?out|Timeout", "the server did not answer in time."),
)
"""Patterns in the client's messages, the most specific first. The client retries a failing server until a deadline."""


def explain_problem(problem: str) -> str:
    """Return the short explanation of an error of W&B's client.

    Args:
        problem: the client's message. An unknown message is returned unchanged.

    >>> explain_problem("CommError: Failed to get resume status for run 3f67: context deadline exceeded: HTTP 500")
    'the server fails (HTTP 5xx).'
    >>> explain_problem("FileExistsError: [Errno 17] File exists: 'store/wandb'")
    "FileExistsError: [Errno 17] File exists: 'store/wandb'"
    """
    return next((text for pattern, text in _CAUSES if re.search(pattern, problem)), problem)
