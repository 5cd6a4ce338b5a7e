"""The next step's data while this step computes: what the processor prepares, a GPU need not wait for."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

__all__ = ["Ahead"]

T = TypeVar("T")


class Ahead(Generic[T]):
    """A function of the step number, asked for the steps in their order, and computed one step ahead in a thread.

    The function runs in that thread only, one call after the other, so it may keep things for itself.
    """

    def __init__(self, prepare: Callable[[int], T]) -> None:
        self._prepare = prepare
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="ahead")
        self._next: tuple[int, Future[T]] | None = None

    def __call__(self, step: int) -> T:
        """What belongs to a step; whatever the function raises."""
        step_of, found = self._next or (-1, None)
        ready = found if found is not None and step_of == step else self._thread.submit(self._prepare, step)
        made = ready.result()
        self._next = step + 1, self._thread.submit(self._prepare, step + 1)
        return made
