"""One model at a time: while transformers loads one, it changes what torch does in the whole process.

Its ``from_pretrained`` replaces torch's functions that fill new weights, and its default type. A second thread that
loads or makes a network meanwhile gets weights that are missing, or random ones without a word. A server loads the
encoders of its indexes beside one another.
"""

from __future__ import annotations

import threading
from contextlib import ContextDecorator

__all__ = ["in_turn"]

_turn = threading.RLock()  # what loads an encoder may load its backbone


class _InTurn(ContextDecorator):
    def __enter__(self) -> None:
        _turn.acquire()

    def __exit__(self, *_: object) -> None:
        _turn.release()


in_turn = _InTurn()
"""Waits until no other thread loads a model: ``with in_turn:``, or ``@in_turn`` on a function that does nothing else.

What is downloaded for it should be there by then, so that nobody waits for the download of others."""
