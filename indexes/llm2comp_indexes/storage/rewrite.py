"""Making one segment out of several, without the rows that are dead."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from llm2comp_indexes.storage.segment import RowShape, Segment, SegmentWriter
from llm2comp_indexes.storage.store import Manifest, SegmentRecord
from llm2comp_indexes.types import Int64Array

__all__ = ["rewrite"]

_COPY_ROWS = 4096


def rewrite(
    index: Path, manifest: Manifest, sources: Sequence[Segment], new: SegmentWriter | None, dead: Int64Array
) -> SegmentRecord | None:
    """Seal the new rows, together with the live rows of ``sources``.

    Args:
        index: the index directory.
        manifest: of the generation that is being replaced.
        sources: committed segments, whose numbers ascend and lie below those of ``new``.
        new: rows of this commit, if any.
        dead: numbers of deleted documents, ascending.

    Returns:
        The sealed segment; None if no live row is left.
    """
    target = index / "segments"
    replaced = (dead >= manifest.next_num).any()  # some new rows were replaced or deleted before their first commit
    if new is not None and not sources and not replaced:
        return new.seal(target)
    merged = SegmentWriter(index / "tmp", RowShape.of(manifest))
    for segment in sources:
        for start in range(0, len(segment.nums), _COPY_ROWS):
            rows = start + np.flatnonzero(~np.isin(segment.nums[start : start + _COPY_ROWS], dead))
            memory = segment.memory.take(rows) if manifest.memory_tokens else None
            merged.append(segment.nums[rows], segment.vectors.take(rows), memory)
    if new is not None:
        for nums, vectors, memory in new.blocks(_COPY_ROWS):
            alive = ~np.isin(nums, dead)
            merged.append(nums[alive], vectors[alive], None if memory is None else memory[alive])
        new.abandon()
    if merged.rows:
        return merged.seal(target)
    merged.abandon()
    return None
