"""The tokens of texts in their context: in torch and ONNX Runtime the same, and none beside the text's own."""

from __future__ import annotations

import pickle
import sys

import numpy as np
import pytest
import torch

from llm2comp_apps.encoder import base, load_encoder
from llm2comp_apps.encoder.backends import load_light
from llm2comp_apps.encoder.model import LLM2Comp
from llm2comp_apps.encoder.protocol import ReadsTokens
from llm2comp_apps.encoder.token_states import token_depth
from llm2comp_apps.errors import EncoderError, UsageError

TEXTS = ["the king and the queen", "", "atom", "light sound of the river and the market in peace", "a b c"]


@pytest.fixture(autouse=True)
def _cache(monkeypatch, tmp_path):
    monkeypatch.setenv("LLM2COMP_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def heavy(tiny_encoder_dir):
    return LLM2Comp.from_pretrained(str(tiny_encoder_dir), device="cpu", dtype=torch.float32)


def test_they_are_the_states_behind_three_quarters_of_the_layers(heavy):
    ids = torch.tensor(heavy.tokenizer([TEXTS[0]])["input_ids"])
    states, seen = [], heavy.network.encoder
    embeds = heavy.network.embed(ids)
    with torch.inference_mode():
        found = seen(inputs_embeds=embeds, use_cache=False, is_causal=False, output_hidden_states=True)
    states = found.hidden_states[token_depth(len(found.hidden_states) - 1)][0].numpy()
    (read,) = heavy.encode_tokens([TEXTS[0]])
    assert read.ids.tolist() == ids[0].tolist()
    np.testing.assert_allclose(read.vectors, states / np.linalg.norm(states, axis=1, keepdims=True), atol=1e-5)
    assert [token_depth(layers) for layers in (1, 2, 4, 12, 30)] == [0, 1, 3, 9, 22]


def test_neighbours_and_padding_change_nothing(heavy):
    together = heavy.encode_tokens(TEXTS)
    for text, each in zip(TEXTS, together, strict=True):
        (alone,) = heavy.encode_tokens([text])
        assert each.ids.tolist() == alone.ids.tolist()
        np.testing.assert_allclose(each.vectors, alone.vectors, atol=1e-5)


@pytest.mark.parametrize("family", ["llama", "qwen3", "gemma3_text", "phi3"])
def test_onnx_gives_those_of_torch(make_checkpoint, family):
    directory = str(make_checkpoint(family))
    light = load_light(directory, precision="float32")
    heavy = LLM2Comp.from_pretrained(directory, device="cpu", dtype=torch.float32)
    assert isinstance(light, ReadsTokens)
    assert isinstance(heavy, ReadsTokens)
    for one, other in zip(light.encode_tokens(TEXTS), heavy.encode_tokens(TEXTS), strict=True):
        assert one.ids.tolist() == other.ids.tolist()
        np.testing.assert_allclose(one.vectors, other.vectors, atol=1e-4)


def test_a_graph_without_norms_in_front_says_who_reads_it(make_checkpoint):
    light = load_light(str(make_checkpoint("olmo2")), precision="float32")
    with pytest.raises(EncoderError, match=r"^the tokens of this encoder are read by `backend=torch` alone$"):
        light.encode_tokens(TEXTS)


@pytest.mark.parametrize("backend", ["onnx", "torch"])
def test_texts_are_cut_and_an_empty_one_has_no_tokens(tiny_encoder_dir, backend):
    encoder = load_encoder(str(tiny_encoder_dir), device="cpu", backend=backend)
    long, empty = encoder.encode_tokens(["the river " * 100, ""], max_length=7)
    assert (len(long.ids), long.vectors.shape) == (7, (7, encoder.dimension))
    assert np.linalg.norm(long.vectors, axis=1) == pytest.approx(np.ones(7), abs=1e-5)
    assert len(empty.ids) == len(empty.vectors) <= 1, "nothing but what the tokenizer puts in front of every text"
    (whole,) = encoder.encode_tokens(["the river " * 1000], max_length=10**6)
    assert len(whole.ids) == encoder.max_length
    assert encoder.encode_tokens([]) == []
    with pytest.raises(UsageError, match=r"^max_length must be at least 1, not 0$"):
        encoder.encode_tokens(TEXTS, max_length=0)


def test_an_encoder_that_showed_tokens_can_be_pickled(tiny_encoder_dir):
    encoder = load_encoder(str(tiny_encoder_dir), device="cpu", backend="onnx")
    (before,) = encoder.encode_tokens(TEXTS[:1])
    (after,) = pickle.loads(pickle.dumps(encoder)).encode_tokens(TEXTS[:1])
    np.testing.assert_array_equal(before.vectors, after.vectors)


def test_encoding_alone_needs_no_onnx(tiny_encoder_dir, monkeypatch):
    encoder = load_encoder(str(tiny_encoder_dir), device="cpu", backend="onnx")
    monkeypatch.setitem(sys.modules, "onnx", None)
    monkeypatch.delitem(sys.modules, "llm2comp_apps.encoder.backends.token_graph", raising=False)
    assert encoder.encode(TEXTS).shape == (5, encoder.dimension)


def test_batches_beside_one_another_read_their_own(heavy, monkeypatch):
    texts = [
        f"{word} of the river" for word in ("king", "queen", "atom", "light", "sound", "market", "peace", "word")
    ] * 8
    wanted = [heavy.encode_tokens([text])[0] for text in texts[:8]] * 8
    monkeypatch.setattr(base, "usable_cores", lambda: 4)
    monkeypatch.setattr(heavy, "batch_tokens", lambda: 40)
    for _ in range(5):
        for one, other in zip(heavy.encode_tokens(texts), wanted, strict=True):
            np.testing.assert_allclose(one.vectors, other.vectors, atol=1e-5)
