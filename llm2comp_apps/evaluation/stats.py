"""Is the difference real: paired bootstrap intervals, a randomisation test, and a correction for many comparisons."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from llm2comp_apps.errors import EvaluationError

__all__ = ["PairedDifference", "holm", "paired_difference"]

RESAMPLES = 10_000
_BLOCK = 500


@dataclass(frozen=True, slots=True)
class PairedDifference:
    """How system a differs from system b on the same units.

    Attributes:
        delta: mean of a minus mean of b.
        low: lower end of the 95 % bootstrap interval of ``delta``.
        high: upper end.
        p_value: two-sided, from the randomisation test.
        units: how many queries or texts were compared.
    """

    delta: float
    low: float
    high: float
    p_value: float
    units: int


def paired_difference(
    a: Sequence[float], b: Sequence[float], *, resamples: int = RESAMPLES, seed: int = 0
) -> PairedDifference:
    """Compare two systems unit by unit.

    The interval is the percentile bootstrap over units (Efron and Tibshirani 1993). The p-value is Fisher's
    randomisation test as recommended for retrieval by Smucker, Allan and Carterette (CIKM 2007): under the null
    hypothesis the two systems' scores on a unit may be swapped, so each difference's sign is random;
    p = (1 + #{|mean of randomly signed differences| >= |observed mean|}) / (1 + resamples).

    Args:
        a: score of each unit under the first system.
        b: the same units under the second.
        resamples: of the bootstrap and of the test.
        seed: of both.

    Raises:
        EvaluationError: the two do not have the same number of units, or none.
    """
    differences = np.asarray(a, dtype=np.float64) - np.asarray(b, dtype=np.float64) if len(a) == len(b) else None
    if differences is None or len(differences) == 0:
        raise EvaluationError(f"a paired comparison needs the same units on both sides, found {len(a)} and {len(b)}")
    rng = np.random.default_rng(seed)
    size = len(differences)
    observed = differences.mean()
    means, extreme = [], 0
    for start in range(0, resamples, _BLOCK):
        block = min(_BLOCK, resamples - start)
        means.append(differences[rng.integers(0, size, (block, size))].mean(axis=1))
        signs = rng.integers(0, 2, (block, size), dtype=np.int8) * 2 - 1
        # Swapping every unit gives the observed mean again up to rounding, which must count as a tie.
        extreme += int(np.sum(np.abs(signs @ differences / size) >= abs(observed) - 1e-12))
    low, high = np.percentile(np.concatenate(means), [2.5, 97.5])
    return PairedDifference(float(observed), float(low), float(high), (1 + extreme) / (1 + resamples), size)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjustment (1979): p-values that bound the chance of even one false claim among all of them."""
    order = np.argsort(p_values, kind="stable")
    adjusted = np.empty(len(p_values))
    running = 0.0
    for rank, position in enumerate(order):
        running = max(running, min(1.0, (len(p_values) - rank) * p_values[position]))
        adjusted[position] = running
    return adjusted.tolist()
