"""How long people wait: ``--help``, and a search from process start to printed hits, with its parts.

    python tests/benchmarks/bench_search.py help
    python tests/benchmarks/bench_search.py cold --index scifact.index
    python tests/benchmarks/bench_search.py warm --index scifact.index

``help`` and ``cold`` start processes of their own; ``cold`` prints what ``search --timings`` says of the median run.
``warm`` keeps the encoder loaded, as the prompt does, and gives milliseconds per query in each mode. All give CPU time
beside the wall clock, which a busy machine stretches.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

MAIN = "from llm2comp_apps.cli.main import main; main()"
QUERIES = [
    "0-dimensional biomaterials show inductive properties",
    "does vitamin D protect against infections",
    "microstructure of white matter in newborn brains",
    "how do cells sense oxygen",
    "effect of statins on mortality",
]


def run(arguments: list[str], times: int) -> list[tuple[float, float, str]]:
    """Wall-clock seconds, CPU seconds and stderr of each of several runs of the command."""
    runs = []
    for _ in range(times):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        start = time.perf_counter()
        done = subprocess.run([sys.executable, "-c", MAIN, *arguments], capture_output=True, text=True, check=True)
        wall = time.perf_counter() - start
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        runs.append((wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, done.stderr))
    return runs


def report(runs: list[tuple[float, float, str]]) -> dict[str, float]:
    """Medians of wall clock and CPU time, and the quickest run."""
    return {
        "runs": len(runs),
        "median_wall_seconds": statistics.median(wall for wall, _, _ in runs),
        "fastest_wall_seconds": min(wall for wall, _, _ in runs),
        "median_cpu_seconds": statistics.median(cpu for _, cpu, _ in runs),
    }


def measure_warm(path: Path, times: int) -> dict[str, float]:
    """Milliseconds per query with everything loaded, by mode."""
    from llm2comp_indexes import Index

    from llm2comp_apps.retrieval.index_encoder import load_index_encoder
    from llm2comp_apps.retrieval.options import SearchOptions
    from llm2comp_apps.retrieval.search import Searcher
    from llm2comp_apps.retrieval.stopwatch import Stopwatch

    index = Index.open(path)
    clock = Stopwatch()
    searcher = Searcher(index, load_index_encoder(index), stopwatch=clock)
    figures: dict[str, float] = {}
    for mode in ("lexical", "dense", "hybrid"):
        options = SearchOptions(mode=mode)
        searcher.search(QUERIES[0], options)
        clock.parts.clear()
        spent = []
        for _ in range(times):
            for query in QUERIES:
                start = time.perf_counter()
                searcher.search(query, options)
                spent.append(time.perf_counter() - start)
        figures[f"{mode}_median_ms"] = 1000 * statistics.median(spent)
        figures |= {f"{mode}_mean_ms: {part}": 1000 * seconds / len(spent) for part, seconds in clock.parts.items()}
    return figures


def main() -> None:
    """Run what the command line asks for; figures as JSON on stdout."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["help", "cold", "warm"])
    parser.add_argument("--index", type=Path)
    parser.add_argument("--mode", default="hybrid")
    parser.add_argument("--times", type=int, default=10)
    arguments = parser.parse_args()
    if arguments.what == "help":
        print(json.dumps(report(run(["--help"], arguments.times)), indent=2))
        return
    if arguments.index is None:
        parser.error("name an index with --index")
    if arguments.what == "warm":
        print(json.dumps(measure_warm(arguments.index, arguments.times), indent=2))
        return
    command = ["search", QUERIES[0], "--index", str(arguments.index), "--mode", arguments.mode, "--timings"]
    runs = run(command, arguments.times)
    print(json.dumps(report(runs), indent=2))
    print(sorted(runs)[len(runs) // 2][2])


if __name__ == "__main__":
    main()
