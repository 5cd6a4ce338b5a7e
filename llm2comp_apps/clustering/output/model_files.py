"""``model/``: what a clustering needs to assign and to take in new documents; no pickle.

| file | content |
|---|---|
| ``model.json`` | format, encoder, settings, scores, warnings, updates, and the digests of the other two |
| ``model.safetensors`` | vectors (half precision), labels, membership, keys of vectors and texts, places on the map |
| ``documents.jsonl.gz`` | id, title, text and fields of each document, in the order of the arrays |

Format 1 had no documents, no places and no settings; :mod:`.format_1` reads it.
"""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from llm2comp_apps.clustering.algorithms.assign import Assigner
from llm2comp_apps.clustering.algorithms.membership import own_membership
from llm2comp_apps.clustering.describing.topics import Topic
from llm2comp_apps.clustering.fitted import FittedModel
from llm2comp_apps.clustering.output.destinations import MODEL, TOPICS
from llm2comp_apps.clustering.output.format_1 import read_format_1
from llm2comp_apps.clustering.pipeline import Clustering, ClusterSettings
from llm2comp_apps.clustering.sources import Source
from llm2comp_apps.corpus.document import Document
from llm2comp_apps.errors import ClusteringError, UsageError

__all__ = ["FORMAT", "load_model", "read_clustering", "write_json", "write_model"]

FORMAT = 2
ARRAYS = "model/model.safetensors"
DOCUMENTS = "model/documents.jsonl.gz"
_LEVEL = 1  # of gzip: written in a fifth of the time of 9


def write_model(clustering: Clustering, folder: Path) -> None:
    """Write ``model/`` into a folder that has none."""
    from safetensors.numpy import save

    arrays = {**clustering.assigner.arrays(), "texts": clustering.text_keys, "positions": clustering.positions}
    data, documents = save(arrays), _packed(clustering.source.documents)
    settings = {
        "format": FORMAT,
        "encoder": clustering.source.encoder,
        "assigner": clustering.assigner.settings(),
        "sha256": hashlib.sha256(data).hexdigest(),
        "documents_sha256": hashlib.sha256(documents).hexdigest(),
        "settings": asdict(clustering.settings),
        "left_out": clustering.left_out,
        "scores": clustering.scores,
        "warnings": clustering.warnings,
        "next_id": clustering.next_id,
        "updates": list(clustering.updates),
    }
    (folder / ARRAYS).parent.mkdir()
    (folder / ARRAYS).write_bytes(data)
    (folder / DOCUMENTS).write_bytes(documents)
    write_json(settings, folder / MODEL)


def load_model(folder: Path) -> FittedModel:
    """Read what assigns documents, of this format or the one before.

    Raises:
        UsageError: there is no clustering at ``folder``.
        ClusteringError: it is damaged, or of a newer format.
    """
    return _read(folder)[0]


def read_clustering(folder: Path) -> Clustering:
    """Read a clustering whole, of this format or the one before.

    Names of topics come from ``topics.json``, where a person may have changed them.

    Raises:
        UsageError: there is no clustering at ``folder``.
        ClusteringError: it is damaged, or of a newer format; or of the format before and its map is missing.
    """
    model, settings, arrays, records = _read(folder)
    try:
        if settings["format"] == 1:
            documents, positions, stored = read_format_1(folder, model.assigner)
        else:
            documents = _unpacked((folder / DOCUMENTS).read_bytes(), settings["documents_sha256"], folder)
            positions, stored = arrays["positions"], settings
        row_of: dict[str, int] = {}
        for row, document in enumerate(documents):
            row_of.setdefault(document.id, row)
        topics = [_topic(record, row_of) for record in records]
        updates: list[dict[str, Any]] = stored.get("updates", [])
        return Clustering(
            source=Source(documents, model.assigner.vectors.astype(np.float32), model.encoder),
            settings=ClusterSettings(**stored["settings"]),
            labels=model.assigner.labels,
            probabilities=own_membership(model.assigner.labels, model.assigner.membership),
            membership=model.assigner.membership,
            topics=topics,
            positions=positions,
            left_out=stored["left_out"],
            scores=stored["scores"],
            warnings=stored["warnings"],
            assigner=model.assigner,
            text_keys=model.texts,
            next_id=stored.get("next_id", max((topic.id + 1 for topic in topics), default=0)),
            updates=tuple(_update(record) for record in updates),
        )
    except (OSError, EOFError, ValueError, KeyError, TypeError, UsageError) as error:
        raise _damaged(folder, error) from error


def write_json(value: Any, path: Path) -> None:
    """Write a value as indented JSON."""
    path.write_text(json.dumps(value, ensure_ascii=False, indent=2) + "\n", "utf-8")


def _read(folder: Path) -> tuple[FittedModel, dict[str, Any], dict[str, npt.NDArray[Any]], list[dict[str, Any]]]:
    """The model, ``model.json``, the arrays and the records of the topics."""
    from safetensors import SafetensorError
    from safetensors.numpy import load

    if not (folder / MODEL).is_file():
        raise UsageError(f"{folder} holds no clustering")
    try:
        settings = json.loads((folder / MODEL).read_text("utf-8"))
        if settings["format"] not in (1, FORMAT):
            raise ClusteringError(f"{folder}: format {settings['format']}; this version reads formats 1 and {FORMAT}")
        data = (folder / ARRAYS).read_bytes()
        if hashlib.sha256(data).hexdigest() != settings["sha256"]:
            raise ClusteringError(f"{folder / ARRAYS}: has changed since it was written; cluster again")
        arrays = load(data)
        records = json.loads((folder / TOPICS).read_text("utf-8"))["topics"]
        assigner = Assigner.restore(arrays, settings["assigner"])
        base = [(int(record["id"]), str(record["name"])) for record in records if record["level"] == 1]
        if len(base) != assigner.membership.shape[1]:
            raise ClusteringError(f"{folder / TOPICS}: does not belong to the model; cluster again")
        model = FittedModel(
            assigner=assigner,
            texts=arrays["texts"],
            ids=[id_ for id_, _ in base],
            names=[name for _, name in base],
            encoder=settings["encoder"],
        )
        return model, settings, arrays, records
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise _damaged(folder, error) from error


def _damaged(folder: Path, error: BaseException) -> ClusteringError:
    return ClusteringError(f"{folder}: the model is damaged ({error}); cluster again")


def _packed(documents: Sequence[Document]) -> bytes:
    encode = json.JSONEncoder(separators=(",", ":")).encode
    lines = [
        encode({"_id": document.id, "title": document.title, "text": document.text, "metadata": document.metadata})
        for document in documents
    ]
    # No time in the header: the same documents give the same bytes.
    return gzip.compress("".join(f"{line}\n" for line in lines).encode(), _LEVEL, mtime=0)


def _unpacked(data: bytes, digest: str, folder: Path) -> list[Document]:
    if hashlib.sha256(data).hexdigest() != digest:
        raise ClusteringError(f"{folder / DOCUMENTS}: has changed since it was written; cluster again")
    records = [json.loads(line) for line in gzip.decompress(data).splitlines()]
    place = str(folder)
    return [Document(r["_id"], r["text"], r["title"], r["metadata"], place) for r in records]


def _topic(record: dict[str, Any], row_of: dict[str, int]) -> Topic:
    return Topic(
        id=record["id"],
        level=record["level"],
        size=record["size"],
        name=record["name"],
        keywords=tuple((keyword["term"], keyword["weight"]) for keyword in record["keywords"]),
        representatives=tuple(row_of[id_] for id_ in record["representatives"]),
        parent=record["parent"],
        children=tuple(record["children"]),
    )


def _update(record: dict[str, Any]) -> dict[str, Any]:
    """An update as it was before JSON turned the ids of its topics into strings."""
    return {
        name: {int(id_): count for id_, count in value.items()} if isinstance(value, dict) else value
        for name, value in record.items()
    }
