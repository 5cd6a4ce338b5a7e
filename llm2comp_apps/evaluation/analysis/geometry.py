"""Alignment and uniformity on the unit sphere (Wang and Isola, ICML 2020, arXiv 2005.10242)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from llm2comp_apps.encoder.protocol import FloatArray
from llm2comp_apps.errors import EvaluationError

__all__ = ["Geometry", "alignment", "measure_geometry", "uniformity"]

_BLOCK = 512


@dataclass(frozen=True, slots=True)
class Geometry:
    """How near positives are and how evenly everything is spread; lower is better for the first two.

    Attributes:
        alignment: E ||f(x) - f(x+)||^2 over positive pairs.
        uniformity: log E exp(-2 ||f(x) - f(y)||^2) over distinct texts; 0 when all are one point, about -4 when even.
        mean_cosine: mean cosine of two distinct texts: near 1 for a collapsed (anisotropic) space.
    """

    alignment: float
    uniformity: float
    mean_cosine: float


def measure_geometry(positives: tuple[FloatArray, FloatArray], texts: FloatArray) -> Geometry:
    """Measure unit-norm embeddings.

    Args:
        positives: two ``(p, d)`` matrices whose row i are a pair of like meaning.
        texts: ``(n, d)`` distinct texts.

    Raises:
        EvaluationError: no positive pairs, or fewer than two texts.
    """
    count = len(texts)
    if count < 2:
        raise EvaluationError(f"uniformity needs at least two texts, found {count}")
    mean_cosine = (float(np.square(texts.sum(axis=0, dtype=np.float64)).sum()) - count) / (count * (count - 1))
    return Geometry(alignment(*positives), uniformity(texts), mean_cosine)


def alignment(first: FloatArray, second: FloatArray) -> float:
    """Mean squared distance of n pairs, the rows of two ``(n, d)`` (alpha = 2).

    Raises:
        EvaluationError: there are none.
    """
    if len(first) == 0:
        raise EvaluationError("alignment needs positive pairs; the chosen STS set has none with a top score")
    return float(np.square(first.astype(np.float64) - second).sum(axis=1).mean())


def uniformity(texts: FloatArray) -> float:
    """Logarithm of the mean Gaussian potential over all pairs of distinct rows (t = 2)."""
    rows = texts.astype(np.float64)
    norms = np.square(rows).sum(axis=1)
    total = 0.0
    for start in range(0, len(rows), _BLOCK):
        block = rows[start : start + _BLOCK]
        squared = norms[start : start + _BLOCK, None] + norms[None, :] - 2.0 * block @ rows.T
        total += float(np.exp(-2.0 * np.maximum(squared, 0.0)).sum())
    pairs = len(rows) * (len(rows) - 1)
    return float(np.log((total - len(rows)) / pairs))
