"""The map: documents and questions as points, coloured by cluster or source, in one HTML file that asks nothing of any network.

Points are drawn on a canvas by the page's own script: plotly's WebGL compiles code at run time, which would need `unsafe-eval` in the
policy of a page that shows text from crawls. That text is hostile: it travels packed (gzip in base64), and the script shows it
as the text of an element and nothing else.
"""

from __future__ import annotations

import json
import unicodedata
from typing import TYPE_CHECKING, Any

from assay.publish.templating import digest, environment, file_text, packed, policy

if TYPE_CHECKING:
    import pandas as pd

    from assay.audit.clusters import Found

EXCERPT = 160
"""Characters that are shown of a point: 100,000 of them make a page of some 10 MB."""


def render(found: Found, *, title: str) -> str:
    """The map as HTML.

    Args:
        found: clusters with their documents and questions.
        title: what was clustered, in words.
    """
    script = file_text("map.js")
    text: str = (
        environment()
        .get_template("map.html")
        .render(
            title=title,
            clusters=found.clusters,
            documents=len(found.documents),
            questions=len(found.questions),
            data=packed(json.dumps(_data(found), allow_nan=False, separators=(",", ":"), ensure_ascii=False)),
            style=file_text("page.css"),
            script=script,
            library="",
            policy=policy(scripts=[digest(script)]),
        )
    )
    return text


def _data(found: Found) -> dict[str, Any]:
    """What the script draws: columns of numbers, and texts that it shows as they are."""
    sources = sorted(found.clusters.sources)
    tasks = sorted(set(found.questions["task"]))
    return {
        "terms": [list(one.terms[:4]) for one in found.clusters.clusters],
        "sources": sources,
        "tasks": tasks,
        "documents": _points(found.documents, sources, "source"),
        "questions": _points(found.questions, tasks, "task"),
    }


def _points(table: pd.DataFrame, names: list[str], column: str) -> dict[str, list[Any]]:
    numbers = {name: number for number, name in enumerate(names)}
    return {
        "x": [round(float(value), 4) for value in table["x"]],
        "y": [round(float(value), 4) for value in table["y"]],
        "cluster": [int(value) - 1 for value in table["cluster"]],
        "of": [numbers[name] for name in table[column]],
        "text": [shown(text) for text in table["excerpt"]],
    }


def shown(text: str) -> str:
    r"""The beginning of a text, on one line and without characters that are not seen or turn others around.

    >>> shown("a\x00\u202eb\n\n  c <b>d</b>")
    'a�b c <b>d</b>'
    """
    line = " ".join(text[: 4 * EXCERPT].split())[:EXCERPT]
    kept = ("\N{REPLACEMENT CHARACTER}" if character == "\0" else character for character in line)
    # Cc controls, Cf format characters such as right-to-left overrides, Cs and Co halves and private ones.
    return "".join(one for one in kept if unicodedata.category(one) not in ("Cc", "Cf", "Cs", "Co"))
