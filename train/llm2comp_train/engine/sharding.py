"""Weights of a backbone that one GPU cannot hold, spread over all of them (FSDP), and tensors whole again.

Each layer of the LLM is one unit: its weights are gathered from all processes just before it runs and dropped after.
Only layers are sharded, since embeddings, head and memory tokens are used on their own, outside any layer.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import Tensor, nn

__all__ = ["placed_like", "shard_layers", "whole"]


def shard_layers(layers: Iterable[nn.Module], device: str, world: int) -> None:
    """Spread the weights of each layer over ``world`` processes; their gradients will be means over these."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(device.split(":")[0], (world,))
    for layer in layers:
        fully_shard(layer, mesh=mesh)


def whole(value: Any) -> Any:
    """A tensor on the CPU, put together if it is sharded (all processes must ask); other values as they are."""
    if not isinstance(value, Tensor):
        return value
    value = value.detach()
    gather = getattr(value, "full_tensor", None)
    return (gather() if gather else value).cpu()


def placed_like(value: Any, parameter: nn.Parameter, *, fused: bool = False) -> Any:
    """Undo :func:`whole`: put a tensor where ``parameter`` is and shard it as it is, if it has its shape.

    Args:
        value: of the parameter, or of its state in the optimiser.
        parameter: whose it is.
        fused: whether the optimiser counts its steps where the parameter is, as the fused form must.
    """
    if not isinstance(value, Tensor):
        return value
    if value.shape != parameter.shape:  # AdamW's step count
        return value.to(parameter.device) if fused else value
    mesh = getattr(parameter, "device_mesh", None)
    if mesh is None:
        return value.to(parameter.device)
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(value.to(mesh.device_type), mesh, parameter.placements)  # type: ignore[attr-defined]
