"""The map of a clustering for the page, and which documents lie inside a shape that somebody drew on it."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from llm2comp_apps import TopicModel

__all__ = ["Corners", "TopicMap", "ids_condition"]

Corners: TypeAlias = Sequence[tuple[float, float]]


class TopicMap:
    """Where each document of a clustering lies, and in which topic.

    Args:
        model: the clustering.
    """

    def __init__(self, model: TopicModel) -> None:
        self.model = model
        self.ids = [document.id for document in model.documents]
        self._points = model.map_points()
        self._x, self._y = (_decoded(self._points[name], "<u2").astype(np.float64) for name in ("x", "y"))
        self._slots = _decoded(self._points["topic"], "<i2")

    def payload(self) -> dict[str, Any]:
        """What the page draws: :meth:`llm2comp_apps.TopicModel.map_points` and the id of each document."""
        return {**self._points, "ids": self.ids}

    def of_topic(self, topic_id: int) -> list[str] | None:
        """The documents of a topic; ``None`` if there is no such topic."""
        slots = [slot for slot, topic in enumerate(self._points["topics"]) if topic["id"] == topic_id]
        return [self.ids[place] for place in np.flatnonzero(self._slots == slots[0]).tolist()] if slots else None

    def inside(self, corners: Corners) -> list[str]:
        """The documents inside a polygon; where it crosses itself, what lies inside an odd number of times."""
        x, y = self._x, self._y
        odd = np.zeros(len(x), dtype=bool)
        for (x0, y0), (x1, y1) in zip(corners, [*corners[1:], corners[0]], strict=True):
            if y0 != y1:  # the edge crosses the ray to the right of a point
                between = (y0 > y) != (y1 > y)
                odd ^= between & (x < (x1 - x0) * (y - y0) / (y1 - y0) + x0)
        return [self.ids[place] for place in np.flatnonzero(odd).tolist()]


def ids_condition(ids: Sequence[str]) -> str:
    """A condition that these documents meet, and no others."""
    values = ", ".join("'" + each.replace("'", "''") + "'" for each in ids)
    return f"_id in ({values})" if ids else "_id is null"  # every document has an id


def _decoded(text: str, kind: str) -> npt.NDArray[Any]:
    return np.frombuffer(base64.b64decode(text), kind)
