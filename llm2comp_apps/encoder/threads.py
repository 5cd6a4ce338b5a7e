"""How many threads torch computes with: on a busy machine, threads that wait for one another cost more than they save.

Batches are dealt out to threads that each compute alone (:func:`~.batching.dealt`), so that none waits for another.
Where there is one batch only, or a library that takes no batches from us, torch gets as many threads as cores are idle.
That OpenMP's threads sleep while they wait, instead of spinning, is said in ``llm2comp_apps/__init__.py``, before any
library that brings OpenMP is loaded.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch

from llm2comp_apps.encoder.backends.cores import idle_cores

__all__ = ["fitting_threads", "one_thread"]

_lock = threading.Lock()
_inside = 0
_before = 1


def one_thread() -> AbstractContextManager[None]:
    """Let torch compute on one thread, in the whole process.

    For hundreds of small operations in a row, where waking and joining threads takes longer than the work: with two
    virtual processors that share a core, loading an encoder took 5.5 s on two threads and 4.5 s on one.
    """
    return _threads(1)


def fitting_threads(device: str = "cpu") -> AbstractContextManager[None]:
    """Let torch compute on as many threads as cores are idle, and not on more than it would use by itself.

    Beside another job two threads are slower than one, since each product waits for the thread that has to wait for a
    processor.

    Args:
        device: on another one than a CPU nothing is changed.
    """
    on_cpu = device.split(":")[0] == "cpu"
    return _threads(min(torch.get_num_threads(), idle_cores())) if on_cpu else nullcontext()


@contextmanager
def _threads(number: int) -> Iterator[None]:
    """Set torch's threads; may be entered from several Python threads: the first one decides, the last one restores."""
    global _inside, _before
    with _lock:
        if _inside == 0:
            _before = torch.get_num_threads()
            torch.set_num_threads(number)
        _inside += 1
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if _inside == 0:
                torch.set_num_threads(_before)
