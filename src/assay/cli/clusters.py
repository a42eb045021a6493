"""`assay clusters`: what the sources are made of, and what models can and cannot do in each part of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from assay.cli.audit import declared
from assay.cli.common import AsJson, complete_override, console, print_json, progress_bars, workspace
from assay.errors import AssayError, did_you_mean
from assay.publish import words

if TYPE_CHECKING:
    from assay.audit.clusters import Cluster, Found, Settings
    from assay.publish.by_cluster import ArmIn, InCluster
    from assay.workspace import Workspace

NARROW = 110
"""Columns below which the table leaves some measures out; `--json` and the map have them all."""
LETTERS = "ABCDEFGH"
"""Stand for candidates over columns."""
TITLES = {"acc": "Accuracy by cluster, points", "bits_per_byte": "Bits per byte of held-out text by cluster"}
LISTED = 0.01
"""Share of a cluster's documents from which on a defect is listed."""


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command()(clusters)


def clusters(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[SOURCE]... [OVERRIDE]...",
            help="Sources; left out, the sweep's, or all. With sweep=NAME also its suite's questions and its runs' scores.",
            autocompletion=complete_override,
            show_default=False,
        ),
    ] = None,
    *,
    vectors: Annotated[
        str | None,
        typer.Option(
            "--vectors", help="svd, fasttext, fasttext:skipgram, or a function of your own as module:function."
        ),
    ] = None,
    sample: Annotated[
        int | None,
        typer.Option("--sample", min=1, help="Documents, the same number of each source as far as it has them."),
    ] = None,
    number: Annotated[
        int | None, typer.Option("--clusters", min=1, help="How many; left out, by the number of documents.")
    ] = None,
    dimensions: Annotated[int | None, typer.Option("--dimensions", min=2, help="Of the vectors.")] = None,
    seed: Annotated[int | None, typer.Option("--seed", min=0, help="Of the sample and of all that is random.")] = None,
    map_file: Annotated[
        Path | None, typer.Option("--map", help="Where to write the map; left out, among the store's reports.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Cluster the sources' documents: terms, share of each source, quality and defects of each cluster, and a map.

    With sweep=NAME the questions of its suite and the held-out documents are put into the clusters, and the scores of its runs
    are shown by cluster: what a mix cannot do, and which data lies near it. What no option says is as `clustering` in the
    configuration has it.
    """
    from assay.audit.clusters import Settings
    from assay.files import write_text
    from assay.publish import map as map_page

    given = list(arguments or ())
    space = workspace([one for one in given if "=" in one])
    names = _names(space, [one for one in given if "=" not in one])
    usual, (own, without) = space.study.clustering, declared()
    settings = Settings(
        vectors=vectors or usual.vectors,
        dimensions=dimensions or usual.dimensions,
        sample=sample or usual.sample,
        clusters=number or usual.number,
        seed=usual.seed if seed is None else seed,
        declared=own,
        without=without,
    )
    digest, found = _found(space, names, settings, quiet=as_json)
    path = map_file or space.store.reports / f"clusters-{digest[:12]}.html"
    write_text(path, map_page.render(found, title=", ".join(names)))
    scored = _scores(space, found) if space.study.sweep else []
    if as_json:
        print_json(_plain(digest, found, scored, path))
        return
    _print(found)
    if space.study.sweep:
        _print_scores(found, scored)
    console.print(f"The map: {path}", markup=False, soft_wrap=True)


def _names(space: Workspace, named: Sequence[str]) -> list[str]:
    known = space.study.sources
    for name in named:
        if name not in known:
            raise AssayError(f"no source is called {name!r}. {did_you_mean(name, known)}")
    return sorted(dict.fromkeys(named)) or sorted(space.sources if space.study.sweep else known)


def _found(space: Workspace, names: Sequence[str], settings: Settings, *, quiet: bool) -> tuple[str, Found]:
    """The clusters as they were made before, or new ones."""
    from assay.audit import clusters as made

    with progress_bars(quiet=quiet) as tell:
        digests = {name: space.digest(name) for name in names}
        corpora = _corpora(space)
        asked = f"{space.evaluation.fingerprint} {sorted(corpora)}" if space.study.sweep else None
        digest = made.identity(digests, settings, asked)
        found = made.load(space.store.root, digest) if settings.repeatable else None
        if found is None:
            questions = _questions(space, corpora, tell) if space.study.sweep else []
            sources = [space.source(name) for name in names]
            found = made.find(sources, digests, settings, questions=questions, tell=tell)
            made.save(space.store.root, digest, found)
    return digest, found


def _corpora(space: Workspace) -> dict[str, Path]:
    """The corpora whose held-out documents runs are scored on, as far as they are made."""
    if not space.study.sweep or not space.study.suite.validation_bytes:
        return {}
    paths = {name: space.store.corpora / space.corpus_id(name) for name in space.sources}
    return {name: path for name, path in paths.items() if (path / "manifest.json").exists()}


def _questions(space: Workspace, corpora: dict[str, Path], tell: Callable[[str, float], None]) -> list[Any]:
    from assay.audit.clusters import Question
    from assay.evaluate import asked
    from assay.evaluate.offline import use_mirror
    from assay.evaluate.quiet import quietly

    found: list[asked.Asked] = []
    suite = space.study.suite
    if suite.tasks:
        if space.mirror is not None:
            use_mirror(space.mirror)
        tell("questions", 0.0)
        with quietly():
            found += asked.questions(suite.tasks, tell=lambda share: tell("questions", share))
    if corpora:
        found += asked.held_out(corpora, space.tokenizer_folder(), limit=suite.validation_bytes)
    return [Question(*one) for one in found]


def _scores(space: Workspace, found: Found) -> list[InCluster]:
    from assay.publish.by_cluster import by_cluster
    from assay.results import collect

    sweep = space.study.require_sweep()
    mixes = [sweep.baseline, *(mix for mix in sweep.mixes if mix != sweep.baseline)]
    return by_cluster(collect(space.store, space.plan()).items, found.questions, mixes)


# --- what is printed


def _plain(digest: str, found: Found, scored: Sequence[InCluster], path: Path) -> dict[str, Any]:
    from assay.structure import to_mapping

    return {
        "digest": digest,
        "map": path,
        **to_mapping(found.clusters),
        "scores": [to_mapping(one) for one in scored],
    }


def _print(found: Found) -> None:
    narrow = console.width < NARROW
    table = Table(box=None, pad_edge=False)
    for name in ("#", "docs"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("terms", ratio=1)
    table.add_column("most of it from", overflow="fold")
    columns = ("compr.",) if narrow else ("kB", "compr.", "signs", "digits", "repeated")
    for name in columns:
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("defects", overflow="fold")
    for one in found.clusters.clusters:
        measures = [f"{one.quality.compression:.2f}"]
        if not narrow:
            q = one.quality
            measures = [
                f"{q.bytes / 1000:.1f}",
                *measures,
                *(f"{part:.0%}" for part in (q.signs, q.digits, q.repeated)),
            ]
        table.add_row(
            str(one.number),
            f"{one.documents:,}",
            Text(" ".join(one.terms[: 5 if narrow else 8])),
            Text(f"{one.most} {one.lift:.1f}x"),
            *measures,
            Text(_defects(one), style="red" if _defects(one) else ""),
        )
    console.print(table)
    parts = found.clusters.sources.values()
    unread = sum(part.unread for part in parts)
    clear = found.clusters.silhouette
    console.print(
        f"{sum(part.sampled for part in parts):,} of {words.count(sum(part.documents for part in parts), 'document')}"
        f" of {words.count(len(parts), 'source')}; silhouette {words.NOTHING if clear is None else f'{clear:.2f}'}."
        + (f" {words.count(unread, 'record')} could not be read." if unread else "")
    )
    failed = sum((Counter(part.failed) for part in parts), Counter[str]())
    for name, times in failed.items():
        console.print(f"{name} failed on {words.count(times, 'document')}; `assay audit` tells where.", markup=False)


def _defects(one: Cluster) -> str:
    listed = [(name, share) for name, share in one.defects.items() if share >= LISTED]
    return ", ".join(f"{name} {share:.0%}" for name, share in listed[:2])


def _print_scores(found: Found, scored: Sequence[InCluster]) -> None:
    if not scored:
        console.print("No run of the sweep has been scored yet; its questions are on the map.")
        return
    mixes = list(dict.fromkeys(arm.mix for one in scored for arm in one.arms))
    shown = mixes[: 1 + min(len(LETTERS), max(1, (console.width - 60) // 10))]
    for metric, title in TITLES.items():
        rows = [one for one in scored if one.metric == metric]
        if rows:
            console.print()
            console.print(_score_table(found, rows, shown, title, metric))
    named = [f"baseline: {mixes[0]}", *(f"{letter}: {mix}" for letter, mix in zip(LETTERS, shown[1:], strict=False))]
    console.print("; ".join(named) + ".", markup=False)
    if len(shown) < len(mixes):
        console.print(
            f"{words.count(len(mixes) - len(shown), 'more mix', 'more mixes')} in a wider terminal, and in --json."
        )
    console.print(
        "Differences to the baseline, ± half of a 95% interval over questions, not adjusted for there being many clusters: "
        "they show where to look, and decide nothing."
    )


def _score_table(found: Found, rows: Sequence[InCluster], mixes: Sequence[str], title: str, metric: str) -> Table:
    """Clusters in rows, mixes in columns: the baseline's score, and under each letter a candidate's difference to it."""
    named = {one.number: one for one in found.clusters.clusters}
    table = Table(box=None, pad_edge=False, title=title, title_justify="left")
    table.add_column("#", justify="right", no_wrap=True)
    table.add_column("terms", ratio=1)
    table.add_column("data near it", overflow="fold")
    for name in ("asked", "baseline", *LETTERS[: len(mixes) - 1]):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        cluster, arms = named[row.cluster], {arm.mix: arm for arm in row.arms}
        table.add_row(
            str(row.cluster),
            Text(" ".join(cluster.terms[:3])),
            Text(_near(cluster)),
            f"{row.questions:,}",
            *(_cell(metric, arms.get(mix)) for mix in mixes),
        )
    return table


def _cell(metric: str, arm: ArmIn | None) -> str:
    if arm is None:
        return words.NOTHING
    if arm.difference is None:
        return words.score(metric, arm.value)
    margin = "" if arm.margin is None else f"\n±{words.size(metric, arm.margin).removesuffix(' pt')}"
    return f"{words.signed(metric, arm.difference).removesuffix(' pt')}{margin}"


def _near(cluster: Cluster) -> str:
    """The sources that have the largest shares of their documents in a cluster."""
    largest = sorted(cluster.shares.items(), key=lambda item: -item[1])[:2]
    return ", ".join(f"{name} {share:.0%}" for name, share in largest if share > 0)
