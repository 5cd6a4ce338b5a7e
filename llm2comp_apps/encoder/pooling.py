"""From k memory vectors to one embedding."""

from __future__ import annotations

import torch
from torch import Tensor

from llm2comp_apps.encoder.settings import MERGE_SIMILARITY, check_pooling

__all__ = ["merge_groups", "pool"]


def pool(memory: Tensor, pooling: str = "mean", *, similarity: float = MERGE_SIMILARITY) -> Tensor:
    """Pool memory vectors.

    Args:
        memory: ``(B, k, d)``.
        pooling: ``mean`` of all k (the paper's embedding); ``merge`` the copies first and take the mean of the groups
            (*cluster-then-merge*); ``first``; or ``all``, which keeps every vector.
        similarity: the cosine from which two memory vectors are merged.

    Returns:
        ``(B, d)`` float32, or ``(B, k, d)`` for ``all``; not normalised.

    Raises:
        UsageError: an unknown pooling.
    """
    check_pooling(pooling, several=True)
    memory = memory.float()
    if pooling == "mean":
        return memory.mean(dim=1)
    if pooling == "first":
        return memory[:, 0]
    if pooling == "all":
        return memory
    groups = merge_groups(memory, similarity)
    # Row i of `groups` marks i's group. Each group's mean counts once however many members it has, so each
    # member weighs 1 / (its group's size).
    weight = 1.0 / groups.sum(dim=2)
    return (memory * weight[..., None]).sum(dim=1) / weight.sum(dim=1, keepdim=True)


def merge_groups(memory: Tensor, similarity: float) -> Tensor:
    """Single-linkage groups of near-copies among each text's memory vectors.

    Args:
        memory: ``(B, k, d)``.
        similarity: cosine threshold of a link.

    Returns:
        ``(B, k, k)`` float, 1 where two vectors are in one group (the links' transitive closure).
    """
    unit = torch.nn.functional.normalize(memory.float(), dim=-1)
    reach = (unit @ unit.transpose(1, 2) >= similarity).float()
    reach = torch.maximum(reach, torch.eye(reach.shape[1], device=reach.device))
    for _ in range(max(1, (memory.shape[1] - 1).bit_length())):  # paths double in length at each squaring
        reach = (reach @ reach > 0).float()
    return reach
