r"""Learning the network of :mod:`.ltr` on, from the queries of one index.

.. math:: L = -\frac{1}{|Q|} \sum_{q \in Q} \sum_{i \in A_q} \frac{1}{|A_q|} \log \operatorname{softmax}_i s_q
    + \lambda \lVert W - W_0 \rVert^2

with the answers :math:`A_q` among the hits of a query, and the weights :math:`W_0` that it starts from. That is ListNet
(Cao et al., ICML 2007), minimised by Adam (Kingma and Ba, ICLR 2015) over all queries at once, so that equal queries
give equal weights. Steps, rate and :math:`\lambda` were chosen on halves of SciFact's train queries.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from llm2comp_apps.encoder.protocol import FloatArray
from llm2comp_apps.retrieval.rerank.ltr import Network

__all__ = ["KnownHits", "learned_on"]

_STEPS, _RATE, _DECAY = 100, 0.03, 1e-3
_BETAS, _EPSILON = (0.9, 0.999), 1e-8

_Array = npt.NDArray[np.float64]


class KnownHits(NamedTuple):
    """The hits of a query whose answers are known.

    Attributes:
        rows: their features ``(n, f)``.
        answers: ``(n,)``, which of them are answers.
    """

    rows: FloatArray
    answers: npt.NDArray[np.bool_]


def learned_on(start: Network, queries: Sequence[KnownHits]) -> Network:
    """A network that orders the hits of these queries better.

    Args:
        start: what it learns on from.
        queries: those without an answer among their hits teach nothing.
    """
    taught = [each for each in queries if each.answers.any()]
    if not taught:
        return start
    rows = np.concatenate([each.rows for each in taught]).astype(np.float64)
    wanted = np.concatenate([each.answers / each.answers.sum() for each in taught])
    starts = np.cumsum([0, *(len(each.rows) for each in taught[:-1])])
    sizes = np.array([len(each.rows) for each in taught])
    begun = [np.asarray(each, dtype=np.float64) for each in (start.linear, start.inner, start.bias, start.outer)]
    weights, means, squares = list(begun), [np.zeros_like(w) for w in begun], [np.zeros_like(w) for w in begun]
    for step in range(1, _STEPS + 1):
        for place, slope in enumerate(_slopes(weights, rows, wanted, starts, sizes)):
            slope += 2 * _DECAY * (weights[place] - begun[place])
            means[place] = _BETAS[0] * means[place] + (1 - _BETAS[0]) * slope
            squares[place] = _BETAS[1] * squares[place] + (1 - _BETAS[1]) * slope**2
            mean, square = means[place] / (1 - _BETAS[0] ** step), squares[place] / (1 - _BETAS[1] ** step)
            weights[place] = weights[place] - _RATE * mean / (np.sqrt(square) + _EPSILON)
    linear, inner, bias, outer = (each.astype(np.float32) for each in weights)
    return Network(linear=linear, inner=inner, bias=bias, outer=outer)


def _slopes(
    weights: Sequence[_Array], rows: _Array, wanted: _Array, starts: npt.NDArray[np.int64], sizes: npt.NDArray[np.int64]
) -> list[_Array]:
    """The gradient of the first term of the loss by each weight."""
    linear, inner, bias, outer = weights
    before = rows @ inner.T + bias
    hidden = np.maximum(before, 0)
    scores = rows @ linear + hidden @ outer
    likely = np.exp(scores - np.repeat(np.maximum.reduceat(scores, starts), sizes))
    likely /= np.repeat(np.add.reduceat(likely, starts), sizes)
    error = (likely - wanted) / len(starts)
    back = error[:, None] * outer * (before > 0)
    return [error @ rows, back.T @ rows, back.sum(axis=0), error @ hidden]
