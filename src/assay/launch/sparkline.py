"""Sample a few losses for a sparkline from a history of any length."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING

from assay.core.log_tail import last_lines

if TYPE_CHECKING:
    from pathlib import Path

POINTS = 10


def losses(metrics: Path, points: int = POINTS) -> tuple[float, ...]:
    """Sample losses in nats per token at evenly spaced places of a run's history.

    The last value is the newest. The function reads only parts of the file, because `assay status` reads many histories
    every two seconds, each up to 100 MB.

    Args:
        metrics: the history, one JSON object per line.
        points: maximum number of losses.
    """
    samples = []
    try:
        with metrics.open("rb") as file:
            size = file.seek(0, 2)
            for i in range(points - 1):
                file.seek(size * i // (points - 1))
                if i:
                    file.readline()  # the position is inside a line
                samples.append(_loss(file.readline()))
    except OSError:
        return ()
    end = last_lines(metrics, 2)  # the last line may be truncated
    last = [loss for line in end if (loss := _loss(line)) is not None]
    return tuple(loss for loss in [*samples, *last[-1:]] if loss is not None)


def _loss(line: str | bytes) -> float | None:
    try:
        loss = json.loads(line)["loss"]
    except (ValueError, KeyError, TypeError):
        return None
    return float(loss) if isinstance(loss, (int, float)) and math.isfinite(loss) else None
