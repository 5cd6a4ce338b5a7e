"""How far encoding is: counted in texts, measured in tokens, since texts differ in length.

An encoder tells whoever watches (:func:`watch_encoding`) after each batch. :class:`EncodingMeter` joins several calls
and the windows of a stream into one progress, and works out the share of the whole that is done.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from llm2comp_apps.encoder.protocol import FloatArray, LimitsLength, TextEncoder

__all__ = ["EncodingMeter", "EncodingProgress", "ProgressCallback", "tell_watcher", "watch_encoding", "watcher"]

_CHARACTERS = 4
"""Of a token, about; what is not a character of ours cancels out, as shares are compared within one corpus."""


_LONG = 1000
"""Tokens of a text each of which costs twice what one of a short text does: all of them look at all others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodingProgress:
    """How far encoding is.

    Attributes:
        done: texts encoded so far.
        total: texts in all; ``None`` while a stream has not ended.
        fraction: share of the work that is done, 0 to 1, by tokens; ``None`` where nothing tells how much there is.
        step: what is done, for people.
        unit: what is counted.
    """

    done: int
    total: int | None = None
    fraction: float | None = None
    step: str = "encoding"
    unit: str = "texts"


ProgressCallback = Callable[[EncodingProgress], Any]

_watcher: ContextVar[ProgressCallback | None] = ContextVar("watcher", default=None)


@contextmanager
def watch_encoding(callback: ProgressCallback | None) -> Iterator[None]:
    """Have ``callback`` told after each batch that an encoder encodes inside; the innermost watcher alone is told."""
    token = _watcher.set(callback)
    try:
        yield
    finally:
        _watcher.reset(token)


def watcher() -> ProgressCallback | None:
    """Who watches just now."""
    return _watcher.get()


def tell_watcher(batches: Iterable[list[int]], sizes: Sequence[int]) -> Iterator[list[int]]:
    """Pass batches through, and tell the watcher after each.

    Args:
        batches: rows that have just been encoded together.
        sizes: tokens of each row.
    """
    callback = _watcher.get()
    if callback is None:
        yield from batches
        return
    costs = [size * (1 + size / _LONG) for size in sizes]
    done, cost, total = 0, 0.0, max(sum(costs), 1.0)
    for batch in batches:
        done += len(batch)
        cost += sum(costs[row] for row in batch)
        callback(EncodingProgress(done=done, total=len(sizes), fraction=min(cost / total, 1.0)))
        yield batch


class EncodingMeter:
    """Encodes, and reports how far the whole is.

    Args:
        encoder: any; one that tells nothing while it works is reported on between its calls.
        report: told after each batch; ``None`` for nobody.
        texts: all texts that will be encoded, where they are known.
        share: share of a stream that has been read, for streams; ``None`` from it while nothing tells.
    """

    def __init__(
        self,
        encoder: TextEncoder,
        report: ProgressCallback | None,
        *,
        texts: Sequence[str] | None = None,
        share: Callable[[], float | None] | None = None,
    ) -> None:
        self._encoder = encoder
        self._report = report
        limit = encoder.room() if isinstance(encoder, LimitsLength) else None
        self._most = limit * _CHARACTERS if limit else None
        self._extra = getattr(encoder, "k", 2) * _CHARACTERS
        self._share = share
        self._total = None if texts is None else len(texts)
        self._whole: float | None = None if texts is None else sum(map(self._cost, texts))
        self._waiting: deque[int] = deque()  # what the texts cost that were taken and have not come back
        self._taken = 0  # texts
        self._cost_taken = self._cost_done = 0

    def expect(self, texts: Iterable[str]) -> None:
        """Add texts to those that will be encoded."""
        for text in texts:
            self._total = (self._total or 0) + 1
            self._whole = (self._whole or 0) + self._cost(text)

    def begin(self) -> None:
        """Report that nothing is done yet, so that whoever measures time starts to."""
        self._tell(0, 0)

    def encode(self, texts: Sequence[str], *, prompt: str | None = None, show_progress: bool = False) -> FloatArray:
        """One call of ``encode``."""
        self._waiting.extend(map(self._cost, texts))
        self._taken += len(texts)
        self._cost_taken += sum(map(self._cost, texts))
        with watch_encoding(self._within):
            vectors = self._encoder.encode(texts, prompt=prompt, show_progress=show_progress)
        self._came_back(len(vectors))
        return vectors

    def stream(self, texts: Iterable[str], *, prompt: str | None = None) -> Iterator[FloatArray]:
        """As ``encode_stream``."""
        blocks = iter(self._encoder.encode_stream(self._counted(texts), prompt=prompt))
        while True:
            with watch_encoding(self._within):
                block = next(blocks, None)
            if block is None:
                return
            self._came_back(len(block))
            yield block

    def _counted(self, texts: Iterable[str]) -> Iterator[str]:
        for text in texts:
            cost = self._cost(text)
            self._waiting.append(cost)
            self._taken += 1
            self._cost_taken += cost
            yield text
        if self._whole is None:
            self._total, self._whole = self._taken, self._cost_taken

    def _cost(self, text: str) -> int:
        return (len(text) if self._most is None else min(len(text), self._most)) + self._extra

    def _within(self, inner: EncodingProgress) -> None:
        """A batch is done of what was taken last."""
        done = self._taken - len(self._waiting) + inner.done
        self._tell(done, self._cost_done + (inner.fraction or 0.0) * (self._cost_taken - self._cost_done))

    def _came_back(self, count: int) -> None:
        for _ in range(count):
            self._cost_done += self._waiting.popleft()
        self._tell(self._taken - len(self._waiting), self._cost_done)

    def _tell(self, done: int, cost: float) -> None:
        if self._report is None:
            return
        whole = self._whole
        if whole is None and self._share is not None and (share := self._share()):
            whole = self._cost_taken / share
        fraction = None if whole is None else min(cost / max(whole, 1), 1.0)
        self._report(EncodingProgress(done=done, total=self._total, fraction=fraction))
