"""Identity depends on content only: equal meaning, equal fingerprint; values without a canonical form are errors."""

from __future__ import annotations

import pathlib

import pytest

from assay.core.fingerprint import canonical, differences, fingerprint


def test_key_order_and_number_format_do_not_matter() -> None:
    assert fingerprint("run", {"a": 1, "b": [2.0]}) == fingerprint("run", {"b": [2], "a": 1.0})


def test_two_kinds_with_equal_fields_have_different_identities() -> None:
    assert fingerprint("run", {"a": 1}) != fingerprint("evaluation", {"a": 1})


@pytest.mark.parametrize("other", [{"a": 1.0000000000000002}, {"a": True}, {"a": "1"}, {"a": None}, {"A": 1}, {}])
def test_any_difference_in_a_literal_is_another_identity(other: dict) -> None:
    assert fingerprint("run", {"a": 1}) != fingerprint("run", other)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {1}, b"x", pathlib.Path("x"), object()])
def test_a_value_without_a_canonical_form_is_an_error_with_its_path(value: object) -> None:
    with pytest.raises(TypeError, match=r"\$\.outer\[0\]"):
        canonical({"outer": [value]})


def test_a_key_that_is_not_text_is_an_error() -> None:
    with pytest.raises(TypeError, match="key 1 is a int"):
        canonical({1: "x"})


def test_differences_list_every_leaf_that_differs_or_is_missing() -> None:
    left = {"seed": 0, "stages": [{"weights": {"web": 0.5, "books": 0.5}}], "same": True}
    right = {"seed": 1, "stages": [{"weights": {"web": 1.0}}, {"weights": {}}], "same": True}
    assert [(d.path, d.left, d.right) for d in differences(left, right)] == [
        ("seed", 0, 1),
        ("stages.0.weights.books", 0.5, None),
        ("stages.0.weights.web", 0.5, 1.0),
        ("stages.1", None, {"weights": {}}),
    ]
