"""Memory of one index, of the same documents in shards, and of a front over their servers, as documents grow.

    python tests/benchmarks/bench_shards_memory.py --rows 20000 100000 300000 --shards 4

Each reader is a process of its own that searches 50 times in every mode. What counts is its own memory at the end
(RssAnon): pages of mapped files belong to everybody, and are let go when somebody needs the room.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from bench_front import Client, serving
from llm2comp_indexes import Index, IndexedDocument, ShardedIndex

from llm2comp_apps.retrieval.search import Searcher

DIMENSION = 64
BLOCK = 10_000
QUERIES = 50
WORDS = [f"{a}{b}{c}" for a, b, c in itertools.product("bdfgklmnprst", "aeiou", "bdfgklmnprst")]


def make(path: Path, start: int, stop: int) -> None:
    """An index of drawn documents, which depend on their numbers alone."""
    settings = {"kind": "flat"}
    with Index.create(
        path, dimension=DIMENSION, encoder={"name": "drawn", "fingerprint": "0"}, settings=settings
    ) as index:
        with index.writer() as writer:
            for first in range(start, stop, BLOCK):
                draw = np.random.default_rng(first)
                numbers = range(first, min(first + BLOCK, stop))
                words = draw.choice(WORDS, size=(len(numbers), 12))
                documents = [
                    IndexedDocument(f"document-{number}", " ".join(row), metadata={"bucket": number % 100})
                    for number, row in zip(numbers, words, strict=True)
                ]
                writer.add(documents, draw.standard_normal((len(numbers), DIMENSION)).astype(np.float32))
                writer.commit()
        index.compact()


def queries() -> list[tuple[str, np.ndarray]]:
    """Words and vectors."""
    draw = np.random.default_rng(1)
    return [
        (" ".join(draw.choice(WORDS, size=5)), draw.standard_normal(DIMENSION).astype(np.float32))
        for _ in range(QUERIES)
    ]


def own_memory(pid: int) -> float:
    """MiB of a process that no file stands for."""
    lines = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return int(lines["RssAnon"].split()[0]) / 1024


def read(paths: list[str]) -> None:
    """Search as a program would, and print the memory."""
    with Index.open(paths[0]) if len(paths) == 1 else ShardedIndex.open(paths) as index:
        searcher = Searcher(index)  # type: ignore[arg-type]
        for (query, vector), mode in itertools.product(queries(), ("dense", "lexical", "hybrid")):
            searcher.page(query, vector=vector, mode=mode)
        print(round(own_memory(os.getpid()), 1))


def front(paths: list[str]) -> dict[str, float]:
    """The same over the servers of shards: memory of the front and of the largest shard's server."""
    with contextlib.ExitStack() as stack:
        parts = [stack.enter_context(serving(f"part={path}")) for path in paths]
        url, process = stack.enter_context(serving("--shards", "library=" + ",".join(url for url, _ in parts)))
        client = Client(url, "library")
        for (query, vector), mode in itertools.product(queries(), ("dense", "lexical", "hybrid")):
            answer, _ = client.search(query, vector, mode, 10)
            assert "partial" not in answer
        servers = [own_memory(each.pid) for _, each in parts]
        return {"front": round(own_memory(process.pid), 1), "server_of_a_shard": round(max(servers), 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[20_000, 100_000, 300_000])
    parser.add_argument("--shards", type=int, default=4)
    parser.add_argument("--read", nargs="+", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.read:
        read(given.read)
        return
    for rows in given.rows:
        with tempfile.TemporaryDirectory() as folder:
            os.environ["XDG_RUNTIME_DIR"] = folder
            one = Path(folder) / "one.index"
            make(one, 0, rows)
            parts = []
            for number, (start, stop) in enumerate(
                itertools.pairwise(rows * place // given.shards for place in range(given.shards + 1))
            ):
                parts.append(str(Path(folder) / f"{number}.index"))
                make(Path(parts[-1]), start, stop)
            row: dict[str, float] = {"rows": rows, "shards": given.shards}
            for name, paths in (("one", [str(one)]), ("sharded", parts)):
                command = [sys.executable, __file__, "--read", *paths]
                row[name] = float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            print(json.dumps(row | front(parts)), flush=True)


if __name__ == "__main__":
    main()
