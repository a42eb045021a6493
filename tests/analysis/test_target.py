"""The gate with a target and a history."""

from __future__ import annotations

import itertools
import json
import math
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from assay.analysis.gate import Verdict, decide, gate
from assay.config.policy import Criterion, Policy, Target
from assay.config.reason import Code
from assay.core.errors import AssayError
from assay.report.reason_text import to_json
from tests.analysis.stats.simulated_tables import AVERAGE, TASKS, World, table
from tests.helpers.reasons import codes, facts, first

TARGET = Target(scale="1B", task=AVERAGE, metric="acc", better="higher")


def _policy(**changes: object) -> Policy:
    fields: dict[str, object] = {
        "name": "t",
        "alpha": 0.05,
        "min_seeds": 3,
        "proxy_scale": "150M",
        "target": TARGET,
    }
    return Policy(**{**fields, **changes})  # type: ignore[arg-type]


@cache
def _study(seed: int = 1) -> tuple[pd.DataFrame, pd.DataFrame, list[str]]:
    """Proxy rows, target rows, and the mixes from the best at the proxy to the worst."""
    proxy, target = World(transfer=0.95).draw(np.random.default_rng(seed))
    order = [f"m{i}" for i in np.argsort(-proxy[..., -1].mean(axis=1))]
    return table(proxy, "150M"), table(target, "1B"), order


def _decide(
    baseline: str,
    candidate: str,
    *,
    rule: Policy | None = None,
    history: pd.DataFrame | None = None,
    results: pd.DataFrame | None = None,
) -> Verdict:
    near, far, _ = _study()
    compared = near[near["mix"].isin([baseline, candidate])] if results is None else results
    past = pd.concat([near, far]) if history is None else history
    past = past[~past["mix"].isin([baseline, candidate])] if "mix" in past else past
    return decide(compared, rule or _policy(), baseline=baseline, candidate=candidate, history=past)


def test_better_at_the_target_is_accept_and_worse_is_reject() -> None:
    order = _study()[2]
    best, worst = order[0], order[-1]
    up, down = _decide(worst, best), _decide(best, worst)
    assert (up.decision, down.decision) == ("ACCEPT", "REJECT")
    assert up.target is not None
    assert down.target is not None
    assert up.target.effect == pytest.approx(-down.target.effect)
    assert up.target.ci_low < up.target.effect < up.target.ci_high
    assert up.target.chance_other == pytest.approx(down.target.chance_other)
    assert facts(up.reasons[0]) == (Code.TARGET_BETTER, f"{AVERAGE} acc")
    assert up.reasons[0].figures["scale"] == "1B"
    assert down.reasons[0].code is Code.TARGET_WORSE
    json.dumps(to_json(up), allow_nan=False)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_score_of_the_target_metric_that_is_not_finite_prevents_an_accept(value: float) -> None:
    near, _, order = _study()
    table = near[near["mix"].isin([order[-1], order[0]])].reset_index(drop=True)
    marked = (table["mix"] == order[0]) & (table["seed"] == table["seed"].iloc[0]) & (table["task"] == AVERAGE)
    verdict = _decide(order[-1], order[0], results=table.assign(value=table["value"].where(~marked, value)))
    assert verdict.decision == "INCONCLUSIVE"
    assert first(verdict.reasons, Code.SCORES_NOT_FINITE).subject == order[0]


def test_a_larger_value_is_worse_if_lower_is_better() -> None:
    order = _study()[2]
    rule = _policy(target=Target(scale="1B", task=AVERAGE, metric="acc", better="lower"))
    assert _decide(order[-1], order[0], rule=rule).decision == "REJECT"


def test_mixes_with_a_small_difference_at_the_proxy_are_undecided_with_next_steps() -> None:
    order = _study()[2]
    verdict = _decide(order[11], order[12])
    assert verdict.decision == "INCONCLUSIVE"
    assert verdict.needed[-1].code is Code.OPTION or verdict.needed[-1].code is Code.NEED_NEARER_PROXY
    assert first(verdict.needed, Code.NEED_NEARER_PROXY).figures["scale"] == "1B"


def test_the_ranking_accuracy_is_reported_with_its_pairs() -> None:
    verdict = _decide(*_study()[2][:2])
    assert verdict.reliability is not None
    assert verdict.reliability.n_mixes == 23
    assert verdict.reliability.n_pairs == math.comb(23, 2)
    assert verdict.reasons[1].code is Code.TARGET_RANKING
    assert verdict.reasons[1].figures["accuracy"] == verdict.reliability.accuracy
    assert (verdict.reasons[1].figures["n_pairs"], verdict.reasons[1].figures["n_mixes"]) == (253, 23)


def test_a_mix_against_itself_is_undecided() -> None:
    near, far, order = _study()
    rows = near[near["mix"] == order[0]]
    rng = np.random.default_rng(3)
    noise = World().draw(rng, mixes=50)[0]
    noise -= noise.mean(axis=1, keepdims=True)
    decided = 0
    for i in range(0, 50, 2):
        both = pd.concat(
            rows.assign(mix=name, value=rows["value"] + noise[i + at].ravel() / 100) for at, name in enumerate("ab")
        )
        decided += _decide("a", "b", results=both, history=pd.concat([near, far])).decision != "INCONCLUSIVE"
    assert decided <= 2


def test_rows_of_the_compared_mixes_in_the_history_are_excluded_and_reported() -> None:
    near, far, order = _study()
    base, new = order[-1], order[0]
    compared = near[near["mix"].isin([base, new])]
    clean = _decide(base, new)
    verdict = decide(compared, _policy(), baseline=base, candidate=new, history=pd.concat([near, far]))
    assert verdict.target is not None
    assert clean.target is not None
    assert verdict.target.effect == clean.target.effect
    texts = [reason.figures.get("text", "") for reason in verdict.reasons]
    assert any("were excluded, as these mixes are under comparison" in text for text in texts)


@pytest.mark.parametrize("mixes", [0, 3, 5])
def test_a_history_with_too_few_mixes_is_inconclusive(mixes: int) -> None:
    near, far, order = _study()
    few = pd.concat([near, far])
    kept = few[few["mix"].isin(order[5 : 5 + mixes])]
    if mixes == 0:
        kept = few[few["mix"].isin([order[0]])]
        verdict = decide(
            near[near["mix"].isin(order[:2])], _policy(), baseline=order[0], candidate=order[1], history=kept
        )
    else:
        verdict = _decide(order[-1], order[0], history=kept)
    assert verdict.decision == "INCONCLUSIVE"
    assert verdict.reasons[0].code is Code.TARGET_UNKNOWN
    problem = verdict.reasons[0].figures["problem"]
    assert f"{mixes} other mixes" in problem or "no metric was measured" in problem
    assert codes(verdict.scope) == [Code.SCOPE_TARGET_UNKNOWN]
    assert verdict.reliability is None


def test_without_a_history_the_scope_is_the_target_metric_at_the_proxy() -> None:
    near, _, order = _study()
    compared = near[near["mix"].isin([order[0], order[-1]])]
    verdict = decide(compared, _policy(), baseline=order[-1], candidate=order[0])
    assert (verdict.decision, verdict.target) == ("ACCEPT", None)
    [scope] = verdict.scope
    assert (scope.code, scope.subject, scope.figures["scale"]) == (Code.SCOPE_PROXY, "average", "1B")
    absent = decide(compared[compared["task"] != AVERAGE], _policy(), baseline=order[-1], candidate=order[0])
    assert absent.decision == "INCONCLUSIVE"


def test_a_target_metric_without_proxy_scores_is_predicted_from_other_metrics() -> None:
    near, far, order = _study()
    base, new = order[-1], order[0]
    without = near[near["task"] != AVERAGE]
    verdict = _decide(base, new, results=without[without["mix"].isin([base, new])], history=pd.concat([without, far]))
    assert verdict.decision == "ACCEPT"
    assert (
        verdict.reasons[0].figures["predictor"]
        == f"the mean of {len(TASKS)} metrics, each in units of its spread over the history"
    )


def test_a_regressing_guardrail_rejects_and_an_undecided_guardrail_prevents_accept() -> None:
    near, _, order = _study()
    base, new = order[-1], order[0]
    compared = near[near["mix"].isin([base, new])].copy()
    lost = (compared["mix"] == new) & (compared["task"] == "mmlu")
    guard = Criterion(task="mmlu", metric="acc", better="higher", margin=0.01)
    compared.loc[lost, "value"] -= 0.2
    assert _decide(base, new, rule=_policy(guardrails=(guard,)), results=compared).decision == "REJECT"
    noisy = Criterion(task="boolq", metric="acc", better="higher", margin=0.0)
    compared = near[near["mix"].isin([base, new])].copy()
    compared.loc[compared["task"] == "boolq", "value"] = [0.5, 0.6, 0.4, 0.6, 0.4, 0.5]
    verdict = _decide(base, new, rule=_policy(guardrails=(noisy,)), results=compared)
    assert verdict.decision == "INCONCLUSIVE"
    assert (Code.MARGIN_NOT_SHOWN, "boolq acc") in map(facts, verdict.reasons)


def test_an_improved_average_does_not_hide_a_regressing_task() -> None:
    near, _, order = _study()
    base, new = order[-1], order[0]
    compared = near[near["mix"].isin([base, new])].copy()
    compared.loc[(compared["mix"] == new) & (compared["task"] == "piqa"), "value"] -= 0.2
    verdict = _decide(base, new, results=compared)
    assert verdict.decision == "ACCEPT"
    assert "piqa" in [c.task for c in verdict.regressed]
    assert verdict.worst is not None
    assert first(verdict.reasons, Code.METRICS_REGRESS).subject == verdict.worst.task == "piqa"


def test_one_seed_is_inconclusive() -> None:
    near, _, order = _study()
    compared = near[near["mix"].isin([order[0], order[-1]]) & (near["seed"] == 0)]
    verdict = _decide(order[-1], order[0], results=compared)
    assert verdict.decision == "INCONCLUSIVE"
    assert "3 seeds of each mix, and there are 1 and 1" in verdict.reasons[0].figures["problem"]


def test_seeds_of_different_names_are_accepted() -> None:
    near, _, order = _study()
    base, new = order[-1], order[0]
    compared = near[near["mix"].isin([base, new])].assign(seed=lambda t: t["mix"] + "-" + t["seed"].astype(str))
    assert _decide(base, new, results=compared).decision == "ACCEPT"


@pytest.mark.parametrize(
    ("proxy", "target"), [(150e6, 1e9), (150_000_000, 1_000_000_000), ("150m", "1b"), ("0.15B", "1000M")]
)
def test_scales_may_be_written_as_numbers_or_names(proxy: object, target: object) -> None:
    near, far, order = _study()
    compared = near[near["mix"].isin([order[0], order[-1]])].assign(scale=proxy)
    history = pd.concat([near.assign(scale=proxy), far.assign(scale=target)])
    assert _decide(order[-1], order[0], results=compared, history=history).decision == "ACCEPT"


def test_a_single_proxy_scale_need_not_be_named() -> None:
    near, _, order = _study()
    compared = near[near["mix"].isin([order[0], order[-1]])]
    for results in (compared, compared.drop(columns="scale")):
        assert _decide(order[-1], order[0], rule=_policy(proxy_scale=None), results=results).decision == "ACCEPT"


def test_non_finite_values_in_the_history_are_excluded_and_counted() -> None:
    near, far, order = _study()
    history = pd.concat([near, far], ignore_index=True)
    history.loc[(history["mix"] == order[5]) & (history["task"] == AVERAGE) & (history["seed"] == 0), "value"] = (
        math.nan
    )
    verdict = _decide(order[-1], order[0], history=history)
    assert verdict.decision == "ACCEPT"
    assert any("non-finite values" in reason.figures.get("text", "") for reason in verdict.reasons)


def test_the_last_checkpoint_in_the_history_counts() -> None:
    near, far, order = _study()
    early = near.assign(tokens=1e9, value=0.3)
    verdict = _decide(order[-1], order[0], history=pd.concat([early, near, far]))
    clean = _decide(order[-1], order[0])
    assert verdict.target is not None
    assert clean.target is not None
    assert verdict.target.effect == clean.target.effect


NEAR, FAR, _ = _study()
PAST = pd.concat([NEAR, FAR], ignore_index=True)


@pytest.mark.parametrize(
    ("history", "message"),
    [
        (PAST.drop(columns="scale"), "history has no column 'scale'"),
        (PAST.rename(columns={"mix": "recipe"}), "history has no column 'mix'"),
        (PAST.assign(value="high"), "not a number"),
        (PAST[:0], "history has no rows"),
        (PAST.to_dict("records"), "history is a list; expected a pandas data frame"),
        (NEAR, "history has no runs at the target's scale"),
        (pd.concat([NEAR, FAR[FAR["task"] != AVERAGE]]), "history has no average acc at the target scale '1B'"),
        (pd.concat([NEAR.assign(scale="90M"), FAR]), "no runs at the proxy scale 150M; its scales are 90M, 1B"),
        (pd.concat([PAST, NEAR]), "several rows for mix"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_an_invalid_history_is_refused(history: pd.DataFrame, message: str) -> None:
    order = _study()[2]
    with pytest.raises(AssayError) as error:
        near = NEAR[NEAR["mix"].isin([order[0], order[-1]])]
        decide(near, _policy(), baseline=order[-1], candidate=order[0], history=history)
    assert message in str(error.value)


def test_mixes_can_be_named_by_numbers() -> None:
    near, far, order = _study()
    near, far = (part.assign(mix=part["mix"].str[1:].astype(int)) for part in (near, far))
    base, new = order[-1][1:], order[0][1:]
    compared = near[near["mix"].isin([int(base), int(new)])]
    history = pd.concat([near, far])
    assert decide(compared, _policy(), baseline=base, candidate=new, history=history).decision == "ACCEPT"


def test_equal_scores_decide_nothing() -> None:
    near, far, order = _study()
    compared = near[near["mix"].isin([order[0], order[-1]])].copy()
    compared["value"] = np.where(compared["mix"] == order[0], 0.5, 0.4)
    assert _decide(order[-1], order[0], results=compared).decision == "INCONCLUSIVE"
    flat = pd.concat([near, far.assign(value=0.5)])
    verdict = _decide(order[-1], order[0], history=flat)
    assert verdict.decision == "INCONCLUSIVE"
    assert "equal scores" in verdict.reasons[0].figures["problem"]


def test_a_sweep_is_decided_at_the_target() -> None:
    near, far, order = _study()
    some = [order[-1], order[0], order[1]]
    sweep = gate(
        near[near["mix"].isin(some)],
        _policy(),
        baseline=some[0],
        candidates=some[1:],
        history=pd.concat([near, far])[lambda t: ~t["mix"].isin(some)],
    )
    assert sweep.decision == "ACCEPT"


def test_a_policy_requires_a_primary_metric_or_a_target(tmp_path: Path) -> None:
    path = tmp_path / "ours.yaml"
    path.write_text(
        "alpha: 0.05\nmin_seeds: 3\nproxy_scale: 150000000\n"
        "target: {scale: 1000000000, task: average, metric: acc, better: higher}\n"
    )
    order = _study()[2]
    assert _decide(order[-1], order[0], rule=Policy.from_yaml(path)).decision == "ACCEPT"
    path.write_text("alpha: 0.05\nmin_seeds: 3\n")
    with pytest.raises(AssayError, match="no primary metric, no aggregate and no target"):
        Policy.from_yaml(path)


def test_decisions_agree_with_the_target() -> None:
    """The higher proxy mean wins at the target for about 80% of pairs; tests every tenth of 300 pairs, in four worlds."""
    rng = np.random.default_rng(8)
    decided = right = tested = 0
    for _ in range(4):
        proxy, target = World(clustered=False).draw(rng)
        near, past = table(proxy, "150M"), pd.concat([table(proxy, "150M"), table(target, "1B")])
        truth = target[..., -1].mean(axis=1)
        for a, b in list(itertools.combinations(range(25), 2))[::10]:
            pair = [f"m{a}", f"m{b}"]
            verdict = decide(
                near[near["mix"].isin(pair) & (near["task"] == AVERAGE)],
                _policy(),
                baseline=pair[0],
                candidate=pair[1],
                history=past[~past["mix"].isin(pair) & (past["task"] == AVERAGE)],
            )
            tested += 1
            if verdict.decision != "INCONCLUSIVE":
                decided += 1
                right += (verdict.decision == "ACCEPT") == (truth[b] > truth[a])
    assert decided / tested >= 0.2
    assert right / decided >= 0.95
