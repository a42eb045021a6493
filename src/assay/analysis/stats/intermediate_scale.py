"""Estimate the power of a decision at an intermediate or the target scale, from past mixes."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from assay.analysis.stats.replicates import Noise, replicate_noise
from assay.analysis.stats.tables import scale_key, scale_keys
from assay.analysis.stats.transfer import fit

if TYPE_CHECKING:
    import pandas as pd

    from assay.analysis.stats.target import TargetEffect


class IntermediateScale(NamedTuple):
    """A scale between proxy and target.

    Attributes:
        scale: name of the scale or number of parameters, as spelled in the history.
        tokens: median token budget of past runs at this scale; None if unknown.
        power: probability that a comparison at this scale decides, given the difference predicted from the proxy; None
            if the history has too few mixes at the three scales, or the prediction uses other metrics.
        n_mixes: number of past mixes behind the power.
    """

    scale: Any
    tokens: float | None
    power: float | None
    n_mixes: int


def between(history: pd.DataFrame, predicted: TargetEffect, *, proxy_scale: Any) -> list[IntermediateScale]:
    """Estimate the power at each scale of the history between proxy and target, smallest first.

    The proxy's difference predicts the difference at the larger scale. The prediction errors are those of past pairs
    (`assay.analysis.stats.transfer`). A decision at the larger scale requires a difference that transfers from this
    scale to the target. The number of seeds is assumed to equal the number in the history.

    Args:
        history: long results of other mixes at several scales.
        predicted: the effect at the target.
        proxy_scale: the proxy's scale.
    """
    from scipy.special import stdtr

    near, far = scale_key(proxy_scale), scale_key(predicted.scale)
    if not {"scale", "mix"} <= set(history.columns) or not (isinstance(near, float) and isinstance(far, float)):
        return []
    names = {scale_key(scale): scale for scale in history["scale"].drop_duplicates()}
    scales = []
    for key in sorted(key for key in names if isinstance(key, float) and near < key < far):
        means = [_means(history, predicted, scale) for scale in (proxy_scale, names[key])]
        target = _means(history, predicted, predicted.scale)
        both = [mix for mix in means[0] if mix in means[1]]
        onward = [mix for mix in means[1] if mix in target]
        step = fit([means[0][mix] for mix in both], [means[1][mix] for mix in both])
        rest = fit([means[1][mix] for mix in onward], [target[mix] for mix in onward])
        power = None
        if predicted.own and step is not None and rest is not None and rest.slope and math.isfinite(predicted.effect):
            allowed = rest.allowed(predicted.alpha)
            bar = rest.smallest(1 - 2 * allowed) if allowed else math.inf
            center = abs(step.slope * predicted.proxy_effect)
            power = float(stdtr(step.df, (center - bar) / step.scale) + stdtr(step.df, (-center - bar) / step.scale))
        if onward:
            scales.append(
                IntermediateScale(names[key], _budget(history, names[key]), power, min(len(both), len(onward)))
            )
    return scales


def at_target(history: pd.DataFrame, predicted: TargetEffect) -> tuple[float | None, Noise | None]:
    """Return the budget and the replicates' noise of past runs at the target; None if unknown."""
    if "scale" not in history:
        return None, None
    rows = _rows_at(history, predicted, predicted.scale)
    return _budget(history, predicted.scale), replicate_noise(rows).get((predicted.task, predicted.metric))


def _rows_at(history: pd.DataFrame, predicted: TargetEffect, scale: Any) -> pd.DataFrame:
    at_scale = scale_keys(history["scale"]) == scale_key(scale)
    rows: pd.DataFrame = history[
        at_scale & (history["task"] == predicted.task) & (history["metric"] == predicted.metric)
    ]
    return rows.sort_values("tokens", kind="stable") if "tokens" in rows else rows


def _means(history: pd.DataFrame, predicted: TargetEffect, scale: Any) -> dict[str, float]:
    """Return each mix's mean of the target's metric at a scale, over last checkpoints."""
    rows = _rows_at(history, predicted, scale).drop_duplicates(["mix", "seed"], keep="last")
    rows = rows[np.isfinite(rows["value"].to_numpy(dtype=float))]
    return {str(mix): float(mean) for mix, mean in rows.groupby("mix")["value"].mean().items()}


def _budget(history: pd.DataFrame, scale: Any) -> float | None:
    if "tokens" not in history:
        return None
    rows = history[scale_keys(history["scale"]) == scale_key(scale)]
    last = rows.groupby(["mix", "seed"])["tokens"].max()
    median = float(last.median()) if len(last) else math.nan
    return median if math.isfinite(median) else None
