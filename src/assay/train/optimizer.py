"""Build AdamW as a spec defines it, and convert its state to named tensors."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from assay.config.recipe import Optimizer

MOMENTS = ("step", "exp_avg", "exp_avg_sq")
"""The state tensors that AdamW keeps for each parameter."""


def adamw(model: torch.nn.Module, optimizer: Optimizer) -> torch.optim.AdamW:
    """Build AdamW for a model, with weight decay for matrices but not for norm gains.

    Embeddings are matrices too. The fused version makes one pass over each parameter instead of several, and is
    available for CPUs and CUDA.
    """
    matrices = [parameter for parameter in model.parameters() if parameter.ndim > 1]
    gains = [parameter for parameter in model.parameters() if parameter.ndim <= 1]
    return torch.optim.AdamW(
        [
            {"params": matrices, "weight_decay": optimizer.weight_decay},
            {"params": gains, "weight_decay": 0.0},
        ],
        lr=optimizer.peak_lr,
        betas=(optimizer.beta1, optimizer.beta2),
        eps=optimizer.epsilon,
        fused=True,
    )


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Set the learning rate of all parameters."""
    for group in optimizer.param_groups:
        group["lr"] = lr


def state_tensors(
    optimizer: torch.optim.Optimizer, parameters: Iterable[tuple[str, torch.Tensor]]
) -> dict[str, torch.Tensor]:
    """Return the optimizer's state under `<parameter>.<moment>`; empty before the first step."""
    return {
        f"{name}.{moment}": optimizer.state[parameter][moment]
        for name, parameter in parameters
        if parameter in optimizer.state
        for moment in MOMENTS
    }


def load_state(
    optimizer: torch.optim.Optimizer,
    parameters: Iterable[tuple[str, torch.Tensor]],
    tensors: Mapping[str, torch.Tensor],
) -> None:
    """Restore the state that `state_tensors` returned.

    The values are copied into memory that torch allocates, as in an uninterrupted run. Sums over memory with another
    alignment may differ in the last bit.
    """
    for name, parameter in parameters:
        state = {}
        for moment in MOMENTS:
            saved = tensors[f"{name}.{moment}"]
            state[moment] = torch.empty(saved.shape, dtype=saved.dtype, device=parameter.device).copy_(saved)
        optimizer.state[parameter] = state
