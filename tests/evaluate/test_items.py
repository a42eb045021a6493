from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from assay.core.errors import AssayError
from assay.evaluate.items import item_rows, schema, write_items
from assay.evaluate.log_filter import capture_harness_log
from tests.evaluate.conftest import local_task

ACC = {"metric": "acc", "aggregation": "mean", "higher_is_better": True}
NORM = {"metric": "acc_norm", "aggregation": "mean", "higher_is_better": True}


def score_items(
    lm: Any, rows: list[dict[str, Any]], **config: Any
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the rows of a task that lm-eval scored, and lm-eval's log."""
    from lm_eval import evaluator

    with capture_harness_log():
        task = local_task(rows, **config)
        results = evaluator.evaluate(lm=lm, task_dict={"tasks": {"local": task}}, log_samples=True, bootstrap_iters=0)
    samples = results["samples"]["local"]
    return item_rows(task, "group", samples), samples


def test_an_item_has_the_loglikelihood_of_each_choice_and_the_bits_of_the_correct_one(lm: Any) -> None:
    items = [
        {"q": "The sky is", "choices": ["blué", "a cow", "no"], "gold": 0},
        {"q": "A cow says", "choices": ["moo", "def return"], "gold": 1},
    ]
    rows, samples = score_items(
        lm,
        items,
        output_type="multiple_choice",
        doc_to_text="{{q}}",
        doc_to_choice="choices",
        doc_to_target="gold",
        metric_list=[ACC, NORM],
    )
    assert [row["target"] for row in rows] == [0, 1]
    assert [row["choice_bytes"] for row in rows] == [[5, 5, 2], [3, 10]]
    assert [row["choices"] for row in rows] == [3, 2]
    for row, sample in zip(rows, samples, strict=True):
        assert row["loglikelihoods"] == [response[0] for response in sample["filtered_resps"]]
        assert (row["acc"], row["acc_norm"]) == (sample["acc"], sample["acc_norm"])
        correct = row["target"]
        assert row["bits_per_byte"] == -row["loglikelihoods"][correct] / math.log(2) / row["choice_bytes"][correct]
        assert (row["doc_hash"], row["prompt_hash"]) == (sample["doc_hash"], sample["prompt_hash"])
    assert rows[0]["prompt_hash"] != rows[1]["prompt_hash"]


@pytest.mark.parametrize(("gold", "target"), [("moo", 1), ([1, 0], 1), ([7, 1], 1), ("a lie", None)], ids=str)
def test_the_correct_choice_is_recognized_in_every_form(lm: Any, gold: Any, target: int | None) -> None:
    rows, _ = score_items(
        lm,
        [{"q": "A cow says", "choices": ["baa", "moo"], "gold": gold}],
        output_type="multiple_choice",
        doc_to_text="{{q}}",
        doc_to_choice="choices",
        doc_to_target="gold",
        metric_list=[ACC],
    )
    assert rows[0]["target"] == target
    assert (rows[0]["bits_per_byte"] is None) == (target is None)


def test_choices_in_the_prompt_are_scored_by_their_common_continuation(lm: Any) -> None:
    # Like winogrande: the choices are two contexts, and doc_to_text is the index of the correct one.
    rows, samples = score_items(
        lm,
        [
            {
                "choices": ["The cup was too small for the ball because the cup", "The cup ... because the ball"],
                "right": 1,
            }
        ],
        output_type="multiple_choice",
        doc_to_text=lambda doc: doc["right"],
        doc_to_choice=lambda doc: doc["choices"],
        doc_to_target=lambda _: "was big.",
        metric_list=[ACC],
    )
    assert samples[0]["arguments"][0][0].endswith("cup")
    assert rows[0]["target"] == 1
    assert rows[0]["choice_bytes"] == [8, 8]
    assert rows[0]["bits_per_byte"] == -rows[0]["loglikelihoods"][1] / math.log(2) / 8


def test_requests_without_prompt_are_no_choices(lm: Any) -> None:
    rows, samples = score_items(
        lm,
        [{"q": "A cow says", "choices": ["baa", "moo"], "gold": 1}],
        output_type="multiple_choice",
        doc_to_text="{{q}}",
        doc_to_choice="choices",
        doc_to_target="gold",
        metric_list=[ACC, {"metric": "acc_mutual_info", "aggregation": "mean", "higher_is_better": True}],
    )
    assert len(samples[0]["arguments"]) == 4
    assert rows[0]["choices"] == len(rows[0]["loglikelihoods"]) == 2


def test_a_single_continuation_is_one_choice(lm: Any) -> None:
    rows, _ = score_items(
        lm,
        [{"q": "The captain said", "a": "nothing"}],
        output_type="loglikelihood",
        doc_to_text="{{q}}",
        doc_to_target=" {{a}}",
        metric_list=[ACC, {"metric": "perplexity", "aggregation": "perplexity", "higher_is_better": False}],
    )
    assert (rows[0]["target"], rows[0]["choices"], rows[0]["choice_bytes"]) == (0, 1, [7])
    assert rows[0]["metrics"].keys() == {"acc", "perplexity"}


def test_a_rolling_loglikelihood_is_divided_by_the_bytes_of_the_text(lm: Any) -> None:
    text = "The sea rosé against a grey morning."
    rows, _ = score_items(
        lm,
        [{"text": text}],
        output_type="loglikelihood_rolling",
        doc_to_text="",
        doc_to_target="{{text}}",
        metric_list=[{"metric": "bits_per_byte", "aggregation": "bits_per_byte", "higher_is_better": False}],
    )
    assert rows[0]["choice_bytes"] == [len(text.encode())]
    assert rows[0]["bits_per_byte"] == -rows[0]["loglikelihoods"][0] / math.log(2) / len(text.encode())
    assert rows[0]["metrics"] == {}


def test_generated_text_has_the_metrics_of_each_filter_in_one_row(lm: Any) -> None:
    rows, samples = score_items(
        lm,
        [{"q": "1 + 1 =", "a": "2"}, {"q": "1 + 2 =", "a": "3"}],
        output_type="generate_until",
        doc_to_text="{{q}}",
        doc_to_target="{{a}}",
        generation_kwargs={"max_gen_toks": 4, "until": ["\n"]},
        metric_list=[{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
        filter_list=[
            {"name": "strict", "filter": [{"function": "take_first"}]},
            {"name": "loose", "filter": [{"function": "lowercase"}, {"function": "take_first"}]},
        ],
    )
    assert len(samples) == 4
    assert [row["doc_id"] for row in rows] == [0, 1]
    assert rows[0]["metrics"].keys() == {"exact_match,strict", "exact_match,loose"}
    assert "loglikelihoods" not in rows[0]


def test_broken_weights_are_reported_with_the_first_item(lm: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lm, "loglikelihood", lambda requests, **_: [(math.nan, False)] * len(requests))
    with pytest.raises(AssayError, match="task 'local', item 0: loglikelihood nan is invalid"):
        score_items(
            lm,
            [{"q": "A cow says", "choices": ["baa", "moo"], "gold": 1}],
            output_type="multiple_choice",
            doc_to_text="{{q}}",
            doc_to_choice="choices",
            doc_to_target="gold",
            metric_list=[ACC],
        )


def test_rows_of_every_kind_share_one_table_in_the_given_order(tmp_path: Path) -> None:
    rows = [
        {"task": "b", "group": "g", "doc_id": 1, "doc_hash": "x", "prompt_hash": "y", "metrics": {"acc": 1.0}},
        {"task": "a", "group": "a", "doc_id": 0, "loglikelihoods": [-1.5], "is_greedy": None, "bits": 2.0, "bytes": 8},
    ]
    write_items(tmp_path / "items.parquet", rows)
    table = pq.read_table(tmp_path / "items.parquet")
    assert table.schema.equals(schema())
    assert table["task"].to_pylist() == ["b", "a"]
    assert table["metrics"].to_pylist() == [[("acc", 1.0)], None]
    assert table["loglikelihoods"].to_pylist() == [None, [-1.5]]
