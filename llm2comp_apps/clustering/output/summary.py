"""What a clustering says of itself: a record for programs, and a table of plain text for people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llm2comp_apps.clustering.output.report import SCORE_NAMES, outlier_policy_effect
from llm2comp_apps.text_table import TextTable

if TYPE_CHECKING:
    from llm2comp_apps.clustering.pipeline import Clustering
    from llm2comp_apps.clustering.update import TopicUpdate

__all__ = ["Summary", "summarize_assigned", "summarize_topics", "summarize_update"]

_SNIPPET = 200  # characters


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """What was found or done.

    Attributes:
        record: JSON-shaped.
        table: the same for people.
        lines: below the table: what the outlier policy did, and the scores.
        warnings: what a reader should know, a line each.
        done: one line on what was done.
    """

    record: dict[str, Any]
    table: TextTable
    lines: Sequence[str] = ()
    warnings: Sequence[str] = ()
    done: str


def summarize_topics(found: Clustering, left_out: Sequence[str] = ()) -> Summary:
    """The topics that documents belong to, with the document that is nearest to the middle of each.

    Args:
        found: the clustering.
        left_out: lines on what could not be written of it.
    """
    n = len(found.labels)
    rows: list[tuple[str, ...]] = []
    for topic in found.base_topics:
        central = found.source.documents[topic.representatives[0]].content
        share = f"{topic.size / n:.1%}"
        rows.append((str(topic.id), str(topic.size), share, topic.name, " ".join(central[:_SNIPPET].split())))
    outliers = int((found.labels < 0).sum())
    effect = [outlier_policy_effect(found)] if found.settings.method == "hdbscan" else []
    scores = {name: score for name, score in found.scores.items() if name != "outlier_share"}
    return Summary(
        record=_record(found),
        table=TextTable(
            header=("topic", "documents", "share", "name", "most central document"),
            rows=[*rows, ("", str(outliers), f"{outliers / n:.1%}", "(outliers)", "")],
            numbers=(0, 1, 2),
            cut=(4,),
        ),
        lines=[*effect, *(f"{SCORE_NAMES[name]}: {score:.3f}" for name, score in scores.items())],
        warnings=[*found.warnings, *left_out],
        done="open map.html in a browser",
    )


def summarize_assigned(rows: Sequence[dict[str, Any]], names: dict[int, str]) -> Summary:
    """How many documents were assigned to each topic.

    Args:
        rows: a line of the table of documents each, as :meth:`~llm2comp_apps.TopicModel.assign` gives them.
        names: of the topics, by their ids.
    """
    sizes = Counter(row["cluster"] for row in rows)
    topics = [{"id": id_, "name": name, "size": sizes[id_]} for id_, name in names.items()]
    lines = [(str(id_), str(sizes[id_]), name) for id_, name in names.items()]
    return Summary(
        record={"documents": len(rows), "outliers": sizes[-1], "topics": topics},
        table=TextTable(
            header=("topic", "documents", "name"),
            rows=[*lines, ("", str(sizes[-1]), "(outliers)")],
            numbers=(0, 1),
        ),
        done=f"{len(rows)} documents assigned to topics as they were made",
    )


def summarize_update(report: TopicUpdate, found: Clustering, left_out: Sequence[str] = ()) -> Summary:
    """The topics that grew or are new, and the outliers.

    Args:
        report: of the update.
        found: the clustering after it.
        left_out: lines on what could not be written of it.
    """
    rows: list[tuple[str, ...]] = []
    for topic in found.base_topics:
        if topic.id in report.new_topics:
            rows.append((str(topic.id), str(topic.size), "new", topic.name))
        elif topic.id in report.grown:
            rows.append((str(topic.id), str(topic.size), f"+{report.grown[topic.id]}", topic.name))
    outliers = int((found.labels < 0).sum())
    return Summary(
        record={**_record(found), "update": report.record()},
        table=TextTable(
            header=("topic", "documents", "added", "name"),
            rows=[*rows, ("", str(outliers), f"+{report.outliers}" if report.outliers else "", "(outliers)")],
            numbers=(0, 1, 2),
        ),
        warnings=[*report.warnings, *found.warnings, *left_out],
        done=str(report),
    )


def _record(found: Clustering) -> dict[str, Any]:
    """Counts, topics of all levels and scores."""
    ids = [document.id for document in found.source.documents]
    return {
        "documents": len(ids),
        "outliers": int((found.labels < 0).sum()),
        "topics": [topic.record(ids) for topic in found.topics],
        "left_out": found.left_out,
        "scores": {name: round(score, 6) for name, score in found.scores.items()},
    }
