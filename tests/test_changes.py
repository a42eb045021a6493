"""What a change of the configuration means for mixes and sweeps, whatever it was written as."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from assay.changes import mixes_changed, sources_changed, sweep_changed
from assay.study import Study

Make = Callable[..., Study]


def changed(tiny_study: Make, **overrides: Any) -> list[str]:
    return [one.mix for one in mixes_changed(tiny_study(), tiny_study(**overrides))]


def test_another_spelling_of_the_same_weights_is_no_change(tiny_study: Make) -> None:
    assert (
        changed(tiny_study, mix__base={"weights": {"web": 2, "books": 1, "code": 2}, "description": "As ever."}) == []
    )


def test_an_edit_below_is_a_change_of_all_that_rest_on_it(tiny_study: Make) -> None:
    found = mixes_changed(tiny_study(), tiny_study(mix__base={"weights": {"code": 0.4, "web": 0.3, "books": 0.3}}))
    assert [one.mix for one in found] == ["base", "more_web", "no_books"]
    assert found[0].before == pytest.approx({"code": 0.4, "web": 0.4, "books": 0.2})
    assert found[0].after == pytest.approx({"code": 0.4, "web": 0.3, "books": 0.3})


def test_a_cap_on_epochs_is_a_change_though_weights_stay(tiny_study: Make) -> None:
    body = {"base": "base", "edits": [{"drop": "books"}], "max_epochs": 4}
    assert changed(tiny_study, mix__no_books=body) == ["no_books"]


def test_a_temperature_is_a_change_before_any_token_was_counted(tiny_study: Make) -> None:
    def natural(temperature: float) -> Study:
        return tiny_study(mix__base={"natural": {"sources": ["code", "web", "books"], "temperature": temperature}})

    assert mixes_changed(natural(1), natural(1)) == ()
    found = mixes_changed(natural(1), natural(2))
    assert {one.mix for one in found} == {"base", "more_web", "no_books"}
    assert found[0].after == {}, "weights that are not known yet are not made up"
    tokens = {"code": 100, "web": 200, "books": 700}
    assert mixes_changed(natural(1), natural(2), tokens=tokens)[0].before == pytest.approx(
        {"code": 0.1, "web": 0.2, "books": 0.7}
    )


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ({"source__books__files": ["other/*.jsonl"]}, "files: data/books.jsonl is now other/*.jsonl"),
        ({"source__books__licence": None}, "clearance: cleared is now pending"),
        ({"source__books__clearance": {"state": "blocked"}}, "clearance: cleared is now blocked"),
    ],
)
def test_a_source_that_is_declared_otherwise_is_a_change_of_the_mixes_that_use_it(
    tiny_study: Make, override: dict, told: str
) -> None:
    before, after = tiny_study(), tiny_study(**override)
    assert told in sources_changed(before, after)["books"]
    assert [(one.mix, one.sources) for one in mixes_changed(before, after)] == [
        ("base", ("books",)), ("more_web", ("books",)),
    ]  # fmt: skip


def test_words_about_a_source_are_no_change(tiny_study: Make) -> None:
    assert changed(tiny_study, source__books__description="Old ones.") == []


def test_a_candidates_mix_concerns_that_candidate_alone(tiny_study: Make) -> None:
    after = tiny_study(mix__more_web={"base": "base", "edits": [{"set": {"web": 0.7}}]})
    found = sweep_changed(tiny_study(), after)
    assert found is not None
    assert (found.candidates, found.settings, found.new) == (("more_web",), (), False)


@pytest.mark.parametrize(
    ("override", "settings"),
    [
        ({"budget__tokens": 2560}, ("budget",)),
        ({"policy__alpha": 0.1}, ("policy",)),
        ({"sweep__seeds": [0, 1, 2]}, ("sweep",)),
        ({"optim__peak_lr": 0.02, "proxy__layers": 1}, ("proxy", "optim")),
    ],
)
def test_what_all_runs_share_concerns_every_candidate(tiny_study: Make, override: dict, settings: tuple) -> None:
    found = sweep_changed(tiny_study(), tiny_study(**override))
    assert found is not None
    assert (found.candidates, found.settings) == (("more_web", "no_books"), settings)


def test_a_mix_that_a_stage_trains_on_concerns_every_candidate(tiny_study: Make) -> None:
    stages = [{"name": "pretrain", "share": 0.8, "mix": "shared"}, {"name": "anneal", "share": 0.2, "anneal": True}]

    def staged(web: float) -> Study:
        return tiny_study(mix__shared={"weights": {"web": web, "code": 1}}, stages=stages)

    found = sweep_changed(staged(1), staged(2))
    assert found is not None
    assert ([one.mix for one in found.mixes], found.candidates) == (["shared"], ("more_web", "no_books"))


@pytest.mark.parametrize(
    "override", [{"tracking__project": "other"}, {"cluster__workers": 4}, {"sweep__question": "?"}]
)
def test_what_decides_no_verdict_is_no_change(tiny_study: Make, override: dict) -> None:
    assert sweep_changed(tiny_study(), tiny_study(**override)) is None


def test_a_sweep_that_was_not_there_is_new_with_all_its_candidates(tiny_study: Make) -> None:
    found = sweep_changed(None, tiny_study())
    assert found is not None
    assert (found.new, found.candidates) == (True, ("more_web", "no_books"))
    assert {one.kind for one in found.mixes} == {"added"}
