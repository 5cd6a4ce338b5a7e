"""A server under load: nothing lost, how long searches take beside bulk work, what HTTP costs the encoder, memory.

    python tests/benchmarks/bench_serve.py load [--seconds 120] [--clients 64] [--documents 50000]
    python tests/benchmarks/bench_serve.py throughput [--texts 256] [--rounds 3]
    python tests/benchmarks/bench_serve.py words [--documents 50000]
    python tests/benchmarks/bench_serve.py memory [--requests 100000]

Each makes an index with documents of random words and random vectors, since only time counts, and starts ``llm2comp
serve`` in a process of its own. ``memory`` takes an encoder of hashes, the others the default encoder. Clients and
server share this machine.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path

import numpy as np

from llm2comp_apps import load_encoder

HASHES = Path(__file__).parents[1] / "serving" / "program.py"
WORDS = [
    f"{a}{b}{c}" for a in ("ka", "lo", "mi", "ne", "ru") for b in ("ba", "do", "fi", "ge") for c in ("l", "n", "r", "s")
]


def text(generator: random.Random, words: int) -> str:
    """Words, the first ones of the list often and the last ones seldom."""
    return " ".join(WORDS[min(int(generator.expovariate(0.05)), len(WORDS) - 1)] for _ in range(words))


def make_index(path: Path, count: int, name: str, fingerprint: str, dimension: int) -> None:
    """An index of random documents that says the encoder made them."""
    from llm2comp_indexes import Index, IndexedDocument

    generator = random.Random(0)
    vectors = np.random.default_rng(0).standard_normal((count, dimension)).astype(np.float32)
    encoder = {"name": name, "fingerprint": fingerprint, "source": "default"}
    with Index.create(path, dimension=dimension, encoder=encoder) as index, index.writer() as writer:
        for start in range(0, count, 5000):
            documents = [
                IndexedDocument(f"d{n}", text(generator, 60), metadata={"year": 2000 + n % 25})
                for n in range(start, min(count, start + 5000))
            ]
            writer.add(documents, vectors[start : start + 5000])
        writer.commit()


class Server:
    """A server in a process of its own."""

    def __init__(self, command: list[str]) -> None:
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for line in self.process.stdout:
            if "http://127.0.0.1:" in line:
                self.port = int(line.partition("http://127.0.0.1:")[2].split(";")[0])
                return
            print(line, end="", file=sys.stderr)
        raise SystemExit("the server did not start")

    def cpu(self) -> float:
        """CPU seconds of the process so far."""
        after = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(after[11]) + int(after[12])) / os.sysconf("SC_CLK_TCK")

    def resident(self) -> float:
        """MiB of the process in memory."""
        return int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.wait(60)


class Client:
    """One connection, kept open."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, method: str, path: str, body: dict | None = None) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body."""
        if self.streams is None:
            self.streams = await asyncio.open_connection("127.0.0.1", self.port)
        reader, writer = self.streams
        content = b"" if body is None else json.dumps(body).encode()
        head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(content)}\r\n\r\n"
        writer.write(head.encode() + content)
        lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in lines[1:] if line)
        answer = await reader.readexactly(int(headers["content-length"]))
        if headers.get("connection") == "close":
            writer.close()
            self.streams = None
        return int(lines[0].split()[1]), headers, answer


async def until_ready(port: int) -> None:
    while (await Client(port).ask("GET", "/readyz"))[0] != 200:
        await asyncio.sleep(0.1)


def shares(seconds: list[float]) -> str:
    """The median and the tail of some times."""
    if not seconds:
        return "none"
    p50, p90, p99 = np.percentile(seconds, [50, 90, 99])
    return (
        f"p50 {p50 * 1000:.0f} ms, p90 {p90 * 1000:.0f} ms, p99 {p99 * 1000:.0f} ms, max {max(seconds) * 1000:.0f} ms"
    )


async def load(server: Server, clients: int, seconds: float) -> None:
    """Three quarters of the clients search, with pauses; one quarter sends bulk batches, one after another."""
    times: dict[str, list[float]] = {"lexical": [], "hybrid": [], "bulk": []}
    statuses: Counter[str] = Counter()
    port, cpu, embedded = server.port, server.cpu(), 0
    begun = time.monotonic()
    end = begun + seconds

    async def searching(number: int) -> None:
        client, generator = Client(port), random.Random(number)
        while time.monotonic() < end:
            mode = generator.choice(["lexical", "hybrid"])
            body = {"q": text(generator, 4), "mode": mode, "limit": 10}
            await told(client, "/indexes/library/search", body, mode, generator)
            await asyncio.sleep(generator.expovariate(1.0))

    async def bulk(number: int) -> None:
        nonlocal embedded
        client, generator = Client(port), random.Random(-1 - number)
        while time.monotonic() < end:
            texts = [text(generator, generator.randint(5, 60)) for _ in range(32)]
            body = {"input": texts, "encoding_format": "base64"}
            if await told(client, "/v1/embeddings", body, "bulk", generator):
                embedded += len(texts)

    async def told(client: Client, path: str, body: dict, kind: str, generator: random.Random) -> bool:
        start = time.monotonic()
        while True:
            status, headers, answer = await client.ask("POST", path, body)
            statuses[f"{kind} {status}"] += 1
            if status != 429:
                break
            assert "retry-after" in headers, answer
            await asyncio.sleep(min(5.0, float(headers["retry-after"])) * generator.uniform(0.5, 1))
        times[kind].append(time.monotonic() - start)
        return status == 200

    tasks = [searching(n) if n % 4 else bulk(n) for n in range(clients)]
    failures = [each for each in await asyncio.gather(*tasks, return_exceptions=True) if each is not None]
    print(f"{clients} clients, {seconds:.0f} s: answers {dict(sorted(statuses.items()))}, connections lost {failures}")
    for kind, found in times.items():
        print(f"  {kind}: {len(found)} requests, {shares(found)}")
    took = time.monotonic() - begun
    print(f"  bulk: {embedded / took:.1f} texts a second; the server got {(server.cpu() - cpu) / took:.2f} of a thread")


async def send(port: int, texts: list[str], batch: int, clients: int) -> None:
    """All texts, in batches, by some clients."""
    batches = [texts[start : start + batch] for start in range(0, len(texts), batch)]

    async def one() -> None:
        client = Client(port)
        while batches:
            status, _, answer = await client.ask(
                "POST", "/v1/embeddings", {"input": batches.pop(), "encoding_format": "base64"}
            )
            assert status == 200, answer

    await asyncio.gather(*(one() for _ in range(clients)))


def throughput(server: Server, count: int, rounds: int) -> None:
    """The same texts by ``encode`` in this process and by the server, in turns."""
    encoder = load_encoder("default")
    generator = random.Random(1)
    texts = [text(generator, generator.randint(5, 120)) for _ in range(count)]
    encoder.encode(texts[:16])
    alone: list[tuple[float, float]] = []
    served: list[tuple[float, float]] = []
    for _ in range(rounds):
        start, cpu = time.monotonic(), time.process_time()
        encoder.encode(texts)
        alone.append((time.monotonic() - start, time.process_time() - cpu))
        start, cpu = time.monotonic(), server.cpu()
        asyncio.run(send(server.port, texts, 32, 8))
        served.append((time.monotonic() - start, server.cpu() - cpu))
    for name, pairs in (("encode", alone), ("/v1/embeddings", served)):
        print(f"{name}: wall {[round(wall, 1) for wall, _ in pairs]} s, CPU {[round(cpu, 1) for _, cpu in pairs]} s")
    wall, cpu = (sum(pair[at] for pair in alone) / sum(pair[at] for pair in served) for at in (0, 1))
    print(f"throughput of /v1/embeddings is {wall:.2f} of encode's by wall time, {cpu:.2f} by CPU time")


async def words(server: Server) -> None:
    """Queries as they are typed, a letter at a time, each when the answer before it is there."""
    client, generator, times, cpu = Client(server.port), random.Random(2), [], server.cpu()
    for _ in range(40):
        whole = text(generator, 3)
        for end in range(3, len(whole) + 1):
            body = {"q": whole[:end], "mode": "lexical", "limit": 10, "facets": ["year"]}
            start = time.monotonic()
            status, _, answer = await client.ask("POST", "/indexes/library/search", body)
            times.append(time.monotonic() - start)
            assert status == 200, answer
    cpu = 1000 * (server.cpu() - cpu) / len(times)
    print(f"{len(times)} keystrokes, lexical, with facets: {shares(times)}; {cpu:.1f} ms of CPU each")


async def memory(server: Server, requests: int) -> None:
    """Requests of all kinds; the process must not grow with them."""
    start, done, seen = time.monotonic(), 0, {}

    async def one(number: int) -> None:
        nonlocal done
        client, generator = Client(server.port), random.Random(number)
        while done < requests:
            done += 1
            kind = generator.randrange(5)
            call: tuple[str, str, dict | None] = (
                ("POST", "/v1/embeddings", {"input": [text(generator, 20)] * generator.randint(1, 8)}),
                ("POST", "/indexes/library/search", {"q": text(generator, 3), "mode": "lexical", "facets": ["year"]}),
                ("POST", "/indexes/library/search", {"q": text(generator, 3), "where": f"year > {2000 + done % 25}"}),
                ("GET", f"/indexes/library/documents/d{done % 3000}", None),
                ("POST", "/v1/rerank", {"query": text(generator, 3), "documents": [text(generator, 20)] * 4}),
            )[kind]
            status, _, answer = await client.ask(*call)
            assert status in (200, 404), answer
            if done in (requests // 10, requests):
                seen[done] = server.resident()

    await asyncio.gather(*(one(number) for number in range(16)))
    early, late = seen[requests // 10], seen[requests]
    rate = requests / (time.monotonic() - start)
    print(f"resident after {requests // 10:,} requests {early:.1f} MiB, after {requests:,} {late:.1f} MiB")
    print(f"grown by {100 * (late / early - 1):.1f} %, {rate:.0f} requests a second")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["load", "throughput", "words", "memory"])
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--documents", type=int, default=50_000)
    parser.add_argument("--texts", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--requests", type=int, default=100_000)
    chosen = parser.parse_args()
    command = [sys.executable, "-c", "from llm2comp_apps.cli.main import main; main()", "serve", "--port", "0"]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "library.index"
        if chosen.what == "throughput":
            command += ["--encoder", "default"]
        elif chosen.what == "memory":
            make_index(path, 2_000, "hash", hash_fingerprint(), 32)
            command = [sys.executable, str(HASHES), str(path)]
        else:
            encoder = load_encoder("default")
            make_index(path, chosen.documents, encoder.name, encoder.fingerprint, encoder.dimension)
            command.append(str(path))
        with Server(command) as server:
            asyncio.run(until_ready(server.port))
            work: dict[str, Callable[[], Awaitable[None]]] = {
                "load": lambda: load(server, chosen.clients, chosen.seconds),
                "words": lambda: words(server),
                "memory": lambda: memory(server, chosen.requests),
            }
            if chosen.what == "throughput":
                throughput(server, chosen.texts, chosen.rounds)
            else:
                asyncio.run(work[chosen.what]())


def hash_fingerprint() -> str:
    """Of the encoder of hashes."""
    import hashlib

    return hashlib.sha256(b"32 ").hexdigest()[:32]


if __name__ == "__main__":
    main()
