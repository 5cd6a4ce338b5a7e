"""Learning a teacher's similarities: which texts of the batch are how near to each, as another encoder sees it.

With unit vectors z_i of the N texts of a batch (all queries and documents), t_i those of the teacher, of any width:

    L = 1/N * sum_i KL( p_i || q_i ),   p_ij ~ exp(t_i.t_j / tau),   q_ij ~ exp(z_i.z_j / tau),   j != i

Self-distillation of similarity distributions (SEED, arXiv 2101.04731), here in the batch instead of a queue. ``scl``
alone is told one right answer per query; the teacher grades all of them.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import kl_div, log_softmax, normalize

__all__ = ["similarity_loss"]


def similarity_loss(vectors: Tensor, teacher: Tensor, *, temperature: float) -> Tensor:
    """Mean loss over the texts, ``()`` float32.

    Args:
        vectors: ``(N, d)`` of any norm.
        teacher: ``(N, t)`` of any norm, in the same order; gets no gradient.
        temperature: tau, of both.
    """
    student, wanted = (_log_shares(rows, temperature) for rows in (vectors, teacher.detach()))
    return kl_div(student, wanted, reduction="batchmean", log_target=True)


def _log_shares(vectors: Tensor, temperature: float) -> Tensor:
    """``(N, N - 1)`` log-softmax over the other texts."""
    unit = normalize(vectors.float(), dim=-1)
    others = ~torch.eye(len(unit), dtype=torch.bool, device=unit.device)
    return log_softmax((unit @ unit.T)[others].view(len(unit), -1) / temperature, dim=-1)
