"""The benchmarks of rerankers make memory once, and count what is missing."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from llm2comp_apps.retrieval.rerank import Passage, memory_scores

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(autouse=True)
def beside(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)


class Letters:
    """Two memory vectors of a text: counts of two letters each."""

    name, fingerprint, dimension, prompts, k, pooling = "letters", "letters", 2, {"document": ""}, 2, "mean"

    def __init__(self):
        self.read = []

    def encode_memory(self, texts, *, prompt=None):
        self.read.append(list(texts))
        return np.array([[[t.count("a"), t.count("b")], [t.count("c"), 1]] for t in texts], np.float32)

    def encode(self, texts, *, prompt=None, show_progress=False):
        return self.encode_memory(texts)[:, 0]

    def encode_stream(self, texts, *, prompt=None):
        yield self.encode(list(texts))


def test_memory_is_made_once_for_each_passage():
    from kept_memory import KeptMemory

    encoder = Letters()
    kept = KeptMemory(encoder, "letters")
    reranker = kept.reranker("memory")
    passages = [Passage("1", "", "aab"), Passage("2", "", "bcc")]
    first = reranker.score("ab", passages)
    np.testing.assert_allclose(
        first, memory_scores(encoder.encode_memory(["ab"])[0], encoder.encode_memory(["aab", "bcc"]))
    )
    encoder.read.clear()
    np.testing.assert_array_equal(reranker.score("ab", passages[::-1]), first[::-1])
    reranker.score("ab", [*passages, Passage("2", "", "bcc", (0, 3))])
    assert [texts for texts in encoder.read if texts != ["ab"]] == [["bcc"]], "only the new span"
    assert len(kept) == 3


def test_a_sample_of_a_corpus_has_what_is_needed_and_its_first_others(tmp_path):
    from bench_rerank import _first

    path = tmp_path / "corpus.jsonl"
    path.write_text("".join(json.dumps({"_id": str(i), "text": f"text {i}"}) + "\n" for i in range(9)))
    assert [document.id for document in _first(path, {"1", "7"}, 4)] == ["0", "1", "2", "7"]
    assert len(list(_first(path, {"1", "7"}, None))) == 9


def test_sentences_that_a_search_does_not_find_come_last_and_the_answers_after_the_others():
    from bench_answers import average_precisions

    from llm2comp_apps.evaluation.datasets import RerankingData
    from llm2comp_apps.retrieval.hits import Ranked

    class Found:
        def searcher(self, mode, reranker):
            return self

        def rank(self, queries, options):
            assert options.k == 4
            return [[Ranked(id_, 1.0) for id_ in {"question = 0": ["0-2", "0-0"], "question = 1": []}[options.where]]]

    data = RerankingData(["q", "r"], [["a", "b"], ["a"]], [["c", "d"], ["e", "f", "g"]])
    assert average_precisions(Found(), data, [0, 1], "lexical") == [50.0, 25.0]  # ranks 2 and 4; rank 4
