"""One model at a time: while transformers loads one, it changes what torch does in the whole process.

Its ``from_pretrained`` replaces torch's functions that fill new weights, and its default type. A second thread that
loads or makes a network meanwhile gets weights that are missing, or random ones without a word. A server loads the
encoders of its indexes beside one another.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

__all__ = ["in_turn"]

P = ParamSpec("P")
T = TypeVar("T")
_turn = threading.RLock()  # what loads an encoder loads its backbone, too


def in_turn(load: Callable[P, T]) -> Callable[P, T]:
    """Let a function that loads a model wait until no other thread does."""

    @wraps(load)
    def waiting(*args: P.args, **settings: P.kwargs) -> T:
        with _turn:
            return load(*args, **settings)

    return waiting
