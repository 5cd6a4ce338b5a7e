"""The topic map: one HTML file with its data, style and script inside, that needs no network."""

from __future__ import annotations

import html
import json
import string
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

import numpy as np

from llm2comp_apps.clustering.algorithms.neighbors import FloatArray, IntArray
from llm2comp_apps.clustering.describing.topics import Topic
from llm2comp_apps.clustering.output.map_points import as_base64, map_points

__all__ = ["MapData", "map_html"]

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
        "POINTS": (folder / "points.js").read_text("utf-8"),
        "JS": (folder / "map.js").read_text("utf-8"),
        # "</script>" inside a string would end the script element, and "<!--" would begin a comment.
        "DATA": json.dumps(_payload(data), ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c"),
    }
    before, *rest = page.split("{{")
    # Split, not replace: a document may contain "{{JS}}".
    return before + "".join(parts[name] + tail for name, tail in (piece.split("}}", 1) for piece in rest))


def _payload(data: MapData) -> dict[str, Any]:
    length = int(np.clip(_TEXTS_LENGTH // len(data.texts), *_TEXT_LENGTH))
    texts = [_short(text, length) for text in data.texts]
    return {
        **map_points(data.positions, data.labels, list(data.topics)),
        "probability": as_base64((data.probabilities * 255).round().astype("u1")),
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
