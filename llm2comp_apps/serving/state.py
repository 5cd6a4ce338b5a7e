"""What a running server holds: indexes, engines, counts, and whether it takes work."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any, Literal, TypeAlias, TypeVar

from llm2comp_apps import UsageError, identity_of, load_encoder
from llm2comp_apps.serving.batching import Engine
from llm2comp_apps.serving.calm import calmly
from llm2comp_apps.serving.errors import ApiError, busy, not_found
from llm2comp_apps.serving.following import Follower
from llm2comp_apps.serving.generations import ServedIndex, Watcher
from llm2comp_apps.serving.metrics import Metrics, SearchSeconds
from llm2comp_apps.serving.settings import ServeSettings, named_indexes
from llm2comp_apps.serving.shards.addresses import ShardedAddress, parse_shards
from llm2comp_apps.serving.shards.remote import RemoteIndex
from llm2comp_apps.serving.shards.served import ServedShards

__all__ = ["State"]

_UNKNOWN = "unknown"
"""The fingerprint of imported vectors whose encoder nobody named."""
T = TypeVar("T")
Pool: TypeAlias = Literal["search", "rerank", "write"]
"""Threads for one kind of work. What waits for the encoder, or for its turn to write, has others than what does not."""
_THREADS: dict[Pool, int] = {"search": 16, "rerank": 8, "write": 8}


class State:
    """One server.

    Attributes:
        settings: as it was asked for.
        indexes: by name.
        engines: by the fingerprint of their encoder, or its name where no index has it.
        metrics: what is counted.
        draining: whether new work is refused because the server stops.
        at_work: requests that are being answered.
    """

    def __init__(self, settings: ServeSettings) -> None:
        """Open the indexes; raises what :meth:`llm2comp_apps.Collection.open` does."""
        self.settings = settings
        self.metrics = Metrics()
        self.indexes = {
            name: ServedIndex(name, path, settings.device) for name, path in named_indexes(settings.indexes).items()
        }
        for typed in settings.shards:
            self._add_shards(parse_shards(typed))
        self.engines: dict[str, Engine] = {}
        self.draining = False
        self.at_work = 0
        self.started = time.time()
        self._watcher = Watcher(list(self.indexes.values()), settings.refresh_seconds, self._count)
        if not self.indexes or (settings.encoder is not None and not settings.shards):
            # The first one answers who names no model, as clients of TEI never do.
            name = settings.encoder or "default"
            known = identity_of(name)  # an index that was built by the same one shares it
            key = known.fingerprint if known else name
            self._add_engine(key, lambda: load_encoder(name, device=settings.device), name)
        for served in self.indexes.values():
            self._count(served)
            fingerprint = served.encoder_record.get("fingerprint", _UNKNOWN)
            if fingerprint == _UNKNOWN or not settings.load_encoders:
                continue
            if fingerprint not in self.engines:
                self._add_engine(fingerprint, served.load_encoder, served.encoder_record["name"])
            served.engine = self.engines[fingerprint]
            # Opened for searches by meaning as soon as that is possible, and not by the first request.
            served.engine.loaded.add_done_callback(partial(_open_by_meaning, served))
        self.metrics.registry.register(
            SearchSeconds(lambda: [served.collection.stopwatch.parts for served in self.indexes.values()])
        )
        self._followers = [Follower(self.indexes[name], folder) for name, folder in settings.watch.items()]
        self._threads = {pool: ThreadPoolExecutor(count, pool) for pool, count in _THREADS.items()}

    def _add_shards(self, address: ShardedAddress) -> None:
        settings = self.settings
        index = RemoteIndex(
            address,
            key=settings.shard_key,
            deadline=settings.deadline,
            count=lambda shard, outcome: self.metrics.shard_questions.labels(shard, outcome).inc(),
        )
        if index.name in self.indexes:
            index.close()
            reason = f"would serve two indexes under one name, {index.name!r}; write OTHER=URL,URL"
            raise UsageError(reason, field="shards")
        self.indexes[index.name] = ServedShards(
            index, encoder=settings.encoder, device=settings.device, on_partial=self.metrics.partial.inc
        )

    def _add_engine(self, key: str, load: object, name: str) -> None:
        name = _shown(name)
        limit = self.settings.limits.max_wait
        self.engines[key] = Engine(load, name=name, max_wait=limit, metrics=self.metrics)  # type: ignore[arg-type]

    def _count(self, served: ServedIndex) -> None:
        index = served.collection.index
        self.metrics.index_generation.labels(served.name).set(index.generation)
        self.metrics.index_documents.labels(served.name).set(len(index))

    def start(self) -> None:
        """Load the encoders and look for new commits."""
        for engine in self.engines.values():
            engine.start()
        self._watcher.start()
        for follower in self._followers:
            follower.start()

    def close(self) -> None:
        """Stop."""
        self.draining = True
        self._watcher.close()
        for follower in self._followers:
            follower.close()
        for engine in self.engines.values():
            engine.close()
        for pool in self._threads.values():
            pool.shutdown(wait=False, cancel_futures=True)
        for served in self.indexes.values():
            served.close()

    async def in_thread(self, work: Callable[[], T], *, pool: Pool = "search") -> T:
        """Run what blocks in one of the threads of a pool."""
        return await asyncio.get_running_loop().run_in_executor(self._threads[pool], calmly, work)

    def index(self, name: str) -> ServedIndex:
        """The index of a name.

        Raises:
            ApiError: there is none.
        """
        if name not in self.indexes:
            known = ", ".join(self.indexes) or "none"
            raise not_found(f"there is no index {name!r}; there are: {known}", code="index_not_found", param="name")
        return self.indexes[name]

    def engine(self, model: str | None) -> Engine:
        """The engine of a model; the only one where none is named.

        Raises:
            ApiError: there is none of that name.
        """
        engines = list(self.engines.values())
        if model is None and engines:
            return engines[0]
        for key, engine in self.engines.items():
            if model in (key, engine.name) or (engine.ready and model == engine.encoder.name):
                return engine
        if model == "default" and engines:
            return engines[0]
        if not engines:
            raise not_found("this server has no encoder", code="model_not_found", param="model")
        known = ", ".join(engine.name for engine in engines)
        raise not_found(f"there is no model {model!r}; there are: {known}", code="model_not_found", param="model")

    def unready(self) -> list[str]:
        """Why the server should get no requests; empty if it should."""
        reasons = ["the server is stopping"] if self.draining else []
        for engine in self.engines.values():
            if not engine.ready:
                reasons.append(f"the encoder {engine.name} is not loaded")
            elif engine.stuck():
                reasons.append(f"the encoder {engine.name} does not move")
        reasons += [served.trouble for served in self.indexes.values() if not served.sound]
        return reasons

    def enter(self) -> None:
        """Begin a request.

        Raises:
            ApiError: the server stops, or too many requests are at work.
        """
        if self.draining:
            raise busy("the server is stopping", seconds=5)
        if self.at_work >= self.settings.limits.requests:
            self.metrics.overloaded.inc()
            raise ApiError(429, "too many requests are at work", code="overloaded", retry_after=1)
        self.at_work += 1

    def leave(self) -> None:
        """End a request that has entered."""
        self.at_work -= 1


def _shown(name: str) -> str:
    """An encoder's name without the folders of this machine, which are nobody's business."""
    return re.sub(r"(?:^|(?<=[:@]))/(?:[^/@]*/)*(?=[^/])", "", name)


def _open_by_meaning(served: ServedIndex, loaded: Future[Any]) -> None:
    if loaded.exception() is None:
        _ = served.collection
