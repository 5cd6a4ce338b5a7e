"""Waiting for a pipe, however many files are open."""

from __future__ import annotations

import selectors

__all__ = ["readable"]


def readable(descriptor: int, seconds: float) -> bool:
    """Whether there is something to read, or an end, within so many seconds.

    ``select.select`` refuses descriptors from 1,024 on, which a server with many connections has.
    """
    with selectors.DefaultSelector() as selector:
        selector.register(descriptor, selectors.EVENT_READ)
        return bool(selector.select(seconds))
