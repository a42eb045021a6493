"""Plot histograms of document measures of one source and the mean of other sources."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from assay.audit.scan.distributions import SCALES, Distribution, Measure
from assay.report.plots.base import CANDIDATES, FAINT, Figure, short

if TYPE_CHECKING:
    from assay.report.site.audit_state import AuditState

TITLES: Mapping[Measure, str] = {
    "length": "Length",
    "compression": "Compression",
    "symbol_ratio": "Symbol ratio",
    "bits": "Bits per byte of a proxy model",
}
NOTES: Mapping[Measure, str] = {
    "length": "UTF-8 bytes per document.",
    "compression": "LZ4 compression ratio of a document's beginning: low for repetitive text, near 1 for text without repetition.",
    "symbol_ratio": "Fraction of brackets, operators and similar symbols.",
    "bits": "Measured on the beginnings of sampled documents: low for predictable text, high for noise.",
}


def make_figures(state: AuditState, others: Sequence[AuditState]) -> list[Figure]:
    """Return one histogram for each measure of an audited source.

    Args:
        state: the source.
        others: the other sources.
    """
    return [
        _figure(
            state.source.name,
            distribution,
            [other.distributions[measure] for other in others if _has(other, measure)],
        )
        for measure, distribution in state.distributions.items()
        if distribution.counts
    ]


def _has(other: AuditState, measure: Measure) -> bool:
    return measure in other.distributions and bool(other.distributions[measure].counts)


def _figure(name: str, distribution: Distribution, others: Sequence[Distribution]) -> Figure:
    measure, scale = distribution.measure, SCALES[distribution.measure]
    own = dict(distribution.bins())
    rest = [dict(other.bins()) for other in others]
    bins = sorted({*own, *(index for counts in rest for index in counts)})
    rows: list[list[Any]] = []
    for index in range(bins[0], bins[-1] + 1):
        mean = sum(counts.get(index, 0) / sum(counts.values()) for counts in rest) / len(rest) if rest else None
        count = own.get(index, 0)
        rows.append(
            [
                short(scale.begin(index)),
                short(scale.begin(index + 1)),
                count,
                short(count / distribution.documents),
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
    if rest:
        data.append(
            {
                "type": "scatter",
                "mode": "lines",
                "x": middle,
                "y": [row[4] for row in rows],
                "name": "mean of the other sources",
                "line": {"color": FAINT, "width": 2, "shape": "hvh"},
                "hovertemplate": "other sources: %{y:.1%}<extra></extra>",
            }
        )
    layout = {
        "height": 260,
        "bargap": 0,
        "xaxis": {"title": {"text": scale.label}, "type": "log" if scale.doubling else "linear"},
        "yaxis": {"title": {"text": "fraction of documents"}, "tickformat": ".0%", "rangemode": "tozero"},
    }
    quantiles = ", ".join(f"{percent}% below {value:,.4g}" for percent, value in distribution.quantiles().items())
    return Figure(
        id=f"spread-{measure}",
        title=TITLES[measure],
        note=NOTES[measure],
        described=f"Histogram of {scale.label} over {distribution.documents:,} documents of {name}: {quantiles}.",
        spec={"data": data, "layout": layout},
        columns=("from", "to", "documents", "fraction", "mean fraction of the other sources"),
        rows=rows,
    )
