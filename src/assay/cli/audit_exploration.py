"""Contrasts between sources and distributions of documents: signs of defects that no detector covers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from rich.table import Table
from rich.text import Text

from assay.cli.console import console
from assay.cli.progress import progress_bars
from assay.core.errors import ConfigError, NotFound
from assay.report import formatting

if TYPE_CHECKING:
    from assay.audit.explore.contrasts import Contrast
    from assay.audit.explore.records import TokenCutter
    from assay.audit.scan.distributions import Distribution, Extreme, Measure
    from assay.config.sources import Source
    from assay.plan.workspace import Workspace
    from assay.store.runs import RunDirectory

STRIKING = 3
"""Maximum number of contrasts of a whole source, and of extreme documents at each end."""
BARS = " ▁▂▃▄▅▆▇█"
CELLS = 14
"""Width of a chart on a wide terminal."""
TITLES: Mapping[Measure, str] = {
    "length": "bytes",
    "compression": "compr.",
    "symbol_ratio": "symbols",
    "bits": "bits",
}


class SourceExploration(NamedTuple):
    """The contrasts and distributions of a source.

    Attributes:
        contrasts: by group, the highest score first.
        distributions: by measure.
    """

    contrasts: list[Contrast]
    distributions: dict[Measure, Distribution]


def explore(
    space: Workspace, sources: Mapping[str, Source], digests: Mapping[str, str], *, proxy: str | None, quiet: bool
) -> dict[str, SourceExploration]:
    """Contrast audited sources with all other sources. Also measure bits per byte if a proxy is given.

    Args:
        space: the workspace.
        sources: the selected sources, by name.
        digests: digests of the audited sources.
        proxy: the first digits of a run's fingerprint.
        quiet: whether to show no progress.

    Raises:
        AssayError: no run has that fingerprint, or the run has no model.
    """
    from assay.audit.explore import records

    store = space.store.root
    others = [name for name in space.study.sources if name not in sources]
    repairs = {name: source.repairs for name, source in {**space.study.sources, **sources}.items()}
    run = None if proxy is None else trained_run(space, proxy)
    with progress_bars(quiet=quiet) as report:
        contrasts = records.contrast(
            store,
            digests,
            others=others,
            tokens=_tokens(space),
            repairs=repairs,
            progress=lambda fraction: report("contrasts", fraction),
        )
        if run is not None:
            _measure_bits(store, digests, run, batch_size=space.study.suite.batch_size, report=report)
    return {
        name: SourceExploration(contrasts[name], records.distributions(store, name, digest))
        for name, digest in digests.items()
    }


def trained_run(space: Workspace, prefix: str) -> RunDirectory:
    """Return the only run with this fingerprint prefix. The run must have a model.

    Raises:
        AssayError: no run or several runs match, or the run has no model.
    """
    runs = space.store.root / "runs"
    names = sorted(path.name for path in runs.glob("*") if path.name.startswith(prefix) and path.is_dir())
    if len(names) != 1:
        matches = f"{len(names)} runs begin" if names else "no run begins"
        raise NotFound(
            f"--proxy {prefix}: {matches} with these digits in {runs}.",
            fix="Give the first digits of a fingerprint that `assay status` prints.",
        )
    run = space.store.run(names[0])
    if not (run.model / "model.safetensors").exists():
        raise NotFound(f"--proxy {prefix}: run {names[0][:12]} has no model.", fix="Choose a finished run.")
    return run


def _tokens(space: Workspace) -> TokenCutter | None:
    """Return the study's tokenizer if it exists, otherwise the newest of the store, or ``None``."""
    from assay.audit.explore.records import TokenCutter

    trained = sorted(space.store.tokenizers.glob("*/tokenizer.json"), key=lambda path: path.stat().st_mtime)
    try:
        path = space.sources.tokenizer_folder / "tokenizer.json"
    except (ConfigError, NotFound):  # without a sweep, its training sources are unknown
        path = Path()
    return TokenCutter(path if path in trained else trained[-1]) if trained else None


def _measure_bits(
    store: Path, digests: Mapping[str, str], run: RunDirectory, *, batch_size: int, report: Callable[[str, float], None]
) -> None:
    from assay.audit.explore import records
    from assay.evaluate.bits_per_byte import bits_per_byte

    todo = {
        name: digest
        for name, digest in digests.items()
        if records.read_bits(store, name, digest, run.fingerprint) is None
    }
    samples = {name: records.sample(store, name, digest) for name, digest in todo.items()}
    texts = {
        name: [(document.where, document.text) for document in kept.documents] for name, kept in samples.items() if kept
    }
    if not texts:
        return
    measured = bits_per_byte(
        run.model, texts, batch_size=batch_size, progress=lambda source, done: report(f"bits of {source}", done)
    )
    for name, bits in measured.items():
        records.write_bits(store, name, todo[name], run.fingerprint, bits)


# --- output


def plain(explored: Mapping[str, SourceExploration]) -> dict[str, Any]:
    """Return the contrasts of all sources and the distributions of each for JSON."""
    from assay.core.serde import to_mapping

    return {
        "contrasts": [
            {**to_mapping(contrast), "rate": contrast.rate, "rate_elsewhere": contrast.rate_elsewhere}
            for source in explored.values()
            for contrast in source.contrasts
        ],
        "extremes": {
            name: {
                measure: {**to_mapping(spread), "documents": spread.documents, "quantiles": spread.quantiles()}
                for measure, spread in source.distributions.items()
            }
            for name, source in explored.items()
        },
    }


def show(explored: Mapping[str, SourceExploration], *, extremes: bool) -> None:
    """Print the strongest contrasts, the distributions and, on request, the extreme documents."""
    _print_contrasts([contrast for source in explored.values() for contrast in strongest(source.contrasts)])
    _print_distributions(explored)
    for name, source in explored.items() if extremes else ():
        for measure, spread in source.distributions.items():
            _print_extremes(name, measure, spread)


def strongest(contrasts: Sequence[Contrast]) -> list[Contrast]:
    """Select the highest contrasts of a source as a whole, and the highest of its snapshots and hosts."""
    whole = [contrast for contrast in contrasts if contrast.kind == "source"]
    parts = sorted((c for c in contrasts if c.kind != "source"), key=lambda contrast: -contrast.score)
    return sorted(whole, key=lambda contrast: -contrast.score)[:STRIKING] + parts[:1]


def _print_contrasts(shown: Sequence[Contrast]) -> None:
    from assay.audit.review.safe_text import plain as visible

    if not shown:
        return
    console.print("\n[bold]More frequent in a source than in the others[/]: check them; none is a finding")
    names = [c.source if c.kind == "source" else f"{c.source} {c.group}" for c in shown]
    wide = min(max(6, *map(len, names)), console.width // 3)
    table = Table(box=None, pad_edge=False)
    table.add_column("source", no_wrap=True, width=wide, overflow="ellipsis")
    for heading in ("in", "rest"):
        table.add_column(heading, justify="right", no_wrap=True, width=5)
    table.add_column("n-gram", no_wrap=True)
    for name, contrast in zip(names, shown, strict=True):
        ngram = visible(contrast.phrase if contrast.ngrams > 1 else contrast.ngram, most=200)
        table.add_row(
            Text(visible(name, most=60)),
            f"{contrast.rate:.0%}",
            f"{contrast.rate_elsewhere:.1%}",
            Text(_cut(ngram, console.width - wide - 2 * 6 - 2)),
        )
    console.print(table)


def _cut(text: str, width: int) -> str:
    """Cut a text to a number of columns. A wide character takes two columns."""
    from rich.cells import cell_len, set_cell_size

    return text if cell_len(text) <= width else set_cell_size(text, max(1, width - 1)) + "…"


def _print_distributions(explored: Mapping[str, SourceExploration]) -> None:
    """Print for each source and measure a chart, over the same axis for all sources, and the median."""
    rows = {
        name: source.distributions
        for name, source in explored.items()
        if any(spread.counts for spread in source.distributions.values())
    }
    if not rows:
        return
    measures = [m for m in TITLES if any(m in row and row[m].counts for row in rows.values())]
    table = Table(box=None, pad_edge=False)
    wide = min(max(6, *map(len, rows)), 24)
    cells = min(CELLS, max(4, (console.width - wide - 2) // len(measures) - 9))
    table.add_column("source", no_wrap=True, width=wide, overflow="ellipsis")
    axes = {}
    for measure in measures:
        spreads = [row[measure] for row in rows.values() if measure in row and row[measure].counts]
        axes[measure] = axis(spreads, cells)
        table.add_column(TITLES[measure], no_wrap=True, width=cells, overflow="ellipsis")
        table.add_column("", justify="right", no_wrap=True, width=5)
    for name, row in rows.items():
        shown = []
        for measure in measures:
            spread = row.get(measure)
            if spread is None or not spread.counts:
                shown += [formatting.NOTHING, ""]
                continue
            shown += [chart(spread, axes[measure], cells), value(measure, spread.quantile(0.5))]
        table.add_row(Text(name), *shown)
    console.print("\n[bold]Distributions of the documents[/] from the lowest to the highest value, and their medians")
    console.print(table)


def axis(spreads: Sequence[Distribution], cells: int = CELLS) -> tuple[int, int]:
    """Return the first bin of a chart and the bins per cell, from the 1st to the 99th percentile.

    The outermost cells include all values beyond them, since a single outlier would squeeze all other documents into
    one cell.
    """
    places = [spread.place(quantile) for spread in spreads for quantile in (0.01, 0.99)]
    if not places:
        return 0, 1
    return min(places), -(-(max(places) - min(places) + 1) // cells)


def chart(spread: Distribution, over: tuple[int, int], cells: int = CELLS) -> str:
    """Draw a histogram in one line: the fullest cell has the highest bar, and only empty cells are blank."""
    first, width = over
    counts = [0] * cells
    for place, count in spread.bins():
        counts[min(cells - 1, max(0, (place - first) // width))] += count
    top = max(counts)
    return "".join(BARS[-(-count * (len(BARS) - 1) // top)] for count in counts)


def value(measure: Measure, number: float) -> str:
    """Format a value of a measure."""
    if measure == "length":
        return formatting.amount(number)
    return f"{number:.2f}" if measure == "bits" else f"{number:.0%}"


def _print_extremes(source: str, measure: Measure, spread: Distribution) -> None:
    from assay.audit.review.safe_text import plain as visible

    console.print(Text(f"\n{source}, {TITLES[measure]}", style="bold"))
    quantiles = spread.quantiles()
    if quantiles:
        text = ", ".join(f"{name}%: {value(measure, number)}" for name, number in quantiles.items())
        console.print(Text(text), soft_wrap=True)
    table = Table(box=None, pad_edge=False, show_header=False)
    wide = console.width // 3

    def add(end: str, extreme: Extreme) -> None:
        start = _cut(" ".join(visible(extreme.text, most=200).split()), console.width - wide - 20)
        name = _cut(visible(extreme.document, most=200), wide)
        table.add_row(end, value(measure, extreme.value), Text(name), Text(start))

    for extreme in spread.lowest[:STRIKING]:
        add("lowest", extreme)
    for extreme in spread.highest[:STRIKING]:
        add("highest", extreme)
    console.print(table)
