from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.weightstats import ttost_paired

from assay.analysis.compare import compare
from assay.analysis.comparison import Comparison
from assay.analysis.gate import gate
from assay.analysis.stats.sweep_noise import seed_priors_by_metric
from assay.config.policy import Criterion, EarlyStopping
from assay.core.errors import AssayError, Refused
from assay.core.serde import to_json
from tests.helpers.studies import accuracy, policy, results

CODE = "validation/code"


def _select(comparisons: list[Comparison], task: str, candidate: str = "new") -> Comparison:
    return next(c for c in comparisons if c.task == task and c.candidate == candidate)


def _pivot(table: pd.DataFrame, task: str) -> tuple[np.ndarray, np.ndarray]:
    wide = table[table["task"] == task].pivot_table(index="seed", columns="mix", values="value")
    return wide["base"].to_numpy(), wide["new"].to_numpy()


def test_an_effect_equals_the_paired_t_test_over_shared_seeds() -> None:
    table = results({"new": {"code": -0.01}})
    c = _select(compare(table, policy(), baseline="base"), CODE)
    base, new = _pivot(table, CODE)
    reference = stats.ttest_rel(new, base)
    interval = reference.confidence_interval(0.95)
    assert (c.effect, c.p) == pytest.approx((np.mean(new - base), reference.pvalue), abs=1e-10)
    assert (c.ci_low, c.ci_high, c.level) == pytest.approx((interval.low, interval.high, 0.95), abs=1e-10)
    assert c.noise == pytest.approx(np.std(new - base, ddof=1))
    assert (c.baseline_mean, c.candidate_mean) == pytest.approx((base.mean(), new.mean()))
    assert list(c.differences) == [0, 1, 2]


def test_non_inferiority_equals_one_side_of_the_tost_of_statsmodels() -> None:
    table = results({"new": {"books": 0.02}})
    c = _select(compare(table, policy(), baseline="base"), "validation/books")
    base, new = _pivot(table, "validation/books")
    _, _, (_, below_margin, _) = ttost_paired(new, base, -0.03, 0.03)
    assert c.p_noninferior == pytest.approx(below_margin, abs=1e-10)
    assert c.noninferiority_bound == pytest.approx(stats.ttest_rel(new, base).confidence_interval(0.90).high)
    assert (c.noninferiority_bound < 0.03) == (c.p_noninferior < 0.05), "the bound decides as the p-value does"


def test_seeds_of_only_one_arm_are_excluded() -> None:
    table = results({"new": {"code": -0.01}}, seeds=(0, 1, 2, 3, 4))
    table = table[
        ~((table["mix"] == "new") & (table["seed"] == 1)) & ~((table["mix"] == "base") & (table["seed"] == 4))
    ]
    c = _select(compare(table, policy(), baseline="base"), CODE)
    assert (c.n_seeds, list(c.differences)) == (3, [0, 2, 3])


def test_gains_are_adjusted_over_primaries_and_losses_over_all_voting_metrics() -> None:
    primary = tuple(
        Criterion(task=f"validation/{t}", metric="bits_per_byte", better="lower") for t in ("code", "books")
    )
    guardrails = (Criterion(task="validation/web", metric="bits_per_byte", better="lower", margin=0.03),)
    rule = policy(primary=primary, guardrails=guardrails)
    up = _select(compare(results({"new": {"code": -0.02}}), rule, baseline="base"), CODE)
    assert up.p_adjusted == pytest.approx(2 * up.p)
    down = _select(compare(results({"new": {"code": +0.02}}), rule, baseline="base"), CODE)
    assert down.p_adjusted == pytest.approx(3 * down.p)
    every = _select(
        compare(
            results({"new": {"code": -0.02}}), policy(primary=primary, guardrails=(), require="all"), baseline="base"
        ),
        CODE,
    )
    assert every.p_adjusted == pytest.approx(every.p), "all have to pass, so no adjustment is due"


def test_a_gain_must_exceed_the_margin() -> None:
    rule = policy(primary=(Criterion(task=CODE, metric="bits_per_byte", better="lower", margin=0.01),), guardrails=())
    small, large = (
        _select(compare(results({"new": {"code": e}}), rule, baseline="base"), CODE) for e in (-0.01, -0.05)
    )
    assert small.p < 0.05 < small.p_adjusted
    assert large.p_adjusted < 0.05


def test_another_candidate_changes_the_noise_of_a_comparison_but_neither_its_effect_nor_its_families() -> None:
    alone = compare(results({"new": {"code": -0.01}}), policy(), baseline="base")
    table = results({"new": {"code": -0.01}, "other": {"code": 0.3}})
    table.loc[table["mix"] == "other", "value"] += 0.002 * np.random.default_rng(1).standard_normal(9)
    among = [c for c in compare(table, policy(), baseline="base") if c.candidate == "new"]
    assert [c.effect for c in among] == [c.effect for c in alone]
    assert [c.noise for c in among] == [c.noise for c in alone], "the reported noise is the measured one"
    assert (alone[0].noise_sources, among[0].noise_sources) == (
        {"pair": 2, "sweep": 0, "history": 0},
        {"pair": 2, "sweep": 2, "history": 0},
    )
    assert among[0].p_adjusted == pytest.approx(among[0].p), "the only primary metric is a family of one"


def test_mixes_with_another_budget_do_not_inform_the_noise() -> None:
    table = results({"new": {"code": -0.01}, "other": {}})
    table.loc[table["mix"] == "other", "tokens"] *= 2
    compared = compare(table, policy(), baseline="base", candidates=["new"])
    assert {c.noise_sources["sweep"] for c in compared} == {0}


@pytest.mark.parametrize("fraction", [0.2, 0.94])
def test_a_short_seed_without_partner_cannot_change_the_mean_of_its_arm(fraction: float) -> None:
    table = results({"new": {"code": -0.01}}, seeds=range(6))
    table.loc[table["mix"] == "new", "seed"] += 10
    table.loc[(table["mix"] == "base") & table["seed"].isin([2, 5]), "tokens"] *= fraction
    with pytest.raises(Refused, match=r"base seed 2 on [\d,]+, base seed 5 on"):
        compare(table, policy(), baseline="base")
    paired = table.assign(seed=table["seed"] % 10)
    paired = paired[(paired["mix"] == "base") | ~paired["seed"].isin([2, 5])]
    assert {c.pairing for c in compare(paired, policy(), baseline="base")} == {"partial"}


def test_unshared_seeds_within_the_tolerance_are_compared() -> None:
    table = results({"new": {"code": -0.01}})
    table.loc[table["mix"] == "new", "seed"] += 10
    table.loc[(table["mix"] == "base") & (table["seed"] == 2), "tokens"] *= 0.96
    assert {c.pairing for c in compare(table, policy(), baseline="base")} == {"unpaired"}


def test_a_metric_outside_the_policy_is_a_monitor_without_a_vote() -> None:
    table = pd.concat([results({"new": {}}), accuracy({"base": 0.5, "new": 0.1})[0].assign(scale="1m")])
    c = _select(compare(table, policy(), baseline="base"), "mmlu")
    assert (c.role, c.better, c.votes) == ("monitor", "higher", False)
    assert c.p_adjusted == pytest.approx(c.p), "the only monitor is a family of one"


def test_an_accuracy_at_chance_level_has_no_signal_and_no_vote() -> None:
    rule = policy(primary=(Criterion(task="mmlu", metric="acc", better="higher"),), guardrails=())
    for with_items in (False, True):
        table, items = accuracy({"base": 0.25, "new": 0.25})
        c = _select(compare(table, rule, baseline="base", items=items if with_items else None), "mmlu")
        assert (c.signal, c.votes) == ("no signal", False)
        assert "the chance level 0.250" in c.signal_reason
        assert math.isnan(c.p_adjusted)
    table, items = accuracy({"base": 0.4, "new": 0.5})
    c = _select(compare(table, rule, baseline="base", items=items), "mmlu")
    assert (c.signal, c.votes, c.n_items) == ("ok", True, 400)


def test_item_sampling_widens_the_interval() -> None:
    rule = policy(primary=(Criterion(task="mmlu", metric="acc", better="higher"),), guardrails=())
    table, items = accuracy({"base": 0.4, "new": 0.5}, n=100, spread=0.02)
    without, with_items = (_select(compare(table, rule, baseline="base", items=i), "mmlu") for i in (None, items))
    assert without.effect == pytest.approx(with_items.effect)
    assert with_items.item_variance > 0
    assert with_items.ci_high - with_items.ci_low > without.ci_high - without.ci_low


def test_a_duplicated_item_counts_once() -> None:
    rule = policy(primary=(Criterion(task="mmlu", metric="acc", better="higher"),), guardrails=())
    table, items = accuracy({"base": 0.4, "new": 0.5})
    once, twice = (
        _select(compare(table, rule, baseline="base", items=i), "mmlu") for i in (items, pd.concat([items, items]))
    )
    assert twice.n_items == 2 * once.n_items
    assert twice.ci_low == pytest.approx(once.ci_low)


def test_the_score_is_the_weighted_mean_of_items() -> None:
    table = results({"new": {"code": -0.02}}, tasks=("code",))
    bytes_ = np.array([100.0, 300.0])
    items = [
        (r.mix, r.seed, r.task, r.metric, name, r.value + shift, weight)
        for r in table.itertuples()
        for name, shift, weight in (("a", 0.3, bytes_[0]), ("b", -0.1, bytes_[1]))
    ]
    frame = pd.DataFrame(items, columns=["mix", "seed", "task", "metric", "item", "value", "weight"])
    c = _select(compare(table, policy(guardrails=()), baseline="base", items=frame), CODE)
    assert c.effect == pytest.approx(-0.02)
    with pytest.raises(AssayError, match="do not add up to the scores"):
        compare(table, policy(guardrails=()), baseline="base", items=frame.drop(columns="weight"))


def test_one_seed_has_an_effect_but_no_interval_and_no_p_value() -> None:
    c = _select(compare(results({"new": {"code": -0.01}}, seeds=(0,)), policy(), baseline="base"), CODE)
    assert c.effect == pytest.approx(-0.012)
    assert all(math.isnan(value) for value in (c.ci_low, c.ci_high, c.p, c.p_adjusted, c.noise, c.mde))
    assert (c.votes, c.signal) == (False, "unknown")


@pytest.mark.parametrize("constant", ["differences", "baseline"])
def test_constant_scores_are_not_certain(constant: str) -> None:
    table = results({"new": {"code": -0.1}}, noise=0.0 if constant == "differences" else 0.01)
    if constant == "baseline":
        table.loc[table["mix"] == "base", "value"] = 2.0
    c = _select(compare(table, policy(), baseline="base"), CODE)
    assert math.isnan(c.p)
    assert (c.signal, c.votes) == ("unknown", False)
    assert ("to the last digit" if constant == "differences" else "copies of one run") in c.signal_reason


def test_the_json_of_a_comparison_has_null_for_unknown_values() -> None:
    (c, *_) = compare(results({"new": {}}, seeds=(0,)), policy(), baseline="base")
    plain = json.loads(json.dumps(to_json(c), allow_nan=False))
    wanted = {
        "task",
        "metric",
        "role",
        "effect",
        "ci_low",
        "ci_high",
        "p",
        "p_adjusted",
        "n_seeds",
        "n_items",
        "signal",
    }
    assert wanted <= set(plain)
    assert plain["p"] is None


SHIFT = st.floats(-5, 5).map(lambda x: round(x, 3))


@settings(max_examples=25, deadline=None)
@given(effect=SHIFT, constant=SHIFT, order=st.randoms())
def test_row_order_and_a_constant_do_not_matter_and_swapped_arms_flip_the_sign(
    effect: float, constant: float, order: object
) -> None:
    table = results({"new": {"code": effect}}, noise=0.01)
    there = _select(compare(table, policy(), baseline="base"), CODE)
    moved = table.assign(value=table["value"] + constant).sample(frac=1, random_state=order.randint(0, 1000))  # type: ignore[attr-defined]
    same = _select(compare(moved, policy(), baseline="base"), CODE)
    back = _select(compare(table, policy(), baseline="new"), CODE, candidate="base")
    for name in ("effect", "ci_low", "ci_high", "p", "noise", "mde"):
        assert getattr(same, name) == pytest.approx(getattr(there, name), rel=1e-6, abs=1e-9)
    assert (-back.effect, -back.ci_high, -back.ci_low, back.p) == pytest.approx(
        (there.effect, there.ci_low, there.ci_high, there.p), rel=1e-6
    )


def _with(table: pd.DataFrame, **where_and_value: object) -> pd.DataFrame:
    changed = table.copy()
    changed.loc[0, list(where_and_value)] = list(where_and_value.values())
    return changed


GOOD = results({"new": {"code": -0.01}})


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (GOOD.drop(columns="value"), "no column 'value'"),
        (GOOD.rename(columns={"task": "tasks"}), "Did you mean 'tasks'"),
        (GOOD.assign(value="high"), "not a number"),
        (pd.concat([GOOD, GOOD.head(2)]), "2 rows for mix base, seed 0, task validation/code"),
        (pd.concat([GOOD, GOOD.assign(tokens=math.nan)]), "2 rows for mix base, seed 0, task validation/code"),
        (_with(GOOD, value=math.nan), "base seed 0: nan is invalid"),
        (_with(GOOD, value=math.inf), "base seed 0: inf is invalid"),
        (_with(GOOD, seed=None), "1 row has no seed"),
        (GOOD[GOOD["mix"] != "base"], "the baseline 'base' has no results"),
        (GOOD.replace({"validation/books": "validation/book"}), "Did you mean 'validation/book bits_per_byte'"),
        (pd.concat([GOOD, GOOD.assign(scale="9m")]), "2 scales: 1m, 9m"),
        (
            GOOD.assign(tokens=np.where(GOOD["mix"] == "new", 2e7, 1e7)),
            "trained on 10,000,000 tokens and new on 20,000,000",
        ),
        (GOOD.assign(n=np.where(GOOD["mix"] == "new", 90, 100)), "base answered 100 items and new answered 90"),
        (GOOD.assign(n=1 + np.arange(len(GOOD))), "different numbers of items"),
        (GOOD.assign(version=np.where(GOOD["mix"] == "new", "2", "1")), "more than one task version: 1, 2"),
        (GOOD.assign(prompt=np.where(GOOD["seed"] == 1, "ab", "cd")), "more than one prompt: ab, cd"),
        (
            GOOD.assign(num_fewshot=np.where(GOOD["mix"] == "new", 5, 0)),
            "more than one number of few-shot examples: 0, 5",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_an_invalid_table_is_refused(table: pd.DataFrame, message: str) -> None:
    with pytest.raises(AssayError) as error:
        compare(table, policy(), baseline="base", candidates=["new"])
    assert message in str(error.value)


def test_the_last_checkpoint_of_a_run_counts() -> None:
    early = GOOD.assign(tokens=5e6, value=GOOD["value"] + np.arange(len(GOOD)))
    [last, *_] = compare(pd.concat([early, GOOD]).sample(frac=1, random_state=0), policy(), baseline="base")
    [alone, *_] = compare(GOOD, policy(), baseline="base")
    assert last == alone
    behind = GOOD[~((GOOD["mix"] == "new") & (GOOD["tokens"] > 5e6))]
    with pytest.raises(AssayError, match="was trained on"):
        compare(pd.concat([early, behind]), policy(), baseline="base")


def test_the_policy_selects_the_scale() -> None:
    both = pd.concat([results({"new": {"code": -0.01}}), results({"new": {"code": 0.5}}).assign(scale="9m")])
    assert _select(compare(both, policy(proxy_scale="1m"), baseline="base"), CODE).effect == pytest.approx(-0.01)
    with pytest.raises(AssayError, match="no runs at the policy's proxy scale '3m'"):
        compare(both, policy(proxy_scale="3m"), baseline="base")


def test_a_non_finite_monitor_does_not_stop_the_gate() -> None:
    extra = GOOD[GOOD["task"] == CODE].assign(task="lambada", metric="perplexity").reset_index(drop=True)
    c = _select(compare(pd.concat([GOOD, _with(extra, value=math.inf)]), policy(), baseline="base"), "lambada")
    assert (c.n_seeds, c.votes) == (2, False)


@pytest.mark.parametrize("fault", ["other prompts", "fewer items", "a run without items"])
def test_arms_with_different_items_are_refused(fault: str) -> None:
    table, items = accuracy({"base": 0.4, "new": 0.5}, n=50)
    run = (items["mix"] == "new") & (items["seed"] == 1)
    if fault == "other prompts":
        items.loc[items["mix"] == "new", "item"] += "-other"
    elif fault == "fewer items":
        items = items[~(run & (items["item"] == "mmlu-3"))]
    else:
        items = items[~run]
    rule = policy(primary=(Criterion(task="mmlu", metric="acc", better="higher"),), guardrails=())
    with pytest.raises(
        AssayError, match="has no items" if fault == "a run without items" else "occur in only one of the two runs"
    ):
        compare(table, rule, baseline="base", items=items)


def test_a_group_is_a_cluster_of_items_unless_it_is_the_whole_task() -> None:
    rule = policy(primary=(Criterion(task="mmlu", metric="acc", better="higher"),), guardrails=())
    table, items = accuracy({"base": 0.4, "new": 0.5}, n=100, spread=0.02)
    plain, named, grouped = (
        _select(compare(table, rule, baseline="base", items=items.assign(group=group)), "mmlu")
        for group in (None, "mmlu", items["item"].str[-1])
    )
    assert named.item_variance == plain.item_variance > 0
    assert grouped.item_variance != plain.item_variance


def test_a_macro_average_weights_every_group_equally() -> None:
    """lm-eval averages some groups over their tasks, independent of their sizes."""
    rule = policy(primary=(Criterion(task="mmlu", metric="acc", better="higher"),), guardrails=())
    table, items = accuracy({"base": 0.4, "new": 0.5}, n=60)
    items["group"] = np.where(items["item"].isin([f"mmlu-{i}" for i in range(10)]), "small", "large")
    by_group = items.groupby(["mix", "seed", "group"])["value"].mean().groupby(["mix", "seed"]).mean()
    macro = table.assign(value=[by_group[run] for run in zip(table["mix"], table["seed"], strict=True)])
    c = _select(compare(macro, rule, baseline="base", items=items), "mmlu")
    assert c.effect == pytest.approx(by_group["new"].mean() - by_group["base"].mean())


def _past(noise: float, *, mixes: int = 20) -> pd.DataFrame:
    rng = np.random.default_rng(1)
    runs = [(f"past{mix}", seed, "1m", 2 + rng.normal(0, noise)) for mix in range(mixes) for seed in range(3)]
    table = pd.DataFrame(runs, columns=["mix", "seed", "scale", "value"])
    return table.assign(task=CODE, metric="bits_per_byte")


def test_the_noise_of_past_runs_moderates_the_variance_if_it_agrees_with_the_sweep() -> None:
    """Histories that are much noisier or much quieter than the sweep change nothing."""
    table = results({"new": {"code": -0.01}})
    alone = _select(compare(table, policy(), baseline="base"), CODE)
    noisy, near, quiet = (
        _select(compare(table, policy(), baseline="base", history=_past(noise)), CODE)
        for noise in (0.05, 0.002, 0.0002)
    )
    assert (alone.noise_df, noisy.noise_df, near.noise_df, quiet.noise_df) == (2, 2, 4, 2)
    assert noisy.p == alone.p == quiet.p > near.p
    assert near.noise == alone.noise, "the reported noise is the measured one"
    assert (noisy.history_ratio < 0.1, quiet.history_ratio > 5) == (True, True)
    past = seed_priors_by_metric(_past(0.002), proxy_scale="1m", without=["base", "new"])[CODE, "bits_per_byte"]
    se = np.sqrt((2 * alone.noise**2 + 2 * 2 * past.paired.variance) / 4 / 3)
    assert near.p == pytest.approx(2 * stats.t.sf(0.01 / se, 4), rel=1e-8)


def test_compared_mixes_other_scales_and_other_metrics_do_not_inform_the_noise() -> None:
    table = results({"new": {"code": -0.01}})
    alone = compare(table, policy(), baseline="base")
    past = _past(0.05)
    for history in (
        past.assign(mix=np.where(past["mix"] < "past2", "base", "new"), seed=range(len(past))),
        past.assign(scale="9m"),
        past.assign(metric="nll"),
        _past(0.05, mixes=3),
    ):
        comparisons = compare(table, policy(), baseline="base", history=history)
        assert [to_json(c) for c in comparisons] == [to_json(c) for c in alone]


@pytest.mark.parametrize("stop", ["none", "losers"])
def test_compare_and_gate_have_equal_comparisons_with_a_history_that_contains_the_candidates(stop: str) -> None:
    """A history may contain the other candidates; a pair of mixes is compared in the same way with and without them."""
    table = results({"new": {"code": -0.01}, "other": {"code": -0.02}})
    names = dict(zip(["past0", "past1", "past2"], ["base", "new", "other"], strict=True))
    past = _past(0.05)
    past = past.assign(mix=past["mix"].replace(names), value=past["value"] + past["seed"] * (past["mix"] == "past2"))
    rule = replace(policy(), early_stopping=EarlyStopping(stop=stop, alpha_fraction=0.2))  # type: ignore[arg-type]
    verdict = gate(table, rule, baseline="base", candidates=["new", "other"], history=past)
    decided = [c for candidate in verdict.candidates.values() for c in candidate.comparisons]
    compared = compare(table, rule, baseline="base", history=past)
    assert [to_json(c) for c in compared] == [to_json(c) for c in decided]
    alone = compare(table, rule, baseline="base", candidates=["new"], history=past)
    assert [to_json(c) for c in alone] == [to_json(c) for c in compared if c.candidate == "new"]


def test_q_controls_the_false_discovery_rate_over_all_comparisons() -> None:
    table = pd.concat(
        [results({"new": {"code": -0.01}}), results({"new": {}}, tasks=("docs", "maths"), noise=0.01)],
        ignore_index=True,
    )
    comparisons = compare(table, policy(), baseline="base")
    expected = multipletests([c.p for c in comparisons], method="fdr_bh")[1]
    assert [c.q for c in comparisons] == pytest.approx(expected, abs=1e-10)
