"""A fitted clustering as far as new documents need it: which topic a text has, by what was fitted or by its vector."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from llm2comp_apps.clustering.algorithms.assign import Assigner, KeyArray, hash_texts
from llm2comp_apps.clustering.algorithms.neighbors import FloatArray, IntArray
from llm2comp_apps.errors import ClusteringError

if TYPE_CHECKING:
    from llm2comp_apps.clustering.pipeline import Clustering
    from llm2comp_apps.clustering.sources import VectorsOf

__all__ = ["FittedModel"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FittedModel:
    """A clustering, as far as new documents need it.

    Attributes:
        assigner: topics of vectors.
        texts: ``(n,)`` uint64, keys of the fitted texts, in the order of the assigner's rows.
        ids: of the C topics.
        names: of the C topics.
        encoder: what made the vectors.
    """

    assigner: Assigner
    texts: KeyArray
    ids: list[int]
    names: list[str]
    encoder: dict[str, str]

    @classmethod
    def of(cls, clustering: Clustering) -> FittedModel:
        """The model of a clustering."""
        topics = clustering.base_topics
        return cls(
            assigner=clustering.assigner,
            texts=clustering.text_keys,
            ids=[topic.id for topic in topics],
            names=[topic.name for topic in topics],
            encoder=clustering.source.encoder,
        )

    def assign(self, texts: Sequence[str], vectors_of: VectorsOf) -> tuple[IntArray, FloatArray]:
        """Find the topics of documents.

        Args:
            texts: m documents. One that was fitted gets the label it got then, whatever its vector is now: a vector
                depends in its last digits on the batch that it was encoded in, or on the machine.
            vectors_of: asked for the vectors ``(q, d)`` of the texts at the given positions, which were not fitted,
                or were with several vectors.

        Returns:
            Labels ``(m,)``, positions in ``ids`` and ``names`` or -1 for outliers, and membership ``(m, C)``.

        Raises:
            ClusteringError: vectors of another width, or that are not numbers.
        """
        rows = self.rows_of(texts)
        labels, membership = self.assigner.labels[rows], self.assigner.membership[rows]
        new = np.flatnonzero(rows < 0).tolist()
        if new:
            labels[new], membership[new] = self.assigner.assign(self.checked(vectors_of(new)))
        return labels, membership

    def rows_of(self, texts: Sequence[str]) -> npt.NDArray[np.int64]:
        """The row of each text that was fitted, ``(m,)``; -1 for others, and for those with several vectors."""
        known, first, copy_of = np.unique(self.texts, return_index=True, return_inverse=True)
        several = np.zeros(len(known), dtype=bool)
        several[copy_of[self.assigner.keys != self.assigner.keys[first[copy_of]]]] = True
        keys = hash_texts(texts)
        place = np.minimum(np.searchsorted(known, keys), len(known) - 1)
        return np.where((known[place] != keys) | several[place], -1, first[place])

    def checked(self, vectors: FloatArray) -> FloatArray:
        """The vectors of new documents, if they can be compared with those that were fitted.

        Raises:
            ClusteringError: another width, or values that are not numbers.
        """
        width = self.assigner.vectors.shape[1]
        if vectors.shape[1] != width:
            raise ClusteringError(f"vectors of width {vectors.shape[1]}; the topics were fitted on width {width}")
        if not np.isfinite(vectors).all():
            raise ClusteringError("vectors with NaN or infinite values cannot be assigned; encode them again")
        return vectors
