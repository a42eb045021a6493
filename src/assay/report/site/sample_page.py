"""Render a sample of a source as a self-contained HTML file.

The file is for readers without access to the store.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from assay.report.site.audit_pages import sample_rows
from assay.report.templating import digest, environment, file_text, policy

if TYPE_CHECKING:
    from assay.audit.review.sample import ReviewSample
    from assay.audit.review.side_by_side import Masking
    from assay.report.site.audit_state import AuditState


def render(state: AuditState, drawn: ReviewSample, mask: Masking) -> str:
    """Render the sample as HTML.

    Args:
        state: audit state of the source.
        drawn: the sample.
        mask: masks secrets.
    """
    script = file_text("page.js")
    return (
        environment()
        .get_template("sample.html")
        .render(
            one=state,
            name=drawn.source,
            drawn=drawn,
            rows=sample_rows(drawn, state, mask),
            style=file_text("page.css"),
            script=script,
            policy=policy(scripts=[digest(script)]),
            library="",
        )
    )
