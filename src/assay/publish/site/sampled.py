"""A sample as one page that opens from disk: for a person who has no access to the store."""

from __future__ import annotations

from typing import TYPE_CHECKING

from assay.audit.judged import newest
from assay.publish.site.audits import excerpt
from assay.publish.templating import digest, environment, file_text, policy

if TYPE_CHECKING:
    from assay.audit.beside import Masking
    from assay.audit.sample import Sampled
    from assay.publish.site.audits import Standing


def render(one: Standing, drawn: Sampled, mask: Masking) -> str:
    """The page, HTML.

    Args:
        one: how the source stands.
        drawn: of it.
        mask: of secrets.
    """
    script, said = file_text("page.js"), newest(one.log.judgements)
    rows = [(each, excerpt(each.text, each.characters, mask), said.get(each.document, {})) for each in drawn.picked]
    return (
        environment()
        .get_template("sample.html")
        .render(
            one=one,
            name=drawn.source,
            drawn=drawn,
            rows=rows,
            style=file_text("page.css"),
            script=script,
            policy=policy(scripts=[digest(script)]),
            library="",
        )
    )
