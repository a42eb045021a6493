"""What a change of the configuration means for mixes and sweeps, whatever it was written as."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from assay.config.diff import mixes_changed, sources_changed, sweep_changed
from assay.config.study import Study

Make = Callable[..., Study]


def changed(tiny_study: Make, **overrides: Any) -> list[str]:
    return [item.mix for item in mixes_changed(tiny_study(), tiny_study(**overrides))]


def test_equal_weights_in_another_notation_are_no_change(tiny_study: Make) -> None:
    assert (
        changed(tiny_study, mix__base={"weights": {"web": 2, "books": 1, "code": 2}, "description": "As ever."}) == []
    )


def test_an_edit_of_a_base_changes_all_mixes_on_top_of_it(tiny_study: Make) -> None:
    changes = mixes_changed(tiny_study(), tiny_study(mix__base={"weights": {"code": 0.4, "web": 0.3, "books": 0.3}}))
    assert [item.mix for item in changes] == ["base", "more_web", "no_books"]
    assert changes[0].before == pytest.approx({"code": 0.4, "web": 0.4, "books": 0.2})
    assert changes[0].after == pytest.approx({"code": 0.4, "web": 0.3, "books": 0.3})


def test_a_new_cap_on_epochs_is_a_change(tiny_study: Make) -> None:
    body = {"base": "base", "edits": [{"drop": "books"}], "max_epochs": 4}
    assert changed(tiny_study, mix__no_books=body) == ["no_books"]


def test_a_new_temperature_is_a_change_without_token_counts(tiny_study: Make) -> None:
    def natural(temperature: float) -> Study:
        return tiny_study(mix__base={"natural": {"sources": ["code", "web", "books"], "temperature": temperature}})

    assert mixes_changed(natural(1), natural(1)) == ()
    changes = mixes_changed(natural(1), natural(2))
    assert {item.mix for item in changes} == {"base", "more_web", "no_books"}
    assert changes[0].after == {}, "unknown weights are empty"
    tokens = {"code": 100, "web": 200, "books": 700}
    assert mixes_changed(natural(1), natural(2), tokens=tokens)[0].before == pytest.approx(
        {"code": 0.1, "web": 0.2, "books": 0.7}
    )


@pytest.mark.parametrize(
    ("override", "change"),
    [
        ({"source__books__files": ["other/*.jsonl"]}, "files: data/books.jsonl is now other/*.jsonl"),
        ({"source__books__license": None}, "clearance: cleared is now pending"),
        ({"source__books__clearance": {"state": "blocked"}}, "clearance: cleared is now blocked"),
    ],
)
def test_a_changed_source_changes_the_mixes_that_use_it(tiny_study: Make, override: dict, change: str) -> None:
    before, after = tiny_study(), tiny_study(**override)
    assert change in sources_changed(before, after)["books"]
    assert [(item.mix, item.sources) for item in mixes_changed(before, after)] == [
        ("base", ("books",)), ("more_web", ("books",)),
    ]  # fmt: skip


def test_a_new_description_of_a_source_is_no_change(tiny_study: Make) -> None:
    assert changed(tiny_study, source__books__description="Old ones.") == []


def test_a_changed_candidate_affects_that_candidate_only(tiny_study: Make) -> None:
    after = tiny_study(mix__more_web={"base": "base", "edits": [{"set": {"web": 0.7}}]})
    change = sweep_changed(tiny_study(), after)
    assert change is not None
    assert (change.candidates, change.settings, change.new) == (("more_web",), (), False)


@pytest.mark.parametrize(
    ("override", "settings"),
    [
        ({"budget__tokens": 2560}, ("budget",)),
        ({"policy__alpha": 0.1}, ("policy",)),
        ({"sweep__seeds": [0, 1, 2]}, ("sweep",)),
        ({"optim__peak_lr": 0.02, "proxy__layers": 1}, ("proxy", "optim")),
    ],
)
def test_a_changed_shared_section_affects_every_candidate(tiny_study: Make, override: dict, settings: tuple) -> None:
    change = sweep_changed(tiny_study(), tiny_study(**override))
    assert change is not None
    assert (change.candidates, change.settings) == (("more_web", "no_books"), settings)


def test_a_changed_mix_of_a_stage_affects_every_candidate(tiny_study: Make) -> None:
    stages = [
        {"name": "pretrain", "fraction": 0.8, "mix": "shared"},
        {"name": "anneal", "fraction": 0.2, "anneal": True},
    ]

    def staged(web: float) -> Study:
        return tiny_study(mix__shared={"weights": {"web": web, "code": 1}}, stages=stages)

    change = sweep_changed(staged(1), staged(2))
    assert change is not None
    assert ([item.mix for item in change.mixes], change.candidates) == (["shared"], ("more_web", "no_books"))


@pytest.mark.parametrize(
    "override", [{"tracking__project": "other"}, {"cluster__workers": 4}, {"sweep__question": "?"}]
)
def test_sections_without_influence_on_the_verdict_are_no_change(tiny_study: Make, override: dict) -> None:
    assert sweep_changed(tiny_study(), tiny_study(**override)) is None


def test_an_added_sweep_is_new_with_all_its_candidates(tiny_study: Make) -> None:
    change = sweep_changed(None, tiny_study())
    assert change is not None
    assert (change.new, change.candidates) == (True, ("more_web", "no_books"))
    assert {item.kind for item in change.mixes} == {"added"}
