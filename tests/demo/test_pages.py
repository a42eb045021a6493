"""Real pages and a real extractor create the real line-number gutter."""

from __future__ import annotations

import inspect
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.demo import pages
from tests.demo.numbered_lines import longest_line_numbers

CODE = inspect.getsource(json.decoder)


@pytest.mark.parametrize("site", pages.SITES, ids=lambda site: site.host)
def test_the_line_numbers_of_every_site_are_in_the_text(site: pages.PageStyle) -> None:
    text = pages.extract_text(pages.render_listing(CODE, path="json/decoder.py", site=site))
    assert longest_line_numbers(CODE) < 10
    assert longest_line_numbers(text) == CODE.count("\n")


@pytest.mark.parametrize("site", pages.SITES, ids=lambda site: site.host)
def test_the_text_contains_the_code(site: pages.PageStyle) -> None:
    text = pages.extract_text(pages.render_listing(CODE, path="json/decoder.py", site=site))
    assert all(line.strip() in text for line in CODE.split("\n"))


def test_the_text_omits_the_menu_of_the_site() -> None:
    site = pages.SITES[0]
    page = pages.render_listing(CODE, path="json/decoder.py", site=site)
    assert all(entry in page for entry in site.menu)
    assert "About this site" not in pages.extract_text(page)


@given(st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), max_size=80))
def test_no_path_or_code_becomes_markup(hostile: str) -> None:
    page = pages.render_listing(
        f"# <script>alert(1)</script> {hostile}", path=f"<script>{hostile}", site=pages.SITES[1]
    )
    assert "<script>" not in page
