"""The topic map: one HTML file with its data, style and script inside, that needs no network."""

from __future__ import annotations

import base64
import html
import json
import string
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

import numpy as np
import numpy.typing as npt

from llm2comp_apps.clustering.algorithms.neighbors import FloatArray, IntArray
from llm2comp_apps.clustering.describing.topics import Topic
from llm2comp_apps.clustering.output.palette import topic_color

__all__ = ["MapData", "label_positions", "map_html"]

_SPAN = 65_535
_TEXT_LENGTH = 60, 240  # characters of a text, at least and at most
_TEXTS_LENGTH = 12_000_000  # of all texts, so that the page of a large corpus still opens
_FURTHER_LENGTH = 5_000_000  # bytes of the words that are not shown and can be searched all the same
_EDGES = string.punctuation + "“”‘’«»„…–—"
_ASSETS = "llm2comp_apps.clustering.output", "assets"


@dataclass(frozen=True, slots=True, eq=False)
class MapData:
    """What a map shows.

    Attributes:
        title: of the page.
        positions: ``(n, 2)``.
        labels: ``(n,)``, 0 to C - 1 or -1.
        probabilities: ``(n,)``.
        topics: as :func:`~llm2comp_apps.clustering.describing.topics.build_topics` gives them, parents last.
        ids: n.
        texts: n.
    """

    title: str
    positions: FloatArray
    labels: IntArray
    probabilities: FloatArray
    topics: Sequence[Topic]
    ids: Sequence[str]
    texts: Sequence[str]


def map_html(data: MapData) -> str:
    """Make the page."""
    folder = resources.files(_ASSETS[0]) / _ASSETS[1]
    page = (folder / "map.html").read_text("utf-8")
    parts = {
        "TITLE": html.escape(data.title),
        "CSS": (folder / "map.css").read_text("utf-8"),
        "JS": (folder / "map.js").read_text("utf-8"),
        # "</script>" inside a string would end the script element, and "<!--" would begin a comment.
        "DATA": json.dumps(_payload(data), ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c"),
    }
    before, *rest = page.split("{{")
    # Split, not replace: a document may contain "{{JS}}".
    return before + "".join(parts[name] + tail for name, tail in (piece.split("}}", 1) for piece in rest))


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


def _payload(data: MapData) -> dict[str, Any]:
    low, high = data.positions.min(axis=0), data.positions.max(axis=0)
    reach = float((high - low).max()) or 1.0
    middle = (low + high) / 2

    def scaled(points: FloatArray) -> npt.NDArray[np.uint16]:
        unit = np.clip((points - middle) / reach + 0.5, 0.0, 1.0)
        return (unit * _SPAN).round().astype("<u2")

    length = int(np.clip(_TEXTS_LENGTH // len(data.texts), *_TEXT_LENGTH))
    texts = [_short(text, length) for text in data.texts]
    topics = [topic for topic in data.topics if topic.level == 1]
    parents = {topic.id: topic for topic in data.topics if topic.level == 2}
    places = scaled(label_positions(data.positions, data.labels, len(topics)))
    points = scaled(data.positions)
    return {
        "x": _base64(points[:, 0]),
        "y": _base64(_SPAN - points[:, 1]),  # screens count downwards
        "topic": _base64(data.labels.astype("<i2")),
        "probability": _base64((data.probabilities * 255).round().astype("u1")),
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
                "y": _SPAN - int(places[slot, 1]),
            }
            for slot, topic in enumerate(topics)
        ],
        "ids": list(data.ids),
        "texts": texts,
        "further": _further_words(data.texts, texts),
        "length": length,
    }


def _further_words(texts: Sequence[str], shown: Sequence[str]) -> list[str] | None:
    """The words of each text that are not in what is shown of it, so that the search finds them too.

    Returns:
        n strings of lower-case words, or none if all texts are shown whole. None where the words are too many: either
        all texts are searched whole or none is, so that what the search looks at can be said in one line.
    """
    further, left = [], _FURTHER_LENGTH
    for text, line in zip(texts, shown, strict=True):
        words = ""
        if len(text) > len(line) or line.endswith("…"):
            seen = line.lower()
            distinct = dict.fromkeys([word.strip(_EDGES) for word in text.lower().split()])
            words = " ".join([word for word in distinct if word not in seen])
        left -= len(words.encode("utf-8", "surrogatepass"))
        if left < 0:
            return None
        further.append(words)
    return further if any(further) else []


def _short(text: str, length: int) -> str:
    line = " ".join(text[: 4 * length].split())
    return line if len(line) <= length else line[: length - 1].rstrip() + "…"


def _base64(values: npt.NDArray[Any]) -> str:
    return base64.b64encode(np.ascontiguousarray(values).tobytes()).decode("ascii")
