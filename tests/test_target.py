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

from assay.errors import AssayError
from assay.gate import Verdict, decide, gate
from assay.suite import Criterion, Policy, Target
from tests.stats.worlds import AVERAGE, TASKS, World, table

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
    judged = near[near["mix"].isin([baseline, candidate])] if results is None else results
    past = pd.concat([near, far]) if history is None else history
    past = past[~past["mix"].isin([baseline, candidate])] if "mix" in past else past
    return decide(judged, rule or _policy(), baseline=baseline, candidate=candidate, history=past)


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
    assert up.reasons[0].startswith(f"{AVERAGE} acc at 1B is better: ")
    json.dumps(up.to_mapping(), allow_nan=False)


def test_where_lower_is_better_a_larger_value_is_worse() -> None:
    order = _study()[2]
    rule = _policy(target=Target(scale="1B", task=AVERAGE, metric="acc", better="lower"))
    assert _decide(order[-1], order[0], rule=rule).decision == "REJECT"


def test_mixes_that_are_near_one_another_at_the_proxy_are_undecided_and_told_what_it_would_take() -> None:
    order = _study()[2]
    verdict = _decide(order[11], order[12])
    assert verdict.decision == "INCONCLUSIVE"
    assert verdict.needed[-1].startswith("A proxy nearer to 1B")


def test_the_ranking_of_the_past_is_reported_with_the_pairs_that_it_rests_on() -> None:
    verdict = _decide(*_study()[2][:2])
    assert verdict.reliability is not None
    assert verdict.reliability.n_mixes == 23
    assert verdict.reliability.n_pairs == math.comb(23, 2)
    assert f"{verdict.reliability.accuracy:.0%} of 253 pairs of 23 mixes" in verdict.reasons[1]


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


def test_rows_of_the_judged_mixes_in_the_history_teach_nothing_and_that_is_said() -> None:
    near, far, order = _study()
    base, new = order[-1], order[0]
    judged = near[near["mix"].isin([base, new])]
    clean = _decide(base, new)
    told = decide(judged, _policy(), baseline=base, candidate=new, history=pd.concat([near, far]))
    assert told.target is not None
    assert clean.target is not None
    assert told.target.effect == clean.target.effect
    assert any("taught nothing" in reason for reason in told.reasons)


@pytest.mark.parametrize("mixes", [0, 3, 5])
def test_a_history_of_too_few_mixes_is_inconclusive_and_says_so(mixes: int) -> None:
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
    assert f"{mixes} other mixes" in verdict.reasons[0] or "no metric was measured" in verdict.reasons[0]
    assert verdict.scope.startswith("about the proxy only")
    assert verdict.reliability is None


def test_without_a_history_the_targets_metric_is_judged_at_the_proxy_and_that_is_said() -> None:
    near, _, order = _study()
    judged = near[near["mix"].isin([order[0], order[-1]])]
    verdict = decide(judged, _policy(), baseline=order[-1], candidate=order[0])
    assert (verdict.decision, verdict.target) == ("ACCEPT", None)
    assert verdict.scope == (
        "about the proxy only: no history of proxy and target pairs was given, so nothing is said of average at 1B"
    )
    absent = decide(judged[judged["task"] != AVERAGE], _policy(), baseline=order[-1], candidate=order[0])
    assert absent.decision == "INCONCLUSIVE"


def test_a_target_that_was_not_measured_at_the_proxy_is_foretold_from_the_other_metrics() -> None:
    near, far, order = _study()
    base, new = order[-1], order[0]
    without = near[near["task"] != AVERAGE]
    verdict = _decide(base, new, results=without[without["mix"].isin([base, new])], history=pd.concat([without, far]))
    assert verdict.decision == "ACCEPT"
    assert f"the mean of {len(TASKS)} metrics" in verdict.reasons[0]


def test_a_guardrail_that_breaks_is_a_reject_and_one_that_is_not_shown_to_hold_stands_in_the_way() -> None:
    near, _, order = _study()
    base, new = order[-1], order[0]
    judged = near[near["mix"].isin([base, new])].copy()
    lost = (judged["mix"] == new) & (judged["task"] == "mmlu")
    guard = Criterion(task="mmlu", metric="acc", better="higher", margin=0.01)
    judged.loc[lost, "value"] -= 0.2
    assert _decide(base, new, rule=_policy(guardrails=(guard,)), results=judged).decision == "REJECT"
    noisy = Criterion(task="boolq", metric="acc", better="higher", margin=0.0)
    judged = near[near["mix"].isin([base, new])].copy()
    judged.loc[judged["task"] == "boolq", "value"] = [0.5, 0.6, 0.4, 0.6, 0.4, 0.5]
    verdict = _decide(base, new, rule=_policy(guardrails=(noisy,)), results=judged)
    assert verdict.decision == "INCONCLUSIVE"
    assert "boolq acc is not shown to stay within its margin" in " ".join(verdict.reasons)


def test_an_average_that_rises_hides_no_task_that_falls() -> None:
    near, _, order = _study()
    base, new = order[-1], order[0]
    judged = near[near["mix"].isin([base, new])].copy()
    judged.loc[(judged["mix"] == new) & (judged["task"] == "piqa"), "value"] -= 0.2
    verdict = _decide(base, new, results=judged)
    assert verdict.decision == "ACCEPT"
    assert "piqa" in [c.task for c in verdict.regressed]
    assert verdict.worst is not None
    assert any("fall" in reason and "the worst is" in reason for reason in verdict.reasons)


def test_one_seed_is_inconclusive() -> None:
    near, _, order = _study()
    judged = near[near["mix"].isin([order[0], order[-1]]) & (near["seed"] == 0)]
    verdict = _decide(order[-1], order[0], results=judged)
    assert verdict.decision == "INCONCLUSIVE"
    assert "3 seeds of each mix, and there are 1 and 1" in verdict.reasons[0]


def test_seeds_need_not_have_the_same_names() -> None:
    near, _, order = _study()
    base, new = order[-1], order[0]
    judged = near[near["mix"].isin([base, new])].assign(seed=lambda t: t["mix"] + "-" + t["seed"].astype(str))
    assert _decide(base, new, results=judged).decision == "ACCEPT"


@pytest.mark.parametrize(
    ("proxy", "target"), [(150e6, 1e9), (150_000_000, 1_000_000_000), ("150m", "1b"), ("0.15B", "1000M")]
)
def test_scales_may_be_written_as_numbers_or_names(proxy: object, target: object) -> None:
    near, far, order = _study()
    judged = near[near["mix"].isin([order[0], order[-1]])].assign(scale=proxy)
    history = pd.concat([near.assign(scale=proxy), far.assign(scale=target)])
    assert _decide(order[-1], order[0], results=judged, history=history).decision == "ACCEPT"


def test_the_proxy_scale_need_not_be_named_where_there_is_one() -> None:
    near, _, order = _study()
    judged = near[near["mix"].isin([order[0], order[-1]])]
    for results in (judged, judged.drop(columns="scale")):
        assert _decide(order[-1], order[0], rule=_policy(proxy_scale=None), results=results).decision == "ACCEPT"


def test_values_that_are_not_finite_are_left_out_of_the_history_and_counted() -> None:
    near, far, order = _study()
    history = pd.concat([near, far], ignore_index=True)
    history.loc[(history["mix"] == order[5]) & (history["task"] == AVERAGE) & (history["seed"] == 0), "value"] = (
        math.nan
    )
    verdict = _decide(order[-1], order[0], history=history)
    assert verdict.decision == "ACCEPT"
    assert any("no finite numbers" in reason for reason in verdict.reasons)


def test_of_several_checkpoints_in_the_history_the_last_one_counts() -> None:
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
        (PAST.to_dict("records"), "history is a list; it has to be a pandas data frame"),
        (NEAR, "history has no runs at the target's scale"),
        (pd.concat([NEAR, FAR[FAR["task"] != AVERAGE]]), "history has no average acc at the target scale '1B'"),
        (pd.concat([NEAR.assign(scale="90M"), FAR]), "no runs at the proxy scale 150M; its scales are 90M, 1B"),
        (pd.concat([PAST, NEAR]), "several rows for mix"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_history_that_cannot_be_read_is_refused_by_name(history: pd.DataFrame, message: str) -> None:
    order = _study()[2]
    with pytest.raises(AssayError) as error:
        near = NEAR[NEAR["mix"].isin([order[0], order[-1]])]
        decide(near, _policy(), baseline=order[-1], candidate=order[0], history=history)
    assert message in str(error.value)


def test_mixes_may_have_numbers_for_names() -> None:
    near, far, order = _study()
    near, far = (part.assign(mix=part["mix"].str[1:].astype(int)) for part in (near, far))
    base, new = order[-1][1:], order[0][1:]
    judged = near[near["mix"].isin([int(base), int(new)])]
    history = pd.concat([near, far])
    assert decide(judged, _policy(), baseline=base, candidate=new, history=history).decision == "ACCEPT"


def test_scores_that_are_all_the_same_decide_nothing() -> None:
    near, far, order = _study()
    judged = near[near["mix"].isin([order[0], order[-1]])].copy()
    judged["value"] = np.where(judged["mix"] == order[0], 0.5, 0.4)
    assert _decide(order[-1], order[0], results=judged).decision == "INCONCLUSIVE"
    flat = pd.concat([near, far.assign(value=0.5)])
    verdict = _decide(order[-1], order[0], history=flat)
    assert verdict.decision == "INCONCLUSIVE"
    assert "one and the same score" in verdict.reasons[0]


def test_a_sweep_is_judged_at_the_target_too() -> None:
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


def test_a_policy_with_a_target_needs_no_primary_and_one_without_either_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "ours.yaml"
    path.write_text(
        "alpha: 0.05\nmin_seeds: 3\nproxy_scale: 150000000\n"
        "target: {scale: 1000000000, task: average, metric: acc, better: higher}\n"
    )
    order = _study()[2]
    assert _decide(order[-1], order[0], rule=Policy.from_yaml(path)).decision == "ACCEPT"
    path.write_text("alpha: 0.05\nmin_seeds: 3\n")
    with pytest.raises(AssayError, match="no primary metric and no target"):
        Policy.from_yaml(path)


def test_pairs_that_are_decided_are_right_about_the_target() -> None:
    """A table whose higher mean is right for about 80% of pairs; every tenth of its 300 pairs, in four worlds."""
    rng = np.random.default_rng(8)
    decided = right = seen = 0
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
            seen += 1
            if verdict.decision != "INCONCLUSIVE":
                decided += 1
                right += (verdict.decision == "ACCEPT") == (truth[b] > truth[a])
    assert decided / seen >= 0.2
    assert right / decided >= 0.95
