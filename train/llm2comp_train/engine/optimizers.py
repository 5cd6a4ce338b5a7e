"""What turns gradients into steps: AdamW, or Muon for the matrices of the layers and AdamW for all else.

Muon gives the step of a matrix singular values that are all alike (Jordan 2024, https://kellerjordan.github.io/posts/muon/),
so directions in which gradients are small are learned as fast as others. Its steps are scaled to the size of AdamW's
(Liu et al., arXiv 2502.16982), so one learning rate serves both.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from llm2comp_apps.encoder.network import CompressionNetwork
from llm2comp_apps.errors import UsageError
from llm2comp_train.engine.sharding import placed_like
from llm2comp_train.settings import Settings

__all__ = ["MUON", "Optimizers", "check_optimizer", "optimizers_of"]

MUON = "muon"


class Optimizers:
    """PyTorch's optimisers, each with parameters of its own, as one.

    Args:
        parts: whose parameter groups have a ``scale`` beside the learning rate.
    """

    def __init__(self, *parts: torch.optim.Optimizer) -> None:
        self._parts = parts
        self._owner = {each: part for part in parts for group in part.param_groups for each in group["params"]}

    def step(self, rate: float) -> None:
        """Move all parameters by their gradients, at a learning rate."""
        for part in self._parts:
            for group in part.param_groups:
                group["lr"] = rate * group["scale"]
            part.step()

    def zero_grad(self) -> None:
        """Drop all gradients."""
        for part in self._parts:
            part.zero_grad(set_to_none=True)

    def moments(self, parameter: nn.Parameter) -> dict[str, Any] | None:
        """What is remembered of the gradients of a parameter; ``None`` before its first step."""
        return self._owner[parameter].state.get(parameter)

    def restore(self, parameter: nn.Parameter, moments: dict[str, Any]) -> None:
        """Remember what :meth:`moments` gave, its tensors whole and on the CPU."""
        part = self._owner[parameter]
        fused = bool(part.defaults.get("fused"))
        part.state[parameter] = {key: placed_like(value, parameter, fused=fused) for key, value in moments.items()}


def check_optimizer(settings: Settings) -> None:
    """Refuse what this PyTorch does not have.

    Raises:
        UsageError: it is too old for Muon.
    """
    if settings.optimizer == MUON and not hasattr(torch.optim, "Muon"):
        raise UsageError("cannot be muon before PyTorch 2.9: pip install -U torch", field="optimizer")


def optimizers_of(
    network: CompressionNetwork, parameters: Iterable[nn.Parameter], layers: Iterable[nn.Module], settings: Settings
) -> Optimizers:
    """The optimisers of a run.

    Args:
        network: whose own parameters, the memory tokens, have a learning rate of their own.
        parameters: all that learn.
        layers: of the LLM; their matrices are Muon's, where the settings ask for it.
        settings: of the stage.
    """
    learning = list(parameters)
    memory = _identities(network.parameters(recurse=False))
    of_layers = (each for layer in layers for each in layer.parameters() if each.ndim == 2)
    matrices = _identities(of_layers) if settings.optimizer == MUON else set()
    groups: list[dict[str, Any]] = [
        {"params": [each for each in learning if id(each) not in memory | matrices], "scale": 1.0},
        {"params": [each for each in learning if id(each) in memory], "scale": settings.memory_lr},
    ]
    decay = settings.weight_decay
    # Where sharded and whole parameters stand side by side, they cannot be updated in one go (foreach).
    foreach = False if settings.shard else None
    # All weights of the layers are many: there the fused form pays, one pass over memory instead of ten.
    fused = True if settings.train_weights == "all" and not settings.shard else None
    adamw = torch.optim.AdamW(groups, weight_decay=decay, foreach=foreach, fused=fused)
    flat = [each for each in learning if id(each) in matrices]
    if not flat:
        return Optimizers(adamw)
    muon = torch.optim.Muon(
        [{"params": flat, "scale": 1.0}], weight_decay=decay, momentum=0.95, adjust_lr_fn="match_rms_adamw"
    )
    return Optimizers(muon, adamw)


def _identities(parameters: Iterable[Tensor]) -> set[int]:
    return {id(each) for each in parameters}
