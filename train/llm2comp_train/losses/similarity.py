"""Learning a teacher's similarities: which texts of the batch are how near to each, as another encoder sees it.

With unit vectors z_i of the N texts of a batch (all queries and documents), t_i those of the teacher, of any width:

    L = 1/N * sum_i KL( p_i || q_i ),   p_ij ~ exp(t_i.t_j / tau),   q_ij ~ exp(z_i.z_j / tau),   j != i

Self-distillation of similarity distributions (SEED, arXiv 2101.04731), here in the batch instead of a queue. ``scl``
alone is told one right answer per query; the teacher grades all of them.

Neither this nor the contrastive loss changes when all cosines of a text rise together, so a student's space may stay
narrower than its teacher's, which costs where distances are taken at their face value: a regularised classifier, or a
threshold. Hence, with a weight w of its own, the mean squared difference of the cosines themselves:

    L + w / (N (N - 1)) * sum_i sum_j ((z_i.z_j - t_i.t_j) / tau)^2
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import kl_div, log_softmax, mse_loss, normalize

__all__ = ["similarity_loss"]


def similarity_loss(vectors: Tensor, teacher: Tensor, *, temperature: float, level_weight: float = 0.0) -> Tensor:
    """Mean loss over the texts, ``()`` float32.

    Args:
        vectors: ``(N, d)`` of any norm.
        teacher: ``(N, t)`` of any norm, in the same order; gets no gradient.
        temperature: tau, of both.
        level_weight: w.
    """
    student, wanted = (_similarities(rows, temperature) for rows in (vectors, teacher.detach()))
    shares, graded = log_softmax(student, dim=-1), log_softmax(wanted, dim=-1)
    divergence = kl_div(shares, graded, reduction="batchmean", log_target=True)
    return divergence + level_weight * mse_loss(student, wanted) if level_weight else divergence


def _similarities(vectors: Tensor, temperature: float) -> Tensor:
    """``(N, N - 1)`` cosines with the other texts, over the temperature."""
    unit = normalize(vectors.float(), dim=-1)
    others = ~torch.eye(len(unit), dtype=torch.bool, device=unit.device)
    return (unit @ unit.T)[others].view(len(unit), -1) / temperature
