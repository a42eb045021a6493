from __future__ import annotations

import io
import logging

import pytest

from assay.evaluate.quiet import quietly


def test_bars_are_hidden_inside_and_shown_again_outside() -> None:
    from tqdm import tqdm

    with quietly():
        inside = io.StringIO()
        list(tqdm(range(3), file=inside, disable=False))
    outside = io.StringIO()
    list(tqdm(range(3), file=outside))
    assert inside.getvalue() == ""
    assert "3/3" in outside.getvalue()


def test_warnings_are_dropped_truncated_inputs_counted_and_errors_passed_on(caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("lm_eval.models.huggingface")
    before = logger.getEffectiveLevel(), logging.getLogger("lm_eval").handlers[:]
    with quietly() as commentary:
        logger.warning("Overwriting default num_fewshot")
        logger.warning("Combined length of context (9) and continuation (9) exceeds model's maximum length (8).")
        logger.error("something broke")
    assert caplog.messages == ["something broke"]
    assert commentary.truncated == 1
    assert (logger.getEffectiveLevel(), logging.getLogger("lm_eval").handlers) == before


def test_what_is_raised_inside_comes_out_and_leaves_nothing_changed() -> None:
    from tqdm.std import tqdm

    shown = tqdm.__init__
    with pytest.raises(ZeroDivisionError), quietly():
        raise ZeroDivisionError
    assert tqdm.__init__ is shown
