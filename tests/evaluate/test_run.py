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

from assay.errors import AssayError
from assay.evaluate.offline import use_mirror
from assay.evaluate.questions import spread
from assay.evaluate.run import evaluate
from assay.files import read_json
from assay.store import RunDirectory
from assay.suite import EvaluationSpec, Task
from tests.evaluate.conftest import make_spec

MakeRun = Callable[[str], RunDirectory]
QUESTIONS = {"hellaswag": (10042, 24), "arc_easy": (2376, 40), "mmlu_anatomy": (135, 10), "mmlu_virology": (166, 10)}
"""Of each task: how many there are, and how many are asked."""


@pytest.fixture(scope="module")
def command_line(model_folder: Path, benchmarks: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """lm-eval's own command line on the same model and questions; started early, since it takes long to start."""
    folder = tmp_path_factory.mktemp("command line")
    samples = {task: spread(*sizes) for task, sizes in QUESTIONS.items()}
    command = [
        *(sys.executable, "-m", "lm_eval", "--model", "hf", "--model_args", f"pretrained={model_folder}"),
        *("--tasks", ",".join(QUESTIONS), "--num_fewshot", "0", "--batch_size", "4", "--device", "cpu"),
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
        for task in QUESTIONS
    }
    return json.loads(results.read_text())["results"], samples


def read(run: RunDirectory, spec: EvaluationSpec) -> tuple[dict[tuple[str, str], dict[str, Any]], pd.DataFrame]:
    scores = {(score["task"], score["metric"]): score for score in run.scores(spec.fingerprint)}
    return scores, pd.read_parquet(run.evaluation(spec.fingerprint) / "items.parquet")


def test_scores_are_those_of_lm_evals_own_command_line(command_line: Any, make_run: MakeRun, benchmarks: Path) -> None:
    run = make_run("a")
    spec = make_spec(*(Task(task=task, limit=limit) for task, (_, limit) in QUESTIONS.items()))
    evaluate(run, spec, {}, mirror=benchmarks, device="cpu")
    scores, items = read(run, spec)
    results, samples = command_line()
    for task, (_, limit) in QUESTIONS.items():
        metrics = ("acc",) if task.startswith("mmlu") else ("acc", "acc_norm")
        for metric in metrics:
            assert scores[task, metric]["value"] == results[task][f"{metric},none"]
            assert scores[task, metric]["stderr"] == results[task][f"{metric}_stderr,none"]
            assert scores[task, metric]["n"] == limit
        mine, theirs = items[items["task"] == task], samples[task]
        assert mine["doc_id"].tolist() == [sample["doc_id"] for sample in theirs] == spread(*QUESTIONS[task])
        for column in ("doc_hash", "prompt_hash"):
            assert mine[column].tolist() == [sample[column] for sample in theirs]
        # The command line puts questions of all tasks into one batch, which shows in the last digits of float32.
        for row, sample in zip(mine.itertuples(), theirs, strict=True):
            answers = [float(answer[0]) for answer in sample["filtered_resps"]]
            assert row.loglikelihoods == pytest.approx(answers, abs=1e-3)


def test_a_group_is_scored_as_a_whole_and_by_its_parts(make_run: MakeRun, benchmarks: Path) -> None:
    run = make_run("a")
    spec = make_spec(Task(task="mmlu", limit=2))
    evaluate(run, spec, {}, mirror=benchmarks, device="cpu")
    scores, items = read(run, spec)
    whole = scores["mmlu", "acc"]
    assert (whole["n"], whole["chance"]) == (114, 0.25)
    assert whole["value"] == pytest.approx(items["acc"].mean())
    assert scores["mmlu", "bits_per_byte"]["value"] == pytest.approx(items["bits_per_byte"].mean())
    assert set(items["group"]) == {"mmlu"}
    assert items["task"].nunique() == 57
    assert {"mmlu_stem", "mmlu_anatomy"} <= {task for task, _ in scores}
    record = read_json(run.evaluation(spec.fingerprint) / "scores.json")
    assert record["fingerprint"] == spec.fingerprint
    assert record["lm_eval"] == spec.harness
    assert record["tasks"]["mmlu_anatomy"]["dataset"] == "cais/mmlu/anatomy"
    assert record["tasks"]["mmlu"]["truncated"] > 0  # questions of hundreds of tokens, and a context of 256
    assert record["seconds"] > 0


def test_the_same_weights_give_the_same_evaluation_whatever_else_is_in_the_suite(
    make_run: MakeRun, benchmarks: Path
) -> None:
    one, two = make_run("one"), make_run("two")
    alone = make_spec(Task(task="sciq", limit=12))
    together = make_spec(Task(task="arc_challenge", limit=10), Task(task="sciq", limit=12))
    evaluate(one, alone, {}, mirror=benchmarks, device="cpu")
    evaluate(two, together, {}, mirror=benchmarks, device="cpu")
    (_, first), (_, second) = read(one, alone), read(two, together)
    assert second["task"].unique().tolist() == ["arc_challenge", "sciq"]
    pd.testing.assert_frame_equal(first, second[second["task"] == "sciq"].reset_index(drop=True), check_exact=True)


def test_an_evaluation_that_is_there_is_kept(make_run: MakeRun, benchmarks: Path) -> None:
    run = make_run("a")
    spec = make_spec(Task(task="sciq", limit=2))
    evaluate(run, spec, {}, mirror=benchmarks, device="cpu")
    scores = run.evaluation(spec.fingerprint) / "scores.json"
    before = scores.stat().st_mtime_ns
    (run.model / "model.safetensors").unlink()  # nothing is even loaded
    evaluate(run, spec, {}, mirror=benchmarks, device="cpu")
    assert scores.stat().st_mtime_ns == before


def test_validation_splits_are_measured_from_the_corpora(make_run: MakeRun, corpora: dict[str, Path]) -> None:
    run = make_run("a")
    spec = make_spec(validation={"code": "x", "web": "y"}, validation_bytes=2000)
    evaluate(run, spec, corpora, mirror=None, device="cpu")
    scores, items = read(run, spec)
    assert list(scores) == [("validation/code", "bits_per_byte"), ("validation/web", "bits_per_byte")]
    for (task, _), score in scores.items():
        mine = items[items["task"] == task]
        assert score["value"] == pytest.approx(mine["bits"].sum() / mine["bytes"].sum())
        assert score["n"] == len(mine) > 1
        assert mine["bytes"].sum() <= 2000


def test_progress_rises_to_the_end_and_names_what_is_done(make_run: MakeRun, benchmarks: Path) -> None:
    told: list[tuple[str, float]] = []
    spec = make_spec(Task(task="sciq", limit=4), Task(task="arc_easy", limit=4))
    evaluate(
        make_run("a"),
        spec,
        {},
        mirror=benchmarks,
        device="cpu",
        progress=lambda what, share: told.append((what, share)),
    )
    shares = [share for _, share in told]
    assert shares == sorted(shares)
    assert (shares[0], shares[-1]) == (0.0, 1.0)
    assert next(share for what, share in told if what == "arc_easy") == pytest.approx(0.5)
    assert all(share < 1 for share in shares[:-1])


def test_scores_do_not_depend_on_the_precision_that_training_left_behind(
    make_run: MakeRun, benchmarks: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch
    from lm_eval.models.huggingface import HFLM

    call, seen = HFLM._model_call, set()

    def watched(self: Any, *args: Any, **kwargs: Any) -> Any:
        seen.add(torch.get_float32_matmul_precision())
        return call(self, *args, **kwargs)

    monkeypatch.setattr(HFLM, "_model_call", watched)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        evaluate(make_run("a"), make_spec(Task(task="sciq", limit=2)), {}, mirror=benchmarks, device="cpu")
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
        (broken_weights, "task 'sciq', question 0: the model gives a loglikelihood of nan"),
        (cut_weights, "the model could not be loaded"),
        (no_tokenizer, "no tokenizer.json to evaluate"),
    ],
)
def test_a_model_that_cannot_be_scored_is_refused_and_leaves_no_evaluation(
    harm: Callable[[RunDirectory], None], message: str, make_run: MakeRun, benchmarks: Path
) -> None:
    run = make_run("a")
    harm(run)
    spec = make_spec(Task(task="sciq", limit=2))
    with pytest.raises(AssayError, match=message):
        evaluate(run, spec, {}, mirror=benchmarks, device="cpu")
    assert not run.evaluated(spec.fingerprint)
    assert not list(run.path.glob("evaluations/*"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"harness": "lm_eval 0.0.1"}, "the evaluation is of lm_eval 0.0.1; lm_eval .* is installed here"),
        ({"validation": {"code": "x"}, "validation_bytes": 100}, "no corpus is given for code"),
    ],
)
def test_an_evaluation_that_cannot_be_this_one_is_refused(
    changes: dict[str, Any], message: str, make_run: MakeRun, benchmarks: Path
) -> None:
    with pytest.raises(AssayError, match=message):
        evaluate(make_run("a"), make_spec(Task(task="sciq"), **changes), {}, mirror=benchmarks, device="cpu")


def test_an_error_of_lm_eval_says_in_which_task(
    make_run: MakeRun, benchmarks: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_mirror(benchmarks)
    from lm_eval.models.huggingface import HFLM

    def fail(*_: Any, **__: Any) -> None:
        raise MemoryError

    monkeypatch.setattr(HFLM, "_model_call", fail)
    with pytest.raises(MemoryError) as error:
        evaluate(make_run("a"), make_spec(Task(task="sciq", limit=2)), {}, mirror=benchmarks, device="cpu")
    assert error.value.__notes__ == ["while lm-eval scored the task 'sciq'"]
