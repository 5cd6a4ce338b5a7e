"""The singular-value spectrum of embeddings: how many of the d dimensions are really used."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from llm2comp_apps.encoder.protocol import FloatArray
from llm2comp_apps.errors import EvaluationError

__all__ = ["Spectrum", "measure_spectrum"]


@dataclass(frozen=True, slots=True)
class Spectrum:
    """Singular values of the centred embedding matrix and what they say.

    Attributes:
        singular_values: ``min(n, d)`` values, largest first, divided by sqrt(n - 1): the standard deviation along each
            principal axis.
        effective_dimension: effective rank of Roy and Vetterli (EUSIPCO 2007), exp(H(p)) with p = sigma / sum(sigma);
            d for equal singular values, 1 for a line.
        participation_ratio: (sum lambda)^2 / sum lambda^2 with lambda = sigma^2; heavier on the large ones.
        dimensions_90: principal axes that hold 90 % of the variance.
        dimensions_99: 99 %.
    """

    singular_values: list[float]
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
    sigma = np.linalg.svd(centred, compute_uv=False) / np.sqrt(len(rows) - 1)
    # Rounding leaves singular values of about 1e-16 where there is nothing.
    if sigma[0] < 1e-9:
        raise EvaluationError("all embeddings are equal: the encoder has collapsed to one point")
    share = sigma / sigma.sum()
    variance = sigma**2
    explained = np.cumsum(variance) / variance.sum()
    positive = share[share > 0]
    return Spectrum(
        singular_values=sigma.tolist(),
        effective_dimension=float(np.exp(-(positive * np.log(positive)).sum())),
        participation_ratio=float(variance.sum() ** 2 / (variance**2).sum()),
        dimensions_90=int(np.searchsorted(explained, 0.90) + 1),
        dimensions_99=int(np.searchsorted(explained, 0.99) + 1),
    )
