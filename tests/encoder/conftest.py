"""Tiny random backbones of several architectures, made on the spot: no download, a fraction of a second each."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

from llm2comp_apps import LLM2Comp
from llm2comp_apps.encoder import checkpoint
from llm2comp_apps.encoder.backbones import load_backbone
from llm2comp_apps.encoder.backends.tokens import TokenTable, packed_tokens
from llm2comp_apps.encoder.network import CompressionNetwork

ARCHITECTURES = ("llama", "qwen3", "mistral", "gemma3_text", "phi3")
VOCABULARY = 300


def tiny_lm(architecture: str, layers: int = 2):
    torch.manual_seed(0)
    config = AutoConfig.for_model(
        architecture,
        vocab_size=VOCABULARY,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        max_position_embeddings=512,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        sliding_window=128 if architecture.startswith(("gemma2", "gemma3")) else None,
    )
    attention = "eager" if architecture == "gemma2" else "sdpa"  # Gemma 2 has no other
    model = AutoModelForCausalLM.from_config(config, attn_implementation=attention)
    with torch.no_grad():
        for parameter in model.parameters():  # the default initialisation is too flat to tell texts apart
            if parameter.ndim == 2:
                parameter.normal_(std=0.2)
    return model.eval()


def round_tokens(lm) -> None:
    """Give an LM token embeddings that 4 bits can hold; a tiny random network would make much of their rounding."""
    weight = lm.get_input_embeddings().weight
    table = TokenTable(packed_tokens(weight.detach().numpy(), exactly=False, bits=4))
    with torch.no_grad():
        weight.copy_(torch.from_numpy(table.look_up(np.arange(len(table)))))


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """One token per byte, without a training corpus."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {"<pad>": 0, "<s>": 1, "</s>": 2} | {char: 3 + index for index, char in enumerate(alphabet)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<s>", eos_token="</s>")


@pytest.fixture(scope="session")
def tiny_lm_of():
    """``tiny_lm_of("llama", 6)`` -> a random LM with so many layers."""
    return tiny_lm


@pytest.fixture(scope="session")
def in_4_bits():
    """``in_4_bits(encoder)`` rounds its token embeddings, see :func:`round_tokens`."""
    return lambda encoder: round_tokens(encoder.network.lm)


@pytest.fixture
def tokenizer() -> PreTrainedTokenizerFast:
    return byte_tokenizer()


@pytest.fixture(scope="session")
def make_backbone(tmp_path_factory):
    """``make_backbone("llama")`` -> the directory of a tiny saved backbone."""
    made: dict[str, Path] = {}

    def make(architecture: str = "llama") -> Path:
        if architecture not in made:
            directory = tmp_path_factory.mktemp(f"tiny-{architecture}")
            tiny_lm(architecture).save_pretrained(directory)
            byte_tokenizer().save_pretrained(directory)
            made[architecture] = directory
        return made[architecture]

    return make


@pytest.fixture(params=ARCHITECTURES)
def backbone_dir(request, make_backbone) -> Path:
    return make_backbone(request.param)


@pytest.fixture
def make_checkpoint(make_backbone, tmp_path):
    """A checkpoint with a random, non-zero LoRA adapter: ``make_checkpoint("llama", k=4)`` -> directory."""
    from peft import LoraConfig, get_peft_model, get_peft_model_state_dict

    from llm2comp_apps.encoder import checkpoint
    from llm2comp_apps.encoder.backbones import load_backbone
    from llm2comp_apps.encoder.network import CompressionNetwork

    def make(architecture: str = "llama", k: int = 4, **settings) -> Path:
        directory = make_backbone(architecture)
        backbone = load_backbone(str(directory), device="cpu")
        network = CompressionNetwork.fresh(backbone.lm, k, seed=3)
        config = LoraConfig(r=4, lora_alpha=8, target_modules=["o_proj", "down_proj"], task_type="CAUSAL_LM")
        adapted = get_peft_model(backbone.lm, config)
        torch.manual_seed(1)
        for name, parameter in adapted.named_parameters():
            if "lora_" in name:
                torch.nn.init.normal_(parameter, std=0.1)
        saved = config.to_dict() | {"target_modules": sorted(config.target_modules), "peft_type": "LORA"}
        saved = {
            key: value
            for key, value in saved.items()
            if value is None or isinstance(value, str | int | float | bool | list | dict)
        }
        target = tmp_path / f"checkpoint-{architecture}-{k}"
        described = checkpoint.EncoderSettings(
            backbone=str(directory), backbone_sha256=backbone.sha256, k=k, name="tiny", **settings
        )
        checkpoint.write(target, described, network.memory_state(), (saved, get_peft_model_state_dict(adapted)))
        return target

    return make


@pytest.fixture
def texts() -> list[str]:
    return [
        "A short text.",
        "",
        "Context compression squeezes a text into a few memory vectors that replace it.",
        "x",
        "Ein Satz mit Umlauten: äöü, und ein Zeichen aus der Ferne: 語.",
        "A much longer text, " * 12,
        "A short text!",
    ]


@pytest.fixture
def make_encoder(tmp_path, tokenizer, tiny_lm_of):
    """``make_encoder("llama")`` -> an untrained encoder of four layers."""

    def make(architecture: str = "llama", readout: str = "memory") -> LLM2Comp:
        directory = tmp_path / f"backbone-{architecture}"
        tiny_lm_of(architecture, 4).save_pretrained(directory)
        tokenizer.save_pretrained(directory)
        backbone = load_backbone(str(directory), device="cpu")
        settings = checkpoint.EncoderSettings(
            backbone=str(directory), backbone_sha256=backbone.sha256, k=4, name="four", readout=readout
        )
        target = tmp_path / f"encoder-{architecture}-{readout}"
        checkpoint.write(target, settings, CompressionNetwork.fresh(backbone.lm, 4, seed=3).memory_state(), None)
        return LLM2Comp.from_pretrained(str(target), device="cpu", dtype=torch.float32)

    return make


@pytest.fixture
def sentences():
    draw = random.Random(5)
    letters = "abcdefghij"
    return ["".join(draw.choices(letters, k=draw.randint(5, 40))) for _ in range(60)]
