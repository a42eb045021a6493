"""Why W&B could not be told, in words and with what to do; its client says it in those of its own parts."""

from __future__ import annotations

import re

NOT_TRIED = "not tried, since W&B did not take what was told before it"
"""The problem of a run that was never on its way; another one has the cause."""

_CAUSES = (
    (r"No API key configured", "there is no API key; `wandb login` asks for one."),
    (r"AuthenticationError|\berror 40[13]\b|HTTP 40[13]\b", "the API key is refused; `wandb login` takes another one."),
    (r"\berror 5\d\d\b|HTTP 5\d\d\b", "the server fails (HTTP 5xx)."),
    (
        r"connection refused|no such host|server misbehaving|unreachable|x509|tls:",
        "the server cannot be reached; WANDB_BASE_URL says where it is.",
    ),
    (r"deadline exceeded|did not answer|[Tt]imed? ?out|Timeout", "the server did not answer in time."),
)
"""What the client's messages have in them, the more telling first: a server that fails is tried until a deadline."""


def in_words(problem: str) -> str:
    """What a user reads of a problem.

    Args:
        problem: as the client raised it; what is not known is left as it is.

    >>> in_words("CommError: Failed to get resume status for run 3f67: context deadline exceeded while retrying: HTTP 500")
    'the server fails (HTTP 5xx).'
    >>> in_words("FileExistsError: [Errno 17] File exists: 'store/wandb'")
    "FileExistsError: [Errno 17] File exists: 'store/wandb'"
    """
    return next((words for pattern, words in _CAUSES if re.search(pattern, problem)), problem)
