"""Folders of version 0.1.0: their model assigns, but holds neither documents nor settings.

Both stand elsewhere in the folder: the map has the id and the beginning of each text, its other words (each once) and
its place, and the report has the settings. That is enough for an update. What is lost is how often a word comes beyond
the beginning, which keywords count, and the metadata of documents.
"""

from __future__ import annotations

import base64
import json
import re
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import numpy as np

from llm2comp_apps.clustering.algorithms.assign import Assigner
from llm2comp_apps.clustering.algorithms.neighbors import FloatArray
from llm2comp_apps.clustering.pipeline import ClusterSettings
from llm2comp_apps.corpus.document import Document
from llm2comp_apps.errors import ClusteringError

__all__ = ["read_format_1"]

_DATA = re.compile(r'<script id="data" type="application/json">(.*?)</script>', re.DOTALL)
_SPAN = 65_535
_NUMBERS = {"k": int, "min_cluster_size": int, "outlier_threshold": float, "levels": int, "merge": float, "seed": int}


def read_format_1(folder: Path, assigner: Assigner) -> tuple[list[Document], FloatArray, dict[str, Any]]:
    """Gather what ``model.json`` of format 1 does not have.

    Args:
        folder: of the clustering.
        assigner: of its model.

    Returns:
        The documents; their places ``(n, 2)``; and ``settings``, ``left_out``, ``scores`` and ``warnings``.

    Raises:
        ClusteringError: the map is missing or belongs to another clustering.
    """
    page = folder / "map.html"
    found = _DATA.search(page.read_text("utf-8")) if page.is_file() else None
    data = json.loads(found[1]) if found else {"ids": []}
    if len(data["ids"]) != len(assigner.labels):
        raise ClusteringError(
            f"{folder} was made by an older version, and its map.html, which has its documents, is not there as it was "
            "written; cluster again"
        )
    further = data["further"] or [""] * len(data["ids"])
    texts = [f"{text.removesuffix('…')}\n{words}".strip() for text, words in zip(data["texts"], further, strict=True)]
    documents = [Document(id_, text, source=str(folder)) for id_, text in zip(data["ids"], texts, strict=True)]
    x, y = (np.frombuffer(base64.b64decode(data[axis]), "<u2").astype(np.float32) / _SPAN for axis in "xy")
    report = folder / "report.md"
    settings = _settings(report.read_text("utf-8") if report.is_file() else "", assigner)
    stored = {"settings": settings, "left_out": 0, "scores": {}, "warnings": []}
    return documents, np.stack([x, 1 - y], axis=1), stored


def _settings(report: str, assigner: Assigner) -> dict[str, Any]:
    """The settings in a report; the defaults for what is not there."""
    cells = dict(re.findall(r"^\| (\w+) \| (.*) \|$", report.partition("\n## Settings\n")[2], re.MULTILINE))
    settings = {field.name: field.default for field in fields(ClusterSettings) if field.default is not MISSING}
    for name in settings.keys() & cells.keys():
        settings[name] = _NUMBERS.get(name, str)(cells[name])
    settings["outliers"] = assigner.outliers
    settings["label_field"] = None  # metadata is not there to compare with
    return settings
