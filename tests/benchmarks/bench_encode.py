"""Encoding speed: ours beside sentence-transformers, the same texts, the same merged weights, one run.

    python tests/benchmarks/bench_encode.py [--texts 256] [--data ../shared/data]

The encoder's merged weights are written out as a plain model directory and loaded by sentence-transformers, whose
``encode`` then runs with its defaults (batches of 32, padded, sorted by characters). Its attention stays causal and it
pools the mean of all tokens: other vectors, the same work per token - and without the k memory tokens, which ours
computes on top. Texts are SciFact abstracts. The two take turns, and the ratio is that of the medians.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import statistics
import tempfile
import time
from pathlib import Path

DATA = Path(os.environ.get("LLM2COMP_DATA", Path(__file__).parents[3] / "shared" / "data"))


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--texts", type=int, default=256)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--data", type=Path, default=DATA)
    chosen = options.parse_args()

    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.models import Pooling, Transformer

    from llm2comp_apps import LLM2Comp

    with gzip.open(chosen.data / "eval/retrieval/scifact/corpus.jsonl.gz", "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line, _ in zip(lines, range(chosen.texts), strict=False)]
    texts = [f"{row['title']} {row['text']}" for row in rows]

    ours = LLM2Comp.from_pretrained("default", device="cpu")
    exact = LLM2Comp.from_pretrained("default", device="cpu", dtype=torch.float32)
    with tempfile.TemporaryDirectory() as directory:
        exact.network.lm.save_pretrained(directory)
        exact.tokenizer.save_pretrained(directory)
        transformer = Transformer(directory, max_seq_length=ours.max_length)
        theirs = SentenceTransformer(
            modules=[transformer, Pooling(transformer.get_word_embedding_dimension())], device="cpu"
        )
    tokens = sum(len(ids) for ids in exact._rows(texts, ""))
    print(
        f"{len(texts)} texts, {tokens} tokens, {torch.get_num_threads()} threads, ours in {ours.network.compute_dtype}"
    )

    runs = {
        "ours": lambda: ours.encode(texts),
        "ours, float32": lambda: exact.encode(texts),
        "sentence-transformers": lambda: theirs.encode(texts, show_progress_bar=False),
    }
    for run in (ours, exact):
        run.encode(texts[:8])
    theirs.encode(texts[:8], show_progress_bar=False)
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(chosen.rounds):
        for name, run in runs.items():
            begun = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - begun)
    base = statistics.median(seconds["sentence-transformers"])
    for name, found in seconds.items():
        median = statistics.median(found)
        print(f"{name:24} {median:8.2f} s  {tokens / median:7.0f} tokens/s  {base / median:5.2f} x")


if __name__ == "__main__":
    main()
