"""Sentences for the reasons of plans, sources, run results and registrations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from assay.config.reason import Code, Reason
from assay.core.fingerprint import SHORT
from assay.report.formatting import count
from assay.report.reason_phrases import seed_ranges, some

if TYPE_CHECKING:
    from collections.abc import Sequence

    from assay.report.reason_phrases import Render, RenderWithCauses


def _source_blocked(reason: Reason) -> str:
    by, reference = reason.figures["by"], reason.figures["reference"]
    return f"source {reason.subject!r} is blocked{f' by {by}' if by else ''}{f' ({reference})' if reference else ''}"


def _source_pending(reason: Reason) -> str:
    if covered := reason.figures.get("covered"):
        now = reason.figures["digest"][:SHORT]
        return f"source {reason.subject!r} is pending: its clearance covers version {covered}, and its text has version {now}"
    why = "the source has not been cleared" if reason.figures["license"] else "no license is stated"
    return f"source {reason.subject!r} is pending: {why}"


def _source_pending_fix(reason: Reason) -> str:
    keys = "`license` and `clearance`" if reason.figures["license"] is None else "`clearance`"
    return f"Record who permits training on this text: {keys} in conf/source/{reason.subject}.yaml."


_SKIPPED = {
    "hidden": ("hidden file", "hidden files"),
    "temporary": ("temporary file", "temporary files"),
    "marker": (
        "file with a leading `_` in the path (metadata or unfinished output)",
        "files with a leading `_` in the path (metadata or unfinished output)",
    ),
    "unlisted": (
        "Arrow file that is not part of the saved data set",
        "Arrow files that are not part of the saved data set",
    ),
    "repeated": ("link to files that are read under another name", "links to files that are read under other names"),
}


def _files_skipped(reason: Reason) -> str:
    figures = reason.figures
    kinds = [f"{figures[kind]:,} {texts[figures[kind] != 1]}" for kind, texts in _SKIPPED.items() if kind in figures]
    return f"Source {reason.subject!r} skips {some(kinds)}, such as {figures['examples'][0]}."


def _few_documents(reason: Reason) -> str:
    figures, unit = reason.figures, reason.figures["unit"]
    only = "only " if figures["few"] else ""
    return (
        f"Source {reason.subject!r} has {only}{count(figures['documents'], 'document')}: median {figures['median']:,} {unit},"
        f" longest {figures['longest']:,} {unit}."
    )


def _few_documents_fix(reason: Reason) -> str:
    if reason.figures["divisible"]:
        return (
            f"If a file contains several documents, set `separator` in conf/source/{reason.subject}.yaml to the text between"
            " two documents."
        )
    return "Check that each record is one document."


def _version(reason: Reason) -> str:
    return f"source {reason.subject!r} (version {reason.figures['digest'][:SHORT]})"


def _defect(reason: Reason) -> str:
    figures = reason.figures
    where = f"{figures['detector']} in {figures['fraction']:.2%} of its documents"
    return f"{_version(reason)} has the defect {where}: {figures['reason'].rstrip('.')}"


def _defect_fix(reason: Reason) -> str:
    from assay.audit.fixers import FIXERS  # compiles its detectors, which most commands do not need

    source, detector = reason.subject, reason.figures["detector"]
    repair = (
        f"Repair the source with `assay audit repair {source} --drop-unsure`"
        if detector in FIXERS
        else "Filter or re-extract the documents of the source"
    )
    return (
        f"{repair}, or waive the finding in conf/source/{source}.yaml: waivers: [{{detector: {detector}, version:"
        f" {reason.figures['digest'][:SHORT]}, by: WHO, date: YYYY-MM-DD, reason: WHY}}]"
    )


def _percent(fraction: float) -> str:
    return "less than 0.01%" if fraction < 1e-4 else f"{fraction:.2%}"


def _tokenizer_adjusted(reason: Reason) -> str:
    figures = reason.figures
    added = " ".join(figures["template"]) or "special tokens"
    done = {
        "truncation": "it does not truncate documents",
        "padding": "it does not pad documents",
        "sampling": "it encodes without dropout or sampling",
        "template": f"training and evaluation encode text without the post-processor, which adds {added}",
        "decoder": "it decodes as its model encodes, because the file has no decoder",
        "end_token": f"{figures['end']} is a special token, so that text is never encoded as {figures['end']}",
    }
    return f"Tokenizer {reason.subject!r} differs from its file: {'; '.join(done[change] for change in figures['changes'])}."


def _interim_scores_lost(reason: Reason) -> str:
    last = reason.figures["last"]
    counts = ", ".join(f"{count} at {share} of the budget" for share, count in reason.figures["runs"].items())
    means = f" The policy averages the last {last} checkpoints and excludes such runs." if last > 1 else ""
    return (
        f"Some runs were trained without interim evaluations. Number of runs without scores: {counts}.{means} To"
        " train these runs again, move the folders of the runs out of the store."
    )


def _few_sequences(reason: Reason) -> str:
    figures = reason.figures
    listed = [
        f"{name} {counts['sequences']:,} (its weight corresponds to {counts['requested']:,.2g})"
        for name, counts in figures["sources"].items()
    ]
    stage = f"in stage {figures['stage']}, " if figures["stage"] else ""
    return (
        f"{reason.subject}: {stage}some sources get no or very few of the {figures['sequences']:,} sequences of a run:"
        f" {some(listed)}. The runs do not show the effect of these sources."
    )


def _weights_capped(reason: Reason) -> str:
    figures = reason.figures
    changes = [f"{name} from {w['written']:.4g} to {w['trained']:.4g}" for name, w in figures["sources"].items()]
    stage = f"in stage {figures['stage']}, " if figures["stage"] else ""
    return f"{reason.subject}: {stage}`max_epochs: {figures['max_epochs']:g}` changes the weights: {some(changes)}."


def _weights_rescaled(reason: Reason) -> str:
    figures = reason.figures
    after = f"after the edit `{figures['edit']}`, " if figures["edit"] else ""
    return (
        f"{reason.subject}: {after}the weights sum to {figures['sum']:.6g}, so assay divided each of them by this sum."
    )


def _keys_overridden(reason: Reason) -> str:
    by_file: dict[str, list[str]] = {}
    for key, file in reason.figures["files"].items():
        by_file.setdefault(file, []).append(key)
    parts = [f"{', '.join(keys)} from {file}" for file, keys in by_file.items()]
    return f"{reason.figures['catalog']} {reason.subject} is merged from several places: {'; '.join(parts)}."


def _checkpoints_not_scored(reason: Reason) -> str:
    figures = reason.figures
    steps = ", ".join(map(str, figures["steps"]))
    lacks = (
        f"the run has no scores after step {steps}"
        if steps
        else f"a run of {figures['run_steps']} steps has too few checkpoints"
    )
    return f"{lacks}, and the policy averages the last {figures['last']} checkpoints"


def _not_finished(reason: Reason, causes: Sequence[str]) -> str:
    return ": ".join(part for part in (reason.subject, "; ".join(causes)) if part)


def _missing_runs(reason: Reason, causes: Sequence[str]) -> str:
    seeds, unfinished = reason.figures["seeds"], [cause.subject for cause in reason.causes]
    status = f" {'has' if len(seeds) == 1 else 'have'} status" if any(unfinished) else ":"
    return f"{seed_ranges(seeds)}{status} {'; '.join(causes)}"


def _changed_after_results(reason: Reason) -> str:
    figures = reason.figures
    why = f" Reason for the change: {'; '.join(figures['why'])}." if figures["why"] else ""
    return (
        f"Changed after the results: {some(figures['changed'])}. The old values were registered on {figures['day']}."
        f" The verdict uses the new values.{why}"
    )


SENTENCES: Mapping[Code, Render] = {
    Code.SOURCE_BLOCKED: _source_blocked,
    Code.SOURCE_PENDING: _source_pending,
    Code.SOURCE_UNSTATED: lambda r: (
        f"source {r.subject!r} does not state its {', '.join(r.figures['unstated'])} (taint.provenance requires it)"
    ),
    Code.SOURCE_UNAVAILABLE: lambda r: str(r.figures["error"]),
    Code.SOURCE_UNDECLARED: lambda r: f"source {r.subject!r} is no longer declared",
    Code.SOURCE_FILES_SKIPPED: _files_skipped,
    Code.SOURCE_SHARDS_ABSENT: lambda r: (
        f"Source {r.subject!r} has {r.figures['present']:,} of {r.figures['total']:,} files {r.figures['files']}."
    ),
    Code.SOURCE_FEW_DOCUMENTS: _few_documents,
    Code.DEFECT: _defect,
    Code.FINDINGS_UNREADABLE: lambda r: f"the audit record of {_version(r)} cannot be read: {r.figures['error']}",
    Code.NEVER_RUN: lambda _: "never run",
    Code.STAGE_LATER: lambda r: (
        f"stage {r.figures['stage']} of {r.figures['stages']}: trained if a candidate is undecided before"
    ),
    Code.STAGE_SKIPPED: lambda r: (
        f"stage {r.figures['stage']} of {r.figures['stages']}: not needed, because stage {r.figures['decided']} decided"
    ),
    Code.TRAINED_AND_EVALUATED: lambda _: "trained and evaluated",
    Code.EVALUATION_MISSING: lambda _: "trained, but not yet evaluated with the sweep's suite",
    Code.IN_PROGRESS: lambda r: str(r.figures["state"]),
    Code.QUEUED: lambda _: "queued",
    Code.RESUMES: lambda _: "started before and resumes from its last checkpoint",
    Code.DIVERGED: lambda r: (
        f"{r.figures['failure'].rstrip('.')}. A new attempt repeats the same steps. Change the recipe, or add"
        " --retry-failed if a fault of the machine caused the spike"
    ),
    Code.ENDED_BEFORE: lambda r: f"an earlier attempt ended: {r.figures['failure']}",
    Code.WAITING_FOR_TOKENS: lambda r: (
        f"never run. The {'weights and pools' if r.figures['pools'] else 'weights'} of the mix are unknown until"
        f" `assay prepare` has tokenized {', '.join(r.figures['sources'])}"
    ),
    Code.SPEC_INVALID: lambda r: str(r.figures["error"]),
    Code.SAME_AS_BASELINE: lambda r: (
        f"{r.subject} has the same run specs as the baseline {r.figures['baseline']}. Therefore {r.subject} shares"
        " the runs of the baseline."
    ),
    Code.TOKENIZER_ADJUSTED: _tokenizer_adjusted,
    Code.TOKENIZER_LOSES_TEXT: lambda r: (
        f"The tokenizer loses {_percent(r.figures['fraction'])} of the bytes of source {r.subject!r}"
        f"{', for example ' + repr(r.figures['example']) if r.figures['example'] else ''}. Bits per byte do not count them."
    ),
    Code.TOKENIZER_REFUSED: lambda r: f"Further runs would be refused: {r.figures['error']}",
    Code.MANY_EPOCHS: lambda r: (
        f"Mix {r.figures['mix']} trains {r.figures['epochs']:.1f} epochs of source {r.subject!r}. More than 4 epochs of"
        " a source add little."
    ),
    Code.FEW_SEQUENCES: _few_sequences,
    Code.WEIGHTS_CAPPED: _weights_capped,
    Code.WEIGHTS_RESCALED: _weights_rescaled,
    Code.KEYS_OVERRIDDEN: _keys_overridden,
    Code.ITEMS_LEFT_OUT: lambda r: (
        f"{r.subject}: {r.figures['left_out']:,} of {r.figures['items']:,} items are not scored, because a choice exceeds the"
        f" model's context of {r.figures['context']} tokens."
    ),
    Code.PROMPTS_TRUNCATED: lambda r: (
        f"{r.subject}: {r.figures['truncated']:,} of the {r.figures['probed']:,} longest requests exceed the model's"
        f" context of {r.figures['context']} tokens (the longest has {r.figures['longest']:,}). The beginning of these prompts"
        " is cut off."
    ),
    Code.LENGTHS_UNKNOWN: lambda r: (
        f"{r.subject}: assay cannot check whether the items fit the model's context until `assay prepare` creates the tokenizer."
    ),
    Code.EXAMPLES_ARE_ITEMS: lambda r: (
        f"{r.subject}: the few-shot examples come from the evaluated items, because the data set has no other split. A prompt"
        " may contain the answer."
    ),
    Code.INTERIM_SCORES_LOST: _interim_scores_lost,
    Code.CHECKPOINTS_NOT_SCORED: _checkpoints_not_scored,
    Code.RECORD_UNREADABLE: lambda r: f"the record of the run cannot be read: {r.figures['error']}",
    Code.DELIVERED_UNKNOWN: lambda _: "the record of the delivered mix is missing",
    Code.DELIVERED_OFF: lambda r: (
        f"source {r.subject!r} delivered {r.figures['delivered']} sequences, but the mix requested"
        f" {r.figures['requested']:.1f}"
    ),
    Code.PREREGISTERED: lambda r: f"Pre-registered on {r.figures['day']}, before any result of a candidate.",
    Code.REGISTERED_AFTER_RESULTS: lambda r: (
        f"Registered on {r.figures['day']}, when results already existed for these runs: {some(r.figures['results'])}."
    ),
    Code.CHANGED_AFTER_RESULTS: _changed_after_results,
    Code.NOT_PREREGISTERED: lambda _: (
        "Not pre-registered: nothing shows that policy and suite were fixed before the results."
    ),
    Code.EXTERNAL_RESULTS: lambda _: (
        "Not pre-registered: the results are external, so nothing shows that the policy was fixed before them."
    ),
    Code.ARMS_ADDED: lambda r: f"Arms or seeds added after the registration: {some(r.figures['added'])}.",
    Code.CONFIGURATION_DIFFERS: lambda r: (
        f"The configuration now differs from the registration: {some(r.figures['changed'])}. The verdict uses the"
        " registered values. The option --policy-now selects the configured values."
    ),
    Code.SUBMITTED_CONFIGURATION: lambda r: (
        f"assay uses the configuration submitted on {r.figures['day']}. The current configuration differs:"
        f" {some(r.figures['changed'])}. The option --current selects the current configuration."
    ),
    Code.CURRENT_CONFIGURATION: lambda r: (
        f"assay uses the current configuration (--current), which differs from the one submitted on {r.figures['day']}:"
        f" {some(r.figures['changed'])}."
    ),
    Code.CONFIGURATION_INVALID: lambda r: (
        f"assay uses the configuration submitted on {r.figures['day']}. The current configuration is invalid:"
        f" {r.figures['error']}"
    ),
    Code.SUBMISSION_SUPERSEDED: lambda r: (
        f"A newer submission replaces the submission of {r.figures['day']} ({r.figures['runs']} runs), whose runs are not used."
        f" Inputs that differ (earlier -> newest): {some(r.figures['changed'])}."
    ),
}

WITH_CAUSES: Mapping[Code, RenderWithCauses] = {
    Code.MISSING_RUNS: _missing_runs,
    Code.NOT_FINISHED: _not_finished,
    Code.VALIDATION_SOURCE_UNUSED: lambda r, causes: (
        f"Source {r.subject!r} has `role: validation`, but no run is scored on it: {'; '.join(causes)}."
    ),
}

NOTES = frozenset({Code.WEIGHTS_CAPPED, Code.WEIGHTS_RESCALED, Code.KEYS_OVERRIDDEN})
"""Codes of warnings about settings that are probably intended. The output labels these warnings as notes."""

FIXES: Mapping[Code, Render] = {
    Code.SOURCE_PENDING: _source_pending_fix,
    Code.SOURCE_FILES_SKIPPED: lambda _: "To read a file, list it by its name.",
    Code.SOURCE_FEW_DOCUMENTS: _few_documents_fix,
    Code.DEFECT: _defect_fix,
    Code.FINDINGS_UNREADABLE: lambda r: (
        f"Restore the file, or move the file away and audit again: `assay audit {r.subject}`"
    ),
}
