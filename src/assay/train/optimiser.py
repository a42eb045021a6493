"""AdamW as a spec describes it, and its state as named tensors."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from assay.recipe import Optimiser

MOMENTS = ("step", "exp_avg", "exp_avg_sq")
"""What AdamW keeps for each parameter."""


def adamw(model: torch.nn.Module, optimiser: Optimiser) -> torch.optim.AdamW:
    """AdamW over a model's parameters, weight decay on matrices (embeddings included) and not on norms' gains.

    Fused: one pass over a parameter where the loop over tensors takes several; it exists for CPUs and for CUDA.
    """
    matrices = [parameter for parameter in model.parameters() if parameter.ndim > 1]
    gains = [parameter for parameter in model.parameters() if parameter.ndim <= 1]
    return torch.optim.AdamW(
        [
            {"params": matrices, "weight_decay": optimiser.weight_decay},
            {"params": gains, "weight_decay": 0.0},
        ],
        lr=optimiser.peak_lr,
        betas=(optimiser.beta1, optimiser.beta2),
        eps=optimiser.epsilon,
        fused=True,
    )


def set_lr(optimiser: torch.optim.Optimizer, lr: float) -> None:
    """Use this learning rate from now on, for all parameters."""
    for group in optimiser.param_groups:
        group["lr"] = lr


def state_tensors(
    optimiser: torch.optim.Optimizer, parameters: Iterable[tuple[str, torch.Tensor]]
) -> dict[str, torch.Tensor]:
    """The optimiser's state under `<parameter>.<moment>`; empty before the first step."""
    return {
        f"{name}.{moment}": optimiser.state[parameter][moment]
        for name, parameter in parameters
        if parameter in optimiser.state
        for moment in MOMENTS
    }


def load_state(
    optimiser: torch.optim.Optimizer,
    parameters: Iterable[tuple[str, torch.Tensor]],
    tensors: Mapping[str, torch.Tensor],
) -> None:
    """Put back what `state_tensors` gave.

    The values are copied into memory that torch allocates, as it does in a run that was never stopped: sums
    over memory of another alignment may come out different in the last bit.
    """
    for name, parameter in parameters:
        state = {}
        for moment in MOMENTS:
            saved = tensors[f"{name}.{moment}"]
            state[moment] = torch.empty(saved.shape, dtype=saved.dtype, device=parameter.device).copy_(saved)
        optimiser.state[parameter] = state
