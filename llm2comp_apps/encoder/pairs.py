"""How a reranker reads a query and a document: as one row of tokens. Imports no torch.

    [query prompt, query, separator, document, m_1..m_k]

Both sides are tokenised on their own, so that a training set keeps each text once, and a query is tokenised once for
all of its documents. A query may take half of the row, and the document has what is left.

Source: RankLLaMA (Ma et al., arXiv 2310.08319), there with causal attention and the last token in place of the memory.
"""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["SEPARATOR", "pair_row"]

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
