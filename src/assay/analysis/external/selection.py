"""Select the rows of an external table to compare: one scale, last checkpoints, equal settings."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from assay.analysis.external.table import amount, scale_label
from assay.analysis.stats.checkpoint_average import average_last
from assay.analysis.stats.score_table import EVALUATION_SETTINGS
from assay.analysis.stats.tables import Metric, with_proxy_scale
from assay.core.errors import ConfigError, NotFound, Refused, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd

    from assay.config.policy import Criterion, Policy, Target

RUN = ["mix", "seed", "scale"]
NEAR = 0.25
"""Relative tolerance between a proxy's number of parameters and a policy's scale, such as `150M`.

Some counts exclude the embeddings.
"""


class Selected(NamedTuple):
    """The rows to compare.

    Attributes:
        frame: rows of all mixes at one scale, because all arms inform the noise. Each run has the rows of its last checkpoint, or
            the average over its last checkpoints if the policy requires an average.
        policy: the gate's policy, with scales spelled as in the table.
        candidates: the mixes to compare with the baseline.
        notes: sentences on the excluded rows.
        n_candidates: number of mixes other than the baseline at the scale, selected or not.
    """

    frame: pd.DataFrame
    policy: Policy
    candidates: tuple[str, ...]
    notes: tuple[str, ...]
    n_candidates: int = 1


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """The data that a verdict on external results has or lacks."""

    baseline: str
    candidate: str
    scale: str
    seeds: dict[str, list[Any]]
    """Number of seeds with results by mix."""
    shared: dict[str, int]
    """Number of seeds that both arms have, by voting `task metric`."""
    missing: tuple[str, ...]
    """Sentences that name the data that a verdict lacks; empty if a verdict is possible."""


def with_labels(policy: Policy) -> Policy:
    """Return a policy with scales spelled as in tables; keep a scale that is not a number."""
    target = policy.target
    return replace(
        policy,
        proxy_scale=None if policy.proxy_scale is None else _label(policy.proxy_scale),
        target=None if target is None else replace(target, scale=_label(target.scale)),
    )


def for_policy(frame: pd.DataFrame, policy: Policy, *, proxy: str, parameters: int) -> tuple[pd.DataFrame, Policy]:
    """Give the proxy's scale one label in the results and the policy, if both denote one scale.

    Args:
        frame: results whose runs are all of one proxy.
        policy: the policy as configured.
        proxy: the proxy's name.
        parameters: number of parameters of the proxy.
    """
    policy = with_labels(policy)
    wanted = policy.proxy_scale
    if wanted is None:
        return frame, policy
    try:
        near = abs(amount(wanted) - parameters) <= NEAR * parameters
    except ValueError:
        near = False
    return (frame.assign(scale=wanted) if near or wanted == _label(proxy) else frame), policy


def select(frame: pd.DataFrame, policy: Policy, *, baseline: str, candidate: str | None) -> Selected:
    """Select the rows of a table to compare.

    Args:
        frame: external results.
        policy: the gate's policy.
        baseline: the mix to compare with.
        candidate: the only candidate; None for every other mix at the scale.

    Raises:
        AssayError: a mix is missing, the table has several scales and the policy names none, or the arms' evaluation
            settings differ.
    """
    policy = with_labels(policy)
    at_scale = at_proxy(frame, policy)
    scale = at_scale["scale"].iloc[0]
    mixes = [str(mix) for mix in at_scale["mix"].unique()]
    for mix in (baseline, *(() if candidate is None else (candidate,))):
        if mix not in mixes:
            raise NotFound(f"no mix is named {mix!r} at {scale}. {did_you_mean(mix, mixes)}")
    candidates = tuple(mix for mix in mixes if mix != baseline) if candidate is None else (candidate,)
    if not candidates:
        raise NotFound(f"there is no mix at {scale} other than {baseline!r}.", fix="Add results of a candidate.")
    last, notes = last_checkpoints(at_scale)
    if policy.average.last > 1:
        last, notes = at_scale, ()
    require_same_settings(last, baseline=baseline, candidates=candidates)
    others, n_averaged = len(mixes) - 1, policy.average.last
    averaged = average_last(last, n_averaged, required=[baseline, *candidates])
    if averaged.excluded:
        named = ", ".join(averaged.excluded)
        notes = (
            *notes,
            f"Mixes without the last {n_averaged} checkpoints that the policy averages are excluded: {named}.",
        )
    return Selected(averaged.scores, policy, candidates, notes, others)


def at_proxy(frame: pd.DataFrame, policy: Policy) -> pd.DataFrame:
    """Return the rows of the scale to compare.

    Args:
        frame: external results.
        policy: the gate's policy, with scales spelled as in the table.

    Raises:
        AssayError: the table lacks the policy's scale, or has several and the policy names none.
    """
    return frame[frame["scale"] == _scale(frame, policy)]


def last_checkpoints(frame: pd.DataFrame) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Return the rows of each run's last checkpoint, and notes on the excluded rows."""
    last = frame[frame["tokens"] == frame.groupby(RUN)["tokens"].transform("max")]
    earlier = len(frame) - len(last)
    return last, (f"{earlier:,} rows of earlier checkpoints are excluded.",) if earlier else ()


def require_same_settings(frame: pd.DataFrame, *, baseline: str, candidates: Sequence[str]) -> None:
    """Raise an error for a candidate whose evaluation settings differ from those of the baseline.

    Different settings could explain a difference of the scores.

    Raises:
        AssayError: the versions, few-shot counts or prompts of a task are known for both arms and differ.
    """
    for column, label in EVALUATION_SETTINGS.items():
        by_mix = _settings_by_mix(frame, column) if column in frame else {}
        own = by_mix.get(baseline, {})
        for candidate in candidates:
            for place, entries in by_mix.get(candidate, {}).items():
                expected = own.get(place, entries)
                if place in own and (expected != entries or len(expected) > 1):
                    task, metric = place
                    raise Refused(
                        f"{task} {metric}: the {label} is {' and '.join(sorted(expected))} for {baseline}, but"
                        f" {' and '.join(sorted(entries))} for {candidate}.",
                        fix="Evaluate both mixes with one version of lm-eval and one configuration, and import the results.",
                    )


def _settings_by_mix(frame: pd.DataFrame, column: str) -> dict[str, dict[Metric, set[str]]]:
    """Return the distinct entries of a settings column by mix and metric; unknown entries are excluded.

    The table is read once for all candidates, so that the time does not grow with the product of rows and candidates.
    """
    known = frame.loc[frame[column].notna(), ["mix", "task", "metric", column]]
    by_mix: dict[str, dict[Metric, set[str]]] = {}
    for mix, task, metric, entry in known.drop_duplicates().sort_values(["task", "metric"]).itertuples(index=False):
        by_mix.setdefault(str(mix), {}).setdefault((str(task), str(metric)), set()).add(str(entry))
    return by_mix


def coverage(selected: Selected, *, baseline: str) -> list[Coverage]:
    """Report for each candidate whether the selected rows suffice for a verdict."""
    policy = selected.policy
    finite = selected.frame[np.isfinite(selected.frame["value"].to_numpy(dtype=float))]
    runs = {str(mix): rows["seed"].drop_duplicates().tolist() for mix, rows in finite.groupby("mix", sort=False)}
    required: list[Criterion | Target] = [*policy.primary, *policy.guardrails, *policy.part_criteria]
    if not policy.primary and policy.target is not None:
        required.append(policy.target)
    scored: dict[Metric, dict[str, set[Any]]] = {}
    for criterion in required:
        rows = finite[(finite["task"] == criterion.task) & (finite["metric"] == criterion.metric)]
        by_mix = {str(mix): set(of_mix) for mix, of_mix in rows.groupby("mix", sort=False)["seed"]}
        scored[criterion.task, criterion.metric] = by_mix
    scale = str(selected.frame["scale"].iloc[0])
    return [
        _coverage(baseline, candidate, scale=scale, min_seeds=policy.min_seeds, runs=runs, scored=scored)
        for candidate in selected.candidates
    ]


def _coverage(
    baseline: str,
    candidate: str,
    *,
    scale: str,
    min_seeds: int,
    runs: Mapping[str, list[Any]],
    scored: Mapping[Metric, Mapping[str, set[Any]]],
) -> Coverage:
    """Report whether the rows of one candidate suffice.

    Args:
        baseline: the mix to compare with.
        candidate: the changed mix.
        scale: the scale of the rows.
        min_seeds: number of seeds that the policy requires.
        runs: seeds with any score, by mix.
        scored: seeds with a score, by voting metric and mix.
    """
    arms = (baseline, candidate)
    seeds = {mix: runs.get(mix, []) for mix in arms}
    missing = [
        f"{mix} has {len(of_mix)} of the {min_seeds} seed{'s' * (min_seeds != 1)} that the policy requires."
        for mix, of_mix in seeds.items()
        if len(of_mix) < min_seeds
    ]
    shared: dict[str, int] = {}
    for metric, by_mix in scored.items():
        name, by_arm = " ".join(metric), [by_mix.get(mix, set()) for mix in arms]
        shared[name] = len(by_arm[0] & by_arm[1])
        lacking = [mix for mix, of_arm in zip(arms, by_arm, strict=True) if not of_arm]
        if lacking:
            missing.append(f"{' and '.join(lacking)} {'were' if len(lacking) > 1 else 'was'} not scored on {name}.")
    return Coverage(
        baseline=baseline, candidate=candidate, scale=scale, seeds=seeds, shared=shared, missing=tuple(missing)
    )


def _scale(frame: pd.DataFrame, policy: Policy) -> str:
    known = sorted({str(scale) for scale in frame["scale"]}, key=amount)
    policy = with_proxy_scale(policy, frame)
    if policy.proxy_scale is not None:
        if policy.proxy_scale not in known:
            raise NotFound(
                f"there are no results at the policy's proxy scale {policy.proxy_scale!r}. {did_you_mean(policy.proxy_scale, known)}"
            )
        return policy.proxy_scale
    if len(known) > 1:
        raise ConfigError(
            f"there are results at {len(known)} scales: {', '.join(known)}.",
            fix=f"Name the scale to compare: +policy.proxy_scale={known[0]}, or `proxy_scale` in the policy's file.",
        )
    return known[0]


def _label(scale: str) -> str:
    try:
        return scale_label(scale)
    except ValueError:
        return scale
