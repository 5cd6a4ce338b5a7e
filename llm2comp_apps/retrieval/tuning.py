"""Learning the weights of :mod:`.learned` for one index, from queries whose answers are known.

The queries are dealt into two halves by a digest of their ids. All weights are tried on the one half, the best of them
are compared with the default on the other, and only weights that win there are kept: by more than the standard error of
the difference, since a difference within it may be chance. The default is ``weighted``, and with a reranker the order
that the reranker gives to the best hits, or the first search, whichever is better.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from llm2comp_indexes import Writer

from llm2comp_apps.errors import UsageError
from llm2comp_apps.retrieval.batched import batched
from llm2comp_apps.retrieval.fusion import share_of_meaning, weighted_average
from llm2comp_apps.retrieval.hits import Parts, Ranked
from llm2comp_apps.retrieval.learned import LEARNED, LearnedFusion
from llm2comp_apps.retrieval.rerank import files_of, share_of
from llm2comp_apps.retrieval.search import Searcher

if TYPE_CHECKING:
    from llm2comp_indexes import Index

    from llm2comp_apps.corpus import Document
    from llm2comp_apps.retrieval.collection import Collection

__all__ = [
    "Judge",
    "Run",
    "TuningReport",
    "answer_warnings",
    "check_writer",
    "half_of",
    "judged_queries",
    "tune_fusion",
]

Run: TypeAlias = dict[str, dict[str, float]]
Judge: TypeAlias = Callable[[Run], Mapping[str, float]]
"""Scores a run: from scores by query and document to the measure of each judged query, from 0 to 1."""

_LEAST = 20  # queries with a known answer, below which halves say nothing
_STRETCHES = (0.0, 0.5, 1.0, 1.5)
_SHIFTS = (-2.0, -1.5, -1.0, -0.5, 0.0, 0.5, 1.0, 1.5, 2.0)
_OF_RERANKER = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
_RERANKED = 30  # hits of each query that a reranker reads
_DEPTH = 100  # hits of each query that are judged
_BLOCK = 64  # queries searched at once
_LOOKUP = 5_000  # ids looked up at once


@dataclass(frozen=True, slots=True, kw_only=True)
class TuningReport:
    """What was found.

    Attributes:
        kept: whether the weights are stored in the index now.
        weights: the best on the first half.
        queries: with a known answer, in both halves.
        held_out: those of the second half.
        default: mean measure of the default on the second half, from 0 to 1.
        learned: that of the weights.
        error: standard error of the difference.
    """

    kept: bool
    weights: LearnedFusion
    queries: int
    held_out: int
    default: float
    learned: float
    error: float

    def record(self) -> dict[str, Any]:
        """All of it as plain data."""
        return asdict(self)

    def lines(self) -> list[str]:
        """What was found, for people."""
        gain = 100 * (self.learned - self.default)
        weights = self.weights
        lines = [
            f"weight of meaning: stretched {weights.stretch:g} times, shifted by {weights.shift:g}",
            *(
                []
                if weights.reranker is None
                else [f"weight of the reranker {weights.reranker}: {weights.of_reranker:g}"]
            ),
            f"{self.held_out} held-out queries of {self.queries}: {100 * self.learned:.1f} with learned weights, "
            f"{100 * self.default:.1f} with the default ({gain:+.1f}, standard error {100 * self.error:.1f})",
        ]
        if self.kept:
            return [*lines, "kept: a search takes them with `fusion=learned`"]
        return [*lines, "not kept: no gain beyond chance on queries that they were not learned from"]


@dataclass(frozen=True, slots=True)
class _Asked:
    """A query with what both searches and the reranker say."""

    id: str
    dense: Sequence[tuple[str, float]]
    lexical: Sequence[tuple[str, float]]
    words: Any
    own: float
    reranked: Mapping[str, float]


def tune_fusion(
    library: Collection,
    queries: Iterable[Document],
    judge: Judge,
    judged: Iterable[str],
    *,
    rerank: str | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> TuningReport:
    """Learn weights, and keep them in the index if they win.

    Args:
        library: an index; nobody else may be writing to it.
        queries: for training, by id; never those of a test.
        judge: the measure, such as nDCG@10.
        judged: ids of queries with a known answer.
        rerank: name of a reranker whose weight is learned, too.
        on_progress: called with the number of queries searched.

    Raises:
        UsageError: fewer than 20 of the queries have a known answer.
        EncoderError: the encoder or the reranker cannot be loaded.
        IndexStoreError: the index cannot be written to.
    """
    chosen = judged_queries(queries, judged)
    check_writer(library.index)
    searcher = library.searcher("hybrid", rerank)
    asked: list[_Asked] = []
    for block in batched(chosen, _BLOCK):
        asked += _searched(searcher, block, rerank)
        if on_progress is not None:
            on_progress(len(asked))
    first = [one for one in asked if half_of(one.id) == 0]
    second = [one for one in asked if half_of(one.id) == 1]
    best = _best(first, judge, rerank)
    if searcher.reranker is not None:
        best = replace(best, reranker_files=files_of(searcher.reranker))
    default = _default(first, judge, rerank, 1.0 if searcher.reranker is None else share_of(searcher.reranker))
    differences, learned, before = _compared(second, judge, best, default)
    error = float(differences.std(ddof=1) / np.sqrt(len(differences))) if len(differences) > 1 else 0.0
    kept = bool(differences.mean() > error)
    if kept:
        with library.index.writer() as writer:
            writer.keep(**{LEARNED: best.record()})
    return TuningReport(
        kept=kept,
        weights=best,
        queries=len(asked),
        held_out=len(second),
        default=before,
        learned=learned,
        error=error,
    )


def _searched(searcher: Searcher, block: Sequence[Document], rerank: str | None) -> list[_Asked]:
    found = []
    sides = searcher.sides([query.content for query in block])
    for query, (dense, lexical, words, spans) in zip(block, sides, strict=True):
        reranked: dict[str, float] = {}
        if rerank is not None:
            cosines, bm25 = dict(dense), dict(lexical)
            ranking = [
                Ranked(id_, score, spans.get(id_), Parts(cosines.get(id_), bm25.get(id_), words.most))
                for id_, score in weighted_average(dense, lexical, words)[:_RERANKED]
            ]
            reranked = searcher.rescored(query.content, ranking)
        own = share_of_meaning(dense, lexical, words)
        found.append(_Asked(query.id, dense, lexical, words, own, reranked))
    return found


def judged_queries(queries: Iterable[Document], judged: Iterable[str]) -> list[Document]:
    """The queries that can be learned from: those with a known answer.

    Raises:
        UsageError: they are fewer than 20.
    """
    known = set(judged)
    chosen = [query for query in queries if query.id in known]
    if len(chosen) < _LEAST:
        others = f" (they are known of others, such as {min(known)!r})" if known and not chosen else ""
        reason = f"has {len(chosen)} with a known answer{others}; at least {_LEAST} are needed"
        raise UsageError(reason, field="queries")
    return chosen


def check_writer(index: Index) -> None:
    """Complain now of an index that nothing can be kept in, and not after minutes of searching.

    Raises:
        IndexStoreError: another program writes to it, or nobody may.
    """
    Writer(index.path).close()


def answer_warnings(index: Index, queries: Iterable[Document], answers: Mapping[str, Iterable[str]]) -> list[str]:
    """A line if an index lacks some of the known answers, each of which counts as one that was not found.

    Raises:
        UsageError: it lacks all of them.
    """
    asked = {query.id for query in queries}
    wanted = sorted({id_ for query, ids in answers.items() if query in asked for id_ in ids})
    held = set().union(*map(index.hashes, batched(wanted, _LOOKUP)))
    missing = [id_ for id_ in wanted if id_ not in held]
    if not missing:
        return []
    if len(missing) == len(wanted):
        reason = f"names no document of {index.path}, but {missing[0]!r} and others: do the ids of documents match?"
        raise UsageError(reason, field="qrels")
    some = f"({len(missing)}, such as {missing[0]!r})"
    return [f"`qrels` names documents that {index.path} lacks {some}; they count as not found"]


def half_of(id_: str) -> int:
    """To which half a query belongs, 0 or 1, whatever the others are."""
    return hashlib.blake2b(id_.encode(), digest_size=1).digest()[0] % 2


def _best(asked: Sequence[_Asked], judge: Judge, rerank: str | None) -> LearnedFusion:
    """The weights of the highest mean; of equal ones those that are nearest to the default."""
    tried = [LearnedFusion(stretch=t, shift=b) for t, b in itertools.product(_STRETCHES, _SHIFTS)]
    tried.sort(key=lambda one: (abs(one.shift), abs(one.stretch - 1)))
    best = max(tried, key=lambda one: _mean(asked, judge, one))
    if rerank is None:
        return best
    weights = [
        LearnedFusion(stretch=best.stretch, shift=best.shift, reranker=rerank, of_reranker=w) for w in _OF_RERANKER
    ]
    return max(weights, key=lambda one: _mean(asked, judge, one))


def _default(asked: Sequence[_Asked], judge: Judge, rerank: str | None, share: float) -> LearnedFusion:
    """What a search does without learned weights: by the first search, or by the reranker and its share."""
    weights = (0.0, share)
    plain = [LearnedFusion()] if rerank is None else [LearnedFusion(reranker=rerank, of_reranker=w) for w in weights]
    return max(plain, key=lambda one: _mean(asked, judge, one))


def _mean(asked: Sequence[_Asked], judge: Judge, weights: LearnedFusion) -> float:
    scores = judge(_run(asked, weights))
    return float(np.mean([scores[one.id] for one in asked])) if asked else 0.0


def _compared(
    asked: Sequence[_Asked], judge: Judge, best: LearnedFusion, default: LearnedFusion
) -> tuple[np.ndarray[Any, np.dtype[np.float64]], float, float]:
    new, old = (judge(_run(asked, weights)) for weights in (best, default))
    pairs = np.array([[new[one.id], old[one.id]] for one in asked] or [[0.0, 0.0]], dtype=np.float64)
    return pairs[:, 0] - pairs[:, 1], float(pairs[:, 0].mean()), float(pairs[:, 1].mean())


def _run(asked: Sequence[_Asked], weights: LearnedFusion) -> Run:
    """Scores that order the hits of each query as a search with these weights does."""
    run: Run = {}
    for one in asked:
        ranking = weighted_average(one.dense, one.lexical, one.words, weights.share(one.own))[:_DEPTH]
        head = [(id_, score) for id_, score in ranking if id_ in one.reranked]
        if weights.reranker is not None and head:
            joined = weights.joined([score for _, score in head], [one.reranked[id_] for id_, _ in head])
            order = sorted(zip((id_ for id_, _ in head), joined, strict=True), key=lambda pair: -pair[1])
            read = {id_ for id_, _ in head}
            ranking = [*order, *(pair for pair in ranking if pair[0] not in read)]
        run[one.id] = {id_: float(len(ranking) - place) for place, (id_, _) in enumerate(ranking)}
    return run
