"""The folder ``DOCS.clusters``: what was found, and the model that assigns new documents.

| file | content |
|---|---|
| ``documents.jsonl``, ``documents.csv`` | each document: :func:`document_rows`, and its title, text and fields |
| ``documents.parquet`` | the same, on request |
| ``atlas.parquet``, ``atlas-labels.parquet`` | the same for Embedding Atlas, and names for its map, on request |
| ``topics.json``, ``topics.csv`` | the topics: size, name, keywords, representative documents, parent |
| ``labels.csv`` | documents by true label and topic, where a field has labels |
| ``time.csv``, ``time.png`` | documents by period and topic, where a field has dates |
| ``map.html``, ``map.png`` | the map |
| ``report.md`` | settings, scores, warnings |
| ``model/`` | what assigns and updates, see :mod:`.model_files` |

The folder is written beside its place and moved there whole, so that there is always the old one or the new one.
Nothing in it depends on the clock: the same documents, vectors and settings give the same bytes.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from llm2comp_apps.clustering.algorithms.membership import own_membership
from llm2comp_apps.clustering.algorithms.neighbors import FloatArray, IntArray
from llm2comp_apps.clustering.fitted import FittedModel
from llm2comp_apps.clustering.output.atlas import write_atlas
from llm2comp_apps.clustering.output.destinations import TOPICS, check_picture, check_replaceable, on_disk, table_files
from llm2comp_apps.clustering.output.map_html import MapData, map_html
from llm2comp_apps.clustering.output.model_files import write_json, write_model
from llm2comp_apps.clustering.output.report import report_markdown
from llm2comp_apps.clustering.output.tables import (
    label_rows,
    time_rows,
    timeline_of,
    topic_rows,
    with_contents,
    write_csv,
    write_parquet,
)
from llm2comp_apps.clustering.pipeline import Clustering
from llm2comp_apps.errors import ClusteringError
from llm2comp_apps.files import replaced_file, replaced_folder

__all__ = ["PARQUET", "clustering_rows", "document_rows", "map_data", "write_clustering", "write_map", "write_rows"]

PARQUET = "documents.parquet"


def write_clustering(
    clustering: Clustering, target: Path, *, parquet: bool = False, atlas: bool = False, png: bool = True
) -> list[str]:
    """Write the folder.

    Args:
        clustering: what was found.
        target: the folder; an older clustering there is replaced.
        parquet: ``documents.parquet`` too.
        atlas: ``atlas.parquet`` and ``atlas-labels.parquet`` too, see :mod:`.atlas`.
        png: pictures too, where matplotlib is installed.

    Returns:
        Lines about what had to be left out or looks wrong.

    Raises:
        UsageError: something else is at ``target``.
        ClusteringError: it cannot be written, or a document holds what JSON does not have.
    """
    rows = with_contents(clustering_rows(clustering), clustering.source.documents)
    drawn = map_data(clustering, target.name.removesuffix(".clusters"))
    left_out: list[str] = []
    check_replaceable(target)
    with on_disk(target), replaced_folder(target) as folder:
        _write_jsonl(rows, folder / "documents.jsonl")
        write_csv(rows, folder / "documents.csv")
        write_csv(topic_rows(clustering), folder / "topics.csv")
        if parquet:
            write_parquet(rows, folder / PARQUET)
        if atlas:
            write_atlas(clustering, rows, folder)
        left_out += _write_comparisons(clustering, folder, png=png)
        ids = [document.id for document in clustering.source.documents]
        write_json({"format": 1, "topics": [topic.record(ids) for topic in clustering.topics]}, folder / TOPICS)
        (folder / "map.html").write_text(map_html(drawn), "utf-8")
        if png:
            left_out += _draw(drawn, folder / "map.png")
        (folder / "report.md").write_text(report_markdown(clustering, drawn.title), "utf-8")
        write_model(clustering, folder)
    return left_out


def map_data(clustering: Clustering, title: str) -> MapData:
    """What a map of a clustering shows."""
    documents = clustering.source.documents
    return MapData(
        title=title,
        positions=clustering.positions,
        labels=clustering.labels,
        probabilities=clustering.probabilities,
        topics=clustering.topics,
        ids=[document.id for document in documents],
        texts=[document.content for document in documents],
    )


def write_map(clustering: Clustering, target: Path) -> None:
    """Draw the map of a clustering, titled by the file's name.

    Args:
        clustering: what was found.
        target: ends in ``.html`` or ``.png``; replaced.

    Raises:
        UsageError: another ending.
        ClusteringError: it cannot be written, or matplotlib is not installed, which pictures need.
    """
    check_picture(target)
    drawn = map_data(clustering, target.stem)
    with on_disk(target), replaced_file(target) as partial:
        if target.suffix.lower() == ".html":
            partial.write_text(map_html(drawn), "utf-8")
        else:
            from llm2comp_apps.clustering.output.map_png import write_map_png

            write_map_png(drawn, partial)


def clustering_rows(clustering: Clustering) -> list[dict[str, Any]]:
    """One record for each document of a clustering, see :func:`document_rows`."""
    ids = [document.id for document in clustering.source.documents]
    return document_rows(ids, clustering.labels, clustering.membership, FittedModel.of(clustering))


def document_rows(
    ids: Sequence[str], labels: IntArray, membership: FloatArray, model: FittedModel
) -> list[dict[str, Any]]:
    """One record for each document.

    Args:
        ids: m.
        labels: ``(m,)``, positions in the model's topics or -1.
        membership: ``(m, C)``.
        model: has the topics.

    Returns:
        ``_id``; ``cluster``, -1 for an outlier; ``name`` of the topic, None for an outlier; ``probability``;
        ``second_cluster``, the next best topic or None; ``second_probability``.
    """
    probabilities = own_membership(labels, membership)
    others = membership.copy()
    inside = np.flatnonzero(labels >= 0)
    others[inside, labels[inside]] = 0.0
    seconds = others.argmax(axis=1).tolist() if others.shape[1] else []
    rows = []
    for i, (id_, label) in enumerate(zip(ids, labels.tolist(), strict=True)):
        second = seconds[i] if seconds and others[i, seconds[i]] > 0 else None
        rows.append(
            {
                "_id": id_,
                "cluster": model.ids[label] if label >= 0 else -1,
                "name": model.names[label] if label >= 0 else None,
                "probability": round(float(probabilities[i]), 4),
                "second_cluster": None if second is None else model.ids[second],
                "second_probability": 0.0 if second is None else round(float(others[i, second]), 4),
            }
        )
    return rows


def write_rows(rows: list[dict[str, Any]], target: Path, *, parquet: bool = False) -> None:
    """Write the records of :func:`document_rows`.

    Args:
        rows: the records.
        target: ends in ``.jsonl`` or ``.parquet``, which chooses the format; an older table there is replaced.
        parquet: beside a ``.jsonl`` file the same as ``.parquet``.

    Raises:
        UsageError: another ending, or something else is there.
        ClusteringError: it cannot be written.
    """
    paths = table_files(target, parquet=parquet)
    for path in paths:
        check_replaceable(path, table=True)
    for path in paths:
        with on_disk(path), replaced_file(path) as partial:
            if path.suffix.lower() == ".parquet":
                write_parquet(rows, partial)
            else:
                _write_jsonl(rows, partial)


def _write_comparisons(clustering: Clustering, folder: Path, *, png: bool) -> list[str]:
    """Topics beside true labels and over time; returns lines on what is left out."""
    labels, timeline = label_rows(clustering), timeline_of(clustering)
    if labels:
        write_csv(labels, folder / "labels.csv")
    if timeline is None or not timeline.periods:
        return []
    write_csv(time_rows(clustering, timeline), folder / "time.csv")
    if not png:
        return []
    from llm2comp_apps.clustering.output.time_png import write_time_png

    try:
        write_time_png(timeline, clustering.base_topics, folder / "time.png")
    except ClusteringError as error:
        return [f"time.png is left out: {error}"]
    return []


def _draw(drawn: MapData, path: Path) -> list[str]:
    from llm2comp_apps.clustering.output.map_png import write_map_png

    try:
        return write_map_png(drawn, path)
    except ClusteringError as error:
        return [f"map.png is left out: {error}"]


def _write_jsonl(rows: list[dict[str, Any]], path: Path) -> None:
    encode = json.JSONEncoder(ensure_ascii=False).encode  # json.dumps would make one for each row
    with path.open("wb") as file:
        for row in rows:
            try:
                line = encode(row).encode()
            except (TypeError, ValueError) as error:  # a date among the fields; half a surrogate pair
                raise ClusteringError(f"document {row['_id']!r} cannot be written: {error}") from error
            file.write(line + b"\n")
