from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors
import torch
from safetensors.torch import load_file

from assay.config.recipe import RunSpec, StageSpec
from assay.config.training import SpikeRule, TrainSettings
from assay.core.errors import AssayError
from assay.core.files import write_json
from assay.store.runs import RunDirectory, Status
from assay.train import checkpoint
from assay.train.loop import train
from assay.train.model import build, sequence_losses
from tests.train.small_runs import ADAMW, VOCABULARY, Cycles, make_run, make_spec, train_here

UNTIMED = ("tokens_per_second", "mfu", "train_seconds")


def _weights(run: RunDirectory) -> dict[str, torch.Tensor]:
    return load_file(run.model / "model.safetensors")


def _history(run: RunDirectory) -> list[dict]:
    """Return the records without the fields that depend on the clock."""
    return [{key: value for key, value in record.items() if key not in UNTIMED} for record in run.history()]


Trained = tuple[RunSpec, RunDirectory, Status]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Train a run of 40 steps, with a record every second step and checkpoints every 7."""
    spec = make_spec()
    run = make_run(tmp_path_factory.mktemp("trained"), spec)
    status = train(
        spec,
        run,
        Cycles(spec),
        tokenizer=None,
        settings=TrainSettings(records=20, checkpoint_steps=7),
        bytes_per_token={"code": 2.0, "web": 4.0},
    )
    return spec, run, status


def test_a_run_ends_trained_with_the_digest_of_its_weights(trained: Trained) -> None:
    spec, run, status = trained
    assert (status.state, status.step, status.tokens) == ("trained", spec.steps, spec.tokens)
    assert status.weights == checkpoint.record(run.model / "model.safetensors").sha256
    assert status.train_seconds > 0
    assert status.tokens_per_second > 0
    assert run.status() == status


def test_a_run_learns(trained: Trained) -> None:
    """A uniform prediction costs ln 64 = 4.16 nats; knowing both rules about 1.6."""
    losses = [record["loss"] for record in trained[1].history()]
    assert losses[0] > 4.1
    assert losses[-1] < 3.6


def test_the_history_is_by_tokens_and_complete(trained: Trained) -> None:
    spec, run, _ = trained
    history = run.history()
    assert [record["step"] for record in history] == list(range(2, 41, 2))
    assert [record["tokens"] for record in history] == [64 * step for step in range(2, 41, 2)]
    assert [record["lr"] for record in history] == [spec.lr(record["step"] - 1) for record in history]
    assert all(record["mfu"] > 0 and record["tokens_per_second"] > 0 for record in history)


def test_every_start_of_an_epoch_is_recorded_once(trained: Trained) -> None:
    spec, run, _ = trained
    recorded = [record["epochs_begun"]["code"] for record in run.history() if record["epochs_begun"]]
    assert recorded == [start.epoch for start in Cycles(spec).epoch_starts(0, spec.steps * spec.batch_sequences)]
    assert recorded


def test_loss_is_the_mean_over_tokens_by_source_and_in_bits_per_byte(trained: Trained) -> None:
    """Recomputed for the first record from the initial model: the step's two sources, their tokens and their bytes."""
    spec, run, _ = trained
    record = run.history()[0]
    tokens, owners = Cycles(spec).read(0, 8)
    counts = {name: int((owners == index).sum()) for index, name in enumerate(("code", "web"))}
    nats = {name: record["loss_by_source"][name] * counts[name] * 16 for name in counts}
    assert record["loss"] == pytest.approx(sum(nats.values()) / (8 * 16))
    text = 16 * (2.0 * counts["code"] + 4.0 * counts["web"])
    assert record["bits_per_byte"] == pytest.approx(sum(nats.values()) / math.log(2) / text)

    model = build(spec.model, VOCABULARY, seed=0)
    first = torch.from_numpy(tokens[:4])
    start = sequence_losses(model, first[:, :-1], first[:, 1:]).sum().item()
    one_step = make_spec(steps=1)
    alone = make_run(run.path.parent, one_step)
    train_here(one_step, alone)
    assert alone.history()[0]["loss"] == pytest.approx(start / 64)


def test_the_requested_and_the_delivered_mix_are_recorded(trained: Trained) -> None:
    run = trained[1]
    record = run.delivered()
    assert record["requested"] == {"code": 0.25, "web": 0.75}
    assert record["sequences"] == 160
    assert sum(source["sequences"] for source in record["delivered"].values()) == 160
    assert record["delivered"]["code"]["share"] == record["delivered"]["code"]["sequences"] / 160


def test_the_request_of_a_staged_run_is_weighed_by_steps(tmp_path: Path) -> None:
    stages = (
        StageSpec(name="main", weights={"code": 0.5, "web": 0.5}, steps=6),
        StageSpec(name="anneal", weights={"code": 1.0}, steps=2, anneal=True),
    )
    spec = make_spec(stages=stages)
    run = make_run(tmp_path, spec)
    train_here(spec, run)
    assert run.delivered()["requested"] == pytest.approx({"code": 0.625, "web": 0.375})
    assert [record["stage"] for record in run.history()] == ["main"] * 6 + ["anneal"] * 2
    assert run.history()[-1]["lr"] == 0.0


def test_micro_batches_add_up_to_the_batch(tmp_path: Path, trained: Trained) -> None:
    """The gradient of the whole batch, whether its sequences are processed at once or in parts of one, two or three."""
    spec, whole, _ = trained
    for micro in (1, 3):
        run = make_run(tmp_path / str(micro), spec)
        train_here(spec, run, micro_batch=micro)
        for name, tensor in _weights(run).items():
            torch.testing.assert_close(tensor, _weights(whole)[name], atol=2e-4, rtol=1e-3)


def test_a_rerun_gives_the_same_bits(tmp_path: Path, trained: Trained) -> None:
    spec, _, status = trained
    again = make_run(tmp_path, spec)
    assert train_here(spec, again).weights == status.weights


def test_arms_of_a_replicate_start_from_the_same_weights(tmp_path: Path) -> None:
    """With a learning rate of zero, runs of two mixes end with their common initial weights."""
    still = replace(ADAMW, peak_lr=1e-30)
    start = build(make_spec().model, VOCABULARY, seed=3)
    for weights in ({"code": 1.0}, {"code": 0.1, "web": 0.9}):
        spec = make_spec(steps=2, weights=weights, optimizer=still, seed=3)
        run = make_run(tmp_path, spec)
        train_here(spec, run)
        assert all(torch.equal(dict(start.named_parameters())[name], end) for name, end in _weights(run).items())


def test_a_trained_run_is_not_trained_again(tmp_path: Path) -> None:
    spec = make_spec(steps=3)
    run = make_run(tmp_path, spec)
    train_here(spec, run)
    before = (run.model / "model.safetensors").stat().st_mtime_ns
    run.update(state="queued")
    assert train_here(spec, run).state == "trained"
    assert (run.model / "model.safetensors").stat().st_mtime_ns == before
    (run.model / "model.safetensors").write_bytes(b"cut")
    assert train_here(spec, run).state == "trained"
    assert len(_weights(run)) > 5


def test_a_stopped_run_writes_a_checkpoint_and_resumes_from_it(tmp_path: Path, trained: Trained) -> None:
    """Weights and history equal those of an uninterrupted run, although it stops between two records."""
    spec, whole, status = trained
    run, steps = make_run(tmp_path, spec), iter(range(100))
    settings = TrainSettings(records=20)
    bytes_per_token = {"code": 2.0, "web": 4.0}

    def stop_at_17() -> bool:
        return next(steps) == 16

    stopped = train(
        spec,
        run,
        Cycles(spec),
        tokenizer=None,
        settings=settings,
        should_stop=stop_at_17,
        bytes_per_token=bytes_per_token,
    )
    assert (stopped.state, stopped.step, stopped.weights) == ("queued", 17, None)
    assert [path.name for path in run.checkpoints.iterdir()] == ["step-17"]
    ended = train(spec, run, Cycles(spec), tokenizer=None, settings=settings, bytes_per_token=bytes_per_token)
    assert ended.weights == status.weights
    assert _history(run) == _history(whole)
    assert ended.train_seconds > stopped.train_seconds


def test_training_pauses_with_the_weights_of_an_interim_step_and_resumes_when_called_again(
    tmp_path: Path, trained: Trained
) -> None:
    spec, whole, status = trained
    run = make_run(tmp_path, spec)
    settings = {"records": 20, "interim_evaluations": (0.5, 0.1)}
    for step in (4, 20):
        seen = train_here(spec, run, **settings)
        assert (seen.state, seen.step) == ("evaluating", step)
        kept, checkpoint_ = load_file(run.interim(step).model / checkpoint.MODEL), run.checkpoints / f"step-{step}"
        assert all(bool((kept[name] == t).all()) for name, t in load_file(checkpoint_ / checkpoint.MODEL).items())
        assert run.interim(step).delivered()["sequences"] == step * spec.batch_sequences
    ended = train_here(spec, run, **settings)
    assert (ended.state, ended.weights) == ("trained", status.weights)
    assert [record["loss"] for record in run.history()] == [record["loss"] for record in whole.history()]


def test_a_damaged_checkpoint_costs_time_and_nothing_else(tmp_path: Path, trained: Trained) -> None:
    """The newest is truncated: training resumes from the previous one, with the history as it was then."""
    spec, whole, status = trained
    run, steps = make_run(tmp_path, spec), iter(range(100))
    settings = TrainSettings(records=20, checkpoint_steps=7)
    train(spec, run, Cycles(spec), tokenizer=None, settings=settings, should_stop=lambda: next(steps) == 24)
    newest = run.checkpoints / "step-25" / "model.safetensors"
    newest.write_bytes(newest.read_bytes()[:1000])
    assert train_here(spec, run, records=20).weights == status.weights
    assert [record["loss"] for record in run.history()] == [record["loss"] for record in whole.history()]


def test_transformers_loads_the_final_model(trained: Trained) -> None:
    """`AutoModelForCausalLM` loads it, and computes the same loss as training's own forward."""
    from transformers import AutoModelForCausalLM

    spec, run, _ = trained
    model = AutoModelForCausalLM.from_pretrained(run.model)
    assert model.dtype == torch.float32
    assert model.config.max_position_embeddings == spec.model.sequence_length
    tokens = torch.from_numpy(Cycles(spec).read(0, 4)[0])
    ours = build(spec.model, VOCABULARY, seed=9)
    ours.load_state_dict(model.state_dict())
    with torch.no_grad():
        loss = model(input_ids=tokens[:, :-1], labels=tokens[:, :-1]).loss
        logits = ours(input_ids=tokens[:, :-1]).logits
        per_sequence = sequence_losses(ours, tokens[:, :-1], tokens[:, 1:]) / 16
    assert float(per_sequence.mean()) < 3.8
    shifted = torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), tokens[:, 1:-1].flatten())
    torch.testing.assert_close(loss, shifted)


def test_the_tokenizer_goes_with_the_model(tmp_path: Path) -> None:
    """`AutoTokenizer` gives the IDs of the tokenizer file without additions, and knows the end-of-text ID."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import AutoModelForCausalLM, AutoTokenizer

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    plain = Tokenizer(models.BPE({letter: i for i, letter in enumerate(letters)} | {"<|endoftext|>": 256}, []))
    plain.pre_tokenizer, plain.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    plain.add_special_tokens(["<|endoftext|>"])
    plain.save(str(tmp_path / "tokenizer.json"))
    write_json(
        tmp_path / "tokenizer_config.json",
        {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|endoftext|>", "model_max_length": 10**30},
    )
    spec = make_spec(steps=2, vocabulary=257)
    run = make_run(tmp_path, spec)
    train(spec, run, Cycles(spec), tokenizer=tmp_path, settings=TrainSettings())
    loaded = AutoTokenizer.from_pretrained(run.model)
    text = "def add(a,b):\n  return 12+ 34 # a"
    assert loaded(text)["input_ids"] == plain.encode(text).ids
    assert loaded.decode(loaded(text)["input_ids"]) == text
    assert loaded.eos_token_id == 256
    assert loaded.model_max_length == spec.model.sequence_length
    assert AutoModelForCausalLM.from_pretrained(run.model).config.eos_token_id == 256


def test_a_run_whose_loss_is_not_a_number_ends_diverged(tmp_path: Path) -> None:
    """The failure names the step; there is no checkpoint with a NaN, and no model to evaluate."""
    spec = make_spec(optimizer=replace(ADAMW, peak_lr=1e30, warmup=0.0))
    run = make_run(tmp_path, spec)
    status = train_here(spec, run, checkpoint_steps=1, records=4)
    assert (status.state, status.failure.kind) == ("diverged", "diverged")
    assert "not a number at step 2" in status.failure.message
    assert "peak_lr" in status.failure.message
    assert status.finished is not None
    assert not run.model.exists()
    for path in run.checkpoints.iterdir():
        assert all(bool(tensor.isfinite().all()) for tensor in load_file(path / checkpoint.MODEL).values())


def test_a_run_whose_loss_rises_for_good_ends_diverged(tmp_path: Path) -> None:
    spec = make_spec(steps=100, optimizer=replace(ADAMW, peak_lr=3.0, schedule="constant", gradient_clip=0.0))
    run = make_run(tmp_path, spec)
    status = train_here(spec, run)
    assert (status.state, status.failure.kind) == ("diverged", "diverged")
    assert status.step < spec.steps
    assert "for 10 records" in status.failure.message
    assert status.failure.message.count("nan") == 0
    assert not run.model.exists()


def test_a_full_disk_ends_the_run_with_a_clear_failure_and_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trained: Trained
) -> None:
    spec, _, status = trained
    run = make_run(tmp_path, spec)
    real, saves = checkpoint.save_file, iter(range(100))

    def filling(tensors: dict, path: Path) -> None:
        if next(saves) >= 5:  # each checkpoint has two files: fail at the second file of the third
            raise safetensors.SafetensorError("I/O error: No space left on device (os error 28)")
        real(tensors, path)

    monkeypatch.setattr(checkpoint, "save_file", filling)
    failed = train_here(spec, run, checkpoint_steps=7, records=20)
    assert (failed.state, failed.failure.kind) == ("failed", "disk full")
    assert "the disk is full" in failed.failure.message
    assert sorted(path.name for path in run.checkpoints.iterdir()) == ["step-14", "step-7"]
    monkeypatch.undo()
    ended = train_here(spec, run, records=20)
    assert (ended.state, ended.failure, ended.weights) == ("trained", None, status.weights)


def test_settings_out_of_bounds_are_refused_by_name() -> None:
    for wrong in ({"micro_batch": 0}, {"checkpoint_seconds": 0}, {"records": 0}, {"checkpoint_steps": 0}):
        with pytest.raises(AssayError, match=next(iter(wrong))):
            TrainSettings(**wrong)
    for fractions in ((0.0,), (1.0,), (0.5, 0.5), (float("nan"),)):
        with pytest.raises(AssayError, match="interim_evaluations"):
            TrainSettings(interim_evaluations=fractions)
    with pytest.raises(AssayError, match=r"training\.spike"):
        SpikeRule(nats=-1)


def test_a_missing_gpu_is_reported(tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is one")
    spec = make_spec(steps=1)
    for device in ("cuda", "cuda:3"):
        with pytest.raises(AssayError, match="sees 0 GPUs"):
            train_here(spec, make_run(tmp_path, spec), device=device)
    with pytest.raises(AssayError, match="'gpu'"):
        train_here(spec, make_run(tmp_path, spec), device="gpu")


def test_the_status_is_plain_json(trained: Trained) -> None:
    status = json.loads((trained[1].path / "status.json").read_text())
    assert np.isfinite(status["tokens_per_second"])
