"""What past mixes say of deciding nearer to the target: at a scale in between, or at the target itself."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from assay.stats.frames import scale_key
from assay.stats.replicates import Noise, replicate_noise
from assay.stats.transfer import fit

if TYPE_CHECKING:
    import pandas as pd

    from assay.stats.target import TargetEffect


class Step(NamedTuple):
    """A scale between proxy and target.

    Attributes:
        scale: as the history has it.
        tokens: budget of its runs there; None where that is not known.
        power: chance that a verdict would rest on it, from the difference that the proxy foretells for it.
        n_mixes: past mixes that this is known from.
    """

    scale: Any
    tokens: float | None
    power: float
    n_mixes: int


def between(history: pd.DataFrame, told: TargetEffect, *, proxy_scale: Any) -> list[Step]:
    """How likely each larger scale of the history would decide, the smallest first.

    The proxy's difference foretells one at the larger scale, with the errors of past pairs (`assay.stats.transfer`); a verdict there
    asks for a difference that the history allows from there to the target. Seeds are taken to be as many as in the past.

    Args:
        history: long results of other mixes at several scales.
        told: what was foretold from the proxy, by the target's own metric.
        proxy_scale: the proxy's scale.
    """
    from scipy.special import stdtr

    near, far = scale_key(proxy_scale), scale_key(told.scale)
    if not {"scale", "mix"} <= set(history.columns) or not (isinstance(near, float) and isinstance(far, float)):
        return []
    names = {scale_key(scale): scale for scale in history["scale"].drop_duplicates()}
    found = []
    for key in sorted(key for key in names if isinstance(key, float) and near < key < far):
        means = [_means(history, told, scale) for scale in (proxy_scale, names[key])]
        target = _means(history, told, told.scale)
        both = [mix for mix in means[0] if mix in means[1]]
        onward = [mix for mix in means[1] if mix in target]
        step = fit([means[0][mix] for mix in both], [means[1][mix] for mix in both])
        rest = fit([means[1][mix] for mix in onward], [target[mix] for mix in onward])
        if step is None or rest is None or not rest.slope:
            continue
        bar = rest.interval(0.0, 1 - 2 * told.allowed).high / abs(rest.slope)
        centre, df = abs(step.slope * told.proxy_effect), step.reliability.n_mixes - 2
        power = float(stdtr(df, (centre - bar) / step.scale) + stdtr(df, (-centre - bar) / step.scale))
        found.append(Step(names[key], _budget(history, names[key]), power, min(len(both), len(onward))))
    return found


def at_target(history: pd.DataFrame, told: TargetEffect) -> tuple[float | None, Noise | None]:
    """The budget of past runs at the target, and the noise between their replicates; None where they do not show it."""
    if "scale" not in history:
        return None, None
    rows = _of(history, told, told.scale)
    return _budget(history, told.scale), replicate_noise(rows).get((told.task, told.metric))


def _of(history: pd.DataFrame, told: TargetEffect, scale: Any) -> pd.DataFrame:
    there = history["scale"].map(scale_key) == scale_key(scale)
    found: pd.DataFrame = history[there & (history["task"] == told.task) & (history["metric"] == told.metric)]
    return found.sort_values("tokens", kind="stable") if "tokens" in found else found


def _means(history: pd.DataFrame, told: TargetEffect, scale: Any) -> dict[str, float]:
    """By mix the mean of the target's metric at a scale, of each run's last checkpoint."""
    rows = _of(history, told, scale).drop_duplicates(["mix", "seed"], keep="last")
    rows = rows[np.isfinite(rows["value"].to_numpy(dtype=float))]
    return {str(mix): float(mean) for mix, mean in rows.groupby("mix")["value"].mean().items()}


def _budget(history: pd.DataFrame, scale: Any) -> float | None:
    if "tokens" not in history:
        return None
    rows = history[history["scale"].map(scale_key) == scale_key(scale)]
    last = rows.groupby(["mix", "seed"])["tokens"].max()
    median = float(last.median()) if len(last) else math.nan
    return median if math.isfinite(median) else None
