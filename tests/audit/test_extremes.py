"""Distributions are the same however the files are dealt out, and the documents at their ends are listed."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest

from assay.audit import unknown
from assay.audit.engine import audit
from assay.audit.extremes import ENDS, SCALES, Distribution, Measure, compression, merged
from assay.audit.task import Settings
from assay.cli.unknown import axis, chart, value
from assay.corpus.read import Document, source_digest
from assay.sources import Source
from assay.structure import from_mapping, to_mapping


def document(number: int, text: str = "x") -> Document:
    return Document(text=text, id=str(number), where=f"a.jsonl:{number:05}")


def spread(values: list[float], measure: Measure = "length", first: int = 0) -> Distribution:
    found = Distribution(measure=measure)
    for place, each in enumerate(values, start=first):
        found.add(each, document(place))
    return found


@pytest.mark.parametrize("measure", ["length", "compression", "bits"])
def test_quantiles_are_off_by_a_bin_at_most(measure: Measure) -> None:
    draw = random.Random(measure)
    values = [draw.lognormvariate(8, 2) if measure == "length" else draw.betavariate(2, 5) for _ in range(3000)]
    found, scale = spread(values, measure), SCALES[measure]
    for share in (0.01, 0.25, 0.5, 0.99):
        exact = float(np.quantile(values, share))
        place = scale.place(exact)
        assert scale.begin(place - 1) <= found.quantile(share) <= scale.begin(place + 2)
    assert list(found.quantiles()) == ["1", "5", "25", "50", "75", "95", "99"]


def test_merged_parts_are_the_whole() -> None:
    values = [float(each) for each in random.Random(1).choices(range(1, 10**6), k=500)]
    whole = spread(values)
    parts = [spread(values[start : start + 100], first=start) for start in range(0, 500, 100)]
    for order in (parts, parts[::-1]):
        assert merged(order) == whole
    assert [one.value for one in whole.lowest] == sorted(values)[:ENDS]
    assert [one.value for one in whole.highest] == sorted(values, reverse=True)[:ENDS]
    assert from_mapping(Distribution, json.loads(json.dumps(to_mapping(whole))), where="here") == whole


def test_repetition_compresses_and_noise_does_not() -> None:
    noise = random.Random(0).randbytes(5000)
    assert compression(b"menu home about " * 500) < 0.05
    assert compression(noise) > 0.9


def test_a_chart_has_a_mark_for_every_document_and_none_for_nothing() -> None:
    found = spread([10.0] * 1000 + [5000.0, 10.0**9])
    bars = chart(found, axis([found]))
    assert len(bars) == 14
    assert bars[0] == "█"
    assert sum(bar != " " for bar in bars) >= 2
    assert value("length", 1_234_567) == "1.23M"
    assert axis([]) == (0, 1)
    with pytest.raises(ValueError, match="no document"):
        Distribution(measure="length").quantile(0.5)


def test_an_audit_lists_the_extremes_of_whatever_there_is(tmp_path: Path) -> None:
    key = "AKIA" + "Q3EGR7XWPLZ5T2MN"
    texts = [
        "plain text of a page. " * 20,
        "",
        "\0" * 400,
        "L" * 10_000_000,
        f"{key} " + "word " * 60,
        "\u202etxt.exe " * 50,
    ]
    path = tmp_path / "web.jsonl"
    host = "h" * 500 + ".example"
    path.write_text(
        "".join(json.dumps({"text": text, "url": f"https://{host}/"}) + "\n" for text in texts), encoding="utf-8"
    )
    source = Source(name="web", files=(str(path),), domain="web", language="en", licence="MIT")
    store = tmp_path / "store"
    digest = source_digest(source, cache=store)
    audit({"web": (source, digest)}, store=store, settings=Settings(), workers=0)
    found = unknown.distributions(store, "web", digest)
    assert found["length"].documents == 6
    assert found["length"].highest[0].value == 10_000_000
    assert found["length"].lowest[0].value == 0
    assert found["compression"].documents == 5  # one that is shorter than 200 bytes is not measured
    assert all(len(one.text) <= 400 for each in found.values() for one in each.highest)
    assert key not in json.dumps(to_mapping(found["signs"]))
    assert unknown.distributions(store, "web", "0" * 64) == {}


def test_bits_of_a_proxy_are_kept_by_run_and_shown_as_a_distribution(tmp_path: Path) -> None:
    path = tmp_path / "web.jsonl"
    path.write_text("".join(json.dumps({"text": f"{i} " * 150}) + "\n" for i in range(12)), encoding="utf-8")
    source = Source(name="web", files=(str(path),), domain="web", language="en", licence="MIT")
    store = tmp_path / "store"
    digest = source_digest(source, cache=store)
    audit({"web": (source, digest)}, store=store, settings=Settings(), workers=0)
    sample = unknown.sample(store, "web", digest)
    assert sample is not None
    unknown.keep_bits(
        store, "web", digest, "f" * 64, {one.where: 1.0 + place for place, one in enumerate(sample.documents)}
    )
    bits = unknown.distributions(store, "web", digest)["bits"]
    assert (bits.documents, bits.lowest[0].value, bits.highest[0].value) == (12, 1.0, 12.0)
    assert unknown.proxied(store, "web", digest, "0" * 64) is None
