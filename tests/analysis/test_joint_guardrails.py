"""The joint rule: the mean of all guardrails, and a limit for each."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from assay.analysis.gate import Verdict, decide
from assay.config.policy import Criterion, Policy
from assay.config.reason import Code
from assay.core.serde import to_json

GUARDS = tuple(f"g{i}" for i in range(10))
SD = 0.01


def _policy(rule: str = "joint", *, limit: float = 3.0, margin: float = 2 * SD) -> Policy:
    return Policy(
        name="p",
        alpha=0.05,
        min_seeds=3,
        primary=(Criterion(task="gain", metric="loss", better="lower"),),
        guardrails=tuple(Criterion(task=g, metric="loss", better="lower", margin=margin) for g in GUARDS),
        guardrail_rule=rule,  # type: ignore[arg-type]
        guardrail_limit=limit,
    )


def _table(losses: dict[str, float] | None = None, *, seeds: int = 3, rng: int = 0, noise: float = SD) -> pd.DataFrame:
    """Draw losses with a huge gain on the primary metric; `losses` are in margins of two SDs."""
    random = np.random.default_rng(rng)
    added = {"gain": -100 * SD} | {task: 2 * SD * loss for task, loss in (losses or {}).items()}
    rows = [
        (
            mix,
            seed,
            task,
            "loss",
            2 + noise * random.standard_normal() + (added.get(task, 0.0) if mix == "new" else 0.0),
        )
        for mix in ("base", "new")
        for seed in range(seeds)
        for task in ("gain", *GUARDS)
    ]
    return pd.DataFrame(rows, columns=["mix", "seed", "task", "metric", "value"])


def _decide(table: pd.DataFrame, policy: Policy | None = None) -> Verdict:
    return decide(table, policy or _policy(), baseline="base", candidate="new")


def _accepted(losses: dict[str, float], policy: Policy, studies: int = 40) -> float:
    return sum(_decide(_table(losses, rng=rng), policy).decision == "ACCEPT" for rng in range(studies)) / studies


def test_ten_unchanged_guardrails_pass_jointly_and_rarely_one_by_one() -> None:
    assert _accepted({}, _policy("joint")) >= 0.75
    assert _accepted({}, _policy("each")) <= 0.05


def test_a_loss_of_one_margin_on_all_guardrails_or_of_two_on_one_is_rarely_accepted() -> None:
    assert _accepted(dict.fromkeys(GUARDS, 1.0), _policy()) <= 0.05
    assert _accepted({"g3": 2.0}, _policy()) <= 0.05


def test_a_destroyed_guardrail_is_rejected() -> None:
    assert _decide(_table({"g3": 20.0})).decision == "REJECT"


def test_the_worst_guardrail_is_named_with_its_bound() -> None:
    verdict = _decide(_table({"g3": 0.6}, noise=SD / 10))
    shown = next(reason for reason in verdict.reasons if reason.code is Code.JOINT_WITHIN_MARGIN)
    assert (verdict.decision, shown.subject) == ("ACCEPT", "g3")
    assert shown.figures["worst_loss"] == pytest.approx(0.6, abs=0.1)
    assert shown.figures["worst_loss"] < shown.figures["worst_bound"] < 1
    assert shown.figures["largest_bound"] >= shown.figures["worst_bound"]
    plain = json.loads(json.dumps(to_json(verdict), allow_nan=False))["guardrails_joint"]
    assert (plain["worst"], plain["n_guardrails"], plain["holds"]) == ("g3", 10, True)


def test_the_bound_of_a_guardrail_is_where_its_test_of_non_inferiority_has_p_alpha() -> None:
    verdict = _decide(_table())
    guard = next(c for c in verdict.comparisons if c.task == "g0")
    at_bound = replace(
        _policy("each"), guardrails=tuple(replace(c, margin=guard.loss_bound) for c in _policy().guardrails)
    )
    again = next(c for c in _decide(_table(), at_bound).comparisons if c.task == "g0")
    assert again.p_noninferior == pytest.approx(0.05)


def test_an_estimate_beyond_its_margin_is_not_accepted_although_the_mean_is_within() -> None:
    verdict = _decide(_table({"g3": 1.05}, noise=SD / 200))
    assert verdict.decision == "REJECT", "the loss is significantly beyond the margin"
    verdict = _decide(_table({"g3": 1.05}, noise=SD / 5))
    assert verdict.decision == "INCONCLUSIVE"
    assert Code.JOINT_NOT_SHOWN in {reason.code for reason in verdict.reasons}


def test_the_limit_decides_about_noisy_guardrails() -> None:
    table = _table(noise=SD)
    assert _decide(table, _policy(limit=20.0)).decision == "ACCEPT"
    assert _decide(table, _policy(limit=1.0)).decision == "INCONCLUSIVE"


def test_a_guardrail_that_is_missing_in_one_arm_prevents_an_accept() -> None:
    table = _table()
    table = table[~((table["mix"] == "new") & (table["task"] == "g2"))]
    verdict = _decide(table)
    assert verdict.decision == "INCONCLUSIVE"
    assert Code.TOO_FEW_SHARED_SEEDS in {reason.code for reason in verdict.reasons}


def test_the_mean_of_the_guardrails_uses_only_comparable_arms() -> None:
    other = [_table(rng=rng).query("mix == 'new'").assign(mix=f"o{rng}") for rng in range(1, 7)]
    table = pd.concat([_table(), *other], ignore_index=True)
    for factor, df in ((1.0, 10), (0.2, 0)):
        table["tokens"] = np.where(table["mix"].isin(["base", "new"]), 1e10, factor * 1e10)
        compared = {c.task: c for c in _decide(table).comparisons}
        assert (compared["g0"].noise_sources["sweep"] > 0) == (df > 0)
        assert compared["aggregate/guardrails"].noise_sources["sweep"] >= df
        assert (compared["aggregate/guardrails"].noise_sources["sweep"] > 0) == (df > 0)


def test_metrics_of_one_task_are_no_independent_samples_of_items() -> None:
    random = np.random.default_rng(4)
    rows, items = [], []
    for mix in ("base", "new"):
        ability = random.standard_normal(200)
        for seed in range(3):
            rows.append((mix, seed, "gain", "loss", 2 + 0.01 * random.standard_normal() - (mix == "new"), np.nan))
            answers = (ability + 0.7 * random.standard_normal(200) > -0.3).astype(float)
            for metric in ("acc", "acc_norm"):
                rows.append((mix, seed, "mmlu", metric, answers.mean(), 200))
                items += [(mix, seed, "mmlu", metric, str(i), value) for i, value in enumerate(answers)]
    table = pd.DataFrame(rows, columns=["mix", "seed", "task", "metric", "value", "n"])
    answered = pd.DataFrame(items, columns=["mix", "seed", "task", "metric", "item", "value"])
    guards = tuple(Criterion(task="mmlu", metric=m, better="higher", margin=0.02) for m in ("acc", "acc_norm"))
    verdict = decide(table, replace(_policy(), guardrails=guards), baseline="base", candidate="new", items=answered)
    single = next(c for c in verdict.comparisons if c.metric == "acc")
    mean = next(c for c in verdict.comparisons if c.task == "aggregate/guardrails")
    assert single.item_variance > 0
    assert mean.item_variance == pytest.approx(single.item_variance / 0.02**2)


def test_the_summary_counts_no_guardrail_if_the_joint_test_fails() -> None:
    held = _decide(_table()).summary.figures
    assert (held["guardrails_held"], held["guardrails"]) == (10, 10)
    verdict = _decide(_table(dict.fromkeys(GUARDS, 0.8)))
    joint = next(c for c in verdict.comparisons if c.task == "aggregate/guardrails")
    assert joint.p_claim > 0.05
    assert verdict.summary.figures["guardrails_held"] == 0


def test_the_parts_of_the_rule_that_fail_are_named() -> None:
    """The mean alone may fail, while every single guardrail is within its margin and its limit."""
    uncertain = _table(dict.fromkeys(GUARDS, 0.85), noise=SD / 5)
    # The same deviation for all guardrails in one seed makes the mean uncertain, but no estimate exceeds its margin.
    shifted = (uncertain["mix"] == "new") & (uncertain["task"] != "gain")
    uncertain.loc[shifted, "value"] += uncertain.loc[shifted, "seed"].map({0: -SD, 1: 0.0, 2: SD})
    for table, limit, failed in (
        (uncertain, 10.0, ("mean",)),
        (_table({"g3": 1.05}, noise=SD / 5), 3.0, ("estimate",)),
        (_table(noise=SD), 1.0, ("limit",)),
    ):
        verdict = _decide(table, _policy(limit=limit))
        [stated] = [reason for reason in verdict.reasons if reason.code is Code.JOINT_NOT_SHOWN]
        assert (verdict.decision, stated.figures["failed"]) == ("INCONCLUSIVE", failed)


def test_the_mean_of_the_guardrails_counts_neither_as_guardrail_nor_as_metric() -> None:
    verdict = _decide(_table({"g3": 1.05}, noise=SD / 5))
    claims = next(option.what.causes for option in verdict.options if option.kind == "seeds")
    [hold] = [claim for claim in claims if claim.code is Code.CLAIM_GUARDRAILS_HOLD]
    [regress] = [reason for reason in verdict.reasons if reason.code is Code.METRICS_REGRESS]
    assert (hold.figures["guardrails"], regress.figures["n_metrics"]) == (10, 11)
