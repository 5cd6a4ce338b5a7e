"""How many cores this process may compute on, and how many of them have nothing else to do."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["idle_cores", "usable_cores"]

_TOPOLOGY = Path("/sys/devices/system/cpu")
_QUOTA = Path("/sys/fs/cgroup/cpu.max")
_LOAD = Path("/proc/loadavg")


def usable_cores() -> int:
    """Physical cores, since two threads on one core share its multipliers.

    ``$OMP_NUM_THREADS`` bounds them, as it bounds torch, and so do the process's affinity and a container's quota.
    """
    processors = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))
    cores = len({_siblings(number) for number in processors})
    bounds = [cores, _quota(cores), _asked(cores)]
    return max(1, min(bounds))


def idle_cores() -> int:
    """The usable cores that no other work runs on just now: at least one, and all where the system cannot say."""
    usable = usable_cores()
    try:
        running = int(
            _LOAD.read_text("ascii").split()[3].partition("/")[0]
        )  # threads that run or want to, this one too
    except (OSError, ValueError, IndexError):
        return usable
    return max(1, min(usable, (os.cpu_count() or 1) - (running - 1)))


def _siblings(number: int) -> str:
    """What names a processor's core: the processors that share it."""
    try:
        return (_TOPOLOGY / f"cpu{number}" / "topology" / "thread_siblings_list").read_text("ascii").strip()
    except OSError:
        return str(number)


def _quota(cores: int) -> int:
    """Processors that a container's quota amounts to, rounded up."""
    try:
        quota, period = _QUOTA.read_text("ascii").split()
        return cores if quota == "max" else -(-int(quota) // int(period))
    except (OSError, ValueError):
        return cores


def _asked(cores: int) -> int:
    try:
        return int(os.environ.get("OMP_NUM_THREADS", "").split(",")[0])
    except ValueError:
        return cores
