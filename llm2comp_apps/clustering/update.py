"""New documents into a clustering that is there: topics grow, new ones appear, and none gets another number.

1. A document that is there already, under the same id and with the same text, changes nothing. One that has another
   text under an id that is there takes its place. A copy of a text that is there gets that text's topic.
2. Every other document is assigned as :class:`~llm2comp_apps.clustering.algorithms.assign.Assigner` does it.
3. Documents that are far from the topics, and the outliers of the fit and of earlier updates, are clustered among
   themselves, by density whatever the method of the fit was. Groups that are nearer to themselves than to any topic
   become topics (:mod:`~llm2comp_apps.clustering.novelty`) and get the next numbers, the largest first. A
   group that uses the words of a topic (the setting ``merge``) joins it. Nothing smaller than the smallest topic of a
   fit becomes a topic; without ``min_cluster_size`` that is what the default is for all documents together.
4. A document that is stranger than 95 of 100 and is in no new topic waits as an outlier, so that a topic can appear
   over several updates. With the policy ``nearest`` nothing waits, and where ``k`` was given no topic is added: whoever
   gave it has said how many there are.

A document that has a topic keeps it, and its probability: only new documents, outliers, and documents whose text
changed are given a topic. Names, keywords, representative documents, parents, the map and the scores follow. Equal
documents in equal order give equal results.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from llm2comp_apps.clustering.algorithms.assign import Assigner, KeyArray, hash_rows, hash_texts, unit_rows
from llm2comp_apps.clustering.algorithms.membership import own_membership, ranks_by_size, renumber
from llm2comp_apps.clustering.algorithms.methods import default_cluster_size
from llm2comp_apps.clustering.algorithms.neighbors import FloatArray, IntArray
from llm2comp_apps.clustering.algorithms.placement import island, place_beside
from llm2comp_apps.clustering.describing.keywords import TermCounts, count_terms
from llm2comp_apps.clustering.describing.topics import Topic, find_duplicates, revise_topics
from llm2comp_apps.clustering.fitted import FittedModel
from llm2comp_apps.clustering.novelty import Strangeness, find_new_topics, strangeness
from llm2comp_apps.clustering.pipeline import (
    CHANCE,
    Clustering,
    Namer,
    Note,
    be_quiet,
    score_labels,
    true_labels,
    uneven_lines,
)
from llm2comp_apps.clustering.pipeline import warnings_of as common_warnings
from llm2comp_apps.clustering.sources import Source, VectorsOf
from llm2comp_apps.corpus.document import Document
from llm2comp_apps.errors import UsageError

__all__ = ["TopicUpdate", "update"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicUpdate:
    """What an update did.

    Attributes:
        documents: how many were given.
        unchanged: of these, how many were there already.
        added: how many came.
        replaced: how many took the place of one with the same id and another text.
        outliers: how many of those that came or changed have no topic.
        grown: documents that joined, by the id of each topic that was there before; one whose text changed and that is
            in its topic still did not.
        new_topics: documents, by the id of each topic that appeared.
        warnings: what a reader should know, a line each.
    """

    documents: int
    unchanged: int = 0
    added: int = 0
    replaced: int = 0
    outliers: int = 0
    grown: dict[int, int]
    new_topics: dict[int, int]
    warnings: list[str]

    def __str__(self) -> str:
        return f"{self.added} documents added, {self.replaced} replaced, {self.unchanged} unchanged"

    def record(self) -> dict[str, Any]:
        """JSON-shaped."""
        return asdict(self)


@dataclass(slots=True)
class _Rows:
    """All documents of a clustering and what is known of each; arrays of n rows."""

    documents: list[Document]
    vectors: FloatArray
    keys: KeyArray
    text_keys: KeyArray
    labels: IntArray
    membership: FloatArray
    positions: FloatArray


def update(
    found: Clustering,
    documents: Sequence[Document],
    vectors_of: VectorsOf,
    *,
    min_cluster_size: int | None = None,
    namer: Namer | None = None,
    note: Note | None = None,
) -> tuple[Clustering, TopicUpdate]:
    """Take new documents into a clustering; the module's docstring has the rules.

    Args:
        found: stays as it is.
        documents: any; those that are there already may be among them.
        vectors_of: asked for the vectors ``(q, d)`` of the documents at the given positions.
        min_cluster_size: smallest new topic; by default that of the fit.
        namer: names the new topics.
        note: told what is being done.

    Returns:
        The clustering as it is now, and what happened; the same clustering where nothing is new.

    Raises:
        UsageError: an id comes twice with different texts.
        ClusteringError: vectors of another width, or that are not numbers.
    """
    say = note or be_quiet
    chosen, places = _news(found, documents)
    if not chosen:
        unchanged = TopicUpdate(
            documents=len(documents), unchanged=len(documents), grown={}, new_topics={}, warnings=[]
        )
        return found, unchanged
    replaced = [place for place in places if place is not None]
    first = len(found.base_topics)
    say(f"assigning {len(chosen)} documents to {first} topics")
    rows, fresh = _joined(found, documents, chosen, places, vectors_of)
    texts = [document.content for document in rows.documents]
    counts = count_terms(texts, found.settings.language)
    if found.settings.k is None:
        say("looking for new topics")
        _add_topics(rows, fresh, found, counts, min_cluster_size)
    say("describing the topics")
    appeared = range(first, rows.membership.shape[1])
    changed = {*rows.labels[fresh].tolist(), *found.labels[replaced].tolist(), *appeared} - {-1}
    topics = revise_topics(
        found.topics,
        texts,
        rows.vectors,
        rows.labels,
        counts,
        found.settings.levels,
        changed,
        found.next_id,
    )
    topics = _named(topics, found.next_id, texts, namer, say)
    report = _report(found, documents, rows.labels, fresh, topics, len(replaced))
    return _assembled(found, rows, topics, report), report


def _news(found: Clustering, documents: Sequence[Document]) -> tuple[list[int], list[int | None]]:
    """Positions of the documents that are new or changed, and for each the row whose place it takes."""
    row_of = {document.id: row for row, document in enumerate(found.source.documents)}
    keys = hash_texts([document.content for document in documents])
    chosen: list[int] = []
    places: list[int | None] = []
    met: dict[str, int] = {}
    for position, document in enumerate(documents):
        if document.id in met:
            if keys[position] != keys[met[document.id]]:
                raise UsageError(f"have the id {document.id!r} twice, with different texts", field="documents")
            continue
        met[document.id] = position
        row = row_of.get(document.id)
        if row is None or found.text_keys[row] != keys[position]:
            chosen.append(position)
            places.append(row)
    return chosen, places


def _joined(
    found: Clustering,
    documents: Sequence[Document],
    chosen: list[int],
    places: list[int | None],
    vectors_of: VectorsOf,
) -> tuple[_Rows, npt.NDArray[np.int64]]:
    """All rows with the new ones among them, assigned to the topics that there are; and which rows are new."""
    assigner, n = found.assigner, len(found.labels)
    arrivals = [documents[position] for position in chosen]
    texts = [document.content for document in arrivals]
    vectors, keys, labels, membership = _assigned(
        found, texts, lambda positions: vectors_of([chosen[position] for position in positions])
    )
    behind = np.cumsum([place is None for place in places]) + n - 1
    fresh = np.array([row if place is None else place for row, place in zip(behind.tolist(), places, strict=True)])
    total = int(max(n, fresh.max() + 1))

    def extended(old: npt.NDArray[Any], values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        whole = np.zeros((total, *old.shape[1:]), dtype=old.dtype)
        whole[:n] = old
        whole[fresh] = values
        return whole

    listed = [*found.source.documents, *arrivals[: total - n]]  # each row behind the old ones gets its own now
    for row, document in zip(fresh.tolist(), arrivals, strict=True):
        listed[row] = document
    stayed = np.setdiff1d(np.arange(n), fresh)
    anchors = (stayed if len(stayed) else np.arange(n)).tolist()
    beside = place_beside(
        assigner.vectors[anchors].astype(np.float32), found.positions[anchors], vectors.astype(np.float32)
    )
    rows = _Rows(
        documents=listed,
        vectors=extended(assigner.vectors, vectors).astype(np.float32),
        keys=extended(assigner.keys, keys),
        text_keys=extended(found.text_keys, hash_texts(texts)),
        labels=extended(assigner.labels, labels),
        membership=extended(assigner.membership, membership),
        positions=extended(found.positions, beside),
    )
    return rows, fresh


def _assigned(
    found: Clustering, texts: Sequence[str], vectors_of: VectorsOf
) -> tuple[npt.NDArray[Any], KeyArray, IntArray, FloatArray]:
    """What is kept of m texts: vectors ``(m, d)``, their keys ``(m,)``, topics ``(m,)`` and membership ``(m, C)``.

    Copies of texts that are there get what these have, and are not encoded.
    """
    assigner, model = found.assigner, FittedModel.of(found)
    row_of = model.rows_of(texts)
    vectors, keys = assigner.vectors[row_of], assigner.keys[row_of]
    labels, membership = assigner.labels[row_of], assigner.membership[row_of]
    new = np.flatnonzero(row_of < 0)  # which have the values of the last row so far
    if len(new):
        encoded = model.checked(vectors_of(new.tolist()))
        vectors[new] = (unit_rows(encoded) if assigner.cosine else encoded).astype(np.float16)
        keys[new] = hash_rows(encoded)
        labels[new], membership[new] = assigner.assign(encoded)
    return vectors, keys, labels, membership


def _add_topics(
    rows: _Rows, fresh: npt.NDArray[np.int64], found: Clustering, counts: TermCounts, min_cluster_size: int | None
) -> None:
    """Find the new topics among what fits nowhere, and give their documents to them."""
    settings, n, first = found.settings, len(rows.labels), rows.membership.shape[1]
    is_fresh = np.zeros(n, dtype=bool)
    is_fresh[fresh] = True
    copied = np.isin(rows.text_keys, found.text_keys[found.labels >= 0])  # of a text that has a topic
    places = np.flatnonzero((rows.labels < 0) | (is_fresh & ~copied))
    familiar = rows.vectors[(rows.labels >= 0) & ~is_fresh]
    judged = strangeness(familiar, rows.vectors[places])
    waiting = judged.doubtful | (rows.labels[places] < 0)
    pool, of_pool = places[waiting], Strangeness(judged.distance[waiting], judged.rank[waiting])
    size = min_cluster_size or settings.min_cluster_size or default_cluster_size(n)
    labels, membership = find_new_topics(
        rows.vectors[pool], is_fresh[pool], of_pool, familiar, size, settings.reduce, settings.seed
    )
    if found.assigner.outliers != "nearest":
        rows.labels[places[judged.strange]] = -1
    if membership.shape[1]:
        _append_topics(rows, pool, labels, membership)
        _merge_topics(rows, first, counts, settings.merge)
        _place_topics(rows, first)


def _append_topics(rows: _Rows, pool: npt.NDArray[np.int64], labels: IntArray, membership: FloatArray) -> None:
    """Put K topics behind the C that there are.

    Args:
        rows: changed in place.
        pool: ``(p,)``, the rows that were clustered.
        labels: ``(p,)``, 0 to K - 1, -1 for a document that stays where it is.
        membership: ``(p, K)``; what a document belongs to these it no longer belongs to the others.
    """
    first = rows.membership.shape[1]
    inside = labels >= 0
    rows.labels[pool[inside]] = labels[inside] + first
    share = rows.membership[pool] * np.maximum(1.0 - membership.sum(axis=1, keepdims=True), 0.0)
    whole = np.zeros((len(rows.labels), first + membership.shape[1]), dtype=np.float32)
    whole[:, :first] = rows.membership
    whole[pool] = np.hstack([share, membership])
    rows.membership = whole


def _merge_topics(rows: _Rows, first: int, counts: TermCounts, likeness: float) -> None:
    """Join topics from ``first`` on with those whose words they use, and number the others from the largest on."""
    groups = find_duplicates(counts, rows.labels, likeness, settled=first)
    joined = renumber(rows.labels, groups)
    of_new = np.where(joined >= first, joined - first, -1).astype(np.int32)
    numbers = np.append(np.arange(first, dtype=np.int32), ranks_by_size(of_new) + first)[groups]
    rows.labels = renumber(rows.labels, numbers)
    rows.membership = rows.membership @ np.eye(int(numbers.max()) + 1, dtype=np.float32)[numbers]


def _place_topics(rows: _Rows, first: int) -> None:
    """Move the documents of each topic from ``first`` on together on the map, where the others leave room."""
    for topic in range(first, rows.membership.shape[1]):
        own = rows.labels == topic
        others = rows.positions[rows.labels < topic]
        wish = rows.positions[own].mean(axis=0)
        rows.positions[own] = island(rows.vectors[own], others if len(others) else wish[None], wish)


def _named(topics: list[Topic], next_id: int, texts: Sequence[str], namer: Namer | None, say: Note) -> list[Topic]:
    """Let the namer name the topics that are new; a name that is taken is not given twice."""
    new = [topic for topic in topics if topic.id >= next_id]
    if namer is None or not new:
        return topics
    say("naming the topics")
    taken = {(topic.level, topic.name.casefold()) for topic in topics if topic.id < next_id}
    names = {topic.id: topic for topic in namer(new, texts) if (topic.level, topic.name.casefold()) not in taken}
    return [names.get(topic.id, topic) for topic in topics]


def _report(
    found: Clustering,
    documents: Sequence[Document],
    labels: IntArray,
    fresh: npt.NDArray[np.int64],
    topics: Sequence[Topic],
    replaced: int,
) -> TopicUpdate:
    """What happened: ``labels`` are those of all rows now, ``fresh`` the rows of what came or changed."""
    base = [topic for topic in topics if topic.level == 1]
    before = np.full(len(labels), -1, dtype=np.int32)
    before[: len(found.labels)] = found.labels
    joined = np.bincount(labels[(labels >= 0) & (labels != before)], minlength=len(base)).tolist()
    old = len(found.base_topics)
    lines = []
    if replaced:
        lines.append(f"{replaced} documents have an id that was there with another text; they took its place")
    return TopicUpdate(
        documents=len(documents),
        unchanged=len(documents) - len(fresh),
        added=len(fresh) - replaced,
        replaced=replaced,
        outliers=int((labels[fresh] < 0).sum()),
        grown={topic.id: count for topic, count in zip(base[:old], joined, strict=False) if count},
        new_topics={topic.id: topic.size for topic in base[old:]},
        warnings=lines,
    )


def _assembled(found: Clustering, rows: _Rows, topics: list[Topic], report: TopicUpdate) -> Clustering:
    """The clustering as it is after the update."""
    settings = found.settings
    assigner: Assigner = replace(
        found.assigner,
        vectors=rows.vectors.astype(np.float16),
        keys=rows.keys,
        labels=rows.labels,
        membership=rows.membership,
    )
    source = Source(rows.documents, rows.vectors, found.source.encoder)
    truth = true_labels(rows.documents, settings.label_field)
    record = {name: value for name, value in report.record().items() if name != "warnings"}
    chance = [line for line in found.warnings if line.startswith(CHANCE)]
    return replace(
        found,
        source=source,
        text_keys=rows.text_keys,
        labels=rows.labels,
        probabilities=own_membership(rows.labels, rows.membership),
        membership=rows.membership,
        topics=topics,
        positions=rows.positions,
        # Of the density of what came later in the space that was clustered nothing is known: no DBCV.
        scores=score_labels(rows.vectors, rows.labels, truth),
        warnings=[
            *common_warnings(source, settings, rows.labels, truth),
            *uneven_lines(settings, topics, len(rows.documents), updated=True),
            *chance,
        ],
        assigner=assigner,
        next_id=max([found.next_id, *(topic.id + 1 for topic in topics)]),
        updates=(*found.updates, record),
    )
