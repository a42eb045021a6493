from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from assay.config.suite import EvaluationSpec, SuiteTask
from assay.core.errors import AssayError
from assay.core.files import read_json
from assay.evaluate.evaluation import evaluate
from assay.evaluate.offline import use_mirror
from assay.evaluate.tasks import spread
from assay.store.runs import RunDirectory
from tests.evaluate.conftest import make_spec

MakeRun = Callable[[str], RunDirectory]
ITEMS = {"hellaswag": (10042, 24), "arc_easy": (2376, 40), "mmlu_anatomy": (135, 10), "mmlu_virology": (166, 10)}
"""Number of items of each task, and number of scored items."""


@pytest.fixture(scope="module")
def command_line(model_folder: Path, benchmarks: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """lm-eval's command line on the same model and items, started early because it starts slowly."""
    folder = tmp_path_factory.mktemp("command line")
    samples = {task: spread(*sizes) for task, sizes in ITEMS.items()}
    command = [
        *(sys.executable, "-m", "lm_eval", "--model", "hf", "--model_args", f"pretrained={model_folder}"),
        *("--tasks", ",".join(ITEMS), "--num_fewshot", "0", "--batch_size", "4", "--device", "cpu"),
        *("--samples", json.dumps(samples), "--output_path", str(folder), "--log_samples"),
    ]
    offline = {"HF_DATASETS_CACHE": str(benchmarks), "HF_DATASETS_OFFLINE": "1", "HF_HUB_OFFLINE": "1"}
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, env={**os.environ, **offline}, stdout=log, stderr=log)
    try:
        yield lambda: _finished(process, folder)
    finally:
        process.kill()
        process.wait()


def _finished(process: subprocess.Popen[bytes], folder: Path) -> tuple[dict[str, Any], dict[str, list[dict[str, Any]]]]:
    assert process.wait(timeout=300) == 0, (folder / "log").read_text()[-3000:]
    (results,) = folder.glob("*/results_*.json")
    samples = {
        task: [json.loads(line) for line in next(folder.glob(f"*/samples_{task}_*")).read_text().splitlines()]
        for task in ITEMS
    }
    return json.loads(results.read_text())["results"], samples


def read(run: RunDirectory, spec: EvaluationSpec) -> tuple[dict[tuple[str, str], dict[str, Any]], pd.DataFrame]:
    scores = {(score["task"], score["metric"]): score for score in run.scores(spec.fingerprint)}
    return scores, pd.read_parquet(run.evaluation(spec.fingerprint) / "items.parquet")


def test_scores_equal_those_of_lm_evals_command_line(command_line: Any, make_run: MakeRun, benchmarks: Path) -> None:
    run = make_run("a")
    spec = make_spec(*(SuiteTask(task=task, limit=limit) for task, (_, limit) in ITEMS.items()))
    evaluate(run, spec, {}, mirror=benchmarks, device="cpu")
    scores, items = read(run, spec)
    results, samples = command_line()
    for task, (_, limit) in ITEMS.items():
        metrics = ("acc",) if task.startswith("mmlu") else ("acc", "acc_norm")
        for metric in metrics:
            assert scores[task, metric]["value"] == results[task][f"{metric},none"]
            assert scores[task, metric]["stderr"] == results[task][f"{metric}_stderr,none"]
            assert scores[task, metric]["n"] == limit
        rows, logged = items[items["task"] == task], samples[task]
        assert rows["doc_id"].tolist() == [sample["doc_id"] for sample in logged] == spread(*ITEMS[task])
        for column in ("doc_hash", "prompt_hash"):
            assert rows[column].tolist() == [sample[column] for sample in logged]
        # The command line batches items of all tasks together, which changes the last digits of float32.
        for row, sample in zip(rows.itertuples(), logged, strict=True):
            responses = [float(response[0]) for response in sample["filtered_resps"]]
            assert row.loglikelihoods == pytest.approx(responses, abs=1e-3)


def test_a_group_and_its_members_are_scored(make_run: MakeRun, benchmarks: Path) -> None:
    run = make_run("a")
    spec = make_spec(SuiteTask(task="mmlu", limit=2))
    evaluate(run, spec, {}, mirror=benchmarks, device="cpu")
    scores, items = read(run, spec)
    whole = scores["mmlu", "acc"]
    # The best constant answer: of the 114 items, one letter is correct most often.
    letters = items.loc[items["group"] == "mmlu", "target"].value_counts()
    assert (whole["n"], whole["chance"]) == (114, pytest.approx(letters.max() / 114))
    assert whole["value"] == pytest.approx(items["acc"].mean())
    assert scores["mmlu", "bits_per_byte"]["value"] == pytest.approx(items["bits_per_byte"].mean())
    assert set(items["group"]) == {"mmlu"}
    assert items["task"].nunique() == 57
    assert {"mmlu_stem", "mmlu_anatomy"} <= {task for task, _ in scores}
    record = read_json(run.evaluation(spec.fingerprint) / "scores.json")
    assert record["fingerprint"] == spec.fingerprint
    assert record["lm_eval"] == spec.harness
    assert record["tasks"]["mmlu_anatomy"]["dataset"] == "cais/mmlu/anatomy"
    assert record["tasks"]["mmlu"]["truncated"] > 0  # prompts of hundreds of tokens, and a context of 256
    assert record["seconds"] > 0


def test_scores_do_not_depend_on_other_tasks_of_the_suite(make_run: MakeRun, benchmarks: Path) -> None:
    first_run, second_run = make_run("first"), make_run("second")
    alone = make_spec(SuiteTask(task="sciq", limit=12))
    together = make_spec(SuiteTask(task="arc_challenge", limit=10), SuiteTask(task="sciq", limit=12))
    evaluate(first_run, alone, {}, mirror=benchmarks, device="cpu")
    evaluate(second_run, together, {}, mirror=benchmarks, device="cpu")
    (_, first), (_, second) = read(first_run, alone), read(second_run, together)
    assert second["task"].unique().tolist() == ["arc_challenge", "sciq"]
    pd.testing.assert_frame_equal(first, second[second["task"] == "sciq"].reset_index(drop=True), check_exact=True)


def test_an_existing_evaluation_is_kept(make_run: MakeRun, benchmarks: Path) -> None:
    run = make_run("a")
    spec = make_spec(SuiteTask(task="sciq", limit=2))
    evaluate(run, spec, {}, mirror=benchmarks, device="cpu")
    scores = run.evaluation(spec.fingerprint) / "scores.json"
    before = scores.stat().st_mtime_ns
    (run.model / "model.safetensors").unlink()  # no model is loaded
    evaluate(run, spec, {}, mirror=benchmarks, device="cpu")
    assert scores.stat().st_mtime_ns == before


def test_validation_splits_of_corpora_are_measured(make_run: MakeRun, corpora: dict[str, Path]) -> None:
    run = make_run("a")
    spec = make_spec(validation={"code": "x", "web": "y"}, validation_bytes=2000)
    evaluate(run, spec, corpora, mirror=None, device="cpu")
    scores, items = read(run, spec)
    assert list(scores) == [("validation/code", "bits_per_byte"), ("validation/web", "bits_per_byte")]
    for (task, _), score in scores.items():
        rows = items[items["task"] == task]
        assert score["value"] == pytest.approx(rows["bits"].sum() / rows["bytes"].sum())
        assert score["n"] == len(rows) > 1
        assert rows["bytes"].sum() <= 2000


def test_progress_rises_to_1_and_names_the_task(make_run: MakeRun, benchmarks: Path) -> None:
    reports: list[tuple[str, float]] = []
    spec = make_spec(SuiteTask(task="sciq", limit=4), SuiteTask(task="arc_easy", limit=4))
    evaluate(
        make_run("a"),
        spec,
        {},
        mirror=benchmarks,
        device="cpu",
        progress=lambda what, fraction: reports.append((what, fraction)),
    )
    fractions = [fraction for _, fraction in reports]
    assert fractions == sorted(fractions)
    assert (fractions[0], fractions[-1]) == (0.0, 1.0)
    assert next(fraction for what, fraction in reports if what == "arc_easy") == pytest.approx(0.5)
    assert all(fraction < 1 for fraction in fractions[:-1])


def test_scores_do_not_depend_on_the_precision_of_training(
    make_run: MakeRun, benchmarks: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch
    from lm_eval.models.huggingface import HFLM

    call, seen = HFLM._model_call, set()

    def recording(self: Any, *args: Any, **kwargs: Any) -> Any:
        seen.add(torch.get_float32_matmul_precision())
        return call(self, *args, **kwargs)

    monkeypatch.setattr(HFLM, "_model_call", recording)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        evaluate(make_run("a"), make_spec(SuiteTask(task="sciq", limit=2)), {}, mirror=benchmarks, device="cpu")
        assert seen == {"highest"}
        assert torch.get_float32_matmul_precision() == "high"
    finally:
        torch.set_float32_matmul_precision(before)


def broken_weights(run: RunDirectory) -> None:
    import torch
    from safetensors.torch import load_file, save_file

    weights = load_file(run.model / "model.safetensors")
    weights["model.norm.weight"] = torch.full_like(weights["model.norm.weight"], float("nan"))
    save_file(weights, run.model / "model.safetensors", metadata={"format": "pt"})


def cut_weights(run: RunDirectory) -> None:
    path = run.model / "model.safetensors"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def no_tokenizer(run: RunDirectory) -> None:
    (run.model / "tokenizer.json").unlink()


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (broken_weights, "task 'sciq', item 0: loglikelihood nan is invalid"),
        (cut_weights, "the model could not be loaded"),
        (no_tokenizer, r"tokenizer\.json is missing"),
    ],
)
def test_a_model_that_cannot_be_scored_is_refused_and_leaves_no_evaluation(
    harm: Callable[[RunDirectory], None], message: str, make_run: MakeRun, benchmarks: Path
) -> None:
    run = make_run("a")
    harm(run)
    spec = make_spec(SuiteTask(task="sciq", limit=2))
    with pytest.raises(AssayError, match=message):
        evaluate(run, spec, {}, mirror=benchmarks, device="cpu")
    assert not run.evaluated(spec.fingerprint)
    assert not list(run.path.glob("evaluations/*"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"harness": "lm_eval 0.0.1"}, r"lm_eval .* is installed; expected lm_eval 0\.0\.1"),
        ({"validation": {"code": "x"}, "validation_bytes": 100}, "the corpora of code are missing"),
    ],
)
def test_an_evaluation_of_another_harness_or_without_corpus_is_refused(
    changes: dict[str, Any], message: str, make_run: MakeRun, benchmarks: Path
) -> None:
    with pytest.raises(AssayError, match=message):
        evaluate(make_run("a"), make_spec(SuiteTask(task="sciq"), **changes), {}, mirror=benchmarks, device="cpu")


def test_an_error_of_lm_eval_names_the_task(
    make_run: MakeRun, benchmarks: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_mirror(benchmarks)
    from lm_eval.models.huggingface import HFLM

    def fail(*_: Any, **__: Any) -> None:
        raise MemoryError

    monkeypatch.setattr(HFLM, "_model_call", fail)
    with pytest.raises(MemoryError) as error:
        evaluate(make_run("a"), make_spec(SuiteTask(task="sciq", limit=2)), {}, mirror=benchmarks, device="cpu")
    assert error.value.__notes__ == ["while lm-eval scored the task 'sciq'"]
