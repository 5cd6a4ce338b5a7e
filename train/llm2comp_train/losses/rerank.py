"""``rerank``: listwise softmax cross-entropy over the documents of a query (ListNet's top one, with one relevant).

With s_0 the score of a query's positive and s_1..s_n those of its negatives:

    L = mean over queries of  -log( exp(s_0) / sum_j exp(s_j) )

The loss of RankLLaMA (arXiv 2310.08319). Only differences of scores within a query count.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

__all__ = ["rerank_loss"]


def rerank_loss(scores: Tensor, there: Tensor) -> Tensor:
    """Loss of each query, ``(G,)`` float32.

    Args:
        scores: ``(G, D)``; each row has a query's positive first, then its negatives.
        there: ``(G, D)`` bool: where a query has a document; always at the positive.
    """
    right = torch.zeros(len(scores), dtype=torch.long, device=scores.device)
    return cross_entropy(scores.float().masked_fill(~there, -torch.inf), right, reduction="none")
