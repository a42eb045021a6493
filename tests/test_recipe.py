"""Recipes: sizes, budgets, learning rates; identity covers what decides the weights and nothing else."""

from __future__ import annotations

from dataclasses import replace

import pytest

from assay.errors import AssayError
from assay.recipe import Budget, Optimiser, ProxyModel, RunSpec, Stage, StageSpec, split_steps
from assay.structure import from_mapping, to_mapping

MODEL = ProxyModel(
    name="tiny", hidden_size=64, intermediate_size=172, layers=2, heads=2, kv_heads=1,
    tie_embeddings=True, rope_theta=10_000, sequence_length=256,
)  # fmt: skip
OPTIMISER = Optimiser(
    name="wsd", peak_lr=1e-3, schedule="wsd", warmup=0.1, decay=0.2, final_lr=0.0,
    beta1=0.9, beta2=0.95, epsilon=1e-8, weight_decay=0.1, gradient_clip=1.0,
)  # fmt: skip
SPEC = RunSpec(
    model=MODEL, vocabulary=4096, tokenizer="t", corpora={"web": "w", "code": "c"},
    stages=(StageSpec(name="pretrain", weights={"web": 0.5, "code": 0.5}, steps=100),),
    optimiser=OPTIMISER, batch_sequences=8, seed=0,
)  # fmt: skip


@pytest.mark.parametrize("kv_heads", [1, 2])
@pytest.mark.parametrize("tied", [True, False])
def test_parameters_are_those_of_the_real_model(kv_heads: int, tied: bool) -> None:
    from assay.train.model import build

    model = replace(MODEL, kv_heads=kv_heads, tie_embeddings=tied)
    real = build(model, 512, seed=0)
    assert model.parameters(512) == sum(p.numel() for p in real.parameters())


def test_a_spec_survives_its_record_with_the_same_fingerprint() -> None:
    again = from_mapping(RunSpec, to_mapping(SPEC), where="spec")
    assert again == SPEC
    assert again.fingerprint == SPEC.fingerprint


def test_names_of_presets_bear_no_identity() -> None:
    renamed = replace(SPEC, model=replace(MODEL, name="other"), optimiser=replace(OPTIMISER, name="other"))
    assert renamed.fingerprint == SPEC.fingerprint


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"vocabulary": 4097},
        {"corpora": {"web": "w", "code": "c2"}},
        {"stages": (StageSpec(name="pretrain", weights={"web": 0.5000001, "code": 0.4999999}, steps=100),)},
        {"model": replace(MODEL, rope_theta=20_000)},
        {"optimiser": replace(OPTIMISER, weight_decay=0.0)},
        {"trainer": 2},
        {"pools": {"web": 1000}},
    ],
)
def test_whatever_decides_the_weights_changes_the_fingerprint(change: dict) -> None:
    assert replace(SPEC, **change).fingerprint != SPEC.fingerprint


def test_stages_and_corpora_must_name_the_same_sources() -> None:
    with pytest.raises(AssayError, match="corpora are"):
        replace(SPEC, corpora={"web": "w"})


def test_the_rate_warms_up_stays_and_decays_to_the_floor() -> None:
    rates = [SPEC.lr(step) for step in range(SPEC.steps)]
    assert rates[0] == pytest.approx(1e-4)
    assert max(rates) == rates[9] == rates[79] == 1e-3
    assert rates[-1] == pytest.approx(0.0)
    assert rates[89] == pytest.approx(0.5e-3)


def test_an_annealing_stage_goes_linearly_to_zero_from_where_the_rate_was() -> None:
    constant = replace(OPTIMISER, schedule="constant", warmup=0.0)
    stages = (
        StageSpec(name="pretrain", weights={"web": 1.0}, steps=80),
        StageSpec(name="anneal", weights={"code": 1.0}, steps=20, anneal=True),
    )
    spec = replace(SPEC, optimiser=constant, stages=stages)
    assert spec.lr(79) == 1e-3
    assert spec.lr(89) == pytest.approx(0.5e-3)
    assert spec.lr(99) == 0.0


@pytest.mark.parametrize("schedule", ["cosine", "linear"])
def test_a_falling_schedule_ends_at_its_share_of_the_peak(schedule: str) -> None:
    optimiser = replace(OPTIMISER, schedule=schedule, final_lr=0.1)
    assert optimiser.lr(99, 100) == pytest.approx(1e-4)
    assert all(optimiser.lr(i, 100) >= optimiser.lr(i + 1, 100) for i in range(10, 99))


def test_a_budget_is_tokens_or_tokens_per_parameter_never_both() -> None:
    assert Budget(tokens=7).resolve(10) == 7
    assert Budget(tokens_per_parameter=20).resolve(10) == 200
    for both in ({}, {"tokens": 1, "tokens_per_parameter": 1.0}):
        with pytest.raises(AssayError, match="exactly one"):
            Budget(**both)
    with pytest.raises(AssayError, match="tokens is 0"):
        Budget(tokens=0)


def test_steps_are_split_whole_by_the_shares() -> None:
    stages = (Stage(name="a", share=0.7), Stage(name="b", share=0.3))
    assert split_steps(stages, 101) == (71, 30)
    with pytest.raises(AssayError, match="gets none"):
        split_steps(stages, 1)
    with pytest.raises(AssayError, match=r"sum to 0\.7"):
        split_steps(stages[:1], 10)


@pytest.mark.parametrize("change", [{"heads": 3}, {"kv_heads": 3}, {"layers": 0}, {"hidden_size": -64}])
def test_an_impossible_shape_is_refused(change: dict) -> None:
    with pytest.raises(AssayError, match="proxy 'tiny'"):
        replace(MODEL, **change)


def test_runs_on_whole_sources_are_those_that_they_were_before_there_were_pools() -> None:
    """Pinned, so that no store loses its runs to a field that they do not use."""
    assert SPEC.fingerprint == "adfd57e834041ae2551df02cfcf688df5beb74c9ff87e1cde51ffb8330812951"
    record = {name: value for name, value in to_mapping(SPEC).items() if name != "pools"}
    assert from_mapping(RunSpec, record, where="spec") == SPEC


@pytest.mark.parametrize("pools", [{"books": 10}, {"web": 0}, {}])
def test_a_pool_that_cannot_be_is_refused(pools: dict[str, int]) -> None:
    with pytest.raises(AssayError, match="run spec: pools"):
        replace(SPEC, pools=pools)
