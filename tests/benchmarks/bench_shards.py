"""Shards beside one index: the same ids and scores for all queries of a task, in all modes; and what a search costs.

    python tests/benchmarks/bench_shards.py --index scifact.index --task scifact --shards 2 4 8

The index is cut into shards of neighbouring documents, in a temporary folder. Vectors of the queries are made by the
index's encoder, or read from ``--vectors`` (a row for each query of the task).
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from llm2comp_indexes import Hit, Index, ShardedIndex

from llm2comp_apps.corpus import read_corpus
from llm2comp_apps.retrieval.options import SearchOptions
from llm2comp_apps.retrieval.search import Searcher

REPOSITORY = Path(__file__).parents[2]
DATA = Path(os.environ.get("LLM2COMP_DATA", REPOSITORY.parent / "shared" / "data"))


def cut(index: Index, folder: Path, count: int) -> ShardedIndex:
    """The documents of an index in several, in order."""
    ids = list(index.ids())
    borders = [round(len(ids) * number / count) for number in range(count + 1)]
    shards = []
    for number, (start, stop) in enumerate(itertools.pairwise(borders)):
        shard = Index.create(
            folder / f"{count}-{number}.index",
            dimension=index.dimension,
            encoder=index.encoder,
            settings=index.settings,
        )
        with shard.writer() as writer:
            for first in range(start, stop, 1000):
                part = ids[first : min(first + 1000, stop)]
                writer.add(index.get(part), index.vectors(part))
            writer.commit()
        shards.append(shard)
    return ShardedIndex(shards)


class Encoded:
    """An encoder of queries whose vectors are there already."""

    def __init__(self, index: Any, queries: list[str], vectors: np.ndarray) -> None:
        self.name, self.fingerprint = index.encoder["name"], index.encoder["fingerprint"]
        self.dimension, self.prompts = index.dimension, {}
        self._vectors = dict(zip(queries, vectors, strict=True))

    def encode(self, texts: list[str], **_: object) -> np.ndarray:
        """The vectors ``(n, d)`` of queries."""
        return np.array([self._vectors[text] for text in texts])


def ranked(searcher: Searcher, mode: Any, query: str, k: int) -> list[Hit]:
    """A search as people make it."""
    (ranking,) = searcher.rank([query], SearchOptions(k=k, mode=mode))
    return [Hit(found.id, found.score) for found in ranking]


def compared(found: list[Hit], expected: list[Hit]) -> tuple[bool, bool, float]:
    """Whether ids are the same in the same order; the same but for ties within rounding; how far scores are apart."""
    same = [hit.id for hit in found] == [hit.id for hit in expected]
    ours, theirs = (np.array([hit.score for hit in hits], dtype=np.float64) for hits in (found, expected))
    if len(ours) != len(theirs):
        return same, False, np.inf
    apart = np.abs(ours - theirs) / np.maximum(np.abs(theirs), 1e-9)
    scores = {hit.id: hit.score for hit in expected}
    last = theirs[-1] if len(theirs) else 0.0
    close = all(abs(hit.score - scores.get(hit.id, last)) <= 4e-6 * max(abs(hit.score), 1e-3) for hit in found)
    return same, close, float(apart.max(initial=0.0))


def show_differing(queries: list[str], expected: list[list[Hit]], found: list[list[Hit]]) -> None:
    """The places at which an order differs, with their scores."""
    for query, ours, theirs in zip(queries, found, expected, strict=True):
        places = [place for place, (a, b) in enumerate(zip(ours, theirs, strict=True)) if a.id != b.id]
        for place in places:
            shown = " | ".join(f"{hit.id} {hit.score:.9f}" for hit in (theirs[place], ours[place]))
            print(f"  {query[:40]!r} at {place + 1}: {shown}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--index", type=Path, required=True)
    parser.add_argument("--task", required=True)
    parser.add_argument("--shards", type=int, nargs="+", default=[2, 4, 8])
    parser.add_argument("--vectors", type=Path)
    parser.add_argument("--differing", action="store_true", help="show the places at which the order differs")
    parser.add_argument("-k", type=int, default=100)
    given = parser.parse_args()
    queries = [each.text for each in read_corpus([DATA / "eval" / "retrieval" / given.task / "queries.jsonl.gz"])]
    with Index.open(given.index) as index, tempfile.TemporaryDirectory() as folder:
        one = cut(index, Path(folder), 1).shards[0]  # as new as the shards
        if given.vectors:
            vectors = np.load(given.vectors).astype(np.float32)
        else:
            from llm2comp_apps.retrieval.index_encoder import load_index_encoder

            encoder = load_index_encoder(one)
            vectors = encoder.encode(queries, prompt=encoder.prompts.get("query"))
        assert len(vectors) == len(queries), f"{len(vectors)} vectors for {len(queries)} queries"
        for count in given.shards:
            with cut(one, Path(folder), count) as several:
                for mode in ("dense", "lexical", "hybrid"):
                    row = {"task": given.task, "documents": len(one), "queries": len(queries), "shards": count}
                    results, seconds = [], {}
                    for name, index in (("one", one), ("shards", several)):
                        searcher = Searcher(index, Encoded(index, queries, vectors))
                        for query in queries[:5]:  # whatever is opened at first use
                            ranked(searcher, mode, query, given.k)
                        start = time.process_time()
                        results.append([ranked(searcher, mode, query, given.k) for query in queries])
                        seconds[name] = round(1000 * (time.process_time() - start) / len(queries), 2)
                    same = [compared(*pair) for pair in zip(results[1], results[0], strict=True)]
                    row |= {
                        "mode": mode,
                        "same_ids": sum(each[0] for each in same),
                        "same_but_for_ties": sum(each[1] for each in same),
                        "largest_relative_difference": max(each[2] for each in same),
                        "cpu_ms_one": seconds["one"],
                        "cpu_ms_shards": seconds["shards"],
                    }
                    print(json.dumps(row), flush=True)
                    if given.differing:
                        show_differing(queries, *results)


if __name__ == "__main__":
    main()
