"""Reranking by tokens: its formula, what it prefers, and how it counts beside the first search."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from llm2comp_apps import Collection, Document
from llm2comp_apps.encoder.token_states import TokenStates
from llm2comp_apps.errors import UsageError
from llm2comp_apps.retrieval.options import SearchOptions
from llm2comp_apps.retrieval.rerank import Passage, TokensReranker, load_reranker, share_of
from llm2comp_apps.retrieval.rerank.tokens import ALONE, common_part, rarity, soft_max_sim, without
from llm2comp_apps.retrieval.search import rerank_documents

COSINES = st.floats(-1, 1, width=16)
SENTENCE = "the of a cells divide by mitosis bread rises with yeast gas"
WORDS = {word: number for number, word in enumerate(SENTENCE.split())}


class Words:
    """An encoder whose tokens are words, each with a direction of its own; rare from ``cells`` on."""

    name = "words"

    def __init__(self, like):
        self.dimension = like.dimension
        self._like = like

    def __getattr__(self, name):
        return getattr(self._like, name)

    def encode_tokens(self, texts, *, max_length=None):
        found = []
        for text in texts:
            numbers = [WORDS[word] for word in text.lower().split() if word in WORDS][:max_length]
            ids = [number if number < 3 else 1000 * number for number in numbers]
            found.append(TokenStates(np.array(ids, dtype=np.int64), np.eye(len(WORDS), dtype=np.float32)[numbers]))
        return found


def slow_soft_max_sim(cosines, weights):
    best = -np.inf
    for start in range(0, max(1, cosines.shape[1] - 32), 32):
        window = cosines[:, start : start + 64].astype(np.float64)
        soft = np.exp((window - window.max(axis=1, keepdims=True)) / 0.05)
        soft /= soft.sum(axis=1, keepdims=True)
        best = max(best, float(weights @ (soft * window).sum(axis=1)))
    return best


FAR = np.full((3, 65), -1, np.float32)
FAR[0, -1], FAR[1, 0] = 0, 1
"""Likeness in the second window of which nothing is left beside that in the first."""


@example(FAR)
@given(st.integers(1, 200).flatmap(lambda t: hnp.arrays(np.float32, (3, t), elements=COSINES)))
def test_the_score_is_its_formula(cosines):
    weights = np.array([0.5, 0.3, 0.2], dtype=np.float32)
    assert soft_max_sim(cosines, weights) == pytest.approx(slow_soft_max_sim(cosines, weights), abs=1e-4)


def test_words_that_stand_together_count_more_than_words_that_lie_apart():
    weights = np.array([0.5, 0.5], dtype=np.float32)
    near, far = np.zeros((2, 200), np.float32), np.zeros((2, 200), np.float32)
    near[0, 70] = near[1, 80] = far[0, 10] = far[1, 190] = 1
    assert soft_max_sim(near, weights) > soft_max_sim(far, weights) + 0.3


def test_rare_tokens_weigh_more():
    weights = rarity(np.array([5, 300, 40_000]))
    assert weights.sum() == pytest.approx(1)
    assert weights[0] < weights[1] < weights[2]
    assert rarity(np.array([], dtype=np.int64)).shape == (0,)


def test_passages_are_ordered_by_the_rare_words_that_they_share(hash_encoder):
    passages = [Passage("a", "", "the bread rises with yeast"), Passage("b", "", "cells divide by mitosis")]
    reranker = TokensReranker(Words(hash_encoder))
    scores = reranker.score("the mitosis of cells", passages)
    assert scores.dtype == np.float32
    assert scores[1] > scores[0] + 0.3
    assert reranker.score("the", []).shape == (0,)
    assert reranker.score("", passages).tolist() == [-1, -1], "nothing to look for"
    hits = rerank_documents("mitosis", [Document("a", "bread gas"), Document("b", "mitosis gas")], reranker)
    assert [hit.id for hit in hits] == ["b", "a"]


def test_without_a_first_search_whole_texts_count_as_well(hash_encoder):
    """Tokens stay as they are; the cosine of embeddings joins them with its share."""
    encoder = Words(hash_encoder)
    passages = [Passage("a", "Yeast", "bread rises"), Passage("b", "", "cells divide by mitosis"), Passage("c", "", "")]
    alone = TokensReranker(encoder).score("yeast gas", passages)
    asked = encoder.encode(["yeast gas"], prompt="find: ")[0]
    whole = encoder.encode([each.content for each in passages]) @ asked
    joined = TokensReranker(encoder, whole=0.25).score("yeast gas", passages)
    np.testing.assert_allclose(joined, 0.75 * alone + 0.25 * whole, atol=1e-6)
    assert TokensReranker(encoder, whole=0.25).score("yeast gas", []).shape == (0,)


def test_a_reranker_that_is_loaded_by_itself_compares_whole_texts(hash_encoder, monkeypatch):
    encoder = Words(hash_encoder)
    monkeypatch.setattr("llm2comp_apps.encoder.load_encoder", lambda name, device=None: encoder)
    passages = [Passage("a", "", "bread rises"), Passage("b", "", "cells divide by mitosis")]
    wanted = TokensReranker(encoder, whole=ALONE).score("yeast gas", passages)
    assert load_reranker("tokens").score("yeast gas", passages).tolist() == wanted.tolist()


def test_what_all_tokens_have_in_common_counts_for_nothing(hash_encoder):
    """Whatever way all states point, the scores are those without it."""
    passages = [Passage("a", "", "bread rises gas"), Passage("b", "", "cells divide by mitosis")]

    class Aslant(Words):
        def encode_tokens(self, texts, *, max_length=None):
            found = super().encode_tokens(texts, max_length=max_length)
            return [each._replace(vectors=each.vectors + 5.0) for each in found]

    scores = [TokensReranker(kind(hash_encoder)).score("mitosis", passages) for kind in (Words, Aslant)]
    np.testing.assert_allclose(*scores, atol=1e-4)


def test_the_common_part_is_the_mean_of_all_tokens():
    vectors = np.arange(12, dtype=np.float32).reshape(4, 3)
    read = [TokenStates(np.arange(1), vectors[:1]), TokenStates(np.arange(3), vectors[1:])]
    assert common_part(read).tolist() == vectors.mean(0).tolist()
    nothing = common_part([TokenStates(np.arange(0), vectors[:0])])
    assert nothing.tolist() == [0, 0, 0]
    lengths = np.linalg.norm(without(vectors, vectors.mean(0)), axis=1)
    np.testing.assert_allclose(lengths, 1, rtol=1e-5)
    assert not without(vectors[:1], vectors[0]).any(), "no direction is left, and none is made up"


def test_an_encoder_without_tokens_is_refused_by_name(hash_encoder):
    with pytest.raises(UsageError, match=r"^the encoder hash.* shows no tokens to rerank by; take an LLM2Comp"):
        TokensReranker(hash_encoder)


class Fixed:
    """A reranker with known scores and a share."""

    def __init__(self, scores, **share):
        self._scores = scores
        vars(self).update(share)

    def score(self, query, passages):
        return np.array([self._scores[passage.id] for passage in passages], dtype=np.float32)


def test_a_share_joins_both_orders_and_none_replaces_the_first(tmp_path, hash_encoder):
    with Collection.create(tmp_path / "a.index", encoder=hash_encoder) as library:
        library.update(
            [Document("a", "gas gas star"), Document("b", "gas cloud"), Document("c", "star light gas dust")]
        )
        options = SearchOptions(k=3, mode="dense")
        first = {hit.id: hit.score for hit in library.searcher("dense").rank(["gas"], options)[0]}
        order = sorted(first, key=lambda id_: first[id_])
        opposite = {id_: float(place) for place, id_ in enumerate(order[::-1])}
        for share, wanted in ((None, order), (1.0, order), (0.9, order), (0.1, order[::-1])):
            reranker = Fixed(opposite) if share is None else Fixed(opposite, share=share)
            found = library.searcher("dense", reranker).rank(["gas"], options)[0]
            assert [hit.id for hit in found] == wanted, share
    assert share_of(Fixed({})) == 1.0
    assert share_of(TokensReranker(Words(hash_encoder))) == 0.3


def test_its_name_loads_it(tiny_encoder_dir, tmp_path):
    assert isinstance(load_reranker("tokens", encoder=str(tiny_encoder_dir), device="cpu"), TokensReranker)
    with Collection.create(tmp_path / "b.index", encoder=str(tiny_encoder_dir)) as library:
        library.update([Document("a", "the king"), Document("b", "the river and the market")])
        assert {hit.id for hit in library.search("the market in peace", rerank="tokens")} == {"a", "b"}
        assert isinstance(library.searcher("hybrid", "tokens").reranker, TokensReranker)
