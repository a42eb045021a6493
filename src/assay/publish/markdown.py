"""A report for a pull request: short, and safe to paste, since every name and message is escaped."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import quote

from assay.publish import words
from assay.publish.report import finite

if TYPE_CHECKING:
    from assay.compare import Comparison
    from assay.gate import SweepVerdict, Verdict
    from assay.publish.report import Report, RunShown

LONG = 200
"""Characters of an error message; the whole of it stands on the page and in the run's log."""


def render(report: Report, *, page: str | None = None) -> str:
    """The report as GitHub-flavoured Markdown.

    Args:
        report: what is shown.
        page: where the page of the sweep can be opened, if it is published somewhere; runs link into it.
    """
    sweep = report.sweep
    facts = [
        f"baseline {code(sweep.baseline)}",
        words.count(len(sweep.candidates), "candidate"),
        f"{words.count(len(sweep.seeds), 'seed')} each",
        *([f"proxy {escape(report.spec.model.name)}"] if report.spec else []),
        f"{words.amount(report.budget)} tokens a run",
        f"{report.finished} of {words.count(len(report.runs), 'run')} finished",
    ]
    parts = [
        f"## {report.decision}{mark(report.verdict)}: {code(sweep.name)}",
        escape(sweep.question),
        registration(report.verdict),
        ", ".join(facts) + (f". [The page]({_url(page)})" if page else ""),
        *(_candidate(report, verdict) for verdict in (report.verdict.candidates.values() if report.verdict else ())),
        escape(report.verdict.note) if report.verdict else "Nothing has been compared yet.",
        *(f"**Warning:** {escape(warning)}" for warning in report.plan.warnings),
        _findings(report),
        _runs(report, page),
        _origin(report),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def mark(verdict: Verdict | SweepVerdict | None) -> str:
    """What stands behind a decision by a rule that was changed after the results; empty for every other."""
    standing = verdict.registration if verdict else None
    return f" ({standing.state})" if standing and standing.marked else ""


def registration(verdict: SweepVerdict | None) -> str:
    """How a verdict stands to what was fixed before the results; empty where nobody said."""
    standing = verdict.registration if verdict else None
    if standing is None:
        return ""
    return f"**{escape(standing.sentence)}**" if standing.marked or standing.configured else escape(standing.sentence)


def _origin(report: Report) -> str:
    program = escape(f"assay {report.versions.get('assay', '')}".strip())
    evaluation = f"Evaluation {code(report.plan.evaluation[:12])}, made" if report.plan.evaluation else "Made"
    return f"<sub>{evaluation} {words.moment(report.made)} by {program}.</sub>"


def escape(text: str) -> str:
    r"""Text that Markdown shows as it is, on one line, and that calls nobody.

    >>> escape("a_b is <b>*worse*</b> | @all")
    'a_b is \\<b\\>\\*worse\\*\\</b\\> \\| @\u200ball'
    """
    line = re.sub(r"\s+", " ", text).strip()
    line = re.sub(r"([\\`*\[\]<>|~$&])", r"\\\1", line)
    line = re.sub(r"(?<!\w)_|_(?!\w)", r"\\_", line)  # inside a word it marks nothing up, and names are full of it
    line = re.sub(r"^([#+\-=])", r"\\\1", line)
    line = re.sub(r"^(\d+)([.)])(?=\s|$)", r"\1\\\2", line)
    return re.sub(r"(@|#)(?=\w)", "\\1\u200b", line)  # neither a person nor an issue is mentioned


def code(text: str) -> str:
    r"""Text as a code span, also inside a table.

    >>> code("a|b`c")
    '`` a\\|b`c ``'
    """
    line = re.sub(r"\s+", " ", text).replace("|", "\\|")
    longest = max((len(run) for run in re.findall(r"`+", line)), default=0)
    fence = "`" * (longest + 1)
    return f"{fence} {line} {fence}" if longest else f"`{line}`"


def _candidate(report: Report, verdict: Verdict) -> str:
    lines = [f"### {verdict.decision}{mark(verdict)}: {code(verdict.candidate)}", ""]
    about = report.sweep.arm(verdict.candidate).about
    if about:
        lines += [f"{escape(about)}.", ""]
    return "\n".join([*lines, *judged(verdict)])


def judged(verdict: Verdict) -> list[str]:
    """What was decided and why, as lines: reasons, needs, the comparisons that vote, what it is about."""
    lines = [f"- {escape(reason)}" for reason in verdict.reasons]
    lines += [f"- To decide: {escape(need)}" for need in verdict.needed]
    voting = [c for c in verdict.comparisons if c.role != "monitor"]
    if voting:
        lines += ["", *_table(voting)]
    return [*lines, "", f"_{escape(verdict.scope)}_"]


def _table(comparisons: list[Comparison]) -> list[str]:
    head = ["task", "metric", "role", "effect", "interval", "adj. p", "signal"]
    rows = [
        [
            code(c.task),
            escape(words.metric_name(c.metric)),
            c.role,
            words.signed(c.metric, finite(c.effect)),
            words.interval(c.metric, finite(c.ci_low), finite(c.ci_high)),
            escape(words.probability(finite(c.p_adjusted))),
            c.signal,
        ]
        for c in comparisons
    ]
    return _rows(head, rows, numbers={3, 4, 5})


def _findings(report: Report) -> str:
    """What audits found in the sources of the sweep."""
    rows = [
        [
            code(one.source),
            code(one.detector),
            one.severity,
            words.share(one.share),
            "**yes**" if one.tainting else "no",
            escape(words.shortened(one.message, LONG)),
        ]
        for one in report.details.findings
    ]
    if not rows:
        return ""
    head = ["source", "detector", "severity", "documents", "stops training", "finding"]
    return "\n".join(["### Findings of audits", "", *_rows(head, rows, numbers={3})])


def _runs(report: Report, page: str | None) -> str:
    rows = [
        [code(run.label), _fingerprint(run, page), _state(run), escape(words.shortened(run.problem, LONG))]
        for run in report.runs
    ]
    done = f"{report.finished} of {words.count(len(report.runs), 'run')} finished"
    table = "\n".join(_rows(["run", "fingerprint", "state", "what went wrong"], rows))
    return f"<details><summary>Runs: {done}</summary>\n\n{table}\n\n</details>"


def _state(run: RunShown) -> str:
    return f"{run.state}, **tainted**" if run.taints else run.state


def _fingerprint(run: RunShown, page: str | None) -> str:
    if not run.short:
        return words.NOTHING
    return f"[{code(run.short)}]({_url(page)}#run-{quote(run.mix)}-{run.seed})" if page else code(run.short)


def _url(page: str | None) -> str:
    return quote(page or "", safe="/:?=&#%~+,;@!-._")


def _rows(head: list[str], rows: list[list[str]], *, numbers: set[int] | None = None) -> list[str]:
    rule = ["---:" if column in (numbers or ()) else "---" for column in range(len(head))]
    return ["| " + " | ".join(row) + " |" for row in [head, rule, *rows]]
