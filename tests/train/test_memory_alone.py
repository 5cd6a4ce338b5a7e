"""Training the memory tokens alone."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from llm2comp_train.engine.metrics import read_metrics
from llm2comp_train.engine.run import RunOptions, run_stage
from safetensors.torch import load_file

from llm2comp_apps.errors import UsageError


@pytest.fixture
def small(settings, deep_encoder_dir):
    return replace(
        settings, teacher=str(deep_encoder_dir), train_weights="memory", max_steps=60, eval_every=20, batch_size=8,
        fit_texts=40, lr=2e-2, clip_norm=1.0,
    )  # fmt: skip


@pytest.fixture
def options(data, tmp_path):
    return RunOptions(data=[str(data["text"])], out=tmp_path / "run", device="cpu")


@pytest.mark.parametrize("before", ["all", "adapter"])
def test_the_memory_tokens_learn_and_the_layers_stay(before, small, options, tmp_path):
    first = run_stage(
        "align", replace(small, train_weights=before, lr=1e-3, max_steps=2), replace(options, out=tmp_path / "first")
    )
    made = run_stage("align", small, replace(options, init=first))
    nearness = [row["teacher_cosine"] for row in read_metrics(options.out) if "teacher_cosine" in row]
    assert nearness[-1] > nearness[0]
    name = "layers.safetensors" if before == "all" else "adapter_model.safetensors"
    then, now = load_file(first / name), load_file(made / name)
    assert then.keys() == now.keys()
    assert all(torch.equal(then[each], now[each]) for each in then)
    memory = [load_file(folder / "memory_tokens.safetensors")["memory_tokens"] for folder in (first, made)]
    assert not torch.equal(*memory)


def test_token_embeddings_are_rounded_only_beside_layers_of_the_encoders_own(small, options, tmp_path):
    for before in ("all", "adapter"):
        first = run_stage(
            "align", replace(small, train_weights=before, max_steps=1), replace(options, out=tmp_path / before)
        )
        again = replace(options, init=first, out=tmp_path / f"{before}-4")
        if before == "all":
            assert run_stage("align", replace(small, max_steps=1, token_bits=4), again)
        else:
            with pytest.raises(UsageError, match=r"token_bits.*must be 8 without layers of the encoder's own, not 4"):
                run_stage("align", replace(small, max_steps=1, token_bits=4), again)


def test_memory_tokens_that_may_not_learn_or_are_not_there_are_refused(small, options):
    with pytest.raises(UsageError, match=r"train_memory.*must be on with `train_weights=memory`, not False"):
        replace(small, train_memory=False)
    with pytest.raises(UsageError, match=r"train_weights.*cannot be memory: stage mntp reads the text itself"):
        run_stage("mntp", replace(small, teacher=""), options)
