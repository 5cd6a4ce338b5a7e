"""The indexes that are served: opened once, moved on to each new commit while requests run.

A request reads one generation to its end, whatever other threads do (:class:`llm2comp_indexes.Index` leases it).
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from llm2comp_indexes import FieldSummary

from llm2comp_apps import Collection, TopicModel
from llm2comp_apps.serving.batching import Engine
from llm2comp_apps.serving.calm import calmly
from llm2comp_apps.serving.errors import not_found
from llm2comp_apps.serving.lanes import encoder_in_lane
from llm2comp_apps.serving.topic_maps import TopicMap

__all__ = ["ServedIndex", "Watcher"]

LOGGER = logging.getLogger(__name__)
T = TypeVar("T")
_RETIREMENT_SECONDS = 60.0
_MOST_VALUES = 200  # of a field that are shown
_MOST_FIELDS = 20  # that a line names
_KEPT_DOUBTS = 256  # conditions of which is known whether their fields are there


class ServedIndex:
    """An index under a name.

    Args:
        name: in URLs.
        path: its folder.
        device: where an encoder of its own would run.

    Attributes:
        collection: what searches read.
        engine: of its encoder; ``None`` where nobody knows the encoder, so that only words can be searched.
        sound: whether the last look for a newer generation succeeded.
        local: whether its files lie on this machine.
    """

    local = True

    def __init__(self, name: str, path: Path, device: str | None = None) -> None:
        self.name = name
        self.path = path
        self._clusters = path.with_name(f"{path.name.removesuffix('.index')}.clusters")
        self.device = device
        self.engine: Engine | None = None
        self.sound = True
        self.writing = threading.Lock()
        self._by_words = self.opened()
        self._by_meaning: Collection | None = None
        self._retired_at: float | None = None
        self._moving = threading.Lock()
        self._topics: tuple[float, TopicModel] | None = None
        self._map: TopicMap | None = None
        self._fields: tuple[tuple[int, int], list[dict[str, Any]]] | None = None
        self._doubts: dict[tuple[int, int, str], list[str]] = {}
        self._moves = 0  # an index that was removed and made again may have the generation of the former one
        self.encoder_record = self._by_words.index.encoder

    def opened(self, encoder: Any = None) -> Collection:
        """The index as a collection, with an encoder if one is given."""
        return Collection.open(self.path, encoder=encoder)

    @property
    def collection(self) -> Collection:
        """What searches read; without an encoder until the engine has loaded it."""
        if self._by_meaning is None and self.engine is not None and self.engine.ready:
            with self._moving:
                if self._by_meaning is None:
                    self._by_meaning = self.opened(encoder_in_lane(self.engine, "query"))
                    self._retired_at = time.monotonic()
        return self._by_meaning or self._by_words

    def load_encoder(self) -> Any:
        """The encoder by which it was built."""
        with Collection.open(self.path, device=self.device) as library:
            return library.encoder

    def opened_for_writing(self) -> Collection:
        """The same index with its encoder in the lane of bulk work; the caller closes it."""
        assert self.engine is not None
        return self.opened(encoder_in_lane(self.engine, "bulk"))

    def check_writable(self) -> None:
        """Refuse to change documents where they cannot be changed here."""

    def answered(self, work: Callable[[], T]) -> tuple[T, list[str]]:
        """Do what reads the index; returns also the names of the parts that did not answer: none, for one index."""
        return work(), []

    @property
    def trouble(self) -> str:
        """What to say where it is not sound."""
        return f"the index {self.name} cannot be read"

    def shard_states(self) -> list[dict[str, Any]] | None:
        """What is known of each shard; ``None`` for an index without."""
        return None

    def refresh(self) -> bool:
        """Move on to the newest commit; returns whether there was a newer one."""
        moved = self.collection.index.refresh()
        self._moves += moved
        if self._retired_at is not None and time.monotonic() - self._retired_at > _RETIREMENT_SECONDS:
            self._by_words.close()  # whoever was given it before there was the other has begun to read by now
        self.sound = True
        return moved

    @property
    def has_topics(self) -> bool:
        """Whether a clustering lies beside the index."""
        return (self._clusters / "topics.json").is_file()

    @property
    def topics(self) -> TopicModel:
        """The clustering beside the index, read again when it has changed.

        Raises:
            ApiError: there is none.
        """
        try:
            changed = max(entry.stat().st_mtime for entry in self._clusters.iterdir())
        except (OSError, ValueError):
            raise not_found(f"the index {self.name} has no topics; `llm2comp cluster` finds them") from None
        if self._topics is None or self._topics[0] != changed:
            self._topics = changed, TopicModel.load(self._clusters)
        return self._topics[1]

    @property
    def topic_map(self) -> TopicMap:
        """The map of :attr:`topics`; raises what it does."""
        model = self.topics
        if self._map is None or self._map.model is not model:
            self._map = TopicMap(model)
        return self._map

    @property
    def fields(self) -> list[dict[str, Any]]:
        """The metadata fields, with their most frequent values: of one generation, looked at once."""
        moves = self._moves
        with self.collection.index.pinned() as index:
            seen = moves, index.generation
            if self._fields is None or self._fields[0] != seen:
                self._fields = seen, [_plain_field(each) for each in index.fields()]
            return self._fields[1]

    def doubts(self, where: str) -> list[str]:
        """A line for each field of a condition that no document has: looked at once in each generation."""
        moves = self._moves
        with self.collection.index.pinned() as index:
            asked = moves, index.generation, where
            if (found := self._doubts.get(asked)) is None:
                found = [_doubt(*each) for each in index.unknown_fields(where).items()]
                self._doubts = dict([*self._doubts.items(), (asked, found)][-_KEPT_DOUBTS:])
        return found

    def close(self) -> None:
        """Let go of the files, once nobody reads them."""
        self._by_words.close()
        if self._by_meaning is not None:
            self._by_meaning.close()


def _doubt(field: str, known: list[str]) -> str:
    more = f" and {len(known) - _MOST_FIELDS} more" if len(known) > _MOST_FIELDS else ""
    there = ", ".join(["_id", *known[:_MOST_FIELDS]])
    return f"where: no document has a field {field!r} (there are: {there}{more})"


def _plain_field(found: FieldSummary) -> dict[str, Any]:
    numbers = [value for value, _ in found.values if isinstance(value, int | float) and not isinstance(value, bool)]
    bounds = {"low": min(numbers), "high": max(numbers)} if numbers else {}
    return {
        "name": found.name,
        "documents": found.documents,
        "type": max(found.types, key=lambda name: found.types[name]) if found.types else "text",
        "distinct": len(found.values),
        "values": [list(each) for each in found.values[:_MOST_VALUES]],
        **bounds,
    }


class Watcher:
    """Looks for new commits, in a thread of its own.

    Args:
        indexes: to look at.
        seconds: between two looks.
        on_look: told of each index after each look.
    """

    def __init__(
        self, indexes: list[ServedIndex], seconds: float, on_look: Callable[[ServedIndex], None] = lambda _: None
    ) -> None:
        self._indexes = indexes
        self._seconds = seconds
        self._on_look = on_look
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watcher", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def look(self) -> None:
        """Look once."""
        for served in self._indexes:
            try:
                calmly(served.refresh)
            except Exception:
                if served.sound:
                    LOGGER.warning("%s: cannot move on to its newest commit", served.path, exc_info=True)
                served.sound = False
            self._on_look(served)

    def close(self) -> None:
        """End the thread."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join(10)

    def _watch(self) -> None:
        while not self._stop.wait(self._seconds):
            self.look()
