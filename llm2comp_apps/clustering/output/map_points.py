"""Where the points and the names of a map are, as plain data: what every page that draws one needs."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
import numpy.typing as npt

from llm2comp_apps.clustering.algorithms.neighbors import FloatArray, IntArray
from llm2comp_apps.clustering.describing.topics import Topic
from llm2comp_apps.clustering.output.palette import topic_color

__all__ = ["SPAN", "as_base64", "label_positions", "map_points"]

SPAN = 65_535
"""Coordinates run from 0 to this, downwards as on screens."""


def map_points(positions: FloatArray, labels: IntArray, topics: list[Topic]) -> dict[str, Any]:
    """What is drawn.

    Args:
        positions: ``(n, 2)``.
        labels: ``(n,)``, 0 to C - 1 or -1.
        topics: the C topics, and their parents.

    Returns:
        ``x``, ``y`` (unsigned, two bytes) and ``topic`` (two bytes, -1 for none) of every point as base64 of
        little-endian numbers, and ``topics``: id, name, the name of its group, size, keywords, a colour for light and
        dark pages, and the place of its name.
    """
    low, high = positions.min(axis=0), positions.max(axis=0)
    reach = float((high - low).max()) or 1.0
    middle = (low + high) / 2

    def scaled(points: FloatArray) -> npt.NDArray[np.uint16]:
        unit = np.clip((points - middle) / reach + 0.5, 0.0, 1.0)
        return (unit * SPAN).round().astype("<u2")

    base = [topic for topic in topics if topic.level == 1]
    parents = {topic.id: topic for topic in topics if topic.level == 2}
    places = scaled(label_positions(positions, labels, len(base)))
    points = scaled(positions)
    return {
        "x": as_base64(points[:, 0]),
        "y": as_base64(SPAN - points[:, 1]),  # screens count downwards
        "topic": as_base64(labels.astype("<i2")),
        "topics": [
            {
                "id": topic.id,
                "name": topic.name,
                "group": parents[topic.parent].name if topic.parent in parents else "",
                "size": topic.size,
                "keywords": [term for term, _ in topic.keywords],
                "light": topic_color(slot, "light"),
                "dark": topic_color(slot, "dark"),
                "x": int(places[slot, 0]),
                "y": SPAN - int(places[slot, 1]),
            }
            for slot, topic in enumerate(base)
        ],
    }


def label_positions(positions: FloatArray, labels: IntArray, topics: int) -> FloatArray:
    """Where to write each topic's name: the document nearest to the median of its documents, ``(C, 2)``."""
    places = np.zeros((topics, 2), dtype=np.float32)
    for topic in range(topics):
        own = positions[labels == topic]
        if not len(own):  # a topic whose documents have all been replaced
            continue
        distance = np.linalg.norm(own - np.median(own, axis=0), axis=1)
        places[topic] = own[distance.argmin()]
    return places


def as_base64(values: npt.NDArray[Any]) -> str:
    """The bytes of an array, as they lie."""
    return base64.b64encode(np.ascontiguousarray(values).tobytes()).decode("ascii")
