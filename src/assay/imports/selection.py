"""From an imported table to what comparing reads: one scale, the last checkpoint, the same questions for both arms."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from assay.errors import AssayError, did_you_mean
from assay.imports.table import QUESTIONS, amount, scale_label
from assay.stats.checkpoints import average_last
from assay.stats.frames import with_proxy_scale

if TYPE_CHECKING:
    import pandas as pd

    from assay.suite import Criterion, Policy, Target

RUN = ["mix", "seed", "scale"]
NEAR = 0.25
"""A proxy is the policy's `150M` if it is that within this share: some count a model's embeddings, some do not."""
WORDS = {"version": "version", "num_fewshot": "number of few-shot examples", "prompt": "prompt"}


class Selected(NamedTuple):
    """What is judged.

    Attributes:
        frame: rows of the baseline and the candidates at one scale, of each run's last checkpoint, or means over its last ones
            where the policy asks for that.
        policy: the policy, its scales written as the table writes them.
        candidates: the mixes that are measured against the baseline.
        notes: what was left out, in sentences.
    """

    frame: pd.DataFrame
    policy: Policy
    candidates: tuple[str, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """What a judgement of imported results has, and what it lacks."""

    baseline: str
    candidate: str
    scale: str
    seeds: dict[str, list[Any]]
    """By mix."""
    shared: dict[str, int]
    """Seeds that both arms have, by voting `task metric`."""
    missing: tuple[str, ...]
    """What a verdict would lack, in sentences; empty where it can be given."""


def with_labels(policy: Policy) -> Policy:
    """A policy whose scales are written as tables write them; one that is no number stays as it is."""
    target = policy.target
    return replace(
        policy,
        proxy_scale=None if policy.proxy_scale is None else _label(policy.proxy_scale),
        target=None if target is None else replace(target, scale=_label(target.scale)),
    )


def for_policy(frame: pd.DataFrame, policy: Policy, *, proxy: str, parameters: int) -> tuple[pd.DataFrame, Policy]:
    """A sweep's results and the policy, with one word for the proxy's size where both mean the same.

    Args:
        frame: results whose runs are all of one proxy.
        policy: as it is written.
        proxy: what the proxy is called.
        parameters: how many it has.
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
    """The part of a table that is judged.

    Args:
        frame: an import.
        policy: what will judge it.
        baseline: the mix to measure against.
        candidate: the only mix to judge; left out, every other one at the scale.

    Raises:
        AssayError: a mix is not there, several scales are and the policy names none, or the arms were asked different
            questions.
    """
    policy = with_labels(policy)
    there = at_proxy(frame, policy)
    scale = there["scale"].iloc[0]
    mixes = [str(mix) for mix in there["mix"].unique()]
    for mix in (baseline, *(() if candidate is None else (candidate,))):
        if mix not in mixes:
            raise AssayError(f"no mix is called {mix!r} at {scale}. {did_you_mean(mix, mixes)}")
    candidates = tuple(mix for mix in mixes if mix != baseline) if candidate is None else (candidate,)
    if not candidates:
        raise AssayError(f"there is no mix at {scale} besides {baseline!r}: nothing to judge.")
    arms = there[there["mix"].isin([baseline, *candidates])]
    last, notes = last_checkpoints(arms)
    if policy.average.last > 1:
        last, notes = arms, ()
    for name in candidates:
        require_same_questions(last, baseline=baseline, candidate=name)
    return Selected(average_last(last, policy.average.last).scores, policy, candidates, notes)


def at_proxy(frame: pd.DataFrame, policy: Policy) -> pd.DataFrame:
    """The rows of the scale that is judged.

    Args:
        frame: an import.
        policy: what will judge it, its scales written as the table writes them.

    Raises:
        AssayError: the table has not the policy's scale, or several where the policy names none.
    """
    return frame[frame["scale"] == _scale(frame, policy)]


def last_checkpoints(frame: pd.DataFrame) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """The rows of each run at its last tokens, and what was left out."""
    last = frame[frame["tokens"] == frame.groupby(RUN)["tokens"].transform("max")]
    earlier = len(frame) - len(last)
    return last, (f"{earlier:,} rows of earlier checkpoints are left out.",) if earlier else ()


def require_same_questions(frame: pd.DataFrame, *, baseline: str, candidate: str) -> None:
    """Refuse arms that were asked different things: then a difference says nothing of the mixes.

    Raises:
        AssayError: versions, few-shot numbers or prompts of a task differ, where both are known.
    """
    for column in QUESTIONS:
        if column not in frame:
            continue
        known = frame[frame[column].notna()]
        a, b = (
            known[known["mix"] == mix]
            .groupby(["task", "metric"])[column]
            .agg(lambda found: sorted({str(v) for v in found}))
            for mix in (baseline, candidate)
        )
        for place in a.index.intersection(b.index):
            if a[place] != b[place] or len(a[place]) > 1:
                task, metric = place
                raise AssayError(
                    f"{task} {metric}: {baseline} and {candidate} were not asked the same: the {WORDS[column]} is"
                    f" {' and '.join(a[place])} for {baseline}, and {' and '.join(b[place])} for {candidate}.",
                    fix="Evaluate both with one version of the harness and one configuration, and import that.",
                )


def coverage(found: Selected, *, baseline: str, candidate: str) -> Coverage:
    """Whether there is what a verdict needs."""
    policy = found.policy
    rows = {mix: found.frame[found.frame["mix"] == mix] for mix in (baseline, candidate)}
    seeds = {mix: part["seed"].drop_duplicates().tolist() for mix, part in rows.items()}
    shared: dict[str, int] = {}
    missing: list[str] = []
    for mix, there in seeds.items():
        if len(there) < policy.min_seeds:
            missing.append(f"{mix} has {len(there)} of the {policy.min_seeds} seeds that the policy asks for.")
    asked: list[Criterion | Target] = [*policy.primary, *policy.guardrails]
    if not policy.primary and policy.target is not None:
        asked.append(policy.target)
    for criterion in asked:
        name = f"{criterion.task} {criterion.metric}"
        of = [
            set(part[(part["task"] == criterion.task) & (part["metric"] == criterion.metric)]["seed"])
            for part in rows.values()
        ]
        shared[name] = len(of[0] & of[1])
        lacking = [mix for mix, there in zip(rows, of, strict=True) if not there]
        if lacking:
            missing.append(f"{' and '.join(lacking)} {'were' if len(lacking) > 1 else 'was'} not scored on {name}.")
        elif shared[name] < policy.min_seeds <= min(map(len, of)):
            missing.append(f"{name}: the arms share {shared[name]} seeds; runs are paired by seed.")
    scale = str(found.frame["scale"].iloc[0])
    return Coverage(
        baseline=baseline, candidate=candidate, scale=scale, seeds=seeds, shared=shared, missing=tuple(missing)
    )


def _scale(frame: pd.DataFrame, policy: Policy) -> str:
    known = sorted({str(scale) for scale in frame["scale"]}, key=amount)
    policy = with_proxy_scale(policy, frame)
    if policy.proxy_scale is not None:
        if policy.proxy_scale not in known:
            raise AssayError(
                f"there are no results at the policy's proxy scale {policy.proxy_scale!r}. {did_you_mean(policy.proxy_scale, known)}"
            )
        return policy.proxy_scale
    if len(known) > 1:
        raise AssayError(
            f"there are results at {len(known)} scales: {', '.join(known)}.",
            fix=f"Say which one to judge: +policy.proxy_scale={known[0]}, or `proxy_scale` in the policy's file.",
        )
    return known[0]


def _label(scale: str) -> str:
    try:
        return scale_label(scale)
    except ValueError:
        return scale
