"""Converting W&B runs to rows, with a fake `wandb.Api`: labels from the configuration, scores from the summary."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from assay.analysis.external.wandb import PREFIX, parse_fields, rows_of
from assay.analysis.external.wandb_api import FinishedRun, finished_runs
from assay.core.errors import AssayError


def run(name: str = "r", config: dict | None = None, **summary: Any) -> FinishedRun:
    config = {"mix": "today", "seed": 0, "parameters": 151898880, "tokens": 3e9} if config is None else config
    return FinishedRun(id=f"id-{name}", name=name, config=config, summary={"eval/arc/acc": 0.5} | summary)


def rows(
    *runs: FinishedRun, prefix: str = PREFIX, fields: dict | None = None, given: dict | None = None
) -> tuple[list, list]:
    return rows_of(runs, project="team/mixes", fields=fields or {}, prefix=prefix, given=given or {})


def test_runs_that_assay_published_need_no_option() -> None:
    result, notes = rows(run(**{"eval/validation/books/bits_per_byte": 1.5, "train/loss": 3.0, "state": "done"}))
    labels = {"mix": "today", "seed": "0", "scale": "151898880", "tokens": "3000000000"}
    assert result == [
        {**labels, "task": "arc", "metric": "acc", "value": 0.5, "stderr": None},
        {**labels, "task": "validation/books", "metric": "bits_per_byte", "value": 1.5, "stderr": None},
    ]
    assert notes == []


@pytest.mark.parametrize(
    ("logged", "expected"), [("NaN", "nan"), ("Infinity", "inf"), ("-Infinity", "-inf"), (float("nan"), "nan")]
)
def test_scores_that_are_not_finite_are_kept(logged: Any, expected: str) -> None:
    """W&B writes them as text; the gate names them."""
    result, _ = rows(run(**{"eval/sums/word_perplexity": logged}))
    assert [(row["task"], str(row["value"])) for row in result] == [("arc", "0.5"), ("sums", expected)]


def test_text_is_no_score() -> None:
    result, _ = rows(run(**{"eval/sums/alias": "sums", "eval/sums/acc_stderr": "N/A", "eval/sums/done": True}))
    assert [row["task"] for row in result] == ["arc"]


def test_runs_of_lm_evals_logger_need_an_empty_prefix() -> None:
    logged = FinishedRun(
        id="i", name="n", config=run().config, summary={"arc/acc": 0.5, "arc/acc_stderr": 0.01, "_step": 3}
    )
    result, _ = rows(logged, prefix="")
    assert [(row["task"], row["metric"], row["value"], row["stderr"]) for row in result] == [("arc", "acc", 0.5, 0.01)]


def test_fields_read_labels_from_any_key_of_the_configuration() -> None:
    config = {"recipe": {"name": "more_code"}, "trainer": {"seed": 7}, "size": "150M", "tokens": 1}
    fields = parse_fields(["mix=recipe.name", "seed=trainer.seed", "scale=size"])
    result, _ = rows(run(config=config), fields=fields, given={"tokens": "3B"})
    assert {key: result[0][key] for key in ("mix", "seed", "scale", "tokens")} == {
        "mix": "more_code", "seed": "7", "scale": "150M", "tokens": "3B",
    }  # fmt: skip


def test_a_missing_label_is_reported_with_the_run_and_the_nearest_key() -> None:
    with pytest.raises(AssayError) as error:
        rows(run(name="brave-fox", config={"mx": "today", "seed": 0}))
    for part in ("'brave-fox'", "so the mix of the run is unknown", "Did you mean 'mx'?", "--field mix=KEY"):
        assert part in str(error.value)


def test_runs_without_scores_are_excluded_with_a_note_and_a_project_of_them_is_refused() -> None:
    empty = FinishedRun(id="i", name="still-warm", config={}, summary={"train/loss": 1.0})
    result, notes = rows(run(), empty)
    assert len(result) == 1
    assert "still-warm" in notes[0]
    with pytest.raises(AssayError, match="none of 1 finished runs has a number named eval/TASK/METRIC"):
        rows(empty)


@pytest.mark.parametrize(("option", "expected"), [("mix", "expected LABEL=KEY"), ("mxi=a", "Did you mean 'mix'?")])
def test_a_field_option_without_a_label_is_refused(option: str, expected: str) -> None:
    with pytest.raises(AssayError) as error:
        parse_fields([option])
    assert expected in str(error.value)


class Api:
    """A fake of the part of `wandb.Api` that assay uses."""

    request: tuple[str, dict] | None = None
    answer: Any = ()

    def __init__(self, timeout: int) -> None:
        assert timeout > 0

    def runs(self, path: str, *, filters: dict, lazy: bool) -> Any:  # noqa: ARG002  # the client's own signature
        type(self).request = (path, filters)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> type[Api]:
    import wandb

    monkeypatch.setattr(wandb, "Api", Api)
    Api.answer = [SimpleNamespace(id="i", name="n", config={"mix": "m"}, summary_metrics={"eval/arc/acc": 0.5})]
    return Api


def test_only_finished_runs_are_requested(api: type[Api]) -> None:
    fractions: list[float] = []
    runs = finished_runs("team/mixes", progress=fractions.append)
    assert api.request == ("team/mixes", {"state": "finished"})
    assert [(run.id, run.config, run.summary) for run in runs] == [("i", {"mix": "m"}, {"eval/arc/acc": 0.5})]
    assert fractions == [1.0]


def test_an_error_of_wandb_is_reported_with_a_fix(api: type[Api]) -> None:
    import wandb

    for problem in (ValueError("Could not find project mixes"), wandb.errors.CommError("502"), OSError("unreachable")):
        api.answer = problem
        with pytest.raises(AssayError, match="wandb://team/mixes cannot be read") as error:
            finished_runs("team/mixes")
        assert "wandb login" in error.value.fix
