"""A front over the servers of shards beside the server of one index: the same answers, what it costs, and dead shards.

    python tests/benchmarks/bench_front.py --index scifact.index --task scifact --vectors queries.npy

Every server is a process of its own. Vectors of the queries are read, so that times are those of searching. After the
comparison one shard of four is stopped so that it hangs (SIGSTOP), then killed, while queries run.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import itertools
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from bench_shards import DATA, compared, cut
from llm2comp_indexes import Hit, Index

from llm2comp_apps.corpus import read_corpus

PROGRAM = "from llm2comp_apps.cli.main import main; main()"
MODES = ("dense", "lexical", "hybrid")


@contextlib.contextmanager
def serving(*arguments: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """A server in a process of its own: where it listens."""
    command = [sys.executable, "-c", PROGRAM, "serve", *arguments, "--no-encoder", "--port", "0"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        for line in process.stderr:
            if found := re.search(r"http://\S+?(?=;)", line):
                break
        else:
            raise SystemExit("a server did not start")
        yield found[0], process
    finally:
        process.send_signal(signal.SIGCONT)
        process.kill()
        process.wait()


class Client:
    """Asks one server over one connection.

    Args:
        url: of the server.
        index: its name there.
    """

    def __init__(self, url: str, index: str) -> None:
        self._connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=60)
        self._path = f"/indexes/{index}/search"

    def close(self) -> None:
        """End the connection; the next question makes another."""
        self._connection.close()

    def search(self, query: str, vector: np.ndarray, mode: str, k: int) -> tuple[dict[str, Any], float]:
        """The answer and its milliseconds."""
        body = {"q": query, "mode": mode, "limit": k}
        if mode != "lexical":
            body["vector"] = vector.tolist()
        start = time.perf_counter()
        self._connection.request("POST", self._path, json.dumps(body), {"content-type": "application/json"})
        answer = json.loads(self._connection.getresponse().read())
        return answer, 1000 * (time.perf_counter() - start)


def processor_seconds(servers: list[subprocess.Popen[str]]) -> float:
    """What processes have used so far."""
    used = [Path(f"/proc/{server.pid}/stat").read_text().rpartition(")")[2].split()[11:13] for server in servers]
    return sum(map(int, itertools.chain.from_iterable(used))) / os.sysconf("SC_CLK_TCK")


def answers(
    client: Client, asked: list[tuple[str, np.ndarray]], mode: str, k: int
) -> tuple[list[list[Hit]], list[float]]:
    """Hits and milliseconds of every query."""
    client.close()  # a server lets go of a connection that is idle for long
    for query, vector in asked[:5]:
        client.search(query, vector, mode, k)
    hits, times = [], []
    for query, vector in asked:
        answer, milliseconds = client.search(query, vector, mode, k)
        assert "partial" not in answer, answer["missingShards"]
        hits.append([Hit(hit["id"], hit["score"]) for hit in answer["hits"]])
        times.append(milliseconds)
    return hits, times


def percentiles(times: list[float]) -> dict[str, float]:
    """Median and 99th percentile."""
    return {name: round(float(np.percentile(times, share)), 1) for name, share in (("p50", 50), ("p99", 99))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--index", type=Path, required=True)
    parser.add_argument("--task", required=True)
    parser.add_argument("--vectors", type=Path, required=True)
    parser.add_argument("--shards", type=int, default=4)
    parser.add_argument("--deadline", type=float, default=2.0)
    parser.add_argument("-k", type=int, default=20, help="hits that are compared")
    given = parser.parse_args()
    queries = [each.text for each in read_corpus([DATA / "eval" / "retrieval" / given.task / "queries.jsonl.gz"])]
    asked = list(zip(queries, np.load(given.vectors).astype(np.float32), strict=True))
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        os.environ["XDG_RUNTIME_DIR"] = str(folder)
        with Index.open(given.index) as index, cut(index, folder, 1) as one, cut(one.shards[0], folder, given.shards):
            pass
        direct, alone = stack.enter_context(serving(f"library={folder / '1-0.index'}"))
        parts = [
            stack.enter_context(serving(f"part={folder / f'{given.shards}-{number}.index'}"))
            for number in range(given.shards)
        ]
        joined = ",".join(url for url, _ in parts)
        front, before = stack.enter_context(serving("--shards", f"library={joined}", "--deadline", str(given.deadline)))
        clients = {"one": Client(direct, "library"), "front": Client(front, "library")}
        for mode in MODES:
            found, spent = {}, {}
            watched = {"one": [alone], "front": [before], "shards": [process for _, process in parts]}
            for name, client in clients.items():
                start = {each: processor_seconds(servers) for each, servers in watched.items()}
                found[name] = answers(client, asked, mode, given.k)
                for each in ("front", "shards") if name == "front" else ("one",):
                    seconds = processor_seconds(watched[each]) - start[each]
                    spent[each] = round(1000 * seconds / len(asked), 1)
            same = [compared(*pair) for pair in zip(found["front"][0], found["one"][0], strict=True)]
            row = {
                "task": given.task,
                "shards": given.shards,
                "mode": mode,
                "queries": len(asked),
                "same_ids": sum(each[0] for each in same),
                "same_but_for_ties": sum(each[1] for each in same),
                "largest_relative_difference": max(each[2] for each in same),
            }
            row["milliseconds"] = {name: percentiles(times) for name, (_, times) in found.items()}
            row["cpu_milliseconds"] = spent
            print(json.dumps(row), flush=True)
        name = parts[1][0].removeprefix("http://")
        for trouble, number in (("hangs", signal.SIGSTOP), ("killed", signal.SIGKILL)):
            if trouble == "killed":
                parts[1][1].send_signal(signal.SIGCONT)
                time.sleep(3)  # the front takes it in again
                clients["front"].search(*asked[0], "hybrid", 10)
            parts[1][1].send_signal(number)
            times = []
            for query, vector in asked[:50]:
                answer, milliseconds = clients["front"].search(query, vector, "hybrid", 10)
                assert answer["missingShards"] == [name], answer
                assert len(answer["hits"]) == 10
                times.append(round(milliseconds, 1))
            row = {
                "one_of": given.shards,
                "shard": trouble,
                "deadline_ms": 1000 * given.deadline,
                "first_ms": times[:4],
            }
            print(json.dumps(row | {"slowest_ms": max(times), "usual": percentiles(times[4:])}), flush=True)


if __name__ == "__main__":
    main()
