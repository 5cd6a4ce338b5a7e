"""Learning to rank for one index: the network of ``rerank=ltr`` learns on from queries whose answers are known.

The queries are dealt into two halves. What is learned on either is tried on the other, so that each query is scored by
a network that has not seen it. If that brings more than the standard error of the difference, a network that learned
from all queries is kept in the index, and searches with ``rerank=ltr`` take it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from llm2comp_indexes import DEFAULT_LANGUAGE

from llm2comp_apps.encoder.protocol import FloatArray
from llm2comp_apps.retrieval.batched import batched
from llm2comp_apps.retrieval.options import SearchOptions
from llm2comp_apps.retrieval.rerank import LTR, FirstSearch, Passage
from llm2comp_apps.retrieval.rerank.ltr import LtrReranker, Network
from llm2comp_apps.retrieval.rerank.ltr_features import FEATURES, features
from llm2comp_apps.retrieval.rerank.ltr_learning import KnownHits, learned_on
from llm2comp_apps.retrieval.tuning import Judge, check_writer, half_of, judged_queries

if TYPE_CHECKING:
    from llm2comp_apps.corpus import Document
    from llm2comp_apps.retrieval import collection

__all__ = ["NotesFeatures", "RankingReport", "tune_ranking"]

_DEPTH = 100  # hits of each query: as many as are reranked
_BLOCK = 16  # queries searched at once
_SHARES = (LtrReranker.share, 1.0)
_FIRST = FEATURES.index("first search")


@dataclass(frozen=True, slots=True, kw_only=True)
class RankingReport:
    """What was found.

    Attributes:
        kept: whether the network is stored in the index now.
        queries: with a known answer.
        share: weight of its scores beside those of the first search.
        first: mean measure of the first search, from 0 to 1.
        default: that of the network that ships.
        learned: that of networks which learned from the other half of the queries.
        error: standard error of the difference of the last two.
    """

    kept: bool
    queries: int
    share: float
    first: float
    default: float
    learned: float
    error: float

    def record(self) -> dict[str, Any]:
        """All of it as plain data."""
        return asdict(self)

    def lines(self) -> list[str]:
        """What was found, for people."""
        gain = 100 * (self.learned - self.default)
        lines = [
            f"{self.queries} queries, each ranked by what the other half taught: {100 * self.learned:.1f}, "
            f"by the network that ships {100 * self.default:.1f} ({gain:+.1f}, standard error "
            f"{100 * self.error:.1f}), without one {100 * self.first:.1f}",
        ]
        if self.kept:
            return [*lines, "kept, learned from all of them: a search takes it with `rerank=ltr`"]
        return [*lines, "not kept: no gain beyond chance on queries that it was not learned from"]


@dataclass(frozen=True, slots=True)
class _Searched:
    id: str
    ids: list[str]
    hits: KnownHits

    def ranked(self, network: Network | None, share: float) -> dict[str, float]:
        """Scores by which a search orders the hits."""
        if not self.ids:
            return {}
        first = self.hits.rows[:, _FIRST]
        scores = first if network is None else network.beside(first, self.hits.rows, share)
        order = np.argsort(-scores, kind="stable")
        return {self.ids[row]: float(len(order) - place) for place, row in enumerate(order)}


def tune_ranking(
    library: collection.Collection,
    queries: Iterable[Document],
    judge: Judge,
    answers: Mapping[str, Collection[str]],
    *,
    on_progress: Callable[[int], None] | None = None,
) -> RankingReport:
    """Learn a network, and keep it in the index if it wins.

    Args:
        library: an index; nobody else may be writing to it.
        queries: for training, by id; never those of a test.
        judge: the measure, such as nDCG@10.
        answers: of each query with any, the documents.
        on_progress: called with the number of queries searched.

    Raises:
        UsageError: fewer than 20 of the queries have a known answer.
        EncoderError: the encoder cannot be loaded.
        IndexStoreError: the index cannot be written to.
    """
    searched: list[_Searched] = []
    chosen = judged_queries(queries, answers)
    check_writer(library.index)
    for block in batched(chosen, _BLOCK):
        searched += _searched(library, block, answers)
        if on_progress is not None:
            on_progress(len(searched))
    shipped = Network.read()
    halves = [[one for one in searched if half_of(one.id) == half] for half in (0, 1)]
    taught = [learned_on(shipped, [one.hits for one in half]) for half in halves]
    before = _judged(searched, judge, lambda _: shipped, LtrReranker.share)
    tried = {share: _judged(searched, judge, lambda one: taught[1 - half_of(one.id)], share) for share in _SHARES}
    share = max(tried, key=lambda each: float(tried[each].mean()))
    differences = tried[share] - before
    error = float(differences.std(ddof=1) / np.sqrt(len(differences)))
    kept = bool(differences.mean() > error)
    if kept:
        network = learned_on(shipped, [one.hits for one in searched])
        with library.index.writer() as writer:
            writer.keep(**{LTR: {"share": share, **network.record()}})
    return RankingReport(
        kept=kept,
        queries=len(searched),
        share=share,
        first=float(_judged(searched, judge, lambda _: None, 1.0).mean()),
        default=float(before.mean()),
        learned=float(tried[share].mean()),
        error=error,
    )


class NotesFeatures:
    """Stands in a search for the reranker, and notes the features that it would see.

    Args:
        language: of the words.

    Attributes:
        seen: ids and features of the hits of each query that found any.
    """

    reads_first = True
    compares_all = True

    def __init__(self, language: str = DEFAULT_LANGUAGE) -> None:
        self._language = language
        self.seen: list[tuple[list[str], FloatArray]] = []

    def score(self, query: str, passages: Sequence[Passage], first: FirstSearch | None = None) -> FloatArray:
        """Note them; all scores are equal."""
        assert first is not None
        self.seen.append(([each.id for each in passages], features(query, passages, first, self._language)))
        return np.zeros(len(passages), np.float32)


def _searched(
    library: collection.Collection, block: Sequence[Document], answers: Mapping[str, Collection[str]]
) -> list[_Searched]:
    noted = NotesFeatures(library.index.settings.get("language", DEFAULT_LANGUAGE))
    searcher, found = library.searcher("hybrid", noted), []
    for query in block:
        noted.seen.clear()
        searcher.rank([query.content], SearchOptions(k=_DEPTH))
        # Nobody asks the reranker where nothing was found; such a query counts, and teaches nothing.
        ids, rows = noted.seen[0] if noted.seen else ([], np.empty((0, len(FEATURES)), np.float32))
        known = np.array([id_ in answers[query.id] for id_ in ids], dtype=np.bool_)
        found.append(_Searched(query.id, ids, KnownHits(rows, known)))
    return found


def _judged(
    searched: Sequence[_Searched], judge: Judge, network_of: Callable[[_Searched], Network | None], share: float
) -> np.ndarray[Any, np.dtype[np.float64]]:
    """The measure of each query."""
    scores = judge({one.id: one.ranked(network_of(one), share) for one in searched})
    return np.array([scores[one.id] for one in searched], dtype=np.float64)
