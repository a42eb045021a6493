"""Directions of improvement come from the policy, else from the registry; without a direction, no claim is made."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from assay.analysis.breakdowns import average_ranks, by_part
from assay.analysis.compare import compare
from assay.analysis.comparison import Comparison
from assay.analysis.gate import Verdict, decide
from assay.analysis.stats.history import HistoryTable, past_signal_by_metric
from assay.config.policy import Criterion, Policy, Target
from assay.config.reason import Code
from assay.core.errors import ConfigError
from assay.report import formatting
from assay.report.terminal.verdict import chart
from tests.helpers.reasons import all_codes, first

NOISE = np.array([-0.002, 0.0006, 0.0014])
LOSSES = (
    "perplexity", "word_perplexity,none", "bits_per_byte", "bpb", "BPB", "bits-per-byte", "nll", "nll_per_char", "loss",
    "val_loss", "ppl", "brier_score", "cross_entropy",
)  # fmt: skip


def rows(mix: str, score: float, task: str, metric: str, *, seeds: int = 3, **columns: Any) -> list[dict]:
    noise = (1 if mix == "base" else -1) * NOISE
    named = {"task": task, "metric": metric, **columns}
    return [{"mix": mix, "seed": seed, "value": score + noise[seed], **named} for seed in range(seeds)]


def both(base: float, new: float, task: str, metric: str, **columns: Any) -> list[dict]:
    return [*rows("base", base, task, metric, **columns), *rows("new", new, task, metric, **columns)]


def policy(*primary: Criterion, **fields: Any) -> Policy:
    primary = primary or (Criterion(task="held", metric="bits_per_byte", better="lower"),)
    return Policy(name="p", alpha=0.05, min_seeds=3, primary=primary, **fields)


HELD = both(1.0, 0.9, "held", "bits_per_byte")


def compared(table: list[dict], rule: Policy) -> dict[str, Comparison]:
    return {c.metric: c for c in compare(pd.DataFrame(table), rule, baseline="base")}


def decided(table: list[dict], rule: Policy, **more: Any) -> Verdict:
    return decide(pd.DataFrame(table), rule, baseline="base", candidate="new", **more)


# --- policy


@pytest.mark.parametrize("metric", LOSSES)
def test_a_known_loss_cannot_be_better_if_higher(metric: str) -> None:
    message = f"t {metric} is invalid; expected `lower`, because the metric is a loss"
    with pytest.raises(ConfigError, match=message):
        Criterion(task="t", metric=metric, better="higher")
    with pytest.raises(ConfigError, match=message):
        Target(scale="1B", task="t", metric=metric, better="higher")
    with pytest.raises(ConfigError, match=message):
        policy(directions={f"t {metric}": "higher"})
    assert Criterion(task="t", metric=metric, better="lower").better == "lower"


def test_an_accuracy_may_be_declared_lower_which_the_verdict_states() -> None:
    toxic = Criterion(task="toxigen", metric="acc", better="lower", margin=0.01)
    columns = {"n": 10_000, "chance": 0.1}
    for new, decision in ((0.5, "REJECT"), (0.3, "ACCEPT")):
        verdict = decided([*HELD, *both(0.4, new, "toxigen", "acc", **columns)], policy(guardrails=(toxic,)))
        assert verdict.decision == decision
        stated = first(verdict.reasons, Code.DIRECTION_UNUSUAL)
        assert (stated.name, stated.figures) == ("toxigen acc", {"better": "lower"})
    assert Code.DIRECTION_UNUSUAL not in all_codes(decided(HELD, policy()).reasons)


@pytest.mark.parametrize(
    ("directions", "message"),
    [
        ({"a b c": "lower"}, "the key 'a b c' of `directions` is invalid"),
        ({"": "lower"}, "the key '' of `directions` is invalid"),
        ({"toxicity": "down"}, "down"),
        ({"harm score": "higher"}, "direction `lower` of harm score is invalid; expected the other direction"),
        ({"score": "higher"}, "direction `lower` of harm score is invalid; expected the other direction"),
    ],
)
def test_invalid_or_contradictory_directions_are_refused(
    tmp_path: Path, directions: dict[str, str], message: str
) -> None:
    path = tmp_path / "p.yaml"
    path.write_text(
        "alpha: 0.05\nmin_seeds: 3\nprimary: [{task: harm, metric: score, better: lower}]\n"
        f"directions: {directions!r}\n"
    )
    with pytest.raises(ConfigError, match=message):
        Policy.from_yaml(path)


def test_a_target_contradicts_no_criterion() -> None:
    target = Target(scale="1B", task="harm", metric="score", better="higher")
    with pytest.raises(ConfigError, match="direction `higher` of harm score is invalid"):
        policy(Criterion(task="harm", metric="score", better="lower"), target=target)


def test_the_direction_of_one_task_precedes_that_of_all_tasks(tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    path.write_text(
        "alpha: 0.05\nmin_seeds: 3\nprimary: [{task: t, metric: acc, better: higher}]\n"
        "directions: {toxicity: lower, kind toxicity: higher, acc: higher}\n"
    )
    rule = Policy.from_yaml(path)
    assert rule.direction("other", "toxicity,none") == "lower"
    assert rule.direction("kind", "toxicity") == "higher"
    assert rule.direction("other", "perplexity,none") == "lower"
    assert rule.direction("other", "helpfulness") is None


# --- comparisons


def test_monitors_use_the_registry_also_with_filters() -> None:
    table = [*HELD, *both(9.0, 8.0, "wiki", "perplexity,none"), *both(0.9, 0.8, "wiki", "bpb")]
    measured = compared(table, policy())
    assert {c.better for c in measured.values()} == {"lower"}
    assert measured["perplexity,none"].gain == pytest.approx(1.0, abs=0.01)


def test_a_monitor_of_unknown_direction_makes_no_claim() -> None:
    table = [*HELD, *both(0.9, 0.2, "rated", "helpfulness")]
    c = compared(table, policy())["helpfulness"]
    assert c.better is None
    assert math.isnan(c.gain)
    assert formatting.change(c) == "lower"
    assert not any(mark in chart(c, 1.0) for mark in "●─")
    verdict = decided(table, policy())
    assert verdict.decision == "ACCEPT"
    assert verdict.regressed == ()
    assert verdict.worst is not None
    assert verdict.worst.metric == "bits_per_byte"
    assert Code.METRICS_REGRESS not in all_codes(verdict.reasons)
    assert first(verdict.reasons, Code.DIRECTION_UNKNOWN).figures == {
        "metrics": ({"task": "rated", "metric": "helpfulness"},)
    }


def test_a_declared_direction_makes_a_claim() -> None:
    table = [*HELD, *both(0.9, 0.2, "rated", "helpfulness")]
    verdict = decided(table, policy(directions={"helpfulness": "higher"}))
    assert [c.metric for c in verdict.regressed] == ["helpfulness"]
    assert Code.DIRECTION_UNKNOWN not in all_codes(verdict.reasons)
    assert decided(table, policy(directions={"rated helpfulness": "lower"})).regressed == ()


def test_a_direction_that_matches_no_compared_metric_is_stated() -> None:
    table = [*HELD, *both(0.9, 0.2, "rated", "helpfulness"), *both(9.0, 8.0, "wiki", "perplexity,none")]
    used = {"helpfulness": "higher", "wiki perplexity": "lower", "held bits_per_byte": "lower"}
    stated = first(decided(table, policy(directions=used | {"nosuch": "higher"})).reasons, Code.DIRECTIONS_UNUSED)
    assert stated.figures == {"keys": ("nosuch",)}
    assert Code.DIRECTIONS_UNUSED not in all_codes(decided(table, policy(directions=used)).reasons)


@pytest.mark.parametrize("seeds", [0, -1, 1001, int(1e30)])
def test_a_number_of_seeds_that_no_study_has_is_refused(seeds: int) -> None:
    with pytest.raises(ConfigError, match=r"`min_seeds` \S+ is invalid; expected a whole number from 1 to 1000"):
        replace(policy(), min_seeds=seeds)


def test_average_ranks_name_metrics_without_a_direction() -> None:
    table = [*HELD, *both(0.9, 0.2, "rated", "helpfulness")]
    frame = pd.DataFrame(table)
    ranks = average_ranks(frame, compare(frame, policy(), baseline="base"), mixes=["base", "new"])
    assert ranks.metrics == ("held bits_per_byte",)
    assert "direction is unknown: rated helpfulness" in ranks.note
    assert ranks.ranks[0].mix == "new"


def test_parts_of_a_task_have_the_direction_of_the_task() -> None:
    columns = {"n": 1000, "chance": 0.1}
    table = pd.DataFrame(
        [*HELD, *both(0.4, 0.5, "toxigen", "acc", **columns), *both(0.4, 0.5, "toxigen_a", "acc", **columns)]
    )
    rule = policy(guardrails=(Criterion(task="toxigen", metric="acc", better="lower", margin=0.01),))
    items = pd.DataFrame(columns=["mix", "seed", "task", "metric", "item", "value", "group"])
    parts = by_part(table, items, rule, baseline="base", candidate="new", task="toxigen", metric="acc", members={})
    assert [(c.task, c.better) for c in parts.subjects] == [("toxigen_a", "lower")]


# --- history and target


def history(metrics: dict[str, int], *, mixes: int = 25) -> list[dict]:
    """Past mixes, whose quality raises or lowers each metric at the proxy and raises `bench acc` at the target."""
    rng, table = np.random.default_rng(1), []
    for mix in range(mixes):
        quality = mix / mixes
        for metric, sign in metrics.items():
            for seed in range(3):
                value = 1 + 0.5 * sign * quality + 0.002 * rng.standard_normal()
                named = {"mix": f"h{mix}", "seed": seed, "scale": "150M", "task": "proxy", "metric": metric}
                table.append({**named, "value": value})
        at_target = 0.4 + 0.3 * quality + 0.005 * rng.standard_normal()
        table.append({"mix": f"h{mix}", "seed": 0, "scale": "1B", "task": "bench", "metric": "acc", "value": at_target})
    return table


def proxies(metrics: dict[str, int]) -> list[dict]:
    return [
        row
        for metric, sign in metrics.items()
        for row in both(1 + 0.15 * sign, 1 + 0.35 * sign, "proxy", metric, scale="150M")
    ]


TARGET = Target(scale="1B", task="bench", metric="acc", better="higher")


def at_target(metrics: dict[str, int], **fields: Any) -> Verdict:
    rule = Policy(name="p", alpha=0.05, min_seeds=3, target=TARGET, proxy_scale="150M", **fields)
    return decided(proxies(metrics), rule, history=pd.DataFrame(history(metrics)))


def test_losses_of_any_name_do_not_cancel_in_a_predictor() -> None:
    verdict = at_target({"bpb": -1, "nll_per_char": -1, "bits_per_byte": -1, "bleu": 1})
    assert verdict.decision == "ACCEPT"
    assert verdict.target is not None
    assert len(verdict.target.predictor_metrics) == 4


def test_a_metric_of_unknown_direction_is_left_out_of_a_predictor_and_named() -> None:
    metrics = {"bpb": -1, "toxicity": -1}
    verdict = at_target(metrics)
    assert verdict.target is not None
    assert verdict.target.predictor_metrics == (("proxy", "bpb"),)
    left_out = first(verdict.reasons, Code.PREDICTOR_LACKS_DIRECTIONS)
    assert left_out.figures == {"metrics": ({"task": "proxy", "metric": "toxicity"},)}
    declared = at_target(metrics, directions={"toxicity": "lower"})
    assert declared.target is not None
    assert len(declared.target.predictor_metrics) == 2
    assert (verdict.decision, declared.decision) == ("ACCEPT", "ACCEPT")
    assert Code.PREDICTOR_LACKS_DIRECTIONS not in all_codes(declared.reasons)


def test_without_any_direction_the_directions_are_requested() -> None:
    verdict = at_target({"toxicity": -1})
    assert verdict.decision == "INCONCLUSIVE"
    assert verdict.target is not None
    assert "direction" in verdict.target.problem
    assert Code.PREDICTOR_LACKS_DIRECTIONS in all_codes(verdict.reasons)


def test_a_loss_that_falls_during_training_keeps_its_vote_under_any_name() -> None:
    table = [
        {"mix": f"h{mix}", "seed": seed, "task": "held", "metric": metric, "tokens": tokens, "value": 2 - tokens / 10 + mix / 50}
        for mix in range(8)
        for seed in range(3)
        for tokens in (1, 2, 3, 4)
        for metric in ("bpb", "toxicity")
    ]  # fmt: skip
    signals = past_signal_by_metric(HistoryTable.of(pd.DataFrame(table)), proxy_scale=None, without=())
    own = signals["held", "bpb"].trend
    assert own is not None
    assert own.rho == pytest.approx(1.0)
    assert signals["held", "toxicity"].trend is None
