"""What can be a row without being an encoder: BM25."""

from __future__ import annotations

import math
import re
from collections import Counter

import pytest

from llm2comp_apps.evaluation.adapters import load_system
from llm2comp_apps.evaluation.bm25 import Bm25Ranker
from llm2comp_apps.evaluation.tasks import Ranker

CORPUS = {
    "d1": "the cat sat on the mat",
    "d2": "cats and dogs",
    "d3": "a dog barked at the cat and the cat ran",
    "d4": "bread rises",
}


def slow_bm25(query, k1=1.2, b=0.75):
    """BM25 with Lucene's idf, by its formula."""
    documents = {name: re.findall(r"\w+", text.lower()) for name, text in CORPUS.items()}
    average = sum(map(len, documents.values())) / len(documents)
    scores = Counter()
    for word in query.split():
        holders = sum(word in words for words in documents.values())
        idf = math.log(1 + (len(documents) - holders + 0.5) / (holders + 0.5))
        for name, words in documents.items():
            tf = words.count(word)
            scores[name] += idf * tf * (k1 + 1) / (tf + k1 * (1 - b + b * len(words) / average))
    return {name: score for name, score in scores.items() if score > 0}


def test_bm25_is_its_formula():
    bm25 = load_system("bm25")
    assert isinstance(bm25, Ranker)
    for query in ("cat", "the dog", "cat bread cats"):
        run = bm25.search(CORPUS, {"q": query}, top_k=10)["q"]
        assert run == pytest.approx(slow_bm25(query), rel=1e-5)


@pytest.mark.parametrize("stem", [False, True])
@pytest.mark.parametrize("query", ["cell_size", "cell-size", "कोशिका विभाजन", "size\u0301 cell"])
def test_a_document_with_any_word_of_a_query_is_a_hit(query, stem):
    corpus = {"all": f"before {query} after", "one": query[:6], "none": "bread"}
    run = Bm25Ranker(stem=stem).search(corpus, {"q": query}, 10)["q"]
    assert set(run) == {"all", "one"}


def test_stemming_finds_other_forms_and_has_another_fingerprint():
    plain, stem = Bm25Ranker(), Bm25Ranker(stem=True)
    assert set(plain.search(CORPUS, {"q": "dog"}, 10)["q"]) == {"d3"}
    assert set(stem.search(CORPUS, {"q": "dog"}, 10)["q"]) == {"d2", "d3"}
    assert plain.fingerprint != stem.fingerprint


@pytest.mark.parametrize("query", ["", "?!", 'what OR (is "this" -that) ^2', "zebra"])
def test_any_text_is_a_query_and_none_is_syntax(query):
    run = Bm25Ranker().search(CORPUS, {"q": query, "r": "cat"}, 1)
    assert run["q"] == {}
    assert set(run["r"]) == {"d3"}
