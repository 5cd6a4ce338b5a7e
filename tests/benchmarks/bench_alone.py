"""Rerankers by themselves, without the scores of a search: where the right document of twenty ends up.

    python tests/benchmarks/bench_alone.py DATA/train/pairs/medquad.jsonl.gz DATA/train/pairs/sciq.jsonl.gz

Rows have ``query`` and ``positive``. The first positives of each file are indexed. Each query gets the first twenty of
a hybrid search among them; where its own is not there, it takes the last place. They are shuffled and put in order by
each reranker alone, as ``llm2comp rerank`` does it, and for comparison by hybrid search, the mean's cosine and BM25.
Printed is the mean reciprocal rank, and the difference to ``memory`` with its 95 % bootstrap interval over all queries.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from llm2comp_apps import Collection, Document, load_encoder
from llm2comp_apps.evaluation.datasets import read_rows
from llm2comp_apps.evaluation.stats import paired_difference
from llm2comp_apps.retrieval.rerank import MEMORY, MemoryReranker, Passage, TokensReranker
from llm2comp_apps.retrieval.rerank.tokens import ALONE

_SEED, _DEPTH = 0, 20
_MODES = ("dense", "lexical", "hybrid")
_SHARES = (0.0, 0.2, ALONE, 0.6, 0.8)
"""Of the cosine of whole texts."""


def reciprocal_rank(scores: Sequence[float], right: int) -> float:
    """In percent; a tie with the right one counts for it."""
    return 100 / (1 + sum(score > scores[right] for score in scores))


def ranks_of(file: Path, most: int, count: int, encoder_name: str) -> dict[str, list[float]]:
    """Reciprocal ranks of each way, by name."""
    encoder = load_encoder(encoder_name)
    memory, tokens = MemoryReranker(encoder), TokensReranker(encoder)
    rows = [(str(row.fields["query"]), str(row.fields["positive"])) for row in read_rows(file)][:most]
    ids = {text: str(number) for number, text in enumerate(dict.fromkeys(text for _, text in rows))}
    texts = {id_: text for text, id_ in ids.items()}
    generator = np.random.default_rng(_SEED)
    found: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        collection = Collection.create(Path(folder) / "alone.index", encoder=encoder)
        collection.update(Document(id_, text) for id_, text in texts.items())
        for place in generator.permutation(len(rows))[:count]:
            query, positive = rows[place]
            right = ids[positive]
            hits = [hit.id for hit in collection.search(query, k=_DEPTH, operators=False)]
            if right not in hits:
                hits[-1] = right
            hits = [str(each) for each in generator.permutation(hits)]
            passages = [Passage(id_, "", texts[id_]) for id_ in hits]
            by_tokens = tokens.score(query, passages)  # once for all shares, which load_reranker("tokens") joins
            asked = encoder.encode([query], prompt=encoder.prompts.get("query"))[0]
            cosines = encoder.encode([texts[id_] for id_ in hits], prompt=encoder.prompts.get("document")) @ asked
            scores = {MEMORY: memory.score(query, passages).tolist()}
            for share in _SHARES:
                scores[f"tokens, {share:g} whole"] = ((1 - share) * by_tokens + share * cosines).tolist()
            for mode in _MODES:
                known = {hit.id: hit.score for hit in collection.search(query, k=len(ids), mode=mode, operators=False)}
                scores[mode] = [known.get(id_, -1.0) for id_ in hits]
            for name, values in scores.items():
                found.setdefault(name, []).append(reciprocal_rank(values, hits.index(right)))
        collection.close()
    return found


def main() -> None:
    """Print a line for each way."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", type=Path, nargs="+")
    parser.add_argument("--documents", type=int, default=1000, help="of each file, from its start")
    parser.add_argument("--queries", type=int, default=50, help="of each file, drawn at random")
    parser.add_argument("--encoder", default="default")
    options = parser.parse_args()
    ranks = [ranks_of(file, options.documents, options.queries, options.encoder) for file in options.files]
    base = [value for each in ranks for value in each[MEMORY]]
    for name in ranks[0]:
        values = [value for each in ranks for value in each[name]]
        d = paired_difference(values, base)
        single = "  ".join(f"{np.mean(each[name]):5.1f}" for each in ranks)
        print(f"{name:<18} {np.mean(values):5.1f}  {d.delta:+5.1f} ({d.low:+.1f} to {d.high:+.1f})   {single}")


if __name__ == "__main__":
    main()
