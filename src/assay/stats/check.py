"""Which metrics of a suite tell mixes apart at a proxy: above chance, signal-to-noise, rising with tokens, right about the target."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from assay.stats.frames import SCORE_KEY, Metric, scale_key
from assay.stats.history import worth_by_metric
from assay.stats.signal import FEWEST, LOSSES, Signal, Worth, by_past, from_scores, of_loss
from assay.stats.transfer import Reliability, fit

if TYPE_CHECKING:
    import pandas as pd

    from assay.suite import Target


@dataclass(frozen=True, kw_only=True)
class Checked:
    """What a metric is worth at a proxy.

    Attributes:
        task: as in the suite.
        metric: such as `acc`.
        above: whether its scores are above chance.
        worth: signal-to-noise over past mixes, and whether scores rise with tokens.
        overall: all of it together: `ok`, `no signal` or `unknown`, and why.
        accuracy: how often pairs of past mixes were ranked at the proxy as they are at the target; None where not known.
        n_runs: runs at the proxy that this rests on.
    """

    task: str
    metric: str
    above: Signal
    worth: Worth
    overall: Signal
    accuracy: Reliability | None
    n_runs: int

    def to_mapping(self) -> dict[str, Any]:
        """Plain values for JSON."""
        ratio, rises = self.worth
        return {
            "task": self.task,
            "metric": self.metric,
            "signal": self.overall.state,
            "reason": self.overall.reason,
            "above_chance": self.above._asdict(),
            "signal_to_noise": ratio._asdict() if ratio else None,
            "monotone": rises._asdict() if rises else None,
            "decision_accuracy": self.accuracy._asdict() if self.accuracy else None,
            "runs": self.n_runs,
        }


def check(
    frame: pd.DataFrame, *, proxy_scale: Any, n_seeds: int, target: Target | None = None, target_scale: Any = None
) -> list[Checked]:
    """Look at every metric of a table, the most telling first.

    Args:
        frame: long results of many mixes, `mix, seed, task, metric, value`, and where known `scale, tokens, n, chance`; with several
            token counts for runs that were looked at on their way, and other scales for the ranking at the target.
        proxy_scale: the scale to look at.
        n_seeds: replicates that a verdict will have of each mix.
        target: the metric that a ranking has to be right about; left out, each metric is compared with itself at `target_scale`.
        target_scale: the larger scale; None where there is none.
    """
    scales = frame["scale"].map(scale_key)
    near = _last(frame[scales == scale_key(proxy_scale)])
    far = _last(frame[scales == scale_key(target_scale)]) if target_scale is not None else frame[:0]
    known = worth_by_metric(frame, proxy_scale=proxy_scale, without=())
    wanted = _by_mix(far)
    found = []
    for (task, metric), rows in near.groupby(["task", "metric"], sort=False):
        name = (str(task), str(metric))
        above, worth = _above(str(metric), rows), known.get(name, Worth(None, None))
        there = wanted.get((target.task, target.metric) if target is not None else name, {})
        here = {str(mix): float(mean) for mix, mean in rows.groupby("mix")["value"].mean().items()}
        both = [mix for mix in here if mix in there]
        learnt = fit([here[mix] for mix in both], [there[mix] for mix in both])
        found.append(
            Checked(
                task=name[0],
                metric=name[1],
                above=above,
                worth=worth,
                overall=_overall(above, worth, n_seeds),
                accuracy=learnt.reliability if learnt else None,
                n_runs=len(rows),
            )
        )
    return ordered(found)


def ordered(found: Iterable[Checked]) -> list[Checked]:
    """The most telling first: what has signal, then by decision accuracy, then by signal-to-noise."""
    return sorted(found, key=_order)


def droppable(found: Sequence[Checked]) -> dict[str, str]:
    """Tasks of which no metric has signal, and why: by task."""
    tasks: dict[str, list[Checked]] = {}
    for one in found:
        tasks.setdefault(one.task, []).append(one)
    return {
        task: "; ".join(f"{one.metric}: {one.overall.reason}" for one in ones)
        for task, ones in tasks.items()
        if all(one.overall.state == "no signal" for one in ones)
    }


def _order(one: Checked) -> tuple[int, float, float, str, str]:
    states = {"ok": 0, "unknown": 1, "no signal": 2}
    accuracy = one.accuracy.accuracy if one.accuracy else 0.0
    ratio = one.worth.ratio.value if one.worth.ratio else 0.0
    return (states[one.overall.state], -accuracy, -ratio, one.task, one.metric)


def _overall(above: Signal, worth: Worth, n_seeds: int) -> Signal:
    """As the gate has it; but what too few mixes say nothing of is unknown here, not well."""
    known = by_past(above, worth, n_seeds=n_seeds)
    mixes = worth.ratio.n_mixes if worth.ratio else 0
    if known.state == "ok" and mixes < FEWEST:
        said = f"{known.reason}; {mixes} past mixes with replicates show no signal-to-noise, at least {FEWEST} do"
        return Signal("unknown", said)
    return known


def _last(rows: pd.DataFrame) -> pd.DataFrame:
    """The last checkpoint of each run."""
    rows = rows[rows["value"].notna()]
    if "tokens" in rows:
        rows = rows.sort_values("tokens", kind="stable")
    return rows.drop_duplicates(SCORE_KEY, keep="last").sort_index()


def _by_mix(rows: pd.DataFrame) -> Mapping[Metric, dict[str, float]]:
    """Mean over seeds by metric and mix."""
    return {
        (str(task), str(metric)): {str(mix): float(mean) for mix, mean in one.groupby("mix")["value"].mean().items()}
        for (task, metric), one in rows.groupby(["task", "metric"], sort=False)
    }


def _above(metric: str, rows: pd.DataFrame) -> Signal:
    if metric in LOSSES:
        return of_loss()
    chance = float(rows["chance"].max()) if "chance" in rows else math.nan
    if not math.isfinite(chance):
        return Signal("unknown", "no chance level is given to test against")
    n = rows["n"].min() if "n" in rows else math.nan
    return from_scores(rows["value"].tolist(), chance=chance, n_items=int(n) if math.isfinite(n) else None)
