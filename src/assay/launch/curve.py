"""How a run's training loss fell, for a small chart: a few records out of a history of any length."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING

from assay.tails import last_lines

if TYPE_CHECKING:
    from pathlib import Path

POINTS = 10


def losses(metrics: Path, points: int = POINTS) -> tuple[float, ...]:
    """Losses at evenly spaced places of a run's history, in nats a token; the last is the last that was logged.

    The file is not read whole: a status looks at many runs every two seconds, and each may have logged 100 MB.

    Args:
        metrics: the history, a JSON object a line.
        points: how many, at most.
    """
    found = []
    try:
        with metrics.open("rb") as file:
            size = file.seek(0, 2)
            for i in range(points - 1):
                file.seek(size * i // (points - 1))
                if i:
                    file.readline()  # begun somewhere inside
                found.append(_loss(file.readline()))
    except OSError:
        return ()
    end = last_lines(metrics, 2)  # of which a kill may have cut the last
    last = [loss for line in end if (loss := _loss(line)) is not None]
    return tuple(loss for loss in [*found, *last[-1:]] if loss is not None)


def _loss(line: str | bytes) -> float | None:
    try:
        loss = json.loads(line)["loss"]
    except (ValueError, KeyError, TypeError):
        return None
    return float(loss) if isinstance(loss, (int, float)) and math.isfinite(loss) else None
