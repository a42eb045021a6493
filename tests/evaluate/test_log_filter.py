from __future__ import annotations

import io
import logging

import pytest

from assay.evaluate.log_filter import capture_harness_log


def test_bars_are_hidden_within_the_context_only() -> None:
    from tqdm import tqdm

    with capture_harness_log():
        inside = io.StringIO()
        list(tqdm(range(3), file=inside, disable=False))
    outside = io.StringIO()
    list(tqdm(range(3), file=outside))
    assert inside.getvalue() == ""
    assert "3/3" in outside.getvalue()


def test_warnings_are_dropped_truncated_inputs_counted_and_errors_passed_on(caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("lm_eval.models.huggingface")
    before = logger.getEffectiveLevel(), logging.getLogger("lm_eval").handlers[:]
    with capture_harness_log() as harness_log:
        logger.warning("Overwriting default num_fewshot")
        logger.warning("Combined length of context (9) and continuation (9) exceeds model's maximum length (8).")
        logger.error("something broke")
    assert caplog.messages == ["something broke"]
    assert harness_log.truncated == 1
    assert (logger.getEffectiveLevel(), logging.getLogger("lm_eval").handlers) == before


def test_an_exception_propagates_and_restores_the_settings() -> None:
    from tqdm.std import tqdm

    original = tqdm.__init__
    with pytest.raises(ZeroDivisionError), capture_harness_log():
        raise ZeroDivisionError
    assert tqdm.__init__ is original
