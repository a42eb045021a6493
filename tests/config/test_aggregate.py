"""Aggregates and joint guardrails in a policy: what is valid, and what an error says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from assay.config.aggregate import JOINT, Aggregate
from assay.config.policy import Criterion, Policy
from assay.core.errors import ConfigError
from assay.core.serde import from_mapping

POLICY = Path(__file__).parents[2] / "conf" / "policy" / "aggregate.yaml"


def _aggregate(**changes: object) -> Aggregate:
    fields: dict[str, object] = {"name": "all", "metric": "acc", "tasks": ("a", "b")}
    return Aggregate(**{**fields, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "two words"}, "`name` 'two words' is invalid"),
        ({"name": JOINT.partition("/")[2]}, "not 'guardrails'"),
        ({"tasks": ("a",)}, "1 tasks and groups are invalid; expected at least 2"),
        ({"tasks": ("a", "b", "a")}, "names a twice"),
        ({"groups": ("a",)}, "names a twice"),
        (
            {"tasks": ("mmlu_law", "b"), "groups": ("mmlu",)},
            "mmlu_law would count twice, because group 'mmlu' contains it",
        ),
        ({"groups": ("mmlu", "mmlu_stem")}, "mmlu_stem would count twice"),
        ({"weights": {"a": 0.0}}, "weight 0.0 of a is invalid"),
        ({"weights": {"a": -1.0}}, "weight -1.0 of a is invalid"),
        ({"weights": {"a": float("nan")}}, "weight nan of a is invalid"),
        ({"weights": {"a": float("inf")}}, "weight inf of a is invalid"),
        ({"weights": {"aa": 2.0}}, "Did you mean 'a'"),
        ({"metrics": {"c": "acc"}}, "`metrics` names 'c'"),
        ({"metric": "house"}, "the direction of metric 'house' is unknown"),
        ({"better": {"acc": "lower"}}, "direction 'lower' of metric 'acc' is invalid; expected 'higher'"),
        ({"metrics": {"a": "bits_per_byte"}, "standardize": "none"}, "expected one metric"),
        ({"margin": -0.1}, "`margin` -0.1 is invalid"),
    ],
)
def test_an_invalid_aggregate_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        _aggregate(**changes)
    assert message in f"{error.value.what} {error.value.fix}"


def test_a_declared_direction_makes_an_unknown_metric_valid() -> None:
    assert _aggregate(metric="house", better={"house": "higher"}).direction("house") == "higher"
    assert _aggregate(metric="exact_match,strict-match").direction("exact_match,strict-match") == "higher"


def test_a_policy_refuses_an_aggregate_whose_direction_contradicts_its_own() -> None:
    own = _aggregate(metric="house", better={"house": "lower"})
    with pytest.raises(ConfigError, match="a house is better if lower, but the policy states 'higher'"):
        Policy(
            name="p",
            alpha=0.05,
            min_seeds=3,
            aggregate=own,
            primary=(Criterion(task="a", metric="house", better="higher"),),
        )


def test_a_policy_needs_a_primary_metric_an_aggregate_or_a_target() -> None:
    assert Policy(name="p", alpha=0.05, min_seeds=3, aggregate=_aggregate()).primary_metrics == (
        ("a", "acc"),
        ("b", "acc"),
    )
    with pytest.raises(ConfigError, match="no primary metric, no aggregate and no target"):
        Policy(name="p", alpha=0.05, min_seeds=3)


def test_joint_guardrails_need_margins_and_a_limit_of_at_least_one_margin() -> None:
    guard = Criterion(task="a", metric="acc", better="higher", margin=0.01)
    valid = Policy(
        name="p", alpha=0.05, min_seeds=3, aggregate=_aggregate(), guardrails=(guard,), guardrail_rule="joint"
    )
    with pytest.raises(ConfigError, match="margin 0 of guardrail a acc is invalid"):
        replace(valid, guardrails=(replace(guard, margin=0.0),))
    with pytest.raises(ConfigError, match="`guardrail_limit` 0.5 is invalid"):
        replace(valid, guardrail_limit=0.5)


def test_alpha_is_divided_among_all_candidates_only_if_the_policy_says_so() -> None:
    each = Policy(name="p", alpha=0.05, min_seeds=3, aggregate=_aggregate())
    assert each.for_candidates(5).alpha == 0.05
    assert replace(each, candidates="all").for_candidates(5).alpha == pytest.approx(0.01)


def test_the_packaged_policy_with_an_aggregate_is_valid() -> None:
    policy = Policy.from_yaml(POLICY)
    assert policy.aggregate is not None
    assert (policy.aggregate.task, policy.guardrail_rule, policy.candidates) == ("aggregate/benchmarks", "joint", "all")
    assert policy.with_aggregate.primary[0].task == "aggregate/benchmarks"
    assert policy.with_aggregate.with_aggregate == policy.with_aggregate


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"aggregate": {"name": "guardrails", "metric": "acc", "tasks": ["a", "b"]}}, "aggregate: `name` 'guardrails'"),
        (
            {"aggregate": {"name": "x", "metric": "acc", "tasks": ["a", "b"], "margin": -1}},
            "aggregate 'x': `margin` -1.0",
        ),
        ({"aggregate": {"name": "x", "metric": "acc", "tasks": "ab"}}, "aggregate.tasks: 'ab' is a str"),
        (
            {"primary": [{"task": "a", "metric": "loss", "better": "higher"}]},
            "primary[0]: direction `higher` of a loss",
        ),
        ({"early_stopping": {"stop": "losers", "interim_analyses": [2]}}, "early_stopping.interim_analyses [2.0]"),
        ({"alpha": 2}, "`alpha` 2.0 is invalid"),
    ],
)
def test_an_error_names_each_part_of_its_place_once(changes: dict[str, object], message: str) -> None:
    plain = {
        "name": "p",
        "alpha": 0.05,
        "min_seeds": 3,
        "primary": [{"task": "a", "metric": "acc", "better": "higher"}],
    }
    with pytest.raises(ConfigError) as error:
        from_mapping(Policy, plain | changes, where="policy p.yaml")
    assert error.value.what.startswith(f"policy p.yaml: {message}")
