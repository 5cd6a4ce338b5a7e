"""Late interaction in training: the memory vectors themselves learn to be compared, beside their mean.

With unit memory vectors m_ia (a = 1..k) of text i, the score of ``llm2comp_apps.retrieval.rerank.memory``:

    s(i, j) = 1/k * sum_a max_b m_ia.m_jb

Where a teacher says how near two texts are (``align``), the scores learn its cosines, L = mean over i != j of
(s(i, j) - t_i.t_j)^2; where pairs do (``scl``), the loss is that of :mod:`.scl` with s in the place of the cosine.
Source: MaxSim of ColBERT (arXiv 2004.12832), as a mean instead of a sum.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import normalize

__all__ = ["max_sim", "max_sim_level"]


def max_sim(queries: Tensor, documents: Tensor) -> Tensor:
    """Scores of every query with every document, ``(A, B)`` float32 in [-1, 1].

    Args:
        queries: ``(A, k, d)`` memory vectors of any norm.
        documents: ``(B, k', d)``.
    """
    asked, given = normalize(queries.float(), dim=-1), normalize(documents.float(), dim=-1)
    cosines = asked.flatten(0, 1) @ given.flatten(0, 1).T
    return cosines.view(len(asked), asked.shape[1], len(given), given.shape[1]).amax(-1).mean(1)


def max_sim_level(memory: Tensor, targets: Tensor) -> Tensor:
    """Mean squared difference between MaxSim and the teacher's cosine over all ordered pairs, ``()`` float32.

    Args:
        memory: ``(N, k, d)``; the loss is 0 for a single text.
        targets: ``(N, t)`` the teacher's vectors of any norm; no gradient flows into them.
    """
    count = len(memory)
    if count < 2:
        return memory.sum() * 0.0
    wanted = normalize(targets.detach().float(), dim=-1)
    differences = (max_sim(memory, memory) - wanted @ wanted.T).square()
    return (differences.sum() - differences.diagonal().sum()) / (count * (count - 1))
