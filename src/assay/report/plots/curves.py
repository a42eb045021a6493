"""Plot training loss, loss by source and interim scores by tokens.

Each mix is a line, with the range of its seeds as a band.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from types import NoneType
from typing import TYPE_CHECKING, Any, NamedTuple

from assay.config.metrics import FRACTIONS
from assay.config.suite import VALIDATION
from assay.report import formatting
from assay.report.model import finite
from assay.report.plots.base import BASELINE, FAINT, Figure, mix_styles, plain_spec, short, text
from assay.report.terminal.extras import matched

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from assay.analysis.tokens_to_match import SourceMatch
    from assay.report.details import InterimScore
    from assay.report.model import Report, RunShown
    from assay.report.plots.base import MixStyle

POINTS = 20_000
"""Maximum number of rows in one plot's table. A larger table slows the page and shows no more detail."""
RUNS = 200
"""Maximum number of runs for a table with points of each run. With more runs, the table has the lines and bands."""
DRAWN = 200
"""Maximum number of points per line."""
SMALL = 60
"""Maximum number of points per line in the small plots by source."""
BANDED = ("mix", "seeds", "tokens", "mean", "lowest", "highest")
"""Columns of the table of lines and bands."""


class Points(NamedTuple):
    """One logged quantity of one run, by increasing tokens.

    Attributes:
        tokens: finite numbers of tokens.
        values: the finite value at each number of tokens.
    """

    tokens: NDArray[np.float64]
    values: NDArray[np.float64]


class Band(NamedTuple):
    """The seeds of one mix as a line with a band.

    Attributes:
        tokens: increasing numbers of tokens.
        mean: mean over the seeds that have a value at each number of tokens.
        low: lowest value over these seeds.
        high: highest value over these seeds.
        seeds: number of seeds with any value.
    """

    tokens: list[float]
    mean: list[float]
    low: list[float]
    high: list[float]
    seeds: int


def combine_seeds(series: Sequence[Points], most: int) -> Band:
    """Combine the points of several seeds into one band.

    Each seed is interpolated linearly between its points. A seed is omitted before its first and after its last point.

    Args:
        series: the points of each seed.
        most: maximum number of positions.
    """
    import numpy as np

    kept = [thinned(points, most) for points in series if len(points.tokens)]
    places = np.unique(np.concatenate([points.tokens for points in kept]))
    if len(places) > most:
        places = np.interp(np.linspace(0, len(places) - 1, most), np.arange(len(places)), places)
    rows = np.array([np.interp(places, *points, left=np.nan, right=np.nan) for points in kept])
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
    """Reduce a series to at most `most` points.

    Each resulting point is the mean over a segment of consecutive points, placed at the end of the segment. Segments
    have equal numbers of points.
    """
    import numpy as np

    count = len(points.tokens)
    size = math.ceil(count / most)
    if size <= 1:
        return points
    starts = np.arange(0, count, size)
    ends = np.minimum(starts + size, count)
    return Points(points.tokens[ends - 1], np.add.reduceat(points.values, starts) / (ends - starts))


def plot_training(report: Report) -> list[Figure]:
    """Plot loss, bits per byte, learning rate, gradient norm and speed by tokens."""
    candidates = [
        _logged(report, "loss", "Training loss", "loss (nats per token)", skip_start=True),
        _logged(report, "bits_per_byte", "Training bits per byte", "bits per byte", skip_start=True),
        _logged(report, "lr", "Learning rate", "learning rate"),
        _logged(report, "grad_norm", "Gradient norm", "gradient norm", skip_start=True),
        _logged(report, "tokens_per_second", "Speed", "tokens per second"),
    ]
    return [figure for figure in candidates if figure is not None]


def plot_source_losses(report: Report) -> list[Figure]:
    """Plot training loss by source with tokens to match.

    The unit is bits per byte if the source's bytes per token are known, and nats per token otherwise.
    """
    matches = report.details.matches.found if report.details.matches is not None else ()
    logged: dict[str, list[tuple[RunShown, Points]]] = {}
    for run in report.runs:
        for name, points in _losses(run).items():
            logged.setdefault(name, []).append((run, points))
    return [
        _source(report, name, place, logged[name], [match for match in matches if match.source == name])
        for place, name in enumerate(sorted(logged))
    ]


def plot_interim_scores(report: Report) -> list[Figure]:
    """Plot the interim scores of each task by tokens, voting tasks first.

    Scores of reference models are horizontal lines.
    """
    by_metric: dict[tuple[str, str], dict[str, dict[int, list[InterimScore]]]] = {}
    for score in report.details.interim_scores:
        seeds = by_metric.setdefault((score.task, score.metric), {}).setdefault(score.mix, {})
        seeds.setdefault(score.seed, []).append(score)
    several = {
        key: {
            mix: {
                seed: finite_points([score.tokens for score in series], [score.value for score in series])
                for seed, series in seeds.items()
            }
            for mix, seeds in mixes.items()
        }
        for key, mixes in by_metric.items()
        if len({score.tokens for seeds in mixes.values() for series in seeds.values() for score in series}) > 1
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


def _logged(report: Report, key: str, title: str, axis: str, *, skip_start: bool = False) -> Figure | None:
    series = [(run, _series(run, key)) for run in report.runs]
    kept = [(run, points) for run, points in series if len(points.tokens)]
    if not kept:
        return None
    bands = _bands(_by_mix(kept), DRAWN)
    figure = _drawn(report, bands, axis)
    note = ""
    window = late_range([points for _, points in kept]) if skip_start else None
    if window is not None:
        figure.update_layout(yaxis={"range": window})
        note = "The axis omits the range of the first tenth of the run: double-click the plot to see all."
    few = len(kept) <= RUNS
    return Figure(
        id=f"curve-{key.replace('_', '-')}",
        title=title,
        note=note,
        described=f"{title} by tokens for {formatting.count(len(kept), 'run')}; the table of runs has the last values.",
        spec=plain_spec(figure),
        columns=("mix", "seed", "run", "tokens", key) if few else BANDED,
        rows=_run_rows(kept) if few else _band_rows(bands),
    )


def _run_rows(kept: Sequence[tuple[RunShown, Points]]) -> list[list[Any]]:
    most = max(40, min(400, POINTS // len(kept)))
    return [
        [run.mix, run.seed, run.short, short(x), short(y)]
        for run, points in kept
        for x, y in zip(*(part.tolist() for part in thinned(points, most)), strict=True)
    ]


def _source(
    report: Report, name: str, place: int, logged: Sequence[tuple[RunShown, Points]], matches: Sequence[SourceMatch]
) -> Figure:
    factor = _bits(report, name)
    kept = [(run, Points(points.tokens, points.values * (factor or 1))) for run, points in logged]
    bands = _bands(_by_mix(kept), SMALL)
    unit = "bits per byte" if factor else "nats per token"
    figure = _drawn(report, bands, unit, height=260)
    figure.update_layout(showlegend=False)  # all plots of the section share one legend
    window = late_range([finite_points(band.tokens, band.mean) for band in bands.values()])
    if window is not None:
        figure.update_layout(yaxis={"range": window})
    for match in matches:
        _mark_match(figure, report, match, factor or 1.0)
    notes = [
        f"{formatting.shortened(match.candidate, 40)}: worth {matched(match.worth)}, needs {matched(match.needed)}"
        for match in matches
    ]
    return Figure(
        id=f"source-{place}",
        title=name,
        note="; ".join(notes),
        described=f"Training loss on {formatting.shortened(name, 60)} by tokens, {unit}; the data can be saved as CSV.",
        spec=plain_spec(figure),
        columns=BANDED,
        rows=_band_rows(bands),
    )


def _mark_match(figure: Any, report: Report, match: SourceMatch, factor: float) -> None:
    """Draw the control's final loss as a line, and a star at the candidate's match."""
    level = short(match.control_loss * factor)
    figure.add_scatter(
        x=[0, report.budget],
        y=[level, level],
        mode="lines",
        line={"color": BASELINE, "width": 1, "dash": "dot"},
        showlegend=False,
        hoverinfo="skip",
    )
    if match.needed.bound != "measured":
        return
    style = mix_styles(report)[match.candidate]
    lines = [
        f"{text(formatting.shortened(match.candidate, 40))} reaches the final loss",
        f"of {text(formatting.shortened(match.control, 40))}",
        f"with {matched(match.needed)} of its tokens",
    ]
    figure.add_scatter(
        x=[short(match.needed.ratio * report.budget)],
        y=[level],
        mode="markers",
        marker={"symbol": "star", "size": 11, "color": style.color, "line": {"width": 1, "color": "white"}},
        showlegend=False,
        legendgroup=match.candidate,
        hovertext=["<br>".join(lines)],
        hoverinfo="text",
    )


def _score(
    report: Report, key: tuple[str, str], place: int, mixes: Mapping[str, Mapping[int, Points]], *, folded: bool
) -> Figure:
    task, metric = key
    order = {name: place for place, name in enumerate(report.sweep.mixes)}
    bands = _bands({mix: mixes[mix] for mix in sorted(mixes, key=lambda mix: order.get(mix, 0))}, DRAWN)
    figure = _drawn(report, bands, formatting.metric_name(metric), height=300, marks=True)
    if metric in FRACTIONS:
        figure.update_layout(yaxis={"tickformat": ".0%"})
    for score in report.details.published:
        if (score.task, score.metric) == key:
            _reference_line(figure, report, score.model.name, score.value)
    return Figure(
        id=f"interim-{place}",
        title=f"{task.removeprefix(VALIDATION)}, {formatting.metric_name(metric)}",
        note="",
        described=f"{formatting.metric_name(metric)} on {formatting.shortened(task, 60)} by tokens; the data can be "
        "saved as CSV.",
        spec=plain_spec(figure),
        columns=BANDED,
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
    """Draw a line with a band per mix in the sweep's order.

    The baseline is therefore always below the candidates.
    """
    import plotly.graph_objects as go

    figure, styles = go.Figure(), mix_styles(report)
    for mix, band in bands.items():
        _add_band(figure, mix, band, styles[mix], marks=marks)
    figure.update_layout(
        xaxis={"title": {"text": "tokens"}, "tickformat": "~s", "rangemode": "tozero"},
        yaxis={"title": {"text": axis}},
        height=height,
    )
    return figure


def _add_band(figure: Any, mix: str, band: Band, style: MixStyle, *, marks: bool) -> None:
    xs = [short(x) for x in band.tokens]
    if band.seeds > 1:
        figure.add_scatter(
            x=[*xs, *reversed(xs)],
            y=[short(y) for y in (*band.high, *reversed(band.low))],
            mode="lines",
            line={"width": 0, "color": style.color},
            fill="toself",
            fillcolor=style.color,
            opacity=0.2,
            legendgroup=mix,
            showlegend=False,
            hoverinfo="skip",
        )
    of = "one seed" if band.seeds == 1 else f"mean of {band.seeds} seeds"
    figure.add_scatter(
        x=xs,
        y=[short(y) for y in band.mean],
        mode="markers" if len(xs) == 1 else "lines+markers" if marks else "lines",
        line={"color": style.color, "width": 1.8, "dash": style.dash},
        marker={"color": style.color, "symbol": style.symbol, "size": 7},
        name=text(formatting.shortened(mix, 60)),
        legendgroup=mix,
        hovertemplate=f"{text(formatting.shortened(mix, 40))}, {of}<br>%{{x:.3s}} tokens: %{{y:.4g}}<extra></extra>",
    )


# --- points


def _series(run: RunShown, key: str) -> Points:
    return finite_points([record.get("tokens") for record in run.history], [record.get(key) for record in run.history])


def _losses(run: RunShown) -> dict[str, Points]:
    """Return a run's training loss by source, in nats per token."""
    logged = [(record.get("tokens"), record.get("loss_by_source")) for record in run.history]
    kept = [(tokens, losses) for tokens, losses in logged if isinstance(losses, dict)]
    tokens = [place for place, _ in kept]
    names = dict.fromkeys(name for _, losses in kept for name in losses)
    series = {str(name): finite_points(tokens, [losses.get(name) for _, losses in kept]) for name in names}
    return {name: points for name, points in series.items() if len(points.tokens)}


def finite_points(tokens: Sequence[Any], values: Sequence[Any]) -> Points:
    """Return the points with finite coordinates."""
    import numpy as np

    xs, ys = _numbers(tokens), _numbers(values)
    known = np.isfinite(xs) & np.isfinite(ys)
    return Points(xs[known], ys[known])


def _numbers(values: Sequence[Any]) -> NDArray[np.float64]:
    """Convert values to floats, and all other values to NaN.

    A large sweep has millions of values, so single values are checked only if their types require a check.
    """
    import numpy as np

    plain = set(map(type, values)) <= {int, float, NoneType}
    return np.array(values if plain else [finite(value) for value in values], dtype=np.float64)


def _by_mix(kept: Iterable[tuple[RunShown, Points]]) -> dict[str, dict[int, Points]]:
    mixes: dict[str, dict[int, Points]] = {}
    for run, points in kept:
        mixes.setdefault(run.mix, {})[run.seed] = points
    return mixes


def _bands(mixes: Mapping[str, Mapping[int, Points]], most: int) -> dict[str, Band]:
    return {mix: combine_seeds(list(seeds.values()), most) for mix, seeds in mixes.items()}


def _bits(report: Report, source: str) -> float | None:
    """Return the factor from nats per token to bits per byte; None if unknown."""
    size = report.details.bytes_per_token.get(source)
    return None if not size else 1 / math.log(2) / size


def _band_rows(bands: Mapping[str, Band]) -> list[list[Any]]:
    return [
        [mix, band.seeds, short(x), short(mean), short(low), short(high)]
        for mix, band in bands.items()
        for x, mean, low, high in zip(band.tokens, band.mean, band.low, band.high, strict=True)
    ]


def late_range(series: Iterable[Points]) -> list[float] | None:
    """Return the value range after the first tenth of each run, plus 6%.

    The initial drop would hide the rest of the curve.
    """
    parts = (points.values[points.tokens > points.tokens[-1] / 10] for points in series)
    late = [part for part in parts if len(part)]
    if not late:
        return None
    low, high = float(min(part.min() for part in late)), float(max(part.max() for part in late))
    slack = (high - low) * 0.06
    return [low - slack, high + slack] if low < high else None
