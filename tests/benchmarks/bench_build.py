"""What building an index costs beside encoding, and whether its memory grows with the corpus.

    python tests/benchmarks/bench_build.py ratio  --encoder default --documents 300
    python tests/benchmarks/bench_build.py memory --encoder default

``ratio`` encodes the same SciFact abstracts alone and as a build, in turns in one process and each going first in turn,
and compares medians (wall clock, and CPU seconds, which another process on the machine stretches less). ``memory`` runs
``llm2comp index build`` in processes of their own over 5,000 and 20,000 short documents and compares their peak
resident memory.

SciFact is taken from ``$LLM2COMP_DATA`` (``../shared/data`` beside the repository by default).
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from itertools import islice
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
DATA = Path(os.environ.get("LLM2COMP_DATA", REPOSITORY.parent / "shared" / "data"))


def measure_ratio(encoder_name: str, count: int, rounds: int) -> dict[str, float]:
    """Median seconds of encoding alone and of building, and their ratio."""
    from llm2comp_indexes import Index

    from llm2comp_apps.corpus import read_corpus
    from llm2comp_apps.encoder import load_encoder
    from llm2comp_apps.retrieval.build import fill_index
    from llm2comp_apps.retrieval.plan import EmbeddingPlan

    source = str(DATA / "eval" / "retrieval" / "scifact")
    documents = list(islice(read_corpus([source]), count))
    encoder = load_encoder(encoder_name)
    encoder.encode([document.content for document in documents[:8]])  # the first batch pays for warming up

    def encode_alone() -> None:
        encoder.encode([document.content for document in documents])

    outside: list[float] = []

    def build() -> None:
        with tempfile.TemporaryDirectory() as directory:
            index = Index.create(
                Path(directory) / "x.index",
                dimension=encoder.dimension,
                encoder={"name": encoder.name, "fingerprint": encoder.fingerprint},
            )
            # Reading belongs to a build; both passes of it are counted in the command, one here.
            report = fill_index(index, encoder, islice(read_corpus([source]), count), EmbeddingPlan())
            outside.append((report.seconds - report.encode_seconds) / report.seconds)

    seconds: dict[str, list[float]] = {"encode": [], "build": []}
    cpu: dict[str, list[float]] = {"encode": [], "build": []}
    for number in range(rounds):
        pair = [("encode", encode_alone), ("build", build)]
        for name, run in pair if number % 2 == 0 else reversed(pair):
            start, cpu_start = time.perf_counter(), time.process_time()
            run()
            seconds[name].append(time.perf_counter() - start)
            cpu[name].append(time.process_time() - cpu_start)
    encode, built = (statistics.median(seconds[name]) for name in ("encode", "build"))
    return {
        "documents": count,
        "encode_seconds": encode,
        "build_seconds": built,
        "ratio": built / encode,
        "ratio_of_fastest": min(seconds["build"]) / min(seconds["encode"]),
        "ratio_of_cpu_seconds": statistics.median(cpu["build"]) / statistics.median(cpu["encode"]),
        "share_of_build_outside_the_encoder": statistics.median(outside),
    }


def write_short_documents(path: Path, count: int) -> None:
    """Documents of about a dozen words; all different."""
    with path.open("w", encoding="utf-8") as file:
        for number in range(count):
            text = f"Short document {number} tells of item {number * 7919 % count} and of nothing else."
            file.write(json.dumps({"_id": str(number), "text": text}) + "\n")


def peak_memory(encoder_name: str, count: int) -> int:
    """Peak resident bytes of a process that builds an index of ``count`` short documents."""
    with tempfile.TemporaryDirectory() as directory:
        corpus = Path(directory) / "corpus.jsonl"
        write_short_documents(corpus, count)
        # A process in between, so that RUSAGE_CHILDREN (a maximum over all children so far) is of this build only.
        code = (
            "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True, stderr=subprocess.DEVNULL); "
            "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
        )
        main = "from llm2comp_apps.cli.main import main; main()"
        build = [sys.executable, "-c", main, "index", "build", str(corpus), "--encoder", encoder_name]
        done = subprocess.run([sys.executable, "-c", code, *build], capture_output=True, text=True, check=True)
    unit = 1 if sys.platform == "darwin" else 1024
    return int(done.stdout) * unit


def measure_memory(encoder_name: str, sizes: tuple[int, int] = (5_000, 20_000)) -> dict[str, float]:
    """Peak memory at both sizes, and their ratio."""
    small, large = (peak_memory(encoder_name, size) for size in sizes)
    return {f"peak_bytes_{sizes[0]}": small, f"peak_bytes_{sizes[1]}": large, "ratio": large / small}


def main() -> None:
    """Run what the command line asks for; figures as JSON on stdout."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["ratio", "memory"])
    parser.add_argument("--encoder", default="default")
    parser.add_argument("--documents", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    if arguments.what == "ratio":
        figures = measure_ratio(arguments.encoder, arguments.documents, arguments.rounds)
    else:
        figures = measure_memory(arguments.encoder)
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
