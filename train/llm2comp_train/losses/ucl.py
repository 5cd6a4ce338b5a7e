"""``ucl``: unsupervised contrastive learning (SimCSE, arXiv 2104.08821, with the negatives of SimCLR, 2002.05709).

Two passes of one sentence differ by dropout alone and are each other's positive. With all 2B views z_1..z_2B (unit
vectors) and p(i) the other view of the same sentence:

    L = 1/2B * sum_i -log( exp(z_i.z_p(i) / tau) / sum_{j != i} exp(z_i.z_j / tau) )

Stage 2 of LLM2Comp (arXiv 2511.17129).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

__all__ = ["ucl_loss"]


def ucl_loss(first: Tensor, second: Tensor, *, temperature: float) -> Tensor:
    """Mean loss over all 2B views, ``()`` float32; ``first`` and ``second`` are ``(B, d)`` of any norm."""
    views = normalize(torch.cat([first, second]).float(), dim=-1)
    scores = views @ views.T / temperature
    itself = torch.eye(len(views), dtype=torch.bool, device=views.device)
    labels = torch.arange(len(views), device=views.device).roll(len(first))
    return cross_entropy(scores.masked_fill(itself, -torch.inf), labels)
