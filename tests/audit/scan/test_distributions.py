"""Distributions do not depend on the split into files, and list the most extreme documents."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest

from assay.audit.engine import audit
from assay.audit.explore import records
from assay.audit.scan.distributions import ENDS, SCALES, Distribution, Measure, compression, merged
from assay.audit.task import AuditSettings
from assay.cli.audit_exploration import axis, chart, value
from assay.config.sources import Source
from assay.core.serde import from_mapping, to_mapping
from assay.corpus.source_reader import SourceDocument, source_digest


def document(number: int, text: str = "x") -> SourceDocument:
    return SourceDocument(text=text, id=str(number), where=f"a.jsonl:{number:05}")


def spread(values: list[float], measure: Measure = "length", first: int = 0) -> Distribution:
    result = Distribution(measure=measure)
    for place, number in enumerate(values, start=first):
        result.add(number, document(place))
    return result


@pytest.mark.parametrize("measure", ["length", "compression", "bits"])
def test_the_error_of_a_quantile_is_at_most_one_bin(measure: Measure) -> None:
    draw = random.Random(measure)
    values = [draw.lognormvariate(8, 2) if measure == "length" else draw.betavariate(2, 5) for _ in range(3000)]
    result, scale = spread(values, measure), SCALES[measure]
    for fraction in (0.01, 0.25, 0.5, 0.99):
        exact = float(np.quantile(values, fraction))
        place = scale.place(exact)
        assert scale.begin(place - 1) <= result.quantile(fraction) <= scale.begin(place + 2)
    assert list(result.quantiles()) == ["1", "5", "25", "50", "75", "95", "99"]


def test_merged_parts_equal_the_whole() -> None:
    values = [float(number) for number in random.Random(1).choices(range(1, 10**6), k=500)]
    whole = spread(values)
    parts = [spread(values[start : start + 100], first=start) for start in range(0, 500, 100)]
    for order in (parts, parts[::-1]):
        assert merged(order) == whole
    assert [extreme.value for extreme in whole.lowest] == sorted(values)[:ENDS]
    assert [extreme.value for extreme in whole.highest] == sorted(values, reverse=True)[:ENDS]
    assert from_mapping(Distribution, json.loads(json.dumps(to_mapping(whole))), where="here") == whole


def test_repetition_compresses_and_noise_does_not() -> None:
    noise = random.Random(0).randbytes(5000)
    assert compression(b"menu home about " * 500) < 0.05
    assert compression(noise) > 0.9


def test_a_chart_marks_every_document_and_no_empty_bin() -> None:
    result = spread([10.0] * 1000 + [5000.0, 10.0**9])
    bars = chart(result, axis([result]))
    assert len(bars) == 14
    assert bars[0] == "█"
    assert sum(bar != " " for bar in bars) >= 2
    assert value("length", 1_234_567) == "1.23M"
    assert axis([]) == (0, 1)
    with pytest.raises(ValueError, match="no document"):
        Distribution(measure="length").quantile(0.5)


def test_an_audit_lists_the_extremes(tmp_path: Path) -> None:
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
    source = Source(name="web", files=(str(path),), domain="web", language="en", license="MIT")
    store = tmp_path / "store"
    digest = source_digest(source, cache=store)
    audit({"web": (source, digest)}, store=store, settings=AuditSettings(), workers=0)
    result = records.distributions(store, "web", digest)
    assert result["length"].documents == 6
    assert result["length"].highest[0].value == 10_000_000
    assert result["length"].lowest[0].value == 0
    assert result["compression"].documents == 5  # documents below 200 bytes are not measured
    assert all(len(extreme.text) <= 400 for value in result.values() for extreme in value.highest)
    assert key not in json.dumps(to_mapping(result["symbol_ratio"]))
    assert records.distributions(store, "web", "0" * 64) == {}


def test_bits_per_byte_are_stored_by_run_and_read_as_a_distribution(tmp_path: Path) -> None:
    path = tmp_path / "web.jsonl"
    path.write_text("".join(json.dumps({"text": f"{i} " * 150}) + "\n" for i in range(12)), encoding="utf-8")
    source = Source(name="web", files=(str(path),), domain="web", language="en", license="MIT")
    store = tmp_path / "store"
    digest = source_digest(source, cache=store)
    audit({"web": (source, digest)}, store=store, settings=AuditSettings(), workers=0)
    sample = records.sample(store, "web", digest)
    assert sample is not None
    records.write_bits(
        store, "web", digest, "f" * 64, {extreme.where: 1.0 + place for place, extreme in enumerate(sample.documents)}
    )
    bits = records.distributions(store, "web", digest)["bits"]
    assert (bits.documents, bits.lowest[0].value, bits.highest[0].value) == (12, 1.0, 12.0)
    assert records.read_bits(store, "web", digest, "0" * 64) is None
