r"""Late interaction between the tokens of query and passage, each read in its context by the index's own encoder.

.. math:: s(q, D) = \max_{W \subset D} \sum_i w_i \sum_{j \in W} \operatorname{softmax}_j(c_{ij} / T) \, c_{ij}, \quad
    c_{ij} = \cos(q_i, D_j)

Each token of the query looks for its like in a window W of the passage, and the best window counts: what answers a
query stands together. The soft maximum asks for tokens that stand out from the rest of their window. Rare tokens weigh
more; how rare a token is, its number tells, since byte pair encoding joins what is frequent first.

Nothing is trained for it, and any encoder of ours will do. Source: MaxSim of Khattab and Zaharia, "ColBERT", SIGIR 2020
(arXiv 2004.12832); states of a middle layer and weights by rarity as in Zhang et al., "BERTScore", ICLR 2020 (arXiv
1904.09675). Window, temperature, layer and share were chosen on train queries.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from llm2comp_apps.encoder.protocol import FloatArray, ReadsTokens, TextEncoder
from llm2comp_apps.errors import UsageError
from llm2comp_apps.retrieval.rerank.protocol import Passage

__all__ = ["TokensReranker", "rarity", "soft_max_sim"]

_LONGEST = 320
"""Tokens of a passage that are read."""
_CHARACTERS = 40 * _LONGEST
"""Characters of a passage that hold these tokens in any language; a book need not be cut into tokens for them."""
_WINDOW = 64
_STRIDE = 32
_TEMPERATURE = 0.05
_FREQUENT = 200
"""Numbers of tokens up to this one are letters, signs and the most frequent words."""
_LEAST = 0.05


class TokensReranker:
    """Scores passages by what their tokens have in common with the query's.

    Args:
        encoder: reads both.

    Raises:
        UsageError: it is no LLM2Comp encoder.
    """

    share = 0.3
    """Weight beside the first search, whose knowledge of words and whole texts it lacks."""

    def __init__(self, encoder: TextEncoder) -> None:
        if not isinstance(encoder, ReadsTokens):
            raise UsageError(f"the encoder {encoder.name} shows no tokens to rerank by; take an LLM2Comp checkpoint")
        self._encoder = encoder
        encoder.encode_tokens([])  # opens what reads them, outside of the time that a query has

    def score(self, query: str, passages: Sequence[Passage]) -> FloatArray:
        """See :class:`Reranker`; a mean of cosines."""
        if not passages:
            return np.zeros(0, np.float32)
        texts = [each.content[:_CHARACTERS] for each in passages]
        asked, *read = self._encoder.encode_tokens([query, *texts], max_length=_LONGEST)
        weights = rarity(asked.ids)
        return np.array([soft_max_sim(asked.vectors @ each.vectors.T, weights) for each in read], dtype=np.float32)


def rarity(ids: npt.NDArray[np.int64]) -> FloatArray:
    """Weights of tokens ``(t,)`` with a sum of 1, larger for rarer ones."""
    weights = np.maximum(np.log(np.maximum(ids, 1) / _FREQUENT), _LEAST).astype(np.float32)
    shares: FloatArray = weights / max(float(weights.sum()), 1e-12)
    return shares


def soft_max_sim(cosines: FloatArray, weights: FloatArray) -> float:
    """The score of the best window, see the module.

    Args:
        cosines: ``(q, t)`` of the query's tokens to the passage's.
        weights: ``(q,)`` of the query's tokens.

    Returns:
        -1 where query or passage have no tokens.
    """
    if not cosines.size:
        return -1.0
    tokens = cosines.shape[1]
    # Sums over windows are differences of running sums; float64, since these grow with the passage.
    likeness = np.exp((cosines.astype(np.float64) - 1) / _TEMPERATURE)
    running = np.cumsum(np.stack([likeness * cosines, likeness]), axis=-1)
    running = np.concatenate([np.zeros((2, len(cosines), 1)), running], axis=-1)
    starts = np.arange(0, max(1, tokens - _STRIDE), _STRIDE)
    ends = np.minimum(starts + _WINDOW, tokens)
    found, total = running[..., ends] - running[..., starts]
    return float((weights @ (found / np.maximum(total, 1e-300))).max())
