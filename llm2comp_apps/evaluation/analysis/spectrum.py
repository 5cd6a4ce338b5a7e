"""The singular-value spectrum of embeddings: how many of the d dimensions are really used."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from llm2comp_apps.encoder.protocol import FloatArray
from llm2comp_apps.errors import EvaluationError

__all__ = ["Spectrum", "measure_spectrum"]


@dataclass(frozen=True, slots=True)
class Spectrum:
    """Singular values of the embeddings' covariance matrix (Jing et al., ICLR 2022) and what they say.

    Attributes:
        variances: ``min(n, d)`` singular values lambda of the covariance matrix, largest first: the variance along
            each principal axis.
        effective_dimension: the covariance matrix's effective rank (Roy and Vetterli, EUSIPCO 2007), exp(H(p)) with
            p = lambda / sum(lambda): d for an even space, 1 for a line.
        participation_ratio: (sum lambda)^2 / sum lambda^2, heavier on the large ones.
        dimensions_90: principal axes that hold 90 % of the variance.
        dimensions_99: 99 %.
    """

    variances: list[float]
    effective_dimension: float
    participation_ratio: float
    dimensions_90: int
    dimensions_99: int


def measure_spectrum(vectors: FloatArray) -> Spectrum:
    """Measure the spectrum of ``(n, d)`` embeddings.

    Raises:
        EvaluationError: fewer than two rows, or all rows equal: there is no spectrum.
    """
    rows = vectors.astype(np.float64)
    if len(rows) < 2:
        raise EvaluationError(f"a spectrum needs at least two embeddings, found {len(rows)}")
    centred = rows - rows.mean(axis=0)
    variances = np.square(np.linalg.svd(centred, compute_uv=False)) / (len(rows) - 1)
    # Rounding leaves singular values of about 1e-16 where there is nothing.
    if variances[0] < 1e-16:
        raise EvaluationError("all embeddings are equal: the encoder has collapsed to one point")
    share = variances / variances.sum()
    explained = np.cumsum(share)
    positive = share[share > 0]
    return Spectrum(
        variances=variances.tolist(),
        effective_dimension=float(np.exp(-(positive * np.log(positive)).sum())),
        participation_ratio=float(1.0 / np.square(share).sum()),
        dimensions_90=int(np.searchsorted(explained, 0.90) + 1),
        dimensions_99=int(np.searchsorted(explained, 0.99) + 1),
    )
