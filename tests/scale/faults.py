"""A Ray cluster of three nodes, and schedules of what goes wrong with it. Also a program; see ``main``."""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

OBJECT_STORE = 80 * 2**20
QUICK = {  # so that the loss of a node is seen within seconds
    "RAY_health_check_period_ms": "500",
    "RAY_health_check_failure_threshold": "3",
    "RAY_health_check_initial_delay_ms": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DEDUP_LOGS": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}


class SleepingEncoder:
    """An encoder that is bound by waiting: a vector of a hash of the text, after a while. Needs no torch."""

    name, fingerprint, dimension, k, pooling = "sleeping", "f" * 32, 16, 2, "mean"

    def __init__(self, seconds: float) -> None:
        self.prompts: dict[str, str] = {}
        self._seconds = seconds

    def encode(self, texts: Any, *, prompt: str | None = None, show_progress: bool = False) -> np.ndarray:
        """Wait for each text."""
        time.sleep(self._seconds * len(texts))
        seeds = [hashlib.blake2b(text.encode(), digest_size=8).digest() for text in texts]
        rows = [np.random.default_rng(int.from_bytes(seed, "little")).standard_normal(16) for seed in seeds]
        vectors = np.array(rows, dtype=np.float32).reshape(len(texts), 16)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    def encode_stream(self, texts: Any, *, prompt: str | None = None) -> Iterator[np.ndarray]:
        """One after another."""
        for text in texts:
            yield self.encode([text], prompt=prompt)


class Load:
    """Loads one in a worker; pickled by its values, so that workers need not import this file."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def __call__(self) -> SleepingEncoder:
        return SleepingEncoder(self.seconds)


@contextlib.contextmanager
def cluster(nodes: int = 3) -> Iterator[Any]:
    """A cluster on this machine: a head without cores, and nodes with one each."""
    import ray
    from ray.cluster_utils import Cluster

    for name, value in QUICK.items():
        os.environ.setdefault(name, value)
    made = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 0, "object_store_memory": OBJECT_STORE, "include_dashboard": False},
    )
    try:
        for _ in range(nodes):
            made.add_node(num_cpus=1, object_store_memory=OBJECT_STORE)
        yield made
    finally:
        with contextlib.suppress(Exception):
            ray.shutdown()
        made.shutdown()


def drive(job: Path, address: str, workers: int, seconds: float) -> subprocess.Popen[str]:
    """The driver in a process of its own."""
    code = (
        "import sys, json; sys.path[:0] = json.loads(sys.argv[1]); import ray\n"
        "from llm2comp_apps.scale import run_on_ray; from tests.scale.faults import Load\n"
        "import tests.scale.faults as faults; from ray import cloudpickle\n"
        "cloudpickle.register_pickle_by_value(faults)\n"
        "report = run_on_ray(sys.argv[2], address=sys.argv[3], workers=int(sys.argv[4]),"
        " load_encoder=Load(float(sys.argv[5])))\n"
        "print(json.dumps({'parts': report.parts, 'lost': report.lost, 'failed': report.failed, 'left': report.left,"
        " 'seconds': report.seconds}))\n"
    )
    arguments = [json.dumps([str(Path(__file__).parents[2])]), str(job), address, str(workers), str(seconds)]
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def workers_of(job: Path) -> list[int]:
    """Process ids of the workers that have a part of a job in hand."""
    from llm2comp_apps.scale import Job

    return sorted(lease.process for lease in Job.open(job).leases().values())


@dataclass
class Schedule:
    """What goes wrong, and when; drawn from a seed.

    Attributes:
        seed: of the draw.
        events: (seconds after the start or the event before, what): ``worker`` is killed, ``node`` is removed without
            grace, ``driver`` is killed and started again, ``add`` joins a node.
    """

    seed: int
    events: list[tuple[float, str]] = field(default_factory=list)

    @classmethod
    def draw(cls, seed: int) -> Schedule:
        """One of each at least, in any order; a node joins now and then, so that there is one to remove."""
        draw = random.Random(seed)
        kinds = ["worker", "node", "driver", *draw.choices(["worker", "driver", "node", "add"], k=draw.randint(0, 3))]
        draw.shuffle(kinds)
        removed = 0
        for place, kind in enumerate(kinds):
            removed += kind == "node"
            if removed > 2:
                kinds[place] = "add"
        return cls(seed, [(draw.uniform(0.3, 2.5), kind) for kind in kinds])


def survive(schedule: Schedule, job: Path, *, seconds: float, workers: int = 3, limit: float = 180.0) -> dict[str, Any]:
    """Run a job on a cluster while the schedule goes by; what happened."""
    from llm2comp_apps.scale import Job

    start, done_by_death = time.monotonic(), 0
    opened = Job.open(job)
    with cluster() as made:
        nodes = list(made.worker_nodes)
        driver = drive(job, made.address, workers, seconds)
        try:
            while not opened.done() and time.monotonic() - start < limit:  # faults come when there is something to hit
                time.sleep(0.1)
            happened = []
            for wait, kind in schedule.events:
                time.sleep(wait)
                if driver.poll() is not None:
                    break
                if kind == "worker":
                    alive = workers_of(job)
                    if not alive:
                        kind = "worker (none was there)"
                    else:
                        with contextlib.suppress(ProcessLookupError):
                            os.kill(random.Random(schedule.seed).choice(alive), signal.SIGKILL)
                elif kind == "node" and len(nodes) > 1:
                    made.remove_node(nodes.pop(), allow_graceful=False)
                elif kind == "add":
                    nodes.append(made.add_node(num_cpus=1, object_store_memory=OBJECT_STORE))
                elif kind == "driver":
                    driver.kill()
                    driver.communicate()
                    done_by_death = len(opened.done())
                    driver = drive(job, made.address, workers, seconds)
                happened.append(kind)
            out, error = driver.communicate(timeout=max(1.0, limit - (time.monotonic() - start)))
        finally:
            if driver.poll() is None:
                driver.kill()
                driver.communicate()
    if driver.returncode:
        raise AssertionError(f"seed {schedule.seed}: the driver ended with {driver.returncode}: {error[-2000:]}")
    report = json.loads(out.strip().splitlines()[-1])
    took = time.monotonic() - start
    return {**report, "events": happened, "done_before_last_driver": done_by_death, "took": round(took, 1)}


def part_digests(job: Path) -> dict[str, str]:
    """SHA-256 of each part."""
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted((job / "parts").glob("0*.parquet"))
    }


def write_corpus(path: Path, documents: int) -> Path:
    """A corpus of numbered texts."""
    lines = [
        json.dumps({"_id": f"d{n}", "title": f"Title {n}", "text": f"text {n} " * (1 + n % 9)})
        for n in range(documents)
    ]
    path.write_text("\n".join(lines) + "\n")
    return path


def main() -> None:
    """Run random schedules of 30 parts on three nodes, and compare each result with that of one process."""
    from llm2comp_indexes import Index

    from llm2comp_apps.scale import commit_job, plan_job, run_parts

    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--schedules", type=int, default=20)
    parser.add_argument("--first", type=int, default=0, help="Seed of the first schedule.")
    parser.add_argument("--parts", type=int, default=30)
    parser.add_argument("--seconds", type=float, default=0.03, help="Time that a text takes.")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        corpus = write_corpus(folder / "corpus.jsonl", 20 * given.parts)
        encoder = SleepingEncoder(0.0)
        alone = plan_job(folder / "alone", [corpus], parts=given.parts, encoder=encoder)
        run_parts(alone, encoder=encoder)
        commit_job(alone, folder / "alone.index")
        survived = 0
        for seed in range(given.first, given.first + given.schedules):
            job = folder / f"job-{seed}"
            plan_job(job, [corpus], parts=given.parts, encoder=encoder)
            report = survive(Schedule.draw(seed), job, seconds=given.seconds)
            same = part_digests(job) == part_digests(folder / "alone")
            commit_job(str(job), folder / f"{seed}.index")
            with Index.open(folder / "alone.index") as one, Index.open(folder / f"{seed}.index") as other:
                ids = list(one.ids())
                same &= list(other.ids()) == ids and one.get(ids) == other.get(ids)
                same &= bool(np.array_equal(one.vectors(ids), other.vectors(ids)))
            survived += same
            print(json.dumps({"seed": seed, "same": same, **report}), flush=True)
        print(f"{survived} of {given.schedules} schedules survived, with the same bytes and the same index", flush=True)
        sys.exit(survived < given.schedules)


if __name__ == "__main__":
    main()
