"""Runs in W&B become rows: the labels from their configuration, the scores from their summary. `wandb.Api` is played."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from assay.errors import AssayError
from assay.imports.tracked import PREFIX, parse_fields, rows_of
from assay.publish.wandb_runs import FinishedRun, finished_runs


def run(name: str = "r", config: dict | None = None, **summary: Any) -> FinishedRun:
    config = {"mix": "today", "seed": 0, "parameters": 151898880, "tokens": 3e9} if config is None else config
    return FinishedRun(id=f"id-{name}", name=name, config=config, summary={"eval/arc/acc": 0.5} | summary)


def rows(
    *runs: FinishedRun, prefix: str = PREFIX, fields: dict | None = None, given: dict | None = None
) -> tuple[list, list]:
    return rows_of(runs, project="team/mixes", fields=fields or {}, prefix=prefix, given=given or {})


def test_what_assay_published_is_read_back_without_any_option() -> None:
    found, notes = rows(run(**{"eval/validation/books/bits_per_byte": 1.5, "train/loss": 3.0, "state": "done"}))
    labels = {"mix": "today", "seed": "0", "scale": "151898880", "tokens": "3000000000"}
    assert found == [
        {**labels, "task": "arc", "metric": "acc", "value": 0.5, "stderr": None},
        {**labels, "task": "validation/books", "metric": "bits_per_byte", "value": 1.5, "stderr": None},
    ]
    assert notes == []


def test_what_lm_evals_logger_wrote_is_read_with_an_empty_prefix() -> None:
    logged = FinishedRun(
        id="i", name="n", config=run().config, summary={"arc/acc": 0.5, "arc/acc_stderr": 0.01, "_step": 3}
    )
    found, _ = rows(logged, prefix="")
    assert [(row["task"], row["metric"], row["value"], row["stderr"]) for row in found] == [("arc", "acc", 0.5, 0.01)]


def test_labels_may_stand_anywhere_in_a_configuration() -> None:
    config = {"recipe": {"name": "more_code"}, "trainer": {"seed": 7}, "size": "150M", "tokens": 1}
    fields = parse_fields(["mix=recipe.name", "seed=trainer.seed", "scale=size"])
    found, _ = rows(run(config=config), fields=fields, given={"tokens": "3B"})
    assert {key: found[0][key] for key in ("mix", "seed", "scale", "tokens")} == {
        "mix": "more_code", "seed": "7", "scale": "150M", "tokens": "3B",
    }  # fmt: skip


def test_a_label_that_no_field_holds_is_named_with_the_run_and_the_nearest_field() -> None:
    with pytest.raises(AssayError) as error:
        rows(run(name="brave-fox", config={"mx": "today", "seed": 0}))
    for part in ("'brave-fox'", "its mix is not known", "Did you mean 'mx'?", "--field mix=PATH"):
        assert part in str(error.value)


def test_runs_without_scores_are_left_out_with_a_word_and_a_project_of_them_is_refused() -> None:
    empty = FinishedRun(id="i", name="still-warm", config={}, summary={"train/loss": 1.0})
    found, notes = rows(run(), empty)
    assert len(found) == 1
    assert "still-warm" in notes[0]
    with pytest.raises(AssayError, match="none has a number called eval/TASK/METRIC"):
        rows(empty)


@pytest.mark.parametrize(("option", "said"), [("mix", "says nothing"), ("mxi=a", "Did you mean 'mix'?")])
def test_a_field_option_that_names_no_label_is_refused(option: str, said: str) -> None:
    with pytest.raises(AssayError) as error:
        parse_fields([option])
    assert said in str(error.value)


class Api:
    """What is used of `wandb.Api`."""

    asked: tuple[str, dict] | None = None
    answer: Any = ()

    def __init__(self, timeout: int) -> None:
        assert timeout > 0

    def runs(self, path: str, *, filters: dict, lazy: bool) -> Any:  # noqa: ARG002  # the client's own signature
        type(self).asked = (path, filters)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> type[Api]:
    import wandb

    monkeypatch.setattr(wandb, "Api", Api)
    Api.answer = [SimpleNamespace(id="i", name="n", config={"mix": "m"}, summary_metrics={"eval/arc/acc": 0.5})]
    return Api


def test_only_finished_runs_are_asked_for(api: type[Api]) -> None:
    shares: list[float] = []
    found = finished_runs("team/mixes", progress=shares.append)
    assert api.asked == ("team/mixes", {"state": "finished"})
    assert [(one.id, one.config, one.summary) for one in found] == [("i", {"mix": "m"}, {"eval/arc/acc": 0.5})]
    assert shares == [1.0]


def test_whatever_wandb_refuses_is_told_with_what_to_check(api: type[Api]) -> None:
    import wandb

    for problem in (ValueError("Could not find project mixes"), wandb.errors.CommError("502"), OSError("unreachable")):
        api.answer = problem
        with pytest.raises(AssayError, match="wandb://team/mixes cannot be read") as error:
            finished_runs("team/mixes")
        assert "wandb login" in error.value.fix
