"""How good the hits are: nDCG@10 and recall@100 of every way to search an index, by pytrec_eval.

    llm2comp index build ../shared/data/eval/retrieval/scifact -o scifact.index --memory
    python tests/benchmarks/bench_search_quality.py --index scifact.index --task scifact

Modes are lexical, dense, hybrid (min-max and reciprocal ranks), each also reranked by MaxSim over memory vectors, if
the index stores them, and by ``--cross-encoder``, if one is named. Cost is given as milliseconds per query, all of it
and reranking alone (which encodes the query once more), and bytes of memory vectors per document. Queries and
judgements are read from ``$LLM2COMP_DATA/eval/retrieval/TASK``.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import time
from pathlib import Path
from typing import Any

import pytrec_eval

from llm2comp_apps.corpus import read_corpus
from llm2comp_apps.retrieval.index_encoder import load_index_encoder
from llm2comp_apps.retrieval.rerank import CrossEncoderReranker, MemoryReranker, Reranker
from llm2comp_apps.retrieval.search import Searcher, SearchOptions
from llm2comp_apps.retrieval.stopwatch import Stopwatch

REPOSITORY = Path(__file__).parents[2]
DATA = Path(os.environ.get("LLM2COMP_DATA", REPOSITORY.parent / "shared" / "data"))
MEASURES = {"ndcg_cut.10", "recall.100"}


def read_qrels(path: Path) -> dict[str, dict[str, int]]:
    """Judgements by query and document."""
    qrels: dict[str, dict[str, int]] = {}
    with path.open(encoding="utf-8") as file:
        for row in csv.DictReader(file, delimiter="\t"):
            qrels.setdefault(row["query-id"], {})[row["corpus-id"]] = int(row["score"])
    return qrels


def measure(searcher: Searcher, options: SearchOptions, queries: dict[str, str], qrels: Any) -> dict[str, float]:
    """Means over all judged queries, and milliseconds per query."""
    start = time.perf_counter()
    rankings = searcher.rank(list(queries.values()), options)
    elapsed = time.perf_counter() - start
    run = {
        name: {ranked.id: ranked.score for ranked in ranking} for name, ranking in zip(queries, rankings, strict=True)
    }
    values = pytrec_eval.RelevanceEvaluator(qrels, MEASURES).evaluate(run)
    means = {
        name: sum(measured.get(name, 0.0) for measured in values.values()) / len(qrels)
        for name in ("ndcg_cut_10", "recall_100")
    }
    return {**means, "ms_per_query": 1000 * elapsed / len(queries)}


def main() -> None:
    """Measure every way to search that the index allows; one JSON object a line."""
    from llm2comp_indexes import Index

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--index", type=Path, required=True)
    parser.add_argument("--task", required=True)
    parser.add_argument("--cross-encoder")
    arguments = parser.parse_args()
    folder = DATA / "eval" / "retrieval" / arguments.task
    qrels = read_qrels(folder / "qrels.tsv")
    texts = {query.id: query.content for query in read_corpus([str(folder / "queries.jsonl.gz")])}
    queries = {name: texts[name] for name in qrels}
    index = Index.open(arguments.index)
    encoder = load_index_encoder(index)
    rerankers: dict[str, Reranker | None] = {"none": None}
    if index.memory_tokens:
        rerankers["memory"] = MemoryReranker(encoder, index.memory)
        bytes_per_row = index.memory_tokens * index.dimension * 2
        print(json.dumps({"memory_bytes_per_document": bytes_per_row * index.info().vectors / len(index)}))
    if arguments.cross_encoder:
        rerankers[arguments.cross_encoder] = CrossEncoderReranker(arguments.cross_encoder)
    for mode, fusion in (("lexical", "minmax"), ("dense", "minmax"), ("hybrid", "minmax"), ("hybrid", "rrf")):
        for name, reranker in rerankers.items():
            clock = Stopwatch()
            searcher = Searcher(index, encoder, reranker=reranker, stopwatch=clock)
            figures = measure(searcher, SearchOptions(k=100, mode=mode, fusion=fusion), queries, qrels)
            figures["rerank_ms_per_query"] = 1000 * clock.parts.get("rerank", 0.0) / len(queries)
            print(json.dumps({"mode": mode, "fusion": fusion, "rerank": name, **figures}), flush=True)


if __name__ == "__main__":
    main()
