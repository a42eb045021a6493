"""HTML of the sweep report: completeness, escaping and the content security policy."""

from __future__ import annotations

import base64
import gzip
import json
import re
from html.parser import HTMLParser
from typing import Any

import pytest

from assay.report import page, templating
from assay.report.model import Report
from assay.report.reason_text import scope_text, texts
from tests.report import page_data
from tests.report.plots.test_figures import SHAPES


class Elements(HTMLParser):
    """Elements, attributes and texts of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def data_of(html: str, block: str = "plots") -> Any:
    packed = re.search(rf'<script type="text/plain" id="{block}">([^<]*)</script>', html)
    assert packed
    return json.loads(gzip.decompress(base64.b64decode(packed[1])))


@pytest.fixture(scope="module")
def report() -> Report:
    return page_data.make()


@pytest.fixture(scope="module")
def html(report: Report) -> str:
    return page.render(report)


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_of_sweep_renders(shape: str) -> None:
    report = page_data.make(**SHAPES[shape])
    html = page.render(report)
    assert html.startswith("<!DOCTYPE html>")
    for run in report.runs:
        assert f'id="run-{run.mix}-{run.seed}"' in html
    if not report.comparisons:
        assert "No effects yet" in html


def test_the_page_references_no_external_resource(html: str) -> None:
    loading = {"src", "href", "srcset", "action", "data", "poster", "background"}
    for tag, attributes in Elements(html).tags:
        for name in loading & attributes.keys():
            assert (attributes[name] or "").startswith(("#", "data:,")), (tag, attributes)
    assert "@import" not in html
    assert "url(" not in html


def test_the_policy_allows_two_scripts_and_no_requests(html: str) -> None:
    policy = next(a["content"] for t, a in Elements(html).tags if a.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    directives = dict(part.strip().split(" ", 1) for part in policy.split(";"))
    assert directives["default-src"] == "'none'"
    assert len(re.findall(r"'sha256-[^']+'", directives["script-src"])) == 2
    assert "unsafe" not in directives["script-src"]
    assert "connect-src" not in directives


def test_hostile_text_is_escaped() -> None:
    html = page.render(page_data.make(hostile=True))
    elements = Elements(html)
    assert [a.get("id") for t, a in elements.tags if t == "script"] == ["plots", "tables", "library", None]
    assert not [t for t, _ in elements.tags if t == "img"]
    assert not [a for _, a in elements.tags if any(name.startswith("on") for name in a)]
    assert any(page_data.HOSTILE in text for text in elements.text)


def test_the_verdict_comes_first_and_is_complete(report: Report, html: str) -> None:
    text = re.sub(r"\s+", " ", " ".join(Elements(html.split('<section id="effects">', maxsplit=1)[0]).text))
    assert "Can crawled code replace repository code" in text
    assert "REJECT" in text
    assert report.verdict is not None
    for verdict in report.verdict.candidates.values():
        for sentence in (*texts((*verdict.reasons, *verdict.needed)), scope_text(verdict.scope)):
            assert sentence in text
    assert "1 run diverged" in text


def test_every_comparison_and_every_score_is_in_a_table(report: Report, html: str) -> None:
    for table, rows in (("comparisons", len(report.comparisons)), ("score-table", len(report.mean_scores()))):
        body = html.split(f'<table id="{table}"')[1].split("</table>", maxsplit=1)[0]
        assert body.count("<tr") == rows + 1
    body = html.split('<table id="comparisons"')[1]
    for c in report.comparisons:
        assert f'data-value="{c.effect}"' in body


def test_fingerprints_are_complete_on_the_page(report: Report, html: str) -> None:
    for run in report.runs:
        assert run.fingerprint is not None
        assert run.fingerprint in html
    assert report.plan.evaluation in html


def test_rendering_is_deterministic(report: Report, html: str) -> None:
    assert page.render(report) == html


def test_plots_carry_their_data(report: Report, html: str) -> None:
    data, tables = data_of(html), data_of(html, "tables")
    loss = data["figures"]["curve-loss"]
    assert set(tables) == set(data["figures"])
    assert tables["curve-loss"][0] == ["mix", "seed", "run", "tokens", "loss"]
    assert len(tables["curve-loss"]) == 1 + sum(len(run.history) for run in report.runs)
    assert set(data["dark"]) >= {trace["line"]["color"] for trace in loss["data"] if "line" in trace}, (
        "every color has a counterpart in the dark theme"
    )


def test_fifty_runs_of_sixty_tasks_fit_in_5_mb() -> None:
    report = page_data.make(seeds=tuple(range(17)), extra_sources=40, records=200)
    assert len(report.runs) == 51
    assert len({score.task for score in report.runs[0].scores}) >= 53
    assert len(page.render(report).encode()) < 5_000_000


def test_a_long_error_is_collapsed_and_complete(report: Report, html: str) -> None:
    problem = next(run.problem for run in report.runs if run.problem)
    assert len(problem) > templating.LONG
    assert f"<pre>{problem}</pre>" in html
