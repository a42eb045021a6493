"""Render reference models, average ranks and tokens to match for the terminal."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from assay.report import formatting

if TYPE_CHECKING:
    from rich.console import RenderableType

    from assay.analysis.breakdowns import Ranks
    from assay.analysis.stats.tokens_to_match import Match
    from assay.analysis.tokens_to_match import Matches
    from assay.config.references import ReferenceScore

MATCHED = (
    "Ratios of tokens at equal training loss, by source. worth: tokens that the control needs to reach the candidate's final "
    "loss, divided by the candidate's tokens; above 1x, the candidate's tokens are worth more. needs: tokens that the candidate "
    "needs to reach the control's final loss, divided by the control's tokens. Curves are not extrapolated."
)


def references_view(scores: Sequence[ReferenceScore], means: Mapping[tuple[str, str], float]) -> RenderableType:
    """Render scores of reference models and the baseline, with the sources of the scores.

    Args:
        scores: comparable scores. Each model gets a column.
        means: mean scores of the baseline by task and metric.
    """
    models = {score.model.name: score.model for score in sorted(scores, key=lambda score: score.model.parameters)}
    table = _table("reference models", "baseline", *models)
    values = {(score.task, score.metric, score.model.name): score.value for score in scores}
    for task, metric in dict.fromkeys((score.task, score.metric) for score in scores):
        cells = [formatting.score(metric, values.get((task, metric, name))) for name in models]
        table.add_row(f"{task} {metric}", formatting.score(metric, means.get((task, metric))), *cells)
    sources = [
        f"{model.name}: {formatting.amount(model.parameters)} parameters, {formatting.amount(model.tokens)} tokens; {model.paper}, {model.source}"
        for model in models.values()
    ]
    return Group(table, Text("\n".join(sources), style="dim", overflow="fold"))


def ranks_view(ranks: Ranks) -> RenderableType:
    """Render the average rank of each mix, best first."""
    table = _table("mix", "average rank", "interval")
    for entry in ranks.ranks:
        interval = formatting.NOTHING if math.isnan(entry.ci_low) else f"{entry.ci_low:.2f} to {entry.ci_high:.2f}"
        table.add_row(Text(entry.mix, overflow="fold"), f"{entry.rank:.2f}", interval)
    return Group(table, Text(ranks.note, style="dim"))


def matches_view(matches: Matches) -> RenderableType:
    """Render tokens to match, with one row per candidate and source."""
    parts: list[RenderableType] = []
    for candidate in dict.fromkeys(match.candidate for match in matches.found):
        rows = [match for match in matches.found if match.candidate == candidate]
        parts.append(Text(f"{candidate} against {rows[0].control}"))
        table = _table("source", "control ends at", "candidate at", "worth", "needs", "seeds")
        for row in rows:
            ends = [f"{loss:.3f}" for loss in (row.control_loss, row.candidate_loss)]
            table.add_row(row.source, *ends, matched(row.worth), matched(row.needed), str(row.worth.seeds))
        parts.append(table)
    if not parts:
        parts.append(
            Text("no source has loss curves of finished runs that train on it for at most one epoch in both arms")
        )
    parts += [Text(note, style="yellow") for note in matches.notes]
    return Group(*parts, Text(MATCHED, style="dim"))


def matched(match: Match) -> str:
    """Format a ratio of tokens with its interval.

    >>> from assay.analysis.stats.tokens_to_match import Match
    >>> nan = float("nan")
    >>> matched(Match(0.8, 0.7, 0.914, 0.95, "measured", 3)), matched(Match(1.0, nan, nan, 0.95, "more than", 3))
    ('0.80x (0.70 to 0.91)', 'more than 1.00x')
    >>> matched(Match(0.8, nan, nan, 0.95, "measured", 1)), matched(Match(nan, nan, nan, 0.95, "unknown", 2))
    ('0.80x', 'unknown')
    """
    if match.bound == "unknown":
        return "unknown"
    if match.bound != "measured":
        return f"{match.bound} {match.ratio:.2f}x"
    interval = "" if math.isnan(match.low) else f" ({match.low:.2f} to {match.high:.2f})"
    return f"{match.ratio:.2f}x{interval}"


def _table(first: str, *others: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.add_column(first, overflow="fold")
    for name in others:
        table.add_column(name, justify="right")
    return table
