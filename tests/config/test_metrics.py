"""The registry knows the direction of a metric by its quantity, for any spelling and answer filter."""

from __future__ import annotations

import pytest

from assay.config.metrics import is_loss, metric_facts


@pytest.mark.parametrize(
    ("metric", "better"),
    [
        ("perplexity,none", "lower"),
        ("word_perplexity", "lower"),
        ("PPL", "lower"),
        ("val_perplexity", "lower"),
        ("bpb", "lower"),
        ("bits-per-byte", "lower"),
        ("bits_per_char", "lower"),
        ("bits_per_byte_corr", "lower"),
        ("nll_per_token", "lower"),
        ("eval_loss", "lower"),
        ("brier_score,none", "lower"),
        ("ter", "lower"),
        ("acc", "higher"),
        ("acc_norm,none", "higher"),
        ("exact_match,strict-match", "higher"),
        ("rougeL", "higher"),
        ("pass@10", "higher"),
        ("correct_prob_per_char", "higher"),
    ],
)
def test_a_known_quantity_has_a_direction(metric: str, better: str) -> None:
    assert metric_facts(metric).better == better
    assert is_loss(metric) == (better == "lower")


@pytest.mark.parametrize(
    "metric", ["helpfulness", "toxicity", "score", "weight_loss_acc", "lossless", "pct_stereotype", ""]
)
def test_an_unknown_quantity_has_no_direction(metric: str) -> None:
    assert metric_facts(metric).better is None
    assert not is_loss(metric)
