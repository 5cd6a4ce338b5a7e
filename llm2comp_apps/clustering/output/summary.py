"""What a clustering says of itself: records for programs, and tables of plain text for people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from llm2comp_apps.clustering.output.report import SCORE_NAMES, outlier_policy_effect
from llm2comp_apps.text_table import TextTable

if TYPE_CHECKING:
    from llm2comp_apps.clustering.pipeline import Clustering
    from llm2comp_apps.clustering.update import TopicUpdate

__all__ = ["assigned_record", "assigned_table", "score_lines", "summary", "topics_table", "update_table"]

_SNIPPET = 200  # characters


def summary(found: Clustering) -> dict[str, Any]:
    """Counts, topics of all levels and scores, JSON-shaped."""
    ids = [document.id for document in found.source.documents]
    return {
        "documents": len(ids),
        "outliers": int((found.labels < 0).sum()),
        "topics": [topic.record(ids) for topic in found.topics],
        "left_out": found.left_out,
        "scores": {name: round(score, 6) for name, score in found.scores.items()},
    }


def topics_table(found: Clustering) -> TextTable:
    """The topics that documents belong to, with the document that is nearest to the middle of each."""
    n = len(found.labels)
    rows: list[tuple[str, ...]] = []
    for topic in found.base_topics:
        central = found.source.documents[topic.representatives[0]].content
        share = f"{topic.size / n:.1%}"
        rows.append((str(topic.id), str(topic.size), share, topic.name, " ".join(central[:_SNIPPET].split())))
    outliers = int((found.labels < 0).sum())
    rows.append(("", str(outliers), f"{outliers / n:.1%}", "(outliers)", ""))
    header = ("topic", "documents", "share", "name", "most central document")
    return TextTable(header=header, rows=rows, numbers=(0, 1, 2), cut=(4,))


def score_lines(found: Clustering) -> list[str]:
    """How good the topics are: what the outlier policy did, and a line for each score."""
    lines = [outlier_policy_effect(found)] if found.settings.method == "hdbscan" else []
    scores = found.scores.items()
    return [*lines, *(f"{SCORE_NAMES[name]}: {score:.3f}" for name, score in scores if name != "outlier_share")]


def assigned_record(rows: Sequence[dict[str, Any]], names: dict[int, str]) -> dict[str, Any]:
    """How many documents were assigned to each topic, JSON-shaped.

    Args:
        rows: a line of the table of documents each, as :meth:`~llm2comp_apps.TopicModel.assign` gives them.
        names: of the topics, by their ids.
    """
    sizes = Counter(row["cluster"] for row in rows)
    topics = [{"id": id_, "name": name, "size": sizes[id_]} for id_, name in names.items()]
    return {"documents": len(rows), "outliers": sizes[-1], "topics": topics}


def assigned_table(rows: Sequence[dict[str, Any]], names: dict[int, str]) -> TextTable:
    """The same as a table."""
    record = assigned_record(rows, names)
    lines = [(str(topic["id"]), str(topic["size"]), topic["name"]) for topic in record["topics"]]
    lines.append(("", str(record["outliers"]), "(outliers)"))
    return TextTable(header=("topic", "documents", "name"), rows=lines, numbers=(0, 1))


def update_table(report: TopicUpdate, found: Clustering) -> TextTable:
    """The topics that grew or are new, and the outliers.

    Args:
        report: of the update.
        found: the clustering after it.
    """
    rows: list[tuple[str, ...]] = []
    for topic in found.base_topics:
        if topic.id in report.new_topics:
            rows.append((str(topic.id), str(topic.size), "new", topic.name))
        elif topic.id in report.grown:
            rows.append((str(topic.id), str(topic.size), f"+{report.grown[topic.id]}", topic.name))
    outliers = int((found.labels < 0).sum())
    rows.append(("", str(outliers), f"+{report.outliers}" if report.outliers else "", "(outliers)"))
    return TextTable(header=("topic", "documents", "added", "name"), rows=rows, numbers=(0, 1, 2))
