"""What would decide: seeds by their known law, more tokens and larger proxies where the past shows them, and always the cost."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from assay.advice import Setting
from assay.gate import Verdict, decide
from assay.suite import Policy, Target
from tests.stats.worlds import AVERAGE, World, table
from tests.studies import policy, results

RULE = policy(guardrails=())


def _undecided(effect: float = -0.004, *, setting: Setting | None = None, rule: Policy = RULE) -> Verdict:
    verdict = decide(
        results({"new": {"code": effect}}, noise=0.006), rule, baseline="base", candidate="new", setting=setting
    )
    assert verdict.decision == "INCONCLUSIVE"
    return verdict


def test_seeds_are_advised_with_runs_tokens_and_the_workers_time() -> None:
    seeds, tokens, proxy = _undecided(setting=Setting(seconds=30.0)).options
    assert (seeds.kind, tokens.kind, proxy.kind) == ("seeds", "tokens", "proxy")
    assert seeds.seeds is not None
    assert seeds.runs == 2 * (seeds.seeds - 3)
    assert seeds.tokens == seeds.runs * 1e7
    assert seeds.worker_seconds == pytest.approx(30 * seeds.runs)
    assert seeds.power == pytest.approx(0.8, abs=0.03)
    assert (tokens.runs, tokens.tokens, tokens.worker_seconds) == (6, 6 * 2e7, 6 * 60)
    assert (proxy.tokens, proxy.worker_seconds) == (6 * 2e7, 6 * 120), "twice the parameters on twice the tokens"


def test_so_many_seeds_do_decide_as_often_as_they_say() -> None:
    """Studies of the effect and the noise that were seen, with the number of seeds that was advised."""
    verdict = _undecided()
    [seen], advised = verdict.comparisons[:1], verdict.options[0]
    assert advised.seeds is not None
    rng = np.random.default_rng(1)
    frame = results({"new": {}}, seeds=range(advised.seeds), noise=0.0, tasks=("code",))
    new = (frame["mix"] == "new").to_numpy()
    decided = 0
    for _ in range(150):
        value = frame["value"].to_numpy(copy=True)
        value[new] += rng.normal(seen.effect, seen.noise, new.sum())
        decided += decide(frame.assign(value=value), RULE, baseline="base", candidate="new").decision == "ACCEPT"
    assert decided / 150 == pytest.approx(advised.power, abs=0.1)


def test_what_is_not_known_of_more_tokens_is_said_and_has_no_power() -> None:
    verdict = _undecided()
    assert [option.power for option in verdict.options[1:]] == [None, None]
    assert "no past runs show how noise and spread change with tokens" in " ".join(verdict.needed)
    assert all(option.worker_seconds is None for option in verdict.options)
    json.dumps(verdict.to_mapping(), allow_nan=False)


def _past(noise: dict[tuple[float, float], float]) -> pd.DataFrame:
    """Ten mixes of three seeds at each scale and budget: levels 0.1 apart, and so much noise."""
    rng = np.random.default_rng(3)
    rows = [
        (f"old{mix}", seed, scale, tokens, "validation/code", "bits_per_byte", 2 + 0.1 * mix + rng.normal(0, sd))
        for (scale, tokens), sd in noise.items()
        for mix in range(10)
        for seed in range(3)
    ]
    return pd.DataFrame(rows, columns=["mix", "seed", "scale", "tokens", "task", "metric", "value"])


def test_more_tokens_and_a_larger_proxy_have_a_power_where_the_past_shows_what_they_do() -> None:
    past = _past({(1e6, 1e7): 0.02, (1e6, 3e7): 0.002, (4e6, 1e7): 0.02})
    _, tokens, proxy = _undecided(setting=Setting(past=past)).options
    assert tokens.power is not None
    assert proxy.power is not None
    assert tokens.power > 0.9, "a tenth of the noise"
    assert proxy.power < 0.5, "the same noise"
    assert (tokens.tokens, proxy.tokens) == (6 * 3e7, 6 * 1e7)
    assert "10 past mixes" in tokens.basis


def test_the_judged_mixes_and_histories_of_few_mixes_show_nothing_of_larger_runs() -> None:
    past = _past({(1e6, 1e7): 0.02, (1e6, 3e7): 0.002})
    few = past[past["mix"].isin(["old0", "old1", "old2"])]
    own = past.assign(mix=past["mix"].map(lambda name: "base" if name < "old5" else "new"))
    for unfit in (few, own.drop_duplicates(["mix", "seed", "tokens"])):
        assert _undecided(setting=Setting(past=unfit)).options[1].power is None


def test_an_effect_too_small_for_any_number_of_seeds_is_told_so() -> None:
    verdict = _undecided(-0.0002)
    assert [option.kind for option in verdict.options] == ["tokens", "proxy"]
    assert "no number of seeds up to 100 would do" in verdict.needed[0]


def test_a_change_that_looks_worse_is_decided_by_showing_that() -> None:
    verdict = _undecided(0.004)
    assert "validation/code bits_per_byte is worse" in verdict.options[0].what


def test_a_guardrail_in_the_way_is_counted_in() -> None:
    rule = policy()
    plain = _undecided(-0.004).options[0].seeds
    table = results({"new": {"code": -0.004, "web": 0.027}}, noise=0.006)
    guarded = decide(table, rule, baseline="base", candidate="new").options[0]
    assert guarded.seeds is not None
    assert plain is not None
    assert guarded.seeds > plain
    assert "2 guardrails hold" in guarded.what


# --- where the target decides

TARGET = Policy(
    name="t", alpha=0.05, min_seeds=3, proxy_scale="150M",
    target=Target(scale="1B", task=AVERAGE, metric="acc", better="higher"),
)  # fmt: skip


def _at_target(first: int, second: int, *, noise: float = 0.3, between: bool = False) -> Verdict:
    rng = np.random.default_rng(1)
    proxy, target = World(transfer=0.95, noise=noise).draw(rng)
    order = [f"m{i}" for i in np.argsort(-proxy[..., -1].mean(axis=1))]
    parts = [table(proxy, "150M"), table(target, "1B")]
    if between:
        parts.append(table(target + 0.05 * rng.normal(size=target.shape), "500M").assign(tokens=6e9))
    judged, pair = parts[0], [order[first], order[second]]
    history = pd.concat(parts)
    return decide(
        judged[judged["mix"].isin(pair)], TARGET, baseline=pair[0], candidate=pair[1],
        history=history[~history["mix"].isin(pair)], setting=Setting(seconds=100.0),
    )  # fmt: skip


def test_where_the_scales_disagree_by_more_than_the_difference_no_number_of_seeds_is_advised() -> None:
    verdict = _at_target(8, 12)
    told = verdict.target
    assert told is not None
    assert told.best_chance > told.allowed
    assert [option.kind for option in verdict.options] == ["proxy", "target"]
    assert any(line.startswith("No number of seeds would do") for line in verdict.needed)
    proxy, target = verdict.options
    assert proxy.power is None
    assert (target.runs, target.tokens) == (6, 6 * 3e9)
    assert target.power is not None
    assert target.worker_seconds == pytest.approx(600 * 1e9 / 150e6)


def test_a_scale_in_between_that_the_history_has_is_told_with_its_chance() -> None:
    nearer = _at_target(5, 11, between=True).options[0]
    assert (nearer.kind, nearer.what) == ("proxy", "a proxy of 500M")
    assert nearer.power is not None
    assert 0.0 < nearer.power <= 1.0
    assert nearer.tokens == 6 * 6e9
    assert "23 past mixes" in nearer.basis
    far = _at_target(8, 12, between=True).options[0]
    assert far.power is not None
    assert far.power < nearer.power, "a smaller difference is decided less often"
