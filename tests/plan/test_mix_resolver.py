"""The resolution of mixes and arms: sources, weights, and what prevents training on them."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from assay.config.study import Study
from assay.core.errors import AssayError
from assay.plan.mix_resolver import MixResolver
from assay.plan.prepare import prepare_corpora
from assay.plan.source_index import SourceIndex
from assay.store.runs import Store
from tests.helpers.tiny import with_mix

MakeStudy = Callable[..., Study]


def resolver(study: Study) -> MixResolver:
    return MixResolver(study, SourceIndex(study, Store(study.paths.resolve(study.paths.store))))


def test_weights_without_a_cap_are_those_declared(tiny_study: MakeStudy) -> None:
    mixes = resolver(tiny_study())
    assert mixes.weights("base", 1_000_000, budget=1_000_000) == {"code": 0.4, "web": 0.4, "books": 0.2}
    assert mixes.source_names("no_books") == ("code", "web")


def test_a_natural_mix_waits_until_its_sources_are_tokenized(tiny_study: MakeStudy) -> None:
    mixes = resolver(with_mix(tiny_study(sweep__candidates=["more_web"]), "base", natural={"sources": ["code", "web"]}))
    assert mixes.source_names("base") == ("code", "web")
    waiting = mixes.waiting("base")
    assert waiting is not None
    assert waiting.figures["sources"] == ("code", "web")
    assert mixes.untokenized() == ["code", "web"]
    with pytest.raises(AssayError, match="code, web"):
        mixes.resolve("base")
    prepare_corpora(mixes.sources, mixes.untokenized())
    assert mixes.waiting("base") is None
    assert mixes.untokenized() == []
    tokens = mixes.sources.tokens(["code", "web"])
    assert mixes.resolve("base").weights["code"] == pytest.approx(tokens["code"] / sum(tokens.values()))


def test_a_cap_on_epochs_counts_the_tokens_of_earlier_stages(tiny_study: MakeStudy) -> None:
    mixes = resolver(with_mix(tiny_study(), "base", weights={"code": 0.9, "web": 0.1}, max_epochs=1))
    prepare_corpora(mixes.sources, ["code", "web"])
    tokens = mixes.sources.tokens(["code", "web"])
    budget = tokens["code"] + tokens["web"] // 4
    fresh = mixes.weights("base", budget, budget=budget)
    assert fresh["code"] == pytest.approx(min(0.9, tokens["code"] / budget))
    later = mixes.weights("base", budget // 2, budget=budget, taken={"code": tokens["code"] * 0.9, "web": 0.0})
    assert later["code"] == pytest.approx(0.1 * tokens["code"] / (budget // 2))


def test_an_arm_uses_the_sources_of_its_stages_and_of_the_tokenizer(tiny_study: MakeStudy) -> None:
    stages = [{"name": "first", "fraction": 0.5}, {"name": "last", "fraction": 0.5, "mix": "no_books", "anneal": True}]
    study = with_mix(tiny_study(stages=stages, tokenizer__sources=["web"]), "prose", weights={"books": 1.0})
    assert resolver(study).arm_sources("prose") == ["books", "code", "web"]
    assert resolver(study).arm_sources("no_books") == ["code", "web"]
    assert resolver(study).sweep_mixes == ("base", "more_web", "no_books")


def test_a_refused_arm_adds_no_source_to_the_sweep(tiny_study: MakeStudy) -> None:
    mixes = resolver(tiny_study(tokenizer__sources=["code"], source__books__clearance={"state": "blocked"}))
    assert len(mixes.source_refusals("base")) == 1
    assert mixes.source_refusals("no_books") == []
    assert mixes.sweep_sources == ("code", "web")


NATURAL = {"sources": ["code", "web", "books"]}


def _natural(tiny_study: MakeStudy, *edits: dict[str, object], **changes: object) -> MixResolver:
    """Return a sweep of a natural baseline and `more_web`, which has these edits."""
    study = with_mix(tiny_study(sweep__candidates=["more_web"], **changes), "base", natural=NATURAL)
    return resolver(with_mix(study, "more_web", base="base", edits=list(edits)))


@pytest.mark.parametrize(
    "edits",
    [
        ({"drop": "books"},),
        ({"only": ["code", "web"]},),
        ({"set": {"books": 0}},),
        ({"scale": {"books": 0}},),
        ({"scale": {"books": 3}}, {"drop": "books"}),
    ],
    ids=["drop", "only", "set to 0", "scale by 0", "scaled, then dropped"],
)
def test_a_natural_mix_without_a_source_keeps_the_proportions_of_the_others(
    tiny_study: MakeStudy, edits: tuple[dict[str, object], ...]
) -> None:
    mixes = _natural(tiny_study, *edits)
    prepare_corpora(mixes.sources, mixes.untokenized())
    tokens = mixes.sources.tokens(["code", "web", "books"])
    assert mixes.waiting("more_web") is None
    expected = {name: tokens[name] / (tokens["code"] + tokens["web"]) for name in ("code", "web")}
    assert mixes.resolve("more_web").weights == pytest.approx(expected)
    assert set(mixes.resolve("base").weights) == {"code", "web", "books"}


def test_a_natural_mix_that_moves_the_weight_of_a_source_counts_it(tiny_study: MakeStudy) -> None:
    """The weight that moves depends on the source, although the candidate does not train on it."""
    mixes = _natural(tiny_study, {"replace": {"source": "books", "by": "web"}}, sweep__baseline="no_books")
    assert mixes.source_names("more_web") == ("code", "web")
    waiting = mixes.waiting("more_web")
    assert waiting is not None
    assert waiting.figures["sources"] == ("books", "code", "web")
    assert "books" not in mixes.sweep_sources
    assert "books" in mixes.prepared_sources
    prepare_corpora(mixes.sources, mixes.prepared_sources)
    tokens = mixes.sources.tokens(["code", "web", "books"])
    assert mixes.resolve("more_web").weights["code"] == pytest.approx(tokens["code"] / sum(tokens.values()))


def test_a_dropped_source_of_a_natural_mix_need_not_be_cleared(tiny_study: MakeStudy) -> None:
    blocked = {"source__books__clearance": {"state": "blocked"}, "tokenizer__sources": ["code"]}
    assert _natural(tiny_study, {"drop": "books"}, **blocked).source_refusals("more_web") == []
    moved = _natural(tiny_study, {"replace": {"source": "books", "by": "web"}}, **blocked)
    assert [refusal.subject for refusal in moved.source_refusals("more_web")] == ["books"]


def test_edits_of_edits_of_a_natural_mix_drop_sources(tiny_study: MakeStudy) -> None:
    study = with_mix(tiny_study(sweep__candidates=["more_web"]), "base", natural=NATURAL)
    study = with_mix(study, "no_books", base="base", edits=[{"drop": "books"}])
    mixes = resolver(with_mix(study, "more_web", base="no_books", edits=[{"only": "web"}]))
    prepare_corpora(mixes.sources, mixes.untokenized())
    assert mixes.resolve("more_web").weights == {"web": 1.0}
