"""Backbones of people's own: which families can be trained, said before anything else about them."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from llm2comp_train.engine.run import RunOptions, run_stage
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from llm2comp_apps.errors import EncoderError, TrainingError

SIZES = {
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4},
    "bloom": {"hidden_size": 32, "n_layer": 2, "n_head": 4},
    "falcon": {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4},
}
EXPERTS = {"hidden_size": 32, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4}
EXPERTS |= {"num_key_value_heads": 4, "num_experts": 4, "num_experts_per_tok": 2, "pad_token_id": 0}


@pytest.fixture
def other_backbone(backbone_dir, tmp_path):
    """``other_backbone("gpt2")`` -> the folder of a tiny one."""

    def make(family: str):
        directory = tmp_path / family
        sizes = SIZES.get(family, EXPERTS)
        config = AutoConfig.for_model(family, vocab_size=200, bos_token_id=1, eos_token_id=1, **sizes)
        AutoModelForCausalLM.from_config(config).save_pretrained(directory)
        AutoTokenizer.from_pretrained(backbone_dir).save_pretrained(directory)
        return directory

    return make


@pytest.mark.parametrize("weights", ["adapter", "all"])
@pytest.mark.parametrize("family", SIZES)
def test_a_family_that_keeps_its_layers_in_another_way_is_refused_by_name(
    other_backbone, settings, data, tmp_path, family, weights
):
    directory = other_backbone(family)
    architecture = json.loads((directory / "config.json").read_text())["architectures"][0]
    given = replace(settings, backbone=str(directory), train_weights=weights)
    options = RunOptions(data=[str(data["text"])], out=tmp_path / "run", device="cpu")
    with pytest.raises(EncoderError, match=rf"{architecture} keeps its layers in a way that is not known here. Use a"):
        run_stage("kl", given, options)
    assert not (tmp_path / "run").exists()


def test_an_adapter_that_layers_cannot_take_is_refused_in_one_line(other_backbone, settings, data, tmp_path):
    """The experts of a mixture are one tensor, on which PEFT has no dropout."""
    given = replace(settings, backbone=str(other_backbone("olmoe")), lora_dropout=0.1)
    options = RunOptions(data=[str(data["text"])], out=tmp_path / "run", device="cpu")
    with pytest.raises(TrainingError, match=r"these layers take no such adapter \(.*lora_dropout.*\); name others"):
        run_stage("kl", given, options)
    assert not (tmp_path / "run").exists()
