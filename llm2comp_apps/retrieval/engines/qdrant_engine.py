"""Qdrant: a collection of a server, or of the client's own local mode in a folder.

The payload of a point has the key, the document's id, title, text, start, end and metadata; conditions reach the last
as ``metadata.year``. The key of a server is read from the environment variable ``QDRANT_API_KEY``.
"""

from __future__ import annotations

import os
import re
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llm2comp_indexes import IndexWriteError
from qdrant_client import QdrantClient, models

from llm2comp_apps.errors import UsageError
from llm2comp_apps.retrieval.engines.rows import Row

if TYPE_CHECKING:
    from llm2comp_apps.encoder.protocol import FloatArray

__all__ = ["open_engine"]

_POINTS = 256  # of a request
_PATIENCE = 60  # seconds; the client's own five are too few to count millions of points, or while a server indexes
_SPACE = uuid.UUID("8a3f0f5e-5a37-4d55-9d0c-6c6f6d326331")  # of the points' ids, which are made of the keys


def open_engine(target: str, name: str, dimension: int) -> _Qdrant:
    """The collection ``name`` of a server at a URL, or in a folder.

    Raises:
        UsageError: a target that is neither.
    """
    if re.fullmatch(r"[\w.-]+:\d+/?", target) and not Path(target).exists():
        raise UsageError(f"is no URL; write http://{target}, or ./{target} for a folder", field="target")
    if "://" in target and not _is_url(target):
        raise UsageError(f"must begin with http:// or https://, or be a folder, not {target}", field="target")
    return _Qdrant(target, name, dimension)


class _Qdrant:
    """See :class:`.rows.Engine`."""

    def __init__(self, target: str, name: str, dimension: int) -> None:
        self._client = (
            QdrantClient(url=target, api_key=os.environ.get("QDRANT_API_KEY"), timeout=_PATIENCE)
            if _is_url(target)
            else QdrantClient(path=target)
        )
        self._target, self._name = target, name
        try:
            self._make(dimension)
        except BaseException:  # else a local folder would stay locked
            self._client.close()
            raise

    def _make(self, dimension: int) -> None:
        name = self._name
        if self._client.collection_exists(name):
            held: Any = self._client.get_collection(name).config.params.vectors
            if (getattr(held, "size", None), getattr(held, "distance", None)) != (dimension, models.Distance.COSINE):
                raise IndexWriteError(
                    f"{self._target}: the collection {name} is not one of vectors of {dimension} numbers that are "
                    "compared by their cosine; name another one"
                )
        else:
            vectors = models.VectorParams(size=dimension, distance=models.Distance.COSINE)
            self._client.create_collection(name, vectors_config=vectors)

    def known(self, rows: Sequence[Row]) -> dict[str, str]:
        """By their points' ids."""
        ids = [_point(row.key) for row in rows]
        found = self._client.retrieve(self._name, ids, with_payload=["key", "content_hash"])
        return {one.payload["key"]: one.payload["content_hash"] for one in found if one.payload}

    def write(self, rows: Sequence[Row]) -> None:
        """Some points a request; each waits until it is kept."""
        for start in range(0, len(rows), _POINTS):
            points = [
                models.PointStruct(id=_point(row.key), vector=row.vector.tolist(), payload=_payload(row))
                for row in rows[start : start + _POINTS]
            ]
            self._client.upsert(self._name, points, wait=True)

    def finish(self) -> None:
        """Qdrant indexes by itself."""

    def count(self) -> int:
        """Points of the collection."""
        return int(self._client.count(self._name, exact=True).count)

    def nearest(self, vectors: FloatArray, k: int) -> list[list[tuple[str, float]]]:
        """By Qdrant's own search."""
        requests = [models.QueryRequest(query=row.tolist(), limit=k, with_payload=["key"]) for row in vectors]
        answers = self._client.query_batch_points(self._name, requests)
        return [[(str((one.payload or {})["key"]), float(one.score)) for one in found.points] for found in answers]

    def close(self) -> None:
        """Let go of the client; a local folder is free again."""
        self._client.close()


def _is_url(target: str) -> bool:
    return target.lower().startswith(("http://", "https://"))


def _point(key: str) -> str:
    return str(uuid.uuid5(_SPACE, key))


def _payload(row: Row) -> dict[str, Any]:
    names = ("key", "id", "title", "text", "start", "end", "metadata", "content_hash")
    return {name: value for name in names if (value := getattr(row, name)) is not None}
