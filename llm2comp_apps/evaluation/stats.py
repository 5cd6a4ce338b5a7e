"""Is the difference real: paired bootstrap intervals, a randomisation test, and a correction for many comparisons.

A score that is a mean over units (queries, texts) is compared by :func:`paired_difference`, one that is computed from
all pairs at once (Spearman, average precision) by :func:`pairs_difference`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from llm2comp_apps.errors import EvaluationError

__all__ = [
    "PairedDifference",
    "holm",
    "paired_difference",
    "pairs_difference",
    "resampled_average_precision",
    "resampled_spearman",
]

RESAMPLES = 10_000
PAIRS_RESAMPLES = 1_000
"""Each costs as much as the metric; enough for an interval and a standard error."""
_BLOCK = 500
_NUMBERS_AT_ONCE = 2_000_000  # of one array: 16 MB

Floats = npt.NDArray[np.float64]
Resampled = Callable[[Floats], Callable[[Floats, Floats], Floats]]
"""Gold values to a function of (scores, counts): the metric of each resample."""


@dataclass(frozen=True, slots=True)
class PairedDifference:
    """How system a differs from system b on the same units.

    Attributes:
        delta: mean of a minus mean of b.
        low: lower end of the 95 % bootstrap interval of ``delta``.
        high: upper end.
        p_value: two-sided, from the randomisation test; over pairs, from the bootstrap's standard error.
        units: how many queries, texts or pairs were compared.
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
    step = max(1, min(_BLOCK, _NUMBERS_AT_ONCE // size))
    for start in range(0, resamples, step):
        block = min(step, resamples - start)
        means.append(differences[rng.integers(0, size, (block, size))].mean(axis=1))
        signs = rng.integers(0, 2, (block, size), dtype=np.int8) * 2 - 1
        # Swapping every unit gives the observed mean again up to rounding, which must count as a tie.
        extreme += int(np.sum(np.abs(signs @ differences / size) >= abs(observed) - 1e-12))
    low, high = np.percentile(np.concatenate(means), [2.5, 97.5])
    return PairedDifference(float(observed), float(low), float(high), (1 + extreme) / (1 + resamples), size)


def pairs_difference(
    metric: Resampled,
    a: Sequence[float],
    b: Sequence[float],
    gold: Sequence[float],
    *,
    resamples: int = PAIRS_RESAMPLES,
    seed: int = 0,
) -> PairedDifference:
    """Compare two systems by a metric over all pairs at once.

    Both are measured on the same resamples of the pairs (percentile bootstrap, Efron and Tibshirani 1993). Swapping the
    systems' scores of a pair, as the randomisation test does, would mix two scales of cosine; so the p-value comes from
    the bootstrap's standard error: p = 2 (1 - Phi(|observed| / standard deviation of the resampled differences)).

    Args:
        metric: :func:`resampled_spearman` or :func:`resampled_average_precision`.
        a: score of each pair under the first system.
        b: the same pairs under the second.
        gold: what people say of each pair.
        resamples: of the bootstrap.
        seed: of the bootstrap.

    Raises:
        EvaluationError: the two do not have the same pairs, or fewer than two.
    """
    size = len(gold)
    if not len(a) == len(b) == size or size < 2:
        raise EvaluationError(f"a paired comparison needs the same pairs on both sides, found {len(a)} and {len(b)}")
    first, second = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    measure = metric(np.asarray(gold, dtype=np.float64))
    once = np.ones((1, size))
    observed = float((measure(first, once) - measure(second, once))[0])
    rng = np.random.default_rng(seed)
    block = max(1, _NUMBERS_AT_ONCE // size)
    found = []
    for start in range(0, resamples, block):
        rows = min(block, resamples - start)
        drawn = rng.integers(0, size, (rows, size)) + size * np.arange(rows)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=rows * size).reshape(rows, size).astype(np.float64)
        found.append(measure(first, counts) - measure(second, counts))
    deltas = np.concatenate(found)
    low, high = np.percentile(deltas, [2.5, 97.5])
    error = float(np.std(deltas, ddof=1))
    p_value = math.erfc(abs(observed) / error / math.sqrt(2)) if error > 0 else float(observed == 0)
    return PairedDifference(observed, float(low), float(high), p_value, size)


def resampled_spearman(gold: Floats) -> Callable[[Floats, Floats], Floats]:
    """Spearman's correlation of ``scores`` with ``gold`` in each resample; 0 where one side is constant.

    A resample is given by how often it holds each pair, ``(resamples, n)``. Sorting once and counting gives the ranks
    in all resamples, ties at their mean rank, as ranking each resample by itself would.
    """

    def measure(scores: Floats, counts: Floats) -> Floats:
        x, y = _mean_ranks(scores, counts), _mean_ranks(gold, counts)
        centre = (counts.sum(axis=1, keepdims=True) + 1) / 2  # the mean of all ranks, ties or not
        x, y = x - centre, y - centre
        covariance = np.einsum("rn,rn,rn->r", counts, x, y)
        spread = np.sqrt(np.einsum("rn,rn,rn->r", counts, x, x) * np.einsum("rn,rn,rn->r", counts, y, y))
        return np.divide(covariance, spread, out=np.zeros_like(spread), where=spread > 0)

    return measure


def resampled_average_precision(gold: Floats) -> Callable[[Floats, Floats], Floats]:
    """Average precision of ``scores`` for the pairs with ``gold`` 1, as scikit-learn has it; 0 without such pairs.

    See :func:`resampled_spearman` for what a resample is. AP = sum over distinct scores, best first, of the share of
    the positives that have this score times the precision down to it.
    """

    def measure(scores: Floats, counts: Floats) -> Floats:
        order, starts, _ = _ties(-scores)
        drawn = np.add.reduceat(counts[:, order], starts, axis=1)
        positive = np.add.reduceat((counts * (gold > 0))[:, order], starts, axis=1)
        seen = np.cumsum(drawn, axis=1)
        precision = np.divide(np.cumsum(positive, axis=1), seen, out=np.zeros_like(seen), where=seen > 0)
        total = positive.sum(axis=1)
        return np.divide((positive * precision).sum(axis=1), total, out=np.zeros_like(total), where=total > 0)

    return measure


def _mean_ranks(values: Floats, counts: Floats) -> Floats:
    """Rank of each value in each resample, from 1: ``(resamples, n)``; meaningless where the count is 0."""
    order, starts, group_of = _ties(values)
    sizes = np.add.reduceat(counts[:, order], starts, axis=1)
    ranks: Floats = (np.cumsum(sizes, axis=1) - (sizes - 1) / 2)[:, group_of]
    return ranks


def _ties(values: Floats) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """The ascending order, where each group of equal values starts in it, and the group of each value."""
    order = np.argsort(values, kind="stable")
    starts = np.flatnonzero(np.diff(values[order], prepend=np.nan) != 0)
    group_of = np.empty(len(values), dtype=np.intp)
    group_of[order] = np.repeat(np.arange(len(starts)), np.diff(starts, append=len(values)))
    return order, starts, group_of


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjustment (1979): p-values that bound the chance of even one false claim among all of them."""
    order = np.argsort(p_values, kind="stable")
    adjusted = np.empty(len(p_values))
    running = 0.0
    for rank, position in enumerate(order):
        running = max(running, min(1.0, (len(p_values) - rank) * p_values[position]))
        adjusted[position] = running
    return adjusted.tolist()
