"""Check the login at W&B in a separate process, because the client may wait and keeps threads."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

from assay.core.errors import Refused
from assay.report.wandb.errors import explain_problem

if TYPE_CHECKING:
    from assay.config.settings import Tracking

_QUERY = (
    "import sys, wandb; viewer = wandb.Api(timeout=int(sys.argv[1])).viewer; print(viewer.username if viewer else '')"
)


def require_login(settings: Tracking) -> str:
    """Return the name of the account that W&B's client is logged in to.

    Args:
        settings: `patience_seconds` is the maximum wait for an answer.

    Raises:
        Refused: there is no key, the server refuses it, or does not answer in time.
    """
    seconds = max(1, round(settings.patience_seconds))
    command = [sys.executable, "-c", _QUERY, str(seconds)]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=seconds + 30, check=False
        )
    except subprocess.TimeoutExpired:
        raise _refusal("the server did not answer in time.") from None
    name = done.stdout.strip().splitlines()[-1:] or [""]
    if done.returncode == 0 and name[0]:
        return name[0]
    problem = (done.stderr.strip().splitlines() or ["no account"])[-1]
    raise _refusal(explain_problem(problem))


def _refusal(problem: str) -> Refused:
    return Refused(
        f"W&B cannot be used online: {problem.rstrip('.')}.",
        fix="Run `wandb login`, or set tracking.mode=offline and upload later with `assay sync`.",
    )
