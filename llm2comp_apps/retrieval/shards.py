"""A collection over several indexes, searched as one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from llm2comp_indexes import ShardedIndex

from llm2comp_apps.encoder.protocol import TextEncoder
from llm2comp_apps.retrieval.collection import Collection
from llm2comp_apps.retrieval.gpus import index_device
from llm2comp_apps.retrieval.models import Models

__all__ = ["open_shards"]


def open_shards(
    paths: Sequence[str | Path], *, encoder: str | TextEncoder | None = None, device: str | None = None
) -> Collection:
    """Open several indexes of one encoder as one collection, to be read: hits and scores are those of one index.

    Documents are added to the indexes one by one, not through this collection.

    Args:
        paths: the indexes; each document is in one of them only.
        encoder: as for :meth:`.Collection.open`.
        device: as for :meth:`.Collection.open`.

    Raises:
        InputError: the indexes do not fit each other.
        IndexStoreError: one is missing or damaged.
    """
    index: Any = ShardedIndex.open(paths, device=index_device(device))
    return Collection(Models(cast("Any", index), encoder, device=device))
