"""Recipes: sizes, budgets, learning rates; identity covers what decides the weights and nothing else."""

from __future__ import annotations

from dataclasses import replace

import pytest

from assay.config.recipe import Budget, Optimizer, ProxyModel, RunSpec, Stage, StageSpec, split_steps
from assay.core.errors import AssayError
from assay.core.serde import from_mapping, to_mapping

MODEL = ProxyModel(
    name="tiny", hidden_size=64, intermediate_size=172, layers=2, heads=2, kv_heads=1,
    tie_embeddings=True, rope_theta=10_000, sequence_length=256,
)  # fmt: skip
OPTIMIZER = Optimizer(
    name="wsd", peak_lr=1e-3, schedule="wsd", warmup=0.1, decay=0.2, final_lr=0.0,
    beta1=0.9, beta2=0.95, epsilon=1e-8, weight_decay=0.1, gradient_clip=1.0,
)  # fmt: skip
SPEC = RunSpec(
    model=MODEL, vocabulary=4096, tokenizer="t", corpora={"web": "w", "code": "c"},
    stages=(StageSpec(name="pretrain", weights={"web": 0.5, "code": 0.5}, steps=100),),
    optimizer=OPTIMIZER, batch_sequences=8, seed=0,
)  # fmt: skip


@pytest.mark.parametrize("kv_heads", [1, 2])
@pytest.mark.parametrize("tied", [True, False])
def test_parameters_match_the_model(kv_heads: int, tied: bool) -> None:
    from assay.train.model import build

    model = replace(MODEL, kv_heads=kv_heads, tie_embeddings=tied)
    real = build(model, 512, seed=0)
    assert model.parameters(512) == sum(p.numel() for p in real.parameters())


def test_a_recorded_spec_keeps_its_fingerprint() -> None:
    again = from_mapping(RunSpec, to_mapping(SPEC), where="spec")
    assert again == SPEC
    assert again.fingerprint == SPEC.fingerprint


def test_names_of_presets_are_no_part_of_the_identity() -> None:
    renamed = replace(SPEC, model=replace(MODEL, name="other"), optimizer=replace(OPTIMIZER, name="other"))
    assert renamed.fingerprint == SPEC.fingerprint


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"vocabulary": 4097},
        {"corpora": {"web": "w", "code": "c2"}},
        {"stages": (StageSpec(name="pretrain", weights={"web": 0.5000001, "code": 0.4999999}, steps=100),)},
        {"model": replace(MODEL, rope_theta=20_000)},
        {"optimizer": replace(OPTIMIZER, weight_decay=0.0)},
        {"trainer": 3},
        {"pools": {"web": 1000}},
    ],
)
def test_every_field_that_determines_the_weights_changes_the_fingerprint(change: dict) -> None:
    assert replace(SPEC, **change).fingerprint != SPEC.fingerprint


def test_stages_and_corpora_must_name_the_same_sources() -> None:
    with pytest.raises(AssayError, match="corpora .* is invalid"):
        replace(SPEC, corpora={"web": "w"})


def test_the_learning_rate_warms_up_stays_constant_and_decays() -> None:
    rates = [SPEC.lr(step) for step in range(SPEC.steps)]
    assert rates[0] == pytest.approx(1e-4)
    assert max(rates) == rates[9] == rates[79] == 1e-3
    assert rates[-1] == pytest.approx(0.0)
    assert rates[89] == pytest.approx(0.5e-3)


def test_an_annealing_stage_decays_linearly_to_zero_from_the_previous_rate() -> None:
    constant = replace(OPTIMIZER, schedule="constant", warmup=0.0)
    stages = (
        StageSpec(name="pretrain", weights={"web": 1.0}, steps=80),
        StageSpec(name="anneal", weights={"code": 1.0}, steps=20, anneal=True),
    )
    spec = replace(SPEC, optimizer=constant, stages=stages)
    assert spec.lr(79) == 1e-3
    assert spec.lr(89) == pytest.approx(0.5e-3)
    assert spec.lr(99) == 0.0


@pytest.mark.parametrize("schedule", ["cosine", "linear"])
def test_a_decaying_schedule_ends_at_its_fraction_of_the_peak(schedule: str) -> None:
    optimizer = replace(OPTIMIZER, schedule=schedule, final_lr=0.1)
    assert optimizer.lr(99, 100) == pytest.approx(1e-4)
    assert all(optimizer.lr(i, 100) >= optimizer.lr(i + 1, 100) for i in range(10, 99))


def test_a_budget_is_either_tokens_or_tokens_per_parameter() -> None:
    assert Budget(tokens=7).resolve(10) == 7
    assert Budget(tokens_per_parameter=20).resolve(10) == 200
    for both in ({}, {"tokens": 1, "tokens_per_parameter": 1.0}):
        with pytest.raises(AssayError, match="exactly one"):
            Budget(**both)
    with pytest.raises(AssayError, match="`tokens` 0 is invalid"):
        Budget(tokens=0)


def test_steps_are_split_into_whole_steps_by_the_fractions() -> None:
    stages = (Stage(name="a", fraction=0.7), Stage(name="b", fraction=0.3))
    assert split_steps(stages, 101) == (71, 30)
    with pytest.raises(AssayError, match="at least one of the run's"):
        split_steps(stages, 1)
    with pytest.raises(AssayError, match=r"sum to 0\.7"):
        split_steps(stages[:1], 10)


@pytest.mark.parametrize("change", [{"heads": 3}, {"kv_heads": 3}, {"layers": 0}, {"hidden_size": -64}])
def test_an_invalid_shape_is_refused(change: dict) -> None:
    with pytest.raises(AssayError, match="proxy 'tiny'"):
        replace(MODEL, **change)


def test_runs_on_whole_sources_keep_the_fingerprint_of_versions_without_pools() -> None:
    """The fingerprint is pinned, so that an unused field invalidates no stored run."""
    assert SPEC.fingerprint == "b255a0d27397ae664872db97aa886e1be18b3ca4d8d9f9165f539c84bdbd0437"
    record = {name: value for name, value in to_mapping(SPEC).items() if name != "pools"}
    assert from_mapping(RunSpec, record, where="spec") == SPEC


@pytest.mark.parametrize("pools", [{"books": 10}, {"web": 0}, {}])
def test_an_invalid_pool_is_refused(pools: dict[str, int]) -> None:
    with pytest.raises(AssayError, match="run spec: pools"):
        replace(SPEC, pools=pools)
