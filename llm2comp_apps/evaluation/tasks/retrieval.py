"""Retrieval: do a query's nearest documents answer it?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from llm2comp_apps.evaluation.datasets import RetrievalData
from llm2comp_apps.evaluation.metrics import average_precision, mean_of, ndcg, rank_order, recall, reciprocal_rank
from llm2comp_apps.evaluation.results import TaskScores
from llm2comp_apps.evaluation.tasks.base import Embed, Ranker, Role, Task

__all__ = ["RetrievalTask", "score_run"]

TOP_K = 1000
"""Depth of the rankings that are scored, as in BEIR and MTEB."""

_QUERY_BLOCK = 256

Run = Mapping[str, Mapping[str, float]]


@dataclass(frozen=True)
class RetrievalTask(Task[RetrievalData]):
    """nDCG@10 over the whole corpus by exact cosine search (BEIR, MTEB)."""

    category: ClassVar[str] = "Retrieval"
    main_metric: ClassVar[str] = "ndcg@10"

    def texts(self) -> list[tuple[Role, list[str]]]:
        """Documents and queries."""
        data = self.load()
        return [("document", list(data.corpus.values())), ("query", list(data.queries.values()))]

    def evaluate(self, embed: Embed) -> TaskScores:
        """Rank every document for every query by cosine and score the first 1000."""
        data = self.load()
        run = dense_run(data, embed)
        return score_run(run, data)

    def evaluate_ranker(self, ranker: Ranker) -> TaskScores:
        """Score a system that ranks texts itself, such as BM25."""
        data = self.load()
        return score_run(ranker.search(data.corpus, data.queries, TOP_K, data.titles), data)


def dense_run(data: RetrievalData, embed: Embed) -> dict[str, dict[str, float]]:
    """The 1000 nearest documents of each query by cosine: ``{query id: {document id: cosine}}``."""
    document_ids = list(data.corpus)
    documents = embed([data.corpus[key] for key in document_ids], "document")
    query_ids = list(data.queries)
    queries = embed([data.queries[key] for key in query_ids], "query")
    depth = min(TOP_K, len(document_ids))
    run: dict[str, dict[str, float]] = {}
    for start in range(0, len(query_ids), _QUERY_BLOCK):
        similarity = queries[start : start + _QUERY_BLOCK] @ documents.T
        nearest = np.argpartition(-similarity, depth - 1, axis=1)[:, :depth]
        for query_id, row, columns in zip(query_ids[start:], similarity, nearest, strict=False):
            run[query_id] = {document_ids[column]: float(row[column]) for column in columns}
    return run


def score_run(run: Run, data: RetrievalData) -> TaskScores:
    """Score rankings against the judgements as ``trec_eval`` does; a query without results scores 0.

    A query that stands in the corpus is not its own hit: its document is taken out of its ranking (BEIR, MTEB).

    Returns:
        Means over the judged queries; the units are each query's nDCG@10 in the order of ``data.queries``.
    """
    rows = [_score_query(_others(run.get(query, {}), query, data), data.qrels[query]) for query in data.queries]
    counts = {"documents": len(data.corpus), "queries": len(rows), "judgements": sum(map(len, data.qrels.values()))}
    return TaskScores(mean_of(rows), units=[row["ndcg@10"] for row in rows], counts=counts)


def _others(ranking: Mapping[str, float], query: str, data: RetrievalData) -> Mapping[str, float]:
    """The ranking of a query without the query itself."""
    if query not in data.in_corpus:
        return ranking
    return {document: score for document, score in ranking.items() if document != query}


def _score_query(ranking: Mapping[str, float], judged: Mapping[str, int]) -> dict[str, float]:
    identifiers = sorted(ranking)
    scores = np.asarray([ranking[identifier] for identifier in identifiers])
    order = rank_order(scores, np.arange(len(identifiers)))
    gains = np.asarray([judged.get(identifiers[position], 0) for position in order], dtype=float)
    all_gains = np.asarray(list(judged.values()), dtype=float)
    return {
        "ndcg@10": ndcg(gains, all_gains, 10),
        "recall@100": recall(gains, all_gains, 100),
        "map": average_precision(gains, all_gains),
        "mrr@10": reciprocal_rank(gains, 10),
    }
