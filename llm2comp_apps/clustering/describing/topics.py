"""Topics as people see them: keywords, a name, representative documents, parents; and which of them are one."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from llm2comp_apps.clustering.algorithms.hierarchy import group_sizes, group_topics
from llm2comp_apps.clustering.algorithms.membership import renumber
from llm2comp_apps.clustering.algorithms.neighbors import FloatArray, IntArray
from llm2comp_apps.clustering.describing.keywords import TermCounts, ctfidf, topic_keywords
from llm2comp_apps.clustering.describing.parents import covering_words, led_by

__all__ = ["Topic", "build_topics", "find_duplicates", "representatives", "revise_topics"]

_NAME_WORDS = 3
_REPRESENTATIVES = 5


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic of some level.

    Attributes:
        id: for good; after a fit, 0 to C - 1 are the topics that documents belong to, largest first, and the parents
            count on from there; what comes later takes the next numbers.
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
    return revise_topics([], texts, vectors, labels, counts, levels, range(int(labels.max(initial=-1)) + 1), 0)


def revise_topics(
    topics: Sequence[Topic],
    texts: Sequence[str],
    vectors: FloatArray,
    labels: IntArray,
    counts: TermCounts,
    levels: int,
    changed: Collection[int],
    next_id: int,
) -> list[Topic]:
    """Describe topics again after documents came: those that changed, those that are new, and their parents.

    A topic keeps its id for good, and its name as long as the name is true (:func:`_kept_name`). A parent is its
    children: one that still has the same ones keeps its id. No id is given twice.

    Args:
        topics: as they were, all levels; empty for none.
        texts: n documents.
        vectors: ``(n, d)``, unit rows.
        labels: ``(n,)``, positions in the list of topics of level 1, or -1; those beyond its end are new topics.
        counts: terms of the texts.
        levels: how many levels of topics are wanted.
        changed: the labels whose documents are not those that they were, the new ones among them.
        next_id: the first id that was never given.
    """
    old = [topic for topic in topics if topic.level == 1]
    count = max(len(old), int(labels.max(initial=-1)) + 1)
    if not count:
        return []
    ids = [topic.id for topic in old] + list(range(next_id, next_id + count - len(old)))
    next_id += count - len(old)
    groups = [np.arange(count, dtype=np.int32)]  # of each topic, at every level
    if count > len(old):
        groups += group_topics(_centroids(vectors, labels, count), group_sizes(count, levels))
    else:
        groups += _known_groups(topics)
    known = {(topic.level, _base(topic, topics)): topic for topic in topics}
    revised: list[Topic] = []
    numbers: list[IntArray] = []  # of each topic's ancestor on every level, as an id
    for level, group in enumerate(groups, start=1):
        inside = [frozenset(np.array(ids)[group == g].tolist()) for g in range(int(group.max()) + 1)]
        touched = [g for g in range(len(inside)) if any(group[label] == g for label in changed)]
        fresh = [g for g, base in enumerate(inside) if (level, base) not in known]
        below = None
        if level > 1:
            below = _Below(groups[level - 2], numbers[-1], {topic.id: topic for topic in revised})
        described = _describe(texts, vectors, labels, group, counts, {*touched, *fresh}, below)
        level_ids = []
        for g, base in enumerate(inside):
            before = known.get((level, base))
            if before is None:
                topic = Topic(ids[g] if level == 1 else next_id, level, 0, "", (), ())
                next_id += level > 1
            else:
                topic = before
            if g in described:
                keywords, central, size = described[g]
                name = _kept_name(before, keywords) if before is not None else ""
                topic = replace(topic, name=name, size=size, keywords=tuple(keywords), representatives=tuple(central))
            children = sorted(set(numbers[-1][group == g].tolist())) if numbers else []
            revised.append(replace(topic, parent=None, children=tuple(children)))
            level_ids.append(topic.id)
        numbers.append(np.array(level_ids, dtype=np.int32)[group])
    above = {child: topic.id for topic in revised for child in topic.children}
    return _named([replace(topic, parent=above.get(topic.id)) for topic in revised])


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


def find_duplicates(counts: TermCounts, labels: IntArray, likeness: float, settled: int = 0) -> IntArray:
    """Group topics that say the same: the cosine of their c-TF-IDF profiles is at least ``likeness``.

    The most alike pair is joined first and its profile is made again, until no pair is alike enough.

    Args:
        counts: terms of n documents.
        labels: ``(n,)``, 0 to C - 1 or -1.
        likeness: the least cosine.
        settled: the first topics, which are not joined with one another.

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
        cosine[:settled, :settled] = -1.0
        one, other = np.unravel_index(int(cosine.argmax()), cosine.shape)
        if not cosine[one, other] >= likeness:  # NaN, too, is an end
            break
        groups[groups == other] = one
    return groups


def _centroids(vectors: FloatArray, labels: IntArray, count: int) -> FloatArray:
    """The mean vector of each topic, ``(C, d)``; zero for one that has lost all of its documents."""
    centroids = np.zeros((count, vectors.shape[1]), dtype=np.float32)
    for topic in np.unique(labels[labels >= 0]).tolist():
        centroids[topic] = vectors[labels == topic].mean(axis=0)
    return centroids


def _base(topic: Topic, topics: Sequence[Topic]) -> frozenset[int]:
    """The ids of the topics of level 1 below a topic."""
    if topic.level == 1:
        return frozenset([topic.id])
    below = {other.id: other for other in topics}
    return frozenset().union(*(_base(below[child], topics) for child in topic.children))


def _known_groups(topics: Sequence[Topic]) -> list[IntArray]:
    """The groups of the topics of level 1, level by level, as their parents have them."""
    place = {topic.id: i for i, topic in enumerate(t for t in topics if t.level == 1)}
    groups = []
    for level in range(2, max(topic.level for topic in topics) + 1):
        group = np.zeros(len(place), dtype=np.int32)
        for number, parent in enumerate(topic for topic in topics if topic.level == level):
            group[[place[id_] for id_ in _base(parent, topics)]] = number
        groups.append(group)
    return groups


@dataclass(frozen=True, slots=True)
class _Below:
    """The level below the one that is described.

    Attributes:
        group: of each topic of level 1, the topic of that level, counted from 0.
        ids: of each topic of level 1, that topic's id.
        topics: by id.
    """

    group: IntArray
    ids: IntArray
    topics: dict[int, Topic]


def _describe(
    texts: Sequence[str],
    vectors: FloatArray,
    base: IntArray,
    group: IntArray,
    counts: TermCounts,
    wanted: Collection[int],
    below: _Below | None,
) -> dict[int, tuple[list[tuple[str, float]], list[int], int]]:
    """Keywords, representatives and size of the wanted ones of the groups of base topics."""
    labels = renumber(base, group)
    weights = ctfidf(counts, labels, int(group.max()) + 1)
    keywords = topic_keywords(counts, weights, labels, texts, wanted)
    if below is not None:
        inner = renumber(base, below.group)
        profiles = ctfidf(counts, inner, int(below.group.max()) + 1)
        for label in sorted(wanted):
            children = np.unique(below.group[group == label]).tolist()
            words = [
                [term for term, _ in below.topics[int(below.ids[below.group == child][0])].keywords]
                for child in children
            ]
            first = covering_words(counts, profiles, inner, children, words, _NAME_WORDS)
            keywords[label] = led_by(first, keywords[label], counts, weights, label)
    described = {}
    for label in sorted(wanted):
        members = np.flatnonzero(labels == label).astype(np.int32)
        central = representatives(texts, vectors, members) if len(members) else []
        described[label] = keywords[label], central, len(members)
    return described


def _kept_name(topic: Topic, keywords: Sequence[tuple[str, float]]) -> str:
    """The name that a topic keeps under new keywords: one that a person or a model gave, or one that is still true.

    A name made of keywords is true while each of them is a keyword, so that a few documents more do not rename a topic.

    Returns:
        The name, or nothing: a new one is needed.
    """
    words = re.sub(r" \(\d+\)$", "", topic.name).split(", ")
    made = words == [term for term, _ in topic.keywords[: len(words)]] or topic.name == f"Topic {topic.id}"
    still = {term for term, _ in keywords}
    return topic.name if not made or not keywords or still.issuperset(words) else ""


def _named(topics: list[Topic]) -> list[Topic]:
    """Name the topics that have no name after their first keywords, one more where two would be called the same."""
    named: list[Topic] = []
    taken = {(topic.level, topic.name) for topic in topics if topic.name}
    for topic in topics:
        if topic.name:
            named.append(topic)
            continue
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
