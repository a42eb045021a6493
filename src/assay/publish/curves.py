"""The plots by tokens: loss, bits per byte by source, scores on the way; a line a mix, its seeds as a band."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from types import NoneType
from typing import TYPE_CHECKING, Any, NamedTuple

from assay.publish import words
from assay.publish.beside import matched
from assay.publish.plots import BASELINE, FAINT, Figure, looks, plain_spec, short, text
from assay.publish.report import finite
from assay.suite import VALIDATION

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from assay.curves import SourceMatch
    from assay.publish.details import LookShown
    from assay.publish.plots import Look
    from assay.publish.report import Report, RunShown

POINTS = 20_000
"""Rows of one plot's table at most: above that a page gets slow to open, and no eye sees the difference."""
RUNS = 200
"""Runs up to which a plot's table has a row for each of their points; above that it has the lines and bands that are drawn."""
DRAWN = 200
"""Points of one line."""
SMALL = 60
"""Points of one line in the small plots by source."""
BANDED = ("mix", "seeds", "tokens", "mean", "lowest", "highest")
"""Columns of the table of what is drawn."""


class Points(NamedTuple):
    """What was logged of one thing in one run, by rising tokens.

    Attributes:
        tokens: where.
        values: what; finite, as the tokens are.
    """

    tokens: NDArray[np.float64]
    values: NDArray[np.float64]


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

    kept = [thinned(points, most) for points in series if len(points.tokens)]
    places = np.unique(np.concatenate([one.tokens for one in kept]))
    if len(places) > most:
        places = np.interp(np.linspace(0, len(places) - 1, most), np.arange(len(places)), places)
    rows = np.array([np.interp(places, *one, left=np.nan, right=np.nan) for one in kept])
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
    import numpy as np

    count = len(points.tokens)
    size = math.ceil(count / most)
    if size <= 1:
        return points
    starts = np.arange(0, count, size)
    ends = np.minimum(starts + size, count)
    return Points(points.tokens[ends - 1], np.add.reduceat(points.values, starts) / (ends - starts))


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
    seen: dict[tuple[str, str], dict[str, dict[int, list[LookShown]]]] = {}
    for look in report.details.looks:
        seeds = seen.setdefault((look.task, look.metric), {}).setdefault(look.mix, {})
        seeds.setdefault(look.seed, []).append(look)
    several = {
        key: {
            mix: {seed: _points([one.tokens for one in own], [one.value for one in own]) for seed, own in seeds.items()}
            for mix, seeds in mixes.items()
        }
        for key, mixes in seen.items()
        if len({one.tokens for seeds in mixes.values() for own in seeds.values() for one in own}) > 1
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
    kept = [(run, points) for run, points in series if len(points.tokens)]
    if not kept:
        return None
    bands = _bands(_by_mix(kept), DRAWN)
    figure = _drawn(report, bands, axis)
    note = ""
    window = _settled([points for _, points in kept]) if settle else None
    if window is not None:
        figure.update_layout(yaxis={"range": window})
        note = "The axis leaves out the first tenth of the run: double-click the plot to see all."
    few = len(kept) <= RUNS
    return Figure(
        id=f"curve-{key.replace('_', '-')}",
        title=title,
        note=note,
        described=f"{title} by tokens for {words.count(len(kept), 'run')}; the last values are in the table of runs.",
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
    report: Report, name: str, place: int, logged: Sequence[tuple[RunShown, Points]], found: Sequence[SourceMatch]
) -> Figure:
    factor = _bits(report, name)
    kept = [(run, Points(points.tokens, points.values * (factor or 1))) for run, points in logged]
    bands = _bands(_by_mix(kept), SMALL)
    unit = "bits per byte" if factor else "nats a token"
    figure = _drawn(report, bands, unit, height=260)
    figure.update_layout(showlegend=False)  # the section has one for all of them
    window = _settled([_points(one.tokens, one.mean) for one in bands.values()])
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
        columns=BANDED,
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
    return _points([record.get("tokens") for record in run.history], [record.get(key) for record in run.history])


def _losses(run: RunShown) -> dict[str, Points]:
    """A run's training loss by source: nats a token."""
    logged = [(record.get("tokens"), record.get("loss_by_source")) for record in run.history]
    kept = [(tokens, losses) for tokens, losses in logged if isinstance(losses, dict)]
    tokens = [place for place, _ in kept]
    names = dict.fromkeys(name for _, losses in kept for name in losses)
    found = {str(name): _points(tokens, [losses.get(name) for _, losses in kept]) for name in names}
    return {name: points for name, points in found.items() if len(points.tokens)}


def _points(tokens: Sequence[Any], values: Sequence[Any]) -> Points:
    """Those that are finite numbers."""
    import numpy as np

    xs, ys = _numbers(tokens), _numbers(values)
    known = np.isfinite(xs) & np.isfinite(ys)
    return Points(xs[known], ys[known])


def _numbers(values: Sequence[Any]) -> NDArray[np.float64]:
    """As numbers, NaN where one is none; a large sweep has millions, so single ones are looked at only where some are odd."""
    import numpy as np

    plain = set(map(type, values)) <= {int, float, NoneType}
    return np.array(values if plain else [finite(value) for value in values], dtype=np.float64)


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
    late = [part for one in series for part in [one.values[one.tokens > one.tokens[-1] / 10]] if len(part)]
    if not late:
        return None
    low, high = float(min(part.min() for part in late)), float(max(part.max() for part in late))
    slack = (high - low) * 0.06
    return [low - slack, high + slack] if low < high else None
