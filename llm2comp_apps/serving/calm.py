"""Work whose failures leave a thread alive, those of libraries in Rust included."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

__all__ = ["calmly"]

T = TypeVar("T")


def calmly(work: Callable[[], T]) -> T:
    """Do it; what libraries in Rust call a panic, which is no ``Exception``, becomes an error like others."""
    try:
        return work()
    except Exception:
        raise
    except BaseException as error:
        raise RuntimeError(str(error)) from error
