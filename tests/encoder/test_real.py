"""The default backbone itself: downloaded once, then offline and fast."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch

from llm2comp_apps.encoder.backbones import default_dtype, load_backbone
from llm2comp_apps.encoder.model import LLM2Comp
from llm2comp_apps.encoder.network import CompressionNetwork
from llm2comp_apps.encoder.probe import probe

pytestmark = pytest.mark.real

TEXTS = [
    "A man is playing a guitar on stage.",
    "Somebody plays an instrument.",
    "The central bank raised interest rates by a quarter of a point, citing persistent inflation.",
    "",
    "Photosynthesis converts light energy into chemical energy. " * 6,
    "def add(a, b): return a + b",
]


@pytest.fixture(scope="module")
def backbone():
    return load_backbone("smollm2-135m", device="cpu")


@pytest.fixture(scope="module")
def default():
    return LLM2Comp.from_pretrained("default", device="cpu")


def test_it_is_a_language_model_and_takes_bidirectional_attention(backbone):
    ids = backbone.tokenizer("The capital of France is", return_tensors="pt")
    ids.pop("token_type_ids", None)
    answer = backbone.lm.generate(**ids, max_new_tokens=2, do_sample=False)
    assert "Paris" in backbone.tokenizer.decode(answer[0])
    probe(CompressionNetwork.fresh(backbone.lm, 8), "smollm2-135m")


def test_float32_vectors_do_not_depend_on_batch_neighbours():
    encoder = LLM2Comp.from_pretrained("default", device="cpu", dtype=torch.float32)
    together = encoder.encode(TEXTS)
    for index, text in enumerate(TEXTS):
        np.testing.assert_allclose(together[index], encoder.encode([text])[0], atol=1e-5)


@pytest.mark.skipif(default_dtype("cpu") is torch.float32, reason="this CPU has no bfloat16 of its own")
def test_bfloat16_vectors_do_not_depend_on_batch_neighbours(default):
    together = default.encode(TEXTS)
    for index, text in enumerate(TEXTS):
        assert together[index] @ default.encode([text])[0] > 0.9999


def test_the_default_encoder_knows_what_texts_are_about(default):
    pairs = [
        ("How do I reset the PIN of my card?", "I forgot my card's PIN and need a new one."),
        ("The cat sleeps on the sofa.", "A kitten is napping on the couch."),
        ("Interest rates were raised to fight inflation.", "The central bank made borrowing dearer as prices rose."),
        ("Plants turn light into chemical energy.", "Photosynthesis stores the energy of sunlight in sugar."),
    ]
    left, right = (default.encode([pair[side] for pair in pairs]) for side in (0, 1))
    assert (left @ right.T).argmax(axis=1).tolist() == [0, 1, 2, 3]


def test_the_second_load_is_fast_and_offline(backbone):
    """CPU seconds: other processes do not count, and where memory is slow, plain reading is as slow."""
    program = (
        "import socket, sys, time\n"
        "from safetensors.torch import load_file\n"
        "from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM\n"  # imports are no part of it
        "from llm2comp_apps.encoder.backbones import load_backbone\n"
        "from llm2comp_apps.encoder.wheel_backbone import WHEEL_BACKBONES\n"
        "def refuse(*_): raise OSError('offline')\n"
        "socket.socket.connect = refuse\n"
        "start = time.process_time(); load_backbone('smollm2-135m', device='cpu')\n"
        "ours = time.process_time() - start\n"
        "file = WHEEL_BACKBONES['smollm2-135m'].cached() / 'model.safetensors'\n"
        "start = time.process_time(); copies = [tensor.clone() for tensor in load_file(file).values()]\n"
        "plain = time.process_time() - start\n"
        "print(ours - max(2, 8 * plain))\n"
    )
    assert min(_number(program) for _ in range(3)) < 0


def _number(program: str) -> float:
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return float(done.stdout)


def test_the_light_runtime_finds_what_torch_finds(monkeypatch, tmp_path):
    """Vectors of the two are interchangeable: of ten nearest texts nine or ten are the same, either way around."""
    from llm2comp_apps.encoder.backends import load_light
    from llm2comp_apps.encoder.backends.check_texts import check_texts

    light = load_light("default")
    heavy = LLM2Comp.from_pretrained("default", device="cpu")
    assert (light.fingerprint, light.precision) == (heavy.fingerprint, "int8")
    texts = [text[:300] for text in check_texts(120) if text]
    fast, slow = light.encode(texts), heavy.encode(texts)
    assert (fast * slow).sum(1).min() > 0.97
    assert np.mean((fast * slow).sum(1)) > 0.995
    expected = np.argsort(-slow @ slow.T, axis=1)[:, :10]
    for scores in (fast @ fast.T, fast @ slow.T):
        found = np.argsort(-scores, axis=1)[:, :10]
        overlap = [len(set(one) & set(other)) for one, other in zip(found, expected, strict=True)]
        assert np.mean(overlap) > 9
