"""Fixed, seeded samples of a dataset, for suites that must be quick. The same seed always draws the same rows."""

from __future__ import annotations

import random
from collections.abc import Sequence

from llm2comp_apps.evaluation.datasets import ClusteringData, LabelledData, PairData, RerankingData, RetrievalData

__all__ = [
    "sample_clustering",
    "sample_labelled",
    "sample_pairs",
    "sample_reranking",
    "sample_retrieval",
]

SEED = 2026


def _draw(count: int, size: int) -> list[int]:
    """``size`` of ``count`` positions (all where there are fewer), in their original order."""
    return sorted(random.Random(SEED).sample(range(count), min(size, count)))  # noqa: S311 - a sample, no secret


def _take(values: Sequence[str], rows: Sequence[int]) -> list[str]:
    return [values[row] for row in rows]


def sample_pairs(data: PairData, size: int) -> PairData:
    """``size`` pairs."""
    rows = _draw(len(data.gold), size)
    return PairData(_take(data.first, rows), _take(data.second, rows), [data.gold[row] for row in rows])


def sample_labelled(data: LabelledData, size: int) -> LabelledData:
    """All training texts (only the few drawn per label are embedded anyway) and ``size`` test texts."""
    rows = _draw(len(data.test_labels), size)
    return LabelledData(
        data.train_texts, data.train_labels, _take(data.test_texts, rows), _take(data.test_labels, rows)
    )


def sample_clustering(data: ClusteringData, size: int) -> ClusteringData:
    """``size`` texts."""
    rows = _draw(len(data.texts), size)
    return ClusteringData(_take(data.texts, rows), _take(data.labels, rows))


def sample_reranking(data: RerankingData, size: int) -> RerankingData:
    """``size`` queries with all their candidates."""
    rows = _draw(len(data.queries), size)
    return RerankingData(
        _take(data.queries, rows), [data.positives[row] for row in rows], [data.negatives[row] for row in rows]
    )


def sample_retrieval(data: RetrievalData, queries: int, documents: int, max_words: int | None = None) -> RetrievalData:
    """``queries`` queries over a sub-corpus: every document judged for them, filled up to ``documents`` at random.

    Args:
        data: the whole set.
        queries: how many queries.
        documents: size of the sub-corpus; more where the judged documents alone are more.
        max_words: cut documents after so many words.

    Returns:
        The smaller set. Its scores are higher than the whole set's: there is less to confuse.
    """
    names = list(data.queries)
    kept = [names[row] for row in _draw(len(names), queries)]
    judged = {document for query in kept for document in data.qrels[query]} & data.corpus.keys()
    others = [document for document in data.corpus if document not in judged]
    fill = {others[row] for row in _draw(len(others), max(0, documents - len(judged)))}

    def cut(texts: dict[str, str]) -> dict[str, str]:
        return {
            key: " ".join(text.split()[:max_words]) if max_words else text
            for key, text in texts.items()
            if key in judged or key in fill
        }

    asked = {key: data.queries[key] for key in kept}
    qrels = {key: data.qrels[key] for key in kept}
    return RetrievalData(cut(data.corpus), asked, qrels, data.in_corpus.intersection(kept), cut(data.titles))
