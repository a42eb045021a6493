"""What `assay audit` shows of defects that no detector looks for: contrasts, and how documents are spread."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from rich.table import Table
from rich.text import Text

from assay.cli.common import console, progress_bars
from assay.errors import AssayError
from assay.publish import words

if TYPE_CHECKING:
    from assay.audit.contrasts import Contrast
    from assay.audit.extremes import Distribution, Extreme, Measure
    from assay.audit.unknown import Tokens
    from assay.sources import Source
    from assay.store import RunDirectory
    from assay.workspace import Workspace

STRIKING = 3
"""Contrasts of a source that are printed, and one of its snapshots and hosts."""
BARS = " ▁▂▃▄▅▆▇█"
CELLS = 14
"""Of a chart, where there is room."""
TITLES: Mapping[Measure, str] = {
    "length": "bytes",
    "compression": "compr.",
    "signs": "signs",
    "bits": "bits",
}


class Unknown(NamedTuple):
    """What is known of a source beside its findings.

    Attributes:
        contrasts: the highest of each group first.
        distributions: by measure.
    """

    contrasts: list[Contrast]
    distributions: dict[Measure, Distribution]


def look(
    space: Workspace, chosen: Mapping[str, Source], digests: Mapping[str, str], *, proxy: str | None, quiet: bool
) -> dict[str, Unknown]:
    """Contrast the sources that were just audited with all others, and measure them with a proxy if there is one.

    Args:
        space: the study on this machine.
        chosen: the sources, by name.
        digests: of those that were audited.
        proxy: the beginning of a run's fingerprint.
        quiet: whether to show no progress.

    Raises:
        AssayError: no run is called so, or it has no model.
    """
    from assay.audit import unknown

    store = space.store.root
    others = [name for name in space.study.sources if name not in chosen]
    repairs = {name: one.repairs for name, one in {**space.study.sources, **chosen}.items()}
    run = None if proxy is None else trained(space, proxy)
    with progress_bars(quiet=quiet) as tell:
        found = unknown.contrast(
            store,
            digests,
            others=others,
            tokens=_tokens(space),
            repairs=repairs,
            tell=lambda share: tell("contrasts", share),
        )
        if run is not None:
            _measure(store, digests, run, batch_size=space.study.suite.batch_size, tell=tell)
    return {name: Unknown(found[name], unknown.distributions(store, name, digest)) for name, digest in digests.items()}


def trained(space: Workspace, prefix: str) -> RunDirectory:
    """The one run with a model whose fingerprint begins so.

    Raises:
        AssayError: there is none, or there are several.
    """
    runs = space.store.root / "runs"
    names = sorted(path.name for path in runs.glob("*") if path.name.startswith(prefix) and path.is_dir())
    if len(names) != 1:
        said = f"{len(names)} runs begin" if names else "no run begins"
        raise AssayError(
            f"--proxy {prefix}: {said} with it in {runs}.", fix="Give the beginning of a fingerprint of `assay status`."
        )
    run = space.store.run(names[0])
    if not (run.model / "model.safetensors").exists():
        raise AssayError(f"--proxy {prefix}: run {names[0][:12]} has no model.", fix="Choose one that has ended.")
    return run


def _tokens(space: Workspace) -> Tokens | None:
    """The study's tokenizer where it is made, otherwise the one that was made last; ``None`` where none was."""
    from assay.audit.unknown import Tokens

    made = sorted(space.store.tokenizers.glob("*/tokenizer.json"), key=lambda path: path.stat().st_mtime)
    try:
        path = space.tokenizer_folder() / "tokenizer.json"
    except AssayError:  # it is trained on the baseline's sources, and no sweep is named
        path = Path()
    return Tokens(path if path in made else made[-1]) if made else None


def _measure(store: Path, digests: Mapping[str, str], run: RunDirectory, *, batch_size: int, tell: Any) -> None:
    from assay.audit import unknown
    from assay.evaluate.proxied import bits_per_byte

    todo = {
        name: digest
        for name, digest in digests.items()
        if unknown.proxied(store, name, digest, run.fingerprint) is None
    }
    samples = {name: unknown.sample(store, name, digest) for name, digest in todo.items()}
    texts = {name: [(one.where, one.text) for one in kept.documents] for name, kept in samples.items() if kept}
    if not texts:
        return
    found = bits_per_byte(
        run.model, texts, batch_size=batch_size, tell=lambda source, share: tell(f"bits of {source}", share)
    )
    for name, bits in found.items():
        unknown.keep_bits(store, name, todo[name], run.fingerprint, bits)


# --- what is printed


def plain(found: Mapping[str, Unknown]) -> dict[str, Any]:
    """The contrasts of all sources, and the distributions of each, for JSON."""
    from assay.structure import to_mapping

    return {
        "contrasts": [
            {**to_mapping(one), "rate": one.rate, "rate_elsewhere": one.rate_elsewhere}
            for each in found.values()
            for one in each.contrasts
        ],
        "extremes": {
            name: {
                measure: {**to_mapping(one), "documents": one.documents, "quantiles": one.quantiles()}
                for measure, one in each.distributions.items()
            }
            for name, each in found.items()
        },
    }


def show(found: Mapping[str, Unknown], *, extremes: bool) -> None:
    """Print the most striking contrasts and the distributions, and the extreme documents if they are asked for."""
    _print_contrasts([one for each in found.values() for one in striking(each.contrasts)])
    _print_spread(found)
    for name, each in found.items() if extremes else ():
        for measure, spread in each.distributions.items():
            _print_ends(name, measure, spread)


def striking(contrasts: Sequence[Contrast]) -> list[Contrast]:
    """The highest of a source, and the highest of its snapshots and hosts; of words first, as they are read more easily."""
    whole = [one for one in contrasts if one.kind == "source"]
    parts = sorted((one for one in contrasts if one.kind != "source"), key=lambda one: -one.score)
    return sorted(whole, key=lambda one: -one.score)[:STRIKING] + parts[:1]


def _print_contrasts(shown: Sequence[Contrast]) -> None:
    from assay.audit.visible import plain as visible

    if not shown:
        return
    console.print("\n[bold]More frequent here than elsewhere[/]: to be looked at; none is a finding")
    names = [one.source if one.kind == "source" else f"{one.source} {one.group}" for one in shown]
    wide = min(max(6, *map(len, names)), console.width // 3)
    table = Table(box=None, pad_edge=False)
    table.add_column("source", no_wrap=True, width=wide, overflow="ellipsis")
    for heading in ("here", "rest"):
        table.add_column(heading, justify="right", no_wrap=True, width=5)
    table.add_column("n-gram", no_wrap=True)
    for name, one in zip(names, shown, strict=True):
        ngram = visible(one.phrase if one.ngrams > 1 else one.ngram, most=200)
        table.add_row(
            Text(visible(name, most=60)),
            f"{one.rate:.0%}",
            f"{one.rate_elsewhere:.1%}",
            Text(_cut(ngram, console.width - wide - 2 * 6 - 2)),
        )
    console.print(table)


def _cut(text: str, width: int) -> str:
    """As much of a text as a line has room for; of wide characters half as many have."""
    from rich.cells import cell_len, set_cell_size

    return text if cell_len(text) <= width else set_cell_size(text, max(1, width - 1)) + "…"


def _print_spread(found: Mapping[str, Unknown]) -> None:
    """A row for each source: of each measure a chart over the same axis for all sources, and the median."""
    rows = {
        name: each.distributions for name, each in found.items() if any(d.counts for d in each.distributions.values())
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
                shown += [words.NOTHING, ""]
                continue
            shown += [chart(spread, axes[measure], cells), value(measure, spread.quantile(0.5))]
        table.add_row(Text(name), *shown)
    console.print("\n[bold]How documents are spread[/] from the least to the most, and their medians")
    console.print(table)


def axis(spreads: Sequence[Distribution], cells: int = CELLS) -> tuple[int, int]:
    """The first bin that a chart begins with, and how many bins each of its cells has: from the 1st to the 99th percentile.

    What lies beyond is in the outermost cells: one odd document would squeeze all others into one.
    """
    places = [one.place(share) for one in spreads for share in (0.01, 0.99)]
    if not places:
        return 0, 1
    return min(places), -(-(max(places) - min(places) + 1) // cells)


def chart(spread: Distribution, over: tuple[int, int], cells: int = CELLS) -> str:
    """A histogram in a line: the highest bar is the fullest cell, and no cell with a document is blank."""
    first, width = over
    counts = [0] * cells
    for place, count in spread.bins():
        counts[min(cells - 1, max(0, (place - first) // width))] += count
    top = max(counts)
    return "".join(BARS[-(-count * (len(BARS) - 1) // top)] for count in counts)


def value(measure: Measure, number: float) -> str:
    """A value of a measure as people read it."""
    if measure == "length":
        return words.amount(number)
    return f"{number:.2f}" if measure == "bits" else f"{number:.0%}"


def _print_ends(source: str, measure: Measure, spread: Distribution) -> None:
    from assay.audit.visible import plain as visible

    console.print(Text(f"\n{source}, {TITLES[measure]}", style="bold"))
    quantiles = spread.quantiles()
    if quantiles:
        told = ", ".join(f"{name}%: {value(measure, number)}" for name, number in quantiles.items())
        console.print(Text(told), soft_wrap=True)
    table = Table(box=None, pad_edge=False, show_header=False)
    wide = console.width // 3

    def add(end: str, one: Extreme) -> None:
        begun = _cut(" ".join(visible(one.text, most=200).split()), console.width - wide - 20)
        name = _cut(visible(one.document, most=200), wide)
        table.add_row(end, value(measure, one.value), Text(name), Text(begun))

    for one in spread.lowest[:STRIKING]:
        add("least", one)
    for one in spread.highest[:STRIKING]:
        add("most", one)
    console.print(table)
