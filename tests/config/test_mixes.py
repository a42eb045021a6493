"""Mixes: weights always end as a sum of 1, and an edit changes what it says and nothing else."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.config.mixes import MixDeclaration, cap_epochs, epochs, resolve
from assay.config.sources import Source
from assay.core.errors import AssayError

SOURCES = {
    name: Source(name=name, files=("x",), domain=domain, language="en", license="MIT", tags=tags)
    for name, domain, tags in [
        ("web", "web", ()),
        ("web_hq", "web", ("high_quality",)),
        ("github", "code", ("high_quality",)),
        ("cc_code", "code", ()),
        ("books", "books", ()),
    ]
}
BASE = {"weights": {"web": 5, "github": 3, "books": 2}}


def weights(**declarations: dict) -> dict[str, float]:
    """Return the weights of the last declaration; the others are available by name."""
    parsed = {name: MixDeclaration.parse(name, raw) for name, raw in {"base": BASE, **declarations}.items()}
    return resolve(list(parsed)[-1], parsed, SOURCES, tokens={"web": 100, "github": 4, "cc_code": 16}).weights


def test_declared_weights_are_normalized() -> None:
    assert weights() == {"web": 0.5, "github": 0.3, "books": 0.2}


def test_replace_moves_weight_and_changes_no_other() -> None:
    assert weights(m={"base": "base", "edits": [{"replace": {"source": "github", "by": "cc_code"}}]}) == {
        "web": 0.5,
        "cc_code": 0.3,
        "books": 0.2,
    }


def test_replace_by_a_source_of_the_mix_adds_to_its_weight() -> None:
    edit = {"replace": {"source": "web", "by": "github", "fraction": 0.5}}
    assert weights(m={"base": "base", "edits": [edit]}) == pytest.approx({"web": 0.25, "github": 0.55, "books": 0.2})


@pytest.mark.parametrize("chosen", ["books", ["books"], {"source": "books"}, {"domain": "books"}])
def test_drop_keeps_the_proportions_of_the_rest(chosen: object) -> None:
    assert weights(m={"base": "base", "edits": [{"drop": chosen}]}) == pytest.approx({"web": 0.625, "github": 0.375})


@pytest.mark.parametrize("chosen", ["github", {"domain": "code"}, {"tag": "high_quality"}])
def test_only_keeps_the_sources_selected_by_name_domain_or_tag(chosen: object) -> None:
    assert weights(m={"base": "base", "edits": [{"only": chosen}]}) == {"github": 1.0}


def test_scale_multiplies_and_then_normalizes_all_weights() -> None:
    assert weights(m={"base": "base", "edits": [{"scale": {"github": 2}}]}) == pytest.approx(
        {"web": 5 / 13, "github": 6 / 13, "books": 2 / 13}
    )


def test_set_sets_exact_weights_and_the_others_divide_the_rest() -> None:
    assert weights(m={"base": "base", "edits": [{"set": {"books": 0.6}}]}) == pytest.approx(
        {"web": 0.25, "github": 0.15, "books": 0.6}
    )


def test_edits_apply_in_order_through_several_bases() -> None:
    mixes = {"a": {"base": "base", "edits": [{"drop": "books"}]}, "b": {"base": "a", "edits": [{"set": {"web": 0.5}}]}}
    assert weights(**mixes) == pytest.approx({"web": 0.5, "github": 0.5})


@pytest.mark.parametrize("temperature", [1e-9, 1e-3, 0.03, 0.1])
def test_a_temperature_near_0_gives_all_weight_to_the_largest_source(temperature: float) -> None:
    natural = {"sources": ["web", "github", "cc_code"], "temperature": temperature}
    assert weights(m={"natural": natural})["web"] == pytest.approx(1, abs=1e-4)


def test_only_one_source_may_remain() -> None:
    assert weights(m={"base": "base", "edits": [{"only": "web"}]}) == {"web": 1}
    assert weights(m={"base": "base", "edits": [{"set": {"web": 1}}]}) == {"web": 1}


@pytest.mark.parametrize(("temperature", "expected"), [(1, 100 / 120), (2, 10 / 16)])
def test_natural_weights_are_tokens_to_the_power_of_one_over_temperature(temperature: float, expected: float) -> None:
    natural = {"sources": ["web", "github", "cc_code"], "temperature": temperature}
    assert weights(m={"natural": natural})["web"] == pytest.approx(expected)


@given(
    st.lists(
        st.one_of(
            st.builds(lambda w: {"scale": {"web": w}}, st.floats(0, 1e6)),
            st.builds(lambda w: {"set": {"books": w}}, st.floats(0, 1)),
            st.builds(
                lambda s: {"replace": {"source": "github", "by": "cc_code", "fraction": s}}, st.floats(0.001, 0.999)
            ),
        ),
        max_size=6,
    )
)
def test_weights_after_any_edits_sum_to_one(edits: list) -> None:
    try:
        edited = weights(m={"base": "base", "edits": edits})
    except AssayError:
        return  # an edit may refuse the result of an earlier edit, but never return a wrong sum
    assert math.isclose(math.fsum(edited.values()), 1, abs_tol=1e-12)
    assert all(0 < weight <= 1 for weight in edited.values())


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ({"weights": {"web": -1.0}}, "weight -1.0 of 'web' is invalid"),
        ({"weights": {"web": float("nan")}}, "weight nan of 'web' is invalid"),
        ({"weights": {"web": 1e308, "books": 1e308}}, "weight 1e+308 of 'web' is invalid"),
        ({"base": "base", "edits": [{"set": {"web": 1e308, "books": 1e308}}]}, "weight 1e+308 of 'web' is invalid"),
        ({"base": "base", "edits": [{"scale": {"web": 1e308}}]}, "of 'web' is invalid"),
        ({"base": "base", "edits": [{"only": "web"}, {"drop": "web"}]}, "sum to 0"),
        ({"weights": {"web": 1, "Web": 1}}, "no source is called 'Web'. Did you mean 'web'?"),
        ({"weights": {"web": float("inf")}}, "weight inf of 'web' is invalid"),
        ({"weights": {"web": 0, "books": 0}}, "sum to 0"),
        ({"weights": {}}, "sum to 0"),
        ({"weights": {"githb": 1}}, "no source is called 'githb'. Did you mean 'github'?"),
        ({"base": "bse"}, "no mix is called 'bse'. Did you mean 'base'?"),
        ({"base": "m"}, "bases form a cycle: m -> m"),
        ({"base": "base", "weights": {"web": 1}}, "exactly one"),
        ({"base": "base", "edits": [{"dorp": "web"}]}, "Did you mean 'drop'?"),
        ({"base": "base", "edits": [{"drop": "cc_code"}]}, "'cc_code' has no weight in the mix"),
        ({"base": "base", "edits": [{"drop": {"domain": "maths"}}]}, "no source of the mix matches"),
        ({"base": "base", "edits": [{"drop": ["web", "github", "books"]}]}, "sum to 0"),
        ({"base": "base", "edits": [{"set": {"web": 1.2}}]}, "sum to 1.2"),
        ({"base": "base", "edits": [{"scale": {"web": -2}}]}, "weight -1.0 of 'web' is invalid"),
        (
            {"base": "base", "edits": [{"replace": {"source": "web", "by": "github", "fraction": 1.5}}]},
            "`fraction` 1.5",
        ),
        ({"base": "base", "edits": [{"replace": {"source": "web", "by": "web"}}]}, "changes nothing"),
        ({"base": "base", "edits": [{"scale": {"web": 1.0}}]}, "changes nothing"),
        ({"base": "base", "edits": [{"multiply": {}}]}, "changes nothing"),
        ({"base": "base", "edits": [{"set": {}}]}, "changes nothing"),
        ({"natural": {"sources": ["books"]}}, "need the tokens of books"),
        ({"wieghts": {"web": 1}}, "Did you mean 'weights'?"),
    ],
)
def test_an_invalid_mix_is_refused_with_name_value_and_hint(raw: dict, message: str) -> None:
    with pytest.raises(AssayError, match="mix 'm'|no mix") as error:
        weights(m=raw)
    assert message in str(error.value)


def test_a_cap_on_epochs_moves_the_excess_weight_to_the_others_in_proportion() -> None:
    parsed = {"base": MixDeclaration.parse("base", {**BASE, "max_epochs": 4})}
    mix, tokens = resolve("base", parsed, SOURCES), {"web": 1_000, "github": 10, "books": 1_000}
    capped = cap_epochs(mix, 1_000, tokens)
    assert epochs(capped, 1_000, tokens)["github"] == pytest.approx(4)
    assert capped["web"] / capped["books"] == pytest.approx(2.5)
    assert math.fsum(capped.values()) == pytest.approx(1)


def test_a_budget_that_exceeds_all_caps_is_refused() -> None:
    parsed = {"base": MixDeclaration.parse("base", {**BASE, "max_epochs": 1})}
    with pytest.raises(AssayError, match="`max_epochs` 1 is invalid"):
        cap_epochs(resolve("base", parsed, SOURCES), 1_000, {"web": 100, "github": 10, "books": 10})


def test_a_mix_may_repeat_every_source_exactly_up_to_the_cap() -> None:
    parsed = {"base": MixDeclaration.parse("base", {**BASE, "max_epochs": 2})}
    capped = cap_epochs(resolve("base", parsed, SOURCES), 240, {"web": 100, "github": 10, "books": 10})
    assert capped == pytest.approx({"web": 200 / 240, "github": 20 / 240, "books": 20 / 240})
