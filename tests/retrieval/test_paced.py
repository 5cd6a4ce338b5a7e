"""Reranking within a time: what fits is read, what does not follows in its order, and both are said."""

from __future__ import annotations

import numpy as np
import pytest

from llm2comp_apps import Collection, Document
from llm2comp_apps.errors import UsageError
from llm2comp_apps.retrieval.options import SearchOptions
from llm2comp_apps.retrieval.rerank import Passage, paced
from llm2comp_apps.retrieval.rerank.paced import score_in_time


class Clock:
    """Time that passes while passages are read, and not otherwise."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        self.read: list[int] = []
        monkeypatch.setattr(paced.time, "perf_counter", lambda: self.now)

    def reader(self, seconds: float):
        def score(passages):
            self.now += seconds * len(passages)
            self.read.append(len(passages))
            return np.array([float(passage.id) for passage in passages], np.float32)

        return score


@pytest.fixture
def clock(monkeypatch):
    return Clock(monkeypatch)


def passages(count, pieces=1):
    return [
        [Passage(str(number), "", "text", (piece, piece + 1)) for piece in range(pieces)] for number in range(count)
    ]


def test_as_many_are_read_as_fit(clock):
    scores = score_in_time(clock.reader(0.01), passages(100), 500)
    assert 40 <= len(scores) <= 50
    assert clock.now <= 0.5
    assert [each.tolist() for each in scores] == [[float(number)] for number in range(len(scores))]
    assert clock.read[0] == 2
    assert all(later <= paced._GROWTH * sum(clock.read[: place + 1]) for place, later in enumerate(clock.read[1:]))


def test_without_a_limit_all_are_read_at_once(clock):
    for limit in (None, 0):
        clock.read.clear()
        assert len(score_in_time(clock.reader(9), passages(30), limit)) == 30
        assert clock.read == [30]


def test_two_are_read_in_any_case(clock):
    assert len(score_in_time(clock.reader(10), passages(30), 500)) == 2
    assert len(score_in_time(clock.reader(10), passages(1), 500)) == 1
    assert score_in_time(clock.reader(10), [], 500) == []


def test_a_slow_portion_is_the_last(clock):
    costs = iter([0.01, 0.2, 0.2])

    def score(found):
        clock.now += next(costs) * len(found)
        return np.zeros(len(found), np.float32)

    assert len(score_in_time(score, passages(30), 500)) == 8


def test_each_candidate_has_the_scores_of_its_pieces(clock):
    scores = score_in_time(clock.reader(0.001), passages(7, pieces=3), 500)
    assert [each.tolist() for each in scores] == [[float(number)] * 3 for number in range(7)]


@pytest.fixture
def library(tmp_path, hash_encoder):
    documents = [Document(f"d{n:02}", f"gas star number{n} " + "gas " * (30 - n)) for n in range(30)]
    with Collection.create(tmp_path / "a.index", encoder=hash_encoder) as made:
        made.update(documents)
        yield made


class Backwards:
    """Likes the last of what it reads, and takes 90 ms for each."""

    def __init__(self, clock):
        self.clock, self.known = clock, {}

    def score(self, query, found):
        self.clock.now += 0.09 * len(found)
        first = len(self.known)
        self.known.update({passage.id: None for passage in found})
        return np.arange(first, first + len(found), dtype=np.float32)


def test_what_was_not_read_follows_in_its_order(library, clock):
    plain = [hit.id for hit in library.search("gas star", k=10)]
    hits = library.search("gas star", k=10, rerank=Backwards(clock), rerank_ms=500)
    assert [hit.id for hit in hits] == [*plain[:5][::-1], *plain[5:]]
    assert [hit.reread.scored for hit in hits] == [True] * 5 + [False] * 5
    assert {(hit.reread.depth, hit.reread.candidates) for hit in hits} == {(5, 30)}
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    assert hits[9].shown_score == "not scored again"
    assert hits[0].to_dict()["reranked"] == {"scored": True, "depth": 5, "candidates": 30}
    assert hits[0].reread.line() == "5 of 30 candidates were scored again (`rerank_ms` allows more)"


def test_who_waits_gets_half_a_second_and_runs_get_all(library, clock):
    def depth(**settings):
        return library.search("gas star", rerank=Backwards(clock), **settings)[0].reread.depth

    assert depth() == 5
    assert depth(rerank_depth=20) == 20, "a depth that is asked for is read"
    assert depth(rerank_depth=20, rerank_ms=300) == 3
    assert depth(rerank_ms=0) == 30
    searcher = library.searcher("hybrid", Backwards(clock))
    assert searcher.page("gas star", k=5).hits[0].reread.depth == 5
    assert searcher.rank(["gas star"])[0][0].reread.depth == 30
    assert library.search("gas star")[0].reread is None


def test_stored_memory_vectors_have_no_limit(tmp_path, hash_encoder):
    with Collection.create(tmp_path / "m.index", encoder=hash_encoder, memory=True) as made:
        made.update([Document(f"d{n}", f"gas number{n}") for n in range(30)])
        searcher = made.searcher("hybrid", "memory")
        assert searcher._waited_for(SearchOptions()).rerank_ms is None
        assert searcher.search("gas")[0].reread.depth == 30
    with Collection.create(tmp_path / "n.index", encoder=hash_encoder) as made:
        assert made.searcher("hybrid", "memory")._waited_for(SearchOptions()).rerank_ms == paced.RERANK_MS


@pytest.mark.parametrize("limit", [-1, float("nan")])
def test_a_time_below_nothing_is_refused(limit):
    with pytest.raises(UsageError, match="rerank_ms must be at least 0"):
        SearchOptions(rerank_ms=limit)


def test_without_a_limit_few_lie_in_memory_together(clock):
    assert len(score_in_time(clock.reader(1), passages(300), None)) == 300
    assert clock.read == [128, 128, 44]
