"""``align``: learning a teacher's embeddings themselves (as LEAF does, arXiv 2509.12539).

With unit vectors z_i of the N texts of a batch, t_i those of the teacher, and Q the map into the student's space:

    L = 1/N * sum_i (1 - z_i.Q t_i)  +  w / (N (N - 1)) * sum_i sum_{j != i} (z_i.z_j - t_i.t_j)^2
        + v/N * sum_i KL( softmax_j(t_i.t_j / tau) to softmax_j(z_i.Q t_j / tau) )

The first term says where a text belongs, the second how the texts of the batch lie to each other, the third which of
them are the nearest: cosines that are far below the largest hardly count in it, and it has strong gradients between
texts that are alike, where the others have weak ones (as in contrast, but with the teacher's answers).

No labels, no hard negatives, no large batches: each text says by itself where it belongs. Q is orthogonal, so that it
keeps every cosine, and it is fitted once: :func:`procrustes` turns the teacher's space to where the student's vectors
lie already. Several teachers are one: the concatenation of ``sqrt(w_a) t_a``, whose cosines are the weighted mean of
theirs (:func:`joined`); where it is wider than the student, its
directions of least energy go first (:func:`reduction`).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import kl_div, log_softmax, normalize

__all__ = ["align_loss", "joined", "procrustes", "reduction"]


def align_loss(
    vectors: Tensor,
    targets: Tensor,
    *,
    cosine_weight: float,
    contrast_weight: float = 0.0,
    temperature: float = 0.05,
) -> Tensor:
    """Mean loss over the texts, ``()`` float32.

    Args:
        vectors: ``(N, d)`` of any norm.
        targets: ``(N, d)`` of any norm, Q t; no gradient flows into them.
        cosine_weight: w.
        contrast_weight: v.
        temperature: tau.
    """
    student, wanted = normalize(vectors.float(), dim=-1), normalize(targets.detach().float(), dim=-1)
    loss = (1 - (student * wanted).sum(-1)).mean()
    count = len(student)
    if count < 2:
        return loss
    between = wanted @ wanted.T
    if cosine_weight:
        differences = (student @ student.T - between).square()
        loss = loss + cosine_weight * (differences.sum() - differences.diagonal().sum()) / (count * (count - 1))
    if contrast_weight:
        found, known = (log_softmax(cosines / temperature, dim=-1) for cosines in (student @ wanted.T, between))
        loss = loss + contrast_weight * kl_div(found, known, log_target=True, reduction="batchmean")
    return loss


def joined(parts: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """One teacher of several: ``(N, t_1 + t_2 + ...)`` unit rows whose cosines are the weighted mean of the parts'.

    Args:
        parts: ``(N, t_a)`` unit rows of each teacher.
        weights: above 0, of any sum.
    """
    total = sum(weights)
    return torch.cat([part.float() * (weight / total) ** 0.5 for part, weight in zip(parts, weights, strict=True)], -1)


def reduction(teacher: Tensor, width: int) -> Tensor:
    """The ``width`` directions with most of the vectors' energy: ``(t, width)`` with orthonormal columns.

    Not centred, since cosines are taken from the origin.

    Args:
        teacher: ``(N, t)``.
        width: at most t.
    """
    _, vectors = torch.linalg.eigh(teacher.double().T @ teacher.double())
    return vectors.flip(1)[:, :width].float()


def procrustes(teacher: Tensor, student: Tensor) -> Tensor:
    """The orthonormal map that brings a teacher's vectors nearest to a student's, ``(t, d)``: ``T Q ~ Z``.

    ``Q = U V'`` of the singular value decomposition ``T' Z = U S V'`` (Schoenemann 1966); its rows are orthonormal.

    Args:
        teacher: ``(N, t)`` unit rows, t at most d.
        student: ``(N, d)`` unit rows of the same texts.
    """
    left, _, right = torch.linalg.svd(teacher.double().T @ student.double(), full_matrices=False)
    return (left @ right).float()
