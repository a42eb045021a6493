"""`assay sample` and `assay judge`: documents for people to read, and what they think of them, kept with the project."""

from __future__ import annotations

import datetime
import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from assay.cli.common import AsJson, Overrides, console, print_json, progress_bars, workspace
from assay.errors import AssayError
from assay.files import write_text
from assay.publish.words import count, share

if TYPE_CHECKING:
    from assay.audit.beside import Masking
    from assay.audit.detectors import Detector
    from assay.audit.sample import By, Picked, Sampled
    from assay.publish.site.audits import Standing
    from assay.workspace import Workspace

SHOWN = 240
"""Characters of a document in the terminal."""


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command()(sample)
    app.command()(judge)


def looking() -> Sequence[Detector]:
    """The detectors of the project, the team's own among them; those of secrets say what is masked."""
    from assay.audit.detectors import detectors
    from assay.cli.audit import declared  # what `assay audit` looks with

    own, without = declared()
    return detectors(own, without=without)


def sample(
    source: Annotated[
        str,
        typer.Argument(metavar="SOURCE[,SOURCE]", help="The source to look into; several, or `all`, in equal parts."),
    ],
    overrides: Overrides = None,
    *,
    n: Annotated[int, typer.Option("--n", min=1, max=100, help="Documents.")] = 20,
    by: Annotated[
        str,
        typer.Option(
            "--by",
            help="Spread evenly over: length, compression, quality, host, snapshot, file, random, cluster, bits.",
        ),
    ] = "length",
    seed: Annotated[int, typer.Option("--seed", help="Another one draws other documents.")] = 0,
    html: Annotated[
        Path | None, typer.Option("--html", help="Write the sample as a page that opens from disk.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Draw documents of a source for a person to read: evenly over lengths, hosts or clusters, not only at random.

    By cluster and by bits (per byte under a proxy) need `assay clusters` and `assay audit --proxy RUN` to have been run.
    """
    from assay.audit.sample import BYS

    kind = next((each for each in BYS if each == by), None)
    if kind is None:
        raise AssayError(f"--by is {by!r}.", fix=f"It is one of {', '.join(BYS)}.")
    space = workspace(overrides)
    names = sorted(space.study.sources) if source == "all" else list(dict.fromkeys(source.split(",")))
    if len(names) > n:
        raise AssayError(f"--n is {n}, for {len(names)} sources.", fix=f"Ask for {len(names)} documents at least.")
    if html is not None and len(names) > 1:
        raise AssayError(f"--html with {len(names)} sources.", fix="It shows one source; name one.")
    found = []
    with progress_bars(quiet=as_json) as tell:
        for place, name in enumerate(names):
            share_of = n // len(names) + (place < n % len(names))
            found.append(_draw(space, name, share_of, kind, seed, lambda share, name=name: tell(name, share)))  # type: ignore[misc]
    if html is not None:
        from assay.publish.site.sampled import render

        write_text(html, render(*found[0]))
    if as_json:
        plain = [_plain(*one) for one in found]
        print_json(plain[0] if len(plain) == 1 else {"samples": plain})
        return
    for one, drawn, mask in found:
        if len(found) > 1:
            console.rule(Text(one.source.name), align="left")
        _print(drawn, mask)
    if html is not None:
        console.print(str(html), markup=False, soft_wrap=True)


def _draw(  # noqa: PLR0917  # all of it decides what is drawn
    space: Workspace, name: str, count: int, by: By, seed: int, tell: Callable[[float], None]
) -> tuple[Standing, Sampled, Masking]:
    from assay.audit.beside import masking
    from assay.audit.known import known
    from assay.audit.sample import sample as draw
    from assay.corpus.read import size_of
    from assay.publish.site.audits import standing

    where = space.source(name)
    one = standing(space, name, Path(space.study.paths.root))
    size, read = max(1, size_of(where)), 0

    def told(more: int) -> None:
        nonlocal read
        read += more
        tell(min(1.0, read / size))

    before = known(space.store.root, name, one.digest, by)
    drawn = draw(where, count=count, by=by, seed=seed, known=before, progress=told)
    tell(1.0)
    return one, drawn, masking(where, looking())


def judge(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="The source that the document is of.")],
    document: Annotated[str, typer.Argument(metavar="DOCUMENT", help="Its id, as a sample or a finding names it.")],
    overrides: Overrides = None,
    *,
    verdict: Annotated[str, typer.Option("--verdict", help="good, bad or unsure.")],
    by: Annotated[str, typer.Option("--by", envvar="ASSAY_JUDGE", help="Who judges.")],
    note: Annotated[str, typer.Option("--note", help="Why.")] = "",
    where: Annotated[
        str | None, typer.Option("--where", help="Its file and line, which saves reading the others.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write down what a person thinks of a document, in audits/SOURCE.jsonl of the project, for git to keep and merge."""
    from assay.audit.beside import find
    from assay.audit.judged import VERDICTS, Judgement, append, read, summary
    from assay.structure import to_mapping

    word = next((each for each in VERDICTS if each == verdict), None)
    if word is None:
        raise AssayError(f"--verdict is {verdict!r}.", fix=f"It is one of {', '.join(VERDICTS)}.")
    space = workspace(overrides)
    project = Path(space.study.paths.root)
    found = find(space.source(source), document, where)
    one = Judgement(
        source=source,
        digest=space.digest(source),
        document=found.id,
        text=hashlib.sha256(found.text.encode()).hexdigest(),
        verdict=word,
        note=note,
        by=by,
        when=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    )
    path = append(project, one)
    so_far = summary(read(project, source).judgements, one.digest)
    if as_json:
        print_json({"judgement": to_mapping(one), "file": path, "judged": to_mapping(so_far)})
        return
    console.print(
        f"{path}: {count(so_far.documents, 'document')} of this version judged, {so_far.bad} of them bad",
        markup=False,
        soft_wrap=True,
    )


def _plain(one: Standing, drawn: Sampled, mask: Masking) -> dict[str, object]:
    from assay.structure import to_mapping

    plain = to_mapping(drawn)
    plain["picked"] = [{**entry, "text": mask(entry["text"])} for entry in plain["picked"]]
    return {**plain, "digest": one.digest, "judged": to_mapping(one.judged)}


def _print(drawn: Sampled, mask: Masking) -> None:
    from assay.audit.visible import plain

    parts = count(len(drawn.strata), "part")
    console.print(f"{len(drawn.picked)} of {count(drawn.documents, 'document')}, evenly over {parts}\n")
    for each in drawn.picked:
        console.print(
            Text(each.document, style="bold").append(f"  {_about(each)}", style="dim not bold"), soft_wrap=True
        )
        console.print(Text(each.where, style="dim"), soft_wrap=True)
        begun = " ".join(plain(mask(each.text[: 4 * SHOWN]), most=4 * SHOWN).split())
        console.print(Text(begun[:SHOWN] + ("…" if len(begun) > SHOWN else "")), soft_wrap=False)
        console.print()
    console.print(
        Text(
            f"assay judge {drawn.source} DOCUMENT --where FILE:LINE --verdict good|bad|unsure --note WHY --by WHO",
            style="dim",
        )
    )


def _about(each: Picked) -> str:
    facts = [
        each.stratum,
        f"{each.characters:,} characters",
        f"compressed to {share(each.compression)}",
        each.url or "",
    ]
    return ", ".join(fact for fact in facts if fact)
