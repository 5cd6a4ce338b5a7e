"""What rerankers bring and cost: nDCG@10 of a search with and without each of them, and milliseconds a query.

    llm2comp index build DATA/eval/retrieval/cranfield/corpus.jsonl.gz -o cranfield.index --memory
    python tests/benchmarks/bench_rerank.py DATA/eval/retrieval/cranfield cranfield.index memory runs/rerank/encoder

The folder holds ``queries.jsonl.gz`` and ``qrels.tsv``. The last lines join a reranker's scores with those of hybrid
search, each scaled to 0 to 1 over the candidates, by several weights: choose one on queries of training, never here.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from llm2comp_apps import Collection
from llm2comp_apps.corpus import read_records
from llm2comp_apps.evaluation.metrics import ndcg
from llm2comp_apps.retrieval.hits import Ranked
from llm2comp_apps.retrieval.search import SearchOptions

_WEIGHTS = (0.1, 0.2, 0.3, 0.5)


def score(rankings: Sequence[Sequence[Ranked]], judged: Sequence[dict[str, int]]) -> float:
    """Mean nDCG@10 in percent."""
    pairs = zip(rankings, judged, strict=True)
    rows = [(np.array([known.get(hit.id, 0) for hit in hits]), np.array([*known.values()])) for hits, known in pairs]
    return 100 * float(np.mean([ndcg(gains, ideal, 10) for gains, ideal in rows]))


def joined(first: Sequence[Ranked], second: Sequence[Ranked], weight: float) -> list[Ranked]:
    """The candidates of both by a weighted mean of their scaled scores; ``weight`` is the second's."""
    scaled = [_scaled(first), _scaled(second)]
    sums = {id_: (1 - weight) * value + weight * scaled[1].get(id_, 0.0) for id_, value in scaled[0].items()}
    return [Ranked(id_, sums[id_]) for id_ in sorted(sums, key=lambda id_: -sums[id_])]


def _scaled(hits: Sequence[Ranked]) -> dict[str, float]:
    scores = np.array([hit.score for hit in hits])
    spread = max(float(np.ptp(scores)), 1e-9) if len(scores) else 1.0
    return {hit.id: float(hit.score - scores.min()) / spread for hit in hits}


def main() -> None:
    """Print one line for each search."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("index")
    parser.add_argument("rerankers", nargs="*")
    parser.add_argument("--depth", type=int, default=50)
    parser.add_argument("--queries", type=int, help="the first so many only")
    options = parser.parse_args()
    relevant: dict[str, dict[str, int]] = {}
    for line in (options.data / "qrels.tsv").read_text("utf-8").splitlines()[1:]:
        query, document, grade = line.split("\t")
        if int(grade) > 0:
            relevant.setdefault(query, {})[document] = int(grade)
    records = read_records([str(options.data / "queries.jsonl.gz")])
    asked = [(str(record.fields["_id"]), str(record.fields["text"])) for record in records]
    asked = [pair for pair in asked if pair[0] in relevant][: options.queries]
    texts, judged = [text for _, text in asked], [relevant[id_] for id_, _ in asked]
    with Collection.open(options.index) as collection:
        for mode in ("dense", "lexical", "hybrid"):
            found = collection.searcher(mode).rank(texts, SearchOptions(mode=mode))
            print(f"{mode:<32} nDCG@10 {score(found, judged):5.1f}", flush=True)
        wide = SearchOptions(k=options.depth, rerank_depth=options.depth)
        first = collection.searcher("hybrid").rank(texts, wide)
        for name in options.rerankers:
            searcher = collection.searcher("hybrid", name)
            before, begun = collection.stopwatch.parts.get("rerank", 0.0), time.perf_counter()
            second = searcher.rank(texts, wide)
            seconds = collection.stopwatch.parts["rerank"] - before
            whole = 1000 * (time.perf_counter() - begun) / len(texts)
            cost = f"{1000 * seconds / len(texts):.1f} ms a query of {whole:.1f}"
            print(f"hybrid, then {name:<19.19} nDCG@10 {score(second, judged):5.1f}  {cost}", flush=True)
            for weight in _WEIGHTS:
                both = [joined(*pair, weight) for pair in zip(first, second, strict=True)]
                print(f"  joined, weight {weight:<15} nDCG@10 {score(both, judged):5.1f}", flush=True)


if __name__ == "__main__":
    main()
