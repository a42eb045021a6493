"""Render the topic map: documents and items as points in one HTML file.

Points are colored by topic or source, and the file makes no network requests. The page's own script draws the points on
a canvas. Plotly's WebGL is not used, because it compiles code at run time. This would require `unsafe-eval` in the
content security policy of a page that shows crawled text. Crawled text is untrusted: the page embeds the text as gzip
in base64, and the script inserts the text only as the text content of an element.
"""

from __future__ import annotations

import json
import unicodedata
from typing import TYPE_CHECKING, Any

from assay.report.templating import digest, environment, file_text, packed, policy

if TYPE_CHECKING:
    import pandas as pd

    from assay.audit.explore.topics import TopicMap

EXCERPT = 160
"""Maximum characters of text per point. A page with 100,000 points has about 10 MB."""


def render(topics: TopicMap, *, title: str) -> str:
    """Render the map as HTML.

    Args:
        topics: topics with their documents and items.
        title: names of the clustered sources.
    """
    script = file_text("map.js")
    text: str = (
        environment()
        .get_template("map.html")
        .render(
            title=title,
            summary=topics.summary,
            documents=len(topics.documents),
            questions=len(topics.questions),
            data=packed(json.dumps(_data(topics), allow_nan=False, separators=(",", ":"), ensure_ascii=False)),
            style=file_text("page.css"),
            script=script,
            library="",
            policy=policy(scripts=[digest(script)]),
        )
    )
    return text


def _data(topics: TopicMap) -> dict[str, Any]:
    """Return the script's input: columns of numbers, and texts that the script shows unchanged."""
    sources = sorted(topics.summary.sources)
    tasks = sorted(set(topics.questions["task"]))
    return {
        "terms": [list(topic.terms[:4]) for topic in topics.summary.topics],
        "sources": sources,
        "tasks": tasks,
        "documents": _points(topics.documents, sources, "source"),
        "questions": _points(topics.questions, tasks, "task"),
    }


def _points(table: pd.DataFrame, names: list[str], column: str) -> dict[str, list[Any]]:
    numbers = {name: number for number, name in enumerate(names)}
    return {
        "x": [round(float(value), 4) for value in table["x"]],
        "y": [round(float(value), 4) for value in table["y"]],
        "cluster": [int(value) - 1 for value in table["topic"]],
        "of": [numbers[name] for name in table[column]],
        "text": [excerpt(text) for text in table["excerpt"]],
    }


def excerpt(text: str) -> str:
    r"""Return the beginning of a text on one line, without invisible or direction-changing characters.

    >>> excerpt("a\x00\u202eb\n\n  c <b>d</b>")
    'a�b c <b>d</b>'
    """
    line = " ".join(text[: 4 * EXCERPT].split())[:EXCERPT]
    kept = ("\N{REPLACEMENT CHARACTER}" if character == "\0" else character for character in line)
    # Cc: control characters; Cf: format characters such as right-to-left overrides; Cs: surrogates; Co: private use.
    return "".join(character for character in kept if unicodedata.category(character) not in ("Cc", "Cf", "Cs", "Co"))
