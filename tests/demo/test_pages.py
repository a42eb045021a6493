"""The gutter: real pages, a real extractor, the real defect."""

from __future__ import annotations

import inspect
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.demo import pages
from tests.demo.gutters import gutter

CODE = inspect.getsource(json.decoder)


@pytest.mark.parametrize("site", pages.SITES, ids=lambda site: site.host)
def test_every_sites_line_numbers_end_up_in_the_text(site: pages.Site) -> None:
    text = pages.extract(pages.listing(CODE, path="json/decoder.py", site=site))
    assert gutter(CODE) < 10
    assert gutter(text) == CODE.count("\n")


@pytest.mark.parametrize("site", pages.SITES, ids=lambda site: site.host)
def test_the_code_survives_beside_its_gutter(site: pages.Site) -> None:
    text = pages.extract(pages.listing(CODE, path="json/decoder.py", site=site))
    assert all(line.strip() in text for line in CODE.split("\n"))


def test_the_sites_menu_is_left_out() -> None:
    site = pages.SITES[0]
    page = pages.listing(CODE, path="json/decoder.py", site=site)
    assert all(entry in page for entry in site.menu)
    assert "About this site" not in pages.extract(page)


@given(st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), max_size=80))
def test_no_path_or_code_becomes_markup(hostile: str) -> None:
    page = pages.listing(f"# <script>alert(1)</script> {hostile}", path=f"<script>{hostile}", site=pages.SITES[1])
    assert "<script>" not in page
