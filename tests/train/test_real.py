"""The default backbone itself, on real text: a compression run that learns, and whose memory says something."""

from __future__ import annotations

import json

import numpy as np
import pytest
from llm2comp_train.metrics import read_metrics
from llm2comp_train.recipes import resolve
from llm2comp_train.run import RunOptions, run_stage

from llm2comp_apps.corpus.pydocs import entries

STEPS = 24


@pytest.mark.real
@pytest.mark.slow
def test_a_few_steps_of_kl_bring_memory_to_life(tmp_path):
    """Loss falls, and the gain, by which another text's memory is worse than the text's own, rises."""
    texts = [entry.text for entry in entries() if len(entry.text) > 150][:600]
    assert len(texts) == 600
    data = tmp_path / "docs.jsonl"
    data.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), "utf-8")
    small = {
        "max_steps": STEPS, "warmup_steps": 5, "batch_size": 8, "context": "16", "continuation": 8,
        "validation_texts": 24, "eval_every": 8, "save_every": STEPS, "dead_gain": -9.0, "max_length": 48,
    }  # fmt: skip
    options = RunOptions(data=[str(data)], out=tmp_path / "run", device="cpu")
    run_stage("kl", resolve("smollm2-135m", "kl", small), options)
    rows = read_metrics(tmp_path / "run")
    losses = [row["loss"] for row in rows if "loss" in row]
    first, *_, last = [row for row in rows if "gain" in row]
    assert len(losses) == STEPS
    assert np.mean(losses[-8:]) < np.mean(losses[:8])
    assert last["validation_loss"] < first["validation_loss"]
    assert last["gain"] > max(0.03, first["gain"])
