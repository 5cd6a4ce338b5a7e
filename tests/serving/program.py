"""A server in a process of its own, with an encoder of hashes: for tests that end processes or limit them.

    python program.py INDEX [--write] [--seconds S] [--file-bytes N] [--drain S]

Prints its URL on a line of stdout when it listens.
"""

from __future__ import annotations

import argparse
import importlib.util
import resource
import time
from pathlib import Path

from llm2comp_apps.serving import ServeSettings, serve, state


def hash_encoder(seconds: float):
    """The encoder of the tests, which takes some time for each text."""
    path = Path(__file__).parents[1] / "conftest.py"
    spec = importlib.util.spec_from_file_location("shared_fixtures", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    class Slow(module.HashEncoder):
        def encode(self, texts, **options):
            time.sleep(seconds * len(texts))
            return super().encode(texts, **options)

        def encode_memory(self, texts, **options):
            time.sleep(seconds * len(texts))
            return super().encode_memory(texts, **options)

    return Slow()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("index")
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--seconds", type=float, default=0.0)
    parser.add_argument("--file-bytes", type=int)
    parser.add_argument("--drain", type=float, default=30.0)
    given = parser.parse_args()
    encoder = hash_encoder(given.seconds)
    state.load_encoder = lambda *_, **__: encoder
    import llm2comp_apps.encoder

    llm2comp_apps.encoder.load_encoder = lambda *_, **__: encoder
    if given.file_bytes:
        resource.setrlimit(resource.RLIMIT_FSIZE, (given.file_bytes, given.file_bytes))
    settings = ServeSettings(indexes=[given.index], port=0, write=given.write, drain_seconds=given.drain)
    serve(settings, on_start=lambda url: print(url, flush=True))


if __name__ == "__main__":
    main()
