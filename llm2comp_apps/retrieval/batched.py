"""Streams in lists."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TypeVar

__all__ = ["batched"]

T = TypeVar("T")


def batched(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Lists of ``size`` items, the last one shorter: ``itertools.batched``, which Python has from 3.12 on."""
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch
