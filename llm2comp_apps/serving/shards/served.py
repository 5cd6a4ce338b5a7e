"""An index in shards under the server: searched as any other, and not changed here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from llm2comp_apps import Collection, TopicModel, open_shards
from llm2comp_apps.serving.errors import ApiError, busy, not_found
from llm2comp_apps.serving.generations import ServedIndex
from llm2comp_apps.serving.shards.asking import MovedError
from llm2comp_apps.serving.shards.remote import RemoteIndex, Request

__all__ = ["ServedShards"]

T = TypeVar("T")
_TRIES = 4
_MISFITS = (KeyError, IndexError, ValueError)  # but none of their kinds, which say what is wrong with a request


class ServedShards(ServedIndex):
    """Shards under one name.

    Args:
        index: the shards.
        encoder: where their encoder lies now; ``None`` for where the shards say.
        device: where it runs.
        on_partial: called for each answer in which shards are missing.
    """

    local = False

    def __init__(
        self,
        index: RemoteIndex,
        *,
        encoder: str | None = None,
        device: str | None = None,
        on_partial: Callable[[], None] = lambda: None,
    ) -> None:
        self.index = index
        self._encoder = encoder
        self._on_partial = on_partial
        super().__init__(index.name, Path(index.name), device)

    def opened(self, encoder: Any = None) -> Collection:
        """The shards as a collection."""
        return open_shards(self.index.pinned(), encoder=encoder, device=self.device)

    def load_encoder(self) -> Any:
        """The encoder by which the shards were built."""
        return self.opened(self._encoder).encoder

    def opened_for_writing(self) -> NoReturn:
        """Refused: see :meth:`check_writable`."""
        self.check_writable()
        raise AssertionError

    def check_writable(self) -> None:
        """Refuse to change documents.

        Raises:
            ApiError: says where they are changed.
        """
        message = f"the index {self.name} lies in shards; change documents at the servers of its shards"
        raise ApiError(409, message, code="sharded")

    def answered(self, work: Callable[[], T]) -> tuple[T, list[str]]:
        """Do what asks the shards; again from the start where they have moved on or were lost meanwhile."""
        request = Request()
        while request.tries < _TRIES:
            try:
                with self.index.reading(request):
                    found = work()
            except MovedError:
                request = request.again()
                continue
            except _MISFITS as error:  # a document of one state is not in another, or has more chunks there
                if not request.mixed or type(error) not in _MISFITS:
                    raise
                request = request.again()
                continue
            if request.missing:
                self._fields = None  # what was found is not all
                self._on_partial()
            return found, self.index.missing(request)
        raise busy("the shards change faster than they can be asked; try again in a moment")

    def doubts(self, where: str) -> list[str]:
        """As for one index; none where a shard does not answer, since a field may be there."""
        try:
            return super().doubts(where)
        except ApiError:
            return []

    def refresh(self) -> bool:
        """Look at the servers of all shards; returns whether one of them has moved on."""
        moved = self.index.refresh()
        self._moves += moved  # a replica that was behind may have moved on to where the others were
        self.sound = self.index.sound
        return moved

    @property
    def trouble(self) -> str:
        """What to say where it is not sound."""
        return f"no shard of the index {self.name} answers"

    def shard_states(self) -> list[dict[str, Any]]:
        """What is known of each shard."""
        return [shard.state() for shard in self.index.parts]

    @property
    def has_topics(self) -> bool:
        """Never: the documents of all shards were clustered by nobody."""
        return False

    @property
    def topics(self) -> TopicModel:
        """None.

        Raises:
            ApiError: says so.
        """
        raise not_found(f"the index {self.name} lies in shards, and has no topics")

    def close(self) -> None:
        """End the connections."""
        self.index.close()
