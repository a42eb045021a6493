"""`assay audit topics`: topics of the sources' documents, and scores of a sweep's runs by topic."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from assay.cli.arguments import AsJson, load_workspace, split_overrides
from assay.cli.completion import complete_source_or_override
from assay.cli.console import console, print_json
from assay.cli.progress import progress_bars, spinner
from assay.core.errors import NotFound, did_you_mean
from assay.report import formatting

if TYPE_CHECKING:
    from assay.audit.explore.topics import Topic, TopicMap, TopicSettings
    from assay.plan.workspace import Workspace
    from assay.report.by_topic import ArmTopicScore, TopicScores

NARROW = 110
"""Terminal width in columns below which the table omits some measures; `--json` and the map contain all measures."""
LETTERS = "ABCDEFGH"
"""Column headings of candidates."""
TITLES = {"acc": "Accuracy by topic, points", "bits_per_byte": "Bits per byte of held-out text by topic"}
LISTED = 0.01
"""Minimum fraction of a topic's documents that have a defect for the table to list the defect."""


def topics(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="SOURCE|OVERRIDE",
            help="Names of sources (default: the sources of the sweep, or all sources), and Hydra overrides.",
            autocompletion=complete_source_or_override,
            show_default=False,
        ),
    ] = None,
    *,
    vectors: Annotated[
        str | None,
        typer.Option(
            "--vectors",
            help="Embedding of documents: svd, fasttext, fasttext:skipgram or module:function (default: topics.vectors).",
        ),
    ] = None,
    sample: Annotated[
        int | None,
        typer.Option(
            "--sample",
            min=1,
            help="Total number of documents, divided equally among the sources (default: topics.sample).",
        ),
    ] = None,
    number: Annotated[
        int | None, typer.Option("--topics", min=1, help="Number of topics (default: topics.number).")
    ] = None,
    dimensions: Annotated[
        int | None,
        typer.Option(
            "--dimensions", min=2, help="Number of dimensions of the document vectors (default: topics.dimensions)."
        ),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option("--seed", min=0, help="Seed of the sample and the topics (default: topics.seed)."),
    ] = None,
    map_file: Annotated[
        Path | None,
        typer.Option("--map", help="HTML file to write the topic map to (default: a file in the store's reports)."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Cluster documents by topic. Print terms, sources, quality and defects of each topic, and write a topic map.

    With sweep=NAME, also assign the suite's items and the held-out documents to the topics, and print the scores of the
    sweep's runs by topic.
    """
    from assay.audit.detectors.declaration import declared_detectors
    from assay.audit.explore.topics import TopicSettings
    from assay.core.files import write_text
    from assay.report import topic_map as map_page

    named, overrides = split_overrides(arguments)
    space = load_workspace(overrides)
    names = _source_names(space, named)
    defaults, (declared, without) = space.study.topics, declared_detectors()
    settings = TopicSettings(
        vectors=vectors or defaults.vectors,
        dimensions=dimensions or defaults.dimensions,
        sample=sample or defaults.sample,
        topics=number or defaults.number,
        seed=defaults.seed if seed is None else seed,
        declared=declared,
        without=without,
    )
    digest, result = _load_topics(space, names, settings, quiet=as_json)
    path = map_file or space.store.reports / f"topics-{digest[:12]}.html"
    write_text(path, map_page.render(result, title=", ".join(names)))
    with spinner("reading the scores", quiet=as_json):
        scores = _scores(space, result) if space.study.sweep else []
    if as_json:
        print_json(_plain(digest, result, scores, path))
        return
    _print(result)
    if space.study.sweep:
        _print_scores(result, scores)
    console.print(f"map: {path}", markup=False, soft_wrap=True)


def _source_names(space: Workspace, named: Sequence[str]) -> list[str]:
    known = space.study.sources
    for name in named:
        if name not in known:
            raise NotFound(f"no source is called {name!r}. {did_you_mean(name, known)}")
    return sorted(dict.fromkeys(named)) or sorted(space.mixes.sweep_sources if space.study.sweep else known)


def _load_topics(
    space: Workspace, names: Sequence[str], settings: TopicSettings, *, quiet: bool
) -> tuple[str, TopicMap]:
    """Load the topics from the store, or compute and save them."""
    from assay.audit.explore import topics as topic_store

    with progress_bars(quiet=quiet) as report:
        digests = {name: space.sources.digest(name) for name in names}
        corpora = _corpora(space)
        items = f"{space.runs.evaluation.fingerprint} {sorted(corpora)}" if space.study.sweep else None
        digest = topic_store.identity(digests, settings, items)
        result = topic_store.load(space.store.root, digest) if settings.repeatable else None
        if result is None:
            questions = _items(space, corpora, report) if space.study.sweep else []
            sources = [space.sources.source(name) for name in names]
            result = topic_store.find(sources, digests, settings, questions=questions, progress=report)
            topic_store.save(space.store.root, digest, result)
    return digest, result


def _corpora(space: Workspace) -> dict[str, Path]:
    """Return the existing corpora whose held-out documents score the runs."""
    if not space.study.sweep or not space.study.suite.validation_bytes:
        return {}
    paths = {name: space.store.corpora / space.sources.corpus_id(name) for name in space.mixes.sweep_sources}
    return {name: path for name, path in paths.items() if (path / "manifest.json").exists()}


def _items(space: Workspace, corpora: dict[str, Path], report: Callable[[str, float], None]) -> list[Any]:
    from assay.audit.explore.topics import TopicItem
    from assay.evaluate import item_texts
    from assay.evaluate.log_filter import capture_harness_log
    from assay.evaluate.offline import use_mirror

    texts: list[item_texts.ItemTexts] = []
    suite = space.study.suite
    if suite.tasks:
        if space.study.paths.mirror is not None:
            use_mirror(space.study.paths.mirror)
        report("items", 0.0)
        with capture_harness_log():
            texts += item_texts.load_item_texts(
                suite.tasks, progress=lambda done: report("items", done), include_path=space.study.task_folder
            )
    if corpora:
        texts += item_texts.read_held_out_texts(corpora, space.sources.tokenizer_folder, limit=suite.validation_bytes)
    return [TopicItem(*text) for text in texts]


def _scores(space: Workspace, result: TopicMap) -> list[TopicScores]:
    from assay.analysis.results import collect
    from assay.report.by_topic import score_by_topic

    sweep = space.study.require_sweep()
    mixes = [sweep.baseline, *(mix for mix in sweep.mixes if mix != sweep.baseline)]
    return score_by_topic(collect(space.store, space.planner.plan()).items, result.questions, mixes)


# --- output


def _plain(digest: str, result: TopicMap, scores: Sequence[TopicScores], path: Path) -> dict[str, Any]:
    from assay.core.serde import to_mapping

    return {
        "digest": digest,
        "map": path,
        **to_mapping(result.summary),
        "scores": [to_mapping(score) for score in scores],
    }


def _print(result: TopicMap) -> None:
    narrow = console.width < NARROW
    table = Table(box=None, pad_edge=False)
    for name in ("#", "docs"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("terms", ratio=1)
    table.add_column("main source", overflow="fold")
    columns = ("compr.",) if narrow else ("kB", "compr.", "symbols", "digits", "repeated")
    for name in columns:
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("defects", overflow="fold")
    for topic in result.summary.topics:
        measures = [f"{topic.quality.compression:.2f}"]
        if not narrow:
            q = topic.quality
            measures = [
                f"{q.bytes / 1000:.1f}",
                *measures,
                *(f"{part:.0%}" for part in (q.symbol_ratio, q.digits, q.repeated)),
            ]
        table.add_row(
            str(topic.number),
            f"{topic.documents:,}",
            Text(" ".join(topic.terms[: 5 if narrow else 8])),
            Text(f"{topic.main_source} {topic.lift:.1f}x"),
            *measures,
            Text(_defects(topic), style="red" if _defects(topic) else ""),
        )
    console.print(table)
    parts = result.summary.sources.values()
    unread = sum(part.unread for part in parts)
    silhouette = result.summary.silhouette
    console.print(
        f"{sum(part.sampled for part in parts):,} of {formatting.count(sum(part.documents for part in parts), 'document')}"
        f" of {formatting.count(len(parts), 'source')}; silhouette {formatting.NOTHING if silhouette is None else f'{silhouette:.2f}'}."
        + (f" {formatting.count(unread, 'record')} could not be read." if unread else "")
    )
    failed = sum((Counter(part.failed) for part in parts), Counter[str]())
    for name, times in failed.items():
        console.print(
            f"{name} failed on {formatting.count(times, 'document')}; `assay audit` reports where.", markup=False
        )


def _defects(topic: Topic) -> str:
    listed = [(name, fraction) for name, fraction in topic.defects.items() if fraction >= LISTED]
    return ", ".join(f"{name} {fraction:.0%}" for name, fraction in listed[:2])


def _print_scores(result: TopicMap, scores: Sequence[TopicScores]) -> None:
    if not scores:
        console.print("No run of the sweep has scores yet. The map shows the items of the suite.")
        return
    mixes = list(dict.fromkeys(arm.mix for score in scores for arm in score.arms))
    shown = mixes[: 1 + min(len(LETTERS), max(1, (console.width - 60) // 10))]
    for metric, title in TITLES.items():
        rows = [score for score in scores if score.metric == metric]
        if rows:
            console.print()
            console.print(_score_table(result, rows, shown, title, metric))
    named = [f"baseline: {mixes[0]}", *(f"{letter}: {mix}" for letter, mix in zip(LETTERS, shown[1:], strict=False))]
    console.print("; ".join(named) + ".", markup=False)
    if len(shown) < len(mixes):
        console.print(
            f"{formatting.count(len(mixes) - len(shown), 'more mix', 'more mixes')} are in a wider terminal, and in --json."
        )
    console.print(
        "Differences to the baseline, ± half of a 95% interval over items, not adjusted for multiple topics: no verdict "
        "rests on them."
    )


def _score_table(result: TopicMap, rows: Sequence[TopicScores], mixes: Sequence[str], title: str, metric: str) -> Table:
    """Make a table of topics by mixes: the baseline's score, and each candidate's difference from it under a letter."""
    topics_by_number = {topic.number: topic for topic in result.summary.topics}
    table = Table(box=None, pad_edge=False, title=title, title_justify="left")
    table.add_column("#", justify="right", no_wrap=True)
    table.add_column("terms", ratio=1)
    table.add_column("nearby data", overflow="fold")
    for name in ("items", "baseline", *LETTERS[: len(mixes) - 1]):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        topic, arms = topics_by_number[row.topic], {arm.mix: arm for arm in row.arms}
        table.add_row(
            str(row.topic),
            Text(" ".join(topic.terms[:3])),
            Text(_nearby(topic)),
            f"{row.questions:,}",
            *(_cell(metric, arms.get(mix)) for mix in mixes),
        )
    return table


def _cell(metric: str, arm: ArmTopicScore | None) -> str:
    if arm is None:
        return formatting.NOTHING
    if arm.difference is None:
        return formatting.score(metric, arm.value)
    margin = "" if arm.margin is None else f"\n±{formatting.size(metric, arm.margin).removesuffix(' pt')}"
    return f"{formatting.signed(metric, arm.difference).removesuffix(' pt')}{margin}"


def _nearby(topic: Topic) -> str:
    """Return the sources with the largest fractions of their documents in a topic."""
    largest = sorted(topic.fractions.items(), key=lambda item: -item[1])[:2]
    return ", ".join(f"{name} {fraction:.0%}" for name, fraction in largest if fraction > 0)
