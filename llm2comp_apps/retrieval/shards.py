"""A collection over several indexes, searched as one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from llm2comp_indexes import InputError, ShardedIndex

from llm2comp_apps.encoder.protocol import TextEncoder
from llm2comp_apps.errors import UsageError
from llm2comp_apps.retrieval.batched import batched
from llm2comp_apps.retrieval.collection import Collection
from llm2comp_apps.retrieval.discovery import find_index
from llm2comp_apps.retrieval.gpus import index_device
from llm2comp_apps.retrieval.models import Models

__all__ = ["open_indexes", "open_shards"]

_AT_ONCE = 5000


def open_indexes(
    paths: Sequence[str | Path],
    *,
    encoder: str | TextEncoder | None = None,
    query_encoder: str | TextEncoder | None = None,
    device: str | None = None,
) -> Collection:
    """Open the index that is meant, or several as one.

    Args:
        paths: none for the index that :meth:`.Collection.open` finds.
        encoder: as there.
        query_encoder: as there.
        device: as there.

    Raises:
        UsageError: one is missing or named twice, or they do not fit each other (another encoder or language), or share
            a document.
        IndexStoreError: one is damaged.
    """
    if len(paths) < 2:
        return Collection.open(*paths, encoder=encoder, query_encoder=query_encoder, device=device)
    found = [find_index(path) for path in paths]
    _check_named_once(found, "index")
    try:
        index = ShardedIndex.open(found, device=index_device(device))
    except InputError as error:
        raise UsageError(f"names indexes that do not fit: {error}", field="index") from error
    _check_apart(index)
    return open_shards(index, encoder=encoder, query_encoder=query_encoder, device=device)


def _check_named_once(paths: Sequence[Path], field: str) -> None:
    """Refuse a folder that is named twice: its documents would be found and counted twice."""
    named = [path.resolve() for path in paths]
    for number, path in enumerate(paths):
        if named[number] in named[:number]:
            raise UsageError(f"names {path} twice", field=field)


def _check_apart(index: ShardedIndex) -> None:
    """Refuse an id that is in two indexes: which of the two documents a hit means could not be said."""
    first, *others = sorted(index.shards, key=len, reverse=True)
    before = [first]
    for shard in others:
        for ids in batched(shard.ids(), _AT_ONCE):
            for other in before:
                if both := other.hashes(ids):
                    reason = f"names {other.path} and {shard.path}, and both hold the id {min(both)!r}"
                    raise UsageError(f"{reason}; search one of them, or delete it from one", field="index")
        before.append(shard)


def open_shards(
    shards: Sequence[str | Path] | ShardedIndex,
    *,
    encoder: str | TextEncoder | None = None,
    query_encoder: str | TextEncoder | None = None,
    device: str | None = None,
) -> Collection:
    """Open several indexes of one encoder as one collection, to be read: hits and scores are those of one index.

    Documents are added to the indexes one by one, not through this collection.

    Args:
        shards: the folders of the indexes, or the open indexes; each document is in one of them only.
        encoder: as for :meth:`.Collection.open`.
        query_encoder: as for :meth:`.Collection.open`.
        device: as for :meth:`.Collection.open`.

    Raises:
        UsageError: one path, and not a list of them, or one that is named twice.
        InputError: the indexes do not fit each other.
        IndexStoreError: one is missing or damaged.
    """
    if isinstance(shards, str | Path):
        raise UsageError(f"must be a list of folders, not one; write [{str(shards)!r}]", field="shards")
    index: Any = shards
    if not isinstance(shards, ShardedIndex):
        _check_named_once([Path(shard) for shard in shards], "shards")
        index = ShardedIndex.open(shards, device=index_device(device))
    return Collection(Models(index, encoder, query_encoder, device))
