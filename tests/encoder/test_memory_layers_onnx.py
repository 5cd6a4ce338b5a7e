"""Where the text stops in between, ONNX Runtime computes what torch does, and a packed checkpoint works by itself."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from llm2comp_apps import LLM2Comp, export_model
from llm2comp_apps.encoder import checkpoint
from llm2comp_apps.encoder.backbones import load_backbone
from llm2comp_apps.encoder.backends import load_light
from llm2comp_apps.encoder.backends.blueprint import read_blueprint
from llm2comp_apps.encoder.backends.export import _observe
from llm2comp_apps.encoder.backends.packing import pack_encoder
from llm2comp_apps.encoder.backends.smoothing import smooth
from llm2comp_apps.encoder.decoding.loading import load_reader
from llm2comp_apps.encoder.layers import prune
from llm2comp_apps.encoder.network import CompressionNetwork
from llm2comp_apps.encoder.publishing import alone, comparison, export
from llm2comp_apps.errors import EncoderError

FAMILIES = ("llama", "mistral", "qwen2", "qwen3", "phi3", "olmo2", "smollm3")
"""The keys of Qwen3 and OLMo 2 are normed; OLMo 2 has no norms in front, and SmolLM3 layers without positions."""
DEPTH, STOP, K = 4, 2, 4


@pytest.fixture(autouse=True)
def _cache(monkeypatch, tmp_path):
    monkeypatch.setenv("LLM2COMP_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def make_split(tmp_path, tokenizer, tiny_lm_of):
    """``make_split("llama")`` -> the folder of an encoder of four layers, two for the text; all is drawn at random."""

    def make(architecture: str = "llama", stop: int = STOP, **settings) -> str:
        directory = tmp_path / f"backbone-{architecture}"
        tiny_lm_of(architecture, DEPTH).save_pretrained(directory)
        tokenizer.save_pretrained(directory)
        backbone = load_backbone(str(directory), device="cpu")
        network = CompressionNetwork.fresh(backbone.lm, K, seed=3, own_layers=True).stop_text(stop)
        generator = torch.Generator().manual_seed(5)
        for layer in network.encoder.layers[stop:]:
            for part in (layer.text_key, layer.text_value):
                part.weight.data.normal_(std=0.2, generator=generator)
        described = checkpoint.EncoderSettings(
            backbone=str(directory),
            backbone_sha256=backbone.sha256,
            k=K,
            name="split",
            own_layers=True,
            text_layers=stop,
            max_length=64,
            **settings,
        )
        weights = {name: tensor.half() for name, tensor in network.layer_weights().items()}
        network.load_layers(weights)
        target = tmp_path / f"split-{architecture}-{stop}"
        LLM2Comp(network, backbone.tokenizer, described, layers_state=weights).save_pretrained(target)
        return str(target)

    return make


def heavy_of(directory: str) -> LLM2Comp:
    return LLM2Comp.from_pretrained(directory, device="cpu", dtype=torch.float32)


def cosines(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    return (one * other).sum(-1) / np.linalg.norm(one, axis=-1) / np.linalg.norm(other, axis=-1)


@pytest.mark.parametrize("family", FAMILIES)
def test_float32_is_the_network(make_split, texts, family):
    directory = make_split(family)
    light, heavy = load_light(directory, precision="float32"), heavy_of(directory)
    assert light.fingerprint == heavy.fingerprint
    memory = heavy.encode_memory(texts)
    assert np.abs(light.encode_memory(texts) - memory).max() <= 1e-5 * np.abs(memory).max()
    assert np.abs(light.encode(texts) - heavy.encode(texts)).max() < 1e-4


@pytest.mark.parametrize("stop", [1, DEPTH - 1])
def test_the_text_may_stop_anywhere(make_split, texts, stop):
    directory = make_split(stop=stop)
    light, heavy = load_light(directory, precision="float32"), heavy_of(directory)
    np.testing.assert_allclose(light.encode(texts), heavy.encode(texts), atol=1e-4)
    for one, other in zip(light.encode_tokens(texts), heavy.encode_tokens(texts), strict=True):
        np.testing.assert_allclose(one.vectors, other.vectors, atol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_int8_is_near(make_split, texts, family):
    directory = make_split(family)
    light, heavy = load_light(directory, precision="int8"), heavy_of(directory)
    assert not np.array_equal(light.encode(texts), heavy.encode(texts))
    assert cosines(light.encode(texts), heavy.encode(texts)).min() > 0.99
    assert cosines(light.encode_memory(texts), heavy.encode_memory(texts)).mean() > 0.995


@pytest.mark.parametrize("precision", ["int8", "float32"])
def test_neighbours_in_a_batch_change_nothing(make_split, texts, precision):
    light = load_light(make_split(), precision=precision)
    together = light.encode_memory([*texts, *texts[::-1]])
    for text, each in zip(texts, together, strict=False):
        np.testing.assert_allclose(light.encode_memory(text), each, atol=1e-5)


def test_an_empty_text_and_one_of_one_token(make_split):
    directory = make_split()
    light, heavy = load_light(directory, precision="float32"), heavy_of(directory)
    for text in ("", "x"):
        np.testing.assert_allclose(light.encode(text), heavy.encode(text), atol=1e-5)
    assert not np.allclose(light.encode(""), light.encode("x"), atol=1e-3)


@pytest.mark.parametrize("family", FAMILIES)
def test_tokens_are_read_where_the_text_stops(make_split, texts, family):
    directory = make_split(family)
    light, heavy = load_light(directory, precision="float32"), heavy_of(directory)
    for one, other in zip(light.encode_tokens(texts), heavy.encode_tokens(texts), strict=True):
        assert one.ids.tolist() == other.ids.tolist()
        np.testing.assert_allclose(one.vectors, other.vectors, atol=1e-4)


@pytest.mark.parametrize("family", ["llama", "mistral", "qwen2"])
def test_packed_both_runtimes_have_one_encoder(make_split, texts, tmp_path, family):
    source = heavy_of(make_split(family))
    pack_encoder(source, tmp_path / "packed")
    light, heavy = load_light(str(tmp_path / "packed")), heavy_of(str(tmp_path / "packed"))
    assert light._folder == tmp_path / "packed" / "graph"
    assert light.fingerprint == heavy.fingerprint != source.fingerprint
    assert heavy.network.text_layers == STOP
    assert heavy.network.layer_weights().keys() == source.network.layer_weights().keys()
    assert cosines(light.encode(texts), heavy.encode(texts)).min() > 0.995
    assert cosines(heavy.encode(texts), source.encode(texts)).min() > 0.99


def test_packed_and_saved_again_or_cut(make_split, texts, tmp_path):
    pack_encoder(heavy_of(make_split()), tmp_path / "packed")
    packed = heavy_of(str(tmp_path / "packed"))
    packed.save_pretrained(tmp_path / "copy")
    assert load_light(str(tmp_path / "copy")).fingerprint == packed.fingerprint
    short = prune(packed, [0, 1, 3], 2)
    short.save_pretrained(tmp_path / "short")
    light = load_light(str(tmp_path / "short"), precision="float32")
    np.testing.assert_allclose(light.encode(texts), heavy_of(str(tmp_path / "short")).encode(texts), atol=1e-4)


def test_smoothing_moves_the_text_to_where_8_bits_reach_it(make_split):
    """It changes no product, and no input of a map is much larger than the others any more."""
    encoder = heavy_of(make_split())
    blueprint = read_blueprint(encoder.network, 200)
    rows = encoder.tokenizer(["some text of a few words", "and another one", "a third", "x y z"])["input_ids"]
    ranges, text, _ = _observe(encoder, rows)
    layers = [replace(layer, text_key=_with_large_input(layer.text_key)) for layer in blueprint.layers[STOP:]]
    blueprint = replace(blueprint, layers=(*blueprint.layers[:STOP], *layers))
    smoothed = smooth(blueprint, ranges, text)
    for before, after in zip(blueprint.layers[STOP:], smoothed.layers[STOP:], strict=True):
        np.testing.assert_allclose(
            after.text_key.weight * smoothed.text.gain[:, None], before.text_key.weight, rtol=1e-4
        )
        np.testing.assert_allclose(
            smoothed.text.gain[:, None] * after.text_value.weight @ _head(after.attention.output.weight),
            before.text_value.weight @ _head(before.attention.output.weight),
            rtol=1e-3,
            atol=1e-4,
        )
    assert smoothed.text.gain[0] > 2 * np.median(smoothed.text.gain)


def _with_large_input(part):
    weight = part.weight.copy()
    weight[0] *= 30
    return replace(part, weight=weight)


def _head(output: np.ndarray) -> np.ndarray:
    """What the first head of each group adds: ``(groups * width, d)``; two of four heads of width 8."""
    return output.reshape(2, 2, 8, -1)[:, 0].reshape(16, -1)


@pytest.mark.parametrize("packed", [False, True])
def test_a_folder_for_onnx_runtime_is_the_encoder(make_split, tmp_path, monkeypatch, packed):
    monkeypatch.setattr(
        export,
        "compare",
        lambda folder, kind, texts, expected: comparison.compared(
            texts, alone.vectors_of(str(folder), kind, texts), expected
        ),
    )
    directory = make_split()
    if packed:
        pack_encoder(heavy_of(directory), tmp_path / "packed")
        directory = str(tmp_path / "packed")
    report = export_model(directory, tmp_path / "out", format="onnx", texts=12)
    assert report.dtype == "int8"
    assert report.comparison.smallest_cosine > 0.9999


def test_what_no_other_form_says_is_refused_by_name(make_split, tmp_path):
    directory = make_split()
    for several in (False, True):
        with pytest.raises(EncoderError, match=r"split: its memory tokens alone go through its last layers, which no"):
            export_model(directory, tmp_path / "out", multi_vector=several)
    assert not (tmp_path / "out").exists()
    with pytest.raises(EncoderError, match=r"layers have weights of their own, so no decoder reads its memory"):
        load_reader(directory)


def test_fewer_memory_tokens_beside_layers_in_float32(make_split, texts):
    """Loaded in half precision, the first layers stand in another module each."""
    directory = make_split(float32_layers=3)
    half = LLM2Comp.from_pretrained(directory, device="cpu", dtype=torch.bfloat16)
    fewer, whole = prune(half, range(DEPTH), 2), prune(heavy_of(directory), range(DEPTH), 2)
    assert cosines(fewer.encode(texts), whole.encode(texts)).min() > 0.99
    assert half.encode_memory(texts).shape[1] == K
