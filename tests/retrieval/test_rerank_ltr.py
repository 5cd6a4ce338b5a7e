"""Learning to rank: what is known of a hit, the network that joins it, and the searches that it may follow."""

from __future__ import annotations

import json
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from llm2comp_indexes import query_terms, terms

from llm2comp_apps import Collection, Document, load_reranker
from llm2comp_apps.errors import UsageError
from llm2comp_apps.retrieval.ltr_tuning import tune_ranking
from llm2comp_apps.retrieval.rerank import FirstSearch, LtrReranker, Passage
from llm2comp_apps.retrieval.rerank.hit_words import HitWords
from llm2comp_apps.retrieval.rerank.ltr import SHIPPED, Network
from llm2comp_apps.retrieval.rerank.ltr_features import FEATURES, features
from llm2comp_apps.retrieval.rerank.ltr_learning import KnownHits, _slopes, learned_on
from llm2comp_apps.retrieval.tuning import tune_fusion

WORDS = ["cells", "divide", "mitosis", "the", "bread", "rises", "yeast"]
TEXTS = st.lists(st.lists(st.sampled_from(WORDS), max_size=60).map(" ".join), min_size=1, max_size=12)
QUERIES = st.sampled_from(["cells divide", "the", "", "yeast bread bread", "how do the cells divide by mitosis"])
IN_RANGE = [name for name in FEATURES if name not in ("cosine", "near the first", "pairs")]


def passages(*texts, titles=()):
    pairs = zip(texts, titles or [""] * len(texts), strict=True)
    return [Passage(str(number), title, text) for number, (text, title) in enumerate(pairs)]


def first_search(count, seed=0):
    draw = np.random.default_rng(seed)
    vectors = draw.normal(size=(count, 4)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    scores = np.sort(draw.random(count))[::-1].astype(np.float32)
    return FirstSearch(
        scores, vectors @ np.float32([0.5, 0.5, 0.5, 0.5]), draw.random(count).astype(np.float32), vectors
    )


def column(rows, name):
    return rows[:, FEATURES.index(name)]


def found(query, *texts, first=None, titles=()):
    return features(query, passages(*texts, titles=titles), first or first_search(len(texts)), "english")


@given(texts=TEXTS, query=QUERIES, seed=st.integers(0, 9))
def test_whatever_is_found_has_features(texts, query, seed):
    rows = found(query, *texts, first=first_search(len(texts), seed))
    assert rows.shape == (len(texts), len(FEATURES))
    assert np.isfinite(rows).all()
    for name in IN_RANGE:
        assert column(rows, name).min() >= 0, name
        assert column(rows, name).max() <= 1 + 1e-6, name


@given(texts=TEXTS, query=QUERIES)
def test_the_units_of_the_first_search_do_not_matter(texts, query):
    first = first_search(len(texts))
    scaled = FirstSearch(3 * first.scores - 7, first.cosines, 100 * first.bm25, first.vectors)
    np.testing.assert_allclose(found(query, *texts, first=first), found(query, *texts, first=scaled), atol=1e-4)


@given(texts=TEXTS, query=QUERIES)
def test_windows_and_pairs_are_what_looking_at_every_place_finds(texts, query):
    rows, words, asked = found(query, *texts), HitWords(texts, "english"), query_terms(query, "english")
    weights = {term: weight * words.rarity(term) for term, weight in asked.items()}
    whole = sum(weights.values()) or 1
    wanted = {pair for pair in pairwise(terms(query, "english")) if set(pair) <= set(asked)}
    windows = [
        max(sum(weights[term] for term in asked.keys() & set(said[at : at + 40])) for at in range(len(said) + 1))
        for said in words.said
    ]
    pairs = [sum(min(map(words.rarity, pair)) for pair in wanted & set(pairwise(said))) for said in words.said]
    low, high = min(windows), max(windows)
    if high - low > 1e-9 or high == low:
        expected = [(each - low) / (high - low) if high > low else 1 for each in windows]
        np.testing.assert_allclose(column(rows, "window"), expected, atol=1e-5)
    np.testing.assert_allclose(column(rows, "pairs"), np.array(pairs) / whole, atol=1e-5)


def test_a_hit_among_good_ones_has_good_neighbours():
    vectors = np.array([[1, 0], [0.99, 0.14], [0.98, 0.2], [0, 1], [0.1, 0.99], [0.97, 0.24]], np.float32)
    scores = np.array([1, 0.9, 0.8, 0.3, 0.2, 0.1], np.float32)
    rows = found("cells", *["cells"] * 6, first=FirstSearch(scores, vectors @ vectors[0], scores, vectors))
    for name in ("neighbours", "near the best"):
        assert column(rows, name)[5] > column(rows, name)[4] + 0.5, name


def test_what_hits_say_in_common_makes_them_neighbours():
    texts = [
        "glucose in mitochondria",
        "glucose in mitochondria burns",
        "rain and wind",
        "wind and rain",
        "mitochondria",
    ]
    rows = found("energy", *texts)
    for name in ("near the first by words", "neighbours by words", "near the best by words"):
        assert column(rows, name)[1] > column(rows, name)[2], name


def test_a_title_that_holds_the_query_covers_it():
    rows = found("cells divide", "a", "cells divide", titles=["Cells divide", ""])
    assert column(rows, "covered by the title").tolist() == [1, 0]
    assert column(rows, "covered").tolist() == [1, 1]


def test_the_network_is_the_formula_that_its_module_states():
    draw = np.random.default_rng(0)
    network = Network(
        linear=draw.normal(size=3), inner=draw.normal(size=(5, 3)), bias=draw.normal(size=5), outer=draw.normal(size=5)
    )
    rows = draw.normal(size=(7, 3))
    for row, score in zip(rows, network.scores(rows), strict=True):
        hidden = [max(0.0, float(network.inner[i] @ row + network.bias[i])) for i in range(5)]
        assert score == pytest.approx(float(network.linear @ row) + float(network.outer @ hidden))


def test_a_network_for_other_features_is_not_taken(tmp_path):
    held = json.loads(SHIPPED.read_text())
    (tmp_path / "other.json").write_text(json.dumps({**held, "features": held["features"][::-1]}))
    with pytest.raises(ValueError, match=r"made for other features"):
        Network.read(tmp_path / "other.json")


def test_what_ships_prefers_what_was_found_first_and_holds_the_query():
    texts = ["how cells divide by mitosis", "cells divide", "cells", "bread rises", "the"]
    titles = ["Mitosis", "", "", "", ""]
    scores = np.linspace(1, 0, 5, dtype=np.float32)
    vectors = np.eye(5, dtype=np.float32)
    given_ = passages(*texts, titles=titles)
    ranked = LtrReranker().score("cells divide by mitosis", given_, FirstSearch(scores, scores, scores, vectors))
    assert ranked.argmax() == 0
    assert ranked.max() == 1
    assert ranked.min() == 0
    assert LtrReranker().score("cells", [], first_search(0)).shape == (0,)


@pytest.fixture
def library(tmp_path, hash_encoder):
    with Collection.create(tmp_path / "x.index", encoder=hash_encoder) as library:
        library.update(
            Document(f"{kind}-{number}", f"{kind} number {number} {extra}", title=kind)
            for kind in ("cells", "bread")
            for number, extra in enumerate(["divide", "rise", "divide and rise", "age", "", "grow"])
        )
        yield library


class Noting:
    """Notes what a search knows; keeps its order."""

    reads_first = True
    compares_all = True

    def score(self, query, passages, first=None):
        self.passages, self.first = passages, first
        return np.arange(len(passages), 0, -1, dtype=np.float32)


def test_a_search_tells_what_it_knows(library, hash_encoder):
    noted = Noting()
    hits = library.search("cells divide", k=12, rerank=noted)
    plain = library.search("cells divide", k=12)
    assert [hit.id for hit in hits] == [hit.id for hit in plain] == [each.id for each in noted.passages]
    np.testing.assert_allclose(noted.first.scores, [hit.score for hit in plain], rtol=1e-6)
    np.testing.assert_allclose(noted.first.bm25, [hit.parts.bm25 or 0 for hit in plain], rtol=1e-6)
    np.testing.assert_allclose(noted.first.cosines, [hit.parts.cosine for hit in plain], atol=1e-3)  # stored in half
    texts = [each.content for each in noted.passages]
    np.testing.assert_allclose(noted.first.vectors, hash_encoder.encode(texts), atol=1e-3)


@pytest.mark.parametrize("pieces", [False, True])
def test_of_chunks_the_one_that_is_read_is_what_is_known(tmp_path, hash_encoder, pieces):
    noted = Noting()
    with Collection.create(tmp_path / "x.index", encoder=hash_encoder, chunk=16, overlap=0) as library:
        filler = "nothing of note happens here at all today. " * 6
        library.update([Document("long", filler + "Cells divide by mitosis."), Document("other", filler)])
        library.search("mitosis", k=6, rerank=noted, passages=pieces)
    texts = [each.text for each in noted.passages]
    assert "mitosis" in texts[0]
    assert len(texts) > 4 if pieces else len(texts) == 2
    np.testing.assert_allclose(noted.first.vectors, hash_encoder.encode(texts), atol=1e-3)


def test_all_hits_are_put_in_order_however_short_the_time_is(library):
    hits = library.search("cells divide", k=12, rerank="ltr", rerank_ms=0.001)
    assert {hit.id for hit in hits} == {hit.id for hit in library.search("cells divide", k=12)}
    scores = [hit.score for hit in hits]
    assert scores == sorted(scores, reverse=True)
    assert 0 <= scores[-1] < scores[0] <= 1
    batch = library.search_batch(["bread", "cells divide"], k=12, rerank="ltr")[1]
    assert [hit.id for hit in batch] == [hit.id for hit in hits]
    page = library.searcher("hybrid", "ltr").page("cells divide", k=4, offset=4)
    assert [hit.id for hit in page.hits] == [hit.id for hit in hits[4:8]]


@pytest.mark.parametrize("rerank", ["ltr", "words"])
def test_pages_fit_together_behind_what_is_scored_again(library, rerank):
    searcher = library.searcher("hybrid", rerank)
    hits = [
        hit
        for offset in range(0, 12, 3)
        for hit in searcher.page("cells divide", k=3, offset=offset, rerank_depth=5).hits
    ]
    assert [hit.rank for hit in hits] == list(range(1, 13))
    assert len({hit.id for hit in hits}) == 12
    assert [hit.reread.scored for hit in hits] == [True] * 5 + [False] * 7
    scores = [hit.score for hit in hits]
    assert scores == sorted(scores, reverse=True)
    assert [hit.id for hit in hits[5:]] == [hit.id for hit in library.search("cells divide", k=12)[5:]]


def test_a_query_without_a_hit_finds_none(library):
    assert library.search("cells", where="year > 3", rerank="ltr") == []


@pytest.mark.parametrize("mode", ["dense", "lexical"])
def test_a_search_that_is_not_hybrid_is_refused(library, mode):
    with pytest.raises(
        UsageError, match=r"reads what a hybrid search knows of its hits; words needs their texts alone"
    ):
        library.search("cells", mode=mode, rerank="ltr")


def test_documents_of_no_index_are_refused(library):
    with pytest.raises(UsageError, match=r"reads what a hybrid search knows"):
        load_reranker("ltr")
    with pytest.raises(UsageError, match=r"reads what a hybrid search knows"):
        LtrReranker().score("cells", passages("cells"))


def test_an_index_may_learn_how_much_it_counts(library):
    queries = [Document(f"q{number}", f"cells number {number % 6}") for number in range(40)]
    wanted = {query.id: f"cells-{number % 6}" for number, query in enumerate(queries)}

    def judge(run):
        return {
            query: float(wanted[query] == max(scores, key=scores.get)) if scores else 0.0
            for query, scores in run.items()
        }

    report = tune_fusion(library, queries, judge, wanted, rerank="ltr")
    assert report.weights.reranker == "ltr"
    assert report.learned >= report.default - 1e-9


@pytest.mark.parametrize("seed", range(5))
def test_learning_follows_the_slope_of_the_loss_that_its_module_states(seed):
    draw = np.random.default_rng(seed)
    sizes = np.array([4, 1, 7])
    starts = np.array([0, 4, 5])
    rows = draw.normal(size=(12, 3))
    wanted = np.concatenate([[0.5, 0, 0.5, 0], [1], [0, 1, 0, 0, 0, 0, 0]])
    weights = [draw.normal(size=shape) for shape in ((3,), (5, 3), (5,), (5,))]

    def loss(weights):
        linear, inner, bias, outer = weights
        scores = rows @ linear + np.maximum(rows @ inner.T + bias, 0) @ outer
        told = np.concatenate([each - np.log(np.exp(each).sum()) for each in np.split(scores, starts[1:])])
        return -(wanted * told).sum() / 3

    for place, slope in enumerate(_slopes(weights, rows, wanted, starts, sizes)):
        for spot in np.ndindex(slope.shape):
            moved = [[np.array(each) for each in weights] for _ in range(2)]
            moved[0][place][spot] += 1e-6
            moved[1][place][spot] -= 1e-6
            assert slope[spot] == pytest.approx((loss(moved[0]) - loss(moved[1])) / 2e-6, abs=1e-6)


def by_column(name, count=60, seed=0):
    """Queries whose answer is the hit with the most of a feature."""
    draw = np.random.default_rng(seed)
    for _ in range(count):
        rows = draw.random((20, len(FEATURES))).astype(np.float32)
        yield KnownHits(rows, rows[:, FEATURES.index(name)] == rows[:, FEATURES.index(name)].max())


def test_what_is_learned_holds_for_others_and_is_the_same_again():
    network = learned_on(Network.read(), list(by_column("covered by the title")))
    others = list(by_column("covered by the title", seed=1))

    def right(network):
        return np.mean([each.answers[network.scores(each.rows).argmax()] for each in others])

    assert right(network) > right(Network.read()) + 0.3
    again = learned_on(Network.read(), list(by_column("covered by the title")))
    np.testing.assert_array_equal(network.inner, again.inner)
    assert Network.of(network.record()).scores(others[0].rows) == pytest.approx(
        network.scores(others[0].rows), abs=0.01
    )


def test_queries_without_an_answer_among_their_hits_teach_nothing():
    shipped = Network.read()
    empty = KnownHits(np.ones((3, len(FEATURES)), np.float32), np.zeros(3, bool))
    assert learned_on(shipped, [empty]) is shipped
    some = list(by_column("BM25", count=5))
    np.testing.assert_array_equal(learned_on(shipped, some).inner, learned_on(shipped, [*some, empty]).inner)


def judge_by(wanted):
    """Judges a run by the place of the one document that a query wants."""

    def judge(run):
        return {
            query: 1 / (1 + sorted(scores, key=scores.get, reverse=True).index(wanted[query]))
            if wanted[query] in scores
            else 0.0
            for query, scores in run.items()
        }

    return judge


@pytest.fixture
def taught(tmp_path, hash_encoder):
    """An index whose queries want the document that says their words side by side, not those that say them oftener."""
    with Collection.create(tmp_path / "t.index", encoder=hash_encoder) as library:
        library.update(
            Document(
                f"d{i}-{n}", f"red{i} blue{i} " + "filler " * 12 if n == 3 else f"red{i} or{n} blue{i} or " * (n + 2)
            )
            for i in range(12)
            for n in range(6)
        )
        queries = [Document(f"q{i}-{n}", f"red{i} blue{i}{' filler' * n}") for i in range(12) for n in range(4)]
        yield library, queries, {query.id: f"d{query.id[1:].split('-')[0]}-3" for query in queries}


def test_an_index_learns_what_its_answers_have_in_common(taught, tmp_path):
    library, queries, wanted = taught
    told = []
    answers = {query: {id_} for query, id_ in wanted.items()}
    report = tune_ranking(library, queries, judge_by(wanted), answers, on_progress=told.append)
    assert report.kept
    assert report.queries == 48
    assert told[-1] == 48
    assert report.learned > report.default + 0.1
    assert "a search takes it with `rerank=ltr`" in report.lines()[-1]
    assert json.loads(json.dumps(report.record()))["kept"] is True
    for place in (library, Collection.open(library.path, encoder=library.encoder)):
        first = [place.search(query.text, k=1, rerank="ltr")[0].id for query in queries]
        assert np.mean([id_ == wanted[query.id] for id_, query in zip(first, queries, strict=True)]) > 0.8
    assert library.searcher("hybrid", "ltr").reranker.share == report.share
    with library.index.writer() as writer:
        held = library.index.settings["ltr"]
        writer.keep(ltr={**held, "features": [*held["features"], "one more"]})
    assert library.searcher("hybrid", "ltr").reranker.share == LtrReranker.share, "made for other features: what ships"


def test_queries_that_find_nothing_count_and_teach_nothing(tmp_path, hash_encoder, taught):
    _, queries, wanted = taught
    answers = {query: {id_} for query, id_ in wanted.items()}
    told = []
    with Collection.create(tmp_path / "empty.index", encoder=hash_encoder) as empty:
        report = tune_ranking(empty, queries, judge_by(wanted), answers, on_progress=told.append)
    assert not report.kept
    assert (report.queries, told[-1]) == (48, 48)
    assert (report.first, report.default, report.learned, report.error) == (0, 0, 0, 0)


def test_what_does_not_win_is_not_kept(taught):
    library, queries, wanted = taught
    answers = {query: {id_} for query, id_ in wanted.items()}
    report = tune_ranking(library, queries, lambda run: dict.fromkeys(run, 0.5), answers)
    assert not report.kept
    assert "ltr" not in library.index.settings
    assert report.lines()[-1].startswith("not kept")
    with pytest.raises(UsageError, match=r"queries has 19 with a known answer; at least 20 are needed"):
        tune_ranking(library, queries[:19], judge_by(wanted), answers)
