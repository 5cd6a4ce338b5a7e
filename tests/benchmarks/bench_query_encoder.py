"""What queries from another encoder cost: retrieval scores with one encoder for documents and another for queries.

    python tests/benchmarks/bench_query_encoder.py default runs/24-aligned/encoder [--data ../shared/data]

The task is the one of the ``dev`` suite: a sample of SciFact's training queries over abstracts cut to 48 words. Every
pairing of documents' and queries' encoder is scored, whether a search would allow it or not.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

DATA = Path(os.environ.get("LLM2COMP_DATA", Path(__file__).parents[3] / "shared" / "data"))


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("encoders", nargs="+", help="the documents' encoder first")
    options.add_argument("--data", type=Path, default=DATA)
    chosen = options.parse_args()

    import numpy as np

    from llm2comp_apps import LLM2Comp
    from llm2comp_apps.encoder.layers import agreement
    from llm2comp_apps.evaluation.suites import load_suite

    [task] = load_suite("dev", chosen.data / "eval", ["scifact:train"])
    vectors: dict[tuple[str, str], np.ndarray] = {}
    seconds = {}
    for name in chosen.encoders:
        encoder = LLM2Comp.from_pretrained(name, device="cpu")

        def embed(texts, role="query", encoder=encoder, name=name):
            start = time.process_time()
            vectors[name, role] = encoder.encode(texts, prompt=encoder.prompts.get(role))
            seconds[name, role] = time.process_time() - start
            return vectors[name, role]

        task.evaluate(embed)
        del encoder
    print("| documents by | queries by | nDCG@10 | queries: CPU seconds | cosine |\n|---|---|---|---|---|")
    for documents in chosen.encoders:
        for queries in chosen.encoders:
            scores = task.evaluate(
                lambda _, role="query", pair=(documents, queries): vectors[pair[role == "query"], role]
            )
            score = 100 * float(np.mean(scores.units))
            cosine = agreement(vectors[documents, "query"], vectors[queries, "query"]).mean()
            print(f"| {documents} | {queries} | {score:.1f} | {seconds[queries, 'query']:.1f} | {cosine:.3f} |")


if __name__ == "__main__":
    main()
