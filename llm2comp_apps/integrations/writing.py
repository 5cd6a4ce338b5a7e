"""One writer at a time: frameworks write from several threads at once, and an index would refuse the second."""

from __future__ import annotations

import threading
from pathlib import Path

__all__ = ["one_at_a_time"]

_LOCKS: dict[Path, threading.RLock] = {}


def one_at_a_time(path: str | Path) -> threading.RLock:
    """The lock of an index's folder, which threads of this process hold while they write; others are refused."""
    return _LOCKS.setdefault(Path(path).resolve(), threading.RLock())
