"""The default backbone itself, on real text: from a compression run to an encoder that loads."""

from __future__ import annotations

import json

import numpy as np
import pytest
from llm2comp_train.engine.metrics import read_metrics
from llm2comp_train.engine.run import RunOptions, run_stage
from llm2comp_train.recipes import resolve

from llm2comp_apps import LLM2Comp
from llm2comp_apps.corpus.pydocs import entries

STEPS = 3


@pytest.mark.real
@pytest.mark.slow
def test_kl_on_the_default_backbone_leaves_an_encoder_that_loads(tmp_path):
    """Whether memory comes to life takes more steps than a test has time for; the run's own gain tells that."""
    texts = [entry.text for entry in entries() if len(entry.text) > 150][:64]
    data = tmp_path / "docs.jsonl"
    data.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), "utf-8")
    small = {
        "max_steps": STEPS, "warmup_steps": 1, "batch_size": 8, "context": "16", "continuation": 8,
        "validation_texts": 8, "eval_every": STEPS, "save_every": STEPS, "dead_gain": -9.0, "max_length": 48,
    }  # fmt: skip
    options = RunOptions(data=[str(data)], out=tmp_path / "run", device="cpu")
    run_stage("kl", resolve("smollm2-135m", "kl", small), options)
    rows = read_metrics(tmp_path / "run")
    losses = [row["loss"] for row in rows if "loss" in row]
    assert len(losses) == STEPS
    assert all(0 < loss < 10 for loss in losses)  # nats per token; a vocabulary of 49152 is log 49152 = 10.8 at random
    (evaluated,) = (row for row in rows if "gain" in row)
    assert np.isfinite(evaluated["gain"])
    assert 0 < evaluated["validation_loss"] < 10
    vectors = LLM2Comp.from_pretrained(tmp_path / "run" / "encoder", device="cpu").encode(texts[:3])
    assert vectors.shape == (3, 576)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-4)
    assert abs(vectors[0] @ vectors[1]) < 0.99999
