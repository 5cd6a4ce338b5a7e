"""How good the hits are: nDCG@10 and recall@100 of every way to search an index, by pytrec_eval.

    llm2comp index build ../shared/data/eval/retrieval/scifact -o scifact.index --memory
    python tests/benchmarks/bench_search_quality.py --index scifact.index --task scifact

    python tests/benchmarks/bench_search_quality.py --all indexes/

``--all`` prints nDCG@10 of every way to join meaning and words, on every retrieval set of ``$LLM2COMP_DATA`` and on two
sets of everyday questions (everyday.py). Indexes that the folder lacks are built there: an hour on two cores.

Modes are lexical, dense, hybrid (by every fusion; by ``learned`` if ``llm2comp index tune`` has learned weights), each
also reranked by MaxSim over memory vectors, if the index stores them, and by ``--cross-encoder``, if one is named.
Cost is given as milliseconds per query, all of it and reranking alone (which encodes the query once more), and bytes of
memory vectors per document. Queries and judgements are read from ``$LLM2COMP_DATA/eval/retrieval/TASK``.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import everyday
import pytrec_eval

from llm2comp_apps.corpus import read_corpus
from llm2comp_apps.retrieval.collection import Collection
from llm2comp_apps.retrieval.fusion import Fusion
from llm2comp_apps.retrieval.index_encoder import load_index_encoder
from llm2comp_apps.retrieval.learned import LEARNED, LearnedFusion
from llm2comp_apps.retrieval.options import SearchOptions
from llm2comp_apps.retrieval.rerank import CrossEncoderReranker, MemoryReranker, Reranker
from llm2comp_apps.retrieval.search import Searcher
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


WAYS: dict[str, dict[str, Any]] = {
    "dense": {"mode": "dense"},
    "lexical": {"mode": "lexical"},
    "minmax": {"fusion": "minmax"},
    "rrf": {"fusion": "rrf"},
    "weighted": {},
}


def sets() -> Iterator[tuple[str, Path | None, Path, Path]]:
    """Name, corpus (``None`` for one that is made of this machine), queries and judgements of each set."""
    for folder in sorted((DATA / "eval" / "retrieval").iterdir()):
        if (folder / "qrels.tsv").is_file():
            yield folder.name, folder / "corpus.jsonl.gz", folder / "queries.jsonl.gz", folder / "qrels.tsv"
    for name in ("pydocs", "man"):
        yield name, None, everyday.DATA / f"{name}.queries.jsonl", everyday.DATA / f"{name}.qrels.tsv"


def index_of(name: str, corpus: Path | None, folder: Path, encoder: str, chunk: int | None) -> Path:
    """The index of a set, built if it is not there."""
    path = folder / f"{name}.index"
    if not path.is_dir():
        if corpus is None:
            corpus = folder / f"{name}.jsonl"
            everyday.write_corpus(name, corpus)
        with Collection.create(path, encoder=encoder, chunk=chunk) as library:
            library.update(read_corpus([str(corpus)]))
    return path


def print_all(folder: Path, encoder: str, chunk: int | None) -> None:
    """A table of nDCG@10, times 100, of every set and every way to search it."""
    print(f"{'':20}" + "".join(f"{name:>10}" for name in WAYS))
    rows = []
    for name, corpus, questions, judgements in sets():
        with Collection.open(index_of(name, corpus, folder, encoder, chunk)) as library:
            qrels = read_qrels(judgements)
            texts = {query.id: query.content for query in read_corpus([str(questions)])}
            queries = {query: texts[query] for query in qrels}
            searcher = library.searcher()
            ways = [measure(searcher, SearchOptions(k=100, **settings), queries, qrels) for settings in WAYS.values()]
        rows.append([100 * figures["ndcg_cut_10"] for figures in ways])
        print(f"{name:20}" + "".join(f"{value:10.1f}" for value in rows[-1]), flush=True)
    print(f"{'mean':20}" + "".join(f"{sum(column) / len(rows):10.1f}" for column in zip(*rows, strict=True)))


def main() -> None:
    """Measure every way to search that the index allows; one JSON object a line."""
    from llm2comp_indexes import Index

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--index", type=Path)
    parser.add_argument("--task")
    parser.add_argument("--cross-encoder")
    parser.add_argument("--all", type=Path, metavar="FOLDER")
    parser.add_argument("--encoder", default="default")
    parser.add_argument("--chunk", type=int, help="of the indexes that --all builds")
    arguments = parser.parse_args()
    if arguments.all:
        arguments.all.mkdir(parents=True, exist_ok=True)
        print_all(arguments.all, arguments.encoder, arguments.chunk)
        return
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
    ways = [fusion for fusion in get_args(Fusion) if fusion != LEARNED or LearnedFusion.of(index.settings)]
    hybrids = [("hybrid", fusion) for fusion in ways]
    for mode, fusion in (("lexical", "weighted"), ("dense", "weighted"), *hybrids):
        for name, reranker in rerankers.items():
            clock = Stopwatch()
            searcher = Searcher(index, encoder, reranker=reranker, stopwatch=clock)
            figures = measure(searcher, SearchOptions(k=100, mode=mode, fusion=fusion), queries, qrels)
            figures["rerank_ms_per_query"] = 1000 * clock.parts.get("rerank", 0.0) / len(queries)
            print(json.dumps({"mode": mode, "fusion": fusion, "rerank": name, **figures}), flush=True)


if __name__ == "__main__":
    main()
