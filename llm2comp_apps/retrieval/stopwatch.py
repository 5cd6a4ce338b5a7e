"""Where the time goes, in named parts."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["Stopwatch"]


class Stopwatch:
    """Adds up wall-clock seconds by part; parts that run at the same time (threads) may sum to more than the total."""

    def __init__(self) -> None:
        self.parts: dict[str, float] = {}
        self._adding = threading.Lock()

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Count the time inside the ``with`` block for ``name``."""
        start = time.perf_counter()
        try:
            yield
        finally:
            seconds = time.perf_counter() - start
            with self._adding:
                self.parts[name] = self.parts.get(name, 0.0) + seconds

    def lines(self) -> list[str]:
        """The parts and, where the system says when the process began, the whole since then; a line each."""
        parts = dict(self.parts)
        whole = _process_age()
        if whole is not None:
            parts["start and everything else"] = whole - sum(parts.values())
            parts["from process start to here"] = whole
        return [f"{name:<28}{seconds:8.3f} s" for name, seconds in parts.items()]


def _process_age() -> float | None:
    """Seconds since this process began; ``None`` where /proc does not say (its clock ticks every 10 ms)."""
    try:
        after_name = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
        started = int(after_name[19]) / os.sysconf("SC_CLK_TCK")  # field 22 of proc(5), "starttime"
        return time.clock_gettime(time.CLOCK_BOOTTIME) - started
    except (OSError, ValueError, IndexError, AttributeError):
        return None
