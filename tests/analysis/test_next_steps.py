"""Next steps of an inconclusive verdict: more seeds, more tokens, a larger proxy or target runs, with power and cost."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from assay.analysis.gate import Verdict, decide
from assay.analysis.next_steps import DecisionContext
from assay.config.policy import Policy, Target
from assay.config.reason import Code, Reason
from assay.report.reason_text import to_json
from tests.analysis.stats.simulated_tables import AVERAGE, World, table
from tests.helpers.reasons import codes, facts, first
from tests.helpers.studies import policy, results

RULE = policy(guardrails=())


def _undecided(effect: float = -0.004, *, context: DecisionContext | None = None, rule: Policy = RULE) -> Verdict:
    verdict = decide(
        results({"new": {"code": effect}}, noise=0.006), rule, baseline="base", candidate="new", context=context
    )
    assert verdict.decision == "INCONCLUSIVE"
    return verdict


def test_the_seeds_option_has_runs_tokens_and_worker_time() -> None:
    seeds, tokens, proxy = _undecided(context=DecisionContext(seconds=30.0)).options
    assert (seeds.kind, tokens.kind, proxy.kind) == ("seeds", "tokens", "proxy")
    assert seeds.seeds is not None
    assert seeds.runs == 2 * (seeds.seeds - 3)
    assert seeds.tokens == seeds.runs * 1e7
    assert seeds.worker_seconds == pytest.approx(30 * seeds.runs)
    assert seeds.power == pytest.approx(0.8, abs=0.03)
    assert (tokens.runs, tokens.tokens, tokens.worker_seconds) == (6, 6 * 2e7, 6 * 60)
    assert (proxy.tokens, proxy.worker_seconds) == (6 * 2e7, 6 * 120), "twice the parameters on twice the tokens"


def test_the_power_of_the_seeds_option_matches_simulated_studies() -> None:
    """Simulate studies with the estimated effect and noise, and with the option's number of seeds."""
    verdict = _undecided()
    estimate, option = verdict.comparisons[0], verdict.options[0]
    assert option.seeds is not None
    rng = np.random.default_rng(1)
    frame = results({"new": {}}, seeds=range(option.seeds), noise=0.0, tasks=("code",))
    new = (frame["mix"] == "new").to_numpy()
    decided = 0
    for _ in range(150):
        value = frame["value"].to_numpy(copy=True)
        value[new] += rng.normal(estimate.effect, estimate.noise, new.sum())
        decided += decide(frame.assign(value=value), RULE, baseline="base", candidate="new").decision == "ACCEPT"
    assert decided / 150 == pytest.approx(option.power, abs=0.1)


def test_without_past_runs_more_tokens_have_no_power() -> None:
    verdict = _undecided()
    assert [option.power for option in verdict.options[1:]] == [None, None]
    assert Reason(code=Code.BASIS_UNKNOWN_BY_TOKENS) in [cause for need in verdict.needed for cause in need.causes]
    assert all(option.worker_seconds is None for option in verdict.options)
    json.dumps(to_json(verdict), allow_nan=False)


def _past(noise: dict[tuple[float, float], float]) -> pd.DataFrame:
    """Ten mixes of three seeds at each scale and budget, with levels 0.1 apart; `noise` has the SDs."""
    rng = np.random.default_rng(3)
    rows = [
        (f"old{mix}", seed, scale, tokens, "validation/code", "bits_per_byte", 2 + 0.1 * mix + rng.normal(0, sd))
        for (scale, tokens), sd in noise.items()
        for mix in range(10)
        for seed in range(3)
    ]
    return pd.DataFrame(rows, columns=["mix", "seed", "scale", "tokens", "task", "metric", "value"])


def test_past_runs_give_more_tokens_and_a_larger_proxy_a_power() -> None:
    past = _past({(1e6, 1e7): 0.02, (1e6, 3e7): 0.002, (4e6, 1e7): 0.02})
    _, tokens, proxy = _undecided(context=DecisionContext(past=past)).options
    assert tokens.power is not None
    assert proxy.power is not None
    assert tokens.power > 0.9, "a tenth of the noise"
    assert proxy.power < 0.5, "the same noise"
    assert (tokens.tokens, proxy.tokens) == (6 * 3e7, 6 * 1e7)
    assert tokens.basis == Reason(code=Code.BASIS_PAST_SPREAD, figures={"n_mixes": 10})


def test_the_compared_mixes_and_too_few_past_mixes_give_no_power() -> None:
    past = _past({(1e6, 1e7): 0.02, (1e6, 3e7): 0.002})
    few = past[past["mix"].isin(["old0", "old1", "old2"])]
    own = past.assign(mix=past["mix"].map(lambda name: "base" if name < "old5" else "new"))
    for unfit in (few, own.drop_duplicates(["mix", "seed", "tokens"])):
        assert _undecided(context=DecisionContext(past=unfit)).options[1].power is None


def test_an_effect_too_small_for_any_number_of_seeds_is_reported() -> None:
    verdict = _undecided(-0.0002)
    assert [option.kind for option in verdict.options] == ["tokens", "proxy"]
    assert verdict.needed[0].code is Code.SEEDS_DO_NOT_SUFFICE
    assert verdict.needed[0].figures["most"] == 100


def test_the_seeds_option_of_an_apparent_loss_claims_worse() -> None:
    verdict = _undecided(0.004)
    assert [*map(facts, verdict.options[0].what.causes)] == [(Code.CLAIM_WORSE, "validation/code bits_per_byte")]


def test_an_undecided_guardrail_increases_the_number_of_seeds() -> None:
    rule = policy()
    plain = _undecided(-0.004).options[0].seeds
    table = results({"new": {"code": -0.004, "web": 0.027}}, noise=0.006)
    guarded = decide(table, rule, baseline="base", candidate="new").options[0]
    assert guarded.seeds is not None
    assert plain is not None
    assert guarded.seeds > plain
    assert first(guarded.what.causes, Code.CLAIM_GUARDRAILS_HOLD).figures == {"guardrails": 2}


# --- the target decides

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
    compared, pair = parts[0], [order[first], order[second]]
    history = pd.concat(parts)
    return decide(
        compared[compared["mix"].isin(pair)], TARGET, baseline=pair[0], candidate=pair[1],
        history=history[~history["mix"].isin(pair)], context=DecisionContext(seconds=100.0),
    )  # fmt: skip


def test_seeds_are_no_option_if_the_scales_disagree_by_more_than_the_difference() -> None:
    verdict = _at_target(8, 12)
    prediction = verdict.target
    assert prediction is not None
    assert prediction.best_chance > prediction.allowed
    assert [option.kind for option in verdict.options] == ["proxy", "target"]
    assert Code.SEEDS_CANNOT_DECIDE_TARGET in codes(verdict.needed)
    proxy, target = verdict.options
    assert proxy.power is None
    assert (target.runs, target.tokens) == (6, 6 * 3e9)
    assert target.power is not None
    assert target.worker_seconds == pytest.approx(600 * 1e9 / 150e6)


def test_an_intermediate_scale_in_the_history_is_an_option_with_a_power() -> None:
    nearer = _at_target(5, 11, between=True).options[0]
    assert (nearer.kind, nearer.what) == ("proxy", Reason(code=Code.LARGER_PROXY, figures={"scale": "500M"}))
    assert nearer.power is not None
    assert 0.0 < nearer.power <= 1.0
    assert nearer.tokens == 6 * 6e9
    assert nearer.basis == Reason(code=Code.BASIS_PAST_PROXIES, figures={"n_mixes": 23, "scale": "1B"})
    far = _at_target(8, 12, between=True).options[0]
    assert far.power is not None
    assert far.power < nearer.power, "smaller differences have less power"
