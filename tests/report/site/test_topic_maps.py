"""Topic maps on the site: selection by source, rendering, and damaged files."""

from __future__ import annotations

import json
from http import HTTPStatus
from pathlib import Path

import pytest

from assay.audit.explore import topics
from assay.config.sources import Clearance, Source
from assay.report.site.topic_maps import TopicMaps
from assay.store.runs import Store
from tests.report import page_data
from tests.report.site.test_site import make_site, make_sweep, request

DIGEST = "a" * 64


@pytest.fixture
def store_with_maps(tmp_path: Path) -> Store:
    """Create a store with a sweep's runs, a map of all its sources, and a map of a single source."""
    store = Store(tmp_path / "store")
    page_data.fill(store, page_data.make())
    sources = []
    for name in page_data.SOURCES:
        path = tmp_path / f"{name}.jsonl"
        texts = [
            f"<script>hacked=1</script> {name} {' '.join(f'{name}{i * j % 7}' for j in range(40))}" for i in range(4)
        ]
        path.write_text("\n".join(json.dumps({"text": text}) for text in texts))
        sources.append(
            Source(
                name=name,
                files=(str(path),),
                domain="web",
                language="en",
                license="CC0-1.0",
                clearance=Clearance(state="cleared", by="us"),
            )
        )
    settings = topics.TopicSettings(vectors="svd", dimensions=8, sample=100, topics=3, seed=0)
    for digest, part in ((DIGEST, sources), ("b" * 64, sources[:1])):
        topic_map = topics.find(part, {source.name: "0" * 64 for source in part}, settings)
        topics.save(store.root, digest, topic_map)
    return store


def test_sweeps_and_sources_link_to_the_maps_that_cover_them(store_with_maps: Store) -> None:
    body = request(make_site(store_with_maps, make_sweep()), "sweeps/code_replace").body
    assert f'href="/topics/{DIGEST}"' in body
    assert "/topics/bbb" not in body, "a map of one source does not cover the sweep"
    assert {entry.digest for entry in TopicMaps(store_with_maps.root).covering(["web_cc"])} == {DIGEST, "b" * 64}
    assert TopicMaps(store_with_maps.root).covering([]) == []


def test_a_map_has_its_own_policy_and_escapes_document_text(store_with_maps: Store) -> None:
    response = request(make_site(store_with_maps), f"topics/{DIGEST}")
    assert response.status == HTTPStatus.OK
    assert "script-src 'sha256-" in response.policy
    assert "default-src 'none'" in response.policy
    assert "<script>hacked" not in response.body


def test_a_damaged_map_is_not_listed_and_does_not_hide_others(store_with_maps: Store) -> None:
    (topics.folder(store_with_maps.root) / f"{'b' * 64}.json").write_text('{"settings": {')
    (topics.folder(store_with_maps.root) / "notes.json").write_text("[]")
    assert [entry.digest for entry in TopicMaps(store_with_maps.root).covering(["web_cc"])] == [DIGEST]
    (topics.folder(store_with_maps.root) / f"{DIGEST}.parquet").write_bytes(b"cut")
    assert request(make_site(store_with_maps), f"topics/{DIGEST}").status == HTTPStatus.NOT_FOUND


@pytest.mark.parametrize("path", ["topics", "topics/..%2F..%2Fspec", "topics/" + "A" * 64, "topics/aaaa"])
def test_a_path_without_a_digest_is_not_found(store_with_maps: Store, path: str) -> None:
    assert request(make_site(store_with_maps), path).status == HTTPStatus.NOT_FOUND
