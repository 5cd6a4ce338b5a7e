"""How many threads torch computes with."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch

__all__ = ["one_thread"]

_lock = threading.Lock()
_inside = 0
_before = 1


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch compute on one thread, in the whole process.

    For hundreds of small operations in a row, where waking and joining threads takes longer than the work: with two
    virtual processors that share a core, loading an encoder took 5.5 s on two threads and 4.5 s on one. May be entered
    from several Python threads; the last one to leave restores the number.
    """
    global _inside, _before
    with _lock:
        if _inside == 0:
            _before = torch.get_num_threads()
            torch.set_num_threads(1)
        _inside += 1
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if _inside == 0:
                torch.set_num_threads(_before)
