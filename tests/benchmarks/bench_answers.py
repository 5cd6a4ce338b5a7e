"""Which of a question's sentences answer it: mean average precision of searches and of rerankers.

    python tests/benchmarks/bench_answers.py DATA/eval/reranking/wikiqa_test.jsonl.gz memory likelihood upr

Rows have ``query``, ``positive`` and ``negative``. All sentences go into one index, so that rare words are known, and
each question is searched among its own. A sentence that a search by words does not find comes last, one that answers
after those that do not. The dense score is that of ``llm2comp eval run``. Rerankers read all sentences of a question;
memory vectors are made once, and what that takes is told apart. Each difference is to hybrid search, with its 95 %
bootstrap interval over the questions. ``--encoder NAME`` takes another encoder than the default.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from kept_memory import KeptMemory

from llm2comp_apps import Collection, Document, load_encoder
from llm2comp_apps.evaluation.datasets import RerankingData, read_reranking
from llm2comp_apps.evaluation.metrics import average_precision
from llm2comp_apps.evaluation.stats import paired_difference
from llm2comp_apps.retrieval.options import Mode, SearchOptions
from llm2comp_apps.retrieval.rerank import Reranker

_SEED = 0


def documents(data: RerankingData) -> list[Document]:
    """The sentences of all questions; those that answer come first, and ids say where a sentence stands."""
    pairs = zip(data.positives, data.negatives, strict=True)
    return [
        Document(f"{question}-{place}", text, metadata={"question": question})
        for question, (positive, negative) in enumerate(pairs)
        for place, text in enumerate([*positive, *negative])
    ]


def average_precisions(
    collection: Collection, data: RerankingData, asked: Sequence[int], mode: Mode, reranker: Reranker | None = None
) -> list[float]:
    """Average precision of each question, in percent."""
    searcher = collection.searcher(mode, reranker)
    scores = []
    for question in asked:
        answers, others = len(data.positives[question]), len(data.negatives[question])
        options = SearchOptions(k=answers + others, mode=mode, where=f"question = {question}")
        (found,) = searcher.rank([data.queries[question]], options)
        places = [int(hit.id.rpartition("-")[2]) for hit in found]
        places += [place for place in reversed(range(answers + others)) if place not in places]
        gains = np.array([float(place < answers) for place in places])
        scores.append(100 * average_precision(gains, gains))
    return scores


def main() -> None:
    """Print one line for each way of ordering."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("rerankers", nargs="*")
    parser.add_argument("--encoder", default="default")
    parser.add_argument("--queries", type=int, help="so many only, drawn at random, of the rerankers too")
    options = parser.parse_args()
    data = read_reranking(options.data)
    asked: Sequence[int] = range(len(data.queries))
    if options.queries and options.queries < len(asked):
        asked = sorted(np.random.default_rng(_SEED).choice(len(asked), options.queries, replace=False).tolist())
    chosen = [document for document in documents(data) if document.metadata["question"] in asked]
    encoder = load_encoder(options.encoder)
    with (
        tempfile.TemporaryDirectory() as folder,
        Collection.create(Path(folder) / "answers.index", encoder=encoder) as collection,
    ):
        begun = time.process_time()
        collection.update(chosen)
        seconds = time.process_time() - begun
        print(f"{options.encoder}: {len(asked)} questions, {len(chosen)} sentences, indexed in {seconds:.0f} CPU s")
        for mode in ("dense", "lexical", "hybrid"):
            begun = time.process_time()
            plain = average_precisions(collection, data, asked, mode)
            search = time.process_time() - begun
            print(
                f"{mode:<24} MAP {np.mean(plain):5.1f}  {1000 * search / len(asked):.0f} ms of CPU a query", flush=True
            )
        kept = KeptMemory(encoder, options.encoder)
        for name in options.rerankers:
            reranker, made = kept.reranker(name), kept.seconds
            begun = time.process_time()
            found = average_precisions(collection, data, asked, "hybrid", reranker)
            made = kept.seconds - made
            cost = f"{1000 * (time.process_time() - begun - search - made) / len(asked):.0f} ms more"
            if made:
                cost += f"; {made:.0f} s for the memory of {len(kept)} sentences"
            d = paired_difference(found, plain)
            difference = f"{d.delta:+.1f} ({d.low:+.1f} to {d.high:+.1f})"
            print(f"hybrid, then {name:<11.11} MAP {np.mean(found):5.1f}  {difference}  {cost}", flush=True)


if __name__ == "__main__":
    main()
