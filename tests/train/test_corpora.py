"""Training on real prepared corpora and the real loader."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from assay.config.training import TrainSettings
from assay.corpus.loader import SequenceReader
from assay.corpus.shards import Corpus
from assay.plan.prepare import prepare_corpora
from assay.plan.workspace import Workspace
from assay.train.loop import train
from assay.train.model import sequence_losses
from tests.train.small_runs import make_run

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from assay.config.study import Study


@pytest.fixture
def workspace(tiny_study: Callable[..., Study]) -> Workspace:
    """Prepare three sources of synthetic text."""
    workspace = Workspace(tiny_study(steps=24))
    prepare_corpora(workspace.sources, workspace.mixes.sweep_sources)
    return workspace


def _bytes_per_token(workspace: Workspace) -> dict[str, float]:
    corpora = {name: Corpus.open(workspace.sources.corpus_folder(name)) for name in workspace.mixes.sweep_sources}
    return {name: corpus.bytes_per_token for name, corpus in corpora.items()}


def test_a_run_on_prepared_corpora_delivers_its_mix_and_resumes_exactly(workspace: Workspace, tmp_path: Path) -> None:
    spec = workspace.runs.spec("base", 0)
    whole, stopped = make_run(tmp_path / "whole", spec), make_run(tmp_path / "stopped", spec)
    arguments = {
        "tokenizer": workspace.sources.tokenizer_folder,
        "settings": TrainSettings(records=6),
        "bytes_per_token": _bytes_per_token(workspace),
    }
    status = train(spec, whole, SequenceReader.open(spec, workspace.store.corpora), **arguments)
    steps = iter(range(1, 100))
    train(
        spec,
        stopped,
        SequenceReader.open(spec, workspace.store.corpora),
        should_stop=lambda: next(steps) == 9,
        **arguments,
    )
    assert stopped.status().state == "queued"
    assert (
        train(spec, stopped, SequenceReader.open(spec, workspace.store.corpora), **arguments).weights == status.weights
    )

    delivered = whole.delivered()
    for name, weight in spec.stages[0].weights.items():
        assert abs(delivered["delivered"][name]["sequences"] - weight * 24 * 8) <= 1
    first, last = whole.history()[0], whole.history()[-1]
    assert last["loss"] < first["loss"] - 1
    assert 0 < last["bits_per_byte"] < first["bits_per_byte"] < 8
    assert set(last["loss_by_source"]) == {"code", "web", "books"}


def test_the_model_that_transformers_loads_has_learned_the_text(workspace: Workspace, tmp_path: Path) -> None:
    """With model and tokenizer from the run's folder alone, text of a source has a lower loss than in the first steps."""
    spec = workspace.runs.spec("base", 0)
    run = make_run(tmp_path, spec)
    folder = workspace.sources.tokenizer_folder
    train(
        spec,
        run,
        SequenceReader.open(spec, workspace.store.corpora),
        tokenizer=folder,
        settings=TrainSettings(records=6),
    )
    model, tokenizer = AutoModelForCausalLM.from_pretrained(run.model), AutoTokenizer.from_pretrained(run.model)
    text = "def return self for in range(n): x = x + 1 import if not None: def self"
    ids = torch.tensor([tokenizer(text)["input_ids"]])
    with torch.no_grad():
        loaded = float(model(input_ids=ids, labels=ids).loss)
        trained = float(sequence_losses(model, ids[:, :-1], ids[:, 1:])) / (ids.shape[1] - 1)
    assert loaded == pytest.approx(trained, rel=1e-5)
    assert loaded < run.history()[0]["loss_by_source"]["code"] - 1


def test_arms_of_a_replicate_share_initial_weights_and_replicates_do_not(workspace: Workspace) -> None:
    from assay.train.model import build

    def start(mix: str, seed: int) -> torch.Tensor:
        spec = workspace.runs.spec(mix, seed)
        return build(spec.model, spec.vocabulary, seed=spec.seed).lm_head.weight

    assert torch.equal(start("base", 0), start("more_web", 0))
    assert not torch.equal(start("base", 0), start("base", 1))
