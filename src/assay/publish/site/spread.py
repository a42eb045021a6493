"""How a source's documents are spread, as plots: of each measure this source beside the mean of the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from assay.audit.extremes import SCALES, Distribution, Measure
from assay.publish.plots import CANDIDATES, FAINT, Figure, short

if TYPE_CHECKING:
    from assay.publish.site.audits import Standing

TITLES: Mapping[Measure, str] = {
    "length": "Length",
    "compression": "Compression",
    "signs": "Signs of code",
    "bits": "Surprise of a proxy",
}
NOTES: Mapping[Measure, str] = {
    "length": "UTF-8 bytes of a document.",
    "compression": "LZ4 on a document's beginning: little where it repeats itself, near 1 where it never does.",
    "signs": "Brackets, operators and the like.",
    "bits": "Of the beginnings of a sample's documents: low where they repeat what a model knows, high for noise.",
}


def figures(one: Standing, others: Sequence[Standing]) -> list[Figure]:
    """A plot for each measure of a source that was audited.

    Args:
        one: the source.
        others: the other sources.
    """
    return [
        _figure(one.source.name, spread, [other.distributions[measure] for other in others if _has(other, measure)])
        for measure, spread in one.distributions.items()
        if spread.counts
    ]


def _has(other: Standing, measure: Measure) -> bool:
    return measure in other.distributions and bool(other.distributions[measure].counts)


def _figure(name: str, spread: Distribution, others: Sequence[Distribution]) -> Figure:
    measure, scale = spread.measure, SCALES[spread.measure]
    mine = dict(spread.bins())
    known = [dict(other.bins()) for other in others]
    places = sorted({*mine, *(place for each in known for place in each)})
    rows: list[list[Any]] = []
    for place in range(places[0], places[-1] + 1):
        mean = sum(each.get(place, 0) / sum(each.values()) for each in known) / len(known) if known else None
        count = mine.get(place, 0)
        rows.append(
            [
                short(scale.begin(place)),
                short(scale.begin(place + 1)),
                count,
                short(count / spread.documents),
                short(mean),
            ]
        )
    middle = [short((row[0] + row[1]) / 2) for row in rows]
    data: list[dict[str, Any]] = [
        {
            "type": "bar",
            "x": middle,
            "y": [row[3] for row in rows],
            "width": [short(row[1] - row[0]) for row in rows],
            "name": "this source",
            "marker": {"color": CANDIDATES[0]},
            "customdata": [[row[0], row[1], row[2]] for row in rows],
            "hovertemplate": "%{customdata[0]:,.3~g} to %{customdata[1]:,.3~g}: %{customdata[2]:,} documents, %{y:.1%}<extra></extra>",
        }
    ]
    if known:
        data.append(
            {
                "type": "scatter",
                "mode": "lines",
                "x": middle,
                "y": [row[4] for row in rows],
                "name": "mean of the other sources",
                "line": {"color": FAINT, "width": 2, "shape": "hvh"},
                "hovertemplate": "others: %{y:.1%}<extra></extra>",
            }
        )
    layout = {
        "height": 260,
        "bargap": 0,
        "xaxis": {"title": {"text": scale.label}, "type": "log" if scale.doubling else "linear"},
        "yaxis": {"title": {"text": "share of documents"}, "tickformat": ".0%", "rangemode": "tozero"},
    }
    told = ", ".join(f"{share}% below {value:,.4g}" for share, value in spread.quantiles().items())
    return Figure(
        id=f"spread-{measure}",
        title=TITLES[measure],
        note=NOTES[measure],
        described=f"Histogram of {scale.label} over {spread.documents:,} documents of {name}: {told}.",
        spec={"data": data, "layout": layout},
        columns=("from", "to", "documents", "share", "mean share of the other sources"),
        rows=rows,
    )
