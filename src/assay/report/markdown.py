"""Render a short report for a pull request, with all names and messages escaped."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import quote

from assay.report import formatting, headline
from assay.report.model import finite
from assay.report.reason_text import label, paragraph, scope_text, text
from assay.report.voting_rows import role, voting_rows

if TYPE_CHECKING:
    from assay.analysis.comparison import Comparison
    from assay.analysis.gate import SweepVerdict, Verdict
    from assay.report.model import Report, RunShown

LONG = 200
"""Maximum characters of an error message. The page and the run's log have the whole message."""


def render(report: Report, *, page: str | None = None) -> str:
    """Render the report as GitHub-flavored Markdown.

    Args:
        report: the sweep's report.
        page: URL of the sweep's page, if the page is published. Each run links to its section of the page.
    """
    sweep = report.sweep
    facts = [
        f"baseline {code(sweep.baseline)}",
        formatting.count(len(sweep.candidates), "candidate"),
        f"{formatting.count(len(sweep.seeds), 'seed')} each",
        *([f"proxy {escape(report.spec.model.name)}"] if report.spec else []),
        f"{formatting.amount(report.budget)} tokens per run",
        f"{report.finished} of {formatting.count(len(report.runs), 'run')} finished",
    ]
    parts = [
        f"## {headline.state_and_decision(report.verdict)}{mark(report.verdict)}: {code(sweep.name)}",
        summary(report.verdict),
        headlines(report.verdict),
        escape(sweep.question),
        registration(report.verdict),
        ", ".join(facts) + (f". [Page]({_url(page)})" if page else ""),
        *(_candidate(report, verdict) for verdict in (report.verdict.candidates.values() if report.verdict else ())),
        escape(paragraph(report.verdict.note)) if report.verdict else "There are no comparisons yet.",
        *(f"**{label(warning).capitalize()}:** {escape(text(warning))}" for warning in report.plan.warnings),
        _findings(report),
        _runs(report, page),
        _origin(report),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def summary(verdict: SweepVerdict | None) -> str:
    """Return the summary of a verdict, the first line below its title; empty without a verdict."""
    return "" if verdict is None else f"**{escape(text(verdict.summary))}**"


def headlines(verdict: SweepVerdict | None) -> str:
    """Return the candidates of each decision, and the runs in progress; empty for a single candidate without these."""
    if verdict is None:
        return ""
    several = headline.candidates(verdict, code)
    return " ".join(part for part in (f"**{several}.**" if several else "", escape(headline.running(verdict))) if part)


def mark(verdict: Verdict | SweepVerdict | None) -> str:
    """Return the suffix for a decision whose policy changed after the results, else empty text."""
    registered = verdict.registration if verdict else None
    return f" ({registered.state})" if registered and registered.marked else ""


def registration(verdict: SweepVerdict | None) -> str:
    """Render whether policy and suite were fixed before the results; empty if unknown."""
    registered = verdict.registration if verdict else None
    if registered is None:
        return ""
    sentences = escape(paragraph(registered.reasons))
    return f"**{sentences}**" if registered.marked or registered.configured else sentences


def _origin(report: Report) -> str:
    program = escape(f"assay {report.versions.get('assay', '')}".strip())
    evaluation = f"Evaluation {code(report.plan.evaluation[:12])}, made" if report.plan.evaluation else "Made"
    return f"<sub>{evaluation} {formatting.moment(report.made)} by {program}.</sub>"


def escape(value: str) -> str:
    r"""Escape text so that Markdown shows it unchanged, on one line, without mentions.

    >>> escape("a_b is <b>*worse*</b> | @all")
    'a_b is \\<b\\>\\*worse\\*\\</b\\> \\| @\u200ball'
    """
    line = re.sub(r"\s+", " ", value).strip()
    line = re.sub(r"([\\`*\[\]<>|~$&])", r"\\\1", line)
    line = re.sub(r"(?<!\w)_|_(?!\w)", r"\\_", line)  # underscores inside words, as in most names, need no escape
    line = re.sub(r"^([#+\-=])", r"\\\1", line)
    line = re.sub(r"^(\d+)([.)])(?=\s|$)", r"\1\\\2", line)
    return re.sub(r"(@|#)(?=\w)", "\\1\u200b", line)  # prevents mentions of people and issues


def code(value: str) -> str:
    r"""Format text as a code span that is also safe inside a table.

    >>> code("a|b`c")
    '`` a\\|b`c ``'
    """
    line = re.sub(r"\s+", " ", value).replace("|", "\\|")
    longest = max((len(run) for run in re.findall(r"`+", line)), default=0)
    fence = "`" * (longest + 1)
    return f"{fence} {line} {fence}" if longest else f"`{line}`"


def _candidate(report: Report, verdict: Verdict) -> str:
    lines = [f"### {verdict.decision}{mark(verdict)}: {code(verdict.candidate)}", ""]
    about = report.sweep.arm(verdict.candidate).about
    if about:
        lines += [f"{escape(about)}.", ""]
    alone = report.verdict is not None and len(report.verdict.candidates) == 1
    return "\n".join([*lines, *decision_lines(verdict, alone=alone)])


def decision_lines(verdict: Verdict, *, alone: bool) -> list[str]:
    """Return the lines of a decision: summary, reasons, needs, voting comparisons and scope.

    Args:
        verdict: the verdict on one candidate.
        alone: whether the sweep has no other candidate, so that its summary is that of the sweep.
    """
    lines = [] if alone else [escape(text(verdict.summary)), ""]
    lines += [f"- {escape(text(reason))}" for reason in verdict.reasons]
    lines += [f"- To decide: {escape(text(need))}" for need in verdict.needed]
    voting = voting_rows(verdict.comparisons)
    if voting:
        lines += ["", *_table(voting)]
    return [*lines, "", f"_{escape(scope_text(verdict.scope))}_"]


def _table(comparisons: list[Comparison]) -> list[str]:
    head = [
        "task",
        "metric",
        "role",
        "effect",
        "% of baseline",
        "seed SDs",
        "interval",
        "claim",
        "p of claim",
        "signal",
    ]
    rows = [
        [
            code(c.task),
            escape(formatting.metric_name(c.metric)),
            role(c),
            formatting.signed(c.metric, finite(c.effect)),
            formatting.signed_percent(finite(c.effect_percent)),
            formatting.signed_sds(finite(c.effect_sds)),
            formatting.interval(c.metric, finite(c.ci_low), finite(c.ci_high)),
            formatting.claim(c),
            escape(formatting.probability(finite(c.p_claim))),
            c.signal,
        ]
        for c in comparisons
    ]
    return _rows(head, rows, numbers={3, 4, 5, 6, 8})


def _findings(report: Report) -> str:
    """Render the findings of audits in the sources of the sweep."""
    rows = [
        [
            code(finding.source),
            code(finding.detector),
            finding.severity,
            formatting.fraction(finding.fraction),
            "**yes**" if finding.tainting else "no",
            escape(formatting.shortened(finding.message, LONG)),
        ]
        for finding in report.details.findings
    ]
    if not rows:
        return ""
    head = ["source", "detector", "severity", "documents", "blocks training", "finding"]
    return "\n".join(["### Audit findings", "", *_rows(head, rows, numbers={3})])


def _runs(report: Report, page: str | None) -> str:
    rows = [
        [code(run.label), _fingerprint(run, page), _state(run), escape(formatting.shortened(run.problem, LONG))]
        for run in report.runs
    ]
    done = f"{report.finished} of {formatting.count(len(report.runs), 'run')} finished"
    table = "\n".join(_rows(["run", "fingerprint", "state", "problem"], rows))
    return f"<details><summary>Runs: {done}</summary>\n\n{table}\n\n</details>"


def _state(run: RunShown) -> str:
    return f"{run.state}, **tainted**" if run.taints else run.state


def _fingerprint(run: RunShown, page: str | None) -> str:
    if not run.short:
        return formatting.NOTHING
    return f"[{code(run.short)}]({_url(page)}#run-{quote(run.mix)}-{run.seed})" if page else code(run.short)


def _url(page: str | None) -> str:
    return quote(page or "", safe="/:?=&#%~+,;@!-._")


def _rows(head: list[str], rows: list[list[str]], *, numbers: set[int] | None = None) -> list[str]:
    rule = ["---:" if column in (numbers or ()) else "---" for column in range(len(head))]
    return ["| " + " | ".join(row) + " |" for row in [head, rule, *rows]]
