"""Tables of a clustering for other programs: documents with their texts, topics, labels by topic, topics over time.

CSV files begin with a byte order mark, by which spreadsheets know that they are UTF-8.
"""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llm2comp_apps.clustering.describing.timeline import Timeline, topics_over_time

if TYPE_CHECKING:
    import pyarrow

    from llm2comp_apps.clustering.pipeline import Clustering
    from llm2comp_apps.corpus import Document

__all__ = [
    "ROW_TYPES",
    "free_names",
    "label_rows",
    "time_rows",
    "timeline_of",
    "topic_rows",
    "with_contents",
    "write_csv",
    "write_parquet",
]

Row = dict[str, Any]
ROW_TYPES: dict[str, str | pyarrow.DataType] = {
    "_id": "string",
    "cluster": "int32",
    "name": "string",
    "probability": "float32",
    "second_cluster": "int32",
    "second_probability": "float32",
}
"""The columns of a table of documents and their types in Arrow."""
_OWN = ("title", "text")


def with_contents(rows: Sequence[Row], documents: Sequence[Document]) -> list[Row]:
    """Rows of documents with title, text and fields behind; a field of a taken name gets ``document_`` before it."""
    taken = {*_OWN, *(name for row in rows[:1] for name in row)}
    names = free_names((name for document in documents for name in document.metadata), taken)
    made = []
    for row, document in zip(rows, documents, strict=True):
        fields = {names[name]: value for name, value in document.metadata.items()}
        made.append({**row, "title": document.title, "text": document.text, **fields})
    return made


def free_names(names: Iterable[str], taken: Collection[str]) -> dict[str, str]:
    """What each name is called beside those that are taken: itself, else with ``document_`` before it.

    That is put before it once more where another of the names is called so, lest one column hide the other.
    """
    wanted = dict.fromkeys(names)
    used, called = {*wanted, *taken}, {}
    for name in wanted:
        free = name
        while name in taken and free in used:
            free = f"document_{free}"
        called[name] = free
        used.add(free)
    return called


def topic_rows(clustering: Clustering) -> list[Row]:
    """A row for each topic of any level: numbers, names, keywords and the most central document."""
    n, names = len(clustering.labels), {topic.id: topic.name for topic in clustering.topics}
    documents = clustering.source.documents
    return [
        {
            "topic": topic.id,
            "level": topic.level,
            "name": topic.name,
            "documents": topic.size,
            "share": round(topic.size / n, 4),
            "parent": topic.parent,
            "parent_name": None if topic.parent is None else names[topic.parent],
            "keywords": ", ".join(term for term, _ in topic.keywords),
            "central_id": documents[topic.representatives[0]].id if topic.representatives else None,
            "central_text": documents[topic.representatives[0]].content if topic.representatives else None,
        }
        for topic in clustering.topics
    ]


def label_rows(clustering: Clustering) -> list[Row]:
    """A row for each true label, the most frequent first: how many of its documents are in each topic."""
    field = clustering.settings.label_field
    if field is None:
        return []
    columns = [f"{topic.id} {topic.name}" for topic in clustering.base_topics] + ["outliers"]
    counts: dict[str, Counter[int]] = {}
    for document, label in zip(clustering.source.documents, clustering.labels.tolist(), strict=True):
        value = document.metadata.get(field)
        if value is not None:
            counts.setdefault(str(value), Counter())[label] += 1
    places = [*range(len(columns) - 1), -1]
    return [
        {"label": label, "documents": found.total(), **{c: found[p] for c, p in zip(columns, places, strict=True)}}
        for label, found in sorted(counts.items(), key=lambda item: (-item[1].total(), item[0]))
    ]


def timeline_of(clustering: Clustering) -> Timeline | None:
    """Topics over time; ``None`` where no field with a date is named."""
    field = clustering.settings.time_field
    if field is None:
        return None
    values = [document.metadata.get(field) for document in clustering.source.documents]
    return topics_over_time(values, clustering.labels, len(clustering.base_topics))


def time_rows(clustering: Clustering, timeline: Timeline) -> list[Row]:
    """A row for each period and topic that has documents in it, with the topic's share of the period."""
    names = [(topic.id, topic.name) for topic in clustering.base_topics] + [(-1, "(outliers)")]
    return [
        {
            "period": period,
            "topic": id_,
            "name": name,
            "documents": int(count),
            "share": round(float(count / counts.sum()), 4),
        }
        for period, counts in zip(timeline.periods, timeline.counts, strict=True)
        for (id_, name), count in zip(names, counts, strict=True)
        if count
    ]


def write_csv(rows: Sequence[Row], path: Path) -> None:
    """Write rows with all columns that any of them has; lists and objects are written as JSON."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    with path.open("w", encoding="utf-8-sig", errors="backslashreplace", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows({name: _cell(value) for name, value in row.items()} for row in rows)


def write_parquet(rows: Sequence[Row], path: Path, types: Mapping[str, str | pyarrow.DataType] = ROW_TYPES) -> None:
    """Write rows as Parquet.

    Args:
        rows: of any columns.
        path: where to.
        types: of the columns that must be there, as Arrow or its short names have them; others take the type of their
            values, and text where these differ.
    """
    import pyarrow
    from pyarrow import parquet

    wanted = {name: pyarrow.type_for_alias(kind) if isinstance(kind, str) else kind for name, kind in types.items()}
    columns = list(dict.fromkeys([*types, *(name for row in rows for name in row)]))
    made = {name: _array([row.get(name) for row in rows], wanted.get(name)) for name in columns}
    parquet.write_table(pyarrow.table(made), path)


def _array(values: list[Any], kind: pyarrow.DataType | None) -> pyarrow.Array:
    import pyarrow

    if kind is not None:
        return pyarrow.array(values, kind)
    if not any(isinstance(value, list | dict) for value in values):
        try:
            return pyarrow.array(values)
        except (pyarrow.ArrowException, OverflowError):
            pass
    texts = [None if value is None else _cell(value) for value in values]
    return pyarrow.array([text if text is None else str(text) for text in texts], pyarrow.string())


def _cell(value: Any) -> Any:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict | bool) else value
