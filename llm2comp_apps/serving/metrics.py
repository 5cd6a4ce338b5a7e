"""What the server counts, for Prometheus."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

__all__ = ["Metrics", "SearchSeconds"]

_SECONDS = [round(0.001 * 1.5**power, 6) for power in range(28)]
_TOKENS = [2**power for power in range(18)]


class SearchSeconds(Collector):
    """The parts of all searches, which collections add up by themselves.

    Args:
        parts: gives the seconds of each part, of each collection.
    """

    def __init__(self, parts: Callable[[], list[Mapping[str, float]]]) -> None:
        self._parts = parts

    def collect(self) -> Iterator[CounterMetricFamily]:
        """What Prometheus reads."""
        family = CounterMetricFamily("llm2comp_search_seconds", "Time of the parts of searches.", labels=["part"])
        sums: dict[str, float] = {}
        for parts in self._parts():
            for name, seconds in dict(parts).items():
                sums[name] = sums.get(name, 0.0) + seconds
        for name, seconds in sorted(sums.items()):
            family.add_metric([name], seconds)
        yield family


class Metrics:
    """Counters of one server, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter("llm2comp_requests", "Requests answered.", ["route", "code"], registry=self.registry)
        self.request_seconds = self._seconds("llm2comp_request_seconds", "Time of a request.", "route")
        self.queue_wait_seconds = self._seconds("llm2comp_queue_wait_seconds", "Time before the first batch.", "lane")
        self.queue_tokens = self._gauge("llm2comp_queue_tokens", "Tokens that wait for an encoder.", "model")
        self.batch_tokens = Histogram(
            "llm2comp_batch_tokens", "Tokens of a batch.", buckets=_TOKENS, registry=self.registry
        )
        self.batch_seconds = Histogram(
            "llm2comp_batch_seconds", "Time of a batch.", buckets=_SECONDS, registry=self.registry
        )
        self.truncated = self._counter("llm2comp_truncated", "Texts of which only the beginning was read.")
        self.cancelled = self._counter("llm2comp_cancelled", "Requests dropped because the client went away.")
        self.overloaded = self._counter("llm2comp_overloaded", "Requests refused because too much waits.")
        self.halved = self._counter("llm2comp_halved_batches", "Batches halved because memory ran out.")
        self.shard_questions = Counter(
            "llm2comp_shard_questions", "Questions to shards.", ["shard", "outcome"], registry=self.registry
        )
        self.partial = self._counter("llm2comp_partial", "Answers without some of the shards.")
        self.index_generation = self._gauge("llm2comp_index_generation", "Commit that is served.", "index")
        self.index_documents = self._gauge("llm2comp_index_documents", "Documents that are served.", "index")

    def text(self) -> bytes:
        """All of them, in Prometheus's text format."""
        return generate_latest(self.registry)

    def _counter(self, name: str, text: str) -> Counter:
        return Counter(name, text, registry=self.registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(name, text, labels, registry=self.registry)

    def _seconds(self, name: str, text: str, *labels: str) -> Histogram:
        return Histogram(name, text, labels, buckets=_SECONDS, registry=self.registry)
