"""Sentences of reasons. Other tests assert on codes, subjects and figures."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from assay.config.reason import Code, Reason, reference, stated
from assay.core.serde import from_mapping, to_mapping
from assay.report.reason_text import SENTENCES, WITH_CAUSES, fix, paragraph, scope_text, text, to_json, with_fix

DOCS = Path(__file__).parents[2] / "docs" / "reference" / "reasons.md"
EFFECT = {"effect": -0.05, "ci_low": -0.06, "ci_high": -0.04, "level": 0.95, "n_seeds": 3}
POINTS = {"effect": 0.0123, "ci_low": -0.001, "ci_high": 0.0256, "level": 0.99667, "n_seeds": 1}
PREDICTION = {
    "scale": "1B", "effect": 0.08, "ci_low": 0.05, "ci_high": 0.11, "level": 0.9, "proxy_effect": 0.06,
    "predictor": "mmlu acc", "n_seeds": (3, 4), "p_noise": 0.00001, "noise_known": True, "chance_other": 0.0001, "allowed": 0.05, "mix": "base",
}  # fmt: skip
JOINT = {
    "n_guardrails": 9, "mean_loss": 0.1, "mean_bound": 0.4, "p_mean": 0.001, "worst_loss": 0.8, "worst_bound": 1.9,
    "largest_bound": 2.1, "limit": 3.0, "level": 0.95,
}  # fmt: skip
INTERIM = {"outcome": "loser", "fraction": 0.25, "tokens": 250.0, "alpha": 0.01, "verdict": "REJECT"}
DEFECT = {
    "digest": "0123456789abcdef", "detector": "line_number_gutter", "severity": "high", "fraction": 0.5, "documents": 5,
    "reason": "numbers at the margin.", "finding": "f",
}  # fmt: skip
METRICS = ({"task": "mmlu", "metric": "acc", "effect": None}, {"task": "code", "metric": "acc", "effect": 0.01})
BPB = "bits_per_byte"


def reason(code: Code, subject: str = "", metric: str = "", *causes: Reason, **figures: Any) -> Reason:
    return Reason(code=code, subject=subject, metric=metric, figures=figures, causes=causes)


SEED = reason(Code.MISSING_RUNS, "", "", stated("failed."), seeds=(0, 1, 2, 7))
BASIS = reason(Code.BASIS_ESTIMATES)
TESTED = {"candidate": "new", "baseline": "base", "registration": ""}
RESULT = {**EFFECT, "effect_percent": -2.513, "better": "lower", "claim": "better", "role": "primary", "guardrails": 2,
          "guardrails_held": 2}  # fmt: skip
ACCEPTED = reason(Code.SUMMARY, "code", BPB, **TESTED, **RESULT, decision="ACCEPT")
RENDERED: list[tuple[Reason, str]] = [
    (ACCEPTED,
     ("new against base: code bits_per_byte changes by -0.0500 bits per byte (better, -2.5% of the baseline, 95% interval"
      " -0.0600 to -0.0400, 3 seeds) with 2 of 2 guardrails shown to hold, so the gate accepts the change (ACCEPT).")),
    (reason(Code.SUMMARY, "mmlu", "acc", **(TESTED | {"registration": "changed after the results"}), **POINTS, scale="1B",
            better="higher", decision="INCONCLUSIVE"),
     ("new against base: mmlu acc at 1B is predicted to change by +1.23 points (better, 99.67% interval -0.10 to +2.56, 1"
      " seed), so the results do not decide (INCONCLUSIVE); policy and suite: changed after the results.")),
    (reason(Code.SUMMARY, "code", BPB, **TESTED, **(RESULT | {"ci_low": None, "guardrails": 0}), stopped_at=0.25,
            decision="REJECT"),
     ("new against base: code bits_per_byte changes by -0.0500 bits per byte after 25% of the tokens (better, -2.5% of the"
      " baseline, the uncertainty is unknown, 3 seeds), so the gate rejects the change (REJECT).")),
    (reason(Code.SUMMARY, "code", BPB, **TESTED, **(RESULT | {"guardrails": 0}), arm_seeds=[10, 3], decision="ACCEPT"),
     ("new against base: code bits_per_byte changes by -0.0500 bits per byte (better, -2.5% of the baseline, 95% interval"
      " -0.0600 to -0.0400, 10 seeds of base and 3 of new), so the gate accepts the change (ACCEPT).")),
    (reason(Code.SUMMARY, **TESTED, decision="BLOCKED"),
     "new against base: a defect or a missing clearance blocks the change (BLOCKED)."),
    (reason(Code.SUMMARY, **TESTED, decision="INCONCLUSIVE"),
     "new against base: there is no result of a voting metric, so the results do not decide (INCONCLUSIVE)."),
    (reason(Code.SWEEP_SUMMARY, "", "", ACCEPTED, candidates=3, counts={"ACCEPT": 1, "REJECT": 2}, running=1),
     ("Of 3 candidates, 1 is accepted and 2 are rejected, but 1 run of the sweep is in progress; new against base: code"
      " bits_per_byte changes by -0.0500 bits per byte (better, -2.5% of the baseline, 95% interval -0.0600 to -0.0400, 3"
      " seeds) with 2 of 2 guardrails shown to hold, so the gate accepts the change (ACCEPT).")),
    (reason(Code.SWEEP_SUMMARY, "", "", reason(Code.SUMMARY, **TESTED, decision="BLOCKED"), candidates=4, running=0,
            counts={"ACCEPT": 1, "REJECT": 1, "INCONCLUSIVE": 2}),
     ("Of 4 candidates, 1 is accepted, 1 is rejected and 2 are undecided; new against base: a defect or a missing clearance"
      " blocks the change (BLOCKED).")),
    (reason(Code.SWEEP_SUMMARY, "", "", ACCEPTED, candidates=1, counts={"ACCEPT": 1}, running=0),
     ("new against base: code bits_per_byte changes by -0.0500 bits per byte (better, -2.5% of the baseline, 95% interval"
      " -0.0600 to -0.0400, 3 seeds) with 2 of 2 guardrails shown to hold, so the gate accepts the change (ACCEPT).")),
    (reason(Code.BETTER, "code", BPB, **EFFECT, margin=0.0, p_adjusted=0.00143),
     ("code bits_per_byte is better. The effect is -0.0500 bits per byte (95% interval -0.0600 to -0.0400, 3"
      " seeds, adjusted p 0.0014).")),
    (reason(Code.BETTER, "mmlu", "acc", **POINTS, margin=0.005, p_adjusted=0.00001),
     ("mmlu acc is better by more than 0.50 points. The effect is +1.23 points (99.67% interval -0.10 to +2.56, 1"
      " seed, adjusted p below 0.0001).")),
    (reason(Code.WORSE, "web", BPB, **EFFECT, role="guardrail", margin=0.03, p_adjusted=None),
     ("web bits_per_byte is worse by more than its margin of 0.0300 bits per byte. The effect is -0.0500 bits per"
      " byte (95% interval -0.0600 to -0.0400, 3 seeds, adjusted p unknown).")),
    (reason(Code.WITHIN_MARGIN, "web", BPB, **EFFECT, margin=0.03, p_noninferior=0.01, noninferiority_bound=-0.042),
     ("web bits_per_byte stays within its margin of 0.0300 bits per byte. The effect is -0.0500 bits per byte (95%"
      " interval -0.0600 to -0.0400, 3 seeds, one-sided 95% bound -0.0420 bits per byte, non-inferiority p 0.01).")),
    (reason(Code.MARGIN_NOT_SHOWN, "web", BPB, **EFFECT, margin=0.03, p_noninferior=0.2),
     ("The runs do not show that web bits_per_byte stays within its margin of 0.0300 bits per byte. The effect is"
      " -0.0500 bits per byte (95% interval -0.0600 to -0.0400, 3 seeds, non-inferiority p 0.2).")),
    (reason(Code.NOT_SIGNIFICANT, "code", "loss", **EFFECT, margin=0.0, p_adjusted=0.3, mde=0.07),
     ("code loss is not significantly better or worse. The effect is -0.05 (95% interval -0.06 to -0.04, 3 seeds,"
      " adjusted p 0.3). This design detects an effect of 0.07 with power 0.8.")),
    (reason(Code.NO_SIGNAL, "mmlu", "acc", detail="accuracy 0.25"), "mmlu acc has no signal and does not vote: accuracy 0.25."),
    (reason(Code.DECLINES_WITHOUT_SIGNAL, "mmlu", "acc", role="guardrail", margin=0.01, effect=-0.05, ci_low=-0.06,
            ci_high=-0.04, level=0.95, n_seeds=3, p=0.0017, detail="accuracy 0.25"),
     ("mmlu acc has no signal: accuracy 0.25. But the candidate's score is worse by more than its margin of 1.00 points. The"
      " effect is -5.00 points (95% interval -6.00 to -4.00, 3 seeds, p 0.0017). This prevents an ACCEPT.")),
    (reason(Code.DECLINES_WITHOUT_SIGNAL, "mmlu", "acc", role="primary", margin=0.0, effect=-0.05, ci_low=None,
            ci_high=None, level=0.95, n_seeds=1, p=None, detail="the history has signal-to-noise 0.10"),
     ("mmlu acc has no signal: the history has signal-to-noise 0.10. But the candidate's score is worse. The effect is -5.00"
      " points with unknown noise. This prevents an ACCEPT.")),
    (reason(Code.NEED_DECLINE_EXAMINED, "mmlu", "acc"),
     "Examine the decline of mmlu acc with a larger proxy or more items, which give the metric signal."),
    (reason(Code.DIRECTION_UNUSUAL, "toxigen", "acc", better="lower"),
     ("The policy declares that a lower toxigen acc is better. Usually a higher value of this metric is better.")),
    (reason(Code.DIRECTION_UNKNOWN, metrics=METRICS),
     ("The direction of improvement of mmlu acc, code acc is unknown, so the verdict calls these metrics neither better nor"
      " worse. Add the directions to `directions` of the policy.")),
    (reason(Code.PREDICTOR_LACKS_DIRECTIONS, metrics=METRICS),
     ("The predictor of the target leaves out mmlu acc, code acc, because the direction of improvement is unknown. Add the"
      " directions to `directions` of the policy.")),
    (reason(Code.DIRECTIONS_UNUSED, "strict", keys=("nosuch", "mmlu typo")),
     ("No metric that both mixes have matches the entries nosuch, mmlu typo of `directions` in policy strict. Correct or remove"
      " them.")),
    (reason(Code.NO_VOTE, "mmlu", "acc", detail="one seed"), "mmlu acc does not vote: one seed."),
    (reason(Code.TOO_FEW_SHARED_SEEDS, n_seeds=1, min_seeds=3, metrics=METRICS),
     ("The two mixes share 1 seed with scores of these metrics: mmlu acc, code acc (effect so far +1.00 points)."
      " The policy requires 3 shared seeds.")),
    (reason(Code.SEEDS_MISSING, "new", "", stated("seed 2 failed"), present=2, planned=3, seeds=(0, 1)),
     "new has results for 2 of 3 seeds. Seed 2 failed."),
    (reason(Code.SEEDS_MISSING, "new", present=0, planned=1, seeds=()), "new has results for 0 of 1 seed."),
    (reason(Code.TARGET_RUNS, scale="1B", n_seeds=1), "Train both mixes at 1B, 1 seed of each mix."),
    (reason(Code.SEEDS_MISSING, "new", present=1, planned=3, seeds=(0,)),
     "new has results for 1 of 3 seeds: seed 0."),
    (reason(Code.SEEDS_NOT_PAIRED, "new", baseline="base", candidate="new", baseline_seeds=(0, 1), candidate_seeds=(7,), shared=()),
     ("Results exist for seeds 0, 1 of base and for seed 7 of new. The analysis pairs runs by seed, but the two"
      " mixes share no seed.")),
    (reason(Code.NOT_SCORED_ON_BOTH, "web", "acc", seeds=(1,)),
     "For seed 1, at least one of the two mixes has no score of web acc."),
    (reason(Code.SEEDS_UNSHARED, "new", baseline="base", baseline_seeds=(0, 1), candidate_seeds=(7,), shared=(), metrics=METRICS, every=True),
     ("The scores come from different seeds: seeds 0, 1 of base and seed 7 of new. The effect is the difference of their"
      " means, without pairing.")),
    (reason(Code.ARM_NOISE_DIFFERS, "new", baseline="base", metrics=[{"task": "web", "metric": "acc", "ratio": 5.04}]),
     ("The noise of the mixes differs in these metrics: web acc (base and new differ from the other mixes, and the pair has 5"
      " times their noise). The comparison uses only the noise of base and new. If the difference is by chance, more seeds show"
      " it.")),
    (reason(Code.ARM_NOISE_DIFFERS, "new", baseline="base", metrics=[
        {"task": "web", "metric": "acc", "ratio": 5.04, "arms": ["new"], "between": True},
        {"task": "code", "metric": "acc", "ratio": None, "arms": ["base"], "between": False}]),
     ("The noise of the mixes differs in these metrics: web acc (new has 5 times the noise of base), code acc (base differs from"
      " the other mixes). The comparison uses only the noise of base and new. If the difference is by chance, more seeds show"
      " it.")),
    (reason(Code.HISTORY_NOISE_UNUSED, metrics=[{"task": "web", "metric": "acc", "ratio": 2.5}]),
     ("The noise of past mixes is not used, because the noise of this sweep does not agree with it closely. In"
      " relation to the history, it is: web acc (2.5 times).")),
    (reason(Code.OUTLIER_SEED, "new", seed=3, decision="INCONCLUSIVE", without="ACCEPT", too_few=False,
            metrics=[{"task": "code", "metric": BPB, "value": 7.5, "expected": 2.0, "p": 1e-9}]),
     ("Seed 3 of new is an outlier: code bits_per_byte is 7.5000 bits per byte instead of about 2.0000 bits per byte. The"
      " verdict uses it. Without outliers, the verdict is ACCEPT. Check the run's log, data order and machine.")),
    (reason(Code.OUTLIER_SEED, "new", seed=3, decision="REJECT", without="INCONCLUSIVE", too_few=True,
            metrics=[{"task": "code", "metric": BPB, "value": 7.5, "expected": 2.0, "p": 1e-9}]),
     ("Seed 3 of new is an outlier: code bits_per_byte is 7.5000 bits per byte instead of about 2.0000 bits per byte. The"
      " verdict uses it. Without outliers, the verdict is INCONCLUSIVE, because too few seeds are left. Check the run's log,"
      " data order and machine.")),
    (reason(Code.RUNS_EXCLUDED, "new", "", SEED),
     "The results exclude some seeds of new. Seeds 0 to 2, 7: failed."),
    (reason(Code.METRICS_REGRESS, "piqa", "acc", **POINTS, n_regressing=1, n_metrics=9, alpha=0.05),
     ("1 of 9 metrics regresses by more than noise, at a false discovery rate of 5%. The worst regression is in"
      " piqa acc. The effect is +1.23 points (99.67% interval -0.10 to +2.56, 1 seed).")),
    (reason(Code.JOINT_WITHIN_MARGIN, "piqa", "acc", **JOINT),
     ("The joint test of 9 guardrails shows that their losses are acceptable. Their mean change is -0.10"
      " margins (at 95% at least -0.40, non-inferiority p 0.001). The worst estimate is that of piqa acc, -0.80"
      " margins (at 95% at least -1.90). The lowest bound of any guardrail is -2.10 margins, and the policy's"
      " limit is -3.")),
    (reason(Code.JOINT_NOT_SHOWN, "piqa", "acc", **JOINT | {"n_guardrails": 1, "mean_loss": None}),
     ("The joint test of 1 guardrail does not show that their losses are acceptable. Their mean change is"
      " unknown margins (at 95% at least -0.40, non-inferiority p 0.001). The worst estimate is that of piqa"
      " acc, -0.80 margins (at 95% at least -1.90). The lowest bound of any guardrail is -2.10 margins, and the"
      " policy's limit is -3.")),
    (reason(Code.JOINT_NOT_SHOWN, "piqa", "acc", **JOINT | {"p_mean": 0.2, "largest_bound": 3.1}, failed=("mean", "limit")),
     ("The joint test of 9 guardrails does not show that their losses are acceptable. Their mean change is -0.10"
      " margins (at 95% at least -0.40, non-inferiority p 0.2). The worst estimate is that of piqa acc, -0.80"
      " margins (at 95% at least -1.90). The lowest bound of any guardrail is -3.10 margins, and the policy's"
      " limit is -3. The policy's joint rule fails, because the mean loss is not shown to be below one margin and"
      " not every loss is shown to be below 3 margins.")),
    (reason(Code.AGGREGATE_WORST_PART, "piqa", "acc", **POINTS, aggregate="aggregate/all", unit="seed_sds", gain=-0.4, n_parts=9, n_worse=2),
     ("The task with the lowest gain in aggregate/all is piqa acc (-0.40 seed SDs). The effect is +1.23 points"
      " (99.67% interval -0.10 to +2.56, 1 seed). 2 of 9 tasks are worse in their estimates.")),
    (reason(Code.AGGREGATE_PARTS_AT_CHANCE, "aggregate/all", "seed_sds", metrics=METRICS, n_parts=9),
     "2 of 9 tasks of aggregate/all have no signal and only add noise: mmlu acc, code acc."),
    (reason(Code.AGGREGATE_SEEDS_EXCLUDED, "new", aggregate="aggregate/all", seeds=(1,), metrics=METRICS[:1]),
     "aggregate/all excludes seed 1 of new, because mmlu acc has no score for this seed."),
    (reason(Code.AGGREGATE_CONSTANT, "aggregate/all", "seed_sds", metrics=METRICS[:1], n_parts=9),
     ("The scores of mmlu acc do not differ between seeds. In aggregate/all, they are divided by the SD of the"
      " other tasks with this metric.")),
    (reason(Code.AGGREGATE_UNKNOWN, "aggregate/all", "seed_sds", metrics=METRICS[:1], n_parts=9, constant=False),
     ("aggregate/all cannot be formed, because the scores of these tasks have too few seeds: mmlu acc. Their SD"
      " between seeds is unknown.")),
    (reason(Code.AGGREGATE_UNKNOWN, "aggregate/all", "seed_sds", metrics=METRICS[:1], n_parts=9, constant=True),
     ("aggregate/all cannot be formed, because the scores of these tasks do not differ between seeds: mmlu acc."
      " Their SD between seeds is unknown.")),
    (reason(Code.SCOPE_AGGREGATE, "aggregate/all", "seed_sds", n_parts=9, basis="arms", factor=1.333, weighted=False),
     ("aggregate/all is the mean of 9 tasks in seed SDs: the SDs between seeds are estimated from all arms, so"
      " its variance is multiplied by 1.33.")),
    (reason(Code.SCOPE_AGGREGATE, "aggregate/all", "seed_sds", n_parts=9, basis="history", factor=1.0, weighted=True),
     ("aggregate/all is the weighted mean of 9 tasks in seed SDs: the SDs between seeds are those of the"
      " history.")),
    (reason(Code.SCOPE_AGGREGATE, "aggregate/all", "acc", n_parts=9, basis="none", factor=1.0, weighted=False),
     "aggregate/all is the mean of 9 tasks in their own unit."),
    (reason(Code.CANDIDATES_CONTROLLED, "base", candidates=4, alpha=0.05, each=0.0125),
     ("The error rate of 5% holds for all 4 candidates together: each candidate was evaluated at 1.25%"
      " (Bonferroni).")),
    (reason(Code.CANDIDATES_CONTROLLED, "base", candidates=5, alpha=0.05, each=0.01, final=0.008),
     ("The error rate of 5% holds for all 5 candidates together: each candidate has 1% (Bonferroni). The final verdict"
      " uses 0.8%, and interim analyses or earlier stages use the remaining part.")),
    (reason(Code.UNEVEN_SEED_TOKENS, "new", seeds={"2": 1e9}, longest=3e9),
     ("The runs of new were trained on different numbers of tokens. The longest run has 3,000,000,000 tokens."
      " These runs are shorter: seed 2 (1,000,000,000 tokens).")),
    (reason(Code.MIXES_NOT_AVERAGED, mixes=["short", "other"], last=2),
     ("The results exclude short, other. The policy averages the last 2 checkpoints, which were not scored there as for the"
      " compared mixes.")),
    (reason(Code.UNEVEN_MIX_TOKENS, "new", baseline="base", baseline_tokens=1000.0, candidate_tokens=970.0),
     ("base was trained on 1,000 tokens, and new on 970 tokens. The unequal budgets may explain part of the"
      " difference in scores.")),
    (reason(Code.TARGET_BETTER, "mmlu", "acc", **PREDICTION),
     ("mmlu acc at 1B is predicted to be better. The predicted effect is +8.00 points (90% interval +5.00 to"
      " +11.00, the level of the decision). The effect at the proxy is +6.00 points (3 baseline and 4 candidate seeds, p below 0.0001 for"
      " seed noise alone). The probability that base wins at 1B is below 0.1%, at most the allowed 5.0%.")),
    (reason(Code.TARGET_NOT_SHOWN, "mmlu", "acc", **{**PREDICTION, "chance_other": 0.2, "predictor": "the mean of 3 metrics"}),
     ("mmlu acc at 1B is not significantly better or worse. The predicted effect is +8.00 points (90% interval"
      " +5.00 to +11.00, the level of the decision). The effect at the proxy on the mean of 3 metrics is +0.06 (3 baseline and 4 candidate"
      " seeds, p below 0.0001 for seed noise alone). The probability that base does not win at 1B is 20.0%, more"
      " than the allowed 5.0%.")),
    (reason(Code.TARGET_UNKNOWN, "mmlu", "acc", scale="1B", problem="too few"),
     "assay cannot predict the effect on mmlu acc at 1B: too few."),
    (reason(Code.TARGET_RANKING, "mmlu", "acc", scale="1B", accuracy=0.95, n_pairs=66, n_mixes=12),
     ("In the history, the proxy predicted the winner at 1B for 95% of 66 pairs of 12 mixes. Each pair was"
      " predicted from a history without its two mixes.")),
    (reason(Code.HISTORY_EXCLUDED, "tokens", mixes=["m1"], scale="150M", tokens=3e10, expected=3e9),
     ("The history's rows of m1 were excluded, because they were trained on 30,000,000,000 tokens at 150M, and"
      " 3,000,000,000 tokens were expected.")),
    (reason(Code.HISTORY_EXCLUDED, "setting", mixes=["m1"], scale="150M", label="task version", task="mmlu", value="2",
            expected="1"),
     ("The history's rows of m1 were excluded, because the task version of mmlu at 150M is 2, and 1 was expected.")),
    (reason(Code.HISTORY_EXCLUDED, "scale", mixes=["m1"], scale="1B"),
     "The history's rows of m1 were excluded, because they have no comparable results at 1B."),
    (reason(Code.HISTORY_EXCLUDED, "copy", mixes=["m1", "m2"]),
     "The history's rows of m1, m2 were excluded, because they repeat all scores of another mix."),
    (reason(Code.HISTORY_EXCLUDED, "same_as_arm", mixes=["m1"]),
     "The history's rows of m1 were excluded, because they have exactly the scores of a compared mix."),
    (reason(Code.HISTORY_EXCLUDED, "outlier", mixes=["m1"]),
     "The history's rows of m1 were excluded, because their scores are too far from those of the other mixes."),
    (reason(Code.TARGET_WIDENED, "family", families=["code"]),
     ("The history has no mixes of the family code. The interval is therefore based on how well the other families"
      " predict each family of the history.")),
    (reason(Code.TARGET_WIDENED, "unexpected", mixes=["m1"]),
     ("In the history, the results of m1 at the target scale are far from those that the proxy predicts. The errors"
      " behind the interval include these mixes.")),
    (reason(Code.TARGET_WIDENED, "range", fraction=0.25),
     ("25% of the difference at the proxy lies outside the range of the history's mixes. The interval counts this part"
      " as error.")),
    (reason(Code.TARGET_WIDENED, "profile", factor=1.5),
     ("Over all metrics, a compared mix is 1.50 times as far from the history's mixes as the most unusual of them. The"
      " interval is wider by this factor.")),
    (reason(Code.NEED_SEEDS, n_seeds=3, shared=True),
     "Each mix needs 3 finished seeds, and both mixes need the same seeds."),
    (reason(Code.NEED_INDEPENDENT_RUNS, "code", "loss", n_seeds=1),
     "code loss needs a second seed of each mix, or a history with replicates."),
    (reason(Code.NEED_SEEDS_TO_SHOW, "code", BPB, claim="better", likely=6, at_most=11, most=100, n_seeds=3, noise=0.0153),
     ("About 6 seeds of each mix would show that code bits_per_byte is better, if effect and noise are as"
      " estimated. The estimated standard deviation of the noise is 0.0153 bits per byte. If 3 seeds understate the noise, up to 11 seeds"
      " are needed.")),
    (reason(Code.SEEDS_DO_NOT_SUFFICE, "code", BPB, most=100, items=True),
     "Even 100 seeds of each mix do not suffice for code bits_per_byte. More items may suffice."),
    (reason(Code.NEED_NEARER_PROXY, "mmlu", "acc", scale="1B", smallest=0.02, proxy_effect=-0.01),
     ("A proxy closer to 1B is needed. The history requires a difference of 2.00 points at this proxy, but the two"
      " mixes differ by 1.00 points. More seeds do not change the required difference.")),
    (reason(Code.OPTION, "seeds", "", reason(Code.MORE_SEEDS, "", "", reason(Code.CLAIM_BETTER, "code", BPB),
            reason(Code.CLAIM_GUARDRAILS_HOLD, guardrails=1), n_seeds=6, more=3), BASIS,
            runs=6, tokens=6e7, worker_seconds=5400, power=0.83),
     ("Train 6 seeds of each mix (3 more), to show that code bits_per_byte is better and 1 guardrail stays within"
      " its margin. Cost: 6 new runs, 60M tokens, 1.5 h of worker time. Probability of a decision: 83%. The"
      " probability assumes that effects and noise are as estimated.")),
    (reason(Code.OPTION, "tokens", "", reason(Code.MORE_TOKENS, factor=2, tokens=2e7), reason(Code.BASIS_UNKNOWN_BY_TOKENS),
            runs=1, tokens=2e7, worker_seconds=None, power=None),
     ("Train runs of twice the tokens, 20M each. Cost: 1 new run, 20M tokens, worker time unknown. Probability of"
      " a decision: unknown. No past runs show how effects and noise change with the number of tokens.")),
    (reason(Code.LARGER_PROXY, scale="500M"),
     "Train a proxy of 500M"),
    (reason(Code.LARGER_PROXY, factor=2, parameters=None),
     "Train a proxy of twice the parameters, on twice the tokens"),
    (reason(Code.LARGER_PROXY, parameters=4e6, tokens=1e7),
     "Train a proxy of 4M parameters on 10M tokens"),
    (reason(Code.SCOPE_PROXY),
     "The verdict is about the proxy only, because no history has results at the proxy and at a target."),
    (reason(Code.SCOPE_PROXY, "mmlu", "acc", scale="7b"),
     ("The verdict is about the proxy only, because no history has results at the proxy and at a target. The"
      " verdict makes no claim about mmlu at 7b.")),
    (reason(Code.SCOPE_TARGET, "mmlu", "acc", scale="1B"),
     ("The verdict is about mmlu acc at 1B, predicted from past mixes that were trained at both the proxy and the"
      " target scale.")),
    (reason(Code.SCOPE_CHECKPOINT_MEANS, last=3),
     "Scores are means over the last 3 checkpoints of each run."),
    (reason(Code.SCOPE_STOPPED_EARLY, tokens=768.0, fraction=0.25),
     ("The verdict is about runs of 768 tokens (25% of the budget). At this point, the interim analysis stopped"
      " the candidate.")),
    (reason(Code.SEVERAL_CANDIDATES, "base", candidates=2, alpha=0.05, expected=0.1),
     ("2 candidates were evaluated, each candidate at an error rate of 5%. If no candidate differs from base, 0.1"
      " wrong verdicts are expected.")),
    (reason(Code.SEEDS_ADDED, "tiny"),
     ("Seeds were added to sweep tiny after its verdict was known. Therefore the policy's error rate does not hold"
      " for this verdict. In simulations, adding seeds to an inconclusive sweep raises the false-positive rate"
      " from 5% to 9 or 10%.")),
    (reason(Code.SCOPE_STAGES, "new", stage=2, stages=(2, 3, 5), levels=(0.0019, 0.0095, 0.0386), spending="obrien_fleming",
            alpha=0.05),
     ("The seeds are trained in 3 stages of 2, 3, 5 seeds in total. The levels of the stages are 0.19%, 0.95%, 3.86%"
      " (obrien_fleming), and their sum is 5.00%. The verdict rests on stage 2 (3 seeds).")),
    (reason(Code.STAGE_DECIDED, "new", stage=1, stages=3, n_seeds=2, left=3, level=0.0262),
     "Stage 1 of 3 decided new with 2 seeds at a level of 2.62%. 3 further seeds of new are not needed."),
    (reason(Code.STAGE_WAITS, "new", runs=("base s1", "new s1"), more=2),
     "The decision waits for results: base s1, new s1 and 2 more."),
    (reason(Code.STAGE_KEEPS_WINNERS),
     "The results show that the candidate is better, but the policy ends only losers before the last stage."),
    (reason(Code.STAGE_OPEN, "new", "", reason(Code.STAGE_KEEPS_WINNERS), stage=2, stages=3, n_seeds=3),
     ("new is undecided in stage 2 of 3 (3 seeds). The results show that the candidate is better, but the policy ends only"
      " losers before the last stage.")),
    (reason(Code.NEED_STAGE, "new", stage=3, stages=3, seeds=2, n_seeds=5, level=0.0386, most=5, begun=False),
     ("stage 3 of 3: 2 more seeds planned, 5 in total (at most 5). Its level is 3.86%. The monitor job or the last worker"
      " submits the seeds, and `assay submit` does so too.")),
    (reason(Code.NEED_STAGE, "new", stage=2, stages=3, seeds=1, n_seeds=3, level=0.0095, most=5, begun=True),
     ("stage 2 of 3: the runs of up to 3 seeds must end. `assay submit` sends runs that no worker has. The level of the stage"
      " is 0.95%.")),
    (reason(Code.NEED_STAGE, "new", stage=2, stages=3, seeds=1, n_seeds=3, level=0.0095, most=5, begun=False, external=True,
            control="base"),
     ("stage 2 of 3: 3 seeds that base and new share (at most 5), 1 more than the results have. Import the missing"
      " results. The level of the stage is 0.95%.")),
    (reason(Code.SCOPE_STAGES, stage=1, stages=(2, 3), levels=(0.01, 0.04), spending="pocock", alpha=0.05, left_out=(2,)),
     ("The seeds are trained in 2 stages of 2, 3 seeds in total. The levels of the stages are 1.00%, 4.00% (pocock), and their"
      " sum is 5.00%. The verdict rests on stage 1 (2 seeds). The verdict does not use seed 2, which no completed stage"
      " contains.")),
    (reason(Code.STAGE_LATER, stage=2, stages=3), "stage 2 of 3: trained if a candidate is undecided before"),
    (reason(Code.STAGE_SKIPPED, stage=2, stages=3, decided=1), "stage 2 of 3: not needed, because stage 1 decided"),
    (reason(Code.STOPPED_EARLY, "new", outcome="loser", fraction=0.25, tokens=768.0),
     ("The interim analysis at 25% of the budget (768 tokens) stopped candidate new as a loser. The runs of new"
      " were canceled and did not fail.")),
    (reason(Code.INTERIM_STOPS, "new", **INTERIM),
     "The interim analysis at 25% of the budget (250 tokens) stops candidate new as a loser."),
    (reason(Code.INTERIM_NOT_SIGNIFICANT, "new", **INTERIM),
     ("At 25% of the budget (250 tokens), candidate new is not significantly better or worse. The alpha of this"
      " analysis is 1.00%.")),
    (reason(Code.INTERIM_CONTINUES, "new", "", reason(Code.STOPPING_NOT_ALLOWED, "none"), **INTERIM),
     ("The interim analysis at 25% of the budget (250 tokens) shows that candidate new is a loser. Training"
      " continues, because the policy stops no candidates early.")),
    (reason(Code.INTERIM_PENDING, "", "", reason(Code.WAITING_FOR_RUNS, runs=tuple("abcdef")), fraction=0.25),
     ("An interim analysis at 25% of the budget is not possible yet, because scores are missing for a, b, c, d and"
      " 2 more.")),
    (reason(Code.PERSISTENCE, "code", "loss", persisted=10 / 15, n_pairs=15, n_mixes=6, at_least=0.5, at_most=3.0, fraction=0.25, problem=""),
     ("In the history, 15 pairs of 6 mixes differed in code loss by 0.5 to 3.0 SDs of noise at 25% of the budget."
      " Of these pairs, 67% ended in the same order.")),
    (reason(Code.PERSISTENCE_TOO_LOW, "code", "loss", least=0.9, persisted=0.5, n_pairs=12, problem=""),
     ("the policy requires that at least 90% of similar past differences in code loss persist to the end of"
      " training, but only 50% of 12 similar differences persisted")),
    (reason(Code.INTERVALS_JOINT, level=0.95),
     ("Each interval applies to the token count of its analysis. All intervals hold jointly at a confidence level"
      " of 95%, for any number of analyses. The intervals make no claim about the end of training.")),
    (reason(Code.SOURCE_BLOCKED, "a", by="legal", reference="T-1"), "source 'a' is blocked by legal (T-1)"),
    (reason(Code.SOURCE_PENDING, "a", license=None), "source 'a' is pending: no license is stated"),
    (reason(Code.SOURCE_PENDING, "a", license="MIT"),
     "source 'a' is pending: the source has not been cleared"),
    (reason(Code.DEFECT, "books", **DEFECT),
     ("source 'books' (version 0123456789ab) has the defect line_number_gutter in 50.00% of its documents: numbers at the"
     " margin")),
    (reason(Code.FINDINGS_UNREADABLE, "books", digest="0123456789abcdef", error="a.json is cut"),
     "the audit record of source 'books' (version 0123456789ab) cannot be read: a.json is cut"),
    (reason(Code.BASELINE_BLOCKED, "base", "", reason(Code.SOURCE_BLOCKED, "a", by=None, reference=None)),
     "the baseline base is tainted: source 'a' is blocked"),
    (reason(Code.DIVERGED, failure="NaN at step 3"),
     "NaN at step 3. A new attempt repeats the same steps. Change the recipe, or add --retry-failed if a fault of the machine caused the spike"),
    (reason(Code.WAITING_FOR_TOKENS, "base", sources=("code", "web"), pools=True),
     "never run. The weights and pools of the mix are unknown until `assay prepare` has tokenized code, web"),
    (reason(Code.SAME_AS_BASELINE, "same", baseline="base"),
     "same has the same run specs as the baseline base. Therefore same shares the runs of the baseline."),
    (reason(Code.TOKENIZER_ADJUSTED, "ours", changes=("sampling", "template"), template=("<s>",), end="</s>"),
     ("Tokenizer 'ours' differs from its file: it encodes without dropout or sampling; training and evaluation encode text without"
     " the post-processor, which adds <s>.")),
    (reason(Code.TOKENIZER_ADJUSTED, "ours", changes=("truncation", "padding", "decoder", "end_token"), template=(), end="</s>"),
     ("Tokenizer 'ours' differs from its file: it does not truncate documents; it does not pad documents; it decodes as its model"
     " encodes, because the file has no decoder; </s> is a special token, so that text is never encoded as </s>.")),
    (reason(Code.TOKENIZER_LOSES_TEXT, "web", fraction=0.00213, example="\u00e9\n", bytes=9),
     "The tokenizer loses 0.21% of the bytes of source 'web', for example 'é\\n'. Bits per byte do not count them."),
    (reason(Code.TOKENIZER_LOSES_TEXT, "web", fraction=0.00001, example="", bytes=900_000),
     "The tokenizer loses less than 0.01% of the bytes of source 'web'. Bits per byte do not count them."),
    (reason(Code.TOKENIZER_REFUSED, "ours", error="tokenizer 'ours': its end is unknown."),
     "Further runs would be refused: tokenizer 'ours': its end is unknown."),
    (reason(Code.MANY_EPOCHS, "books", mix="base", epochs=5.14),
     "Mix base trains 5.1 epochs of source 'books'. More than 4 epochs of a source add little."),
    (reason(Code.FEW_SEQUENCES, "tiny", stage="", sequences=312, sources={"books": {"sequences": 0, "requested": 0.0312}}),
     ("tiny: some sources get no or very few of the 312 sequences of a run: books 0 (its weight corresponds to 0.031). The runs do not"
      " show the effect of these sources.")),
    (reason(Code.WEIGHTS_CAPPED, "tiny", stage="anneal", max_epochs=4.0, sources={"web": {"written": 0.8, "trained": 0.25}}),
     "tiny: in stage anneal, `max_epochs: 4` changes the weights: web from 0.8 to 0.25."),
    (reason(Code.WEIGHTS_RESCALED, "tiny", sum=1.4, edit="scale web x2"),
     "tiny: after the edit `scale web x2`, the weights sum to 1.4, so assay divided each of them by this sum."),
    (reason(Code.KEYS_OVERRIDDEN, "tiny", catalog="mix", files={"weights": "sweeps/a.yaml", "max_epochs": "conf/mix/tiny.yaml"}),
     "mix tiny is merged from several places: weights from sweeps/a.yaml; max_epochs from conf/mix/tiny.yaml."),
    (reason(Code.ITEMS_LEFT_OUT, "piqa", left_out=12, items=1838, context=64),
     "piqa: 12 of 1,838 items are not scored, because a choice exceeds the model's context of 64 tokens."),
    (reason(Code.PROMPTS_TRUNCATED, "mmlu", truncated=30, probed=228, longest=1024, context=256),
     ("mmlu: 30 of the 228 longest requests exceed the model's context of 256 tokens (the longest has 1,024). The beginning of"
     " these prompts is cut off.")),
    (reason(Code.LENGTHS_UNKNOWN, "mmlu"),
     "mmlu: assay cannot check whether the items fit the model's context until `assay prepare` creates the tokenizer."),
    (reason(Code.EXAMPLES_ARE_ITEMS, "sums"),
     ("sums: the few-shot examples come from the evaluated items, because the data set has no other split. A prompt may contain"
     " the answer.")),
    (reason(Code.INTERIM_SCORES_LOST, runs={"80%": 6}, last=3),
     ("Some runs were trained without interim evaluations. Number of runs without scores: 6 at 80% of the budget."
      " The policy averages the last 3 checkpoints and excludes such runs. To train these runs again, move the"
      " folders of the runs out of the store.")),
    (reason(Code.MISSING_RUNS, "", "", reason(Code.NOT_FINISHED, "todo", "", reason(Code.NEVER_RUN)), seeds=(1,)),
     "seed 1 has status todo: never run"),
    (reason(Code.CHECKPOINTS_NOT_SCORED, steps=(16,), run_steps=20, last=3),
     "the run has no scores after step 16, and the policy averages the last 3 checkpoints"),
    (reason(Code.DELIVERED_OFF, "code", delivered=5, requested=7.25),
     "source 'code' delivered 5 sequences, but the mix requested 7.2"),
    (reason(Code.NOISE_FROM_RUNS, n_runs=12, n_mixes=4, where="the store", history=True, n_seeds=1),
     "estimated from 12 runs of 4 mixes in the store and the history. A single seed of each mix shows no noise."),
    (reason(Code.MARGINS_LACK_POWER, metrics=({"task": "web", "metric": "acc", "power": 0.42},)),
     ("This design has little power to show that these guardrails stay within their margins, even if the candidate"
      " changes nothing: web acc (power 42%). Add seeds or widen the margins.")),
    (reason(Code.PREREGISTERED, day="2026-11-18 11:06 UTC"),
     "Pre-registered on 2026-11-18 11:06 UTC, before any result of a candidate."),
    (reason(Code.CHANGED_AFTER_RESULTS, day="2026-11-18", changed=("policy.alpha 0.05 -> 0.01",), why=("the board",)),
     ("Changed after the results: policy.alpha 0.05 -> 0.01. The old values were registered on 2026-11-18. The"
      " verdict uses the new values. Reason for the change: the board.")),
    (reason(Code.ARMS_ADDED, added=tuple("abcdefgh")),
     "Arms or seeds added after the registration: a, b, c, d, e, f and 2 more."),
    (reason(Code.CONFIGURATION_DIFFERS, changed=("policy.alpha 0.05 -> 0.4",)),
     ("The configuration now differs from the registration: policy.alpha 0.05 -> 0.4. The verdict uses the"
      " registered values. The option --policy-now selects the configured values.")),
    (reason(Code.TARGET_NOT_SHOWN, "mmlu", "acc", **{**PREDICTION, "p_noise": 0.4}),
     ("mmlu acc at 1B is not significantly better or worse. The predicted effect is +8.00 points (90% interval"
      " +5.00 to +11.00, the level of the decision). The effect at the proxy is +6.00 points (3 baseline and 4 candidate seeds, p 0.4 for"
      " seed noise alone). The effect at the proxy may be seed noise.")),
    (reason(Code.TARGET_BETTER, "mmlu", "acc", **{**PREDICTION, "noise_known": False, "n_seeds": (1, 1), "p_noise": 0.01}),
     ("mmlu acc at 1B is predicted to be better. The predicted effect is +8.00 points (90% interval +5.00 to"
      " +11.00, the level of the decision). The effect at the proxy is +6.00 points (1 baseline and 1 candidate seeds, p 0.01 for seed noise"
      " alone, whose size is bounded by the history, as no replicates show it). The probability that base wins at 1B"
      " is below 0.1%, at most the allowed 5.0%.")),
    (reason(Code.NEED_SEEDS_TO_SHOW, "web", "loss", claim="holds", likely=6, at_most=None, most=100, n_seeds=1,
            noise=0.01),
     ("About 6 seeds of each mix would show that web loss stays within its margin, if effect and noise are as"
      " estimated. The estimated standard deviation of the noise is 0.01. If the history understates the noise, more than 100 seeds are"
      " needed.")),
    (reason(Code.WORSE_THAN_MARGIN_SO_FAR, "web", BPB, margin=0.03),
     ("The estimated decline of web bits_per_byte is larger than its margin of 0.0300 bits per byte. More seeds"
      " will more likely confirm this decline than refute it.")),
    (reason(Code.GAIN_BELOW_MARGIN_SO_FAR, "mmlu", "acc", margin=0.005),
     ("The estimated gain of mmlu acc is below its margin of 0.50 points. More seeds do not change the expected"
      " gain.")),
    (reason(Code.SEEDS_CANNOT_DECIDE_TARGET, "mmlu", "acc", scale="1B", best_chance=0.12, allowed=0.05),
     ("More seeds suffice only if these seeds show a larger difference at the proxy. Even without seed noise, the"
      " predicted winner loses at 1B with a probability of 12.0%. The policy allows 5.0%.")),
    (reason(Code.OPTION, "metric", "", reason(Code.OTHER_METRIC), reason(Code.BASIS_NO_SIGNAL), runs=0, tokens=0,
            worker_seconds=None, power=None),
     ("Choose another primary metric that has signal, such as bits per byte of the correct answers. Cost: no new"
      " runs. Probability of a decision: unknown. More seeds do not give a metric signal.")),
    (reason(Code.SCOPE_TARGET_UNKNOWN, "mmlu", "acc", scale="1B",
            problem="most of the history's mixes have equal scores"),
     ("The verdict is about the proxy only. assay cannot predict the effect on mmlu acc at 1B: most of the"
      " history's mixes have equal scores.")),
    (reason(Code.SEVERAL_CONTROLS, candidates=4, controls=2, alpha=0.05, expected=0.2),
     ("4 candidates were evaluated against 2 controls, each candidate at an error rate of 5%. If no candidate"
      " differs from its control, 0.2 wrong verdicts are expected.")),
    (reason(Code.INTERIM_CONTINUES, "new", "", reason(Code.PERSISTENCE_TOO_LOW, "code", "loss", least=0.9,
            persisted=0.5, n_pairs=12, problem=""), **INTERIM),
     ("The interim analysis at 25% of the budget (250 tokens) shows that candidate new is a loser. Training"
      " continues, because the policy requires that at least 90% of similar past differences in code loss persist"
      " to the end of training, but only 50% of 12 similar differences persisted.")),
    (reason(Code.INTERIM_PENDING, "", "", reason(Code.HISTORY_LACKS_CHECKPOINT, fraction=0.25, scale="1B"),
            fraction=0.25),
     ("An interim analysis at 25% of the budget is not possible yet, because the history has no scores near 25% of"
      " the budget that predict 1B.")),
    (reason(Code.PERSISTENCE, "code", "loss", persisted=0.8, n_pairs=5, n_mixes=6, at_least=2.0, at_most=4.0,
            fraction=0.25, problem="no past pairs were as far apart as that"),
     ("In the history, 5 pairs of 6 mixes differed in code loss by 2.0 to 4.0 SDs of noise at 25% of the budget."
      " Of these pairs, 80% ended in the same order. These pairs are the farthest apart in the history. The"
      " candidate's difference is rare: no past pairs were as far apart as that.")),
    (reason(Code.PERSISTENCE_UNKNOWN, "code", "loss", problem="only 2 past pairs differ at all"),
     ("It is unknown how often a difference of this size in code loss persists to the end of training: only 2 past"
      " pairs differ at all.")),
    (reason(Code.CHECKPOINTS_NOT_SCORED, steps=(), run_steps=2, last=3),
     "a run of 2 steps has too few checkpoints, and the policy averages the last 3 checkpoints"),
    (reason(Code.SEEDS_MISSING, "new", "", reason(Code.MISSING_RUNS, "", "", reason(Code.NOT_FINISHED, "todo", "",
            reason(Code.NEVER_RUN)), seeds=(1,)), reason(Code.MISSING_RUNS, "", "", reason(Code.RECORD_UNREADABLE,
            error="scores.json is cut"), seeds=(2,)), present=1, planned=3, seeds=(0,)),
     ("new has results for 1 of 3 seeds. Seed 1 has status todo: never run. Seed 2: the record of the run cannot"
      " be read: scores.json is cut.")),
    (reason(Code.SEEDS_BELOW_POLICY, min_seeds=3, n_seeds=2),
     "The policy requires 3 seeds of each mix. With 2 seeds, no metric can decide."),
    (reason(Code.DESIGN_EFFECT_FROM_MARGIN, metrics=({"task": "mmlu", "metric": "acc", "effect": 0.02},)),
     ("No --effect is given. Power is computed for a true gain of twice the policy's margin: mmlu acc 2.00 points. A true gain"
      " of exactly the margin is accepted with probability alpha / 2 under every design.")),
    (reason(Code.DESIGN_EFFECT_CONSTANT),
     "Power assumes the same true gain for every proxy and number of tokens. Past runs do not show how the gain changes."),
    (reason(Code.DESIGN_NOISE_UNKNOWN, metrics=("mmlu acc",)),
     ("The noise of mmlu acc is unknown, because no past replicates exist. Gains of these metrics are in SDs between seeds of"
      " one mix (sd), and assume the same SD for every proxy and number of tokens.")),
    (reason(Code.DESIGN_NOISE_ASSUMED, scales=({"proxy": "4m", "tokens": 2e8},), measured_at={"proxy": "1m", "tokens": 1e8},
            origin="store", same_evaluation=False),
     ("No past replicates exist for 4m with 200M tokens. Power assumes the noise of 1m with 100M tokens (store, which have"
      " another evaluation), without any change with proxy size or tokens.")),
    (reason(Code.DESIGN_NOISE_ASSUMED, scales=({"proxy": "4m", "tokens": 2e8},), measured_at={"proxy": "4M", "tokens": None},
            origin="history", same_evaluation=True),
     ("No past replicates exist for 4m with 200M tokens. Power assumes the noise of 4M with an unknown number of tokens"
      " (history), without any change with proxy size or tokens.")),
    (reason(Code.DESIGN_NOISE_UNCERTAIN, metrics=("mmlu acc",), df=2.0, factor=2.117),
     ("Few past runs show the noise of mmlu acc. With 2 degrees of freedom, the true SD is at most 2.1 times the measured SD,"
      " with 80% confidence.")),
    (reason(Code.DESIGN_OTHER_EVALUATION),
     "The past runs that show the noise were evaluated with another suite, or with other data, than this sweep."),
    (reason(Code.DESIGN_CORRELATION_GIVEN, correlation=0.5),
     "The correlation of mixes over shared seeds is 0.5, as given by --correlation."),
    (reason(Code.DESIGN_CORRELATION_UNKNOWN, metrics=("mmlu acc", "code loss")),
     ("The correlation of mixes over shared seeds is unknown for mmlu acc, code loss, because no past mixes share seeds. Power"
      " assumes a correlation of 0. If you know the correlation, set --correlation.")),
    (reason(Code.DESIGN_HOURS_UNKNOWN, proxies=("1m",)),
     ("The time of a run is unknown for 1m. The cheapest design is that with the fewest training FLOPs. `assay doctor`"
      " measures this machine.")),
    (reason(Code.DESIGN_EVALUATION_TIME_UNKNOWN, proxies=("1m", "4m")),
     "The time of an evaluation is unknown for 1m, 4m. The hours contain only training."),
    (reason(Code.DESIGN_RUNS_REFUSED, runs=3),
     ("The plan refuses 3 of the runs of a design. The runs and hours include them. `assay plan` states the reasons.")),
    (reason(Code.DESIGN_PRIMARY_ONLY, guardrails=2),
     ("Power is the probability for each candidate that the primary metrics are significant, if each metric has signal and all"
      " arms have the same noise, so that the residual variance of all arms is pooled. An ACCEPT also requires that 2"
      " guardrails stay within the margins.")),
    (reason(Code.DESIGN_FINAL_WEIGHTS, last=4),
     ("The policy averages the last 4 checkpoints. The noise is that of the final weights only, which is probably larger, so"
      " the power is probably too low.")),
    (reason(Code.DESIGN_PROXY_ONLY, scale="1B"),
     ("The policy decides about 1B. Power is about a difference at the proxy, which the gate then carries to the target with"
      " further uncertainty.")),
    (reason(Code.DESIGN_SEPARATE_SEEDS),
     ("A sweep shares its seeds among all arms. A design with separate seeds cannot be written as a sweep, and reuses only runs"
      " of the baseline.")),
    (reason(Code.DESIGN_MEAN, metrics=3),
     ("In designs `mean`, the mean of the 3 standardized primary metrics decides alone. The policy decides so only if it names"
      " this mean.")),
    (reason(Code.DESIGN_NONE_REACHES_POWER, power=0.8),
     "No design that the policy allows reaches a known power of 80%."),
    (reason(Code.DESIGN_NONE_IN_BUDGET, hours=12.0),
     "No design that the policy allows, and whose power is known, fits into 12 hours."),
]  # fmt: skip


@pytest.mark.parametrize(("value", "sentence"), RENDERED, ids=[str(value.code) for value, _ in RENDERED])
def test_a_reason_is_rendered_as_its_sentence(value: Reason, sentence: str) -> None:
    assert text(value) == sentence


def test_every_code_has_exactly_one_renderer() -> None:
    assert SENTENCES.keys() | WITH_CAUSES.keys() == set(Code)
    assert not SENTENCES.keys() & WITH_CAUSES.keys()


def test_every_code_is_produced_somewhere_in_the_package() -> None:
    sources = (Path(__file__).parents[2] / "src").rglob("*.py")
    made = {
        name
        for path in sources
        if path.parent.name != "report"
        for name in re.findall(r"Code\.([A-Z_]+)", path.read_text())
    }
    assert {code.name for code in Code} - made == {"STATED"} - made


def test_the_reference_is_current() -> None:
    """To write it: python -c 'from assay.config.reason import reference; print(reference(), end="")'."""
    assert DOCS.read_text() == reference()


def test_a_defect_has_a_fix() -> None:
    defect = reason(Code.DEFECT, "books", **DEFECT)
    assert fix(defect) == (
        "Repair the source with `assay audit repair books --drop-unsure`, or waive the finding in conf/source/books.yaml: waivers: [{detector:"
        " line_number_gutter, version: 0123456789ab, by: WHO, date: YYYY-MM-DD, reason: WHY}]"
    )
    assert with_fix(defect) == f"{text(defect)}. {fix(defect)}"
    refused = reason(Code.NOT_FINISHED, "refused", "", defect)
    assert text(refused) == f"refused: {with_fix(defect)}"


def test_lists_of_reasons_are_joined_on_one_line() -> None:
    scope = (reason(Code.SCOPE_PROXY), reason(Code.SCOPE_REGISTRATION, "pre-registered"))
    assert scope_text(scope).endswith(". Policy and suite: pre-registered.")
    assert paragraph([stated("One."), stated("Two.")]) == "One. Two."


@pytest.mark.parametrize("value", [value for value, _ in RENDERED], ids=[str(value.code) for value, _ in RENDERED])
def test_a_reason_in_json_has_its_code_and_text(value: Reason) -> None:
    plain = json.loads(json.dumps(to_mapping(value), allow_nan=False))
    assert from_mapping(Reason, plain, where="a record") == value
    shown = json.loads(json.dumps(to_json({"reasons": [value]}), allow_nan=False))["reasons"][0]
    assert (shown["code"], shown["text"], shown["subject"]) == (value.code, text(value), value.subject)


def test_figures_that_are_not_finite_are_unknown() -> None:
    assert reason(Code.NEVER_RUN, a=float("nan"), b=[float("inf"), 1]).figures == {"a": None, "b": (None, 1)}
