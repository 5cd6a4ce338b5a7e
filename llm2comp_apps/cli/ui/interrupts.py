"""Stopping long work at a good moment."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["stop_on_interrupt"]


@contextmanager
def stop_on_interrupt(message: str) -> Iterator[Callable[[], bool]]:
    """Turn the first ctrl-C into a question that the work asks when it can stop; the second one interrupts at once.

    Args:
        message: printed on stderr at the first ctrl-C.

    Yields:
        A function that tells whether to stop.
    """
    asked = False

    def on_interrupt(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - the signature of a handler
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True
        # Not print: a handler may run in the middle of another print, and buffered streams cannot be re-entered.
        os.write(sys.__stderr__.fileno() if sys.__stderr__ else 2, f"\n{message}\n".encode())

    previous = signal.signal(signal.SIGINT, on_interrupt)
    try:
        yield lambda: asked
    finally:
        signal.signal(signal.SIGINT, previous)
