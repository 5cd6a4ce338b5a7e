"""What dealing out costs: the rate of two workers beside one, and the share of a run that is not encoding.

    python tests/benchmarks/bench_parts.py rate              # an encoder that waits, by Ray and by processes
    python tests/benchmarks/bench_parts.py overhead CORPUS   # an encoder that computes, on real texts

The rate is that of documents from when the last worker begins to the end of the last part. Starting processes
and loading models are left out, since they do not grow with a corpus.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

from llm2comp_apps import load_encoder
from llm2comp_apps.scale import Job, plan_job, run_on_ray, run_parts
from tests.scale import faults

SECONDS = 0.02


def work(job: str) -> None:
    """One of several processes at the same job."""
    run_parts(job, encoder=faults.SleepingEncoder(SECONDS), wait=True)


def rate(job: Path) -> float:
    """Documents a second, while all worked: after the last one had begun."""
    done = list(Job.open(job).done().values())
    first: dict[str, float] = {}
    for record in done:
        first[record.worker] = min(first.get(record.worker, math.inf), record.finished - record.seconds)
    begun = max(first.values())
    late = [record for record in done if record.finished - record.seconds >= begun - 1e-3]
    return sum(record.documents for record in late) / (max(record.finished for record in late) - begun)


def rates(folder: Path) -> None:
    """One worker and two, by processes and by Ray."""
    from ray import cloudpickle

    cloudpickle.register_pickle_by_value(faults)
    corpus = faults.write_corpus(folder / "corpus.jsonl", 1200)
    for engine in ("processes", "ray"):
        found = {}
        for workers in (1, 2):
            job = folder / f"{engine}-{workers}"
            plan_job(job, [corpus], parts=24, encoder=faults.SleepingEncoder(0.0))
            if engine == "ray":
                run_on_ray(str(job), workers=workers, load_encoder=faults.Load(SECONDS))
            else:
                started = [multiprocessing.Process(target=work, args=(str(job),)) for _ in range(workers)]
                for process in started:
                    process.start()
                for process in started:
                    process.join()
            found[workers] = rate(job)
        print(json.dumps({"engine": engine, **{f"rate_{n}": round(each, 1) for n, each in found.items()}}), end=" ")
        print(f"two workers do {found[2] / found[1]:.2f} times what one does", flush=True)


class Timed:
    """An encoder that counts its time."""

    def __init__(self, encoder: Any) -> None:
        self.inner, self.seconds, self.cpu = encoder, 0.0, 0.0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def encode(self, texts: Any, **settings: Any) -> Any:
        """Pass on."""
        start, cpu = time.perf_counter(), time.process_time()
        vectors = self.inner.encode(texts, **settings)
        self.seconds += time.perf_counter() - start
        self.cpu += time.process_time() - cpu
        return vectors


def overhead(folder: Path, corpus: Path, encoder: str) -> None:
    """Time of a run beside that of its encoder."""
    timed = Timed(load_encoder(encoder))
    plan_job(folder / "job", [corpus], parts=4, encoder=timed)
    start, cpu = time.perf_counter(), time.process_time()
    report = run_parts(str(folder / "job"), encoder=timed)
    wall, busy = time.perf_counter() - start, time.process_time() - cpu
    row = {"documents": report.documents, "seconds": round(wall, 2), "encoding": round(timed.seconds, 2)}
    row |= {"cpu": round(busy, 2), "cpu_encoding": round(timed.cpu, 2)}
    print(json.dumps(row), f"{wall / timed.seconds - 1:.1%} beside encoding", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["rate", "overhead"])
    parser.add_argument("corpus", type=Path, nargs="?")
    parser.add_argument("--encoder", default="default")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if given.what == "rate":
            rates(Path(folder))
        else:
            overhead(Path(folder), given.corpus, given.encoder)


if __name__ == "__main__":
    main()
