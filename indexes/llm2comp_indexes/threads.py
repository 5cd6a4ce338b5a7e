"""What threads of one process share: a generation that stays open until its last reader leaves it."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from functools import cached_property
from typing import Any, TypeVar, overload

__all__ = ["Leased", "loaded_once"]

_T = TypeVar("_T")


class loaded_once(cached_property[_T]):  # noqa: N801  used like `property` and `cached_property`
    """A `cached_property` that is made once, however many threads ask for it first.

    Its object has a lock `loading`, which is held meanwhile; what is made takes no part in later look-ups.
    """

    @overload
    def __get__(self, instance: None, owner: type[Any] | None = None) -> loaded_once[_T]: ...

    @overload
    def __get__(self, instance: object, owner: type[Any] | None = None) -> _T: ...

    def __get__(self, instance: Any, owner: type[Any] | None = None) -> Any:
        if instance is None:
            return self
        with instance.loading:
            return super().__get__(instance, owner)


class Leased(ABC):
    """Something that is closed when its last holder has let go of it; whoever makes it is the first.

    A reader takes a lease in two steps, since it must not wait for a lock: `holders` gets an entry, and then the reader
    looks whether the holder that it has this from holds it still. If not, it releases it and looks for the next. A
    holder that moves on points readers elsewhere first and releases then. So there is no moment at which a reader may
    read and `holders` is empty.

    Attributes:
        holders: an entry for each; appending and popping are atomic.
    """

    def __init__(self) -> None:
        self.holders: list[None] = [None]
        self._closing = threading.Lock()
        self._closed = False

    def release(self) -> None:
        """Let go; the last one closes."""
        self.holders.pop()
        if not self.holders:
            with self._closing:
                closed, self._closed = self._closed, True
            if not closed:
                self.close()

    @abstractmethod
    def close(self) -> None:
        """Let go of everything; `release` calls it."""
