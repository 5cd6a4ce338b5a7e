"""The ``--timings`` report."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

from llm2comp_apps.cli.ui.console import note

if TYPE_CHECKING:
    from llm2comp_apps.retrieval.stopwatch import Stopwatch

__all__ = ["report_timings"]


def report_timings(clock: Stopwatch) -> None:
    """Print the parts and, where the system tells when the process began, the whole since then."""
    parts = dict(clock.parts)
    whole = _process_age()
    if whole is not None:
        parts["start and everything else"] = whole - sum(parts.values())
        parts["from process start to here"] = whole
    note("Timings:")
    for name, seconds in parts.items():
        note(f"  {name:<28}{seconds:8.3f} s")


def _process_age() -> float | None:
    """Seconds since this process began; ``None`` where /proc does not say (its clock ticks every 10 ms)."""
    try:
        after_name = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
        started = int(after_name[19]) / os.sysconf("SC_CLK_TCK")  # field 22 of proc(5), "starttime"
        return time.clock_gettime(time.CLOCK_BOOTTIME) - started
    except (OSError, ValueError, IndexError, AttributeError):
        return None
