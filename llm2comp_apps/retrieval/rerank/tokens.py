r"""Late interaction between the tokens of query and passage, each read in its context by the index's own encoder.

.. math:: s(q, D) = \max_{W \subset D} \sum_i w_i \sum_{j \in W} \operatorname{softmax}_j(c_{ij} / T) \, c_{ij}, \quad
    c_{ij} = \cos(q_i - m, D_j - m)

Each token of the query looks for its like in a window W of the passage, and the best window counts: what answers a
query stands together. The soft maximum asks for tokens that stand out from the rest of their window. Rare tokens weigh
more; how rare a token is, its number tells, since byte pair encoding joins what is frequent first.

m is what the states of all tokens have in common, their mean over a few sentences about different things. All of them
point largely one way (Ethayarajh, EMNLP 2019, arXiv 1909.00512): without m the mean length of unit states is .8, and
what tells tokens apart is lost in it.

Nothing is trained for it, and any encoder of ours will do. Source: MaxSim of Khattab and Zaharia, "ColBERT", SIGIR 2020
(arXiv 2004.12832); states of a middle layer and weights by rarity as in Zhang et al., "BERTScore", ICLR 2020 (arXiv
1904.09675). Window, temperature, layer and share were chosen on train queries.

Where there is no first search to join, the cosine of the whole texts' embeddings takes its place.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from llm2comp_apps.encoder.protocol import FloatArray, ReadsTokens, TextEncoder
from llm2comp_apps.encoder.token_states import TokenStates
from llm2comp_apps.errors import UsageError
from llm2comp_apps.retrieval.rerank.protocol import Passage

__all__ = ["ALONE", "SENTENCES", "TokensReranker", "common_part", "rarity", "soft_max_sim", "without"]

_LONGEST = 320
"""Tokens of a passage that are read."""
_CHARACTERS = 40 * _LONGEST
"""Characters of a passage that hold these tokens in any language; a book need not be cut into tokens for them."""
_STRIDE = 32
"""Tokens from a window to the next; a window has twice as many."""
_TEMPERATURE = 0.05
_FREQUENT = 200
"""Numbers of tokens up to this one are letters, signs and the most frequent words."""
_LEAST = 0.05
ALONE = 0.4
"""Share of the whole texts' cosine where no first search has compared them."""

SENTENCES = (
    "The committee will meet again on Thursday to discuss the budget for the new library, which has risen "
    "by a third since last year.",
    "Patients who were given the drug slept longer, but their blood pressure did not change in the twelve "
    "weeks of the trial.",
    "To undo the last commit without losing your changes, reset the branch to the one before and look at "
    "what is left in the index.",
    "A cell divides in several steps: the chromosomes are copied, drawn apart, and enclosed by two new membranes.",
    "What is the best way to remove a stain of red wine from a cotton shirt?",
    "In 1867 the company laid a cable across the ocean, and messages that had taken ten days arrived within minutes.",
    "The lift of a thin wing at small angles grows with the angle of attack until the flow separates near "
    "its upper edge.",
    "She closed the door quietly, sat down at the window and read the letter once more.",
    "Prices on the stock market fell sharply after the central bank had announced that interest rates would stay high.",
    "We propose a method for the retrieval of documents that ranks them by the probability of being "
    "relevant to a query.",
    "Rivers carry sand and clay to the sea, where they settle in layers and slowly turn into rock.",
    "The striker scored twice in the second half, and the visitors went home with their fifth defeat in a row.",
    "An electric current in a coil produces a magnetic field, whose strength depends on the number of turns.",
    "Add the flour and a pinch of salt, stir until the dough is smooth, and let it rest for an hour.",
    "The court found that the contract was void because neither party had signed it before the date that it named.",
    "Most people in the region speak two languages, one at home and another one at school or at work.",
)
"""What m is taken from: 357 tokens. The mean over 1.6 million tokens of passages points the same way (cosine .985), and
orders passages as well."""


class TokensReranker:
    """Scores passages by what their tokens have in common with the query's.

    Args:
        encoder: reads both.
        whole: share of the cosine of whole texts in a score, from 0 to 1; 0 where a first search knows it already.

    Raises:
        UsageError: it is no LLM2Comp encoder.
    """

    share = 0.3
    """Weight beside the first search, whose knowledge of words and whole texts it lacks."""

    def __init__(self, encoder: TextEncoder, *, whole: float = 0.0) -> None:
        if not isinstance(encoder, ReadsTokens):
            raise UsageError(f"the encoder {encoder.name} shows no tokens to rerank by; take an LLM2Comp checkpoint")
        self._encoder, self._whole = encoder, whole
        # Here, outside of the time that a query has: the first call also opens what reads tokens.
        self._mean = common_part(encoder.encode_tokens(SENTENCES))

    def score(self, query: str, passages: Sequence[Passage]) -> FloatArray:
        """See :class:`Reranker`; a mean of cosines."""
        if not passages:
            return np.zeros(0, np.float32)
        texts = [each.content[:_CHARACTERS] for each in passages]
        asked, *read = self._encoder.encode_tokens([query, *texts], max_length=_LONGEST)
        weights, own = rarity(asked.ids), without(asked.vectors, self._mean)
        cosines = (own @ without(each.vectors, self._mean).T for each in read)
        scores = np.array([soft_max_sim(each, weights) for each in cosines], dtype=np.float32)
        if not self._whole:
            return scores
        joined: FloatArray = (1 - self._whole) * scores + self._whole * self._cosines(query, texts)
        return joined

    def _cosines(self, query: str, texts: Sequence[str]) -> FloatArray:
        """``(n,)`` of the query's embedding to those of texts."""
        prompts = self._encoder.prompts
        asked = self._encoder.encode([query], prompt=prompts.get("query"))[0]
        found: FloatArray = self._encoder.encode(texts, prompt=prompts.get("document")) @ asked
        return found


def common_part(read: Sequence[TokenStates]) -> FloatArray:
    """The mean ``(d,)`` of all tokens of some texts; zeros where they have none."""
    vectors = np.concatenate([each.vectors for each in read])
    mean: FloatArray = vectors.mean(axis=0) if len(vectors) else np.zeros(vectors.shape[1], np.float32)
    return mean


def without(vectors: FloatArray, mean: FloatArray) -> FloatArray:
    """What vectors ``(t, d)`` have beside their common part, brought to unit length."""
    own = vectors - mean
    return own / np.maximum(np.linalg.norm(own, axis=1, keepdims=True), 1e-12)


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
    # A window is two strides. Differences of running sums would lose those that are far from the token's best likeness.
    likeness = np.exp((cosines.astype(np.float64) - 1) / _TEMPERATURE)
    starts = np.arange(0, cosines.shape[1], _STRIDE)
    sums = np.add.reduceat(np.stack([likeness * cosines, likeness]), starts, axis=-1)
    found, total = sums[..., :-1] + sums[..., 1:] if len(starts) > 1 else sums
    return float((weights @ (found / total)).max())
