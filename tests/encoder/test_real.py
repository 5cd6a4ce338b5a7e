"""The default backbone itself: downloaded once, then offline and fast."""

from __future__ import annotations

import subprocess
import sys
import time

import numpy as np
import pytest
import torch

from llm2comp_apps.encoder.backbones import default_dtype, load_backbone
from llm2comp_apps.encoder.base import BatchedEncoder
from llm2comp_apps.encoder.checkpoint import EncoderSettings
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


def untrained(backbone) -> BatchedEncoder:
    network = CompressionNetwork.fresh(backbone.lm, 8)
    return LLM2Comp(network, backbone.tokenizer, EncoderSettings(backbone.name, backbone.sha256, 8))


def test_it_is_a_language_model_and_takes_bidirectional_attention(backbone):
    ids = backbone.tokenizer("The capital of France is", return_tensors="pt")
    ids.pop("token_type_ids", None)
    answer = backbone.lm.generate(**ids, max_new_tokens=2, do_sample=False)
    assert "Paris" in backbone.tokenizer.decode(answer[0])
    probe(CompressionNetwork.fresh(backbone.lm, 8), "smollm2-135m")


def test_vectors_do_not_depend_on_batch_neighbours(backbone):
    exact = untrained(backbone)
    together = exact.encode(TEXTS)
    for index, text in enumerate(TEXTS):
        np.testing.assert_allclose(together[index], exact.encode([text])[0], atol=1e-5)
    if default_dtype("cpu") is torch.bfloat16:
        fast = untrained(load_backbone("smollm2-135m", device="cpu", dtype=torch.bfloat16))
        rough = fast.encode(TEXTS)
        for index, text in enumerate(TEXTS):
            assert rough[index] @ fast.encode([text])[0] > 0.9999


def test_the_second_load_is_fast_and_offline(backbone):
    program = (
        "import socket, sys, time\n"
        "import torch, transformers\n"
        "from llm2comp_apps.encoder.backbones import load_backbone\n"
        "def refuse(*_): raise OSError('offline')\n"
        "socket.socket.connect = refuse\n"
        "start = time.perf_counter(); load_backbone('smollm2-135m', device='cpu')\n"
        "print(time.perf_counter() - start)\n"
    )
    best = min(_seconds(program) for _ in range(3))
    assert best < 2


def _seconds(program: str) -> float:
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return float(done.stdout)


def test_encoding_is_faster_than_a_token_a_millisecond_each(backbone):
    """A loose floor that only a broken batching or an emulated dtype falls through."""
    encoder = untrained(load_backbone("smollm2-135m", device="cpu", dtype=default_dtype("cpu")))
    texts = [TEXTS[2]] * 64
    tokens = 64 * (len(backbone.tokenizer(TEXTS[2])["input_ids"]) + 8)
    start = time.perf_counter()
    encoder.encode(texts)
    assert tokens / (time.perf_counter() - start) > 60
