"""Which documents a search may return: a condition, a topic, a shape drawn on the map, or all of them together."""

from __future__ import annotations

import math

from llm2comp_apps.serving.call import Call
from llm2comp_apps.serving.generations import ServedIndex
from llm2comp_apps.serving.topic_maps import Corners, ids_condition

__all__ = ["MOST_CORNERS", "narrowed"]

MOST_CORNERS = 1_000
_FARTHEST = 1e6


async def narrowed(call: Call, served: ServedIndex) -> str | None:
    """The condition that the fields ``where``, ``topic`` and ``lasso`` of a request make together.

    Raises:
        ApiError: one of them is wrong, or there is no map.
    """
    fields, parts = call.fields, []
    where = fields.condition("where", call.state.settings.limits)
    corners = _corners(call)
    topic = fields.optional_integer("topic", least=0, most=1_000_000)
    if corners is not None or topic is not None:
        drawn = await call.in_thread(lambda: served.topic_map)
        if topic is not None:
            ids = drawn.of_topic(topic)
            if ids is None:
                raise fields.wrong("topic", f"must be the id of a topic, which {topic} is not")
            parts.append(ids_condition(ids))
        if corners is not None:
            parts.append(ids_condition(await call.in_thread(drawn.inside, corners)))
    if where is None:
        return " and ".join(parts) or None
    return " and ".join([f"({where})", *parts]) if parts else where


def _corners(call: Call) -> Corners | None:
    """The corners of a polygon."""
    found = call.fields.get("lasso")
    if found is None:
        return None
    if not isinstance(found, list) or not 3 <= len(found) <= MOST_CORNERS or not all(map(_is_corner, found)):
        raise call.fields.wrong("lasso", f"must be a list of 3 to {MOST_CORNERS:,} points [x, y]")
    return [(float(x), float(y)) for x, y in found]


def _is_corner(value: object) -> bool:
    return (
        isinstance(value, list)
        and len(value) == 2
        and all(isinstance(each, int | float) and not isinstance(each, bool) for each in value)
        and all(math.isfinite(each) and abs(each) <= _FARTHEST for each in value)
    )
