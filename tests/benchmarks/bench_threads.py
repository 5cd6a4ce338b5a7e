"""One thread or all of them: what encoding takes with either, in turns, so that both meet the same machine.

    OMP_NUM_THREADS=2 python tests/benchmarks/bench_threads.py [--rounds 9] [--texts 8] [--data ../shared/data]

Encodes SciFact abstracts and as many times eight of their titles by the default encoder, by turns with one thread and
with as many as the encoder takes by itself. Prints the least and the median of wall and CPU seconds.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import statistics
import time
from collections import defaultdict
from itertools import islice
from pathlib import Path

from llm2comp_apps import load_encoder

DATA = Path(os.environ.get("LLM2COMP_DATA", Path(__file__).parents[3] / "shared" / "data"))


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rounds", type=int, default=9)
    options.add_argument("--texts", type=int, default=8)
    options.add_argument("--data", type=Path, default=DATA)
    chosen = options.parse_args()
    with gzip.open(chosen.data / "eval/retrieval/scifact/corpus.jsonl.gz", "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in islice(lines, 8 * chosen.texts)]
    sets = {
        "abstracts": [f"{row['title']} {row['text']}" for row in rows[: chosen.texts]],
        "titles": [row["title"] for row in rows],
    }
    encoder = load_encoder("default", backend="onnx")
    all_threads = encoder._threads
    encoder.encode(sets["abstracts"][:2])
    taken = defaultdict(list)
    for number in range(chosen.rounds):
        for threads in (1, all_threads) if number % 2 else (all_threads, 1):
            encoder._threads = threads
            for name, texts in sets.items():
                wall, cpu = time.perf_counter(), time.process_time()
                encoder.encode(texts)
                taken[name, threads].append((time.perf_counter() - wall, time.process_time() - cpu))
    print("| texts | threads | wall s: least, median | CPU s: least, median |\n|---|---:|---:|---:|")
    for (name, threads), times in sorted(taken.items()):
        cells = " | ".join(f"{min(each):.2f}, {statistics.median(each):.2f}" for each in zip(*times, strict=True))
        print(f"| {name} | {threads} | {cells} |")


if __name__ == "__main__":
    main()
