"""Tail latency of a search over many shards, by simulation: slow shards, dead shards, deadlines, a second question.

    python tests/benchmarks/sim_shards.py              # the table
    python tests/benchmarks/sim_shards.py --check      # beside real runs with 2, 4 and 8 shards: threads and a clock

A query is as slow as its slowest shard. A shard answers after a time that is log-normal around ``--median``. One answer
in a hundred (``--slow``) takes ``--slow-factor`` times as long: a pause, a cold cache. A dead shard gives
no answer. If there is a replica, it is asked as well once ``hedge`` milliseconds have gone by, and the first answer
counts: Dean and Barroso, "The Tail at Scale", CACM 2013. At the deadline the front answers with what it has.
"""

from __future__ import annotations

import argparse
import json
import threading
import time
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, kw_only=True)
class Model:
    """How shards answer. Times in milliseconds.

    Attributes:
        median: of an answer.
        sigma: of its logarithm.
        slow: share of answers that are slow.
        slow_factor: how much slower they are.
        dead: shards that never answer (their replicas do).
        replicas: machines that can answer for a shard.
        hedge: wait before a replica is asked, too; infinite for never.
        deadline: when the front answers with what it has.
    """

    median: float = 5.0
    sigma: float = 0.35
    slow: float = 0.01
    slow_factor: float = 20.0
    dead: int = 0
    replicas: int = 1
    hedge: float = np.inf
    deadline: float = 200.0

    def answers(self, draw: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        """Times of answers that come."""
        times = self.median * np.exp(self.sigma * draw.standard_normal(shape))
        return np.where(draw.random(shape) < self.slow, times * self.slow_factor, times)


def simulated(model: Model, shards: int, queries: int, seed: int = 0) -> dict[str, float]:
    """Latency and completeness of many queries."""
    draw = np.random.default_rng(seed)
    first = model.answers(draw, (queries, shards))
    first[:, : model.dead] = np.inf
    if model.replicas > 1:
        second = np.where(first > model.hedge, model.hedge + model.answers(draw, first.shape), np.inf)
        asked_twice = float((first > model.hedge).mean())
        first = np.minimum(first, second)
    else:
        asked_twice = 0.0
    in_time = first <= model.deadline
    latency = np.where(in_time.all(axis=1), first.max(axis=1), model.deadline)
    return {
        **{f"p{at}": float(np.percentile(latency, at)) for at in (50, 95, 99)},
        "partial": float(1 - in_time.all(axis=1).mean()),
        "asked_twice": asked_twice,
    }


def run(model: Model, shards: int, queries: int, seed: int = 0) -> dict[str, float]:
    """The same with threads that wait, and a clock."""
    draw = np.random.default_rng(seed)
    lock = threading.Lock()
    twice = [0]

    def answer(dead: bool, over: threading.Event) -> bool:
        with lock:
            seconds = float(model.answers(draw, (1,))[0]) / 1000
        if dead:
            over.wait(model.deadline / 1000)
            return False
        return not over.wait(seconds)

    def ask(pool: ThreadPoolExecutor, shard: int, over: threading.Event) -> list[Future[bool]]:
        return [pool.submit(answer, shard < model.dead, over)]

    latencies, partial = [], 0
    with ThreadPoolExecutor(2 * shards) as pool:
        for _ in range(queries):
            over, start = threading.Event(), time.perf_counter()
            asked = {shard: ask(pool, shard, over) for shard in range(shards)}
            missing = set(asked)
            hedged = model.replicas < 2
            while missing:
                spent = 1000 * (time.perf_counter() - start)
                if spent >= model.deadline:
                    break
                until = model.deadline if hedged else min(model.hedge, model.deadline)
                waiting = [each for shard in missing for each in asked[shard] if not each.done()]
                wait(waiting, timeout=max(0.0, until - spent) / 1000, return_when=FIRST_COMPLETED)
                missing = {n for n in missing if not any(each.done() and each.result() for each in asked[n])}
                if not hedged and 1000 * (time.perf_counter() - start) >= model.hedge:
                    hedged = True
                    for shard in missing:
                        twice[0] += 1
                        asked[shard].append(pool.submit(answer, False, over))
            latencies.append(1000 * (time.perf_counter() - start))
            partial += bool(missing)
            over.set()
    return {
        **{f"p{at}": float(np.percentile(latencies, at)) for at in (50, 95, 99)},
        "partial": partial / queries,
        "asked_twice": twice[0] / queries / shards,
    }


def shown(name: str, shards: int, found: dict[str, float]) -> None:
    """A line."""
    print(
        json.dumps({"case": name, "shards": shards, **{key: round(value, 4) for key, value in found.items()}}),
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--median", type=float, default=5.0)
    parser.add_argument("--slow", type=float, default=0.01)
    parser.add_argument("--slow-factor", type=float, default=20.0)
    parser.add_argument("--queries", type=int, default=20_000)
    parser.add_argument("--check", action="store_true", help="Compare with real runs.")
    given = parser.parse_args()
    base = {"median": given.median, "slow": given.slow, "slow_factor": given.slow_factor}
    if given.check:
        base["median"] = 20 * given.median  # so that the switch of threads does not count
        for shards in (2, 4, 8):
            for name, more in (
                ("one replica", {}),
                ("two replicas", {"replicas": 2, "hedge": 2 * base["median"]}),
                ("one dead", {"dead": 1}),
                ("one dead, two replicas", {"dead": 1, "replicas": 2, "hedge": 2 * base["median"]}),
            ):
                model = Model(**base, **more, deadline=10 * base["median"])
                shown(f"{name}, simulated", shards, simulated(model, shards, given.queries))
                shown(f"{name}, real", shards, run(model, shards, 60))
        return
    for shards in (1, 2, 4, 8, 16, 64, 256):
        hedge = 2 * given.median
        shown("one replica", shards, simulated(Model(**base), shards, given.queries))
        shown("two replicas", shards, simulated(Model(**base, replicas=2, hedge=hedge), shards, given.queries))
        shown("one dead", shards, simulated(Model(**base, dead=1), shards, given.queries))
        shown(
            "one dead, two replicas",
            shards,
            simulated(Model(**base, dead=1, replicas=2, hedge=hedge), shards, given.queries),
        )


if __name__ == "__main__":
    main()
