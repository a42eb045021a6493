"""Maps of clusters on the site: found by what is on them, shown as they are, and never in the way."""

from __future__ import annotations

import json
from http import HTTPStatus
from pathlib import Path

import pytest
import shown
from test_site import asked, known, site

from assay.audit import clusters
from assay.publish.site.maps import Maps
from assay.sources import Clearance, Source
from assay.store import Store

DIGEST = "a" * 64


@pytest.fixture
def mapped(tmp_path: Path) -> Store:
    """A store of a sweep's runs, with a map of the sweep's sources and one of a single source."""
    store = Store(tmp_path / "store")
    shown.fill(store, shown.make())
    sources = []
    for name in shown.SOURCES:
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
                licence="CC0-1.0",
                clearance=Clearance(state="cleared", by="us"),
            )
        )
    settings = clusters.Settings(vectors="svd", dimensions=8, sample=100, clusters=3, seed=0)
    for digest, part in ((DIGEST, sources), ("b" * 64, sources[:1])):
        found = clusters.find(part, {one.name: "0" * 64 for one in part}, settings)
        clusters.save(store.root, digest, found)
    return store


def test_a_sweep_and_its_sources_lead_to_the_maps_that_hold_them(mapped: Store) -> None:
    sweep = asked(site(mapped, known()), "sweeps/code_replace").body
    assert f'href="/clusters/{DIGEST}"' in sweep
    assert "/clusters/bbb" not in sweep, "a map of one source is none of the sweep's"
    assert {one.digest for one in Maps(mapped.root).of(["web_cc"])} == {DIGEST, "b" * 64}
    assert Maps(mapped.root).of([]) == []


def test_a_map_is_shown_under_its_own_policy_and_its_text_stays_text(mapped: Store) -> None:
    answer = asked(site(mapped), f"clusters/{DIGEST}")
    assert answer.status == HTTPStatus.OK
    assert "script-src 'sha256-" in answer.policy
    assert "default-src 'none'" in answer.policy
    assert "<script>hacked" not in answer.body


def test_a_damaged_map_is_not_linked_and_hides_no_other(mapped: Store) -> None:
    (clusters.folder(mapped.root) / f"{'b' * 64}.json").write_text('{"settings": {')
    (clusters.folder(mapped.root) / "notes.json").write_text("[]")
    assert [one.digest for one in Maps(mapped.root).of(["web_cc"])] == [DIGEST]
    (clusters.folder(mapped.root) / f"{DIGEST}.parquet").write_bytes(b"cut")
    assert asked(site(mapped), f"clusters/{DIGEST}").status == HTTPStatus.NOT_FOUND


@pytest.mark.parametrize("path", ["clusters", "clusters/..%2F..%2Fspec", "clusters/" + "A" * 64, "clusters/aaaa"])
def test_what_is_no_digest_is_no_map(mapped: Store, path: str) -> None:
    assert asked(site(mapped), path).status == HTTPStatus.NOT_FOUND
