"""Documents and vectors in, topics out: what ``llm2comp cluster`` does between reading and writing."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from llm2comp_apps.clustering.algorithms import quality
from llm2comp_apps.clustering.algorithms.assign import Assigner, KeyArray, hash_texts
from llm2comp_apps.clustering.algorithms.membership import OUTLIER_POLICIES
from llm2comp_apps.clustering.algorithms.methods import METHODS, default_cluster_size, is_lopsided
from llm2comp_apps.clustering.algorithms.neighbors import FloatArray, IntArray
from llm2comp_apps.clustering.algorithms.reduce import REDUCTIONS, map_positions
from llm2comp_apps.clustering.describing.keywords import count_terms
from llm2comp_apps.clustering.describing.llm_names import Namer
from llm2comp_apps.clustering.describing.timeline import day_of
from llm2comp_apps.clustering.describing.topics import Topic, build_topics, find_duplicates
from llm2comp_apps.clustering.describing.words import mostly_unspaced
from llm2comp_apps.clustering.sources import Source, check_vectors
from llm2comp_apps.corpus import Document
from llm2comp_apps.errors import ClusteringError, UsageError

if TYPE_CHECKING:
    from llm2comp_apps.clustering.estimator import TopicClusterer

__all__ = [
    "CHANCE",
    "LANGUAGES",
    "ClusterSettings",
    "Clustering",
    "Namer",
    "Note",
    "be_quiet",
    "check_documents",
    "cluster",
    "score_labels",
    "true_labels",
    "uneven_lines",
    "warnings_of",
]

LANGUAGES = ("english", "none")
_MANY_OUTLIERS = 0.3
_LEAST_SIZE = 3  # below, chance makes clusters
# A silhouette below the first, or below the second with a DBCV below the third, is that of noise. Measured with
# HDBSCAN, over the documents that it put into topics itself, since the outlier policy blurs both scores:
#   noise, 300 to 3,000 vectors of 128 to 768 dimensions    silhouette -0.02 to 0.01 (median 0.00)    DBCV -0.6 to 0.6
#   noise, 300 vectors of 64 dimensions                     silhouette 0.00 to 0.05 (median 0.01)     DBCV -0.1 to 0.5
#   300 to 4,000 titles (news, 20 newsgroups, PubMed, bioRxiv) by ``quality``            0.05 to 0.14    -0.1 to 0.4
#   100 news articles by their words (LSA), as near to noise as anything with topics     0.02           0.5
# Of 20 draws of 300 vectors this finds 20 in 128 and in 384 dimensions, 16 in 64, 5 in 32, where chance makes true
# clumps. DBCV alone finds nothing. The other methods have silhouettes to 0.03 on noise, and from 0.055 on the titles.
_NOISE_SILHOUETTE = 0.01
_DOUBTFUL_SILHOUETTE = 0.03
_DOUBTFUL_DBCV = 0.3
_RANGES: tuple[tuple[str, int, float], ...] = (
    ("k", 1, math.inf),
    ("min_cluster_size", 2, math.inf),
    ("outlier_threshold", 0, 1),
    ("levels", 1, 20),
    ("seed", 0, 2**32 - 1),  # what numpy's generators take
)
CHANCE = "the topics may be chance"
Note = Callable[[str], None]
"""Told what is being done, a line each time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterSettings:
    """How to cluster; :class:`~.estimator.TopicClusterer` explains what is not explained here.

    Attributes:
        method: ``hdbscan``, ``kmeans``, ``agglomerative`` or ``spectral``.
        k: number of topics; not for ``hdbscan``.
        min_cluster_size: for ``hdbscan``.
        reduce: ``neighbor``, ``umap``, ``pca`` or ``none``.
        outliers: ``keep``, ``nearest`` or ``threshold``.
        outlier_threshold: for the last; None for 0.2, and more with less than ten topics.
        levels: of topics: 1 for no parents.
        merge: topics are joined when the cosine of their keyword profiles is at least this; never with a given ``k``.
        language: of the stop words: ``english`` or ``none``.
        label_field: metadata field with the true label, to compare with.
        time_field: metadata field with a date, for topics over time.
        seed: random seed.
    """

    method: str = "hdbscan"
    k: int | None = None
    min_cluster_size: int | None = None
    reduce: str = "neighbor"
    outliers: str = "threshold"
    outlier_threshold: float | None = None
    levels: int = 2
    merge: float = 0.7
    language: str = "english"
    label_field: str | None = None
    time_field: str | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        """Check.

        Raises:
            UsageError: a value that makes no sense, or two that do not go together.
        """
        for name, allowed in (
            ("method", METHODS),
            ("reduce", tuple(REDUCTIONS)),
            ("outliers", OUTLIER_POLICIES),
            ("language", LANGUAGES),
        ):
            if getattr(self, name) not in allowed:
                raise UsageError(f"must be one of {', '.join(allowed)}, not {getattr(self, name)}", field=name)
        if self.k is not None and self.method == "hdbscan":
            raise UsageError("has no effect: hdbscan finds the number itself; try `method=kmeans`", field="k")
        if self.min_cluster_size is not None and self.method != "hdbscan":
            raise UsageError(f"has no effect with `method={self.method}`, which takes `k`", field="min_cluster_size")
        if self.outlier_threshold is not None and self.outliers != "threshold":
            raise UsageError(
                f"has no effect with `outliers={self.outliers}`; leave one of them out", field="outlier_threshold"
            )
        for name, low, high in _RANGES:
            value = getattr(self, name)
            if value is not None and not low <= value <= high:  # asked this way round, since NaN is in no range
                limits = f"at least {low}" if high == math.inf else f"between {low} and {high}"
                raise UsageError(f"must be {limits}, not {value}", field=name)
        if not self.merge > 0:
            raise UsageError(f"must be above 0, not {self.merge}; from 1.01 on no topics are joined", field="merge")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Clustering:
    """What was found.

    Attributes:
        source: the documents and vectors.
        settings: as asked for.
        labels: ``(n,)``, -1 or positions in ``base_topics``, which after a fit are the ids of the topics.
        probabilities: ``(n,)``.
        membership: ``(n, C)``.
        topics: the C topics, then their parents.
        positions: ``(n, 2)``, on the map.
        left_out: how many documents HDBSCAN itself left out, before the outlier policy; 0 for other methods.
        scores: by name; those that are not defined are left out.
        warnings: what a reader of the result should know, a line each.
        assigner: for new documents.
        text_keys: ``(n,)``, :func:`~.algorithms.assign.hash_texts` of the documents.
        next_id: the first number that no topic ever had.
        updates: what :func:`~llm2comp_apps.clustering.update.update` did, one record each time.
    """

    source: Source
    settings: ClusterSettings
    labels: IntArray
    probabilities: FloatArray
    membership: FloatArray
    topics: list[Topic]
    positions: FloatArray
    left_out: int
    scores: dict[str, float]
    warnings: list[str]
    assigner: Assigner
    text_keys: KeyArray
    next_id: int
    updates: tuple[dict[str, Any], ...] = ()

    @property
    def base_topics(self) -> list[Topic]:
        """The topics that documents belong to, in the order of their labels."""
        return [topic for topic in self.topics if topic.level == 1]


def cluster(
    source: Source,
    settings: ClusterSettings,
    *,
    namer: Namer | None = None,
    note: Note | None = None,
) -> Clustering:
    """Cluster documents, describe the topics and score the result.

    Args:
        source: at least one document.
        settings: how.
        namer: renames the topics; they are called after their keywords otherwise.
        note: told what is being done.

    Raises:
        ClusteringError: nothing to cluster, more topics asked for than documents, vectors that are not numbers, no
            such label field.
        UsageError: an id comes twice with different texts.
    """
    say = note or be_quiet
    texts = [document.content for document in source.documents]
    n = len(texts)
    check_documents(source.documents, settings)
    check_vectors(source)
    truth = true_labels(source.documents, settings.label_field)
    say(f"clustering {n} documents by {settings.method}")
    model = _estimator(settings).fit(source.vectors)
    say("describing the topics")
    counts = count_terms(texts, settings.language)
    if settings.k is None:
        model.merge_topics(find_duplicates(counts, model.labels_, settings.merge).tolist())
    topics = build_topics(texts, source.vectors, model.labels_, counts, settings.levels)
    if namer is not None and topics:
        say("naming the topics")
        topics = namer(topics, texts)
    lines = warnings_of(source, settings, model.labels_, truth)
    return Clustering(
        source=source,
        settings=settings,
        labels=model.labels_,
        probabilities=model.probabilities_,
        membership=model.membership_,
        topics=topics,
        positions=map_positions(source.vectors, model.neighborhood_, model.embedding_, settings.reduce, settings.seed),
        left_out=int((~model.inside_).sum()),
        scores=score_labels(source.vectors, model.labels_, truth, model.embedding_),
        warnings=[*lines, *uneven_lines(settings, topics, n), *_no_structure(source.vectors, model)],
        assigner=model.assigner_,
        text_keys=hash_texts(texts),
        next_id=len(topics),
    )


def check_documents(documents: Sequence[Document], settings: ClusterSettings) -> None:
    """Refuse what cannot be clustered as asked; to be called as soon as the documents are read, before any is encoded.

    Raises:
        ClusteringError: no documents, more topics asked for than documents, no such field of labels or dates.
        UsageError: an id comes twice with different texts: nobody could tell later which of them is meant.
    """
    n = len(documents)
    if not n:
        raise ClusteringError("there are no documents to cluster")
    met: dict[str, Document] = {}
    for document in documents:
        first = met.setdefault(document.id, document)
        if first is not document and first.content != document.content:
            raise UsageError(f"has the id {document.id!r} twice, with different texts", field="source")
    if settings.k is not None and settings.k > n:
        raise ClusteringError(f"`k={settings.k}`: there are only {n} documents")
    field = settings.label_field
    if field is not None and all(label is None for label in true_labels(documents, field)):
        raise ClusteringError(f"`label_field={field}`: no document has this field{_fields_of(documents)}")
    field = settings.time_field
    if field is not None and all(day_of(document.metadata.get(field)) is None for document in documents):
        raise ClusteringError(f"`time_field={field}`: no document has a date in this field{_fields_of(documents)}")


def be_quiet(line: str) -> None:
    """Tell nobody."""


def _estimator(settings: ClusterSettings) -> TopicClusterer:
    from llm2comp_apps.clustering.estimator import TopicClusterer  # scikit-learn: a second

    return TopicClusterer(
        settings.method,
        n_clusters=settings.k,
        min_cluster_size=settings.min_cluster_size,
        reduce=settings.reduce,
        outliers=settings.outliers,
        outlier_threshold=settings.outlier_threshold,
        random_state=settings.seed,
    )


def true_labels(documents: Sequence[Document], field: str | None) -> list[str | None]:
    """The true label of each document; None where it has none."""
    if field is None:
        return []
    labels = [document.metadata.get(field) for document in documents]
    return [None if label is None else str(label) for label in labels]


def _fields_of(documents: Sequence[Document]) -> str:
    known = sorted({name for document in documents[:100] for name in document.metadata})
    return f"; they have {', '.join(known)}" if known else ""


def score_labels(
    vectors: FloatArray, labels: IntArray, truth: Sequence[str | None], points: FloatArray | None = None
) -> dict[str, float]:
    """Score a clustering; scores that are not defined are left out.

    Args:
        vectors: ``(n, d)``.
        labels: ``(n,)``.
        truth: of :func:`true_labels`.
        points: ``(n, c)``, the space that was clustered; ``None`` for no DBCV.
    """
    scores: dict[str, float | None] = {
        "outlier_share": float((labels < 0).mean()),
        "silhouette": quality.silhouette(vectors, labels),
        "dbcv": None if points is None else quality.density_validity(points, labels),
    }
    known = [position for position, label in enumerate(truth) if label is not None]
    if known:
        scores |= quality.agreement([str(truth[position]) for position in known], labels[known])
    return {name: score for name, score in scores.items() if score is not None}


def warnings_of(source: Source, settings: ClusterSettings, labels: IntArray, truth: Sequence[str | None]) -> list[str]:
    """What a reader of the result should know, a line each."""
    n, topics = len(labels), int(labels.max(initial=-1)) + 1
    size = settings.min_cluster_size or default_cluster_size(n)
    outliers = int((labels < 0).sum())
    lines = []
    if n > 1 and not np.ptp(source.vectors, axis=0).any():
        lines.append(f"all {n} documents have the same vector")
    if topics == 0 and n < size:
        lines.append(f"{n} documents are fewer than a topic needs ({size}): all are outliers; see `min_cluster_size`")
    elif topics == 0:
        lines.append("no region is dense enough for a topic: all documents are outliers; try `method=kmeans`")
    elif topics == 1 and n > 1:
        lines.append("the documents fall into one topic only")
    elif outliers > _MANY_OUTLIERS * n:
        lines.append(f"{outliers / n:.0%} of the documents are outliers; `outliers=nearest` gives each a topic")
    if settings.k is not None and topics < settings.k:
        distinct = len(np.unique(source.vectors, axis=0))
        why = f"; only {distinct} of the {n} vectors are different" if distinct < settings.k else ""
        lines.append(f"`k={settings.k}`: {topics} topics were made, since more would have had no documents{why}")
    if mostly_unspaced([document.content for document in source.documents]):
        lines.append("the texts have no spaces between words: topics are named by pairs of characters")
    unlabelled = sum(label is None for label in truth)
    if unlabelled:
        lines.append(f"{unlabelled} documents have no {settings.label_field}; the comparison leaves them out")
    return lines


def uneven_lines(settings: ClusterSettings, topics: Sequence[Topic], n: int, *, updated: bool = False) -> list[str]:
    """Warn of a topic that holds most of what there is, with what would split it, and of levels that are not there.

    Args:
        settings: of the fit.
        topics: of all levels.
        n: documents.
        updated: whether documents came since the fit, whose settings an update keeps.
    """
    lines = []
    sizes = sorted((topic.size for topic in topics if topic.level == 1), reverse=True)
    if is_lopsided(sizes, n):
        big = next(topic for topic in topics if topic.level == 1 and topic.size == sizes[0])
        smaller = (settings.min_cluster_size or default_cluster_size(n)) // 2
        advice = "`method=kmeans` cuts more evenly"
        if settings.method != "hdbscan":
            advice = f"`k={2 * len(sizes)}` makes more topics"
        elif smaller >= _LEAST_SIZE:
            advice = f"`min_cluster_size={smaller}` looks for smaller topics, `method=kmeans` cuts more evenly"
        advice = f"in a new clustering, {advice}" if updated else advice
        lines.append(f"topic {big.id} ({big.name}) holds {sizes[0] / n:.0%} of the documents; {advice}")
    there = max((topic.level for topic in topics), default=0)
    if topics and settings.levels > max(there, 2):
        lines.append(
            f"`levels={settings.levels}`: {len(sizes)} topics give {there} level{'s' * (there > 1)} and not more"
        )
    return lines


def _no_structure(vectors: FloatArray, model: TopicClusterer) -> list[str]:
    """Warn of topics as noise has them, judged by the documents that the method itself put there."""
    core = np.where(model.inside_, model.labels_, -1).astype(np.int32)
    silhouette = quality.silhouette(vectors, core)
    if silhouette is None or silhouette >= _DOUBTFUL_SILHOUETTE:
        return []
    density = quality.density_validity(model.embedding_, core)
    if silhouette >= _NOISE_SILHOUETTE and density is not None and density >= _DOUBTFUL_DBCV:
        return []
    named = f"silhouette {silhouette:.3f}" + (f", DBCV {density:.2f}" if density is not None else "")
    return [f"{CHANCE}: they are hardly apart ({named}), as in vectors without any structure"]
