"""Gradient checkpointing for a network with two roles.

Activations inside a layer are dropped in the forward pass and computed again in the backward pass. By then the context
managers that made the layer the frozen decoder have been left, so a plain checkpoint would recompute the decoder's
layers with the adapter on: an error, or silently wrong gradients. Each checkpoint here remembers the role (adapter on
or off, dropout on or off) that its layer had in the forward pass, and takes it again.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn
from torch.utils.checkpoint import checkpoint

from llm2comp_apps.encoder.network import role

__all__ = ["checkpoint_layers"]


def checkpoint_layers(layers: Iterable[nn.Module]) -> None:
    """Make each of ``layers`` recompute its activations in the backward pass."""
    for layer in layers:
        layer.forward = _checkpointed(layer, layer.forward)  # wraps this instance alone


def _checkpointed(layer: nn.Module, inner: Callable[..., Any]) -> Callable[..., Any]:
    tuners = [module for module in layer.modules() if isinstance(module, BaseTunerLayer)]

    @functools.wraps(inner)
    def forward(*args: Any, **kwargs: Any) -> Any:
        if not torch.is_grad_enabled():
            return inner(*args, **kwargs)
        adapter = not any(tuner._disable_adapters for tuner in tuners)
        again = _role_of_then(layer, adapter=adapter, training=layer.training)
        return checkpoint(inner, *args, use_reentrant=False, context_fn=lambda: (nullcontext(), again), **kwargs)

    return forward


@contextmanager
def _role_of_then(layer: nn.Module, *, adapter: bool, training: bool) -> Iterator[None]:
    now = layer.training
    layer.train(training)
    try:
        with role(layer, adapter=adapter):
            yield
    finally:
        layer.train(now)
