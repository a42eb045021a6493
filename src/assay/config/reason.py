"""Reasons as values: a code with its subject and figures, which `assay.report.reason_text` renders as a sentence."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Self


class Code(StrEnum):
    """The kinds of reasons. The docstring of each member is its line in `docs/reference/reasons.md`."""

    def __new__(cls, value: str, meaning: str) -> Self:
        """Make a member, with the meaning of the code as its docstring."""
        member = str.__new__(cls, value)
        member._value_ = value
        member.__doc__ = meaning
        return member

    # --- verdict
    BETTER = "better", "A primary metric improves by more than its margin."
    WORSE = "worse", "A primary metric is worse, or a guardrail is worse by more than its margin."
    WITHIN_MARGIN = "within_margin", "A guardrail stays within its margin (non-inferior)."
    MARGIN_NOT_SHOWN = "margin_not_shown", "The runs do not show that a guardrail stays within its margin."
    JOINT_WITHIN_MARGIN = (
        "joint_within_margin",
        "All guardrails pass the joint test. Subject and metric identify the guardrail with the largest loss in margins.",
    )
    JOINT_NOT_SHOWN = (
        "joint_not_shown",
        "The guardrails do not pass the joint test; the figure `failed` names the parts that fail. Subject and metric are the guardrail with the largest loss in margins.",
    )
    AGGREGATE_WORST_PART = "aggregate_worst_part", "Identifies the task with the lowest gain in the policy's aggregate."
    AGGREGATE_PARTS_AT_CHANCE = (
        "aggregate_parts_at_chance",
        "Some tasks of the aggregate have no signal. They add noise to the aggregate and do not bias it.",
    )
    AGGREGATE_SEEDS_EXCLUDED = (
        "aggregate_seeds_excluded",
        "Some runs of a mix lack scores that the aggregate requires. The aggregate excludes these runs.",
    )
    AGGREGATE_CONSTANT = (
        "aggregate_constant",
        "The scores of some tasks of the aggregate do not differ between seeds. Their SD is that of the other tasks.",
    )
    AGGREGATE_UNKNOWN = (
        "aggregate_unknown",
        "The aggregate cannot be formed, because the SD between seeds of some tasks is unknown.",
    )
    NOT_SIGNIFICANT = "not_significant", "A primary metric is not significantly better or worse."
    NO_SIGNAL = "no_signal", "A metric has no signal at this proxy size and does not vote."
    DECLINES_WITHOUT_SIGNAL = (
        "declines_without_signal",
        "A metric without signal declines significantly and by more than its margin, which prevents an ACCEPT.",
    )
    NO_VOTE = "no_vote", "A metric does not vote, because its noise is unknown."
    TOO_FEW_SHARED_SEEDS = (
        "too_few_shared_seeds",
        "For some metrics, baseline and candidate share fewer scored seeds than the policy requires.",
    )
    SEEDS_MISSING = "seeds_missing", "A mix has results for fewer seeds than planned. The causes state why."
    SEEDS_NOT_PAIRED = (
        "seeds_not_paired",
        "Baseline and candidate have results for fewer shared seeds than the policy requires.",
    )
    NOT_SCORED_ON_BOTH = (
        "not_scored_on_both",
        "For some seeds, the baseline or the candidate has no score of a metric.",
    )
    SCORES_MISSING = (
        "scores_missing",
        "For some seeds, a mix lacks scores that the other arm has. The comparison cannot pair these seeds.",
    )
    SCORES_NOT_FINITE = (
        "scores_not_finite",
        "For some seeds, a mix has scores that are NaN or infinite, as a diverged run has.",
    )
    SEEDS_UNSHARED = (
        "seeds_unshared",
        "Baseline and candidate have different seeds. The comparison uses the means of all seeds of each mix.",
    )
    ARM_NOISE_DIFFERS = (
        "arm_noise_differs",
        "The noise of baseline and candidate differs, or exceeds that of the other arms. The comparison uses only the noise of these two arms.",
    )
    HISTORY_NOISE_UNUSED = (
        "history_noise_unused",
        "The noise of past mixes does not agree closely with that of the sweep, and is not used.",
    )
    OUTLIER_SEED = (
        "outlier_seed",
        "Scores of a run differ from those of the other runs by more than noise. The verdict uses the run.",
    )
    UNIT_CONVERTED = (
        "unit_converted",
        "Values were converted to the unit of their metric, such as percent to fractions.",
    )
    DIRECTIONS_UNUSED = (
        "directions_unused",
        "Entries of the policy's `directions` match no metric that both mixes have.",
    )
    DIRECTION_UNUSUAL = (
        "direction_unusual",
        "The policy declares a direction of improvement that is not the usual direction of the metric.",
    )
    DIRECTION_UNKNOWN = (
        "direction_unknown",
        "The direction of improvement of some monitor metrics is unknown, so they are neither better nor worse.",
    )
    PREDICTOR_LACKS_DIRECTIONS = (
        "predictor_lacks_directions",
        "The predictor of the target leaves out metrics whose direction of improvement is unknown.",
    )
    ONE_ARM_PRIMARY = (
        "one_arm_primary",
        "A primary metric on held-out text of a source that only the candidate trains on improves by construction.",
    )
    ONE_ARM_UNKNOWN = (
        "one_arm_unknown",
        "The sources of the arms are unknown, so whether a metric on held-out text improves by construction is unknown.",
    )
    BASELINE_ONLY_PRIMARY = (
        "baseline_only_primary",
        "A primary metric on held-out text of a source that only the baseline trains on declines by construction.",
    )
    DROPPED_SOURCE_UNGUARDED = (
        "dropped_source_unguarded",
        "The candidate drops a source of the baseline, and no primary metric or guardrail measures its held-out text.",
    )
    RUNS_EXCLUDED = "runs_excluded", "The results exclude some runs of a mix. The causes state why."
    METRICS_REGRESS = (
        "metrics_regress",
        "Some metrics are worse by more than noise. Subject and metric of the reason identify the worst regression.",
    )
    NO_PRIMARY = (
        "no_primary",
        "The policy names no primary metric, and the target's metric was not measured at the proxy.",
    )
    NO_PRIMARY_WITH_SIGNAL = "no_primary_with_signal", "No primary metric has signal at this proxy size."
    PRIMARIES_WITHOUT_SIGNAL = (
        "primaries_without_signal",
        "The policy requires every primary metric to improve, but some primary metrics have no signal.",
    )
    UNEVEN_SEED_TOKENS = "uneven_seed_tokens", "The runs of a mix were trained on different numbers of tokens."
    MIXES_NOT_AVERAGED = (
        "mixes_not_averaged",
        "The noise does not use mixes without the last checkpoints that the policy averages.",
    )
    UNEVEN_MIX_TOKENS = "uneven_mix_tokens", "Baseline and candidate were trained on different numbers of tokens."
    TARGET_BETTER = "target_better", "The candidate is predicted to win at the target scale."
    TARGET_WORSE = "target_worse", "The baseline is predicted to win at the target scale."
    TARGET_NOT_SHOWN = "target_not_shown", "The predicted winner at the target scale is too uncertain."
    TARGET_UNKNOWN = "target_unknown", "The history permits no prediction at the target scale."
    TARGET_RANKING = (
        "target_ranking",
        "States for which percentage of past pairs of mixes the proxy predicted the winner at the target scale.",
    )
    TARGET_NOTE = "target_note", "States which rows of the history were excluded."
    HISTORY_EXCLUDED = (
        "history_excluded",
        "Some mixes of the history do not fit the compared mixes or the other past mixes, and were excluded.",
    )
    TARGET_WIDENED = (
        "target_widened",
        "A compared or past mix differs from the history's other mixes, so the interval at the target scale is wider.",
    )

    # --- what would decide
    NEED_SEEDS = "need_seeds", "Each mix needs as many finished seeds as the policy requires."
    NEED_FINITE_SCORES = (
        "need_finite_scores",
        "Seeds with scores that are not finite must be trained or evaluated again.",
    )
    NEED_INDEPENDENT_PRIMARY = (
        "need_independent_primary",
        "A primary metric is needed that does not depend on a source that only one arm trains on.",
    )
    NEED_SIGNAL = "need_signal", "The policy needs a primary metric with signal, or the sweep needs a larger proxy."
    NEED_DECLINE_EXAMINED = (
        "need_decline_examined",
        "The decline of a metric without signal must be examined with a proxy or items that give the metric signal.",
    )
    NEED_INDEPENDENT_RUNS = "need_independent_runs", "A metric needs scores of independent replicates."
    NEED_SEEDS_TO_SHOW = (
        "need_seeds_to_show",
        "States how many seeds would show a claim about a metric, if effect and noise are as estimated.",
    )
    SEEDS_DO_NOT_SUFFICE = (
        "seeds_do_not_suffice",
        "Even the largest considered number of seeds does not suffice for a metric.",
    )
    WORSE_THAN_MARGIN_SO_FAR = "worse_than_margin_so_far", "A guardrail's estimated decline is larger than its margin."
    GAIN_BELOW_MARGIN_SO_FAR = "gain_below_margin_so_far", "A primary metric's estimated gain is below its margin."
    NEED_HISTORY_OR_PRIMARY = (
        "need_history_or_primary",
        "A primary metric is needed, or a history with other mixes at the proxy and the target scale.",
    )
    NEED_LARGER_HISTORY = "need_larger_history", "The history needs more mixes like the compared mixes."
    NEED_SEEDS_AT_PROXY = (
        "need_seeds_at_proxy",
        "Each mix needs more seeds, because the difference at the proxy may be seed noise.",
    )
    SEEDS_CANNOT_DECIDE_TARGET = (
        "seeds_cannot_decide_target",
        "Even without seed noise, the prediction at the target scale is too uncertain.",
    )
    NEED_NEARER_PROXY = "need_nearer_proxy", "A proxy closer to the target scale is needed."
    NEED_TARGET_METRIC = (
        "need_target_metric",
        "The target's metric must be measured at the proxy, or a proxy closer to the target scale is needed.",
    )
    OPTION = (
        "option",
        "A step, its cost, and the probability that it decides. The causes state the step and the assumptions.",
    )
    MORE_SEEDS = "more_seeds", "Train more seeds of each mix. The causes state the claims that these seeds would show."
    OTHER_METRIC = "other_metric", "Choose another primary metric that has signal."
    MORE_ITEMS = "more_items", "Score more items of the metrics that the figures list."
    MORE_TOKENS = "more_tokens", "Train longer runs."
    LARGER_PROXY = "larger_proxy", "Train a larger proxy."
    TARGET_RUNS = "target_runs", "Train both mixes at the target scale."
    CLAIM_BETTER = "claim_better", "Claim: a primary metric is better."
    CLAIM_WORSE = "claim_worse", "Claim: a metric is worse."
    CLAIM_HOLDS = "claim_holds", "Claim: a guardrail stays within its margin."
    CLAIM_GUARDRAILS_HOLD = "claim_guardrails_hold", "Claim: all guardrails stay within their margins."
    CLAIM_TARGET = "claim_target", "Claim: the predicted winner at the target scale is certain enough."
    BASIS_POLICY_MINIMUM = (
        "basis_policy_minimum",
        "The policy requires the proposed number of seeds. The result of these seeds cannot be predicted.",
    )
    BASIS_ESTIMATES = "basis_estimates", "The probability assumes that effects and noise are as estimated."
    BASIS_NO_SIGNAL = "basis_no_signal", "More seeds do not give a metric signal."
    BASIS_ITEM_NOISE = (
        "basis_item_noise",
        "Most of the noise comes from the choice of items. Scoring more items requires no new training.",
    )
    BASIS_PAST_PROXIES = (
        "basis_past_proxies",
        "The probability is estimated from past mixes at the current proxy, the proposed proxy and the target scale.",
    )
    BASIS_NO_PAST_PROXIES = (
        "basis_no_past_proxies",
        "The history does not show how well a larger proxy predicts the target.",
    )
    BASIS_PREDICTION = (
        "basis_prediction",
        "The probability assumes the predicted difference and the noise of past replicates at the target scale.",
    )
    BASIS_NO_TARGET_NOISE = (
        "basis_no_target_noise",
        "The noise at the target scale is unknown, because no past replicates exist at that scale.",
    )
    BASIS_PAST_SPREAD = (
        "basis_past_spread",
        "The probability assumes that effects and noise change with tokens and proxy size as in past mixes.",
    )
    BASIS_UNKNOWN_BY_TOKENS = (
        "basis_unknown_by_tokens",
        "No past runs show how effects and noise change with the number of tokens.",
    )
    BASIS_UNKNOWN_BY_SIZE = "basis_unknown_by_size", "No past runs show how effects and noise change with proxy size."

    # --- scope and notes of a verdict
    SCOPE_PROXY = (
        "scope_proxy",
        "The verdict is about the proxy, because no history has results at the proxy and at a target.",
    )
    SCOPE_TARGET_UNKNOWN = (
        "scope_target_unknown",
        "The verdict is about the proxy, because assay cannot predict the effect at the target scale.",
    )
    SCOPE_TARGET = (
        "scope_target",
        "The verdict is about the target scale, predicted from past mixes at the proxy and the target scale.",
    )
    SCOPE_AGGREGATE = "scope_aggregate", "States how the policy's aggregate was formed."
    SCOPE_CHECKPOINT_MEANS = "scope_checkpoint_means", "Scores are means over the last checkpoints of each run."
    SCOPE_STOPPED_EARLY = (
        "scope_stopped_early",
        "The verdict is about the token count at which an interim analysis stopped the candidate.",
    )
    SCOPE_REGISTRATION = "scope_registration", "States whether policy and suite were fixed before the results."
    SEVERAL_CANDIDATES = "several_candidates", "Several candidates were evaluated, each at the policy's error rate."
    CANDIDATES_CONTROLLED = (
        "candidates_controlled",
        "The policy controls the error rate over all candidates together (Bonferroni).",
    )
    SEVERAL_CONTROLS = (
        "several_controls",
        "Several candidates were evaluated against different controls, each at the policy's error rate.",
    )
    SEEDS_ADDED = "seeds_added", "Seeds were added after the verdict was known, which raises the false-positive rate."

    # --- sequential seeds
    SCOPE_STAGES = (
        "scope_stages",
        "The seeds are trained in stages. States the stage that the verdict rests on, and the level of each stage.",
    )
    STAGE_DECIDED = "stage_decided", "The decision after a stage ended the candidate. Its later seeds are not trained."
    STAGE_OPEN = "stage_open", "The candidate is undecided, and stages remain. The causes state why."
    STAGE_WAITS = "stage_waits", "The decision after a stage waits for runs without a result."
    STAGE_KEEPS_WINNERS = "stage_keeps_winners", "The stage would accept, but the policy ends only losers early."
    NEED_STAGE = "need_stage", "The next stage needs further seeds of the undecided candidates."
    STAGE_LATER = "stage_later", "The run belongs to a later stage, which depends on the decisions before it."
    STAGE_SKIPPED = "stage_skipped", "The run is not needed, because the candidate was decided in an earlier stage."

    # --- early stopping
    STOPPED_EARLY = (
        "stopped_early",
        "An interim analysis stopped the candidate. The runs of the candidate were canceled and did not fail.",
    )
    INTERIM_STOPS = "interim_stops", "An interim analysis stops the candidate."
    INTERIM_NOT_SIGNIFICANT = (
        "interim_not_significant",
        "An interim analysis shows the candidate neither better nor worse.",
    )
    INTERIM_ENDED = "interim_ended", "Training of the candidate is complete, so the final verdict applies."
    INTERIM_CONTINUES = (
        "interim_continues",
        "An interim analysis shows a winner or a loser, but training continues. The cause states why.",
    )
    INTERIM_PENDING = "interim_pending", "An interim analysis is not possible yet. The cause states why."
    NOTHING_SCORED = "nothing_scored", "No run has scores at the checkpoint of the interim analysis."
    WAITING_FOR_RUNS = "waiting_for_runs", "Some runs have no scores yet at the checkpoint of the interim analysis."
    PRIMARY_NOT_SCORED = "primary_not_scored", "No primary metric has scores at the checkpoint of the interim analysis."
    GUARDRAIL_NOT_SCORED = (
        "guardrail_not_scored",
        "Some guardrails have no scores at the checkpoint of the interim analysis.",
    )
    HISTORY_LACKS_CHECKPOINT = (
        "history_lacks_checkpoint",
        "The history has no scores near the budget fraction of the interim analysis.",
    )
    PERSISTENCE_NO_HISTORY = (
        "persistence_no_history",
        "The policy requires a minimum persistence, but no history shows whether past differences lasted.",
    )
    PERSISTENCE_TOO_LOW = (
        "persistence_too_low",
        "The fraction of past differences that lasted to the end of training is unknown or below the policy's minimum.",
    )
    STOPPING_NOT_ALLOWED = (
        "stopping_not_allowed",
        "The policy does not stop candidates with this outcome (winner or loser) early.",
    )
    PERSISTENCE = "persistence", "States how often past differences of similar size persisted to the end of training."
    PERSISTENCE_UNKNOWN = (
        "persistence_unknown",
        "It is unknown how often past differences of similar size persisted to the end of training.",
    )
    PERSISTENCE_WITHOUT_HISTORY = (
        "persistence_without_history",
        "Persistence is unknown, because the study names no history with several checkpoints per run.",
    )
    INTERVALS_JOINT = (
        "intervals_joint",
        "All intervals of the interim analyses hold jointly. The intervals make no claim about the end of training.",
    )

    # --- sources
    SOURCE_BLOCKED = "source_blocked", "The source's clearance is blocked."
    SOURCE_PENDING = "source_pending", "The source is not cleared, or its license is not stated."
    SOURCE_UNSTATED = "source_unstated", "The source lacks provenance that the configuration requires."
    SOURCE_UNAVAILABLE = "source_unavailable", "The source's files cannot be read."
    SOURCE_UNDECLARED = "source_undeclared", "The configuration no longer declares the source."
    SOURCE_FILES_SKIPPED = (
        "source_files_skipped",
        "assay skips files that the source's patterns match: hidden, temporary and marker files, and repeated links.",
    )
    SOURCE_SHARDS_ABSENT = "source_shards_absent", "The source has only some files of a numbered set."
    SOURCE_FEW_DOCUMENTS = (
        "source_few_documents",
        "The source has so few or so long documents that each file probably contains several documents.",
    )
    DEFECT = "defect", "An audit detected a defect in the source, and no waiver accepts it."
    FINDINGS_UNREADABLE = "findings_unreadable", "The audit record of the source cannot be read."
    BASELINE_BLOCKED = (
        "baseline_blocked",
        "The baseline uses a blocked or defective source. The cause identifies the source.",
    )

    # --- plan
    NEVER_RUN = "never_run", "The run was never started."
    TRAINED_AND_EVALUATED = "trained_and_evaluated", "The run is trained and evaluated."
    EVALUATION_MISSING = "evaluation_missing", "The run is trained, but not yet evaluated with the sweep's suite."
    IN_PROGRESS = "in_progress", "A worker trains or evaluates the run."
    QUEUED = "queued", "The run is queued."
    RESUMES = "resumes", "The run started before and resumes from its last checkpoint."
    DIVERGED = "diverged", "The run diverged. A new attempt of the same run spec repeats the same steps."
    ENDED_BEFORE = (
        "ended_before",
        "An earlier attempt of the run ended without a result. The next submission retries the run.",
    )
    WAITING_FOR_TOKENS = (
        "waiting_for_tokens",
        "The weights or pools of the run's mix are unknown until the sources of the mix are tokenized.",
    )
    SPEC_INVALID = "spec_invalid", "The run spec cannot be built. The figures contain the error."
    SAME_AS_BASELINE = (
        "same_as_baseline",
        "An arm has the same run specs as the baseline and shares the baseline's runs.",
    )
    TOKENIZER_ADJUSTED = "tokenizer_adjusted", "Some settings of the tokenizer's file are not used."
    TOKENIZER_LOSES_TEXT = (
        "tokenizer_loses_text",
        "Decoding with the tokenizer does not restore some text of a source. The lost fraction is within the limit.",
    )
    TOKENIZER_REFUSED = (
        "tokenizer_refused",
        "assay trains no further run with the tokenizer. The figures contain the error.",
    )
    MANY_EPOCHS = "many_epochs", "A run trains more than four epochs of a source."
    FEW_SEQUENCES = (
        "few_sequences",
        "At this budget, a source gets no or few sequences, or its fraction of sequences differs by over 10% from its weight.",
    )
    WEIGHTS_CAPPED = "weights_capped", "The cap on epochs changes weights of a mix."
    WEIGHTS_RESCALED = "weights_rescaled", "The weights of a mix did not sum to 1 and were divided by their sum."
    KEYS_OVERRIDDEN = "keys_overridden", "A sweep's file or the command line overrides some keys of a mix or source."
    ITEMS_LEFT_OUT = "items_left_out", "Items of a task are not scored, because a choice exceeds the model's context."
    PROMPTS_TRUNCATED = (
        "prompts_truncated",
        "Prompts of a task lose their beginning, because they exceed the model's context.",
    )
    LENGTHS_UNKNOWN = (
        "lengths_unknown",
        "Whether the items of a task fit the model's context is unknown until the tokenizer exists.",
    )
    EXAMPLES_ARE_ITEMS = (
        "examples_are_items",
        "The few-shot examples of a task come from its evaluated items, because its data set has no other split.",
    )
    VALIDATION_SOURCE_UNUSED = (
        "validation_source_unused",
        "A source with `role: validation` cannot be measured. The causes state why.",
    )
    INTERIM_SCORES_LOST = (
        "interim_scores_lost",
        "Some runs were trained without interim evaluations and have only final scores.",
    )

    # --- results
    MISSING_RUNS = "missing_runs", "Some seeds of a mix have no result. The cause states why."
    NOT_FINISHED = "not_finished", "The run is not finished. The causes state why."
    CHECKPOINTS_NOT_SCORED = (
        "checkpoints_not_scored",
        "The run has no scores of some checkpoints that the policy averages.",
    )
    RECORD_UNREADABLE = "record_unreadable", "The run's record cannot be read."
    DELIVERED_UNKNOWN = "delivered_unknown", "The record of the run's delivered mix is missing."
    DELIVERED_OFF = "delivered_off", "The delivered mix of a run differs from the requested mix."

    # --- power analysis
    NOISE_UNKNOWN = "noise_unknown", "The noise is unknown, because no past replicates of this proxy exist."
    NOISE_FROM_RUNS = "noise_from_runs", "The noise is estimated from past runs and the history."
    SEEDS_BELOW_POLICY = "seeds_below_policy", "The sweep has fewer seeds than the policy requires."
    MARGINS_LACK_POWER = (
        "margins_lack_power",
        "The design has little power to show that some guardrails stay within their margins.",
    )

    # --- comparison of designs
    DESIGN_EFFECT_FROM_MARGIN = (
        "design_effect_from_margin",
        "No effect is given, so power is computed for a true gain of twice the policy's margin.",
    )
    DESIGN_EFFECT_CONSTANT = (
        "design_effect_constant",
        "Power assumes that the true gain is the same at every proxy and budget.",
    )
    DESIGN_NOISE_UNKNOWN = (
        "design_noise_unknown",
        "No past replicates of some metrics exist, so gains are in SDs between seeds of one mix.",
    )
    DESIGN_NOISE_ASSUMED = (
        "design_noise_assumed",
        "The noise of a proxy and budget is unknown, so power assumes the noise of other past runs.",
    )
    DESIGN_NOISE_UNCERTAIN = (
        "design_noise_uncertain",
        "The noise of some metrics is measured on few past runs. The true noise, and the required design, may be larger.",
    )
    DESIGN_OTHER_EVALUATION = (
        "design_other_evaluation",
        "The past runs that show the noise have another evaluation than the sweep.",
    )
    DESIGN_CORRELATION_GIVEN = (
        "design_correlation_given",
        "The user sets the correlation of mixes over shared seeds.",
    )
    DESIGN_CORRELATION_UNKNOWN = (
        "design_correlation_unknown",
        "No past mixes with shared seeds show the correlation of some metrics, so power assumes a correlation of 0.",
    )
    DESIGN_HOURS_UNKNOWN = (
        "design_hours_unknown",
        "The time of a run is unknown, so the cheapest design is that with the fewest training FLOPs.",
    )
    DESIGN_EVALUATION_TIME_UNKNOWN = (
        "design_evaluation_time_unknown",
        "The time of an evaluation is unknown, so the hours contain only training.",
    )
    DESIGN_RUNS_REFUSED = (
        "design_runs_refused",
        "The plan refuses some runs of the designs. The hours include these runs.",
    )
    DESIGN_PRIMARY_ONLY = (
        "design_primary_only",
        "Power is about the primary metrics only, and assumes that they have signal and that all arms have the same noise.",
    )
    DESIGN_FINAL_WEIGHTS = (
        "design_final_weights",
        "The policy averages checkpoints, but the noise of designs is that of the final weights, which is probably larger.",
    )
    DESIGN_PROXY_ONLY = (
        "design_proxy_only",
        "The policy decides about a target scale. Power is about a difference at the proxy.",
    )
    DESIGN_SEPARATE_SEEDS = (
        "design_separate_seeds",
        "A sweep shares its seeds among all arms, so a design with separate seeds cannot be written as a sweep.",
    )
    DESIGN_MEAN = (
        "design_mean",
        "The mean of the standardized primary metrics decides only if the policy names this mean.",
    )
    DESIGN_NONE_REACHES_POWER = "design_none_reaches_power", "No design that the policy allows has power 0.8."
    DESIGN_NONE_IN_BUDGET = "design_none_in_budget", "No design that the policy allows fits into the given hours."

    # --- registration
    PREREGISTERED = "preregistered", "The policy was fixed before any result of a candidate."
    REGISTERED_AFTER_RESULTS = "registered_after_results", "The policy was registered when results already existed."
    CHANGED_AFTER_RESULTS = "changed_after_results", "The policy was changed after results existed."
    NOT_PREREGISTERED = "not_preregistered", "Nothing shows that policy and suite were fixed before the results."
    EXTERNAL_RESULTS = (
        "external_results",
        "The results are external, so nothing shows that the policy was fixed before them.",
    )
    ARMS_ADDED = "arms_added", "Arms or seeds were added after the registration."
    CONFIGURATION_DIFFERS = "configuration_differs", "The current configuration differs from the registration."
    SUBMITTED_CONFIGURATION = (
        "submitted_configuration",
        "The command uses runs and settings of the sweep's submissions, although the current configuration differs.",
    )
    CURRENT_CONFIGURATION = (
        "current_configuration",
        "The user selected the current configuration, which differs from the submitted configuration.",
    )
    CONFIGURATION_INVALID = (
        "configuration_invalid",
        "The current configuration of a submitted sweep is invalid, so it cannot be compared with the submission.",
    )
    SUBMISSION_SUPERSEDED = (
        "submission_superseded",
        "An earlier submission had other runs for the same arms; the newest submission replaces it.",
    )

    SUMMARY = (
        "summary",
        "What was tested, the result with its size and uncertainty, and the decision. Subject and metric identify the decisive metric.",
    )
    SWEEP_SUMMARY = (
        "sweep_summary",
        "The decisions on the candidates of a sweep. The causes are the summaries of the candidates.",
    )

    STATED = "stated", "The reason is a text without a specific code."


@dataclass(frozen=True, kw_only=True)
class Reason:
    """The reason for a decision, a refusal or a warning."""

    code: Code
    """Kind of the reason."""
    subject: str = ""
    """Task, mix, source or run that the reason is about; empty if the code suffices."""
    metric: str = ""
    """Metric of the task, if the subject is a task."""
    figures: dict[str, Any] = field(default_factory=dict, hash=False)
    """Plain values by name. None stands for a number that is not finite, and a tuple for a sequence."""
    causes: tuple[Reason, ...] = ()
    """Reasons that explain this reason."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "figures", {name: _plain(value) for name, value in self.figures.items()})

    @property
    def name(self) -> str:
        """Subject and metric, or the subject alone if the subject is not a task."""
        return f"{self.subject} {self.metric}".strip()


def stated(text: str) -> Reason:
    """Make a reason from a text."""
    return Reason(code=Code.STATED, figures={"text": text})


def reference() -> str:
    """Generate `docs/reference/reasons.md`: every code with its meaning."""
    rows = [f"| `{code}` | {code.__doc__} |" for code in Code]
    head = [
        "# Reason codes",
        "",
        "Generated from `assay.config.reason.Code`. In JSON output, a reason has a code, text, subject, figures and",
        "causes. The causes are reasons that explain the reason. A *seed* of a mix also denotes the run with this",
        "random seed.",
        "",
        "A metric has *no signal* if the baseline's scores are near chance level, or if past mixes differ too little in",
        "this metric. The *history* contains results of past mixes at the scales of the proxy and of the *target*, the",
        "large run. *Persistence* is the fraction of past differences that kept their sign until the end of training.",
        "",
    ]
    return "\n".join([*head, "| code | meaning |", "| --- | --- |", *rows]) + "\n"


def _plain(value: Any) -> Any:
    """Convert a value to plain JSON types, with tuples for lists."""
    if hasattr(value, "item"):  # a scalar of NumPy's
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {str(name): _plain(inner) for name, inner in value.items()}
    return tuple(map(_plain, value)) if isinstance(value, (list, tuple)) else value
