"""A tiny random backbone, its texts and pairs, and runs over them."""

from __future__ import annotations

import json
import random
from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch
from llm2comp_train.settings import Settings
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from llm2comp_apps import LLM2Comp
from llm2comp_apps.encoder.backbones import load_backbone
from llm2comp_apps.encoder.checkpoint import EncoderSettings
from llm2comp_apps.encoder.network import CompressionNetwork

_TEXT = "the a cell energy market river king queen war peace atom light sound of and in . ? tree stone"
WORDS = _TEXT.split(" ")


def tiny_lm(layers: int = 2) -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=200, hidden_size=32, intermediate_size=48, num_hidden_layers=layers, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=256, pad_token_id=0, bos_token_id=None, eos_token_id=1,
        tie_word_embeddings=True,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        for parameter in model.parameters():  # the default initialisation is too flat to tell texts apart
            if parameter.ndim == 2:
                parameter.normal_(std=0.2)
    return model.eval()


def _save(lm: LlamaForCausalLM, directory: Path) -> Path:
    lm.save_pretrained(directory)
    vocabulary = {"<pad>": 0, "<eos>": 1, "<unk>": 2} | {word: 3 + index for index, word in enumerate(WORDS)}
    vocabulary |= {"\n": len(vocabulary)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "removed")
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>")
    fast.save_pretrained(directory)
    return directory


@pytest.fixture
def with_other_values():
    """``with_other_values(settings, stage)``: other values of all that the stage is said not to read."""
    others = {
        "context": "3,5", "continuation": 2, "crop": False, "mask_share": 0.5, "min_chars": 30, "symmetric": "*",
        "negatives": 2, "file_exponent": 1.0, "file_cap": 2, "pieces": "both", "joined": 90, "batch_tokens": 60,
        "topics": 3, "temperature": 0.5, "teacher": "nosuch", "cosine_weight": 9.0, "contrast_weight": 3.0,
        "maxsim_weight": 2.0, "fit_texts": 7, "teacher_weight": 0.9, "teacher_level": 2.0, "dead_after": 1,
        "dead_gain": 99.0,
    }  # fmt: skip

    def change(settings: Settings, stage: str) -> Settings:
        readers = {each.name: each.metadata["stages"] for each in fields(Settings) if each.metadata["stages"]}
        assert readers.keys() == others.keys()
        return replace(settings, **{name: value for name, value in others.items() if stage not in readers[name]})

    return change


@pytest.fixture(scope="session")
def backbone_dir(tmp_path_factory) -> Path:
    return _save(tiny_lm(), tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def deep_encoder_dir(tmp_path_factory) -> Path:
    """An untrained encoder of three layers."""
    directory = _save(tiny_lm(layers=3), tmp_path_factory.mktemp("deep"))
    loaded = load_backbone(str(directory), device="cpu")
    settings = EncoderSettings(backbone=str(directory), backbone_sha256=loaded.sha256, k=3)
    encoder = tmp_path_factory.mktemp("deep-encoder")
    LLM2Comp(CompressionNetwork.fresh(loaded.lm, 3), loaded.tokenizer, settings).save_pretrained(encoder)
    return encoder


@pytest.fixture
def backbone(backbone_dir):
    return load_backbone(str(backbone_dir), device="cpu", attn_implementation="eager")


@pytest.fixture
def settings(backbone_dir) -> Settings:
    return replace(
        Settings(), backbone=str(backbone_dir), k=3, lora_r=4, lora_alpha=8, lora_dropout=0.0, dtype="float32",
        max_steps=6, batch_size=6, eval_every=100, save_every=2, warmup_steps=2, context="4,6", continuation=4,
        max_length=40, validation_texts=6, lr=5e-3, dead_gain=-9.0,
    )  # fmt: skip


def _text(draw: random.Random, words: int) -> str:
    return " ".join(draw.choice(WORDS) for _ in range(words))


@pytest.fixture(scope="session")
def data(tmp_path_factory) -> dict[str, Path]:
    """``text`` and ``pairs`` files; some texts are very short, some pairs share a text."""
    folder, draw = tmp_path_factory.mktemp("data"), random.Random(0)
    texts = [{"text": _text(draw, draw.choice([1, 2, 5, 12, 20, 30]))} for _ in range(80)]
    pairs = []
    for index in range(60):
        query = _text(draw, 5)
        row = {"query": query, "positive": " ".join(reversed(query.split()))}
        pairs.append(row | ({"negative": [_text(draw, 5)]} if index % 2 else {}))
    pairs += pairs[:5]
    found = {}
    for name, rows in (("text", texts), ("pairs", pairs)):
        found[name] = folder / f"{name}.jsonl"
        found[name].write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return found
