"""Whether ready vectors are those of an encoder: a few of them are made again."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import numpy as np

from llm2comp_apps.corpus.document import Document
from llm2comp_apps.encoder.protocol import FloatArray, TextEncoder
from llm2comp_apps.errors import CorpusError
from llm2comp_apps.retrieval.plan import EmbeddingPlan

if TYPE_CHECKING:
    from llm2comp_indexes import Batch, IndexedDocument

__all__ = ["SpotCheck"]

_CHECKED = 4
_LEAST_COSINE = 0.99  # another device or precision moves a vector by less, another order, encoder or prompt by more


class SpotCheck:
    """Encodes a few documents again, spread over all of them, while they stream by.

    Args:
        encoder: what is said to have made the vectors.
        plan: how a document is said to have become vectors.
        rows: how many vectors there are.
    """

    def __init__(self, encoder: TextEncoder, plan: EmbeddingPlan, rows: int) -> None:
        self._encoder = encoder
        self._plan = plan
        self._checked = np.unique(np.linspace(0, max(rows - 1, 0), _CHECKED).astype(int))

    def passing(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """The same batches.

        Raises:
            CorpusError: the vector of a document is not what the encoder makes of it.
        """
        start = 0
        for documents, vectors in batches:
            stop = start + len(vectors)
            mine = self._checked[(start <= self._checked) & (self._checked < stop)] - start
            pieces = _pieces(documents) if len(mine) else []
            for row in mine:
                document, text = pieces[row]
                if document.title or text:  # files of other programs may bring vectors alone
                    self._check(document, text, vectors[row])
            yield documents, vectors
            start = stop

    def _check(self, document: IndexedDocument, text: str, vector: FloatArray) -> None:
        # A chunk is encoded with its title, unless that is too long to leave room for it.
        titles = [document.title] if self._plan.chunk is None and not document.spans else [document.title, ""]
        texts = [content for title in titles if (content := Document(document.id, text, title).content)]
        again = self._encoder.encode(texts, prompt=self._plan.prompt or None)
        cosine = float((again @ vector).max() / max(float(np.linalg.norm(vector)), 1e-30))
        if cosine < _LEAST_COSINE:
            raise CorpusError(
                f"document {document.id!r}: its vector is not what the encoder {self._encoder.name} makes of it "
                f"(cosine {cosine:.2f}); the rows belong to another order, encoder or prompt"
            )


def _pieces(documents: list[IndexedDocument]) -> list[tuple[IndexedDocument, str]]:
    """The document of each row, and the part of its text."""
    return [
        (document, document.text[slice(*span)]) for document in documents for span in document.spans or ((None, None),)
    ]
