"""A clustering for Embedding Atlas, a viewer of embeddings that runs in a browser.

Two tables: the documents with their places on the map and their nearest neighbours, and the names of the topics with
the places to write them. Tried with version 0.26 of the viewer in a browser.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from llm2comp_apps.clustering.algorithms.neighbors import self_neighbors
from llm2comp_apps.clustering.output.map_points import label_positions
from llm2comp_apps.clustering.output.tables import ROW_TYPES, free_names, write_parquet

if TYPE_CHECKING:
    from llm2comp_apps.clustering.pipeline import Clustering

__all__ = ["ATLAS", "ATLAS_LABELS", "atlas_labels", "atlas_rows", "write_atlas"]

ATLAS = "atlas.parquet"
ATLAS_LABELS = "atlas-labels.parquet"
_LABEL_TYPES = {
    "x": "float32",
    "y": "float32",
    "text": "string",
    "content": "string",
    "level": "int32",
    "priority": "int32",
}
_PLACES = ("x", "y", "neighbors")
_NEIGHBORS = 15


def write_atlas(clustering: Clustering, rows: list[dict[str, Any]], folder: Path) -> None:
    """Write both tables into a folder; arguments as in :func:`atlas_rows`."""
    import pyarrow

    near = pyarrow.struct({"ids": pyarrow.list_(pyarrow.int32()), "distances": pyarrow.list_(pyarrow.float32())})
    places = {"x": "float32", "y": "float32", "neighbors": near}
    write_parquet(atlas_rows(clustering, rows), folder / ATLAS, {**ROW_TYPES, **places})
    write_parquet(atlas_labels(clustering), folder / ATLAS_LABELS, _LABEL_TYPES)


def atlas_rows(clustering: Clustering, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The documents as the viewer reads them.

    Args:
        clustering: what was found.
        rows: of its documents, in their order.

    Returns:
        The same rows with ``x``, ``y`` and ``neighbors``: the row numbers (``ids``) and Euclidean ``distances`` of the
        nearest other documents by their vectors, nearest first. Outliers have a name, since the viewer colours by it.
        A field that is called like one of these gets ``document_`` before its name; titles are left out where no
        document has one.
    """
    made = []
    bare = {"title"} if not any(row["title"] for row in rows) else set()
    names = free_names((name for row in rows for name in row), _PLACES)
    for row, places in zip(rows, _places(clustering), strict=True):
        kept = {names[name]: row[name] for name in row if name not in bare}
        made.append({**kept, "name": row["name"] or "(outlier)", **places})
    return made


def atlas_labels(clustering: Clustering) -> list[dict[str, Any]]:
    """The names to write on the map: a row for each topic that has documents.

    Returns:
        ``x``, ``y``; the name as ``text``, which is the documented column, and as ``content``, which version 0.26 reads
        instead; ``level`` 0, seen from afar; ``priority``: where names would overlap, the larger topic's is shown, and
        the other's from nearer.
    """
    topics = clustering.base_topics
    places = label_positions(clustering.positions, clustering.labels, len(topics)).tolist()
    return [
        {"x": x, "y": y, "text": topic.name, "content": topic.name, "level": 0, "priority": topic.size}
        for topic, (x, y) in zip(topics, places, strict=True)
        if topic.size
    ]


def _places(clustering: Clustering) -> list[dict[str, Any]]:
    near = min(_NEIGHBORS, len(clustering.labels) - 1)
    distances, ids = self_neighbors(clustering.source.vectors, near)
    return [
        {"x": x, "y": y, "neighbors": {"ids": own, "distances": far}}
        for (x, y), own, far in zip(clustering.positions.tolist(), ids.tolist(), distances.tolist(), strict=True)
    ]
