"""A collection over several indexes, searched as one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from llm2comp_indexes import ShardedIndex

from llm2comp_apps.encoder.protocol import TextEncoder
from llm2comp_apps.retrieval.collection import Collection
from llm2comp_apps.retrieval.gpus import index_device
from llm2comp_apps.retrieval.models import Models

__all__ = ["open_shards"]


def open_shards(
    shards: Sequence[str | Path] | ShardedIndex, *, encoder: str | TextEncoder | None = None, device: str | None = None
) -> Collection:
    """Open several indexes of one encoder as one collection, to be read: hits and scores are those of one index.

    Documents are added to the indexes one by one, not through this collection.

    Args:
        shards: the folders of the indexes, or the open indexes; each document is in one of them only.
        encoder: as for :meth:`.Collection.open`.
        device: as for :meth:`.Collection.open`.

    Raises:
        InputError: the indexes do not fit each other.
        IndexStoreError: one is missing or damaged.
    """
    index: Any = shards
    if not isinstance(shards, ShardedIndex):
        index = ShardedIndex.open(shards, device=index_device(device))
    return Collection(Models(index, encoder, device=device))
