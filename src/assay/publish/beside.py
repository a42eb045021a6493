"""What stands beside comparisons in a terminal: published models, and tokens to match."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from assay.publish import words

if TYPE_CHECKING:
    from rich.console import RenderableType

    from assay.curves import Matches
    from assay.effects import Ranks
    from assay.references import ReferenceScore
    from assay.stats.match import Match

MATCHED = (
    "Of training loss by source. worth: tokens of the control that reach the loss the candidate ends at, over the candidate's "
    "tokens; above 1x the candidate's are worth more. needs: tokens of the candidate that reach the loss the control ends "
    "at, over the control's. Nothing is read beyond the curves."
)


def references_view(scores: Sequence[ReferenceScore], means: Mapping[tuple[str, str], float]) -> RenderableType:
    """Published scores, a column a model, beside the baseline's; and where they are from.

    Args:
        scores: that may be compared.
        means: the baseline's scores by task and metric.
    """
    models = {score.model.name: score.model for score in sorted(scores, key=lambda score: score.model.parameters)}
    table = _table("reference models", "baseline", *models)
    values = {(score.task, score.metric, score.model.name): score.value for score in scores}
    for task, metric in dict.fromkeys((score.task, score.metric) for score in scores):
        cells = [words.score(metric, values.get((task, metric, name))) for name in models]
        table.add_row(f"{task} {metric}", words.score(metric, means.get((task, metric))), *cells)
    said = [
        f"{model.name}: {words.amount(model.parameters)} parameters, {words.amount(model.tokens)} tokens; {model.paper}, {model.source}"
        for model in models.values()
    ]
    return Group(table, Text("\n".join(said), style="dim", overflow="fold"))


def ranks_view(found: Ranks) -> RenderableType:
    """The average rank of each mix, the best first."""
    table = _table("mix", "average rank", "interval")
    for one in found.ranks:
        interval = words.NOTHING if math.isnan(one.ci_low) else f"{one.ci_low:.2f} to {one.ci_high:.2f}"
        table.add_row(Text(one.mix, overflow="fold"), f"{one.rank:.2f}", interval)
    return Group(table, Text(found.note, style="dim"))


def matches_view(matches: Matches) -> RenderableType:
    """Tokens to match, a row a candidate and source."""
    parts: list[RenderableType] = []
    for candidate in dict.fromkeys(one.candidate for one in matches.found):
        mine = [one for one in matches.found if one.candidate == candidate]
        parts.append(Text(f"{candidate} against {mine[0].control}"))
        table = _table("source", "control ends at", "candidate at", "worth", "needs", "seeds")
        for one in mine:
            ends = [f"{loss:.3f}" for loss in (one.control_loss, one.candidate_loss)]
            table.add_row(one.source, *ends, matched(one.worth), matched(one.needed), str(one.worth.seeds))
        parts.append(table)
    if not parts:
        parts.append(Text("no finished runs have curves of a source that both arms see once"))
    parts += [Text(note, style="yellow") for note in matches.notes]
    return Group(*parts, Text(MATCHED, style="dim"))


def matched(match: Match) -> str:
    """A ratio of tokens as people read it.

    >>> from assay.stats.match import Match
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
