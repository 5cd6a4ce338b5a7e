"""``report.md``: settings, scores, topics and warnings of a clustering, for people."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from llm2comp_apps.clustering.algorithms import quality
from llm2comp_apps.clustering.algorithms.methods import default_cluster_size
from llm2comp_apps.clustering.output.tables import label_rows, timeline_of
from llm2comp_apps.text_table import in_markdown

if TYPE_CHECKING:
    from llm2comp_apps.clustering.describing.topics import Topic
    from llm2comp_apps.clustering.pipeline import Clustering

__all__ = ["SCORE_NAMES", "outlier_policy_effect", "report_markdown"]

_SNIPPET = 100  # characters
_LABEL_TOPICS = 4
_TIME_TOPICS = 8
SCORE_NAMES = {
    "outlier_share": "outlier share",
    "silhouette": "silhouette (cosine, original vectors)",
    "dbcv": "DBCV (space that was clustered)",
    "v_measure": "V-measure",
    "nmi": "NMI",
    "ari": "adjusted Rand index",
    "purity": "purity",
}


def report_markdown(clustering: Clustering, title: str) -> str:
    """Write the report; nothing in it changes from run to run."""
    sections = [
        f"# {in_markdown(title)}",
        _overview(clustering),
        *(
            ["## Warnings", "\n".join(f"- {in_markdown(line)}" for line in clustering.warnings)]
            if clustering.warnings
            else []
        ),
        "## Scores",
        _scores(clustering),
        "## Topics",
        _topics(clustering),
        *(["## Labels", _labels(clustering)] if clustering.settings.label_field else []),
        *(["## Over time", _over_time(clustering)] if clustering.settings.time_field else []),
        *(["## Updates", _updates(clustering)] if clustering.updates else []),
        "## Settings",
        _settings(clustering),
    ]
    return "\n\n".join(sections) + "\n"


def _overview(clustering: Clustering) -> str:
    n, outliers = len(clustering.labels), int((clustering.labels < 0).sum())
    sizes = sorted(topic.size for topic in clustering.base_topics)
    line = f"{n} documents, {len(sizes)} topics, {outliers} outliers ({outliers / n:.1%})."
    if clustering.settings.method == "hdbscan":
        line += f" {outlier_policy_effect(clustering)}."
    if sizes:
        line += f" Topic sizes from {sizes[0]} to {sizes[-1]}, median {sizes[len(sizes) // 2]}."
    return line


def outlier_policy_effect(clustering: Clustering) -> str:
    """What HDBSCAN left out, and what remains of that after the outlier policy."""
    n, outliers = len(clustering.labels), int((clustering.labels < 0).sum())
    policy = clustering.settings.outliers
    if policy == "threshold":
        policy = f"threshold {clustering.assigner.threshold:.2g}"
    fitted = n - sum(update["added"] for update in clustering.updates)
    of = f" of the first {fitted}" if clustering.updates else ""
    left_out = f"HDBSCAN left out {clustering.left_out}{of} ({clustering.left_out / fitted:.1%})"
    return f"{left_out}; the policy {policy} leaves {outliers} ({outliers / n:.1%})"


def _scores(clustering: Clustering) -> str:
    rows = [(SCORE_NAMES[name], f"{score:.4f}") for name, score in clustering.scores.items()]
    table = _table(("score", "value"), rows)
    inside = int((clustering.labels >= 0).sum())
    notes = ["Silhouette and DBCV leave outliers out; the comparison with given labels counts them as one cluster."]
    if inside > quality.SAMPLE:
        notes.append(f"Silhouette and DBCV are taken from {quality.SAMPLE} documents.")
    return f"{table}\n\n{' '.join(notes)}"


def _topics(clustering: Clustering) -> str:
    if not clustering.topics:
        return "None."
    parents = {topic.id: topic.name for topic in clustering.topics}
    documents = clustering.source.documents

    def row(topic: Topic) -> tuple[str, ...]:
        central = documents[topic.representatives[0]].content[:_SNIPPET] if topic.representatives else ""
        above = parents[topic.parent] if topic.parent is not None else ""
        keywords = ", ".join(term for term, _ in topic.keywords)
        return str(topic.id), topic.name, str(topic.size), above, keywords, central

    header = ("id", "name", "documents", "parent", "keywords", "most central document")
    return _table(header, [row(topic) for topic in clustering.topics])


def _labels(clustering: Clustering) -> str:
    """Documents by label, and the topics that most of them are in; a page has no room for the whole table."""
    rows = []
    for row in label_rows(clustering):
        inside = {name: count for name, count in row.items() if name not in ("label", "documents") and count}
        first = sorted(inside.items(), key=lambda item: -item[1])[:_LABEL_TOPICS]
        rows.append((row["label"], str(row["documents"]), "; ".join(f"{name}: {count}" for name, count in first)))
    if not rows:
        return "No document has a label."
    table = _table((str(clustering.settings.label_field), "documents", "in the topics"), rows)
    return f"{table}\n\nlabels.csv has the whole table."


def _over_time(clustering: Clustering) -> str:
    timeline = timeline_of(clustering)
    if timeline is None or not timeline.periods:
        return "No document has a date."
    topics = clustering.base_topics[:_TIME_TOPICS]
    rows = [
        (period, str(sum(counts)), *(str(count) for count in counts[: len(topics)]))
        for period, counts in zip(timeline.periods, timeline.counts.tolist(), strict=True)
    ]
    table = _table((timeline.unit, "documents", *(topic.name for topic in topics)), rows)
    undated = f" {timeline.undated} documents have no date." if timeline.undated else ""
    return f"{table}\n\ntime.csv has all topics, time.png shows them.{undated}"


def _updates(clustering: Clustering) -> str:
    names = {topic.id: topic.name for topic in clustering.base_topics}

    def row(number: int, update: dict[str, Any]) -> tuple[str, ...]:
        counts = (str(update[name]) for name in ("added", "replaced", "outliers"))
        new = ", ".join(f"{names[id_]} ({id_}): {size}" for id_, size in update["new_topics"].items())
        return str(number), *counts, str(len(update["grown"])), new

    header = ("update", "added", "replaced", "without a topic", "topics that grew", "new topics, with documents")
    return _table(header, [row(number, update) for number, update in enumerate(clustering.updates, start=1)])


def _settings(clustering: Clustering) -> str:
    settings = asdict(clustering.settings)
    if clustering.settings.method == "hdbscan" and settings["min_cluster_size"] is None:
        settings["min_cluster_size"] = default_cluster_size(len(clustering.labels))
    rows = [(name, str(value)) for name, value in settings.items() if value is not None]
    rows += [(f"encoder {key}", value) for key, value in sorted(clustering.source.encoder.items())]
    return _table(("setting", "value"), rows)


def _table(header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [header, tuple("---" for _ in header), *rows]
    return "\n".join("| " + " | ".join(_cell(cell) for cell in line) + " |" for line in lines)


def _cell(text: str) -> str:
    return in_markdown(" ".join(text.split()))
