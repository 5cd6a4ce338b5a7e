"""Which segments to merge, so that many small commits cost what one big one costs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

__all__ = ["FAN_IN", "SMALL_ROWS", "segments_to_absorb"]

SMALL_ROWS: Final = 2048
"""Segments up to this size are rewritten at once: a few megabytes, cheaper than one more segment for each reader."""

FAN_IN: Final = 8
"""This many segments of one size class become one of the next, so that a row is rewritten log8(n) times."""


def _size_class(rows: int) -> int:
    size_class = 0
    while rows > SMALL_ROWS:
        rows //= FAN_IN
        size_class += 1
    return size_class


def segments_to_absorb(sizes: Sequence[int], new: int) -> int:
    """How many of the newest segments a commit merges with its new rows.

    Only a suffix is ever merged, so that document numbers keep ascending from segment to segment.

    Args:
        sizes: live rows of each segment, oldest first.
        new: rows of this commit.
    """
    total, absorbed = new, 0

    def take(count: int) -> None:
        nonlocal total, absorbed
        total += sum(sizes[len(sizes) - absorbed - count : len(sizes) - absorbed])
        absorbed += count

    while absorbed < len(sizes) and total + sizes[-1 - absorbed] <= SMALL_ROWS:
        take(1)
    while True:
        peers = 0
        while absorbed + peers < len(sizes) and _size_class(sizes[-1 - absorbed - peers]) <= _size_class(total):
            peers += 1
        if peers + 1 < FAN_IN:
            return absorbed
        take(peers)
