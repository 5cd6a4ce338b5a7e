"""``scl``: supervised contrastive learning on (query, positive, hard negatives): InfoNCE (arXiv 1807.03748).

With unit vectors q_i and d_j, d_i the positive of q_i, the other d_j in-batch and hard negatives:

    L = 1/B * sum_i -log( exp(q_i.d_i / tau) / sum_j exp(q_i.d_j / tau) )

Stage 3 of LLM2Comp (arXiv 2511.17129).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

__all__ = ["ranking_loss", "scl_loss"]


def scl_loss(
    queries: Tensor, documents: Tensor, *, temperature: float, same: Tensor | None = None, symmetric: bool = False
) -> Tensor:
    """Mean loss over the queries, ``()`` float32.

    Args:
        queries: ``(B, d)`` of any norm.
        documents: ``(B + H, d)``: the positives in the order of the queries, then hard negatives in any order.
        temperature: tau.
        same: ``(B, B + H)`` bool: documents that are no negatives of a query, since their text is the query's own or
            its positive's; the diagonal is ignored.
        symmetric: average with the same loss from each positive to all queries, for pairs whose sides are alike.
    """
    queries, documents = normalize(queries.float(), dim=-1), normalize(documents.float(), dim=-1)
    return ranking_loss(queries @ documents.T / temperature, same=same, symmetric=symmetric)


def ranking_loss(scores: Tensor, *, same: Tensor | None = None, symmetric: bool = False) -> Tensor:
    """The same from scores that are there already, whatever they come from.

    Args:
        scores: ``(B, B + H)``, over the temperature; row i's right answer is column i.
        same: see :func:`scl_loss`, as for the following.
        symmetric: average with the same loss from each positive to all queries.
    """
    if same is not None:
        scores = scores.masked_fill(same & ~torch.eye(*same.shape, dtype=torch.bool, device=same.device), -torch.inf)
    labels = torch.arange(len(scores), device=scores.device)
    loss = cross_entropy(scores, labels)
    if symmetric:
        loss = (loss + cross_entropy(scores[:, : len(scores)].T, labels)) / 2
    return loss
