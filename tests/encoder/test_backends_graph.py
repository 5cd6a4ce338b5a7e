"""The graph computes what the network computes, whatever the family of the backbone."""

from __future__ import annotations

import dataclasses

import numpy as np
import onnxruntime
import pytest
import torch

from llm2comp_apps.encoder.backbones import load_backbone
from llm2comp_apps.encoder.backends.blueprint import read_blueprint
from llm2comp_apps.encoder.backends.build import INPUT, build_graph
from llm2comp_apps.encoder.backends.saturation import add_exactly
from llm2comp_apps.encoder.backends.smoothing import Ranges, smooth
from llm2comp_apps.encoder.network import CompressionNetwork
from llm2comp_apps.errors import EncoderError

FAMILIES = ("llama", "qwen2", "qwen3", "mistral", "gemma", "gemma3_text", "phi3", "olmo2", "smollm3")
POSITIONS = 160  # more than the window of some


def network_of(directory, k: int = 4, **options) -> CompressionNetwork:
    lm = load_backbone(str(directory), device="cpu").lm
    return CompressionNetwork.fresh(lm, k, seed=3, **options).eval()


def run(tmp_path, blueprint, precision: str, rows: np.ndarray) -> np.ndarray:
    """Memory vectors of token ids ``(B, T)``."""
    build_graph(blueprint, precision).save(tmp_path / "graph.onnx", tmp_path / "weights.safetensors")
    options = onnxruntime.SessionOptions()
    add_exactly(options)  # weights drawn at random are the worst case of sums in 16 bits
    session = onnxruntime.InferenceSession(str(tmp_path / "graph.onnx"), options, providers=["CPUExecutionProvider"])
    memory = np.broadcast_to(blueprint.memory, (len(rows), *blueprint.memory.shape))
    return session.run(None, {INPUT: np.concatenate([blueprint.tokens[rows], memory], axis=1)})[0]


def expected(network: CompressionNetwork, rows: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        return network.memory(torch.from_numpy(rows)).numpy()


def ids(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(3, 299, shape)


@pytest.mark.parametrize("length", [0, 1, 30, POSITIONS - 4])
@pytest.mark.parametrize("family", FAMILIES)
def test_float32_is_the_network(make_backbone, tmp_path, family, length):
    network = network_of(make_backbone(family))
    rows = ids(2, length)
    found = run(tmp_path, read_blueprint(network, POSITIONS), "float32", rows)
    memory = expected(network, rows)
    assert np.abs(found - memory).max() <= 1e-5 * np.abs(memory).max()


@pytest.mark.parametrize("family", FAMILIES)
def test_int8_is_near(make_backbone, tmp_path, family):
    network = network_of(make_backbone(family))
    rows = ids(8, 20)
    found = run(tmp_path, read_blueprint(network, POSITIONS), "int8", rows)
    memory = expected(network, rows)
    assert np.abs(found - memory).max() > 0
    cosines = (found * memory).sum(-1) / np.linalg.norm(found, axis=-1) / np.linalg.norm(memory, axis=-1)
    assert cosines.min() > 0.99


def test_int8_takes_no_notice_of_batch_neighbours(make_backbone, tmp_path):
    blueprint = read_blueprint(network_of(make_backbone("llama")), POSITIONS)
    rows = ids(6, 20)
    together = run(tmp_path, blueprint, "int8", rows)
    for row, found in zip(rows, together, strict=True):
        np.testing.assert_array_equal(run(tmp_path, blueprint, "int8", row[None])[0], found)


@pytest.mark.parametrize("family", FAMILIES)
def test_smoothing_changes_no_vector(make_backbone, tmp_path, family):
    network = network_of(make_backbone(family))
    blueprint = read_blueprint(network, POSITIONS)
    generator = np.random.default_rng(1)

    def some(size: int) -> np.ndarray:
        return generator.uniform(0.1, 30, size).astype(np.float32)

    ranges = [
        Ranges(
            attention=some(32),
            output=some(layer.attention.output.weight.shape[0]),
            feed_forward=some(32),
            down=some(48),
        )
        for layer in blueprint.layers
    ]
    smoothed = smooth(blueprint, ranges)
    assert not np.allclose(smoothed.layers[0].feed_forward.down.weight, blueprint.layers[0].feed_forward.down.weight)
    rows = ids(2, 20)
    np.testing.assert_allclose(
        run(tmp_path, smoothed, "float32", rows), run(tmp_path, blueprint, "float32", rows), rtol=1e-3, atol=1e-4
    )


def test_some_layers(make_backbone, tmp_path):
    network = network_of(make_backbone("llama"), layers=[1])
    rows = ids(2, 9)
    found = run(tmp_path, read_blueprint(network, POSITIONS), "float32", rows)
    np.testing.assert_allclose(found, expected(network, rows), rtol=1e-4, atol=1e-5)


def test_other_readouts_have_no_graph(make_backbone):
    network = network_of(make_backbone("llama"))
    network.readout = dataclasses.replace(network.readout, name="tokens", of_text=True)
    with pytest.raises(EncoderError, match="readout 'tokens' has no graph"):
        read_blueprint(network, POSITIONS)
