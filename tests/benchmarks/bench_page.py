"""How long the page takes from a keystroke to the hits: ``python tests/benchmarks/bench_page.py CORPUS...``.

An index of 50,000 documents of the corpora (again and again, if there are fewer) is served to a browser, which types
queries taken from the documents letter by letter, at the pace of a fast typist. Words alone are searched, which is what
answers a keystroke. Measured is the time from the input event to the frame after the hits have changed, in the page.
"""

from __future__ import annotations

import argparse
import itertools
import random
import shutil
import socket
import statistics
import tempfile
import threading
from pathlib import Path

import numpy as np
import uvicorn
from llm2comp_indexes import Index, IndexedDocument
from playwright.sync_api import sync_playwright

from llm2comp_apps import read_corpus
from llm2comp_apps.serving import ServeSettings, State, create_app
from llm2comp_apps.serving.page_files import page_routes

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
MEASURE = """() => {
  window.times = [];
  const q = document.getElementById("q");
  q.addEventListener("input", () => { window.typed = performance.now(); }, true);
  new MutationObserver(() => {
    const from = window.typed;
    if (from === undefined) return;
    window.typed = undefined;
    requestAnimationFrame(() => setTimeout(() => window.times.push(performance.now() - from)));
  }).observe(document.getElementById("hits"), { childList: true });
}"""


def make_index(path: Path, sources: list[str], count: int) -> list[str]:
    """An index of ``count`` documents with random vectors; returns their texts."""
    found = list(read_corpus(sources))
    texts = [document.content for document in found]
    with Index.create(path, dimension=32, encoder={"name": "none", "fingerprint": "unknown"}) as index:
        vectors = np.random.default_rng(0)
        for start in range(0, count, 10_000):
            block = [
                IndexedDocument(f"{number}", found[number % len(found)].text, found[number % len(found)].title,
                                {"part": number // len(found), "group": f"g{number % 7}"})
                for number in range(start, min(count, start + 10_000))
            ]  # fmt: skip
            with index.writer() as writer:
                writer.add(block, vectors.standard_normal((len(block), 32)).astype(np.float32))
                writer.commit()
        index.compact()
    return texts


def queries(texts: list[str], count: int) -> list[str]:
    """Three words each, of one document."""
    choose = random.Random(0)
    words = (
        [word for word in text.split() if word.isalpha() and len(word) > 3] for text in choose.sample(texts, len(texts))
    )
    return [" ".join(choose.sample(each, 3)) for each in itertools.islice((w for w in words if len(w) > 5), count)]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("corpus", nargs="+")
    parser.add_argument("--documents", type=int, default=50_000)
    parser.add_argument("--queries", type=int, default=12)
    parser.add_argument("--pace", type=int, default=120, help="milliseconds between two keys")
    given = parser.parse_args()
    browser = next(filter(None, map(shutil.which, BROWSERS)))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "bench.index"
        texts = make_index(path, given.corpus, given.documents)
        state = State(ServeSettings(indexes=[path]))
        listener = socket.create_server(("127.0.0.1", 0))
        server = uvicorn.Server(
            uvicorn.Config(create_app(state, more=page_routes()), log_config=None, access_log=False)
        )
        thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
        thread.start()
        with sync_playwright() as playwright:
            page = playwright.chromium.launch(
                executable_path=browser, args=["--no-sandbox", "--disable-gpu"]
            ).new_page()
            page.goto(f"http://127.0.0.1:{listener.getsockname()[1]}/")
            page.wait_for_selector("#start:not([hidden])", timeout=60_000)
            page.evaluate(MEASURE)
            for query in queries(texts, given.queries):
                page.fill("#q", "")
                page.wait_for_timeout(500)
                page.keyboard.type(query, delay=given.pace)
                page.wait_for_timeout(500)
            times = sorted(page.evaluate("() => window.times"))
        server.should_exit = True
        thread.join(10)
    cuts = statistics.quantiles(times, n=20)
    print(f"{given.documents} documents, {len(times)} keystrokes answered: median {statistics.median(times):.1f} ms, "
          f"90 % below {cuts[17]:.1f} ms, 95 % below {cuts[18]:.1f} ms, best {times[0]:.1f} ms")  # fmt: skip


if __name__ == "__main__":
    main()
