"""The folder ``DOCS.clusters``: what was found, and the model that assigns new documents.

| file | content |
|---|---|
| ``documents.jsonl`` | a line for each document, see :func:`document_rows` |
| ``documents.parquet`` | the same, on request |
| ``topics.json`` | the topics: size, name, keywords, representative documents, parent |
| ``map.html``, ``map.png`` | the map |
| ``report.md`` | settings, scores, warnings |
| ``model/`` | ``model.json`` and ``model.safetensors``; no pickle |

The folder is written beside its place and moved there whole, so that there is always the old one or the new one.
Nothing in it depends on the clock: the same documents, vectors and settings give the same bytes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from llm2comp_apps.clustering.algorithms.assign import Assigner, hash_texts
from llm2comp_apps.clustering.algorithms.neighbors import FloatArray, IntArray
from llm2comp_apps.clustering.output.destinations import MODEL, TOPICS, check_replaceable, on_disk, table_files
from llm2comp_apps.clustering.output.map_html import MapData, map_html
from llm2comp_apps.clustering.output.report import report_markdown
from llm2comp_apps.clustering.pipeline import Clustering
from llm2comp_apps.errors import ClusteringError, UsageError
from llm2comp_apps.files import replaced_file, replaced_folder

__all__ = ["FittedModel", "document_rows", "load_model", "write_clustering", "write_rows"]

FORMAT = 1
ARRAYS = "model/model.safetensors"


@dataclass(frozen=True, slots=True, eq=False)
class FittedModel:
    """A stored clustering, as far as new documents need it.

    Attributes:
        assigner: topics of vectors.
        texts: ``(n,)`` uint64, keys of the fitted texts, in the order of the assigner's rows.
        names: of the C topics.
        encoder: what made the vectors.
    """

    assigner: Assigner
    texts: npt.NDArray[np.uint64]
    names: list[str]
    encoder: dict[str, str]

    def assign(
        self, texts: Sequence[str], vectors_of: Callable[[list[int]], FloatArray]
    ) -> tuple[IntArray, FloatArray]:
        """Find the topics of documents.

        Args:
            texts: m documents. One that was fitted gets the label it got then, whatever its vector is now: a vector
                depends in its last digits on the batch that it was encoded in, or on the machine.
            vectors_of: asked for the vectors ``(q, d)`` of the texts at the given positions, which were not fitted,
                or were with several vectors.

        Returns:
            Labels ``(m,)``, -1 for outliers, and membership ``(m, C)``.

        Raises:
            ClusteringError: vectors of another width, or that are not numbers.
        """
        known, first, copy_of = np.unique(self.texts, return_index=True, return_inverse=True)
        several = np.zeros(len(known), dtype=bool)
        several[copy_of[self.assigner.keys != self.assigner.keys[first[copy_of]]]] = True
        keys = hash_texts(texts)
        place = np.minimum(np.searchsorted(known, keys), len(known) - 1)
        fitted = first[place]
        new = np.flatnonzero((known[place] != keys) | several[place]).tolist()
        labels, membership = self.assigner.labels[fitted], self.assigner.membership[fitted]
        if new:
            vectors = vectors_of(new)
            width = self.assigner.vectors.shape[1]
            if vectors.shape[1] != width:
                raise ClusteringError(f"vectors of width {vectors.shape[1]}; the topics were fitted on width {width}")
            if not np.isfinite(vectors).all():
                raise ClusteringError("vectors with NaN or infinite values cannot be assigned; encode them again")
            labels[new], membership[new] = self.assigner.assign(vectors)
        return labels, membership


def write_clustering(clustering: Clustering, target: Path, *, parquet: bool = False, png: bool = True) -> list[str]:
    """Write the folder.

    Args:
        clustering: what was found.
        target: the folder; an older clustering there is replaced.
        parquet: ``documents.parquet`` too.
        png: ``map.png`` too, where matplotlib is installed.

    Returns:
        Lines about what had to be left out.

    Raises:
        UsageError: something else is at ``target``.
        ClusteringError: it cannot be written.
    """
    documents = clustering.source.documents
    ids = [document.id for document in documents]
    names = [topic.name for topic in clustering.base_topics]
    rows = document_rows(ids, clustering.labels, clustering.probabilities, clustering.membership, names)
    texts = [document.content for document in documents]
    drawn = MapData(
        title=target.name.removesuffix(".clusters"),
        positions=clustering.positions,
        labels=clustering.labels,
        probabilities=clustering.probabilities,
        topics=clustering.topics,
        ids=ids,
        texts=texts,
    )
    left_out: list[str] = []
    check_replaceable(target)
    with on_disk(target), replaced_folder(target) as folder:
        _write_jsonl(rows, folder / "documents.jsonl")
        if parquet:
            _write_parquet(rows, folder / "documents.parquet")
        _write_json({"format": FORMAT, "topics": [topic.record(ids) for topic in clustering.topics]}, folder / TOPICS)
        (folder / "map.html").write_text(map_html(drawn), "utf-8")
        if png:
            left_out += _draw(drawn, folder / "map.png")
        (folder / "report.md").write_text(report_markdown(clustering, drawn.title), "utf-8")
        _write_model(clustering, hash_texts(texts), folder)
    return left_out


def document_rows(
    ids: Sequence[str], labels: IntArray, probabilities: FloatArray, membership: FloatArray, names: Sequence[str]
) -> list[dict[str, Any]]:
    """One record for each document.

    Returns:
        ``_id``; ``cluster``, -1 for an outlier; ``name`` of the topic, None for an outlier; ``probability``;
        ``second_cluster``, the next best topic or None; ``second_probability``.
    """
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
                "cluster": label,
                "name": names[label] if label >= 0 else None,
                "probability": round(float(probabilities[i]), 4),
                "second_cluster": second,
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
                _write_parquet(rows, partial)
            else:
                _write_jsonl(rows, partial)


def load_model(folder: Path) -> FittedModel:
    """Read what :func:`write_clustering` wrote.

    Raises:
        UsageError: there is no clustering at ``folder``.
        ClusteringError: it is damaged, or of a newer format.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    if not (folder / MODEL).is_file():
        raise UsageError(f"{folder} holds no clustering")
    try:
        settings = json.loads((folder / MODEL).read_text("utf-8"))
        if settings["format"] != FORMAT:
            raise ClusteringError(f"{folder}: format {settings['format']}; this version reads format {FORMAT}")
        data = (folder / ARRAYS).read_bytes()
        if hashlib.sha256(data).hexdigest() != settings["sha256"]:
            raise ClusteringError(f"{folder / ARRAYS}: has changed since it was written; cluster again")
        arrays = load(data)
        topics = json.loads((folder / TOPICS).read_text("utf-8"))["topics"]
        assigner = Assigner.restore(arrays, settings["assigner"])
        names = [topic["name"] for topic in topics if topic["level"] == 1]
        if len(names) != assigner.membership.shape[1]:
            raise ClusteringError(f"{folder / TOPICS}: does not belong to the model; cluster again")
        return FittedModel(assigner, arrays["texts"], names, settings["encoder"])
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise ClusteringError(f"{folder}: the model is damaged ({error}); cluster again") from error


def _write_model(clustering: Clustering, text_keys: npt.NDArray[np.uint64], folder: Path) -> None:
    from safetensors.numpy import save

    data = save({**clustering.assigner.arrays(), "texts": text_keys})
    settings = {
        "format": FORMAT,
        "encoder": clustering.source.encoder,
        "assigner": clustering.assigner.settings(),
        "sha256": hashlib.sha256(data).hexdigest(),
    }
    (folder / ARRAYS).parent.mkdir()
    (folder / ARRAYS).write_bytes(data)
    _write_json(settings, folder / MODEL)


def _draw(drawn: MapData, path: Path) -> list[str]:
    from llm2comp_apps.clustering.output.map_png import write_map_png

    try:
        write_map_png(drawn, path)
    except ClusteringError as error:
        return [f"map.png is left out: {error}"]
    return []


def _write_jsonl(rows: list[dict[str, Any]], path: Path) -> None:
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def _write_parquet(rows: list[dict[str, Any]], path: Path) -> None:
    import pyarrow
    from pyarrow import parquet

    types = {
        "_id": pyarrow.string(),
        "cluster": pyarrow.int32(),
        "name": pyarrow.string(),
        "probability": pyarrow.float32(),
        "second_cluster": pyarrow.int32(),
        "second_probability": pyarrow.float32(),
    }
    parquet.write_table(pyarrow.Table.from_pylist(rows, schema=pyarrow.schema(types)), path)


def _write_json(value: Any, path: Path) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False, indent=2) + "\n", "utf-8")
