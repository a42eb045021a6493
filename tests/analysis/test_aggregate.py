"""An aggregate of tasks as the first primary metric of a verdict."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from assay.analysis.compare import compare
from assay.analysis.comparison import Comparison
from assay.analysis.gate import Verdict, decide, gate
from assay.config.aggregate import Aggregate
from assay.config.policy import Averaging, Criterion, EarlyStopping, Policy
from assay.config.reason import Code
from assay.core.errors import AssayError
from assay.core.serde import to_json

TASKS = tuple(f"t{i}" for i in range(10))
ALL = "aggregate/all"


def _policy(**changes: object) -> Policy:
    fields: dict[str, object] = {
        "name": "p",
        "alpha": 0.05,
        "min_seeds": 3,
        "aggregate": Aggregate(name="all", metric="loss", tasks=TASKS),
    }
    return Policy(**{**fields, **changes})  # type: ignore[arg-type]


def _none(**changes: object) -> Aggregate:
    return Aggregate(**{"name": "all", "metric": "loss", "tasks": TASKS, "standardize": "none", **changes})  # type: ignore[arg-type]


def _table(
    gain: float | dict[str, float] = 0.0,
    *,
    seeds: int = 3,
    mixes: tuple[str, ...] = ("base", "new"),
    tasks: tuple[str, ...] = TASKS,
    correlation: float = 0.0,
    sd: float = 0.01,
    rng: int = 0,
) -> pd.DataFrame:
    """Draw losses; `gain` is in SDs of a run and applies to all mixes but the first."""
    random = np.random.default_rng(rng)
    rows = []
    for mix in mixes:
        for seed in range(seeds):
            common, own = random.standard_normal(), random.standard_normal(len(tasks))
            noise = math.sqrt(correlation) * common + math.sqrt(1 - correlation) * own
            for task, z in zip(tasks, noise, strict=True):
                better = 0.0 if mix == mixes[0] else gain if isinstance(gain, float) else gain.get(task, 0.0)
                rows.append((mix, seed, task, "loss", 2 + sd * (z - better)))
    return pd.DataFrame(rows, columns=["mix", "seed", "task", "metric", "value"])


def _own(comparisons: list[Comparison] | tuple[Comparison, ...]) -> Comparison:
    return next(c for c in comparisons if c.task == ALL)


def _decide(table: pd.DataFrame, policy: Policy | None = None, **more: object) -> Verdict:
    return decide(table, policy or _policy(), baseline="base", candidate="new", **more)  # type: ignore[arg-type]


def _reason(verdict: Verdict, code: Code):  # type: ignore[no-untyped-def]  # noqa: ANN202
    return next(reason for reason in (*verdict.reasons, *verdict.scope) if reason.code is code)


def test_without_standardization_the_aggregate_equals_the_paired_t_test_of_the_weighted_mean_of_each_run() -> None:
    table = _table(0.7)
    c = _own(compare(table, _policy(aggregate=_none(weights={"t0": 3.0})), baseline="base"))
    wide = table.pivot_table(index=["mix", "seed"], columns="task", values="value")[list(TASKS)]
    means = wide.to_numpy() @ np.array([3.0, *[1.0] * 9]) / 12
    reference = stats.ttest_rel(means[3:], means[:3])
    assert (c.effect, c.p) == pytest.approx((float((means[3:] - means[:3]).mean()), reference.pvalue))
    assert (c.metric, c.better, c.role, c.n_seeds) == ("loss", "lower", "primary", 3)


def test_a_mean_of_losses_and_accuracies_counts_each_improvement_as_a_gain() -> None:
    table = _table({"t0": 5.0, "t1": 5.0})
    table.loc[table["task"] == "t1", "metric"] = "bleu"
    table.loc[table["task"] == "t1", "value"] = 4 - table.loc[table["task"] == "t1", "value"]
    own = Aggregate(name="all", metric="loss", tasks=("t0", "t1"), metrics={"t1": "bleu"}, better={"bleu": "higher"})
    c = _own(compare(table, _policy(aggregate=own), baseline="base"))
    assert c.effect > 2, "both tasks improve by five SDs, one with a lower and one with a higher score"
    assert (c.better, c.metric, c.baseline_mean) == ("higher", "seed_sds", pytest.approx(0.0, abs=1e-9))


def test_many_small_gains_are_accepted_as_an_aggregate_and_not_one_by_one() -> None:
    tasks = tuple(f"t{i}" for i in range(30))
    table = _table(0.7, seeds=5, tasks=tasks)
    together = _decide(table, _policy(aggregate=Aggregate(name="all", metric="loss", tasks=tasks)))
    single = tuple(Criterion(task=task, metric="loss", better="lower") for task in tasks)
    assert together.decision == "ACCEPT"
    assert _decide(table, _policy(aggregate=None, primary=single)).decision == "INCONCLUSIVE"
    assert _decide(_table(-0.7, seeds=5, tasks=tasks), _policy(aggregate=together_of(tasks))).decision == "REJECT"


def together_of(tasks: tuple[str, ...]) -> Aggregate:
    return Aggregate(name="all", metric="loss", tasks=tasks)


def test_perfectly_correlated_tasks_have_the_noise_of_one_task() -> None:
    """Thirty copies of one task are one measurement."""
    one = _table(0.7, tasks=("t0",))
    copies = pd.concat([one.assign(task=f"t{i}") for i in range(30)], ignore_index=True)
    own = _none(tasks=tuple(f"t{i}" for i in range(30)))
    c = _own(compare(copies, _policy(aggregate=own), baseline="base"))
    alone = compare(
        one, _policy(aggregate=None, primary=(Criterion(task="t0", metric="loss", better="lower"),)), baseline="base"
    )[0]
    assert (c.effect, c.p, c.noise_df) == pytest.approx((alone.effect, alone.p, 2))
    standardized = _own(compare(copies, _policy(aggregate=together_of(own.tasks)), baseline="base"))
    assert standardized.p >= alone.p, "the SDs are estimated from the tested runs"


def test_single_primaries_are_better_only_after_the_aggregate() -> None:
    single = (Criterion(task="t0", metric="loss", better="lower"),)
    closed = {"t0": 60.0} | {f"t{i}": -6.6 for i in range(1, 10)}  # the mean over tasks does not change
    table = _table(closed, sd=0.002)
    verdict = _decide(table, _policy(primary=single))
    c = next(c for c in verdict.comparisons if c.task == "t0")
    assert c.p < 0.001
    assert c.p_adjusted >= _own(verdict.comparisons).p_adjusted > 0.05
    assert verdict.decision == "INCONCLUSIVE"
    opened = _decide(_table(20.0), _policy(primary=single))
    c = next(c for c in opened.comparisons if c.task == "t0")
    assert (opened.decision, c.p_adjusted <= 0.05) == ("ACCEPT", True)


def test_a_worse_primary_or_guardrail_rejects_despite_a_better_aggregate() -> None:
    gains = dict.fromkeys(TASKS, 40.0) | {"t9": -60.0}
    guard = (Criterion(task="t9", metric="loss", better="lower", margin=0.02),)
    assert _decide(_table(gains)).decision == "ACCEPT"
    assert _decide(_table(gains), _policy(guardrails=guard)).decision == "REJECT"
    assert _decide(_table(gains), _policy(primary=(replace(guard[0], margin=0.0),))).decision == "REJECT"


def test_the_worst_part_is_named_and_parts_are_marked() -> None:
    verdict = _decide(_table(dict.fromkeys(TASKS, 30.0) | {"t4": -8.0}))
    worst = _reason(verdict, Code.AGGREGATE_WORST_PART)
    assert (worst.subject, worst.figures["n_worse"], worst.figures["n_parts"]) == ("t4", 1, 10)
    assert worst.figures["gain"] < -3
    assert [c.task for c in verdict.comparisons if c.part_of == ALL] == list(TASKS)
    assert verdict.comparisons[0].task == ALL
    shown = json.loads(json.dumps(to_json(verdict), allow_nan=False))
    assert [part["task"] for part in shown["aggregate"]["parts"]] == list(TASKS)
    assert math.fsum(part["weight"] for part in shown["aggregate"]["parts"]) == pytest.approx(1.0)
    assert shown["comparisons"][1]["part_of"] == ALL


def test_a_seed_that_lacks_a_task_is_excluded_with_the_task_named() -> None:
    table = _table(3.0, seeds=4)
    table = table[~((table["mix"] == "new") & (table["seed"] == 2) & (table["task"] == "t3"))]
    verdict = _decide(table)
    excluded = _reason(verdict, Code.AGGREGATE_SEEDS_EXCLUDED)
    assert (excluded.subject, excluded.figures["seeds"]) == ("new", (2,))
    assert [m["task"] for m in excluded.figures["metrics"]] == ["t3"]
    assert list(_own(verdict.comparisons).differences) == [0, 1, 3]


def test_a_score_of_the_aggregate_that_is_not_finite_prevents_a_verdict() -> None:
    """A diverged run must not be excluded, because that would favor the candidate."""
    table = _table(30.0, seeds=4)
    table.loc[(table["mix"] == "new") & (table["seed"] == 2) & (table["task"] == "t3"), "value"] = math.nan
    verdict = _decide(table)
    assert (verdict.decision, _own(verdict.comparisons).votes) == ("INCONCLUSIVE", False)
    with pytest.raises(AssayError, match="aggregate/all seed_sds of new seed 2"):
        compare(table, _policy(), baseline="base")


def test_a_constant_task_gets_the_sd_of_the_other_tasks_and_is_named() -> None:
    table = _table(30.0)
    table.loc[table["task"] == "t3", "value"] = 1.0
    verdict = _decide(table)
    assert [m["task"] for m in _reason(verdict, Code.AGGREGATE_CONSTANT).figures["metrics"]] == ["t3"]
    assert verdict.decision == "ACCEPT"


@pytest.mark.parametrize("constant", [True, False])
def test_without_known_sds_there_is_no_aggregate_and_no_accept(constant: bool) -> None:
    table = _table(30.0, tasks=("t0", "t1"), seeds=3 if constant else 1)
    if constant:
        table.loc[table["task"] == "t1", "value"] = 1.0
    own = together_of(("t0", "t1"))
    primary = (Criterion(task="t0", metric="loss", better="lower"),)
    for policy in (_policy(aggregate=own), _policy(aggregate=own, primary=primary)):
        verdict = _decide(table, policy)
        unknown = _reason(verdict, Code.AGGREGATE_UNKNOWN)
        assert (verdict.decision, unknown.figures["constant"]) == ("INCONCLUSIVE", constant)


def test_an_unknown_task_is_refused_with_the_nearest_name() -> None:
    own = together_of((*TASKS, "t99"))
    with pytest.raises(AssayError, match="names t99 loss, but no run has this score. Did you mean"):
        _decide(_table(), _policy(aggregate=own))


def test_a_task_with_the_name_of_the_aggregate_is_refused() -> None:
    table = _table()
    with pytest.raises(AssayError, match="which is the name of the policy's aggregate"):
        _decide(pd.concat([table, table[table["task"] == "t0"].assign(task=ALL)], ignore_index=True))


def test_an_aggregate_is_formed_from_averaged_checkpoints_of_the_proxy_scale() -> None:
    end = _table(0.5).assign(scale="150M", tokens=1e9)
    other = _table(-30.0, rng=3).assign(scale="1B", tokens=1e9)
    final = pd.concat([end, other], ignore_index=True)
    earlier = final.assign(tokens=5e8, value=final["value"] + 0.1)
    policy = _policy(proxy_scale="150m", average=Averaging(last=2, every=0.5))
    averaged = _decide(pd.concat([earlier, final], ignore_index=True), policy)
    alone = _decide(end)
    assert _own(averaged.comparisons).effect == pytest.approx(_own(alone.comparisons).effect)


def test_arms_that_lack_a_task_of_the_aggregate_share_no_seed_and_name_it() -> None:
    table = _table(30.0)
    verdict = _decide(table[(table["mix"] != "base") | (table["task"] != "t3")])
    assert (verdict.decision, _own(verdict.comparisons).n_seeds) == ("INCONCLUSIVE", 0)
    excluded = _reason(verdict, Code.AGGREGATE_SEEDS_EXCLUDED)
    assert (excluded.subject, excluded.figures["metrics"][0]["task"]) == ("base", "t3")


def test_a_group_counts_as_one_task_by_its_own_score_or_the_mean_of_its_tasks() -> None:
    table = _table(2.0, tasks=("t0", "mmlu_law", "mmlu_art"))
    own = _none(tasks=("t0",), groups=("mmlu",))
    effect = _own(compare(table, _policy(aggregate=own), baseline="base")).effect
    by_task = {c.task: c.effect for c in compare(table, _policy(aggregate=own), baseline="base") if c.task != ALL}
    assert effect == pytest.approx(by_task["t0"] / 2 + (by_task["mmlu_law"] + by_task["mmlu_art"]) / 4)
    group = table[table["task"] == "mmlu_law"].assign(task="mmlu")
    with_score = pd.concat([table, group], ignore_index=True)
    effect = _own(compare(with_score, _policy(aggregate=own), baseline="base")).effect
    assert effect == pytest.approx(by_task["t0"] / 2 + by_task["mmlu_law"] / 2)


def test_a_group_that_lacks_a_task_in_one_run_is_a_missing_score() -> None:
    table = _table(2.0, tasks=("t0", "mmlu_law", "mmlu_art"), seeds=4)
    table = table[~((table["mix"] == "base") & (table["seed"] == 1) & (table["task"] == "mmlu_art"))]
    verdict = _decide(table, _policy(aggregate=_none(tasks=("t0",), groups=("mmlu",))))
    assert _reason(verdict, Code.AGGREGATE_SEEDS_EXCLUDED).figures["metrics"][0]["task"] == "mmlu"


def test_tasks_at_chance_level_are_named_and_an_aggregate_of_them_has_no_signal() -> None:
    def scores(level: float, tasks: tuple[str, ...], rng: int) -> pd.DataFrame:
        random = np.random.default_rng(rng)
        rows = [
            (mix, seed, task, "acc", level + 0.005 * random.standard_normal(), 1000, 0.25)
            for mix in ("base", "new")
            for seed in range(3)
            for task in tasks
        ]
        return pd.DataFrame(rows, columns=["mix", "seed", "task", "metric", "value", "n", "chance"])

    own = Aggregate(name="all", metric="acc", tasks=("a", "b", "c"))
    mixed = pd.concat([scores(0.6, ("a", "b"), 0), scores(0.25, ("c",), 1)], ignore_index=True)
    verdict = _decide(mixed, _policy(aggregate=own))
    assert [m["task"] for m in _reason(verdict, Code.AGGREGATE_PARTS_AT_CHANCE).figures["metrics"]] == ["c"]
    verdict = _decide(scores(0.25, ("a", "b", "c"), 2), _policy(aggregate=own))
    assert (_own(verdict.comparisons).signal, _own(verdict.comparisons).votes) == ("no signal", False)
    assert verdict.decision == "INCONCLUSIVE"


def test_the_history_provides_sds_that_do_not_depend_on_the_tested_runs() -> None:
    past = _table(0.0, mixes=tuple(f"past{i}" for i in range(8)), rng=5)
    verdict = _decide(_table(1.5), history=past)
    assert verdict.aggregate is not None
    assert (verdict.aggregate.basis, verdict.aggregate.variance_factor) == ("history", 1.0)
    assert _reason(verdict, Code.SCOPE_AGGREGATE).figures["basis"] == "history"
    assert _own(verdict.comparisons).noise_df > 2, "the history's replicates also moderate the aggregate's variance"
    alone = _decide(_table(1.5)).aggregate
    assert alone is not None
    assert (alone.basis, alone.variance_factor > 1) == ("arms", True)


def test_the_variance_from_the_choice_of_items_is_that_of_all_tasks() -> None:
    random = np.random.default_rng(3)
    rows, items = [], []
    for task in ("a", "b"):
        difficulty = random.standard_normal(200)
        for mix in ("base", "new"):
            difficulty = difficulty + 0.7 * random.standard_normal(200)
            for seed in range(3):
                answers = (difficulty + 0.7 * random.standard_normal(200) > -0.3).astype(float)
                rows.append((mix, seed, task, "acc", answers.mean(), 200))
                items += [(mix, seed, task, "acc", str(i), value) for i, value in enumerate(answers)]
    table = pd.DataFrame(rows, columns=["mix", "seed", "task", "metric", "value", "n"])
    answered = pd.DataFrame(items, columns=["mix", "seed", "task", "metric", "item", "value"])
    own = Aggregate(name="all", metric="acc", tasks=("a", "b"), standardize="none")
    compared = compare(table, _policy(aggregate=own), baseline="base", items=answered)
    parts = [c.item_variance for c in compared if c.task != ALL]
    assert min(parts) > 0
    assert _own(compared).item_variance == pytest.approx(sum(parts) / 4)
    answered["group"] = (answered["item"].astype(int) // 67).astype(str)  # three clusters, of which two are full
    c = _own(compare(table, _policy(aggregate=own), baseline="base", items=answered))
    error = math.sqrt(c.noise_moderated**2 / 3 + c.item_variance)
    assert (c.ci_high - c.ci_low) / 2 > 0.99 * stats.t.ppf(0.975, 2) * error, "the degrees of freedom of the clusters"


def test_an_aggregate_with_a_part_that_improves_by_construction_cannot_cause_an_accept() -> None:
    table = _table(30.0, tasks=("t0", "validation/books"))
    own = together_of(("t0", "validation/books"))
    trained = {"base": ("web",), "new": ("web", "books")}
    policy = _policy(aggregate=own, exclude_one_arm_sources=True)
    assert _decide(table, policy, trained=trained).decision == "INCONCLUSIVE"
    assert _decide(table, policy, trained={"base": ("web",), "new": ("web",)}).decision == "ACCEPT"


def test_one_option_controls_the_error_over_all_candidates() -> None:
    table = _table(30.0, mixes=("base", "a", "b", "c", "d"))
    together = gate(table, _policy(candidates="all"), baseline="base", candidates=["a", "b", "c", "d"])
    assert [c.level for c in together.candidates["a"].comparisons[:1]] == [pytest.approx(1 - 0.05 / 4)]
    assert (together.note[0].code, together.note[0].figures["candidates"]) == (Code.CANDIDATES_CONTROLLED, 4)
    one = gate(table, _policy(candidates="all"), baseline="base", candidates=["a"], n_candidates=4)
    assert one.candidates["a"].comparisons[0].level == pytest.approx(1 - 0.05 / 4)
    compared = compare(table, _policy(candidates="all"), baseline="base")
    assert [c.level for c in compared] == pytest.approx([1 - 0.05 / 4] * len(compared))
    early = _policy(candidates="all", early_stopping=EarlyStopping(stop="losers"))
    final = gate(table, early, baseline="base", candidates=["a", "b", "c", "d"])
    used = 1 - final.candidates["a"].comparisons[0].level
    assert final.note[0].figures["final"] == pytest.approx(used) == pytest.approx(0.05 * 0.8 / 4)
    each = gate(table, _policy(), baseline="base", candidates=["a", "b", "c", "d"])
    assert (each.candidates["a"].comparisons[0].level, each.note[0].code) == (0.95, Code.SEVERAL_CANDIDATES)
