"""No verdict rests on a unit, a margin, a chance level or an excluded score that the tables contradict."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest

from assay.analysis.gate import decide, gate
from assay.analysis.results import with_units
from assay.config.policy import Criterion, Policy, Target
from assay.config.reason import Code, Reason
from assay.core.errors import ConfigError, Refused
from assay.store.early_stops import Stop

NOISE = (-0.002, 0.0005, 0.0015, 0.0007)


def runs(
    mix: str, score: float, *, task: str = "quiz", metric: str = "acc", seeds: int = 3, **columns: Any
) -> list[dict]:
    """Rows of one arm; the noise has the size of `size` and opposite signs in the two arms."""
    size = columns.pop("size", 1.0) * (1 if mix == "base" else -1)
    named = {"scale": "150M", "task": task, "metric": metric, **columns}
    return [{"mix": mix, "seed": seed, "value": score + size * NOISE[seed], **named} for seed in range(seeds)]


def both(base: float, new: float, **columns: Any) -> list[dict]:
    return [*runs("base", base, **columns), *runs("new", new, **columns)]


def criterion(task: str = "quiz", metric: str = "acc", *, margin: float = 0.0, better: Any = "higher") -> Criterion:
    return Criterion(task=task, metric=metric, better=better, margin=margin)


def policy(*primary: Criterion, guardrails: tuple[Criterion, ...] = (), **fields: Any) -> Policy:
    return Policy(name="p", alpha=0.05, min_seeds=3, primary=primary, guardrails=guardrails, **fields)


def judged(rows: list[dict], rule: Policy, **more: Any) -> Any:
    return decide(pd.DataFrame(rows), rule, baseline="base", candidate="new", **more)


# --- margins and units


@pytest.mark.parametrize("unit", [None, "percent"])
def test_a_margin_in_percentage_points_is_refused_for_values_in_percent(unit: str | None) -> None:
    rows = [*both(40, 45, size=100, unit=unit), *both(60, 40, task="guard", size=100, unit=unit)]
    with pytest.raises(ConfigError, match=r"margin 1 of guard acc is invalid; expected a fraction below 0.1"):
        judged(rows, policy(criterion(), guardrails=(criterion("guard", margin=1.0),)))
    rule = policy(criterion(), guardrails=(criterion("guard", margin=0.01),))
    assert judged(rows, rule).decision == "REJECT"


def test_a_margin_of_a_fraction_is_below_one() -> None:
    with pytest.raises(ConfigError, match="expected a fraction below 1"):
        judged(both(0.4, 0.45), policy(criterion(margin=1.0)))


def test_a_unit_that_one_arm_declares_is_refused_for_metrics_whose_unit_is_not_inferred() -> None:
    ter = {"task": "translate", "metric": "ter", "size": 100}
    rule = policy(criterion("translate", "ter", better="lower"))
    with pytest.raises(Refused, match="some rows declare the unit 'percent' and 3 declare none"):
        judged([*runs("base", 58, **ter), *runs("new", 60, unit="percent", **ter)], rule)
    assert judged(both(58, 60, unit="percent", **ter), rule).decision == "REJECT"


@pytest.mark.parametrize("chance", [25, 0.25])
def test_the_chance_level_of_a_declared_percentage_is_converted(chance: float) -> None:
    code = {"task": "code", "metric": "pass@1", "size": 100, "n": 1000, "unit": "percent", "chance": chance}
    rows = [*both(40, 45, size=100, unit="percent"), *both(45, 35, **code)]
    verdict = judged(rows, policy(criterion(), guardrails=(criterion("code", "pass@1", margin=0.01),)))
    assert verdict.decision == "REJECT"


def test_values_above_1_with_a_chance_level_need_a_unit() -> None:
    rows = both(45, 35, task="code", metric="pass@1", size=100, n=1000, chance=0.25)
    with pytest.raises(Refused, match="code pass@1 is .* and has a chance level; expected a fraction of 1"):
        judged(rows, policy(criterion("code", "pass@1")))


def percents(mix: str, values: tuple[float, ...], *, in_percent: bool, n: int = 1000) -> list[dict]:
    """Rows with the standard error of a proportion; the values are fractions."""
    factor = 100 if in_percent else 1
    return [
        {"mix": mix, "seed": seed, "task": "quiz", "metric": "f1", "n": n}
        | {"value": factor * value, "stderr": factor * math.sqrt(value * (1 - value) / n)}
        for seed, value in enumerate(values)
    ]


def test_one_arm_in_percent_below_1_is_refused_by_its_standard_errors() -> None:
    rows = [
        *percents("base", (0.047, 0.051, 0.052), in_percent=False),
        *percents("new", (0.009, 0.0091, 0.008), in_percent=True),
    ]
    with pytest.raises(Refused, match=r"new seed 0: quiz f1 is 0.9, and the standard error .* fits 0.9 percent"):
        judged(rows, policy(criterion(metric="f1")))


def test_scores_of_an_evaluation_that_are_all_below_1_have_no_declared_unit() -> None:
    rows = [
        *percents("base", (0.006, 0.007, 0.0065), in_percent=True),
        *percents("new", (0.003, 0.004, 0.0035), in_percent=True),
    ]
    with pytest.raises(Refused, match=r"fits 0.6 percent"):
        decide(with_units(pd.DataFrame(rows)), policy(criterion(metric="f1")), baseline="base", candidate="new")


@pytest.mark.parametrize(("own", "past"), [("bits", "nats"), ("nats", "bits")])
def test_a_history_in_another_unit_is_refused(own: str, past: str) -> None:
    loss = {"task": "held", "metric": "loss"}
    history = pd.DataFrame([row for k in range(4) for row in runs(f"h{k}", 4 - 0.05 * k, **loss, unit=past)])
    with pytest.raises(Refused, match=f"the unit is {own} in the results and {past} in the history"):
        judged(both(4.0, 3.9, **loss, unit=own), policy(criterion("held", "loss", better="lower")), history=history)
    same = history.assign(unit=own)
    assert judged(both(4.0, 3.9, **loss, unit=own), policy(criterion("held", "loss", better="lower")), history=same)


def test_a_history_whose_percentages_alone_are_declared_is_refused() -> None:
    bleu = {"task": "translate", "metric": "bleu", "size": 100}
    history = pd.DataFrame([row for k in range(4) for row in runs(f"h{k}", 20 + k, **bleu, unit="percent")])
    with pytest.raises(Refused, match="the unit is undeclared in the results and fraction in the history"):
        judged(both(25, 26, **bleu), policy(criterion("translate", "bleu")), history=history)


# --- the metrics that predict a target


def target_history(*metrics: tuple[str, str, float, float]) -> pd.DataFrame:
    """Twelve past mixes: task, metric, slope and offset of each proxy metric, and the target's metric."""
    generator, rows = np.random.default_rng(0), []
    for k in range(12):
        for seed in range(3):
            for task, metric, slope, offset in metrics:
                value = offset + slope * 0.008 * k + generator.normal(0, 0.0012)
                rows.append(
                    {"mix": f"h{k}", "seed": seed, "scale": "150M", "task": task, "metric": metric, "value": value}
                )
            value = 0.5 + 0.012 * k + 0.004 * (-1) ** (k // 2) + 0.3 * NOISE[seed]
            rows.append({"mix": f"h{k}", "seed": seed, "scale": "1B", "task": "big", "metric": "acc", "value": value})
    return pd.DataFrame(rows)


TARGET = Target(scale="1B", task="big", metric="acc", better="higher")


@pytest.mark.parametrize("value", [math.nan, -math.inf])
def test_a_predictor_with_a_score_that_is_not_finite_accepts_nothing(value: float) -> None:
    history = target_history(("one", "acc", 1, 0.4), ("two", "acc", 1, 0.3))
    rows = [*both(0.40, 0.45, task="one", seeds=4), *both(0.30, 0.35, task="two", seeds=4)]
    rule = policy(proxy_scale="150M", target=TARGET)
    assert judged(rows, rule, history=history).decision == "ACCEPT"
    (broken,) = (row for row in rows if (row["mix"], row["seed"], row["task"]) == ("new", 3, "one"))
    broken["value"] = value
    verdict = judged(rows, rule, history=history)
    assert verdict.decision == "INCONCLUSIVE"
    assert Code.NEED_FINITE_SCORES in {need.code for need in verdict.needed}


def test_a_predictor_with_a_metric_that_improves_by_construction_accepts_nothing() -> None:
    history = target_history(("validation/new_text", "bits_per_byte", -1, 1.0), ("two", "acc", 1, 0.3))
    rows = [
        *both(1.0, 0.85, task="validation/new_text", metric="bits_per_byte"),
        *both(0.30, 0.30, task="two", size=0.9),
    ]
    trained = {"base": ["web"], "new": ["web", "new_text"]}
    loose = policy(proxy_scale="150M", target=TARGET)
    assert judged(rows, loose, history=history, trained=trained).decision == "ACCEPT"
    strict = policy(proxy_scale="150M", target=TARGET, exclude_one_arm_sources=True)
    verdict = judged(rows, strict, history=history, trained=trained)
    assert verdict.decision == "INCONCLUSIVE"
    assert Code.ONE_ARM_PRIMARY in {reason.code for reason in verdict.reasons}
    assert Code.NEED_INDEPENDENT_PRIMARY in {need.code for need in verdict.needed}


def test_unknown_sources_of_the_arms_are_stated() -> None:
    rows = both(1.0, 0.9, task="validation/text", metric="bits_per_byte")
    rule = policy(criterion("validation/text", "bits_per_byte", better="lower"), exclude_one_arm_sources=True)
    assert Code.ONE_ARM_UNKNOWN in {reason.code for reason in judged(rows, rule).reasons}
    known = {"base": ["text"], "new": ["text"]}
    assert Code.ONE_ARM_UNKNOWN not in {reason.code for reason in judged(rows, rule, trained=known).reasons}


# --- exclusions


def test_a_guardrail_without_a_shared_seed_is_not_at_chance_level() -> None:
    rows = [
        *both(0.40, 0.45, n=1000, chance=0.25),
        *runs("base", 0.255, task="guard", n=1000, chance=0.25),
    ]
    verdict = judged(rows, policy(criterion(), guardrails=(criterion("guard", margin=0.01),)))
    assert verdict.decision == "INCONCLUSIVE"


def test_an_early_stop_keeps_the_excluded_scores() -> None:
    rows = [*both(40, 45, size=100), *both(40, 45, task="monitor", size=100)]
    (broken,) = (row for row in rows if (row["mix"], row["seed"], row["task"]) == ("new", 2, "monitor"))
    broken["value"] = math.nan
    missing = {"new": [Reason(code=Code.MISSING_RUNS, figures={"seeds": [9]})]}
    stop = Stop(candidate="new", baseline="base", outcome="winner", fraction=0.5, tokens=1e9, reasons=(), at=0.0)
    verdict = gate(
        pd.DataFrame(rows),
        policy(criterion()),
        baseline="base",
        candidates=["new"],
        missing=missing,
        stops={"new": stop},
    )
    codes = {reason.code for reason in verdict.candidates["new"].reasons}
    assert {Code.SCORES_NOT_FINITE, Code.UNIT_CONVERTED} <= codes
    assert Code.SCORES_NOT_FINITE in {reason.code for reason in verdict.missing["new"]}
