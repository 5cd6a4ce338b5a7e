"""What rerankers bring and cost: nDCG@10 of a search with and without each of them, and CPU time a query.

    llm2comp index build DATA/eval/retrieval/cranfield/corpus.jsonl.gz -o cranfield.index --memory
    python tests/benchmarks/bench_rerank.py DATA/eval/retrieval/cranfield cranfield.index memory runs/rerank/encoder
    python tests/benchmarks/bench_rerank.py DATA/eval/retrieval/scifact sample.index memory likelihood upr \
        --queries 50 --depth 10 --documents 1325 --encoder runs/kl/encoder

With ``--documents`` an index is filled with so many: those that answer the queries, then the first of the corpus. The
folder holds ``corpus.jsonl.gz``, ``queries.jsonl.gz`` and ``qrels.tsv``. Behind each reranker stand the difference to
hybrid search and its 95 % bootstrap interval over the queries. The last lines join a reranker's scores with those of
hybrid search, each scaled to 0 to 1 over the candidates, by several weights: choose one on queries of training.

An index with memory vectors has one more line: the scores of `memory` in the place of the mean's cosine, before both
sides are joined. ``--train`` takes ``train_queries.jsonl.gz`` and ``train_qrels.tsv``, where the folder has them.

Where the index stores no memory vectors, those of the candidates are made once and kept, as an index would keep them;
what that takes is told apart from what a query takes. ``--encoder`` makes them by another encoder than the index's, and
the index, if it is not there.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from kept_memory import KeptMemory

from llm2comp_apps import Collection, Document, load_encoder, read_corpus
from llm2comp_apps.corpus import read_records
from llm2comp_apps.encoder import source_of
from llm2comp_apps.evaluation.metrics import ndcg
from llm2comp_apps.evaluation.stats import paired_difference
from llm2comp_apps.retrieval.fusion import fuse
from llm2comp_apps.retrieval.hits import Ranked
from llm2comp_apps.retrieval.options import SearchOptions
from llm2comp_apps.retrieval.rerank.memory import memory_scores

_WEIGHTS = (0.1, 0.2, 0.3, 0.5)
_SEED = 0
_OF_INDEX = ("ltr", "words")  # they read no memory, and may be what the index has learned


def score(rankings: Sequence[Sequence[Ranked]], judged: Sequence[dict[str, int]]) -> list[float]:
    """nDCG@10 of each query, in percent."""
    pairs = zip(rankings, judged, strict=True)
    rows = [(np.array([known.get(hit.id, 0) for hit in hits]), np.array([*known.values()])) for hits, known in pairs]
    return [100 * ndcg(gains, ideal, 10) for gains, ideal in rows]


def compared(scores: Sequence[float], first: Sequence[float]) -> str:
    """The mean of scores, and its difference to that of the first search."""
    d = paired_difference(scores, first)
    return f"nDCG@10 {np.mean(scores):5.1f}  {d.delta:+5.1f} ({d.low:+.1f} to {d.high:+.1f})"


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
    parser.add_argument("--queries", type=int, help="so many only, drawn at random")
    parser.add_argument("--documents", type=int, help="so many only, where the index has fewer")
    parser.add_argument("--encoder", help="makes the memory vectors")
    parser.add_argument("--train", action="store_true", help="queries of training instead")
    options = parser.parse_args()
    relevant: dict[str, dict[str, int]] = {}
    part = "train_" if options.train else ""
    for line in (options.data / f"{part}qrels.tsv").read_text("utf-8").splitlines()[1:]:
        query, document, grade = line.split("\t")
        if int(grade) > 0:
            relevant.setdefault(query, {})[document] = int(grade)
    records = read_records([str(options.data / f"{part}queries.jsonl.gz")])
    asked = [(str(record.fields["_id"]), str(record.fields["text"])) for record in records]
    asked = [pair for pair in asked if pair[0] in relevant]
    if options.queries and options.queries < len(asked):
        drawn = np.random.default_rng(_SEED).choice(len(asked), options.queries, replace=False)
        asked = [asked[i] for i in sorted(drawn)]
    texts, judged = [text for _, text in asked], [relevant[id_] for id_, _ in asked]
    if not Path(options.index).exists():
        Collection.create(options.index, encoder=options.encoder or "default").close()
    with Collection.open(options.index) as collection:
        if len(collection) < (options.documents or 1):
            needed = set().union(*judged)
            collection.update(_first(options.data / "corpus.jsonl.gz", needed, options.documents))
        for mode in ("dense", "lexical", "hybrid"):
            found = collection.searcher(mode).rank(texts, SearchOptions(mode=mode))
            print(f"{mode:<32} nDCG@10 {np.mean(score(found, judged)):5.1f}", flush=True)
        if collection.index.memory_tokens:
            print(f"{'hybrid, memory for the mean':<32} nDCG@10 {np.mean(score(late(collection, texts), judged)):5.1f}")
        wide = SearchOptions(k=options.depth, rerank_depth=options.depth)
        begun = time.process_time()
        first = collection.searcher("hybrid").rank(texts, SearchOptions(k=options.depth))
        search, plain = time.process_time() - begun, score(first, judged)
        print(f"{len(texts)} queries, the first {options.depth} read again; a search takes {_ms(search, texts)} of CPU")
        kept = None
        if options.encoder or not collection.index.memory_tokens:
            encoder = load_encoder(options.encoder) if options.encoder else collection.encoder
            kept = KeptMemory(encoder, options.encoder or str(source_of(collection.index.encoder)))
        for name in options.rerankers:
            searcher = collection.searcher("hybrid", name if kept is None or name in _OF_INDEX else kept.reranker(name))
            begun, before = time.process_time(), kept.seconds if kept is not None else 0.0
            second = searcher.rank(texts, wide)
            made = (kept.seconds if kept is not None else 0.0) - before
            cost = f"{_ms(time.process_time() - begun - search - made, texts)} more"
            if kept is not None and made:
                cost += f"; {made:.0f} s for the memory of {len(kept)} candidates"
            print(f"hybrid, then {name:<19.19} {compared(score(second, judged), plain)}  {cost}", flush=True)
            for weight in _WEIGHTS:
                both = [joined(*pair, weight) for pair in zip(first, second, strict=True)]
                print(f"  joined, weight {weight:<15} {compared(score(both, judged), plain)}", flush=True)


def late(collection: Collection, texts: Sequence[str]) -> list[list[Ranked]]:
    """Hybrid rankings whose dense side has the scores of `memory` instead of the mean's cosine."""
    asked = collection.encoder.encode_memory(texts)
    found = []
    for side, memory in zip(collection.searcher("hybrid").sides(texts), asked, strict=True):
        ids = [id_ for id_, _ in side.dense]
        scores = memory_scores(memory, collection.index.memory(ids, [side.spans.get(id_) for id_ in ids]))
        dense = sorted(zip(ids, scores.tolist(), strict=True), key=lambda pair: -pair[1])
        found.append([Ranked(id_, each) for id_, each in fuse(dense, side.lexical, side.words)])
    return found


def _first(corpus: Path, needed: set[str], count: int | None) -> Iterator[Document]:
    """The needed documents of a corpus and its first others, ``count`` in all."""
    others = math.inf if count is None else count - len(needed)
    for document in read_corpus([corpus]):
        if document.id in needed or others > 0:
            others -= document.id not in needed
            yield document


def _ms(seconds: float, queries: Sequence[str]) -> str:
    return f"{1000 * seconds / len(queries):.1f} ms a query"


if __name__ == "__main__":
    main()
