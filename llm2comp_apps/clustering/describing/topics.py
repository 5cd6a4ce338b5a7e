"""Topics as people see them: keywords, a name, representative documents, parents; and which of them are one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from llm2comp_apps.clustering.algorithms.hierarchy import group_sizes, group_topics
from llm2comp_apps.clustering.algorithms.membership import renumber
from llm2comp_apps.clustering.algorithms.neighbors import FloatArray, IntArray
from llm2comp_apps.clustering.describing.keywords import TermCounts, ctfidf, topic_keywords

__all__ = ["Topic", "build_topics", "find_duplicates", "representatives"]

_NAME_WORDS = 3
_REPRESENTATIVES = 5


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic of some level.

    Attributes:
        id: 0 to C - 1 are the topics that documents belong to, largest first; parents count on from there.
        level: 1 for those, 2 and up for parents.
        size: documents in it; for a parent in all of its children.
        name: for people.
        keywords: with their weights, the most telling first.
        representatives: positions of the most central documents.
        parent: id of the topic above; None at the top.
        children: ids of the topics below; empty at level 1.
    """

    id: int
    level: int
    size: int
    name: str
    keywords: tuple[tuple[str, float], ...]
    representatives: tuple[int, ...]
    parent: int | None = None
    children: tuple[int, ...] = ()

    def record(self, ids: Sequence[str]) -> dict[str, Any]:
        """JSON-shaped, with document ids in place of positions."""
        return {
            "id": self.id,
            "level": self.level,
            "name": self.name,
            "size": self.size,
            "keywords": [{"term": term, "weight": weight} for term, weight in self.keywords],
            "representatives": [ids[position] for position in self.representatives],
            "parent": self.parent,
            "children": list(self.children),
        }


def build_topics(
    texts: Sequence[str], vectors: FloatArray, labels: IntArray, counts: TermCounts, levels: int = 1
) -> list[Topic]:
    """Describe the topics of a clustering.

    Args:
        texts: n documents.
        vectors: ``(n, d)``, unit rows.
        labels: ``(n,)``, 0 to C - 1 or -1.
        counts: terms of the texts.
        levels: how many levels of topics; above the first there may be fewer, when there is nothing to group.

    Returns:
        The C topics in the order of their labels, then the parents, level by level.
    """
    count = int(labels.max(initial=-1)) + 1
    if not count:
        return []
    centroids = np.stack([vectors[labels == topic].mean(axis=0) for topic in range(count)])
    groups = group_topics(centroids, group_sizes(count, levels))
    numbers = [np.arange(count, dtype=np.int32)]  # of each topic's ancestor on every level, as an id
    for group in groups:
        numbers.append((group + numbers[-1].max() + 1).astype(np.int32))
    topics = []
    for level, ids in enumerate(numbers, start=1):
        first = int(ids.min())
        above = numbers[level] if level < len(numbers) else None
        described = _describe(texts, vectors, renumber(labels, ids - first), counts)
        for offset, (keywords, central, size) in enumerate(described):
            inside = ids == first + offset
            below = numbers[level - 2][inside] if level > 1 else np.array([], dtype=np.int32)
            topics.append(
                Topic(
                    id=first + offset,
                    level=level,
                    size=size,
                    name="",
                    keywords=tuple(keywords),
                    representatives=tuple(central),
                    parent=int(above[inside][0]) if above is not None else None,
                    children=tuple(sorted({int(child) for child in below})),
                )
            )
    return _named(topics)


def representatives(texts: Sequence[str], vectors: FloatArray, members: IntArray) -> list[int]:
    """The most central documents of a topic: nearest to its centroid by cosine, each text only once.

    Args:
        texts: of all documents.
        vectors: ``(n, d)``, unit rows, of all documents.
        members: positions of the topic's documents.
    """
    closeness = vectors[members] @ vectors[members].mean(axis=0)
    central: list[int] = []
    seen: set[str] = set()
    for position in members[np.argsort(-closeness, kind="stable")].tolist():
        key = " ".join(texts[position].split()).casefold()
        if key not in seen:
            seen.add(key)
            central.append(position)
        if len(central) == _REPRESENTATIVES:
            break
    return central


def find_duplicates(counts: TermCounts, labels: IntArray, likeness: float) -> IntArray:
    """Group topics that say the same: the cosine of their c-TF-IDF profiles is at least ``likeness``.

    The most alike pair is joined first and its profile made anew, until no pair is alike enough.

    Returns:
        ``(C,)``: the group of each topic.
    """
    count = int(labels.max(initial=-1)) + 1
    groups = np.arange(count, dtype=np.int32)
    while len(np.unique(groups)) > 1:
        profiles = ctfidf(counts, renumber(labels, groups), count)
        length = np.sqrt(np.asarray(profiles.multiply(profiles).sum(axis=1))).ravel()
        cosine = np.asarray((profiles @ profiles.T).todense()) / np.maximum(np.outer(length, length), 1e-12)
        cosine[np.tril_indices(count)] = -1.0
        one, other = np.unravel_index(int(cosine.argmax()), cosine.shape)
        if not cosine[one, other] >= likeness:  # NaN, too, is an end
            break
        groups[groups == other] = one
    return groups


def _describe(
    texts: Sequence[str], vectors: FloatArray, labels: IntArray, counts: TermCounts
) -> list[tuple[list[tuple[str, float]], list[int], int]]:
    """Keywords, representatives and size of each label."""
    count = int(labels.max()) + 1
    keywords = topic_keywords(counts, ctfidf(counts, labels, count), labels, texts)
    members = [np.flatnonzero(labels == topic).astype(np.int32) for topic in range(count)]
    return [(keywords[t], representatives(texts, vectors, members[t]), len(members[t])) for t in range(count)]


def _named(topics: list[Topic]) -> list[Topic]:
    """Name topics after their first keywords, one more where two would be called the same."""
    named: list[Topic] = []
    taken: set[tuple[int, str]] = set()
    for topic in topics:
        words = [term for term, _ in topic.keywords]
        name = ", ".join(words[:_NAME_WORDS]) or f"Topic {topic.id}"
        for more in range(_NAME_WORDS + 1, len(words) + 1):
            if (topic.level, name) not in taken:
                break
            name = ", ".join(words[:more])
        if (topic.level, name) in taken:
            name = f"{name} ({topic.id})"
        taken.add((topic.level, name))
        named.append(replace(topic, name=name))
    return named
