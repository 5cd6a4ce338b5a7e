"""Rerankers in ONNX Runtime: the scores of torch, an export made once, and no torch when it is there."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from llm2comp_apps.encoder import checkpoint
from llm2comp_apps.encoder.backends import export, load_light
from llm2comp_apps.encoder.backends.onnx_pairs import OnnxPairScorer, load_pair_scorer
from llm2comp_apps.encoder.pair_scorer import PairScorer
from llm2comp_apps.encoder.settings import RERANK
from llm2comp_apps.errors import EncoderError
from llm2comp_apps.retrieval.rerank import OwnReranker, Passage

DOCUMENTS = [
    "Cells divide by mitosis, and each daughter cell gets a full set of chromosomes.",
    "",
    "The bridge was closed for repairs.",
    "x " * 300,
    "Wolves were brought back to the park.",
]


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path) -> Path:
    monkeypatch.delenv("LLM2COMP_BACKEND", raising=False)
    monkeypatch.setenv("LLM2COMP_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "graphs"


@pytest.fixture
def reranker(make_checkpoint):
    """``reranker("llama")`` -> the folder of a random one."""

    def make(family: str = "llama", seed: int = 0, **settings) -> Path:
        folder = make_checkpoint(family, max_length=96, prompts={"query": "asked: "}, **settings)
        described = replace(checkpoint.read_settings(folder), task=RERANK)
        adapter = json.loads((folder / checkpoint.ADAPTER_CONFIG).read_text())
        from safetensors.torch import load_file

        weights = load_file(folder / checkpoint.ADAPTER_WEIGHTS)
        head = torch.randn(32, generator=torch.Generator().manual_seed(seed))
        memory = checkpoint.read_memory(folder, described.k)
        checkpoint.write(folder, described, memory, (adapter, weights), head=head)
        return folder

    return make


@pytest.mark.parametrize("family", ["llama", "qwen3", "gemma3_text"])
def test_scores_are_those_of_torch(reranker, family):
    folder = reranker(family)
    torch_scorer = PairScorer.from_pretrained(str(folder), device="cpu", dtype=torch.float32)
    light = load_pair_scorer(str(folder), device="cpu", backend="onnx")
    assert isinstance(light, OnnxPairScorer)
    assert light.rows("how do cells divide", DOCUMENTS) == torch_scorer.rows("how do cells divide", DOCUMENTS)
    expected = torch_scorer.score("how do cells divide", DOCUMENTS)
    assert np.corrcoef(light.score("how do cells divide", DOCUMENTS), expected)[0, 1] > 0.99
    assert light.score("a", []).shape == (0,)


def test_in_float32_they_are_equal(reranker):
    folder = reranker()
    expected = PairScorer.from_pretrained(str(folder), device="cpu", dtype=torch.float32).score("cells", DOCUMENTS)
    network = load_light(str(folder), precision="float32", task=RERANK)
    light = OnnxPairScorer(network, checkpoint.read_head(folder).numpy())
    np.testing.assert_allclose(light.score("cells", DOCUMENTS), expected, atol=1e-3)


def test_an_export_is_made_once_and_belongs_to_its_head(reranker, cache):
    folder = str(reranker())
    load_pair_scorer(folder, device="cpu")
    made = sorted(path.name for path in cache.iterdir() if path.is_dir())
    assert len(made) == 1
    stamp = (cache / made[0] / "export.json").stat().st_mtime_ns
    load_pair_scorer(folder, device="cpu")
    assert (cache / made[0] / "export.json").stat().st_mtime_ns == stamp
    load_pair_scorer(str(reranker(seed=1)), device="cpu")
    assert len([path for path in cache.iterdir() if path.is_dir()]) == 2


def test_scores_that_rounding_moves_too_far_are_refused(reranker, monkeypatch, cache):
    folder = str(reranker())
    monkeypatch.setitem(export.SCORE_LIMITS, "int8", 1.01)
    assert load_pair_scorer(folder, device="cpu").precision == "float32"
    monkeypatch.setitem(export.SCORE_LIMITS, "float32", 1.01)
    other = str(reranker(seed=2))
    with pytest.raises(EncoderError, match="moves the scores of tiny too far: over 64 pairs of texts"):
        load_pair_scorer(other, device="cpu", backend="onnx")
    assert isinstance(load_pair_scorer(other, device="cpu"), PairScorer), "torch reads what has no graph"


def test_without_torch_in_a_process_of_its_own(reranker):
    folder = str(reranker())
    expected = load_pair_scorer(folder, device="cpu").score("cells", DOCUMENTS)
    program = (
        "import sys, json\n"
        "from llm2comp_apps.retrieval.rerank import OwnReranker, Passage\n"
        f"scores = OwnReranker({folder!r}, 'cpu').score('cells', [Passage('a', '', text) for text in {DOCUMENTS!r}])\n"
        "print(json.dumps([scores.tolist(), 'torch' in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    scores, torch_too = json.loads(done.stdout)
    np.testing.assert_allclose(scores, expected, atol=1e-4)
    assert not torch_too


def test_an_encoder_is_no_reranker(make_checkpoint):
    with pytest.raises(EncoderError, match="an encoder, not a reranker"):
        load_pair_scorer(str(make_checkpoint("llama")), device="cpu")


def test_a_search_takes_it(reranker):
    scores = OwnReranker(str(reranker()), "cpu").score("cells", [Passage("a", "On", "cells"), Passage("b", "", "x")])
    assert scores.shape == (2,)
    assert scores[0] != scores[1]
