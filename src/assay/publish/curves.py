"""The plots by tokens: loss, bits per byte by source, scores on the way; a line a mix, its seeds as a band."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from assay.publish import words
from assay.publish.beside import matched
from assay.publish.plots import BASELINE, FAINT, Figure, looks, plain_spec, short, text
from assay.publish.report import finite
from assay.suite import VALIDATION

if TYPE_CHECKING:
    from assay.curves import SourceMatch
    from assay.publish.plots import Look
    from assay.publish.report import Report, RunShown

POINTS = 20_000
"""Rows of one plot's table at most: above that a page gets slow to open, and no eye sees the difference."""
DRAWN = 200
"""Points of one line."""
SMALL = 60
"""Points of one line in the small plots by source."""

Points = list[tuple[float, float]]


class Band(NamedTuple):
    """The seeds of one mix as one line with a band.

    Attributes:
        tokens: rising.
        mean: over the seeds that were logged there.
        low: the lowest of them.
        high: the highest.
        seeds: how many there are at most.
    """

    tokens: list[float]
    mean: list[float]
    low: list[float]
    high: list[float]
    seeds: int


def band(series: Sequence[Points], most: int) -> Band:
    """Several seeds' points as one band, on at most so many places.

    Between two of its points a seed is read off the line that joins them; before its first and after its last it is left out.
    """
    import numpy as np

    kept = [np.array(thinned(points, most)).T for points in series if points]
    places = np.unique(np.concatenate([xs for xs, _ in kept]))
    if len(places) > most:
        places = np.interp(np.linspace(0, len(places) - 1, most), np.arange(len(places)), places)
    rows = np.array([np.interp(places, xs, ys, left=np.nan, right=np.nan) for xs, ys in kept])
    some = ~np.isnan(rows).all(axis=0)
    rows, places = rows[:, some], places[some]
    return Band(
        tokens=places.tolist(),
        mean=np.nanmean(rows, axis=0).tolist(),
        low=np.nanmin(rows, axis=0).tolist(),
        high=np.nanmax(rows, axis=0).tolist(),
        seeds=len(kept),
    )


def thinned(points: Points, most: int) -> Points:
    """At most so many points: means over stretches of equal numbers of records, the last stretch's end kept."""
    size = math.ceil(len(points) / most)
    if size <= 1:
        return points
    stretches = [points[start : start + size] for start in range(0, len(points), size)]
    return [(part[-1][0], math.fsum(y for _, y in part) / len(part)) for part in stretches]


def training(report: Report) -> list[Figure]:
    """Loss and bits per byte by tokens, and how training went."""
    found = [
        _logged(report, "loss", "Training loss", "loss (nats a token)", settle=True),
        _logged(report, "bits_per_byte", "Bits per byte while training", "bits per byte", settle=True),
        _logged(report, "lr", "Learning rate", "learning rate"),
        _logged(report, "grad_norm", "Norm of the gradient", "gradient norm", settle=True),
        _logged(report, "tokens_per_second", "Speed", "tokens a second"),
    ]
    return [figure for figure in found if figure is not None]


def by_source(report: Report) -> list[Figure]:
    """Training loss on each source, in bits per byte where its bytes a token are known; and tokens to match."""
    found = report.details.matches.found if report.details.matches is not None else ()
    logged: dict[str, list[tuple[RunShown, Points]]] = {}
    for run in report.runs:
        for name, points in _losses(run).items():
            logged.setdefault(name, []).append((run, points))
    return [
        _source(report, name, place, logged[name], [one for one in found if one.source == name])
        for place, name in enumerate(sorted(logged))
    ]


def scores(report: Report) -> list[Figure]:
    """Scores by tokens where runs were looked at on the way, with published models as lines; what votes comes first."""
    points: dict[tuple[str, str], dict[str, dict[int, Points]]] = {}
    for look in report.details.looks:
        seeds = points.setdefault((look.task, look.metric), {}).setdefault(look.mix, {})
        seeds.setdefault(look.seed, []).append((float(look.tokens), look.value))
    several = {
        key: mixes
        for key, mixes in points.items()
        if len({x for m in mixes.values() for p in m.values() for x, _ in p}) > 1
    }
    votes = [(c.task, c.metric) for c in (*report.policy.primary, *report.policy.guardrails)] if report.policy else []
    whole = {task.task for task in report.evaluation.tasks} if report.evaluation else set()
    order = [key for key in votes if key in several] + sorted(set(several) - set(votes))
    return [
        _score(report, key, place, several[key], folded=key not in votes)
        for place, key in enumerate(order)
        if key in votes or key[0].startswith(VALIDATION) or not whole or key[0] in whole
    ]


# --- one plot


def _logged(report: Report, key: str, title: str, axis: str, *, settle: bool = False) -> Figure | None:
    series = [(run, _series(run, key)) for run in report.runs]
    kept = [(run, points) for run, points in series if points]
    if not kept:
        return None
    most = max(40, min(400, POINTS // len(kept)))
    figure = _drawn(report, _bands(_by_mix(kept), DRAWN), axis)
    note = ""
    window = _settled([points for _, points in kept]) if settle else None
    if window is not None:
        figure.update_layout(yaxis={"range": window})
        note = "The axis leaves out the first tenth of the run: double-click the plot to see all."
    return Figure(
        id=f"curve-{key.replace('_', '-')}",
        title=title,
        note=note,
        described=f"{title} by tokens for {words.count(len(kept), 'run')}; the last values are in the table of runs.",
        spec=plain_spec(figure),
        columns=("mix", "seed", "run", "tokens", key),
        rows=[
            [run.mix, run.seed, run.short, short(x), short(y)] for run, points in kept for x, y in thinned(points, most)
        ],
    )


def _source(
    report: Report, name: str, place: int, logged: Sequence[tuple[RunShown, Points]], found: Sequence[SourceMatch]
) -> Figure:
    factor = _bits(report, name)
    kept = [(run, [(x, y * (factor or 1)) for x, y in points]) for run, points in logged]
    bands = _bands(_by_mix(kept), SMALL)
    unit = "bits per byte" if factor else "nats a token"
    figure = _drawn(report, bands, unit, height=260)
    window = _settled([list(zip(one.tokens, one.mean, strict=True)) for one in bands.values()])
    if window is not None:
        figure.update_layout(yaxis={"range": window})
    for one in found:
        _mark_match(figure, report, one, factor or 1.0)
    told = [
        f"{words.shortened(one.candidate, 40)}: worth {matched(one.worth)}, needs {matched(one.needed)}"
        for one in found
    ]
    return Figure(
        id=f"source-{place}",
        title=name,
        note="; ".join(told),
        described=f"Training loss on {words.shortened(name, 60)} by tokens, {unit}; it is saved as CSV.",
        spec=plain_spec(figure),
        columns=("mix", "seeds", "tokens", "mean", "lowest", "highest"),
        rows=_band_rows(bands),
    )


def _mark_match(figure: Any, report: Report, one: SourceMatch, factor: float) -> None:
    """The control's last loss as a level, and a mark where the candidate reaches it."""
    level = short(one.control_loss * factor)
    figure.add_scatter(
        x=[0, report.budget],
        y=[level, level],
        mode="lines",
        line={"color": BASELINE, "width": 1, "dash": "dot"},
        showlegend=False,
        hoverinfo="skip",
    )
    if one.needed.bound != "measured":
        return
    look = looks(report)[one.candidate]
    said = [
        f"{text(words.shortened(one.candidate, 40))} reaches",
        f"where {text(words.shortened(one.control, 40))} ends",
    ]
    figure.add_scatter(
        x=[short(one.needed.ratio * report.budget)],
        y=[level],
        mode="markers",
        marker={"symbol": "star", "size": 11, "color": look.colour, "line": {"width": 1, "color": "white"}},
        showlegend=False,
        legendgroup=one.candidate,
        hovertext=["<br>".join([*said, f"with {matched(one.needed)} of its tokens"])],
        hoverinfo="text",
    )


def _score(
    report: Report, key: tuple[str, str], place: int, mixes: Mapping[str, Mapping[int, Points]], *, folded: bool
) -> Figure:
    task, metric = key
    order = {name: place for place, name in enumerate(report.sweep.mixes)}
    bands = _bands({mix: mixes[mix] for mix in sorted(mixes, key=lambda mix: order.get(mix, 0))}, DRAWN)
    figure = _drawn(report, bands, words.metric_name(metric), height=300, marks=True)
    if metric in words.ACCURACIES:
        figure.update_layout(yaxis={"tickformat": ".0%"})
    for score in report.details.published:
        if (score.task, score.metric) == key:
            _reference_line(figure, report, score.model.name, score.value)
    return Figure(
        id=f"look-{place}",
        title=f"{task.removeprefix(VALIDATION)}, {words.metric_name(metric)}",
        note="",
        described=f"{words.metric_name(metric)} on {words.shortened(task, 60)} by tokens; it is saved as CSV.",
        spec=plain_spec(figure),
        columns=("mix", "seeds", "tokens", "mean", "lowest", "highest"),
        rows=_band_rows(bands),
        folded=folded,
    )


def _reference_line(figure: Any, report: Report, name: str, value: float) -> None:
    figure.add_scatter(
        x=[0, report.budget],
        y=[short(value)] * 2,
        mode="lines+text",
        text=[text(name), ""],
        textposition="top right",
        textfont={"size": 10, "color": FAINT},
        line={"color": FAINT, "width": 1, "dash": "dash"},
        name=text(name),
        showlegend=False,
        hovertemplate=f"{text(name)}: %{{y:.4g}}<extra>published</extra>",
    )


def _drawn(report: Report, bands: Mapping[str, Band], axis: str, *, height: int = 360, marks: bool = False) -> Any:
    """A line a mix in the sweep's order, so that the baseline is always there and lies below, and its seeds as a band."""
    import plotly.graph_objects as go

    figure, style = go.Figure(), looks(report)
    for mix, one in bands.items():
        _add_band(figure, mix, one, style[mix], marks=marks)
    figure.update_layout(
        xaxis={"title": {"text": "tokens"}, "tickformat": "~s", "rangemode": "tozero"},
        yaxis={"title": {"text": axis}},
        height=height,
    )
    return figure


def _add_band(figure: Any, mix: str, one: Band, look: Look, *, marks: bool) -> None:
    xs = [short(x) for x in one.tokens]
    if one.seeds > 1:
        figure.add_scatter(
            x=[*xs, *reversed(xs)],
            y=[short(y) for y in (*one.high, *reversed(one.low))],
            mode="lines",
            line={"width": 0, "color": look.colour},
            fill="toself",
            fillcolor=look.colour,
            opacity=0.2,
            legendgroup=mix,
            showlegend=False,
            hoverinfo="skip",
        )
    of = "one seed" if one.seeds == 1 else f"mean of {one.seeds} seeds"
    figure.add_scatter(
        x=xs,
        y=[short(y) for y in one.mean],
        mode="markers" if len(xs) == 1 else "lines+markers" if marks else "lines",
        line={"color": look.colour, "width": 1.8, "dash": look.dash},
        marker={"color": look.colour, "symbol": look.symbol, "size": 7},
        name=text(words.shortened(mix, 60)),
        legendgroup=mix,
        hovertemplate=f"{text(words.shortened(mix, 40))}, {of}<br>%{{x:.3s}} tokens: %{{y:.4g}}<extra></extra>",
    )


# --- points


def _series(run: RunShown, key: str) -> Points:
    pairs = [(finite(record.get("tokens")), finite(record.get(key))) for record in run.history]
    return [(x, y) for x, y in pairs if x is not None and y is not None]


def _losses(run: RunShown) -> dict[str, Points]:
    """A run's training loss by source: nats a token."""
    found: dict[str, Points] = {}
    for record in run.history:
        tokens, losses = finite(record.get("tokens")), record.get("loss_by_source")
        if tokens is None or not isinstance(losses, Mapping):
            continue
        for name, value in losses.items():
            loss = finite(value)
            if loss is not None:
                found.setdefault(str(name), []).append((tokens, loss))
    return found


def _by_mix(kept: Iterable[tuple[RunShown, Points]]) -> dict[str, dict[int, Points]]:
    found: dict[str, dict[int, Points]] = {}
    for run, points in kept:
        found.setdefault(run.mix, {})[run.seed] = points
    return found


def _bands(mixes: Mapping[str, Mapping[int, Points]], most: int) -> dict[str, Band]:
    return {mix: band(list(seeds.values()), most) for mix, seeds in mixes.items()}


def _bits(report: Report, source: str) -> float | None:
    """Bits per byte for a nat a token; ``None`` where the source's bytes a token are not known."""
    size = report.details.bytes_per_token.get(source)
    return None if not size else 1 / math.log(2) / size


def _band_rows(bands: Mapping[str, Band]) -> list[list[Any]]:
    return [
        [mix, one.seeds, short(x), short(mean), short(low), short(high)]
        for mix, one in bands.items()
        for x, mean, low, high in zip(one.tokens, one.mean, one.low, one.high, strict=True)
    ]


def _settled(series: Iterable[Points]) -> list[float] | None:
    """The range of values after the first tenth of each run, a little wider; the fall at the start would hide the rest."""
    late = [y for points in series for x, y in points if x > points[-1][0] / 10]
    if not late or min(late) == max(late):
        return None
    low, high = min(late), max(late)
    slack = (high - low) * 0.06
    return [low - slack, high + slack]
