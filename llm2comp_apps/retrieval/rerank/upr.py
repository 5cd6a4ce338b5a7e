"""UPR: how likely the query is to a language model that has read the passage (Sachan et al., EMNLP 2022).

    s(q, D) = mean over t of log g(q_t given D, prompt, q_<t)

g is the LM under the encoder as it came, so nothing has to be trained, and any encoder's index will do. It reads all
tokens of all passages, which takes seconds a query on a CPU. https://arxiv.org/abs/2204.07496
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from llm2comp_apps.encoder.protocol import FloatArray
from llm2comp_apps.retrieval.rerank.protocol import Passage

if TYPE_CHECKING:
    from llm2comp_apps.encoder.decoding import TextReader

__all__ = ["PROMPT", "UprReranker"]

PROMPT = "\nPlease write a question based on this passage.\n"
"""UPR's instruction, between passage and query."""
_LONGEST = 512
"""Tokens of a passage that are read."""


class UprReranker:
    """Scores passages by the likelihood of the query, given their text.

    Args:
        reader: the language model.
    """

    def __init__(self, reader: TextReader) -> None:
        self._reader = reader

    def score(self, query: str, passages: Sequence[Passage]) -> FloatArray:
        """See :class:`Reranker`; in nats a token of the query."""
        if not passages:
            return np.zeros(0, np.float32)
        texts = (passage.content for passage in passages)
        likely = [self._reader.likelihood([query], text, prompt=PROMPT, max_length=_LONGEST) for text in texts]
        return np.concatenate(likely)
