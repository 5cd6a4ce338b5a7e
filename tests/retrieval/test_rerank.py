from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from llm2comp_apps import Collection
from llm2comp_apps.corpus import Document
from llm2comp_apps.errors import EncoderError, UsageError
from llm2comp_apps.retrieval.rerank import (
    CrossEncoderReranker,
    LikelihoodReranker,
    MemoryReranker,
    Passage,
    UprReranker,
    load_joint_reranker,
    max_sim,
    memory_scores,
    pool_memory,
)
from llm2comp_apps.retrieval.search import rerank_documents

FLOATS = st.floats(-100, 100, width=16)


def slow_max_sim(query, documents):
    def cosine(a, b):
        norm = np.linalg.norm(a) * np.linalg.norm(b)
        return float(a @ b / norm) if norm else 0.0

    return [np.mean([max(cosine(q, d) for d in document) for q in query]) for document in documents]


@given(hnp.arrays(np.float32, (2, 3), elements=FLOATS), hnp.arrays(np.float32, (4, 3, 3), elements=FLOATS))
def test_max_sim_equals_its_formula(query, documents):
    expected = slow_max_sim(query.astype(np.float64), documents.astype(np.float64))
    assert max_sim(query, documents) == pytest.approx(expected, abs=1e-4)


@given(hnp.arrays(np.float32, (3, 4), elements=st.floats(0.125, 8, width=16)), st.permutations(range(3)))
def test_max_sim_is_one_for_the_same_vectors_in_any_order_and_length(query, order):
    documents = np.stack([query[list(order)], 2 * query])
    assert max_sim(query, documents) == pytest.approx([1, 1], abs=1e-5)


def test_max_sim_takes_half_precision():
    vectors = np.random.default_rng(0).standard_normal((5, 4, 8))
    single = max_sim(vectors[0].astype(np.float32), vectors.astype(np.float32))
    half = max_sim(vectors[0].astype(np.float32), vectors.astype(np.float16))
    assert half == pytest.approx(single, abs=1e-3)


@pytest.mark.parametrize("pooling", ["mean", "merge", "first"])
def test_memory_is_read_by_one_vector_of_the_query_and_by_all_of_a_document(pooling):
    draw = np.random.default_rng(0)
    query, documents = draw.normal(size=(3, 5)).astype(np.float32), draw.normal(size=(7, 4, 5)).astype(np.float32)
    asked, wholes = pool_memory(query[None], pooling)[0], pool_memory(documents, pooling)
    expected = [
        (whole @ asked + max(each @ asked / np.linalg.norm(each) for each in document)) / 2
        for whole, document in zip(wholes, documents, strict=True)
    ]
    assert memory_scores(query, documents, pooling) == pytest.approx(expected, abs=1e-5)
    half = memory_scores(query, documents.astype(np.float16), pooling)
    assert half.dtype == np.float32
    assert half == pytest.approx(expected, abs=5e-3)
    nothing = np.zeros((1, 4, 5), np.float32)
    assert memory_scores(query, nothing, pooling).tolist() == [0]


@pytest.mark.parametrize("pooling", ["mean", "merge", "first"])
def test_pooled_memory_is_the_encoder_s_own_embedding(tiny_encoder_dir, pooling):
    from llm2comp_apps import LLM2Comp

    encoder = LLM2Comp.from_pretrained(str(tiny_encoder_dir), device="cpu", pooling=pooling)
    texts = ["a few words", "and some more of them", "x"]
    pooled = pool_memory(encoder.encode_memory(texts), encoder.pooling)
    assert pooled == pytest.approx(encoder.encode(texts), abs=1e-5)


def passages(documents):
    return [Passage(document.id, document.title, document.text) for document in documents]


DOCUMENTS = [
    Document("a", "stars burn hydrogen", title="Sky"),
    Document("b", "cells divide by mitosis", title="Life"),
    Document("c", "bread rises with yeast"),
]


def test_documents_without_an_index_are_ordered_by_memory(hash_encoder):
    hits = rerank_documents("cells divide by mitosis", DOCUMENTS, MemoryReranker(hash_encoder))
    assert hits[0].id == "b"
    assert [hit.rank for hit in hits] == [1, 2, 3]
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    assert hits[0].snippet.marked() == "**cells** **divide** by **mitosis**"


def test_stored_memory_gives_the_scores_of_fresh_memory(hash_encoder):
    stored = {document.id: hash_encoder.encode_memory([document.content])[0] for document in DOCUMENTS}
    by_store = MemoryReranker(
        hash_encoder, lambda ids, spans: np.stack([stored[name] for name in ids]).astype(np.float16)
    )
    fresh = MemoryReranker(hash_encoder).score("stars burn", passages(DOCUMENTS))
    calls = hash_encoder.calls
    assert by_store.score("stars burn", passages(DOCUMENTS)) == pytest.approx(fresh, abs=2e-3)
    assert hash_encoder.calls == calls + 1


def test_no_candidates_are_no_scores(hash_encoder):
    assert MemoryReranker(hash_encoder).score("q", []).shape == (0,)
    assert rerank_documents("q", [], MemoryReranker(hash_encoder)) == []


def test_an_encoder_without_memory_is_refused():
    class Plain:
        name = "plain"

    with pytest.raises(UsageError, match="plain has no memory vectors"):
        MemoryReranker(Plain())


@pytest.fixture(scope="module")
def cross_encoder_dir(tmp_path_factory):
    """A tiny random BERT with one score, as sentence-transformers saves it; with ``labels`` > 1, a classifier."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers
    from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

    def make(labels):
        directory = tmp_path_factory.mktemp("cross")
        tokenizer = Tokenizer(models.WordLevel(unk_token="[UNK]"))
        tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
        special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
        words = " ".join(document.content for document in DOCUMENTS)
        tokenizer.train_from_iterator([words], trainers.WordLevelTrainer(special_tokens=special))
        tokenizer.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
        )
        PreTrainedTokenizerFast(
            tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]"
        ).save_pretrained(directory)
        config = BertConfig(
            vocab_size=64, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
            max_position_embeddings=64, num_labels=labels,
        )  # fmt: skip
        BertForSequenceClassification(config).save_pretrained(directory)
        return directory

    return make


def test_any_cross_encoder_of_one_score_reranks(cross_encoder_dir):
    from sentence_transformers import CrossEncoder

    directory = str(cross_encoder_dir(1))
    reranker = CrossEncoderReranker(directory, device="cpu")
    pairs = [("yeast", document.content) for document in DOCUMENTS]
    expected = CrossEncoder(directory, device="cpu").predict(pairs)
    assert reranker.score("yeast", passages(DOCUMENTS)) == pytest.approx(expected, abs=1e-5)
    assert reranker.score("yeast", []).shape == (0,)


def test_a_classifier_is_no_reranker(cross_encoder_dir):
    with pytest.raises(EncoderError, match="3 scores a pair"):
        CrossEncoderReranker(str(cross_encoder_dir(3)), device="cpu")


def test_a_missing_cross_encoder_is_one_line(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(EncoderError, match="cannot load the cross-encoder") as caught:
        CrossEncoderReranker(str(tmp_path / "nothing"))
    assert "\n" not in str(caught.value)


def test_a_name_that_is_neither_here_nor_on_the_hub_is_told_at_once(monkeypatch, tmp_path):
    """Without a network sentence-transformers asks for every file anew, with pauses: 46 seconds, with log lines."""
    import sentence_transformers

    def ask(name, **_):
        raise AssertionError("no loader may be asked")

    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(sentence_transformers, "CrossEncoder", ask)
    start = time.perf_counter()
    with pytest.raises(EncoderError, match=r"^cannot load the cross-encoder 'nosuchmodel/x'") as caught:
        CrossEncoderReranker("nosuchmodel/x")
    assert time.perf_counter() - start < 5
    assert "\n" not in str(caught.value)


def test_a_cached_cross_encoder_needs_no_network(monkeypatch, cross_encoder_dir):
    directory = cross_encoder_dir(1)

    def cached(name, *, local_files_only=False, **_):
        assert local_files_only
        return str(directory)

    monkeypatch.setattr("huggingface_hub.snapshot_download", cached)
    assert CrossEncoderReranker("some/model", device="cpu").score("yeast", []).shape == (0,)


def test_a_search_reranked_by_memory_encodes_the_query_once(hash_encoder, tmp_path):
    with Collection.create(tmp_path / "a.index", encoder=hash_encoder, memory=True) as made:
        made.update(DOCUMENTS)
        plain = made.search("stars burn", mode="dense", k=3)
        calls = hash_encoder.calls
        hits = made.search("stars burn", rerank="memory", k=3)
        assert hash_encoder.calls == calls + 1
        assert hits[0].id == plain[0].id == "a"
        fresh = rerank_documents("stars burn", DOCUMENTS, MemoryReranker(hash_encoder))
        scores = {hit.id: hit.score for hit in fresh}
        assert {hit.id: hit.score for hit in hits} == pytest.approx({hit.id: scores[hit.id] for hit in hits}, abs=0.02)


class Reader:
    """Stands for a decoder: a query is the likelier, the nearer its words are to what was read."""

    def __init__(self, encoder):
        self._encoder = encoder
        self.prompts = {}

    def memory(self, texts, *, prompt=""):
        return self._encoder.encode_memory(texts, prompt=prompt)

    def likelihood(self, texts, memory, *, prompt):
        assert "question" in prompt
        return np.array(
            [max_sim(self.memory([text])[0], one[None])[0] for text, one in zip(texts, memory, strict=True)]
        )


class TextReader(Reader):
    def likelihood(self, texts, given, *, prompt, max_length):
        assert max_length > 100
        return super().likelihood(texts, self.memory([given]), prompt=prompt)


@pytest.mark.parametrize("kind", [(LikelihoodReranker, Reader), (UprReranker, TextReader)])
def test_documents_are_ordered_by_the_likelihood_of_the_query(hash_encoder, kind):
    reranker = kind[0](kind[1](hash_encoder))
    assert rerank_documents("cells divide by mitosis", DOCUMENTS, reranker)[0].id == "b"
    assert reranker.score("q", []).shape == (0,)


def test_likelihood_reads_stored_memory(hash_encoder, tmp_path):
    with Collection.create(tmp_path / "a.index", encoder=hash_encoder, memory=True) as made:
        made.update(DOCUMENTS)
        reranker = LikelihoodReranker(Reader(hash_encoder), stored=made.index.memory)
        calls = hash_encoder.calls
        hits = made.search("stars burn", mode="lexical", rerank=reranker, k=3)
        assert hits[0].id == "a"
        assert hash_encoder.calls == calls + len(hits)  # the query, for each passage by this stand-in


def test_names_of_rerankers(monkeypatch):
    from llm2comp_apps.encoder import decoding
    from llm2comp_apps.encoder.backbones import DEFAULT_BACKBONE
    from llm2comp_apps.encoder.locate import READABLE, locate_checkpoint
    from llm2comp_apps.encoder.settings import read_settings
    from llm2comp_apps.retrieval.rerank import load_reranker

    loaded = []
    monkeypatch.setattr(decoding, "load_reader", lambda name, device: loaded.append((name, device)))
    monkeypatch.setattr(decoding, "load_text_reader", lambda backbone, device: loaded.append((backbone, device)))
    assert isinstance(load_reranker("likelihood", encoder="runs/kl", device="cpu"), LikelihoodReranker)
    assert isinstance(load_reranker("likelihood"), LikelihoodReranker)
    for encoder in (None, "st:some/model", "baseline:wmp@runs/lm"):
        assert isinstance(load_reranker("upr", encoder=encoder), UprReranker)
    assert loaded[:2] == [("runs/kl", "cpu"), (READABLE, None)]
    assert loaded[2:] == [(DEFAULT_BACKBONE, None), (DEFAULT_BACKBONE, None), ("runs/lm", None)], (
        "any encoder's will do"
    )
    settings = read_settings(locate_checkpoint(READABLE))
    assert (settings.readout, settings.own_layers) == ("memory", False), "what a decoder can read"


@pytest.mark.parametrize(("name", "named"), [("lrt", True), ("", True), (" ", True), ("some/model", False)])
def test_who_misspells_a_reranker_is_told_those_of_ours(monkeypatch, name, named):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(EncoderError) as caught:
        load_joint_reranker(name)
    told = "(of ours there are ltr, words, tokens, memory, likelihood and upr)"
    assert (told in str(caught.value)) is named
