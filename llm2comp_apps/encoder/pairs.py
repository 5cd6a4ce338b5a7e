"""How a reranker reads a query and a document: as one row of tokens. Imports no torch.

    [query prompt, query, separator, document, m_1..m_k]

Both sides are tokenised on their own, so that a training set keeps each text once, and a query is tokenised once for
all of its documents. A query may take half of the row, and the document has what is left.

Source: RankLLaMA (Ma et al., arXiv 2310.08319), there with causal attention and the last token in place of the memory.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, Self

from llm2comp_apps.encoder.protocol import FloatArray

__all__ = ["SEPARATOR", "PairReader", "PairScores", "pair_row"]

SEPARATOR = "\ndocument: "
"""Between query and document, unless a checkpoint has another one as its prompt of documents."""


def pair_row(
    query: Sequence[int], document: Sequence[int], separator: Sequence[int], limit: int, first: int | None = None
) -> list[int]:
    """The token ids of a query and a document, without memory tokens.

    Args:
        query: token ids, prompt included.
        document: token ids.
        separator: token ids.
        limit: most tokens of the row.
        first: id that the tokenizer puts in front of every text, if it does; it is left out in front of the document.
    """
    room = limit - len(separator)
    asked = list(query[: room // 2])
    read = document[1:] if first is not None and len(document) and document[0] == first else document
    return [*asked, *separator, *read[: room - len(asked)]]


class PairScores(Protocol):
    """A reranker made from a backbone, by whatever runs it."""

    def score(self, query: str, documents: Sequence[str]) -> FloatArray:
        """Scores ``(n,)`` float32 of n documents for a query: larger is better, comparable within the query only."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class PairReader:
    """Queries and documents as rows of tokens.

    Attributes:
        tokens: token ids of texts, cut to the longest row.
        query_prompt: in front of every query.
        separator: token ids between query and document.
        max_length: tokens of a row.
        first: see :func:`pair_row`.
    """

    tokens: Callable[[Sequence[str]], list[list[int]]]
    query_prompt: str
    separator: list[int]
    max_length: int
    first: int | None

    @classmethod
    def of(
        cls,
        prompts: Mapping[str, str],
        max_length: int,
        *,
        tokens: Callable[[Sequence[str]], list[list[int]]],
        bare: Callable[[str], list[int]],
        first: int | None,
    ) -> Self:
        """By a checkpoint's prompts; ``bare`` gives the token ids of a text without special tokens."""
        separator = bare(prompts.get("document", SEPARATOR))
        query_prompt = prompts.get("query", "")
        return cls(tokens=tokens, query_prompt=query_prompt, separator=separator, max_length=max_length, first=first)

    def rows(self, query: str, documents: Sequence[str]) -> list[list[int]]:
        """Token ids of each pair, without memory tokens."""
        (asked,) = self.tokens([self.query_prompt + query])
        read = self.tokens(documents) if documents else []
        return [pair_row(asked, row, self.separator, self.max_length, self.first) for row in read]
