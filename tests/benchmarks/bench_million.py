"""A million rows: building, size on disk, and the memory of building and of searching.

    python tests/benchmarks/bench_million.py build PATH [--rows 1000000] [--vectors FILE.npy] [--kind auto]
    python tests/benchmarks/bench_million.py search PATH [--vectors FILE.npy]

``build`` makes an index at PATH of synthetic rows, drawn around real-shaped vectors (see `real_shaped.py`) block by
block, and then searches it in a process of its own, so that the memory of each is told apart. Seconds are those of the
CPU, beside the wall clock, which other processes stretch.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from llm2comp_indexes import Index, IndexedDocument, Policy
from real_shaped import Bootstrap, real_shaped, shape

SAMPLE = 20_000
BLOCK = 8192
COMMIT_BLOCKS = 8
K = 10


def memory() -> str:
    """Peak resident memory so far; and what is resident now, the process's own and pages of mapped files."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    peak, own, mapped = (int(lines[name].split()[0]) / 1024 for name in ("VmHWM", "RssAnon", "RssFile"))
    return f"memory: peak {peak:.0f} MiB; now {own:.0f} of its own, {mapped:.0f} of mapped files"


@contextmanager
def timed(what: str) -> Iterator[None]:
    """Print how long it took, and the memory after it."""
    wall, cpu = time.perf_counter(), time.process_time()
    yield
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    print(f"{what}: {cpu:.1f} s of CPU, {wall:.1f} s of wall clock; {memory()}", flush=True)


def build(path: Path, sample: np.ndarray, rows: int, kind: str) -> None:
    """Commit by commit as a build does it, then the FAISS index."""
    with timed("sample ready"):
        source = Bootstrap(sample)
    index = Index.create(
        path, dimension=sample.shape[1], encoder={"name": "bench", "fingerprint": "0"}, settings={"kind": "flat"}
    )
    with timed(f"{rows} rows drawn and added"), index.writer() as writer:
        for block, first in enumerate(range(0, rows, BLOCK), 1):
            numbers = range(first, min(first + BLOCK, rows))
            writer.add(
                [IndexedDocument(f"document-{n}", f"text number {n}", metadata={"bucket": n % 1000}) for n in numbers],
                source.draw(len(numbers)),
            )
            if block % COMMIT_BLOCKS == 0:
                writer.commit()
        writer.commit()
    print(f"{index.info().segments} segments", flush=True)
    with timed("merged, and the FAISS index trained, tuned, filled and written"):
        index.compact(Policy(kind=kind))
    info = index.info()
    print(f"kind {info.kind}, recall@10 {info.recall}, {info.bytes / 2**20:.0f} MiB on disk:", flush=True)
    for part in ("store.db", "segments", "ann", "lexical"):
        files = [path / part] if (path / part).is_file() else (path / part).rglob("*")
        print(f"  {part}: {sum(file.stat().st_size for file in files if file.is_file()) / 2**20:.0f} MiB", flush=True)
    with timed("every byte verified"):
        print(index.verify() or "clean")
    index.close()


def milliseconds(action: Callable[[], object], runs: int = 9) -> float:
    """Median CPU time."""
    times = []
    for _ in range(runs):
        start = time.process_time()
        action()
        times.append(1000 * (time.process_time() - start))
    return float(np.median(times))


def search(path: Path, queries: np.ndarray) -> None:
    """Cold open, first hits, steady searching, filters, words."""
    with timed("opened"):
        index = Index.open(path)
    with timed("first hits"):
        index.search(queries[:1], K)
    with timed("100 single queries"):
        for query in queries[:100]:
            index.search(query, K)
    single = milliseconds(lambda: [index.search(query, K) for query in queries[100:120]]) / 20
    batch = milliseconds(lambda: index.search(queries[:100], K))
    print(f"single query {single:.2f} ms, batches of 100 {1e5 / batch:.0f} queries/s; {memory()}", flush=True)
    exact = index.search(queries[:50], K, exact=True)
    found = index.search(queries[:50], K)
    hits = [len({hit.id for hit in one} & {hit.id for hit in other}) for one, other in zip(found, exact, strict=True)]
    print(f"recall@10 of 50 queries: {sum(hits) / K / len(hits):.3f}; {memory()}", flush=True)
    for where in ("bucket < 500", "bucket < 100", "bucket < 10", "bucket = 1"):
        first = milliseconds(lambda where=where: index.search(queries[:1], K, where=where), runs=1)
        again = milliseconds(lambda where=where: index.search(queries[:1], K, where=where), runs=3)
        print(f"where {where}: first {first:.0f} ms, again {again:.1f} ms", flush=True)
    with timed("first lexical search"):
        print(index.search_lexical("text number 4711", K)[0].id)
    again = milliseconds(lambda: index.search_lexical("text number 4711", K))
    print(f"lexical search: {again:.1f} ms; {memory()}", flush=True)


def main() -> None:
    """Build, then search in another process."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["build", "search"])
    parser.add_argument("path", type=Path)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--vectors", type=Path, help="a .npy matrix to draw around")
    parser.add_argument("--kind", default="auto")
    options = parser.parse_args()
    sample = real_shaped(SAMPLE, options.vectors)
    if options.what == "search":
        search(options.path, sample[:200].copy())
        return
    print(shape(sample), flush=True)
    build(options.path, sample, options.rows, options.kind)
    vectors = ["--vectors", os.fspath(options.vectors)] if options.vectors else []
    subprocess.run([sys.executable, __file__, "search", os.fspath(options.path), *vectors], check=True)


if __name__ == "__main__":
    main()
