"""The proxy model: transformers' Llama, with weights that depend on the seed alone."""

from __future__ import annotations

import hashlib
import math
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional
from transformers import LlamaConfig, LlamaForCausalLM

if TYPE_CHECKING:
    from assay.recipe import ProxyModel
    from assay.train.dropout import Dropout


def build(shape: ProxyModel, vocabulary: int, *, seed: int) -> LlamaForCausalLM:
    """The model of a run before its first step, on the CPU in float32.

    Every parameter has a random stream of its own, keyed by the seed and the parameter's name: the arms of a
    replicate start from the same weights whatever their mixes, and neither torch's generator, nor the number
    of threads, nor the order in which transformers builds its layers has a say.

    Args:
        shape: the proxy.
        vocabulary: number of token ids.
        seed: the replicate's seed.
    """
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=shape.hidden_size,
        intermediate_size=shape.intermediate_size,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        max_position_embeddings=shape.sequence_length,
        rope_parameters={"rope_type": "default", "rope_theta": shape.rope_theta},
        tie_word_embeddings=shape.tie_embeddings,
        attention_dropout=0.0,
        # The tokenizer decides; transformers' defaults are Llama's ids, which mean something else here.
        bos_token_id=None,
        eos_token_id=None,
        dtype="float32",
    )
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1:  # norms begin at 1, as transformers leaves them
                parameter.copy_(torch.from_numpy(_normal(name, tuple(parameter.shape), seed) * _std(name, shape)))
    return model


def sequence_losses(
    model: LlamaForCausalLM, inputs: torch.Tensor, targets: torch.Tensor, dropout: Dropout | None = None
) -> torch.Tensor:
    """Cross-entropy in nats, summed over each sequence.

    Goes through the model's layers itself: `LlamaForCausalLM.forward` without a mask looks for packed sequences
    with a data-dependent `.all()`, which makes a GPU wait in every step (transformers 5.23). The logits are the
    same; a test compares them.

    Args:
        model: the proxy.
        inputs: token ids, (sequences, length).
        targets: the ids that follow each of them, same shape.
        dropout: what is dropped of the embeddings and of what attention and feed-forward add to the residual stream, as
            in Vaswani et al. (2017); transformers' Llama has none of these.

    Returns:
        Float32, (sequences,).
    """
    trunk = model.model
    hidden = trunk.embed_tokens(inputs)
    positions = torch.arange(inputs.shape[1], device=inputs.device).unsqueeze(0)
    rotary = trunk.rotary_emb(hidden, position_ids=positions)
    if dropout is None:
        for layer in trunk.layers:
            hidden = layer(hidden, attention_mask=None, position_embeddings=rotary)
    else:
        hidden = dropout(hidden, 0)
        for i, layer in enumerate(trunk.layers):  # what the layer's own `forward` does, but for what is dropped
            attended, _ = layer.self_attn(
                hidden_states=layer.input_layernorm(hidden), position_embeddings=rotary, attention_mask=None
            )
            hidden = hidden + dropout(attended, 2 * i + 1)
            hidden = hidden + dropout(layer.mlp(layer.post_attention_layernorm(hidden)), 2 * i + 2)
    logits = model.lm_head(trunk.norm(hidden)).float()
    losses = functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none")
    return losses.view(inputs.shape).sum(1)


def _std(name: str, shape: ProxyModel) -> float:
    """Standard deviation of a matrix's first values: sqrt(2 / 5 hidden), less in what is added to the residual stream.

    The usual 0.02 is this rule at a width of 1,000, and far too small for proxies: at a width of 64 and after 0.5M
    tokens of mixed text, validation loss was 5.79 nats with 0.02 and 5.19 so. Sources: Nguyen and Salazar
    2019 (arXiv 1910.05895) for the first; GPT-2 for the layers' outputs, divided by sqrt(2 layers).
    """
    std = math.sqrt(2 / (5 * shape.hidden_size))
    return std / math.sqrt(2 * shape.layers) if name.endswith(("o_proj.weight", "down_proj.weight")) else std


def _normal(name: str, shape: tuple[int, ...], seed: int) -> np.ndarray:
    """Standard normal float32 values that depend on the name, the shape and the seed only."""
    words = np.frombuffer(hashlib.sha256(name.encode()).digest(), dtype="<u4").tolist()
    return np.random.default_rng([seed, *words]).standard_normal(shape, dtype=np.float32)
